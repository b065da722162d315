"""The tables and the pictures of a compression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..checkpoints.checkpoint import whole_file
from ..one_shot.own_labels import own_labels
from ..report import table
from .recipe import Recipe
from .state import Step

# Multiply-adds in 10^9 at 640 pixels (half of the FLOPs) and mAP50-95 on COCO val2017 of the dense models n, s, m.
# Source: the release's documentation of its models, docs.ultralytics.com/models.
LADDERS = {
    "yolov8": ((4.35, 0.373), (14.3, 0.449), (39.45, 0.502)),
    "yolo11": ((3.25, 0.395), (10.75, 0.470), (34.0, 0.515)),
}

MACS = "multiply-adds in 10^9"  # of an axis


def steps_table(steps: Sequence[Step]) -> str:
    """Returns the states of a compression as a table."""
    titles = ("step", "epochs", "parameters", "multiply-adds", "left", "after the cut", "recovered", "seconds", "kept")
    return table(titles, [_row(step, steps[0]) for step in steps])


def _row(step: Step, original: Step) -> tuple[Any, ...]:
    """Returns a state as a row of the table."""

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    return (
        step.step,
        step.epochs,
        f"{step.parameters:,}",
        f"{step.macs / 1e9:.3f} G",
        f"{step.macs / original.macs:.1%}",
        cell(step.cut),
        cell(step.recovered),
        f"{step.seconds:.0f}",
        "yes" if step.kept else "",
    )


def draw_steps(steps: Sequence[Step], recipe: Recipe, path: Path) -> None:
    """Draws accuracy over multiply-adds, with the dense models of the family where they are known: on COCO at 640."""
    imgsz = recipe.training["imgsz"]
    figure, axes = _picture()
    _plot_steps(axes, steps)
    if recipe.max_map_drop is not None:
        least = steps[0].accuracy - recipe.max_map_drop
        axes.axhline(least, lw=1, ls=":", color="#888888", label="least that --max-map-drop allows")
    if Path(recipe.data).stem == "coco" and imgsz == 640:
        for family, points in LADDERS.items():
            axes.plot(*zip(*points, strict=True), lw=1, ls="--", marker=".", label=f"{family} n, s, m, dense")

    axes.legend(fontsize=8, frameon=False)
    _save(figure, axes, MACS, recipe, path)


def _picture() -> tuple[Figure, Axes]:
    """Returns a new picture and its axes."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    return figure, figure.add_subplot()


def _save(figure: Figure, axes: Axes, over: str, recipe: Recipe, path: Path) -> None:
    """Names the axes, of accuracy over something, and writes the picture."""
    what = "agreement with the original" if own_labels(recipe.data) else "accuracy"
    axes.set(xlabel=f"{over} at {recipe.training['imgsz']} pixels", ylabel=f"{what} on the val split")
    axes.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as file:
        figure.savefig(file)


def _plot_steps(axes: Axes, steps: Sequence[Step]) -> None:
    """Plots the states, named, and what each cut left before the training that followed."""
    costs = [step.macs / 1e9 for step in steps]
    cuts = [(cost, step.cut) for cost, step in zip(costs, steps, strict=True) if step.cut is not None]
    axes.plot(costs, [step.accuracy for step in steps], marker="o", lw=1.5, label="after the training of a step")
    if cuts:
        axes.plot(*zip(*cuts, strict=True), marker="x", ls="", color="#c44e52", label="right after the cut")
    for step, cost in zip(steps, costs, strict=True):
        axes.annotate(step.step, (cost, step.accuracy), textcoords="offset points", xytext=(6, 6), fontsize=8)


def rung_rows(steps: Sequence[Step], targets: Sequence[str]) -> list[dict[str, str]]:
    """Returns the networks of a ladder, the original first, as rows in words; milliseconds where they are known.

    Args:
        steps: Their rows of `compress.csv`.
        targets: The number of each one's target.
    """
    first = steps[0]

    def row(step: Step, target: str) -> dict[str, str]:
        timed = step.ms is not None and first.ms is not None
        return {
            "target": target,
            "parameters": str(step.parameters),
            "macs": str(step.macs),
            "left": f"{step.macs / first.macs:.1%}",
            "accuracy": f"{step.accuracy:.4f}",
            "change": f"{step.accuracy - first.accuracy:+.4f}",
            "ms": f"{step.ms:.2f}" if timed else "",
            "faster": f"{first.ms / step.ms:.2f}x" if timed and first.ms and step.ms else "",
        }

    return [row(step, target) for step, target in zip(steps, targets, strict=True)]


def draw_rungs(steps: Sequence[Step], rows: Sequence[dict[str, str]], recipe: Recipe, path: Path) -> None:
    """Draws the accuracy of a ladder's networks over their milliseconds, or over multiply-adds where none are known."""
    ms = [step.ms for step in steps if step.ms is not None]
    timed = len(ms) == len(steps)
    places = ms if timed else [step.macs / 1e9 for step in steps]
    figure, axes = _picture()
    axes.plot(places, [step.accuracy for step in steps], marker="o", lw=1.5)
    for place, step, row in zip(places, steps, rows, strict=True):
        name = f"{recipe.target.kind.option} {row['target']}" if row["target"] else "original"
        axes.annotate(name, (place, step.accuracy), textcoords="offset points", xytext=(6, 6), fontsize=8)
    _save(figure, axes, "milliseconds for one image" if timed else MACS, recipe, path)
