"""What sparsity costs per training step: `python benchmarks/sparsity_step.py`.

YOLOv8n, 16 images of 160 pixels, on all cores: forward, loss, backward and optimizer make the step that all is compared
with. Then each mode's own work per step, and the loop over `named_modules()` that forks use. All take turns.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import torch
from torch import nn

from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning.report import table
from ultralytics.pruning.sparsity import Settings, SparsityRun
from ultralytics.utils import DEFAULT_CFG_DICT

ASKED = {
    "subgradient": {"sr": 1e-3},
    "proximal": {"sparsity": "proximal", "sr": 1e-3},
    "group": {"sparsity": "group", "sr": 1e-3},
    "steered": {"sparsity": "steered", "target_speed_up": 2.0},
    "group_sl": {"sparsity": "group_sl", "sr": 1e-3},
    "group_reg": {"sparsity": "group_reg", "target_speed_up": 2.0},
}


def network() -> DetectionModel:
    """Returns a YOLOv8n that can be trained."""
    model = DetectionModel("yolov8n.yaml", nc=10, verbose=False)
    model.args = get_cfg()
    return model.train()


def batch() -> dict[str, torch.Tensor]:
    """Returns 16 random images with two objects each."""
    boxes = torch.rand(32, 4) * 0.3 + 0.3
    index = torch.arange(32) // 2
    return {"img": torch.rand(16, 3, 160, 160), "batch_idx": index, "cls": torch.zeros(32, 1), "bboxes": boxes}


def training_step(model: DetectionModel, optimizer: torch.optim.Optimizer, images: dict[str, torch.Tensor]) -> None:
    """Trains on a batch; leaves the gradients."""
    optimizer.zero_grad()
    model.loss(images)[0].sum().backward()
    optimizer.step()


def loop_of_forks(model: nn.Module, sr: float = 1e-3) -> None:
    """Adds the subgradient as forks do: a walk over all modules."""
    for _, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.grad.data.add_(sr * torch.sign(module.weight.data))


def work(run: SparsityRun, optimizer: torch.optim.Optimizer) -> None:
    """Does what a mode does in a step."""
    run.mode.before_step(optimizer, 0.01)
    run.mode.after_step(0.01)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    model, images = network(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    runs = {}
    for name, asked in ASKED.items():
        other = network()
        runs[name] = SparsityRun(other, Settings.of(argparse.Namespace(**{**DEFAULT_CFG_DICT, **asked}))), other
        runs[name][0].epoch_starts(1, 10)
        training_step(other, torch.optim.SGD(other.parameters(), lr=1e-4), images)
    optimizers = {name: torch.optim.SGD(other.parameters(), lr=1e-4, momentum=0.9) for name, (_, other) in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ("training step", "loop over named_modules()", *runs)}
    for number in range(3 + rounds):
        for name, taken in seconds.items():
            start = time.perf_counter()
            if name == "training step":
                training_step(model, optimizer, images)
            elif name in runs:
                work(runs[name][0], optimizers[name])
            else:
                loop_of_forks(model)
            if number >= 3:
                taken.append(time.perf_counter() - start)
    step = statistics.median(seconds["training step"])
    rows = [
        (name, f"{1e3 * statistics.median(spent):.2f}", f"{statistics.median(spent) / step:.2%}")
        for name, spent in seconds.items()
    ]
    print(table(("work", "ms", "of a training step"), rows))
