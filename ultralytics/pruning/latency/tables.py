"""Timings of layers at several widths, kept as JSON by machine, runtime and shape."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import PruningError
from ..files.locks import waiting
from ..files.whole import whole_file
from ..inputs.checks import listing, mapping, number, text, whole_number
from ..inputs.documents import brief, found_in, read_json
from ..plans.schema import WIDEST
from .shapes import Shape
from .timing import Runtime, milliseconds

TABLE_FORMAT = 1
ABOUT = ("machine", "runtime", "threads")  # what timings depend on, besides the layer
MOST_MILLISECONDS = 1e9  # of anything
VECTOR = 16  # channels that a CPU takes at once, at most
PARTS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)  # of a layer's width


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a layer at a grid of widths.

    Attributes:
        inputs: Ascending widths.
        outputs: Ascending widths; those of the inputs if the layer is depthwise.
        ms: Of shape (len(inputs), len(outputs)); of shape (len(inputs), 1) if the layer is depthwise.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ms: np.ndarray

    @classmethod
    def of(cls, entry: Any, where: str) -> Timing:
        """Returns the timings of a layer that a file holds.

        Args:
            entry: Its plain data.
            where: How the error names the layer.

        Raises:
            ValueError: If they are not timings.
        """
        mapping(entry, where, needs=("inputs", "outputs", "ms"))
        for side in ("inputs", "outputs"):
            widths = listing(
                entry[side], f"{side} of {where}", lambda value, place: whole_number(value, place, 1, WIDEST)
            )
            if not widths or any(a >= b for a, b in itertools.pairwise(widths)):
                raise ValueError(f"{side} of {where} are {brief(widths)}: they do not ascend")
        rows = listing(entry["ms"], f"ms of {where}", count=len(entry["inputs"]))
        columns = len(rows[0]) if isinstance(rows[0], list) else 0
        if columns not in {len(entry["outputs"]), 1}:
            raise ValueError(f"ms of {where}: {columns} timings in a row for {len(entry['outputs'])} outputs")

        def milliseconds_of(value: Any, place: str) -> float:
            return number(value, place, above=0, most=MOST_MILLISECONDS)

        for i, row in enumerate(rows):
            listing(row, f"ms of {where}[{i}]", milliseconds_of, count=columns)
        return cls(tuple(entry["inputs"]), tuple(entry["outputs"]), np.array(rows, dtype=float))

    def at(self, inputs: int, outputs: int) -> float:
        """Returns the milliseconds at any widths: linear between those of the grid, 0 for a layer that is gone."""
        if not inputs or not outputs:
            return 0.0
        by_input = [float(np.interp(outputs, self.outputs, row)) if len(row) > 1 else row[0] for row in self.ms]
        return float(np.interp(inputs, self.inputs, by_input))


@dataclass
class LatencyTable:
    """Timings of layers on one machine.

    Attributes:
        about: Machine, runtime and threads, in words.
        layers: By `Shape.key()` and the step of the grid.
        fit: (a, b): a network takes a + b * the sum of its layers, in milliseconds.
    """

    about: dict[str, str]
    layers: dict[str, Timing] = field(default_factory=dict)
    fit: tuple[float, float] = (0.0, 1.0)

    def save(self, path: Path, *, replace: bool = False) -> None:
        """Writes it as JSON, with the layers that another process has timed on this machine meanwhile.

        Args:
            path: The file; an existing table of the same machine and runtime keeps its layers.
            replace: Whether something other than a table may be replaced: a damaged one.

        Raises:
            PruningError: If `path` holds something else.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with waiting(path):
            layers = {**self._beside(path, replace), **self.layers}
            content = {
                "format": TABLE_FORMAT,
                "about": self.about,
                "fit": self.fit,
                "layers": {
                    key: {"inputs": timing.inputs, "outputs": timing.outputs, "ms": timing.ms.round(5).tolist()}
                    for key, timing in layers.items()
                },
            }
            with whole_file(path) as file:
                file.write_text(json.dumps(content), encoding="utf-8")

    def _beside(self, path: Path, replace: bool) -> dict[str, Timing]:
        """Returns the layers of the table that already is at `path`, if it is of the same machine."""
        if not path.exists():
            return {}
        try:
            other = LatencyTable.load(path)
        except PruningError as error:
            if replace:
                return {}
            raise PruningError(f"{error}, and is not overwritten: name another file") from error
        return other.layers if other.about == self.about else {}

    @classmethod
    def load(cls, path: Path) -> LatencyTable:
        """Reads what `save` wrote.

        Raises:
            PruningError: If the file is missing, or not such a table.
        """
        if not path.exists():
            raise PruningError(f"'{path}' is not there; latency_table.py writes one on that machine")
        with found_in(f"'{path}'", "no table of latencies"):
            content = read_json(path, "it")
            mapping(content, "it", needs=("format", "about", "fit", "layers"))
            if type(content["format"]) is not int or content["format"] != TABLE_FORMAT:
                raise ValueError(f"format {brief(content['format'])}; this version reads format {TABLE_FORMAT}")
            about = mapping(content["about"], "about", text, needs=ABOUT)
            constant, factor = listing(content["fit"], "fit", count=2)
            number(constant, "fit[0]", least=-MOST_MILLISECONDS, most=MOST_MILLISECONDS)
            number(factor, "fit[1]", above=0, most=MOST_MILLISECONDS)
            if not mapping(content["layers"], "layers"):
                raise ValueError("it has no layers")
            layers = {key: Timing.of(entry, f"layer {brief(key)}") for key, entry in content["layers"].items()}
            return cls({key: about[key] for key in ABOUT}, layers, (float(constant), float(factor)))


