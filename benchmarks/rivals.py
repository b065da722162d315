"""What people use instead, as methods of `versus.py`: no cut, another size, the forks' recipe, Torch-Pruning."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn
from versus_ground import COMMON, Job, Made, cost_of_file, cost_of_network, steps_of

from ultralytics.nn.modules import Bottleneck
from ultralytics.pruning.channels import ChannelMap
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.criteria.scoring import Scoring
from ultralytics.pruning.pipeline import prune_network
from ultralytics.pruning.selection.limits import Limits
from ultralytics.pruning.sparsity.asked import Asked
from ultralytics.pruning.sparsity.modes import MODES
from ultralytics.pruning.sparsity.modes.subgradient import SUBGRADIENT, Subgradient
from ultralytics.pruning.sparsity.scales import Scales

FORKS = "forks"  # the mode of sparsity training
STEPS = 4  # cuts of Torch-Pruning
NARROWEST = 64  # steps in which a width multiple is looked for
HALVINGS = 12  # of the interval of ratios in which Torch-Pruning's is looked for


def dense_longer(job: Job) -> Made:
    """The dense network, trained on for as long."""
    best = job.train("longer", job.ground.weights, job.ground.epochs)
    return Made(best, job.ground.imgsz, {**steps_of(best), "epochs": job.ground.epochs})


def smaller_image(job: Job) -> Made:
    """The dense network at a smaller image size, fine-tuned at it: the least multiple of 32 that is not too cheap."""
    size = 32 * math.ceil(math.sqrt(job.level) * job.ground.imgsz / 32)
    best = job.train("smaller-image", job.ground.weights, job.ground.epochs, imgsz=size)
    return Made(best, size, {**steps_of(best), "epochs": job.ground.epochs, "imgsz": size})


def narrower(job: Job) -> Made:
    """A narrower network of the same family, trained from scratch as the dense one was, for the epochs of both."""
    dense, content = checkpoint.load(job.ground.weights)
    torch.manual_seed(job.ground.seed)
    model, width = of_cost(dense, job.level * job.ground.cost().macs, job.ground.imgsz)
    start = job.folder / "narrow.pt"
    if not start.is_file():
        checkpoint.save(model, start)
    trained = content.get("train_args") or {}
    recipe = {name: trained.get(name) or COMMON[name] for name in COMMON}
    epochs = job.ground.dense_epochs + job.ground.epochs
    best = job.train("narrow", start, epochs, **recipe)
    return Made(best, job.ground.imgsz, {**recipe, "epochs": epochs, "from scratch, width multiple": width})


def of_cost(dense: Any, macs: float, imgsz: int) -> tuple[Any, float]:
    """Returns an untrained network of a dense one's yaml whose multiply-adds are nearest to some, and its width."""
    scale = dense.yaml.get("scale") or next(iter(dense.yaml.get("scales") or {}), "")
    if scale:
        depth, full, most = dense.yaml["scales"][scale]
    else:
        depth, full, most = 1.0, dense.yaml.get("width_multiple", 1.0), math.inf

    def built(step: int) -> tuple[Any, float]:
        width = full * step / NARROWEST
        yaml = copy.deepcopy(dense.yaml)
        yaml |= {"scales": {scale: [depth, width, most]}} if scale else {"width_multiple": width}
        model = type(dense)(yaml, ch=yaml.get("channels", 3), nc=len(dense.names), verbose=False)
        model.names = dict(dense.names)
        return model, width

    def misses(step: int) -> float:
        return cost_of_network(built(step)[0], imgsz).macs - macs

    low, high = 1, NARROWEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if misses(middle) < 0 else (low, middle)
    return built(min((low, high), key=lambda step: abs(misses(step))))


class OfTheForks(Subgradient):
    """The pull of the forks: on every gamma but those of the second batch norm of Bottlenecks with a shortcut."""

    def __init__(self, model: nn.Module, channel_map: ChannelMap, scales: Scales, asked: Asked) -> None:
        left_alone = {f"{name}.cv2.bn" for name in shortcuts(model)}
        parts = zip(scales.names, scales.free.split(scales.sizes), strict=True)
        free = torch.cat([part & (name not in left_alone) for name, part in parts])
        super().__init__(model, channel_map, replace(scales, free=free), asked)


def shortcuts(model: nn.Module) -> list[str]:
    """Returns the names of the Bottlenecks that have a shortcut."""
    return [name for name, module in model.named_modules() if isinstance(module, Bottleneck) and module.add]


