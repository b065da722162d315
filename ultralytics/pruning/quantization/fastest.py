"""`export.py --fastest`: every format that runs here, in float and integers; the fastest of small loss is kept."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import packages
from ..accuracy import titles_of, what_counts
from ..deploy import exporting
from ..errors import PruningError, typed_line
from ..latency import turns
from ..latency.files import arithmetic_of, open_file, run_of
from ..measuring.speed import alike
from ..release import quiet_release
from ..report import say, table
from ..tracing.trace import image_shape
from .ground import Ground, Judged
from .int8 import describe, in_integers

ORIGINAL = "onnx"


@dataclass(frozen=True)
class Tried:
    """A product that may be the fastest.

    Attributes:
        name: Its format, and `int8` if it is in integers.
        file: The product, a file or a folder.
        accuracy: In 0..1.
        ms: Milliseconds for an image: the median of many in turns with the others.
        arithmetic: What its runtime computes in, where that is another one than the file's.
    """

    name: str
    file: Path
    accuracy: float
    ms: float
    arithmetic: str = ""


class Fastest(Judged):
    """Makes the product that is the fastest on this machine, of those that lose at most some accuracy."""

    option = "--fastest"

    def __init__(self, options: argparse.Namespace) -> None:
        said = getattr(options, "said", ())
        if "format" in said or options.settings.keys() & {"format", "quantize", "dynamic", "batch", "nms"}:
            raise PruningError("--fastest tries all formats, for one image: leave out --format, quantize=, batch=, ...")
        super().__init__(options)

    def __call__(self, onnx: Path, name: str) -> Path:
        """Returns the fastest product, beside the ONNX.

        Args:
            onnx: The network in float, beside its checkpoint.
            name: Of the checkpoint, without its ending.
        """
        with tempfile.TemporaryDirectory(prefix="fastest-") as folder:
            made = products(onnx.with_suffix(".pt"), onnx, self.ground, self.options.max_map_drop, Path(folder))
            ms, chosen = timed({each: file for each, (file, _) in made.items()}, self.ground)
            found = [Tried(each, file, score, ms[each], chosen[each]) for each, (file, score) in made.items()]
            first = found[0]
            fit = [each for each in found if each.accuracy >= first.accuracy - self.options.max_map_drop]
            best = min(fit, key=lambda each: each.ms)
            say(f"\n{comparison(found, best, getattr(self.ground.model, 'task', None))}\n")
            product = onnx.with_name(best.file.name.replace("network", name, 1))
            if best is first:
                return onnx
            copied = shutil.copytree if best.file.is_dir() else shutil.copy
            copied(best.file, product)
        return product


def products(weights: Path, onnx: Path, ground: Ground, drop: float, folder: Path) -> dict[str, tuple[Path, float]]:
    """Exports and measures whatever runs here.

    Args:
        weights: The checkpoint.
        onnx: The ONNX of it in float.
        ground: By what products are judged.
        drop: How much accuracy integers may cost, in 0..1.
        folder: Where products go.

    Returns:
        By name, the ONNX in float first: the product, a file or a folder, and its accuracy in 0..1.
    """
    (folder / ORIGINAL).mkdir()
    start = Path(shutil.copy(onnx, folder / ORIGINAL / "network.onnx"))
    found = {ORIGINAL: (start, ground.accuracy(start))}
    for name, make in _makers(weights, start, ground, found[ORIGINAL][1], drop).items():
        say(f"trying {name} ...")
        place = folder / name.replace(" ", "-")
        place.mkdir()
        try:
            product = make(place)
            found[name] = product, ground.accuracy(product)
        except Exception as error:  # each converter and each runtime raises what it raises
            say(f"{name}: left out ({typed_line(error)[:200]})")
    return found


def _makers(weights: Path, onnx: Path, ground: Ground, before: float, drop: float) -> dict[str, Callable[[Path], Path]]:
    """Returns what makes each product that runs here, in a folder of its own; `before` is the accuracy in float."""

    def exported(place: Path, settings: dict[str, Any]) -> Path:
        copy = Path(shutil.copy(weights, place / "network.pt"))
        with quiet_release(), _in_silence():
            return exporting.export_by_release(copy, {"imgsz": ground.imgsz, "device": "cpu", **settings})

    def int8(place: Path) -> Path:
        found = in_integers(Path(shutil.copy(onnx, place / "float.onnx")), ground, before - drop)
        describe(found, before)
        return Path(shutil.copy(found.file, place / "network-int8.onnx"))

    def by_release(**settings: Any) -> Callable[[Path], Path]:
        return lambda place: exported(place, settings)

    makers: dict[str, Callable[[Path], Path]] = {"onnx int8": int8}
    for name in ("torchscript", "openvino", "ncnn"):
        if exporting.runs_here(name) and all(map(packages.is_there, packages.FORMATS.get(name, ()))):
            makers[name] = by_release(format=name)
    if "openvino" in makers and packages.is_there("nncf"):
        makers["openvino int8"] = by_release(format="openvino", quantize=8, data=ground.data, split="train")
    return makers


def timed(files: dict[str, Path], ground: Ground) -> tuple[dict[str, float], dict[str, str]]:
    """Times files in turns; returns the milliseconds of each, and the arithmetic that its runtime chose by itself."""
    shape = (1, image_shape(ground.model, 1)[1], ground.imgsz, ground.imgsz)
    with alike(ground.threads):
        opened = {name: open_file(file, "cpu", ground.threads, {}) for name, file in files.items()}
        found = turns.paces({name: run_of(network, shape) for name, network in opened.items()}, ground.threads)
    chosen = {name: arithmetic_of(network) or "" for name, network in opened.items()}
    return {name: pace.median for name, pace in found.items()}, chosen


def comparison(found: list[Tried], best: Tried, task: str | None) -> str:
    """Returns all that was tried as a table, relative to the first."""
    first = found[0]
    title = titles_of(task)[what_counts(task)]

    def row(each: Tried) -> tuple[str, ...]:
        odd = each.arithmetic if each.arithmetic != "float32" and "int8" not in each.name else ""
        speed, change = f"{first.ms / each.ms:.2f}x", f"{each.accuracy - first.accuracy:+.4f}"
        return (
            f"{each.name} {odd}".strip(), f"{each.ms:.2f}", speed, f"{each.accuracy:.4f}", change,
            "yes" if each is best else "",
        )  # fmt: skip

    return table(("format", "ms", "faster", title, "change", "kept"), [row(each) for each in found])


@contextlib.contextmanager
def _in_silence() -> Iterator[None]:
    """Keeps what converters print to themselves."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
