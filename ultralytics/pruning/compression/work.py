"""What a compression does piece by piece: measure, train, cut. Each piece leaves a whole file or nothing."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..cost import cost_of
from ..criteria.scoring import Scoring
from ..errors import PruningError, first_line
from ..files.places import shown
from ..latency.shapes import Shapes, shapes_of
from ..latency.timing import in_turns
from ..passes import accuracy as accuracies
from ..passes.images import Images, gradients
from ..passes.validating import validate
from ..pipeline import Pruned, prune_network
from ..release import quiet_release
from ..report import say
from ..selection.limits import Limits, filters
from ..tracing.trace import trace
from .recipe import Recipe

REFUSALS = (ValueError, RuntimeError, NotImplementedError, subprocess.CalledProcessError)  # what the release raises


def accuracy(file: Path, recipe: Recipe, folder: Path) -> float:
    """Returns the accuracy of a checkpoint on the val split, in 0..1: mAP50-95 where there are boxes."""
    settings = {key: value for key, value in recipe.training.items() if key in {"imgsz", "single_cls"}}
    own = {"project": str(folder), "name": "val", "exist_ok": True, "plots": False, "verbose": False, "workers": 0}
    with quiet_release():
        metrics, task, _ = validate(file, {"data": recipe.data, **settings, **on_one_device(recipe), **own})
    return accuracies.accuracy(metrics.results_dict, task) or 0.0


def on_one_device(recipe: Recipe) -> dict[str, Any]:
    """Returns the device and the batch of the passes outside of trainings: what one GPU trains with, or less."""
    devices = [word for word in str(recipe.training.get("device", "")).strip("[]() ").split(",") if word.strip()]
    batch = min(Images.batch, recipe.training.get("batch", Images.batch) // max(len(devices), 1))
    return {"device": devices[0].strip() if devices else "", "batch": max(batch, 1)}


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


def faster(original: Path, smaller: Path, recipe: Recipe) -> float:
    """Times two checkpoints in turns; returns the milliseconds of the first over those of the second."""
    runtime, imgsz = recipe.runtime, recipe.training["imgsz"]
    assert runtime is not None
    with runtime.threading():
        ms = in_turns({file: runtime.network(checkpoint.load(file)[0], imgsz) for file in (original, smaller)})
    return round(ms[original] / ms[smaller], 3)


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
    from ultralytics.models import YOLO
    from ultralytics.utils.torch_utils import strip_optimizer

    last = folder / name / "weights" / "last.pt"
    if last.is_file():
        try:
            content = checkpoint.load(last)[1]
        except PruningError as error:
            raise PruningError(f"{error}; delete '{shown(folder / name)}' to train it anew") from error
        if not checkpoint.is_finished(content):
            say(f"Going on with {shown(last)}")
            teacher = {"distill_model": recipe.weights} if recipe.teacher else {}
            YOLO(last).train(resume=True, device=recipe.training.get("device"), data=recipe.data, **teacher)
        for file in (last, last.with_name("best.pt")):  # killed behind the last epoch, before the release was done
            if file.is_file() and checkpoint.load(file)[1].get("optimizer") is not None:
                strip_optimizer(file)
        return last
    shutil.rmtree(folder / name, ignore_errors=True)
    teacher = {"distill_model": recipe.weights} if recipe.teacher else {}
    own = {"data": recipe.data, "project": str(folder), "name": name, "exist_ok": True}
    try:
        YOLO(start).train(**{**teacher, **recipe.training, **settings, **own})
    except REFUSALS as error:
        if isinstance(error, PruningError) or last.is_file():  # else it was refused before the first epoch was done
            raise
        raise PruningError(first_line(error)) from error
    return last


def cut(start: Path, target: dict[str, Any], file: Path, recipe: Recipe, limits: Limits) -> Pruned:
    """Cuts a checkpoint and writes the pruned one, with new statistics of its batch norms."""
    model, content = checkpoint.load(start)
    imgsz = recipe.training["imgsz"]
    read = {"seed", "single_cls", "fraction", "amp"}
    settings = tuple((key, value) for key, value in recipe.training.items() if key in read)
    images = Images(recipe.data, recipe.batches, imgsz=imgsz, settings=settings, **on_one_device(recipe))
    statistics = replace(images, batches=recipe.recalibrate)
    scoring = Scoring(recipe.criterion, recipe.normalize, recipe.per, lambda network: gradients(network, images))
    with quiet_release():
        result = prune_network(
            model,
            scoring=scoring,
            limits=limits,
            imgsz=imgsz,
            statistics=statistics if recipe.recalibrate else None,
            source={"file": str(start), "sha256": checkpoint.sha256(start), "task": model.task},
            **target,
        )
    checkpoint.save(result.model, file, train_args=content.get("train_args"))
    return result
