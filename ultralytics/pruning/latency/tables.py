"""Timings of layers at several widths, kept as JSON by machine, runtime and shape."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PruningError
from ..files import whole_file
from ..locks import waiting
from .shapes import Shape
from .timing import Runtime, milliseconds

FORMAT = 1
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

    def check(self) -> None:
        """Raises a ValueError if these are no timings."""
        if self.ms.shape not in {(len(self.inputs), len(self.outputs)), (len(self.inputs), 1)}:
            raise ValueError("a grid does not fit its timings")
        for widths in (self.inputs, self.outputs):
            if not all(isinstance(width, int) and width > 0 for width in widths) or list(widths) != sorted({*widths}):
                raise ValueError(f"the widths {widths} do not ascend")
        if not (np.isfinite(self.ms) & (self.ms > 0)).all():
            raise ValueError("timings are above 0")

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
            path: Where to; the layers of a table that is there stay, if it is of the same machine and runtime.
            replace: Whether something else than a table may be replaced: a damaged one.

        Raises:
            PruningError: If something else is there.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with waiting(path):
            layers = {**self._beside(path, replace), **self.layers}
            content = {
                "format": FORMAT,
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
        """Returns the layers of the table that is there, if it is of the same machine."""
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
            PruningError: If the file is not there, or no such table.
        """
        if not path.is_file():
            raise PruningError(f"'{path}' is not there; benchmarks/latency_table.py writes one on that machine")
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']}")
            layers = {
                key: Timing(tuple(entry["inputs"]), tuple(entry["outputs"]), np.array(entry["ms"], dtype=float))
                for key, entry in content["layers"].items()
            }
            for timing in layers.values():
                timing.check()
            constant, factor = map(float, content["fit"])
            if not (math.isfinite(constant) and math.isfinite(factor) and factor > 0):
                raise ValueError(f"a network would take {constant} + {factor} x its layers")
            about = {key: str(content["about"][key]) for key in ("machine", "runtime", "threads")}
            return cls(about, layers, (constant, factor))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PruningError(f"'{path}' is no table of latencies ({type(error).__name__}: {error})") from error


def grid(width: int, step: int) -> tuple[int, ...]:
    """Returns the widths at which a layer is timed.

    They lie at parts of the full width, at multiples of `VECTOR` (of 4 for narrow layers). If a cut may leave other
    widths, those just above are there, too: what a runtime takes at once makes steps.
    """
    unit = VECTOR if width >= 2 * VECTOR else 4
    whole = {min(width, max(unit, round(width * part / unit) * unit)) for part in PARTS} | {width}
    if step % VECTOR:
        whole |= {min(width, level + min(step, unit)) for level in whole}
    return tuple(sorted(whole))


def name_of(shape: Shape, step: int) -> str:
    """Returns the key of a layer in a table."""
    return shape.key() + (" fine" if step % VECTOR else "")


def cache(runtime: Runtime, folder: Path) -> Path:
    """Returns where the timings of a machine are kept."""
    digest = hashlib.sha256(json.dumps(runtime.about(), sort_keys=True).encode()).hexdigest()[:12]
    return folder / f"{runtime.name}-{digest}.json"


def measure(shapes: Iterable[Shape], runtime: Runtime, step: int, table: LatencyTable) -> bool:
    """Times the layers that a table lacks, with a progress bar.

    Args:
        shapes: The calls of a network's layers.
        runtime: What runs them.
        step: The multiple that widths will be rounded to.
        table: Gets the timings.

    Returns:
        Whether any was missing.
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
