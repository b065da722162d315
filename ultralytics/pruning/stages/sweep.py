"""Compressions for all combinations of some options: one table and one picture. Several at once through Ray."""

from __future__ import annotations

import csv
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..errors import PruningError, first_line, hint, quoted
from ..files import places
from ..files.locks import alone_in
from ..files.places import shown, write_folder
from ..files.whole import naming_the_disk, whole_file
from ..inputs.documents import read_text
from ..report import NEVER_FAIL, say, table
from ..runs.workers import end_with_parent

SIZES = ("ratio", "speed-up", "latency-speed-up", "target-params")  # keys that say how small
METHODS = ("criterion", "normalize", "per", "scheme", "steps", "epochs-per-step", "epochs", "recalibrate", "round-to")
GRID_KEYS = (*SIZES, *METHODS)
VALUE = re.compile(r"[\w.+-]{1,32}", re.ASCII)  # a number or a name: it becomes part of a folder's name
OPTIONS = {"ratio": "prune-ratio"}  # where the option has another name


@dataclass(frozen=True)
class Combination:
    """One combination.

    Attributes:
        values: By key of the sweep.
        folder: Of its compression.
        words: Its command line, behind the script's name.
    """

    values: dict[str, str]
    folder: Path
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """The combination in words."""
        return ", ".join(f"{key}={value}" for key, value in self.values.items())


def read_grid(words: Sequence[str]) -> dict[str, list[str]]:
    """Reads `key=value,value` words.

    Raises:
        PruningError: If a word is not of that form, or its key is unknown.
    """
    grid: dict[str, list[str]] = {}
    for word in words:
        key, equals, values = word.partition("=")
        if key not in GRID_KEYS:
            meant = hint(key, GRID_KEYS)
            raise PruningError(f"--sweep knows no '{key}'; {meant} (settings of Ultralytics go before --sweep)")
        if not equals or not all(value.strip() for value in values.split(",")):
            raise PruningError(f"--sweep {word}: values are missing, e.g. criterion=slim,lamp")
        if odd := [value for value in values.split(",") if not VALUE.fullmatch(value)]:
            raise PruningError(f"--sweep {key}=: {quoted(odd[0])} is no value of --{OPTIONS.get(key, key)}")
        if key in grid:
            raise PruningError(f"--sweep: {key} is given twice; join its values with commas")
        grid[key] = list(dict.fromkeys(values.split(",")))
    return grid


def combinations_of(
    grid: dict[str, list[str]],
    line: Sequence[str],
    folder: Path,
    *,
    on_gpus: bool = False,
    paths: Mapping[str, str] | None = None,
) -> list[Combination]:
    """Returns the combinations.

    Args:
        grid: The values by key.
        line: The command line with `--sweep`, behind the script's name.
        folder: Of the sweep; those of the combinations lie beside it.
        on_gpus: Whether each combination gets a GPU of its own.
        paths: Where options and settings lead that name files, e.g. `--weights` or `pretrained=`: a combination may run
            in another folder.
    """
    base = without(line, "--sweep", many=True)
    for option in ("--name", "--workers", *(["--device"] if on_gpus else [])):  # Ray shows a combination its GPU alone
        base = without(base, option)
    for name, path in (paths or {}).items():
        if name.startswith("--"):
            base = [*without(base, name), name, path]
        else:
            base = [name + path if word.startswith(name) else word for word in base]
    found = []
    for values in itertools.product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        place = folder.with_name("-".join([folder.name, *(f"{key}={value}" for key, value in chosen.items())]))
        words = [word for key, value in chosen.items() for word in (f"--{OPTIONS.get(key, key)}", value)]
        found.append(Combination(chosen, place, (*base, *words, "--name", place.name)))
    return found


def without(line: Sequence[str], option: str, *, many: bool = False) -> list[str]:
    """Returns a command line without an option and its value, or all the values that follow it."""
    kept: list[str] = []
    words = iter(line)
    for word in words:
        if word.startswith(f"{option}="):
            continue
        if word != option:
            kept.append(word)
            continue
        for value in words:
            if many and not value.startswith("-"):
                continue
            if many:
                kept.append(value)
            break
    return kept


def run_combination(words: Sequence[str], log: str) -> int:
    """Runs a compression in a process of its own, where this one runs; returns its exit code."""
    environment = {**os.environ, "PYTHONIOENCODING": f"utf-8:{NEVER_FAIL}"}  # as the log is read
    line = [sys.executable, str(places.ROOT / "compress.py"), *words]
    with open(log, "w", encoding="utf-8") as file:
        return subprocess.run(
            line, env=environment, stdout=file, stderr=subprocess.STDOUT, preexec_fn=end_with_parent
        ).returncode


