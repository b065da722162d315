"""Hostile files for the tests, and how scripts are run on them in this process."""

import os
import pathlib
from pathlib import Path

import torch

from ultralytics.nn import tasks
from ultralytics.pruning import save, trust
from ultralytics.pruning.command_line import entry

TINY = {
    "nc": 10,
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "C2f", [32, 1]]],
    "head": [[[1, 2], 1, "Detect", ["nc"]]],
}
TRUST = trust.VARIABLE
EXEC = r"builtins\.exec"


class Payload:
    """Makes a folder when it is unpickled; what is left in its place is None."""

    def __init__(self, marker: Path, call: str = "exec") -> None:
        self.calls = {
            "exec": (exec, (f"import os; os.makedirs({str(marker)!r})",)),
            "mkdir": (os.mkdir, (str(marker),)),
            "system": (os.system, (f"mkdir {marker}",)),
            "path": (pathlib.Path.mkdir, (marker,)),
        }
        self.call = call

    def __reduce__(self):
        return self.calls[self.call]


NAMES = {"exec": "builtins.exec", "mkdir": "posix.mkdir", "system": "posix.system", "path": "pathlib.Path"}


def no_trust(monkeypatch) -> None:
    """One thread, and no trust from outside."""
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")
    monkeypatch.delenv(TRUST, raising=False)


def tiny(file: Path) -> Path:
    """Writes a tiny checkpoint of ten classes."""
    model = tasks.DetectionModel(TINY, verbose=False)
    model.task, model.names = "detect", {i: str(i) for i in range(10)}
    save(model, file, train_args={"task": "detect", "imgsz": 64, "epochs": 2, "data": "gone.yaml"})
    return file


def raw(file: Path) -> dict:
    """The content of a checkpoint that this test wrote."""
    return torch.load(file, weights_only=False)


def hostile(good: Path, place: str, payload: Payload, file: Path, **how) -> Path:
    """Writes a checkpoint with a payload somewhere in it."""
    content = raw(good)
    if place == "model":
        content["model"].model[0].note = payload
    elif place == "plan":
        content["model"].pruning_plans = [{"settings": payload}]
    elif place == "train_args":
        content["train_args"]["data"] = payload
    elif place == "ema":
        content["ema"] = payload
    elif place == "extra":
        content["note"] = payload
    elif place == "top":
        content = payload
    torch.save(content, file, **how)
    return file


def reading(script: str, file: Path, digits: Path, folder: Path) -> tuple:
    """The words that let a script read a checkpoint."""
    return {
        "prune.py": ("--weights", file, "--save-dir", folder / "out"),
        "val.py": (file, "--data", digits, "--imgsz", 64),
        "vis-bn-weight.py": (file, "--save", folder / "out" / "bn.png"),
        "export.py": ("--weights", file, "--imgsz", 64),
        "report.py": (file, "-o", folder / "out" / "report.html"),
        "latency_table.py": ("--weights", file, "--imgsz", 64, "--output", folder / "out" / "table.json"),
        "compress.py": ("--weights", file, "--data", digits, "--imgsz", 64, "--speed-up", 2),
    }.get(script, ("--weights", file, "--data", digits, "--imgsz", 64, "--epochs", 1))


PLACES = ["model", "plan", "train_args", "ema", "extra", "top"]
