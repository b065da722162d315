"""What a compression does piece by piece: measure, train, cut. Each piece leaves a whole file or nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints import checkpoint
from ..cost import cost_of
from ..errors import PruningError, first_line
from ..files.places import shown
from ..latency import Runtime, comparing
from ..latency.comparing import Speed
from ..latency.shapes import Shapes, shapes_of
from ..passes.validating import accuracy_of
from ..pipeline import Pruned, prune_network
from ..release import quiet_release
from ..report import say
from ..selection.limits import Limits, filters
from ..sparsity.settings import without_sparsity
from ..tracing.trace import trace
from .recipe import Recipe

REFUSALS = (ValueError, RuntimeError, NotImplementedError, subprocess.CalledProcessError)  # what the release raises


def measured_accuracy(file: Path, recipe: Recipe, folder: Path) -> float:
    """Returns the accuracy of a checkpoint on the val split, in 0..1: mAP50-95 where there are boxes."""
    given = {key: value for key, value in recipe.training.items() if key in {"imgsz", "single_cls"}}
    where = {"data": recipe.data, "device": recipe.images.device, "batch": recipe.images.batch}
    return accuracy_of(file, {**given, **where}, folder)[0]


def size(file: Path, recipe: Recipe) -> tuple[int, int]:
    """Returns parameters and multiply-adds of a checkpoint, as it is deployed."""
    model, _ = checkpoint.load(file)
    cost = cost_of(trace(model, imgsz=recipe.training["imgsz"]))
    return cost.deployed, cost.macs


def widths(file: Path) -> dict[str, int]:
    """Returns how many channels each layer of a checkpoint has."""
    return {name: len(outputs) for name, outputs in filters(trace(checkpoint.load(file)[0])).items()}


def shapes(file: Path, imgsz: int) -> Shapes:
    """Returns the calls of the layers of a checkpoint."""
    model, _ = checkpoint.load(file)
    return shapes_of(model, trace(model, imgsz=imgsz), imgsz)


def timings(file: Path, recipe: Recipe) -> dict[str, Any]:
    """Returns the training argument that names the timings of a checkpoint's layers, which are there by then."""
    if not recipe.latency:
        return {}
    model, _ = checkpoint.load(file)
    recipe.latency.model(model, trace(model, imgsz=recipe.latency.imgsz), recipe.limits.round_to)
    return {"latency_table": str(recipe.latency.timings.resolve())}


def faster(original: Path, smaller: Path, recipe: Recipe) -> float:
    """Returns the milliseconds of a checkpoint over those of a smaller one: timed in turns, or by a table."""
    assert recipe.latency is not None
    return _timed(original, smaller, recipe) if recipe.latency.runtime else _predicted(original, smaller, recipe)


def _predicted(original: Path, smaller: Path, recipe: Recipe) -> float:
    """Returns by the table of latencies the milliseconds of a checkpoint over those of a smaller one."""
    assert recipe.latency is not None
    imgsz = recipe.latency.imgsz
    latency = replace(recipe.latency, timed_as=shapes(original, imgsz))
    ms = []
    for file in (original, smaller):
        model, _ = checkpoint.load(file)
        channel_map = trace(model, imgsz=imgsz)
        everything = np.ones(len(channel_map.channels), dtype=bool)
        ms.append(latency.model(model, channel_map, recipe.limits.round_to)(everything))
    return round(ms[0] / ms[1], 3)


def _timed(original: Path, smaller: Path, recipe: Recipe) -> float:
    """Times two checkpoints in turns; returns the milliseconds of the first over those of the second."""
    assert recipe.latency is not None and recipe.latency.runtime is not None
    before, after, _ = milliseconds(original, smaller, recipe.latency.imgsz, recipe.latency.runtime)
    return round(before / after, 3)


def milliseconds(original: Path, smaller: Path, imgsz: int, runtime: Runtime) -> tuple[float, float, float]:
    """Times two checkpoints in turns; returns the milliseconds of each, and their spread (see `comparing.Speed`)."""
    before, after = (checkpoint.load(file)[0] for file in (original, smaller))
    first, second, spread = comparing.time_networks(before, after, runtime, imgsz)
    return round(first, 3), round(second, 3), round(spread, 4)


