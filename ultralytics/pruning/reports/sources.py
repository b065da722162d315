"""What a report is asked for, checkpoints and run folders, and which networks, figures and runs that is."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..accuracy import BOXES, OTHERS
from ..errors import PruningError
from ..files.places import located, shown
from ..files.whole import sha256
from ..inputs.documents import found_in, read_json, read_text
from ..runs.moved import relocated

COLUMNS = {column for titles in (BOXES, *OTHERS.values()) for column in titles}  # of accuracies in val.csv


@dataclass(frozen=True)
class Figures:
    """What was measured of a network; None is unknown.

    Attributes:
        source: The name of the table that says so.
        parameters: How many it has.
        macs: Multiply-adds for one image.
        accuracies: In 0..1, by column (see `accuracy.py`); `counts` is the one that counts.
        ms: Milliseconds for one image.
        imgsz: Side of the images in pixels.
        megabytes: Size of the file in 10^6 bytes.
    """

    source: str = ""
    parameters: int | None = None
    macs: float | None = None
    accuracies: dict[str, float] = field(default_factory=dict)
    ms: float | None = None
    imgsz: int | None = None
    megabytes: float | None = None


@dataclass(frozen=True)
class Source:
    """A network that a report is about.

    Attributes:
        name: What it is called.
        path: Its file; None if that is gone, and only figures are left.
        digest: The SHA-256 of the file, or what is known of it.
        figures: What tables say of it.
        compression: The compression that it came out of.
    """

    name: str
    path: Path | None
    digest: str
    figures: Figures = Figures()
    compression: Compression | None = None


@dataclass(frozen=True)
class Compression:
    """The run of a compression.

    Attributes:
        folder: Where it lies.
        recipe: What was asked for, as `state.json` has it.
        rows: Those of `compress.csv`.
        original: The checkpoint that was compressed, if it is there.
    """

    folder: Path
    recipe: dict[str, Any]
    rows: list[dict[str, str]]
    original: Path | None


def sources_of(words: Sequence[str | Path]) -> list[Source]:
    """Returns the networks that some words name, each once, in their order.

    Args:
        words: Checkpoints, and folders of a training, a compression or a measurement.

    Raises:
        PruningError: If one is none of these, or its tables are damaged.
    """
    found: dict[str, Source] = {}
    for word in words:
        for source in _named(Path(word)):
            known = found.get(source.digest)
            found[source.digest] = _merged(known, source) if known else source
    return list(found.values())


def _merged(known: Source, more: Source) -> Source:
    """Returns a network that was named twice with all that is known of it; what was named first decides."""
    figures = known.figures if known.figures.accuracies else more.figures
    ms = known.figures.ms if known.figures.ms is not None else more.figures.ms
    return replace(known, figures=replace(figures, ms=ms), compression=known.compression or more.compression)


def _named(path: Path) -> list[Source]:
    """Returns the networks of a checkpoint or of a run folder."""
    name = shown(path.resolve())
    if path.is_dir():
        if (path / "state.json").is_file():
            return _of_compression(path.resolve())
        if (path / "val.csv").is_file():
            return _of_measurement(path / "val.csv")
        if (path / "weights" / "best.pt").is_file():
            return [_of_file(path.resolve() / "weights" / "best.pt")]
        raise PruningError(f"'{name}' holds neither weights/best.pt nor compress.csv nor val.csv: no run to report on")
    if not path.is_file():
        raise PruningError(f"'{name}' is not there; name checkpoints, .pt, or folders of runs")
    if path.suffix != ".pt":
        raise PruningError(f"'{name}' is neither a .pt nor the folder of a run")
    return [_of_file(path.resolve())]


def _of_file(path: Path, figures: Figures = Figures(), compression: Compression | None = None) -> Source:
    return Source(shown(path), path, sha256(path), figures, compression)


def rows_of(file: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file.

    Raises:
        PruningError: If it is none.
    """
    what = f"'{shown(file)}'"
    with found_in(what, "no table"):
        rows = list(csv.DictReader(read_text(file, what).splitlines()))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("its rows are not of one length")
        return rows