def forks(job: Job, lr0: float) -> Made:
    """The forks' recipe: L1 on the gammas, one global threshold, shortcut layers left alone, fine-tuned.

    Args:
        job: What is asked for.
        lr0: Learning rate of SGD in the sparsity training, which its pull is multiplied by.
    """
    half = max(1, job.ground.epochs // 2)
    pull = {"sparsity": FORKS, "sr": 1e-2, "optimizer": "SGD", "lr0": lr0, "finetune": False}
    with mock.patch.dict(MODES, {FORKS: replace(SUBGRADIENT, start=OfTheForks)}):
        sparse = job.train("sparsity", job.ground.weights, half, **pull).with_name("last.pt")
    model, _ = checkpoint.load(sparse)
    limits = Limits(floor=0, round_to=1, ignore=tuple(f"{name}.cv2.conv" for name in shortcuts(model)))
    how: dict[str, Any] = {"scoring": Scoring("slim"), "limits": limits, "fold": False}
    cut = prune_network(model, speed_up=1 / job.level, imgsz=job.ground.imgsz, **how)
    checkpoint.save(cut.model, job.folder / "cut.pt")
    rest = max(1, job.ground.epochs - half)
    best = job.train("tuned", job.folder / "cut.pt", rest)
    settings = {"sparsity training": {**pull, "sparsity": "subgradient L1", "epochs": half}, "round_to": 1}
    settings |= {"fold": False, "left alone": "the second convolution of Bottlenecks with a shortcut"}
    return Made(best, job.ground.imgsz, {**settings, "fine-tuning": {**steps_of(best), "epochs": rest}})


def torch_pruning(job: Job, steps: int = STEPS, **how: Any) -> Made:
    """Torch-Pruning as its YOLOv8 example does it: cut a little by the norms of groups, fine-tune, several times.

    Half of the epochs follow the last cut, the others are divided between the steps; of one step, all follow.

    Args:
        job: What is asked for.
        steps: How many cuts.
        how: Of its pruner.
    """
    from zoo_torch_pruning import replace_c2f

    ground, file = job.ground, job.folder / "step-0.pt"
    model, _ = checkpoint.load(ground.weights)
    macs = ground.cost().macs
    replace_c2f(model)
    checkpoint.save(model, file)
    each = max(1, ground.epochs // (2 * steps)) if steps > 1 else 0
    last = max(1, ground.epochs - each * steps)
    left = []
    for step in range(1, steps + 1):
        cut, start = job.folder / f"step-{step}.pt", file
        if not cut.is_file():  # a training that goes on has it
            wanted = macs * job.level ** (step / steps)
            checkpoint.save(cut_by_torch_pruning(start, wanted, ground.imgsz, **how), cut)
        left.append(round(cost_of_file(cut, ground.imgsz).macs / macs, 3))
        file = job.train(f"tuned-{step}", cut, each) if each else cut
    after_each = {"after each": {**steps_of(file), "epochs": each}} if each else {}
    best = job.train("tuned", file, last)
    at_the_end = {**steps_of(best), "epochs": last}
    settings = {"steps": steps, "multiply-adds left": left, **how, **after_each, "at the end": at_the_end}
    return Made(best, ground.imgsz, settings)


def cut_by_torch_pruning(file: Path, macs: float, imgsz: int, **how: Any) -> Any:
    """Returns a checkpoint's network cut to the multiply-adds nearest to some, by the ratio that does it."""
    model, _ = checkpoint.load(file)
    low, high, found = 0.0, 1.0, model
    nearest = abs(cost_of_file(file, imgsz).macs - macs)
    for _ in range(HALVINGS):
        ratio = (low + high) / 2
        try:
            pruned = pruned_by(model, ratio, imgsz, **how)
            left = cost_of_network(pruned, imgsz).macs
        except (RuntimeError, ValueError, ZeroDivisionError):  # a layer without a channel
            high = ratio
            continue
        if abs(left - macs) < nearest:
            found, nearest = pruned, abs(left - macs)
        low, high = (ratio, high) if left > macs else (low, ratio)
    return found


def pruned_by(model: Any, ratio: float, imgsz: int, **how: Any) -> Any:
    """Returns a copy of a network from which Torch-Pruning took a share of the channels, all but the head's."""
    import torch_pruning as tp
    from zoo_torch_pruning import learned

    pruned = copy.deepcopy(model).train()
    for parameter in pruned.parameters():
        parameter.requires_grad_(True)
    statistics = [(norm, norm.running_mean.clone(), norm.running_var.clone()) for norm in norms(pruned)]
    pruner = tp.pruner.GroupNormPruner(
        pruned,
        torch.zeros(1, 3, imgsz, imgsz),
        importance=tp.importance.GroupMagnitudeImportance(),
        pruning_ratio=ratio,
        ignored_layers=[pruned.model[-1]],
        output_transform=learned,
        **how,
    )
    for norm, mean, variance in statistics:  # it runs an empty image through the network in training mode
        norm.running_mean, norm.running_var = mean, variance
    pruner.step()
    for parameter in pruned.parameters():
        parameter.grad = None
    return pruned.eval()


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Returns the batch norms of a network."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


RIVALS: dict[str, Callable[[Job], Made]] = {
    "dense, trained on": dense_longer,
    "dense, smaller image": smaller_image,
    "narrower, from scratch": narrower,
    "forks, SGD lr0=0.001": lambda job: forks(job, 0.001),
    "forks, SGD lr0=0.01": lambda job: forks(job, 0.01),
    "Torch-Pruning, global": lambda job: torch_pruning(job, global_pruning=True),
    "Torch-Pruning, one ratio for all": torch_pruning,
    "Torch-Pruning, at once, round_to=8": lambda job: torch_pruning(job, 1, round_to=8),
}
