"""What was measured of checkpoints, as tables: that of `val.py`, with `val.csv`, and that at the end of a training."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..accuracy import accuracy, titles_of, what_counts
from ..checkpoints import checkpoint
from ..command_line.settling import NEVER_FAIL
from ..cost import cost_of
from ..files.places import shown
from ..gammas import prunable_values
from ..plans.tables import deployed_note
from ..report import pixels, table
from ..tracing.trace import trace
from .sparsity import Trained

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
    written = [entry.name for entry in fields(Measurement) if entry.metadata != UNWRITTEN]
    columns = [column for name in written for column in (measured if name == "accuracy" else [name])]
    how = {"newline": "", "encoding": "utf-8", "errors": NEVER_FAIL}
    with checkpoint.whole_file(path) as temporary, temporary.open("w", **how) as file:  # type: ignore[call-overload]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**asdict(row), **row.accuracy} for row in rows)


def comparison(rows: Sequence[Measurement]) -> str:
    """Returns the table for a person, with the change of what counts from the first row, and what to know about it."""
    measured = {column: title for row in rows for column, title in titles_of(row.task).items()}
    sizes = ("parameters", f"GFLOPs at {rows[0].imgsz} px", "file MB")
    titles = ("checkpoint", *sizes, *measured.values(), "change", "ms/image")
    return table(titles, [_cells(row, rows[0], measured) for row in rows]) + "\n\n" + _notes(rows)


def _cells(row: Measurement, first: Measurement, columns: Iterable[str]) -> tuple[str, ...]:
    """Returns a row of the table; what is unknown is a dash.

    Args:
        row: The measurement.
        first: That of the first row.
        columns: Which accuracies there are.
    """

    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        row.checkpoint,
        f"{row.parameters:,}",
        cell(row.gflops, ".2f"),
        f"{row.megabytes:.2f}",
        *(cell(row.accuracy.get(column), ".4f") for column in columns),
        cell(_change(row, first), "+.4f"),
        cell(row.milliseconds, ".2f"),
    )


def _change(row: Measurement, first: Measurement) -> float | None:
    """Returns how much higher what counts is than in the first row; None there, and where it cannot be compared."""
    if row is first or row.task != first.task:
        return None
    before, after = (each.accuracy.get(what_counts(each.task)) for each in (first, row))
    return None if before is None or after is None else after - before


def _notes(rows: Sequence[Measurement]) -> str:
    """Returns what to know about the table."""
    runs = dict.fromkeys((Path(row.checkpoint).suffix, row.device.replace("0", "GPU 0"), row.batch) for row in rows)
    places = ", ".join(f"{kind} on {place} in batches of {batch}" for kind, place, batch in runs)
    notes = f"ms/image is the network alone: {places}."
    if any(row.gflops is not None for row in rows):
        notes += "\nParameters and GFLOPs are those of the deployed network."
    if any(row.gflops is None for row in rows):
        notes += "\nAn .onnx has its batch norms inside the convolutions: fewer parameters for the same network."
    return notes


def training_summary(folder: Path) -> tuple[str, Trained]:
    """Returns the table at the end of a training stage, both checkpoints' size, accuracy and gammas, and `last.pt`."""
    weights = folder / "weights"
    best = [weights / "best.pt"] if (weights / "best.pt").is_file() else []
    rows, notes = [], set()
    for path in (*best, weights / "last.pt"):
        model, content = checkpoint.load(path)
        trained = Trained(model, content, trace(model, imgsz=checkpoint.image_size(content)))
        rows.append((shown(path), *_measured(trained)))
        notes.add(deployed_note(cost_of(trained.channel_map)))

    size = f"GFLOPs at {pixels(checkpoint.image_size(trained.content))} px"
    what = titles_of(trained.model.task)[what_counts(trained.model.task)]
    titles = ("checkpoint", "parameters", size, what, "|gamma| < 1e-2", "|gamma| < 1e-3")
    return "\n" + table(titles, rows) + "".join(sorted(notes)), trained


def _measured(trained: Trained) -> tuple[str, ...]:
    """Returns size, cost, accuracy, and shares of small gammas of a checkpoint, in words."""
    cost = cost_of(trained.channel_map)
    score = accuracy(trained.content.get("train_metrics") or {}, trained.model.task)
    gammas = prunable_values(trained.channel_map, trained.model)
    return (
        f"{cost.deployed:,}",
        f"{cost.gflops:.2f}",
        "-" if score is None else f"{score:.4f}",
        f"{np.mean(gammas < 1e-2):.1%}",
        f"{np.mean(gammas < 1e-3):.1%}",
    )
