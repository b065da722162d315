"""The cells of `versus.py`: a method, at a share of the multiply-adds, by a seed; each is measured once and kept."""

from __future__ import annotations

import importlib.metadata
import json
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rivals import RIVALS
from versus_ground import Ground, Job, Made, accuracy, cost_of_file, exported, logged
from versus_ours import METHODS as OURS
from versus_ours import integers

from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.command_line.devices import cores
from ultralytics.pruning.errors import PruningError, first_line
from ultralytics.pruning.files.locks import take, waiting
from ultralytics.pruning.files.whole import whole_file
from ultralytics.pruning.latency import Runtime
from ultralytics.pruning.latency.timing import processor
from ultralytics.pruning.latency.turns import paces
from ultralytics.pruning.report import say

PACKAGES = ("torch", "torch-pruning", "onnxruntime", "onnx")
PATIENCE = 20  # seconds before it is looked again whether another process has done what a cell needs
DENSE = "dense"


@dataclass(frozen=True)
class Method:
    """A way to a smaller network.

    Attributes:
        make: What does it.
        needs: The method whose network it begins with.
        at_levels: Whether it makes one for each share of the multiply-adds.
        headline: Whether it is among those that matter most.
        alone: Whether it times networks: it is made by `--time`.
    """

    make: Callable[[Job], Made]
    needs: str = ""
    at_levels: bool = True
    headline: bool = False
    alone: bool = False


HEADLINES = ("dense, trained on", "forks, SGD lr0=0.01", "Torch-Pruning, global", "ours")
ALL = {**RIVALS, **OURS}
NEEDS = {"ours, by milliseconds": "ours"}
METHODS = {
    **{
        name: Method(ALL[name], NEEDS.get(name, ""), name != HEADLINES[0], name in HEADLINES)
        for name in sorted(ALL, key=lambda name: name not in HEADLINES)
    },
    "dense, int8": Method(lambda job: integers(job, HEADLINES[0]), HEADLINES[0], at_levels=False, alone=True),
    "ours, int8": Method(lambda job: integers(job, "ours"), "ours", alone=True),
}
ORDER = (*list(RIVALS)[:3], "dense, int8", *list(RIVALS)[3:], *OURS, "ours, int8")  # of a table's rows


@dataclass(frozen=True)
class Cell:
    """A method at a share of the multiply-adds.

    Attributes:
        ground: What all methods share.
        method: A key of `METHODS`.
        level: The share; None where the method has none.
    """

    ground: Ground
    method: str
    level: float | None

    @property
    def key(self) -> str:
        """What tells it from others."""
        share = "" if self.level is None else f", {self.level:g} of the multiply-adds"
        return f"{self.ground.name}, seed {self.ground.seed}{share}: {self.method}"

    @property
    def needed(self) -> Cell | None:
        """The cell whose network it begins with."""
        name = METHODS[self.method].needs
        return replace(self, method=name, level=self.level if METHODS[name].at_levels else None) if name else None


def known(runs: Path) -> dict[str, Any]:
    """Returns all that was measured: `cells`, milliseconds as `ms` by ground and cell, `failed`, `sizes`."""
    file = runs / "found.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {"cells": {}, "ms": {}, "failed": {}, "sizes": {}, **found}


def keep(runs: Path, part: str, key: str, found: Any) -> None:
    """Adds something to what was measured; what failed before and is there now has not failed."""
    file = runs / "found.json"
    with waiting(file):
        content = known(runs)
        content[part][key] = found
        if part == "cells":
            content["failed"].pop(key, None)
        with whole_file(file) as whole:
            whole.write_text(json.dumps(content, indent=1), encoding="utf-8")


def cell_done(cell: Cell, runs: Path) -> bool:
    """Makes and measures a cell's network, unless that is done.

    Returns:
        False if another process is at it.

    Raises:
        Exception: What a method raises; it is in the log of the cell, and kept as the reason why there is no row.
    """
    folder = runs / "".join(letter if letter.isalnum() else "-" for letter in cell.key)
    try:
        lock = take(folder)
    except PruningError as error:
        if isinstance(error.__cause__, BlockingIOError):
            return False
        raise
    try:
        if cell.key not in known(runs)["cells"]:
            make(cell, folder, runs)
        return True
    finally:
        lock.release()