def grid(width: int, step: int) -> tuple[int, ...]:
    """Returns the widths at which a layer is timed.

    They lie at parts of the full width, at multiples of `VECTOR` (of 4 for narrow layers). If a cut may leave other
    widths, those just above are timed as well: time rises in steps of what a runtime computes at once.
    """
    unit = VECTOR if width >= 2 * VECTOR else 4
    widths = {min(width, max(unit, round(width * part / unit) * unit)) for part in PARTS} | {width}
    if step % VECTOR:
        widths |= {min(width, level + min(step, unit)) for level in widths}
    return tuple(sorted(widths))


def name_of(shape: Shape, step: int) -> str:
    """Returns the key of a layer in a table."""
    return shape.key() + (" fine" if step % VECTOR else "")


def cache(runtime: Runtime, folder: Path) -> Path:
    """Returns where the timings of a machine are kept."""
    digest = hashlib.sha256(json.dumps(runtime.about(), sort_keys=True).encode()).hexdigest()[:12]
    return folder / f"{runtime.name}-{digest}.json"


def runtime_of(path: Path) -> Runtime | None:
    """Returns the runtime of the timings in a file if they are kept of this machine, under the name of `cache`.

    A table that was written for others to read (`latency_table.py`) has another name, and so no runtime here.

    Raises:
        PruningError: If the file is missing, or no such table.
    """
    about = LatencyTable.load(path).about
    threads = int(about["threads"]) if about["threads"].isdecimal() and len(about["threads"]) < 5 else 0
    on_gpu = about["threads"] == "-"
    for device in map(str, range(torch.cuda.device_count())) if on_gpu else ("cpu",):
        with contextlib.suppress(PruningError, ImportError):  # it does not run here
            runtime = Runtime(about["runtime"].partition(" ")[0], max(threads, 1), device)
            if runtime.about() == about and cache(runtime, path.parent) == path:
                return runtime
    return None


def time_layers(shapes: Iterable[Shape], runtime: Runtime, step: int, table: LatencyTable) -> bool:
    """Times the layers that a table lacks, with a progress bar.

    Args:
        shapes: The calls of a network's layers.
        runtime: What runs them.
        step: The multiple that widths will be rounded to.
        table: Receives the timings.

    Returns:
        Whether any were missing.
    """
    from ultralytics.utils import TQDM

    missing = {name_of(shape, step): shape for shape in shapes}
    missing = {key: shape for key, shape in missing.items() if key not in table.layers}
    if not missing:
        return False
    with runtime.threading():
        for key, shape in TQDM(missing.items(), desc=f"timing layers in {runtime.name}", unit="layer", disable=False):
            table.layers[key] = _timed(shape, runtime, step)
    return True


def _timed(shape: Shape, runtime: Runtime, step: int) -> Timing:
    """Times one layer at its grid."""
    inputs, outputs = grid(shape.inputs, step), grid(shape.outputs, step)
    if not shape.groups:  # depthwise: as many filters for each input at any width
        factor = shape.outputs // shape.inputs
        rows = [[milliseconds(runtime.layer(shape, width, width * factor))] for width in inputs]
        return Timing(inputs, inputs, np.array(rows))
    groups = shape.groups
    inputs = tuple(sorted({-(-width // groups) * groups for width in inputs}))
    outputs = tuple(sorted({-(-width // groups) * groups for width in outputs}))
    rows = [[milliseconds(runtime.layer(shape, a, b)) for b in outputs] for a in inputs]
    return Timing(inputs, outputs, np.array(rows))
