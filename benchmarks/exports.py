"""Exports pruned networks of three families, one of each task, to every format that runs here, and compares them.

    python benchmarks/exports.py

Nothing is trained: the class layers lose their bias, so that every network finds something in the release's two
pictures, and many of its detections are as good as equal, which is the hardest to compare. `docs/results/exports.md` is
written from what was found. About five minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import torch
from torch import nn

from benchmarks.zoo_models import named
from ultralytics.pruning import PruningError, Scoring, prune_network, save
from ultralytics.pruning.deploy import exporting
from ultralytics.pruning.deploy.agreement import RUNTIMES
from ultralytics.pruning.files import places
from ultralytics.pruning.report import say

FAMILIES = ("yolov8n", "yolo11n", "yolo26n")
TASKS = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}
PAGE = places.ROOT / "docs" / "results" / "exports.md"
IMGSZ = 96


def pruned(name: str) -> nn.Module:
    """Returns a network of the release, untrained, of 1.5 times fewer multiply-adds, that finds something.

    Args:
        name: Such as `yolo11n-pose`.
    """
    torch.manual_seed(0)
    entry = named(name)
    network: Any = entry.build(classes=3)
    for module in network.modules():  # scales and shifts that differ, or no channel would be worth more than another
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    for branch in ("cv3", "one2one_cv3"):
        for layers in getattr(network.model[-1], branch, None) or ():
            nn.init.zeros_(layers[-1].bias)  # every class is about as likely as not
    network.task, network.names = entry.task, dict(enumerate("abc"))
    return prune_network(network, speed_up=1.5, scoring=Scoring("l1")).model


def compared(weights: Path, name: str, imgsz: int = IMGSZ) -> str:
    """Exports a checkpoint to a format, beside it, and returns what the comparison came to, in words.

    Raises:
        PruningError: If the product is not kept.
    """
    options = {"weights": str(weights), "format": name, "imgsz": imgsz, "data": None, "images": 2, "device": "cpu"}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exporting.export(argparse.Namespace(**options, settings={}))
    lines = [" ".join(line.split()) for line in said.getvalue().splitlines()]
    start = next(i for i, line in enumerate(lines) if f"{RUNTIMES[name]} and PyTorch" in line)
    return "\n".join(lines[start:])


def main() -> None:
    """Writes the page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    formats = [name for name in RUNTIMES if exporting.runs_here(name)]
    lines = [
        "# Exports of pruned networks",
        "",
        "By `python benchmarks/exports.py`, which says what is compared: boxes, scores, masks, keypoints and angles of",
        f"each runtime with those of the checkpoint, within the tolerances of `export.py`, at {IMGSZ} px.",
        "",
        f"| pruned network | {' | '.join(RUNTIMES[name] for name in formats)} |",
        "|---|" + "---|" * len(formats),
    ]
    for name in (family + ending for family in FAMILIES for ending in TASKS.values()):
        cells = []
        for form in formats:
            with tempfile.TemporaryDirectory(prefix="exports-") as folder:
                weights = Path(folder) / f"{name}.pt"
                save(pruned(name), weights)
                try:
                    compared(weights, form)
                    cells.append("the same")
                except PruningError as error:
                    cells.append(str(error))
        lines.append(f"| {name} | {' | '.join(cells)} |")
        say(lines[-1])
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