def in_turns(files: Sequence[Path], imgsz: int, runtime: Runtime) -> list[float]:
    """Times checkpoints in turns; returns the milliseconds of each, and their spread behind them."""
    ms, spread = comparing.time_in_turns([checkpoint.load(file)[0] for file in files], runtime, imgsz)
    return [*(round(each, 3) for each in ms), round(spread, 4)]


def speed(
    original: Path, smaller: Path, promised: float, imgsz: int, runtime: Runtime, known: tuple[float, float, float]
) -> Speed:
    """Returns whether a checkpoint is as fast as promised, layer by layer where it is not."""
    before, after = (checkpoint.load(file)[0] for file in (original, smaller))
    return comparing.compare(before, after, promised, runtime, imgsz, known=known)


def train(name: str, start: Path, settings: dict[str, Any], recipe: Recipe, folder: Path) -> Path:
    """Trains, goes on with a training that was interrupted, or takes one that is finished.

    Args:
        name: Of its folder in `folder`.
        start: The checkpoint to begin with.
        settings: Training arguments, besides those of the recipe.
        recipe: What is asked for.
        folder: Of the compression.

    Returns:
        The last checkpoint.

    Raises:
        PruningError: If the trainer refuses.
    """
    last = folder / name / "weights" / "last.pt"
    if last.is_file():
        _go_on(last, recipe)
        return last
    shutil.rmtree(folder / name, ignore_errors=True)
    _begin(start, {**settings, "project": str(folder), "name": name, "exist_ok": True}, recipe, last)
    return last


def _teacher(recipe: Recipe) -> dict[str, Any]:
    """Returns the training argument that names the teacher, if there is one."""
    return {"distill_model": recipe.weights} if recipe.teacher else {}


def _begin(start: Path, settings: dict[str, Any], recipe: Recipe, last: Path) -> None:
    """Trains from the first epoch on; what the release refuses before it has written `last` is one line."""
    from ultralytics.models import YOLO

    try:
        YOLO(start).train(**{**_teacher(recipe), **recipe.training, **settings, "data": recipe.data})
    except REFUSALS as error:
        if isinstance(error, PruningError) or last.is_file():
            raise
        raise PruningError(first_line(error)) from error


def _go_on(last: Path, recipe: Recipe) -> None:
    """Brings a training to its end that has written `last`, if it is not there yet."""
    from ultralytics.models import YOLO
    from ultralytics.utils.torch_utils import strip_optimizer

    try:
        content = checkpoint.load(last)[1]
    except PruningError as error:
        raise PruningError(f"{error}; delete '{shown(last.parent.parent)}' to train it anew") from error
    if not checkpoint.is_finished(content):
        say(f"Going on with {shown(last)}")
        device = recipe.training.get("device")
        YOLO(last).train(resume=True, device=device, data=recipe.data, **_teacher(recipe))

    for file in (last, last.with_name("best.pt")):  # killed behind the last epoch, before the release was done
        if file.is_file() and checkpoint.load(file)[1].get("optimizer") is not None:
            strip_optimizer(file)


def cut_checkpoint(start: Path, target: dict[str, Any], file: Path, recipe: Recipe, limits: Limits) -> Pruned:
    """Cuts a checkpoint and writes the pruned one, with new statistics of its batch norms.

    Args:
        start: The checkpoint to cut.
        target: The target of this cut, as `prune_network` takes it.
        file: Where the pruned one goes.
        recipe: What is asked for.
        limits: The rules of this cut for single layers.
    """
    model, content = checkpoint.load(start)
    with quiet_release():
        result = prune_network(
            model,
            scoring=recipe.scoring,
            images=None if recipe.scoring else recipe.images,
            limits=limits,
            imgsz=recipe.training["imgsz"],
            statistics=recipe.statistics,
            source={"file": str(start), "sha256": checkpoint.sha256(start), "task": model.task},
            **target,
        )
    checkpoint.save(result.model, file, train_args=without_sparsity(content.get("train_args") or {}))
    return result