def make(cell: Cell, folder: Path, runs: Path) -> None:
    """Makes and measures a cell's network, and keeps its row, or why there is none."""
    resumed, start = folder.is_dir(), time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    say(f"{cell.key} ...")
    with logged(folder / "log.txt"):
        try:
            row = measured(cell, folder, runs)
        except Exception as error:
            traceback.print_exc()
            keep(runs, "failed", cell.key, first_line(error))
            raise
    row |= {"seconds": round(time.perf_counter() - start, 1), "resumed": resumed}
    keep(runs, "cells", cell.key, row)
    say(f"{cell.key}: mAP50-95 {row['map']:.4f}, {row['left']:.1%} left, {row['seconds']:.0f} s")


def measured(cell: Cell, folder: Path, runs: Path) -> dict[str, Any]:
    """Makes and measures a cell's network; returns its row."""
    ground, method = cell.ground, METHODS[cell.method]
    torch.set_num_threads(1 if ground.device == "cpu" else cores())
    begins = cell.needed
    made = {begins.method: runs / known(runs)["cells"][begins.key]["file"]} if begins else {}
    product = method.make(Job(ground, cell.level or 0.5, folder, made))
    cost, whole = cost_of_file(product.network or product.file, product.imgsz), ground.cost()
    return {
        "ground": ground.name,
        "title": ground.title,
        "method": cell.method,
        "level": cell.level,
        "seed": ground.seed,
        "epochs": ground.epochs,
        "device": ground.device,
        "file": str(product.file.relative_to(runs)),
        "imgsz": product.imgsz,
        **accuracy(product, ground, folder),
        "params": cost.deployed,
        "macs": cost.macs,
        "gflops": cost.gflops,
        "left": cost.macs / whole.macs,
        "settings": {**product.settings, "batch": ground.batch, "nbs": ground.batch},
        "sha256 of the dense network": checkpoint.sha256(ground.weights),
        "versions": {
            "ultralytics": checkpoint.release_version(),
            **{name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "machine": processor(),
    }


def cells_done(cells: Sequence[Cell], runs: Path, publish: Callable[[], None]) -> None:
    """Goes through cells until all are done, those that wait for another one or another process last."""
    left = list(cells)
    while left:
        later, failed = [], set()
        for cell in left:
            done = known(runs)["cells"]
            if cell.needed and cell.needed.key not in done:
                if cell.needed in left:
                    later.append(cell)
                else:
                    say(f"{cell.key}: needs '{cell.needed.method}' first")
                continue
            try:
                if not cell_done(cell, runs):
                    later.append(cell)
                    continue
            except Exception as error:  # the others go on; the next start tries this one again
                failed.add(cell)
                say(f"{cell.key}: {type(error).__name__}: {first_line(error)}")
            publish()
        later = [cell for cell in later if cell.needed not in failed]
        if len(later) == len(left):
            time.sleep(PATIENCE)
        left = later


def of_ground(found: dict[str, Any], ground: str) -> dict[str, dict[str, Any]]:
    """Returns the rows of a ground, of all seeds and levels."""
    return {key: row for key, row in found["cells"].items() if row["ground"] == ground}


def timed(ground: Ground, runs: Path, threads: int, rounds: int) -> None:
    """Times all networks that there are of a ground, of all seeds and levels, and the dense one, in turns.

    Args:
        ground: What all methods share.
        runs: Folder of the runs.
        threads: Of the CPU.
        rounds: Of the timing in turns, of which the best counts.
    """
    rows = of_ground(known(runs), ground.name)
    dense = runs / "dense" / f"{checkpoint.sha256(ground.weights)[:12]}.pt"
    dense.parent.mkdir(parents=True, exist_ok=True)
    if not dense.is_file():
        checkpoint.save(checkpoint.load(ground.weights)[0], dense)
    files = {DENSE: (dense, ground.imgsz), **{key: (runs / row["file"], row["imgsz"]) for key, row in rows.items()}}
    runtime, model = Runtime("onnxruntime", threads), checkpoint.load(dense)[0]
    say(f"{ground.name}: {len(files)} networks in turns ...")
    ways = {key: runtime.network(model, imgsz, exported(file, imgsz)) for key, (file, imgsz) in files.items()}
    found = [paces(ways, threads) for _ in range(rounds)]
    ms = {key: min(each[key].median for each in found) for key in ways}
    keep(runs, "ms", ground.name, {"networks": ms, **runtime.about()})
