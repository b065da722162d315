"""A small network for each task that finds something in any image: random weights, and a head that is sure."""

from pathlib import Path

import torch
from torch import nn

from helpers.networks import SMALL, set_weights
from ultralytics.nn import tasks
from ultralytics.pruning import save
from ultralytics.pruning.passes.labelling import GREY

HEADS = {
    "detect": (tasks.DetectionModel, "Detect", ["nc"]),
    "segment": (tasks.SegmentationModel, "Segment", ["nc", 8, 16]),
    "pose": (tasks.PoseModel, "Pose", ["nc", [5, 3]]),
    "obb": (tasks.OBBModel, "OBB", ["nc", 1]),
}
BINS = 16  # of a side of a box, in strides


def write_seeing(task: str, file: Path) -> Path:
    """Writes a checkpoint of three classes, whose boxes are some 16 pixels wide, those around masks 48."""
    torch.manual_seed(1)
    kind, head, arguments = HEADS[task]
    content = {**SMALL, "nc": 3, "head": [[[4], 1, head, arguments]]}
    if task == "pose":
        content["kpt_shape"] = [5, 3]
    model = kind(content, verbose=False)
    model.task, model.names = task, {0: "one", 1: "two", 2: "three"}
    set_weights(model)
    last = model.model[-1]
    noise = nn.functional.interpolate(torch.rand(1, 3, 12, 12), size=(96, 96), mode="bicubic").clip(0, 1)
    seen: list[torch.Tensor] = []
    handle = last.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[0]))
    model.eval()(torch.cat([noise, torch.full_like(noise, GREY / 255)]))
    handle.remove()
    with torch.no_grad():
        last.dfl.conv.weight.copy_(torch.arange(float(BINS)).view(1, -1, 1, 1))
        for features, boxes, classes in zip(seen, last.cv2, last.cv3, strict=True):
            for branch, spread in ((boxes, 0.5), (classes, 2.0)):
                branch[-1].bias.zero_()
                branch[-1].weight.mul_(spread / branch(features[:1]).std())
            # how far a box reaches to each side, in strides
            boxes[-1].bias.view(4, BINS)[:, 3 if task == "segment" else 1] = 8
            classes[-1].weight[1] = -classes[-1].weight[0]  # never sure of two classes at once
            in_the_frame = classes(features[1:])[0].mean((1, 2))
            classes[-1].bias.copy_(-in_the_frame - 2)  # few boxes, and none in the frame of an image
            classes[-1].bias[2] = -20
    save(model, file, train_args={"imgsz": 64})
    return file
