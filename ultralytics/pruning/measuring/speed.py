"""How fast the measured files are: all in turns, on the same images, with the same threads."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PruningError
from ..files import places
from ..latency import turns
from ..latency.files import OPENING, fix_threads, open_file, run_of, without_notice
from ..passes.isolation import isolated
from ..release import quiet_release
from .rows import Measurement

FRAMES = 32  # of a video, at most
PREDICTING = {*OPENING, "conf", "iou", "max_det", "agnostic_nms", "classes", "augment", "rect"}  # settings


def timed(
    rows: Sequence[Measurement],
    paths: Sequence[Path],
    batches: Sequence[int],
    threads: int,
    settings: Mapping[str, Any],
) -> list[Measurement]:
    """Times networks in turns, for each number of images at once those that take it.

    Args:
        rows: What is known of each.
        paths: Their files.
        batches: How many images at once.
        threads: Of the CPU.
        settings: Of the validation, so that what is timed is what was measured.
    """
    rows = list(rows)
    with alike(threads):
        opened = [open_file(path, row.device, threads, settings) for path, row in zip(paths, rows, strict=True)]
        for batch in batches:
            runs = {}
            for number, (network, row) in enumerate(zip(opened, rows, strict=True)):
                if row.takes(batch):
                    shape = (batch, row.shapes.get("channels") or 3, row.imgsz, row.imgsz)
                    runs[number] = run_of(network, shape, augment=bool(settings.get("augment")))
            for number, pace in (turns.paces(runs, threads) if runs else {}).items():
                rows[number] = replace(rows[number], paces={**rows[number].paces, batch: pace})
    return rows


@contextlib.contextmanager
def alike(threads: int) -> Iterator[None]:
    """Opens and runs networks of all formats on as many cores, and says nothing."""
    with isolated(), quiet_release(), without_notice(), turns.on_cores(threads):
        yield


@dataclass(frozen=True)
class Clip:
    """The first frames of a video.

    Attributes:
        file: The video.
        frames: Each (H, W, 3), as OpenCV reads them.
        milliseconds: That it takes to decode one.
    """

    file: Path
    frames: tuple[np.ndarray, ...]
    milliseconds: float


def read_clip(name: str, most: int = FRAMES) -> Clip:
    """Decodes the first frames of a video, at the pace at which they come.

    Raises:
        PruningError: If it is not there, or no frame of it can be read.
    """
    import cv2

    file = places.first_there(name, Path.is_file)
    if file is None:
        raise PruningError(f"--video {name}: no such file; name a video")
    capture = cv2.VideoCapture(str(file))
    frames: list[np.ndarray] = []
    try:
        begin = time.perf_counter()
        while len(frames) < most and (read := capture.read())[0]:
            frames.append(read[1])
        seconds = time.perf_counter() - begin
    finally:
        capture.release()
    if not frames:
        raise PruningError(f"--video {name}: no frame of this video can be read")
    return Clip(file, tuple(frames), seconds / len(frames) * 1e3)


def timed_on(
    clip: Clip, rows: Sequence[Measurement], paths: Sequence[Path], threads: int, settings: Mapping[str, Any]
) -> list[Measurement]:
    """Times networks in turns on the frames of a video, decoded already: with preparing each frame, and NMS.

    Args:
        clip: The video.
        rows: What is known of each.
        paths: Their files.
        threads: Of the CPU.
        settings: Of the validation; those that finding objects in a picture knows, too, are kept.
    """
    kept = {key: settings[key] for key in PREDICTING if key in settings}
    with alike(threads):
        runs = [_on_frames(clip, row, path, threads, kept) for row, path in zip(rows, paths, strict=True)]
        found = turns.paces(dict(enumerate(runs)), threads, rounds=len(clip.frames))
    return [replace(row, frame=found[number]) for number, row in enumerate(rows)]


def _on_frames(
    clip: Clip, row: Measurement, path: Path, threads: int, settings: Mapping[str, Any]
) -> Callable[[], Any]:
    """Returns a function that finds what is in the next frame of a video, which begins anew at its end."""
    from ultralytics.models import YOLO

    model: Any = YOLO(path, task=row.task)
    how = {**settings, "imgsz": row.imgsz, "device": row.device, "save": False, "verbose": False}
    model.predict(clip.frames[0], **how)  # which opens the file
    fix_threads(model.predictor.model, path, threads)
    frames = itertools.cycle(clip.frames)
    return lambda: model.predict(next(frames), **how)
