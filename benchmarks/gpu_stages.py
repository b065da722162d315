"""The checks of `benchmarks/gpu.py` that run the scripts, each on what the one before wrote."""

from __future__ import annotations

import functools
import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu_scale import MODES, Scale, folder
from ultralytics.pruning import PruningError, load, plans_of, trace
from ultralytics.pruning.files import places
from ultralytics.pruning.selection.zeros import share_at_zero

SETTINGS = ("nbs=16", "fliplr=0", "mosaic=0.5", "optimizer=AdamW", "lr0=0.001", "plots=False")  # few, small images


def checks(scale: Scale) -> dict[str, Callable[[], str]]:
    """Returns the checks by name."""
    found: dict[str, Callable[[], str]] = {"train-normal.py": functools.partial(normal, scale)}
    for mode in scale.modes:
        found[f"train_sparsity.py, {mode}"] = functools.partial(sparse, scale, mode, scale.device)
    for script, check in (("vis-bn-weight.py", look), ("prune.py", prune), ("finetune.py", finetune)):
        found[script] = functools.partial(check, scale)
    for script, check in (("val.py", val), ("export.py", export), ("compress.py", compress)):
        found[script] = functools.partial(check, scale)
    found["two GPUs"] = functools.partial(two_gpus, scale)
    return found


