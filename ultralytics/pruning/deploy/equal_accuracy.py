"""Whether an exported network is as accurate as its checkpoint, on the labels of a data set."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..accuracy import titles_of, what_counts
from ..errors import PruningError
from ..passes.validating import accuracy_of
from ..report import say

TOLERANCE = 0.002


def check_accuracy(product: Path, weights: Path, data: str, settings: dict[str, Any]) -> None:
    """Measures both on the val split, image by image.

    Args:
        product: The exported file or folder.
        weights: The checkpoint.
        data: The data set.
        settings: The settings of the export.

    Raises:
        PruningError: If they differ by more than `TOLERANCE`.
    """
    if not isinstance(settings["imgsz"], int) or settings.get("nms") is not None:
        return  # the release validates squares, and with its own NMS
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        asked = {"data": data, "imgsz": settings["imgsz"], "batch": 1, "device": "cpu", "rect": False}
        (ours, task), (theirs, _) = (accuracy_of(file, asked, folder) for file in (weights, product))
    name = titles_of(task)[what_counts(task)]
    say(f"{name} of the checkpoint {ours:.4f}, of the product {theirs:.4f} (up to {TOLERANCE:g} apart is allowed)")
    if not abs(ours - theirs) <= TOLERANCE:
        raise PruningError(f"the exported network is less accurate, {theirs:.4f} for {ours:.4f}; it was not kept")
