"""One model file through Torch-Pruning: `python benchmarks/zoo_torch_pruning.py yolov8n [--replace-c2f]`.

A process of its own for each, since some never end; `zoo.py` starts it. Of this repository it takes the list of models
alone. It prints "ready" when it starts to prune, and then one line of JSON.
"""

import argparse
import copy
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import torch
import torch_pruning as tp
from torch import nn
from zoo_models import named, randomise

from ultralytics.nn.modules import C2f

REPEATS = 3
LONG = 15  # seconds of a run after which there is no other
RATIO = 0.5
SIDE = 64  # pixels; Torch-Pruning runs the network once to see its graph, as our tracer does


class SplitC2f(nn.Module):
    """A C2f that makes its two halves with two convolutions instead of cutting one convolution's output in two."""

    def __init__(self, block: C2f) -> None:
        super().__init__()
        for name in ("f", "i", "type"):
            setattr(self, name, getattr(block, name, None))
        self.cv0, self.cv1 = half(block.cv1, 0), half(block.cv1, 1)
        self.cv2, self.m = block.cv2, block.m

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Runs the inner blocks one after the other and joins what all of them return."""
        parts = [self.cv0(x), self.cv1(x)]
        for block in self.m:
            parts.append(block(parts[-1]))
        return self.cv2(torch.cat(parts, 1))


def half(convolution: nn.Module, which: int) -> nn.Module:
    """The first or second half of the channels of a convolution with its batch norm, with the same weights."""
    made: Any = copy.deepcopy(convolution)
    for layer, names in ((made.conv, ("weight",)), (made.bn, ("weight", "bias", "running_mean", "running_var"))):
        for name in names:
            tensor = getattr(layer, name)
            picked = tensor.detach().chunk(2)[which].clone()
            setattr(layer, name, nn.Parameter(picked) if isinstance(tensor, nn.Parameter) else picked)
    made.conv.out_channels //= 2
    made.bn.num_features //= 2
    return made


def replace_c2f(module: nn.Module) -> int:
    """Replaces each C2f, and what is derived from it and runs like it; returns how many."""
    count = 0
    for name, child in module.named_children():
        if isinstance(child, C2f) and type(child).forward is C2f.forward:
            setattr(module, name, SplitC2f(child))
            count += 1
        else:
            count += replace_c2f(child)
    return count


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors of nested outputs, but for the features that detection heads hand through."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = [item for key, item in value.items() if key != "feats"]
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, (list, tuple)) else []


def learned(value: Any) -> list[torch.Tensor]:
    """The outputs that have a graph: without indices, and without the None that RT-DETR returns."""
    return [tensor for tensor in tensors(value) if tensor.grad_fn is not None]


def prune(model: Any, image: torch.Tensor) -> None:
    """Cuts as Torch-Pruning's YOLOv8 example does, the head left alone, by our criterion and over the whole network."""
    pruner = tp.pruner.BNScalePruner(
        model,
        image,
        importance=tp.importance.BNScaleImportance(),
        global_pruning=True,
        pruning_ratio=RATIO,
        ignored_layers=[model.model[-1]],
        output_transform=learned,
    )
    pruner.step()


def outputs(model: nn.Module, image: torch.Tensor) -> list[tuple[int, ...]]:
    """Runs the network once and returns the shapes of what comes out."""
    with torch.no_grad():
        return [tuple(tensor.shape) for tensor in tensors(model.eval()(image))]


def measure(name: str, replace: bool) -> dict[str, Any]:
    """Returns what became of one model: "cut", with parameters, seconds and whether it still runs, or the error."""
    model = named(name).build()
    randomise(model)
    if replace and not replace_c2f(model):
        return {"result": "no C2f"}
    image = torch.zeros(1, model.yaml.get("channels", 3), SIDE, SIDE)
    image = image.repeat(1, 1, *[max(1, int(max(model.stride)) * 2 // SIDE)] * 2)
    before = outputs(model, image)
    seconds = []
    print("ready", flush=True)
    try:
        for _ in range(REPEATS):
            pruned = copy.deepcopy(model)
            for parameter in pruned.parameters():
                parameter.requires_grad_(True)
            start = time.perf_counter()
            prune(pruned, image)
            seconds.append(time.perf_counter() - start)
            if seconds[-1] > LONG:
                break
    except Exception as error:
        return {"result": type(error).__name__, "seconds": time.perf_counter() - start}
    try:
        runs = outputs(pruned, image) == before
    except Exception:
        runs = False
    params = sum(parameter.numel() for parameter in pruned.parameters())
    return {"result": "cut", "params": params, "runs": runs, "seconds": min(seconds)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of a model, e.g. yolov8n-seg")
    parser.add_argument("--replace-c2f", action="store_true", help="replace C2f as its YOLOv8 example does")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    print(json.dumps(measure(options.name, options.replace_c2f)))
