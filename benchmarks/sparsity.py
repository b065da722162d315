"""Compares the modes of sparsity training on the built-in digits.

    python benchmarks/sparsity.py > docs/results/sparsity.md

A YOLOv8n is trained from random weights; each mode then trains it on for the same number of epochs, and so does the
dense network that all are compared with. What is measured: the accuracy over the sparsity, epoch by epoch, and the
accuracy right after cutting, before any fine-tuning. A run that is finished is not trained again, so that the
benchmark can be interrupted. About an hour on two CPU cores. Also draws docs/assets/sparsity.png.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from digits_runs import ADAM, MORE, RUNS, START, accuracy, dense, start, trained
from matplotlib.figure import Figure

from ultralytics.pruning import save, trace
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.cost import macs_of_groups
from ultralytics.pruning.criteria.normalizing import normalized
from ultralytics.pruning.files import places
from ultralytics.pruning.pipeline import prune_network
from ultralytics.pruning.selection.zeros import LEAST_SHARE, share_at_zero
from ultralytics.pruning.sparsity.modes import steered
from ultralytics.pruning.sparsity.modes.steered import Steering

SGD = {"optimizer": "SGD", "lr0": 0.01, "warmup_epochs": 1}
LONGER = {**MORE, "epochs": 20}  # from the dense network of the first table
STEERED = {**ADAM, "sparsity": "steered", "target_speed_up": 2.5}
MODES = {
    "dense": ADAM,
    "subgradient, sr=0.035": {**SGD, "sr": 0.035},
    "proximal, target_sparsity=0.5": {**ADAM, "sparsity": "proximal", "target_sparsity": 0.5},
    "group, target_sparsity=0.5": {**ADAM, "sparsity": "group", "target_sparsity": 0.5},
    "steered, target_sparsity=0.5": {**ADAM, "sparsity": "steered", "target_sparsity": 0.5},
    "steered, target_speed_up=2.5": STEERED,
    "steered, target_speed_up=2.5, score per multiply-add": STEERED,
    "steered, target_speed_up=2.5, score per layer": STEERED,
}
SCHEDULES = {
    "longer, dense": ADAM,
    "longer, steered": STEERED,
    "longer, steered, choice ends at 40 %": STEERED,
    "longer, steered, choice ends at 40 %, score per multiply-add": STEERED,
    "longer, steered, fades to a tenth an epoch": STEERED,
}
RATIOS = (0.2, 0.4, 0.6)
HEADER = """\
| mode | < 1e-3 | at zero | before | zeros cut (multiply-adds left) | 20 % cut | 40 % cut | 60 % cut |
|---|---:|---:|---:|---:|---:|---:|---:|"""
PAGE = """\
# Sparsity training, mode by mode

Made by `python benchmarks/sparsity.py > docs/results/sparsity.md`: YOLOv8n on the built-in digits at 160 pixels,
{first} epochs dense from random weights, then {more} epochs of each mode; mAP50-95.

{tables[0]}

Cut right after the sparsity training, with folding, before any fine-tuning; the ratios by one threshold for
the whole network (`--prune-ratio R --round-to 1`). The accuracy over the sparsity, epoch by epoch:

![Accuracy over sparsity](../assets/sparsity.png)

## Schedules and scores of the steered mode

From the dense network above, {longer} epochs more of each, to 40 % of the multiply-adds.

{tables[1]}
"""


own_scores = Steering.scores


def per_multiply_add(run: Steering) -> np.ndarray:
    """Divides the importance of a group by the multiply-adds that it costs."""
    return own_scores(run) / macs_of_groups(run._map).clip(1)


def per_layer(run: Steering) -> np.ndarray:
    """Divides the importance of a group by the mean over the layer that makes it."""
    return normalized(run._map, own_scores(run), "mean")


ADJUSTED = {  # what a part of a variant's name changes
    "score per multiply-add": (Steering, "scores", per_multiply_add),
    "score per layer": (Steering, "scores", per_layer),
    "choice ends at 40 %": (steered, "LAST", 0.4),
    "fades to a tenth an epoch": (steered, "FADE", 0.1),
}


def adjustments(name: str) -> tuple:
    """Returns what a variant's name changes in our code."""
    return tuple(ADJUSTED[part] for part in name.split(", ") if part in ADJUSTED)


def curve(folder: Path) -> tuple[list[float], list[float]]:
    """Returns sparsity and mAP50-95 of each epoch of a run; a dense run has no sparsity."""
    with (folder / "results.csv").open(encoding="utf-8") as file:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(file)]
    return (
        [float(row.get("metrics/sparsity") or 0) for row in rows],
        [float(row["metrics/mAP50-95(B)"]) for row in rows],
    )


def after_cuts(last: Path) -> dict[str, tuple[float, float]]:
    """Returns mAP50-95, and the share of the multiply-adds that is left, by cut: "zeros" and each ratio."""
    model, _ = checkpoint.load(last)
    channel_map = trace(model)
    cuts: dict[str, dict] = {f"{ratio:.0%}": {"prune_ratio": ratio} for ratio in RATIOS}
    if share_at_zero(channel_map, model) >= LEAST_SHARE:
        cuts = {"zeros": {"zeros": True}, **cuts}
    found = {}
    for name, target in cuts.items():
        pruned = prune_network(model, imgsz=160, **target)
        save(pruned.model, RUNS / "cut.pt")
        found[name] = accuracy(RUNS / "cut.pt"), pruned.plan.after.macs / pruned.plan.before.macs
    return found


def row(name: str, folder: Path) -> str:
    """Measures one run; returns its row of the table."""
    last = folder / "weights" / "last.pt"
    model, _ = checkpoint.load(last)
    at_zero = share_at_zero(trace(model), model)
    faded = curve(folder)[0][-1]
    cuts = after_cuts(last)
    zeros = f"{cuts['zeros'][0]:.3f} ({cuts['zeros'][1]:.0%})" if "zeros" in cuts else ""
    cells = [f"{cuts[f'{ratio:.0%}'][0]:.3f}" for ratio in RATIOS]
    return f"| {name} | {faded:.0%} | {at_zero:.0%} | {accuracy(last):.3f} | {zeros} | {' | '.join(cells)} |"


def draw(folders: dict[str, Path], file: Path) -> None:
    """Draws mAP50-95 over sparsity, one line a mode, a point an epoch."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for name, folder in folders.items():
        sparsity, accuracies = curve(folder)
        if name.startswith("dense"):
            axes.axhline(accuracies[-1], lw=1, ls=":", color="#888888")
            continue
        axes.plot(sparsity, accuracies, marker=".", lw=1, label=name)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set(xlabel="share of the prunable gammas below 1e-3", ylabel="mAP50-95 of the epoch (dotted: dense)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(file)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="variants by their beginning; all by default")
    options = parser.parse_args()
    entry.choose_device("cpu")
    tables = []
    for variants, origin, settings in ((MODES, start, MORE), (SCHEDULES, dense, LONGER)):
        wanted = [name for name in variants if not options.names or name.startswith(tuple(options.names))]
        folders = {
            name: trained(name, origin(), {"round_to": 1, **settings, **variants[name]}, adjustments(name)).parents[1]
            for name in wanted
        }
        tables.append("\n".join([HEADER, *(row(name, folder) for name, folder in folders.items())]))
        if folders and variants is MODES:
            draw(folders, places.ROOT / "docs" / "assets" / "sparsity.png")
    print(PAGE.format(first=START["epochs"], more=MORE["epochs"], longer=LONGER["epochs"], tables=tables))
