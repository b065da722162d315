"""The table and the picture of a compression."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..checkpoints.checkpoint import whole_file
from ..report import table
from .recipe import Recipe
from .state import Step

# Multiply-adds in 10^9 at 640 pixels (half of the FLOPs) and mAP50-95 on COCO val2017 of the dense models n, s, m.
# Source: the release's documentation of its models, docs.ultralytics.com/models.
LADDERS = {
    "yolov8": ((4.35, 0.373), (14.3, 0.449), (39.45, 0.502)),
    "yolo11": ((3.25, 0.395), (10.75, 0.470), (34.0, 0.515)),
}


def steps_table(steps: Sequence[Step]) -> str:
    """Returns the states of a compression as a table."""

    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    whole = steps[0]
    return table(
        (
            "step",
            "epochs",
            "parameters",
            "multiply-adds",
            "left",
            "after the cut",
            "recovered",
            "seconds",
            "kept",
        ),
        [
            (
                step.step,
                step.epochs,
                f"{step.parameters:,}",
                f"{step.macs / 1e9:.3f} G",
                f"{step.macs / whole.macs:.1%}",
                cell(step.cut),
                cell(step.recovered),
                f"{step.seconds:.0f}",
                "yes" if step.kept else "",
            )
            for step in steps
        ],
    )


def draw(steps: Sequence[Step], recipe: Recipe, path: Path) -> None:
    """Draws accuracy over multiply-adds, with the dense models of the family where they are known: on COCO at 640."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    cost = [step.macs / 1e9 for step in steps]
    cuts = [(x, step.cut) for x, step in zip(cost, steps, strict=True) if step.cut is not None]
    axes.plot(cost, [step.accuracy for step in steps], marker="o", lw=1.5, label="after the training of a step")
    if cuts:
        axes.plot(*zip(*cuts, strict=True), marker="x", ls="", color="#c44e52", label="right after the cut")
    for step, x in zip(steps, cost, strict=True):
        axes.annotate(step.step, (x, step.accuracy), textcoords="offset points", xytext=(6, 6), fontsize=8)
    if recipe.max_map_drop is not None:
        least = steps[0].accuracy - recipe.max_map_drop
        axes.axhline(least, lw=1, ls=":", color="#888888", label="least that --max-map-drop allows")
    on_coco = Path(recipe.data).stem == "coco" and recipe.training["imgsz"] == 640
    for family, points in LADDERS.items() if on_coco else ():
        axes.plot(*zip(*points, strict=True), lw=1, ls="--", marker=".", label=f"{family} n, s, m, dense")
    axes.set(xlabel=f"multiply-adds in 10^9 at {recipe.training['imgsz']} pixels", ylabel="accuracy on the val split")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    with whole_file(path) as file:
        figure.savefig(file)