def run(scale: Scale, script: str, *words: str | Path) -> None:
    """Runs a script: on a GPU in a process of its own, so that one that fails harms no other; else in this process.

    Raises:
        PruningError: If its exit code is not 0; the line is the last that it wrote.
    """
    line = [str(places.ROOT / script), *map(str, words)]
    if scale.device != "cpu":
        log = folder() / f"{script.removesuffix('.py')}.log"
        with log.open("w", encoding="utf-8") as file:
            code = subprocess.run([sys.executable, *line], cwd=places.ROOT, stdout=file, stderr=file).returncode
        last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]
    else:
        code, last, before = 0, "see above", sys.argv
        sys.argv = line
        try:
            runpy.run_path(line[0], run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.argv = before
    if code:
        raise PruningError(f"{script} ended with {code}: {last}")


def weights(name: str, file: str = "best.pt") -> Path:
    """Returns a checkpoint of one of our runs."""
    return places.RUNS / f"gpu-{name}" / "weights" / file


def train(scale: Scale, script: str, name: str, start: str | Path, epochs: int, *words: str, device: str = "") -> Path:
    """Runs a training into `runs/gpu-NAME`; returns its last checkpoint."""
    common = ("--weights", start, "--data", scale.data, "--imgsz", str(scale.imgsz), "--batch", str(scale.batch))
    more = ("--epochs", str(epochs), "--name", f"gpu-{name}", "--overwrite", "--device", device or scale.device)
    run(scale, script, *common, *more, *words, *SETTINGS)
    return weights(name, "last.pt")


def accuracy(path: Path) -> str:
    """Returns the mAP50-95 that a training noted.

    Raises:
        PruningError: If there is none.
    """
    _, content = load(path)
    found = (content.get("train_metrics") or {}).get("metrics/mAP50-95(B)")
    if found is None or not math.isfinite(found):
        raise PruningError(f"'{path}' holds no accuracy")
    return f"mAP50-95 {found:.3f}"


def normal(scale: Scale) -> str:
    """Trains from random weights, with AMP on a GPU."""
    last = train(scale, "train-normal.py", "normal", scale.start, scale.epochs)
    amp = load(last)[1]["train_args"]["amp"]
    if scale.device != "cpu" and not amp:
        raise PruningError("the training ran without AMP")
    return f"{accuracy(last)}, AMP {'on' if amp and scale.device != 'cpu' else 'off'}"


def sparse(scale: Scale, mode: str, device: str) -> str:
    """Trains on in a mode; a steered training leaves channels at exactly zero."""
    several = "," in device
    words = (*MODES[mode], "round_to=1")
    name = f"{mode}-2" if several else mode
    last = train(scale, "train_sparsity.py", name, weights("normal", "last.pt"), scale.fewer, *words, device=device)
    model, _ = load(last)
    zero = share_at_zero(trace(model), model)
    if mode == "steered" and not zero:
        raise PruningError("no channel is at zero at the end")
    return f"{accuracy(last)}, {zero:.0%} of the prunable channels at zero"


def look(scale: Scale) -> str:
    """Draws the scales before and after."""
    picture = folder() / "bn-weights.png"
    run(scale, "vis-bn-weight.py", weights("normal", "last.pt"), weights("steered", "last.pt"), "--save", picture)
    return f"{picture.stat().st_size:,} bytes of {picture.name}"


def prune(scale: Scale) -> str:
    """Cuts what the steered training left at zero."""
    common = ("--weights", weights("steered", "last.pt"), "--save-dir", folder(), "--imgsz", str(scale.imgsz))
    run(scale, "prune.py", *common, "--device", scale.device)  # without --val, whose folder is not ours alone
    plan = plans_of(load(folder() / "pruned.pt")[0])[-1]
    if plan.after.params >= plan.before.params:
        raise PruningError("nothing was cut")
    return f"{plan.before.params:,} to {plan.after.params:,} parameters"


def finetune(scale: Scale) -> str:
    """Trains the pruned network on, at its widths."""
    last = train(scale, "finetune.py", "finetune", folder() / "pruned.pt", scale.fewer)
    widths = [{n: p.shape for n, p in load(path)[0].named_parameters()} for path in (last, folder() / "pruned.pt")]
    if widths[0] != widths[1]:
        raise PruningError("the fine-tuned network has other widths than the pruned one")
    return accuracy(last)


def val(scale: Scale) -> str:
    """Measures the normal and the fine-tuned network."""
    data = ("--data", scale.data, "--imgsz", str(scale.imgsz), "--device", scale.device)
    run(scale, "val.py", weights("normal"), weights("finetune"), "--name", "gpu-val", "--overwrite", *data)
    lines = (places.RUNS / "gpu-val" / "val.csv").read_text(encoding="utf-8").splitlines()
    return f"{len(lines) - 1} networks measured"


def export(scale: Scale) -> str:
    """Exports the fine-tuned network to ONNX, which is compared with it."""
    data = ("--data", scale.data, "--imgsz", str(scale.imgsz), "--device", scale.device)
    run(scale, "export.py", "--weights", weights("finetune"), "--images", "4", *data)
    return f"{weights('finetune').with_suffix('.onnx').stat().st_size / 1e6:.2f} MB of ONNX agree with the checkpoint"


def compress(scale: Scale) -> str:
    """Goes the whole way in one command, with gradients on images and statistics estimated anew."""
    common = ("--weights", weights("normal", "last.pt"), "--data", scale.data, "--imgsz", str(scale.imgsz))
    steps = ("--scheme", "stepwise", "--speed-up", "1.5", "--steps", "2", "--round-to", "1", "--batches", "2")
    epochs = ("--epochs-per-step", "1", "--epochs", str(scale.fewer), "--batch", str(scale.batch))
    name = ("--name", "gpu-compress", "--overwrite", "--device", scale.device)
    run(scale, "compress.py", *common, *steps, *epochs, *name, *SETTINGS)
    result = places.RUNS / "gpu-compress" / "compressed.pt"
    left = sum(parameter.numel() for parameter in load(result)[0].parameters())
    return f"{accuracy(result)}, {left:,} parameters left"


def two_gpus(scale: Scale) -> str:
    """Trains steered on two GPUs, where there are two."""
    if scale.device == "cpu" or torch.cuda.device_count() < 2:
        return f"not run: {torch.cuda.device_count()} GPUs"
    return sparse(scale, "steered", "0,1")
