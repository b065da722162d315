"""What was measured of a file, and how it compares with the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..accuracy import what_counts
from ..latency.turns import Pace

UNWRITTEN = {"csv": False}


@dataclass(frozen=True)
class Measurement:
    """A file and what was measured; None is unknown.

    Attributes:
        checkpoint: The file, or folder.
        task: What the network does, in the release's words.
        classes: How many classes it knows.
        parameters: How many parameters the file holds; in an ONNX file, batch norms are part of the convolutions.
        gflops: 10^9 operations for one image, 2 x multiply-adds.
        megabytes: Size of the file in 10^6 bytes.
        imgsz: Side of the images in pixels.
        batch: Images at once, when the accuracy was measured.
        device: Where it ran.
        format: In the release's words, `pt` for a checkpoint.
        runtime: What ran it, with its version.
        arithmetic: `float32`, `float16`, `int8`, or another of the release's words.
        accuracy: What the release measured, by column (see `accuracy.py`); precision and recall are those at the
            confidence with the best F1.
        by_class: What counts for each class, by its number; None for one without labels. Empty if nobody asked.
        paces: How long it takes for so many images at once.
        frame: How long it takes for a frame of a video, with preparing it and NMS.
        fixed: How many images at once it takes; None if any number.
        names: Its classes.
        single_cls: Whether it takes all classes of the data set for one.
        shapes: What it shares with its data: `channels`, `kpt_shape`.
    """

    checkpoint: str
    task: str
    classes: int
    parameters: int | None
    gflops: float | None
    megabytes: float
    imgsz: int
    batch: int
    device: str
    format: str = "pt"
    runtime: str = ""
    arithmetic: str = "float32"
    accuracy: dict[str, float | None] = field(default_factory=dict)
    by_class: dict[int, float | None] = field(default_factory=dict, metadata=UNWRITTEN)
    paces: dict[int, Pace] = field(default_factory=dict, metadata=UNWRITTEN)
    frame: Pace | None = field(default=None, metadata=UNWRITTEN)
    fixed: int | None = field(default=None, metadata=UNWRITTEN)
    names: tuple[str, ...] = field(default=(), metadata=UNWRITTEN)
    single_cls: bool = field(default=False, metadata=UNWRITTEN)
    shapes: dict[str, Any] = field(default_factory=dict, metadata=UNWRITTEN)

    def takes(self, batch: int) -> bool:
        """Whether it takes so many images at once."""
        return self.fixed in (None, batch)

    def milliseconds(self, batch: int = 1) -> float | None:
        """Returns how long one image takes, of so many at once."""
        pace = self.paces.get(batch)
        return pace.median / batch if pace else None


@dataclass(frozen=True)
class Relative:
    """A row compared with the first; None where one of both is unknown, and in the first itself.

    Attributes:
        parameters: As a share.
        gflops: As a share.
        change: How much higher what counts is.
        speed: How many times faster, by how many images at once.
        frame: How many times faster on a video.
    """

    parameters: float | None
    gflops: float | None
    change: float | None
    speed: Mapping[int, float | None]
    frame: float | None


def relative(row: Measurement, first: Measurement) -> Relative:
    """Compares a row with the first one."""
    if row is first:
        return Relative(None, None, None, {}, None)
    change = None
    if row.task == first.task:
        before, after = (each.accuracy.get(what_counts(each.task)) for each in (first, row))
        change = None if before is None or after is None else after - before
    return Relative(
        _quotient(row.parameters, first.parameters),
        _quotient(row.gflops, first.gflops),
        change,
        {batch: _quotient(first.milliseconds(batch), row.milliseconds(batch)) for batch in first.paces},
        _quotient(_median(first.frame), _median(row.frame)),
    )


def _median(pace: Pace | None) -> float | None:
    return pace.median if pace else None


def _quotient(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below
