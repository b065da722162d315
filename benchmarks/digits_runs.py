"""Trainings of YOLOv8n on the built-in digits that the benchmarks share; one that is finished is not repeated."""

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

from ultralytics import YOLO
from ultralytics.pruning import release
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.data.sets import resolve_data
from ultralytics.pruning.files import places

RUNS = places.RUNS / "sparsity-benchmark"
IMGSZ = 160
DATA = {
    "imgsz": IMGSZ,
    "batch": 16,
    "nbs": 16,
    "fliplr": 0.0,
    "mosaic": 0.5,
    "device": "cpu",
    "workers": 0,
    "plots": False,
    "patience": 0,
}
ADAM = {"optimizer": "AdamW", "lr0": 0.001}
START = {**ADAM, "epochs": 30, "close_mosaic": 10}
MORE = {"epochs": 15, "close_mosaic": 5}


def note(text: str) -> None:
    """Shows progress beside the table."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def silence():
    """Lets nothing of the release through but its warnings."""
    with release.quiet_release(), contextlib.redirect_stdout(io.StringIO()):
        yield


def trained(
    name: str, start: Path | str, settings: dict, changed: tuple[tuple[Any, str, Callable], ...] = (), runs: Path = RUNS
) -> Path:
    """Trains, unless that run is finished already.

    Args:
        name: Of the run.
        start: Checkpoint, or model yaml.
        settings: Training arguments, besides `DATA`.
        changed: Attributes of our own code that are others in this run: object, name, value.
        runs: Folder of the runs.

    Returns:
        The run's last checkpoint.
    """
    folder = runs / "".join(letter if letter.isalnum() or letter in "._=" else "-" for letter in name)
    last = folder / "weights" / "last.pt"
    if not (last.is_file() and checkpoint.is_finished(checkpoint.load(last)[1])):
        note(f"{name}: training for {settings['epochs']} epochs")
        data = resolve_data("digits")
        with contextlib.ExitStack() as stack:
            for target in changed:
                stack.enter_context(mock.patch.object(*target))
            stack.enter_context(silence())
            YOLO(start).train(data=data, project=str(runs), name=folder.name, exist_ok=True, **DATA, **settings)
    return last


def start() -> Path:
    """Returns the best checkpoint of a network trained from random weights."""
    return trained("start", "yolov8n.yaml", START).with_name("best.pt")


def dense() -> Path:
    """Returns the network that all are compared with: `start`, trained on."""
    return trained("dense", start(), {**ADAM, **MORE, "round_to": 1})


def accuracy(file: Path) -> float:
    """Returns the mAP50-95 of a checkpoint on the val split."""
    with silence():
        found = YOLO(file).val(
            data=resolve_data("digits"), imgsz=IMGSZ, device="cpu", plots=False, project=str(RUNS), name="val",
            exist_ok=True, workers=0, verbose=False,
        )  # fmt: skip
    return float(found.box.map)