def value_of(row: dict[str, str], *columns: str) -> float | None:
    """Returns the number in the first of some columns that has one; None is unknown.

    Raises:
        ValueError: If it is no number.
    """
    return next((float(row[column]) for column in columns if row.get(column)), None)


def _of_measurement(file: Path) -> list[Source]:
    """Returns the networks of a `val.csv`, with what it says of them."""
    sources, what = [], f"'{shown(file.resolve())}'"
    for row in rows_of(file):
        with found_in(what, "no table of val.py"):
            if not row.get("checkpoint"):
                raise ValueError("a row names no checkpoint")
            gflops, imgsz = value_of(row, "gflops"), value_of(row, "imgsz")
            accuracies = {
                column: value for column in row.keys() & COLUMNS if (value := value_of(row, column)) is not None
            }
            parameters = value_of(row, "parameters")
            figures = Figures(
                source=file.name,
                parameters=None if parameters is None else int(parameters),
                macs=None if gflops is None else gflops * 1e9 / 2,
                accuracies=accuracies,
                ms=value_of(row, "milliseconds", "ms"),
                imgsz=None if imgsz is None else int(imgsz),
                megabytes=value_of(row, "megabytes"),
            )
        path = located(relocated(row["checkpoint"]))
        is_there = path.is_file()
        if is_there and path.stat().st_mtime > file.stat().st_mtime:
            figures = replace(figures, source=f"{file.name}, before the file changed")
        digest = sha256(path) if is_there else f"gone: {row['checkpoint']}"
        sources.append(Source(row["checkpoint"], path.resolve() if is_there else None, digest, figures))
    if not sources:
        raise PruningError(f"{what} has no row yet")
    return sources


def _of_compression(folder: Path) -> list[Source]:
    """Returns the original and the networks that a compression kept."""
    what = f"'{shown(folder / 'state.json')}'"
    state = read_json(folder / "state.json", what)
    with found_in(what, "no state of a compression"):
        recipe = state["recipe"] if isinstance(state, dict) else None
        if not isinstance(recipe, dict) or not all(isinstance(recipe.get(key), str) for key in ("weights", "sha256")):
            raise ValueError("it does not say what was asked for")
    rows = rows_of(folder / "compress.csv") if (folder / "compress.csv").is_file() else []
    kept = [row for row in rows if row.get("kept")]
    files = [_file_of(folder, row.get("step", ""), ladder=bool(recipe.get("milder"))) for row in kept]
    if not kept or not all(file.is_file() for file in files):
        raise PruningError(f"'{shown(folder)}' holds no compressed network yet: the same command goes on with it")

    first = Path(relocated(recipe["weights"], folder, folder))
    is_there = first.is_file() and sha256(first) == recipe["sha256"]
    run = Compression(folder, recipe, rows, first if is_there else None)
    imgsz = (recipe.get("training") or {}).get("imgsz")
    with found_in(f"'{shown(folder / 'compress.csv')}'", "no table of compress.py"):
        figures = [_of_step(row, folder, imgsz) for row in (rows[0], *kept)]
    original = Source(shown(first), run.original, recipe["sha256"], figures[0], run)
    return [original, *(_of_file(file, of, run) for file, of in zip(files, figures[1:], strict=True))]


def _file_of(folder: Path, step: str, *, ladder: bool) -> Path:
    """Returns where the network of a step is kept: of a ladder, it has the number of the target, as the step has."""
    return folder / (f"compressed-{step.rpartition('-')[2]}.pt" if ladder else "compressed.pt")


def _of_step(row: dict[str, str], folder: Path, imgsz: Any) -> Figures:
    """Returns what a row of `compress.csv` says."""
    parameters, macs, accuracy = value_of(row, "parameters"), value_of(row, "macs"), value_of(row, "recovered", "cut")
    if parameters is None or macs is None or accuracy is None:
        raise ValueError("a row lacks parameters, macs or an accuracy")
    return Figures(
        source="compress.csv",
        parameters=int(parameters),
        macs=macs,
        accuracies={"counts": accuracy},
        ms=value_of(row, "ms"),
        imgsz=imgsz if isinstance(imgsz, int) else None,
    )
