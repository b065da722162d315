"""What was measured, as a table for a person, as `val.csv`, and with all that belongs to it as `val.json`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from ..accuracy import titles_of, what_counts
from ..checkpoints import checkpoint
from ..errors import counted
from ..files.whole import whole_file
from ..latency.comparing import BUSY
from ..latency.timing import processor
from ..latency.turns import Pace
from ..report import NEVER_FAIL, table
from .rows import UNWRITTEN, Measurement, Relative, relative
from .speed import Clip

VERSION = 1  # of the layout of val.json


def _batches(rows: Sequence[Measurement]) -> list[int]:
    """Returns for how many images at once something was timed."""
    return sorted({batch for row in rows for batch in row.paces})


def write_csv(rows: Sequence[Measurement], path: Path) -> None:
    """Writes the rows, each with how it compares with the first; what is unknown is an empty cell."""
    written = [_cells_of_csv(row, relative(row, rows[0]), _batches(rows)) for row in rows]
    columns = dict.fromkeys(column for row in written for column in row)
    how = {"newline": "", "encoding": "utf-8", "errors": NEVER_FAIL}
    with whole_file(path) as temporary, temporary.open("w", **how) as file:  # type: ignore[call-overload]
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(written)


def _cells_of_csv(row: Measurement, than: Relative, batches: Sequence[int]) -> dict[str, Any]:
    """Returns a row of `val.csv`."""
    cells: dict[str, Any] = {}
    for entry in fields(row):
        if entry.name == "accuracy":
            cells |= row.accuracy
        elif entry.metadata != UNWRITTEN:
            cells[entry.name] = getattr(row, entry.name)
    cells |= {"parameters_share": than.parameters, "gflops_share": than.gflops, "change": than.change}
    for batch in batches or [1]:
        end, pace = "" if batch == 1 else f"_batch_{batch}", row.paces.get(batch)
        cells |= {f"milliseconds{end}": row.milliseconds(batch), f"spread{end}": pace and pace.spread}
        cells[f"speed_up{end}"] = than.speed.get(batch)
    if row.frame:
        cells |= {"frame_milliseconds": row.frame.median, "frame_spread": row.frame.spread}
        cells["frame_speed_up"] = than.frame
    return cells


def write_json(
    rows: Sequence[Measurement], path: Path, *, data: str, split: str, threads: int | None, clip: Clip | None
) -> None:
    """Writes all that is known of the rows, and where and how it was measured.

    Args:
        rows: What was measured.
        path: Of the file.
        data: The data set.
        split: Of it.
        threads: Of the CPU, where something was timed.
        clip: The video, if there was one.
    """
    import torch

    content = {
        "format": VERSION,
        "data": data,
        "split": split,
        "machine": processor(),
        "gpu": torch.cuda.get_device_name(0) if any(row.device[:1].isdigit() for row in rows) else None,
        "threads": threads,
        "versions": {"torch": torch.__version__, "ultralytics": checkpoint.release_version()},
        "video": clip and _clip(clip),
        "rows": [_entry(row, relative(row, rows[0])) for row in rows],
    }
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="ascii")


def _entry(row: Measurement, than: Relative) -> dict[str, Any]:
    """Returns a row of `val.json`."""
    known = {entry.name: getattr(row, entry.name) for entry in fields(row) if entry.metadata != UNWRITTEN}
    named = [{"class": number, "name": _name(row, number), "ap": ap} for number, ap in row.by_class.items()]
    return {
        **known,
        "relative": asdict(than),
        "timings": [{"batch": batch, **asdict(pace)} for batch, pace in row.paces.items()],
        "frame": row.frame and asdict(row.frame),
        "by_class": named,
    }


def _clip(clip: Clip) -> dict[str, Any]:
    height, width = clip.frames[0].shape[:2]
    frames = {"file": str(clip.file), "frames": len(clip.frames), "height": height, "width": width}
    return {**frames, "decoding": clip.milliseconds}


def comparison(rows: Sequence[Measurement], threads: int | None = None) -> str:
    """Returns the table for a person, with how each compares with the first, and what to know about it.

    Args:
        rows: What was measured.
        threads: Of the CPU, where something was timed.
    """
    measured = {column: title for row in rows for column, title in titles_of(row.task).items()}
    batches, several = _batches(rows), len(rows) > 1

    def cells(row: Measurement) -> list[str]:
        than = relative(row, rows[0])
        shares = [_share(than.parameters)] if several else [], [_share(than.gflops)] if several else []
        found = [row.checkpoint, _cell(row.parameters, "{:,}"), *shares[0], _cell(row.gflops, "{:.2f}"), *shares[1]]
        found += [f"{row.megabytes:.2f}", *(_cell(row.accuracy.get(column), "{:.4f}") for column in measured)]
        found += [_cell(than.change, "{:+.3f}")] if several else []
        for batch in batches:
            pace = row.paces.get(batch)
            found += [_cell(row.milliseconds(batch), "{:.2f}"), _cell(pace and pace.spread, "{:.0%}")]
            found += [_factor(than.speed.get(batch))] if several else []
        return found

    share = ["of first"] if several else []
    titles = ["checkpoint", "parameters", *share, f"GFLOPs at {rows[0].imgsz} px", *share, "file MB"]
    titles += [*measured.values(), *(["change"] if several else [])]
    for batch in batches:
        at = f", {batch} at once" if len(batches) > 1 else ""
        titles += [f"ms/image{at}", "spread", *(["speed"] if several else [])]
    return "\n\n".join([table(titles, [cells(row) for row in rows]), "\n".join(_notes(rows, threads))])


def _cell(value: Any, form: str) -> str:
    """Returns a cell of a table; what is unknown is a dash."""
    return "-" if value is None else form.format(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _factor(value: float | None) -> str:
    """Returns how many times faster: two digits."""
    return _cell(value, "{:.2f}x" if value and value < 0.95 else "{:.1f}x")


def _notes(rows: Sequence[Measurement], threads: int | None) -> Iterable[str]:
    """Returns what to know about the table."""
    if paces := [pace for row in rows for pace in row.paces.values()]:
        runs = dict.fromkeys((row.runtime, row.arithmetic, _place(row)) for row in rows if row.paces)
        where = ", ".join(f"{runtime} in {arithmetic} on {place}" for runtime, arithmetic, place in runs)
        least = min(pace.rounds for pace in paces)
        yield (
            f"ms/image is the network alone, the median of {counted(least, 'round')} or more in turns, "
            f"{counted(threads or 1, 'thread')}: {where}. Within the spread lies half of the rounds."
        )
        if max(pace.spread for pace in paces) > BUSY:
            yield "The machine was busy meanwhile: time them again when it rests."
        yield from _untimed(rows)
    batches = dict.fromkeys((Path(row.checkpoint).suffix or row.format, row.batch) for row in rows)
    yield "Accuracy in batches of " + ", ".join(f"{batch} ({kind})" for kind, batch in batches) + "."
    if any(row.gflops is not None for row in rows):
        yield "Parameters and GFLOPs are those of the deployed network."
    if any(row.format == "onnx" for row in rows):
        yield "An .onnx has its batch norms inside the convolutions: fewer parameters for the same network."


def _place(row: Measurement) -> str:
    return row.device if not row.device[:1].isdigit() else f"GPU {row.device.split(',')[0]}"


def _untimed(rows: Sequence[Measurement]) -> Iterable[str]:
    """Yields which files take another number of images than was timed."""
    for row in rows:
        if row.fixed is not None and any(not row.takes(batch) for batch in _batches(rows)):
            yield f"{row.checkpoint} takes {counted(row.fixed, 'image')} at once and no other number."


def video_table(rows: Sequence[Measurement], clip: Clip) -> str:
    """Returns the table of what a frame of a video takes."""
    height, width = clip.frames[0].shape[:2]

    def cells(row: Measurement, pace: Pace) -> tuple[str, ...]:
        return (
            row.checkpoint,
            f"{pace.median:.2f}",
            f"{pace.spread:.0%}",
            _factor(relative(row, rows[0]).frame),
        )

    name = f"{clip.file.name}, {counted(len(clip.frames), 'frame')} of {width} x {height}"
    found = [cells(row, row.frame) for row in rows if row.frame]
    lines = table((name, "ms/frame", "spread", "speed"), [*found, ("decoding", f"{clip.milliseconds:.2f}", "-", "-")])
    return f"{lines}\n\nms/frame is preparing, network and NMS, in turns; decoding comes before it, once for all."


def class_table(rows: Sequence[Measurement], titles: Sequence[str]) -> str:
    """Returns the table of what counts for each class of each file, a column each; without labels it is a dash."""
    numbers = sorted({number for row in rows for number in row.by_class})
    cells = [
        (_name(rows[0], number), *(_cell(row.by_class.get(number), "{:.4f}") for row in rows)) for number in numbers
    ]
    task = rows[0].task
    return table((f"class: {titles_of(task)[what_counts(task)]}", *titles), cells)


def _name(row: Measurement, number: int) -> str:
    """Returns the name of a class; a network that takes all for one has none for the others."""
    return row.names[number] if number < len(row.names) else str(number)
