"""The table at the end of a training: size, accuracy and gammas of its checkpoints, and of the one it began with."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ..accuracy import accuracy, titles_of, what_counts
from ..checkpoints import checkpoint
from ..compression.recipe import images_of
from ..cost import cost_of
from ..errors import PruningError
from ..files.places import shown
from ..gammas import prunable_values
from ..passes.validating import accuracy_of
from ..plans.tables import deployed_note
from ..report import pixels, table
from ..runs.moved import relocated
from ..tracing.trace import trace
from .sparsity import Trained

IN_SINGLE_BATCHES = {"obb", "semantic", "depth"}  # tasks; a training validates all others with twice its images at once


def training_summary(folder: Path, *, with_start: bool = False) -> tuple[str, Trained]:
    """Returns the table at the end of a training stage, and `last.pt`.

    Args:
        folder: The run's.
        with_start: Whether the checkpoint that it began with is measured, and named if it is better.
    """
    weights = folder / "weights"
    best = [weights / "best.pt"] if (weights / "best.pt").is_file() else []
    rows, notes = [], set()
    for path in (*best, weights / "last.pt"):
        model, content = checkpoint.load(path)
        trained = Trained(model, content, trace(model, imgsz=checkpoint.image_size(content)))
        score = accuracy(content.get("train_metrics") or {}, model.task)
        rows.append((path, trained, score))
        notes.add(deployed_note(cost_of(trained.channel_map)))

    if with_start and (start := start_of(trained, folder)):
        (result, _, score), (began, _, before) = rows[0], start
        rows.insert(0, start)
        if (lost := before - (score or 0.0)) > 0:
            notes.add(f"\n{shown(result)} is {lost:.4f} below {shown(began)}: train for more epochs, or keep that one")
    size = f"GFLOPs at {pixels(checkpoint.image_size(trained.content))} px"
    what = titles_of(trained.model.task)[what_counts(trained.model.task)]
    titles = ("checkpoint", "parameters", size, what, "|gamma| < 1e-2", "|gamma| < 1e-3")
    return "\n" + table(titles, [_row(*row) for row in rows]) + "".join(sorted(notes)), trained


def start_of(trained: Trained, folder: Path) -> tuple[Path, Trained, float] | None:
    """Returns the checkpoint that a training began with, and its accuracy on the data of the training.

    Args:
        trained: What it came to.
        folder: The run's.

    Returns:
        The file, what is in it, and its accuracy in 0..1, measured as the training measures; None if it is not there
        any more, or not known, or a network of other widths or classes.
    """
    args = trained.content["train_args"]
    path = Path(relocated(str(args["model"])))
    if path.suffix != ".pt" or not path.is_file() or path.resolve().is_relative_to(folder.resolve()):  # it was resumed
        return None
    try:
        model, content = checkpoint.load(path)
    except PruningError:
        return None
    if model.names != trained.model.names or _widths(model) != _widths(trained.model):
        return None
    images = images_of(args, str(args["data"]))
    batch = args["batch"] * (1 if model.task in IN_SINGLE_BATCHES else 2)
    settings = {"data": args["data"], "imgsz": args["imgsz"], "device": images.device, "single_cls": args["single_cls"]}
    with tempfile.TemporaryDirectory(prefix="start-") as place:
        score, _ = accuracy_of(path, {**settings, "batch": batch}, place)
    return path, Trained(model, content, trace(model, imgsz=checkpoint.image_size(trained.content))), score


def _widths(model: object) -> list[tuple[str, tuple[int, ...]]]:
    """Returns the shapes of a network's parameters, by name."""
    return [(name, tuple(value.shape)) for name, value in model.named_parameters()]  # type: ignore[attr-defined]


def _row(path: Path, trained: Trained, score: float | None) -> tuple[str, ...]:
    """Returns size, cost, accuracy, and shares of small gammas of a checkpoint, in words."""
    cost = cost_of(trained.channel_map)
    gammas = prunable_values(trained.channel_map, trained.model)
    return (
        shown(path),
        f"{cost.deployed:,}",
        f"{cost.gflops:.2f}",
        "-" if score is None else f"{score:.4f}",
        f"{np.mean(gammas < 1e-2):.1%}",
        f"{np.mean(gammas < 1e-3):.1%}",
    )
