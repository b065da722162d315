"""What `benchmarks/gpu.py` runs on: the device, the network, the images, and how much of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from ultralytics.data.digits import Recipe, build
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import save
from ultralytics.pruning.files import places
from ultralytics.pruning.latency.timing import processor

MODES = {
    "subgradient": ("--sr", "0.01"),
    "proximal": ("--sparsity", "proximal", "--target-sparsity", "0.5"),
    "group": ("--sparsity", "group", "--target-sparsity", "0.5"),
    "steered": ("--sparsity", "steered", "--target-speed-up", "2"),
    "group_sl": ("--sparsity", "group_sl"),
    "group_reg": ("--sparsity", "group_reg", "--target-speed-up", "2"),
}
TINY = {
    "nc": 10,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "C2f", [16, True]]]
    + [[-1, 1, "Conv", [32, 3, 2]]],
    "head": [[[2, 3], 1, "Detect", ["nc"]]],
}


@dataclass(frozen=True)
class Scale:
    """How much is run, and where.

    Attributes:
        device: `cpu`, or the number of a GPU.
        networks: Model yamls for the checks of the engine.
        start: What the normal training starts from, a yaml or a checkpoint.
        data: What `--data` gets.
        imgsz: Side of the training images in pixels.
        batch: Images in a step.
        epochs: Of the normal training; sparsity trainings and fine-tunings take half, and at least 3.
        modes: Keys of `MODES`.
        rounds: Of a timing.
    """

    device: str
    networks: tuple[str, ...]
    start: str
    data: str
    imgsz: int
    batch: int
    epochs: int
    modes: tuple[str, ...]
    rounds: int

    @classmethod
    def of(cls, device: str, *, tiny: bool) -> Scale:
        """Returns the full scale, or one of a minute, for which it writes a yaml and a few images."""
        if not tiny:
            networks = ("yolov8n.yaml", "yolo11n.yaml", "yolo26n.yaml", "rtdetr-l.yaml")
            return cls(device, networks, networks[0], "digits", 160, 16, 30, tuple(MODES), 20)
        yaml_file, start = folder() / "tiny.yaml", folder() / "tiny.pt"
        yaml_file.write_text(yaml.safe_dump(TINY), encoding="utf-8")
        model = network(str(yaml_file))
        for branch in model.model[-1].cv3:  # so that it finds something without a training
            torch.nn.init.zeros_(branch[-1].bias)
        model.names, model.task = {number: str(number) for number in range(10)}, "detect"
        save(model, start)
        data = build(folder() / "digits", Recipe(train=16, val=8))
        return cls(device, (str(yaml_file),), str(start), str(data), 64, 8, 1, ("subgradient", "steered"), 3)

    @property
    def place(self) -> torch.device:
        """The device in PyTorch's words."""
        return torch.device("cpu" if self.device == "cpu" else f"cuda:{self.device}")

    @property
    def fewer(self) -> int:
        """Epochs of a training after the first."""
        return max(self.epochs // 2, 3)

    def machine(self) -> str:
        """Returns the name of the GPU, or of the processor."""
        return processor() if self.device == "cpu" else f"an {torch.cuda.get_device_name(self.place)}"

    def wait(self) -> None:
        """Waits for what the GPU was told to do."""
        if self.device != "cpu":
            torch.cuda.synchronize(self.place)


def folder() -> Path:
    """Returns the folder of the files that are no runs."""
    return places.write_folder(places.RUNS / "gpu")


def network(name: str, *, seed: int = 0) -> DetectionModel:
    """Returns a network of ten classes with random weights, and with batch norms that are not all alike, on the CPU."""
    from ultralytics.nn.tasks import RTDETRDetectionModel

    torch.manual_seed(seed)
    kind = RTDETRDetectionModel if "rtdetr" in name else DetectionModel
    model = kind(name, nc=10, verbose=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return model
