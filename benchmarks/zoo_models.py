"""Every model file of the installed release, and how to build each one without a download.

Imports nothing but the release, so that it serves a process that must not see this repository's edits as well.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ultralytics import cfg
from ultralytics.nn import tasks
from ultralytics.pruning.release import quiet_release
from ultralytics.utils import YAML

CONFIGS = Path(cfg.__file__).parent / "models"
BY_HEAD = {  # class name of a model file's last module -> task, class of the network
    "Detect": ("detect", tasks.DetectionModel),
    "v10Detect": ("detect", tasks.DetectionModel),
    "RTDETRDecoder": ("detect", tasks.RTDETRDetectionModel),
    "WorldDetect": ("detect", tasks.WorldModel),
    "YOLOEDetect": ("detect", tasks.YOLOEModel),
    "YOLOESegment": ("segment", tasks.YOLOESegModel),
    "YOLOESegment26": ("segment", tasks.YOLOESegModel),
    "Segment": ("segment", tasks.SegmentationModel),
    "Segment26": ("segment", tasks.SegmentationModel),
    "Pose": ("pose", tasks.PoseModel),
    "Pose26": ("pose", tasks.PoseModel),
    "OBB": ("obb", tasks.OBBModel),
    "OBB26": ("obb", tasks.OBBModel),
    "Classify": ("classify", tasks.ClassificationModel),
    "SemanticSegment": ("semantic", tasks.SemanticSegmentationModel),
    "Depth": ("depth", tasks.DepthModel),
}
LARGEST = ("yolov5x-p6", "yolov6x", "yolov8x-p6", "yolo11x", "yolo12x", "yolo26x-p6")  # others have a file of their own
IMPOSSIBLE: dict[str, str] = {}  # name -> why it cannot be built; none in this release


@dataclass(frozen=True)
class ZooModel:
    """One model file at one scale.

    Attributes:
        name: Its name with the scale, as in `YOLO("yolo11n-seg.yaml")`.
        file: The model file, relative to the release's `cfg/models`.
        head: Class name of its last module.
    """

    name: str
    file: str
    head: str

    @property
    def task(self) -> str:
        """What it is for: detect, segment, pose, obb, classify, semantic or depth."""
        return BY_HEAD[self.head][0]

    @property
    def reads_text(self) -> bool:
        """Whether it compares what it sees with embeddings of words."""
        return self.head in ("WorldDetect", "YOLOEDetect", "YOLOESegment", "YOLOESegment26")

    def build(self, classes: int | None = None, width: float | None = None) -> Any:
        """Builds the network with random weights, those of a torchvision backbone and embeddings of words included.

        Args:
            classes: Number of classes; that of the model file by default.
            width: What the widths of the file are multiplied by; what it says itself by default.
        """
        with quiet_release(logging.ERROR):  # it remarks on each file without a scale in its name
            config = tasks.yaml_model_load(f"{self.name}.yaml")
            if width is not None:
                config["width_multiple"] = width
                for scale in config.get("scales", {}).values():
                    scale[1] = width
            for _, _, module, arguments in config["backbone"]:
                if module == "TorchVision":
                    arguments[2] = None  # the weights, which would be downloaded
            model: Any = BY_HEAD[self.head][1](config, nc=classes, verbose=False)
            if self.head.startswith("YOLOE"):  # zeros otherwise, which would say nothing of an image
                count = model.model[-1].nc
                embeddings = torch.randn(1, count, 512, generator=torch.Generator().manual_seed(0))
                model.set_classes([str(i) for i in range(count)], nn.functional.normalize(embeddings, dim=-1))
        return model


def named(name: str) -> ZooModel:
    """Finds a model of the release by its name with the scale, e.g. "yolov8n-seg"."""
    with quiet_release(logging.ERROR):  # it remarks on each file without a scale in its name
        config = tasks.yaml_model_load(f"{name}.yaml")
    file = next(
        f for stem in (name, re.sub(r"(\d+)[nslmx]", r"\1", name, count=1)) for f in CONFIGS.rglob(f"{stem}.yaml")
    )
    return ZooModel(name, str(file.relative_to(CONFIGS)), config["head"][-1][2])


def zoo() -> list[ZooModel]:
    """Lists the release's model files that can be built: at its smallest scale each, then the largest of a family."""
    names = []
    for file in sorted(CONFIGS.rglob("*.yaml")):
        scales = list(YAML.load(file).get("scales", {}))
        smallest = scales[0] if len(scales) > 1 else ""  # a file with one scale has it in its name
        names.append(re.sub(r"^(\D+\d+)", rf"\g<1>{smallest}", file.stem))
    return [named(name) for name in [*names, *LARGEST] if name not in IMPOSSIBLE]


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Gives every batch norm random scales and statistics, as those of a trained network are not all alike."""
    generator = torch.Generator().manual_seed(seed)
    norms: list[Any] = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data.uniform_(0, 1, generator=generator)
        norm.bias.data.normal_(generator=generator)
        norm.running_mean.normal_(generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
