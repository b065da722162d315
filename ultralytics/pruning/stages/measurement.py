"""What was measured of a checkpoint, as a row of the table and of `val.csv`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..command_line.settling import NEVER_FAIL
from ..passes.accuracy import titles_of, what_counts
from ..report import table

UNWRITTEN = {"csv": False}


@dataclass(frozen=True)
class Measurement:
    """A checkpoint and what was measured; None is unknown.

    Attributes:
        checkpoint: The file.
        task: What the network does, in the release's words.
        classes: How many classes it knows.
        parameters: How many parameters the file holds; in an ONNX file, batch norms are part of the convolutions.
        gflops: 10^9 operations for one image, 2 x multiply-adds.
        megabytes: Size of the file in 10^6 bytes.
        imgsz: Side of the images in pixels.
        batch: Images at once.
        device: Where it ran.
        accuracy: What the release measured, by column (see `accuracy.py`); precision and recall are those at the
            confidence with the best F1.
        milliseconds: Time of the network for one image, without preparing it and without NMS.
        names: Its classes.
        single_cls: Whether it takes all classes of the data set for one.
        shapes: What it shares with its data: `channels`, `kpt_shape`.
    """

    checkpoint: str
    task: str
    classes: int
    parameters: int
    gflops: float | None
    megabytes: float
    imgsz: int
    batch: int
    device: str
    accuracy: dict[str, float | None] = field(default_factory=dict)
    milliseconds: float | None = None
    names: tuple[str, ...] = field(default=(), metadata=UNWRITTEN)
    single_cls: bool = field(default=False, metadata=UNWRITTEN)
    shapes: dict[str, Any] = field(default_factory=dict, metadata=UNWRITTEN)


def write_csv(rows: Sequence[Measurement], path: Path) -> None:
    """Writes the rows; what is unknown is an empty cell."""
    measured = dict.fromkeys(column for row in rows for column in row.accuracy)
    written = [own for own in fields(Measurement) if own.metadata != UNWRITTEN]
    columns = [column for own in written for column in (measured if own.name == "accuracy" else [own.name])]
    how = {"newline": "", "encoding": "utf-8", "errors": NEVER_FAIL}
    with checkpoint.whole_file(path) as temporary, temporary.open("w", **how) as file:  # type: ignore[call-overload]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**asdict(row), **row.accuracy} for row in rows)


def comparison(rows: Sequence[Measurement]) -> str:
    """Returns the table for a person, with the change of what counts from the first row, and what to know about it."""

    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    def change(row: Measurement) -> float | None:
        first, own = (of.accuracy.get(what_counts(of.task)) for of in (rows[0], row))
        comparable = row is not rows[0] and row.task == rows[0].task
        return own - first if comparable and own is not None and first is not None else None

    titles = {column: title for row in rows for column, title in titles_of(row.task).items()}

    cells = [
        (
            row.checkpoint,
            f"{row.parameters:,}",
            cell(row.gflops, ".2f"),
            f"{row.megabytes:.2f}",
            *(cell(row.accuracy.get(column), ".4f") for column in titles),
            cell(change(row), "+.4f"),
            cell(row.milliseconds, ".2f"),
        )
        for row in rows
    ]
    sizes = ("parameters", f"GFLOPs at {rows[0].imgsz} px", "file MB")
    runs = dict.fromkeys((Path(row.checkpoint).suffix, row.device.replace("0", "GPU 0"), row.batch) for row in rows)
    places = ", ".join(f"{kind} on {place} in batches of {batch}" for kind, place, batch in runs)
    notes = f"ms/image is the network alone: {places}."
    if any(row.gflops is not None for row in rows):
        notes += "\nParameters and GFLOPs are those of the deployed network."
    if any(row.gflops is None for row in rows):
        notes += "\nAn .onnx has its batch norms inside the convolutions: fewer parameters for the same network."
    return table(("checkpoint", *sizes, *titles.values(), "change", "ms/image"), cells) + "\n\n" + notes