def in_parallel(
    combinations: Sequence[Combination], logs: Sequence[Path], workers: int, note: Callable[[int, int], None]
) -> None:
    """Runs combinations through Ray, a GPU for each where there are any.

    Raises:
        PruningError: If Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise PruningError(f"--workers {workers} needs Ray: pip install ray; without it leave --workers out") from error
    where: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise: next to nothing beside any other work
    try:
        ray.init(log_to_driver=False, **where)
        _through_ray(ray, combinations, logs, workers, note)
    except (ray.exceptions.RayError, ConnectionError, ValueError) as error:
        raise PruningError(f"Ray: {first_line(error)}") from error
    finally:
        ray.shutdown()


def _through_ray(
    ray: Any, combinations: Sequence[Combination], logs: Sequence[Path], workers: int, note: Callable[[int, int], None]
) -> None:
    """Keeps as many combinations going as there are workers, until none is left."""
    task = ray.remote(num_cpus=1, num_gpus=1 if ray.cluster_resources().get("GPU") else 0)(_remote)
    waiting: dict[Any, int] = {}
    left = list(enumerate(zip(combinations, logs, strict=True)))
    while waiting or left:
        while left and len(waiting) < workers:
            number, (combination, log) = left.pop(0)
            waiting[task.remote(str(places.ROOT), os.getcwd(), list(combination.words), str(log))] = number
        (ready, *_), _ = ray.wait(list(waiting))
        note(waiting.pop(ready), ray.get(ready))


def _remote(root: str, folder: str, words: list[str], log: str) -> int:
    """Runs a combination on a worker, which begins elsewhere and without this repository on its path."""
    os.chdir(folder if os.path.isdir(folder) else root)  # another machine may have the repository alone
    sys.path.insert(0, root)
    from ultralytics.pruning.stages.sweep import run_combination

    return run_combination(words, log)


def sweep(combinations: Sequence[Combination], folder: Path, workers: int) -> None:
    """Runs all combinations, and writes `sweep.csv` and `sweep.png`.

    Raises:
        PruningError: If one of them failed; the others are in the table.
    """
    with alone_in(folder), naming_the_disk(folder):
        _sweep(combinations, folder, workers)


def _sweep(combinations: Sequence[Combination], folder: Path, workers: int) -> None:
    """Runs all combinations, in a folder in which no other process works."""
    write_folder(folder)
    logs = [folder / f"{combination.folder.name}.log" for combination in combinations]
    codes: dict[int, int] = {}

    def note(number: int, code: int) -> None:
        codes[number] = code
        state = "done" if not code else f"ended with exit code {code}, see {shown(logs[number])}"
        say(f"{len(codes)}/{len(combinations)}  {combinations[number].name}: {state}")

    say(f"{len(combinations)} compressions, {workers} at once; their output goes to {shown(folder)}")
    if workers > 1:
        in_parallel(combinations, logs, workers, note)
    else:
        for number, (combination, log) in enumerate(zip(combinations, logs, strict=True)):
            note(number, run_combination(combination.words, str(log)))

    rows = [row(combination, codes[number], logs[number]) for number, combination in enumerate(combinations)]
    with whole_file(folder / "sweep.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    say("\n" + table(tuple(rows[0]), [tuple(entry.values()) for entry in rows]))
    draw_combinations(rows, list(combinations[0].values), folder / "sweep.png")
    say(f"\nWritten: {shown(folder / 'sweep.csv')} and sweep.png")
    if failed := [logs[number] for number, code in sorted(codes.items()) if code]:
        some = len(failed) < len(combinations)
        count = f"{len(failed)} of the {len(combinations)} compressions" if some else "all compressions"
        raise PruningError(f"{count} failed: see {shown(failed[0])}; the same command repeats just these")


def row(combination: Combination, code: int, log: Path) -> dict[str, str]:
    """Returns what came out of a combination, in words; empty where nothing did."""
    found = {"parameters": "", "macs": "", "left": "", "accuracy": "", "change": "", "seconds": ""}
    file = combination.folder / "compress.csv"
    if file.is_file():
        try:
            found = _outcome(read_text(file, f"'{shown(file)}'"))
        except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError, csv.Error) as error:
            advice = "delete it; the same command makes it again"
            raise PruningError(f"'{shown(file)}' is damaged ({first_line(error)}): {advice}") from error
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] if code else []
    return {**combination.values, **found, "failed": " ".join(said).partition("error: ")[2] or " ".join(said)}


def _outcome(text: str) -> dict[str, str]:
    """Returns what the text of a `compress.csv` says of the network that was kept, in words."""
    steps = list(csv.DictReader(text.splitlines()))
    first, last = steps[0], next((step for step in steps if step.get("kept")), steps[-1])
    accuracy, before = (float(step["recovered"] or step["cut"]) for step in (last, first))
    return {
        "parameters": last["parameters"],
        "macs": last["macs"],
        "left": f"{int(last['macs']) / int(first['macs']):.1%}",
        "accuracy": f"{accuracy:.4f}",
        "change": f"{accuracy - before:+.4f}",
        "seconds": f"{sum(float(step['seconds']) for step in steps[1:]):.0f}",
    }


def draw_combinations(rows: Sequence[dict[str, str]], keys: Sequence[str], path: Path) -> None:
    """Draws accuracy over multiply-adds, a line for each combination of the keys that do not say how small."""
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    lines: dict[str, list[tuple[float, float]]] = {}
    for entry in rows:
        if entry["accuracy"]:
            name = ", ".join(entry[key] for key in keys if key not in SIZES) or "accuracy"
            lines.setdefault(name, []).append((int(entry["macs"]) / 1e9, float(entry["accuracy"])))
    for name, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", lw=1, label=name)
    axes.set(xlabel="multiply-adds in 10^9", ylabel="accuracy on the val split")
    axes.spines[["top", "right"]].set_visible(False)
    if lines:
        axes.legend(fontsize=8, frameon=False)
    with whole_file(path) as file:
        figure.savefig(file)
