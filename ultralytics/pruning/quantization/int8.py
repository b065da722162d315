"""`export.py --int8`: an ONNX in integers that is faster than the one in float, and as accurate; or none."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from torch import nn

from ..accuracy import titles_of, what_counts
from ..deploy.annotation import annotate
from ..deploy.onnx_files import session_of
from ..errors import PruningError, counted
from ..report import say, table
from .faster import Product, fastest_within
from .ground import COMPARED, Ground, Judged
from .integers import Integers

DEFAULT_DROP = 0.01


class Int8(Judged):
    """Makes the fastest network in integers that loses at most some accuracy."""

    option = "--int8"

    def __init__(self, options: argparse.Namespace) -> None:
        settings = {"format": options.format, **options.settings}
        if str(settings["format"]).lower() != "onnx":
            raise PruningError(f"--int8 makes an ONNX; for format {settings['format']} say quantize=8")
        if idle := [key for key in ("quantize", "dynamic", "batch", "nms") if settings.get(key)]:
            raise PruningError(f"--int8 goes without {idle[0]}=: it makes an ONNX of one image, for the CPU")
        super().__init__(options)

    def __call__(self, onnx: Path, name: str) -> Path:
        """Returns the network in integers, beside the ONNX.

        Args:
            onnx: The network in float.
            name: Of the checkpoint, without its ending.

        Raises:
            PruningError: If it is slower or loses more, unless that is wanted.
        """
        product, drop = onnx.with_name(f"{name}-int8.onnx"), self.options.max_map_drop
        with tempfile.TemporaryDirectory(prefix="integers-") as folder:
            start = Path(shutil.copy(onnx, folder))  # the release measures in the folder of a file
            before = self.ground.accuracy(start)
            found = in_integers(start, self.ground, before - drop)
            say(f"\n{comparison(start, before, found, self.ground.model)}\n")
            if why := shortcomings(found, before, drop):
                if not self.options.force:
                    raise PruningError(f"{why}: nothing was written; --force writes it, --max-map-drop allows more")
                say(f"{why}; written by --force")
            describe(found, before)
            shutil.copy(found.file, product)
        return product


def in_integers(onnx: Path, ground: Ground, least: float) -> Product:
    """Returns the fastest network in integers of at least an accuracy, or the most accurate one; says what it is.

    Args:
        onnx: The network in float, in a folder for whatever is made meanwhile.
        ground: By what it is judged.
        least: The accuracy, in 0..1.
    """
    images = ground.images()
    calibration, compared = images[:-COMPARED] or images, images[-COMPARED:]
    expected = outputs_of(onnx, compared)
    found = fastest_within(
        Integers(onnx, calibration, onnx.parent),
        least,
        differs=lambda file: difference(expected, outputs_of(file, compared)),
        timed=lambda files: ground.ms([onnx, *files]),
        measured=ground.accuracy,
        note=lambda text: say(f"{text} ..."),
    )
    floats = counted(found.choice.begin + len(found.choice.floats), "convolution")
    say(f"\n{floats} in float; ranges of activations by {found.choice.method}, of {len(calibration)} images")
    return found


def describe(found: Product, before: float) -> None:
    """Notes in a file what of it is integers, and what was measured of it; `before` is the accuracy in float."""
    choice = {**asdict(found.choice), "floats": sorted(found.choice.floats)}
    measured = {"faster": round(found.faster, 3), "accuracy": found.accuracy, "float_accuracy": before}
    annotate(found.file, {"integers": json.dumps({**choice, **measured})})


def comparison(onnx: Path, before: float, found: Product, model: nn.Module) -> str:
    """Returns float and integers side by side, as a table."""
    task = getattr(model, "task", None)
    name = titles_of(task)[what_counts(task)]
    rows = []
    for what, file, ms, score in (
        ("float32", onnx, found.before_ms, before),
        ("int8", found.file, found.after_ms, found.accuracy),
    ):
        size = f"{file.stat().st_size / 1e6:.2f}"
        rows.append((what, size, f"{ms:.2f}", f"{found.before_ms / ms:.2f}x", f"{score:.4f}", f"{score - before:+.4f}"))
    return table(("arithmetic", "file MB", "ms", "faster", name, "change"), rows)


def shortcomings(found: Product, before: float, drop: float) -> str:
    """Returns why a network in integers is not worth having, in words; nothing if it is."""
    lost = before - found.accuracy
    if found.faster <= 1:
        return f"int8 is slower on this machine: {found.after_ms:.2f} ms, float32 {found.before_ms:.2f} ms"
    return f"int8 loses {lost:.4f} of the accuracy, {drop:g} is allowed" if lost > drop else ""


def outputs_of(onnx: Path, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns all outputs of an ONNX for some images, one after the other, each in float64."""
    session = session_of(onnx, onnx.name)
    name = session.get_inputs()[0].name
    return [output.astype(np.float64) for image in images for output in session.run(None, {name: image})]


def difference(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    """Returns how far outputs are from what is expected: in each channel, relative to its deviation, on average."""
    each = []
    for ours, theirs in zip(expected, found, strict=True):
        others = tuple(axis for axis in range(ours.ndim) if axis != 1)
        scale = np.sqrt(((ours - ours.mean(others, keepdims=True)) ** 2).mean(others))
        each.append(np.sqrt(((ours - theirs) ** 2).mean(others)) / np.maximum(scale, 1e-6))
    return float(np.mean([values.mean() for values in each]))
