"""Compares the modes of sparsity training on the built-in digits: `python benchmarks/sparsity.py > docs/sparsity.md`.

A YOLOv8n is trained from random weights; each mode then trains it on for the same number of epochs, and so does the
dense network that all are compared with. What is measured: the accuracy over the sparsity, epoch by epoch, and the
accuracy right after cutting, before any fine-tuning. A run that is finished is not trained again, so that the
benchmark can be interrupted. About an hour on two CPU cores. Also draws assets/sparsity.png.
"""

import argparse
import contextlib
import csv
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import numpy as np
from matplotlib.figure import Figure

from ultralytics import YOLO
from ultralytics.pruning import checkpoint, save, stages, trace
from ultralytics.pruning.pipeline import prune_network
from ultralytics.pruning.sparsity.steering import Steering
from ultralytics.pruning.zeros import LEAST_SHARE, share_at_zero

RUNS = stages.RUNS / "sparsity-benchmark"
DATA = {
    "imgsz": 160,
    "batch": 16,
    "nbs": 16,
    "fliplr": 0.0,
    "mosaic": 0.5,
    "device": "cpu",
    "workers": 0,
    "plots": False,
}
ADAM = {"optimizer": "AdamW", "lr0": 0.001}
SGD = {"optimizer": "SGD", "lr0": 0.01, "warmup_epochs": 1}
START = {**ADAM, "epochs": 30, "close_mosaic": 10}
EPOCHS = 15
MORE = {"epochs": EPOCHS, "close_mosaic": 5, "patience": 0, "round_to": 1}
VARIANTS = {
    "dense": ADAM,
    "subgradient, sr=0.035": {**SGD, "sr": 0.035},
    "proximal, target_sparsity=0.5": {**ADAM, "sparsity": "proximal", "target_sparsity": 0.5},
    "group, target_sparsity=0.5": {**ADAM, "sparsity": "group", "target_sparsity": 0.5},
    "steered, target_sparsity=0.5": {**ADAM, "sparsity": "steered", "target_sparsity": 0.5},
    "steered, target_speed_up=2.5": {**ADAM, "sparsity": "steered", "target_speed_up": 2.5},
    "steered, target_speed_up=2.5, score per multiply-add": {**ADAM, "sparsity": "steered", "target_speed_up": 2.5},
    "steered, target_speed_up=2.5, score per layer": {**ADAM, "sparsity": "steered", "target_speed_up": 2.5},
}
RATIOS = (0.2, 0.4, 0.6)


def per_multiply_add(steering: Steering) -> np.ndarray:
    """Divides the importance of a group by the multiply-adds that it costs."""
    scores, cost = own_scores(steering), np.zeros(len(steering.removed))
    for layer in steering._map.layers.values():
        if layer.has_filters:
            each = layer.cells * layer.kernel_cells / layer.conv_groups
            np.add.at(cost, layer.outputs, each * len(layer.inputs))
            np.add.at(cost, layer.inputs, each * len(layer.outputs))
    return scores / cost.clip(1)


def per_layer(steering: Steering) -> np.ndarray:
    """Divides the importance of a group by the mean over the layer that makes it."""
    scores = own_scores(steering)
    means, members = np.zeros(len(scores)), np.zeros(len(scores))
    for layer in steering._map.layers.values():
        if layer.has_filters and not np.isnan(scores[layer.outputs]).all():
            np.add.at(means, layer.outputs, np.nanmean(scores[layer.outputs]))
            np.add.at(members, layer.outputs, 1)
    return scores * members.clip(1) / means.clip(1e-30)


own_scores = Steering.scores
SCORES = {"score per multiply-add": per_multiply_add, "score per layer": per_layer}


def note(text: str) -> None:
    """Shows progress beside the table."""
    print(text, file=sys.stderr, flush=True)


def trained(name: str, start: Path | str, settings: dict) -> Path:
    """Trains, unless that run is finished already; returns the run's folder."""
    folder = RUNS / "".join(letter if letter.isalnum() or letter in "._=" else "-" for letter in name)
    last = folder / "weights" / "last.pt"
    if not (last.is_file() and checkpoint.is_finished(checkpoint.load(last)[1])):
        note(f"{name}: training for {settings['epochs']} epochs")
        Steering.scores = SCORES.get(name.split(", ")[-1], own_scores)
        data = stages.resolve_data("digits")
        with stages.quiet_release(), contextlib.redirect_stdout(io.StringIO()):
            YOLO(start).train(data=data, project=str(RUNS), name=folder.name, exist_ok=True, **DATA, **settings)
    return folder


def accuracy(file: Path) -> float:
    """Returns the mAP50-95 of a checkpoint on the val split."""
    with stages.quiet_release(), contextlib.redirect_stdout(io.StringIO()):
        found = YOLO(file).val(
            data=stages.resolve_data("digits"), imgsz=160, device="cpu", plots=False, project=str(RUNS), name="val",
            exist_ok=True, workers=0, verbose=False,
        )  # fmt: skip
    return float(found.box.map)


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
    stages.choose_device("cpu")
    start = trained("start", "yolov8n.yaml", START) / "weights" / "best.pt"
    wanted = [name for name in VARIANTS if not options.names or name.startswith(tuple(options.names))]
    folders = {name: trained(name, start, {**MORE, **VARIANTS[name]}) for name in wanted}
    rows = [row(name, folder) for name, folder in folders.items()]
    draw(folders, stages.ROOT / "assets" / "sparsity.png")
    print("# Sparsity training, mode by mode\n")
    print("Made by `python benchmarks/sparsity.py > docs/sparsity.md`: YOLOv8n on the built-in digits at 160 pixels,")
    print(f"{START['epochs']} epochs dense from random weights, then {EPOCHS} epochs of each mode; mAP50-95.\n")
    print("| mode | < 1e-3 | at zero | before | zeros cut (multiply-adds left) | 20 % cut | 40 % cut | 60 % cut |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(rows))
    print(
        "\nCut right after the sparsity training, with folding, before any fine-tuning; the ratios by one threshold for"
    )
    print("the whole network (`--prune-ratio R --round-to 1`). The accuracy over the sparsity, epoch by epoch:\n")
    print("![Accuracy over sparsity](../assets/sparsity.png)")
