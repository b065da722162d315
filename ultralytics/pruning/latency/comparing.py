"""Whether a cut is as fast as its multiply-adds promise, and if not, which part of the time did not fall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from torch import nn

from ..tracing.trace import trace
from .shapes import Shape, shapes_of
from .tables import VECTOR
from .timing import Runtime, milliseconds, rounds_in_turns

ROUNDS, SECONDS = 20, 2.0  # of timings of two networks in turns, at most
LEAST_PART = 1 / 4  # of the missing time: what holds less of it is not worth a remedy
BUSY = 0.1  # spread, above which the machine had other work
SHOWN = 3  # layers
GPU_VECTOR = 8  # channels that a GPU takes at once
TINY = Shape("Conv2d", (1, 1), (1, 1), (0, 0), (1, 1), 1, 4, 4, (1, 1), False)  # nothing but a call


class Remedy(Enum):
    """What would help a cut that is not as fast as it could be."""

    ROUND_TO = "round_to"  # widths that are multiples of the hardware's step
    LATENCY = "latency_speed_up"  # to choose channels by their milliseconds
    RUNTIME = "runtime"  # another one, or larger batches: the time is not in the layers


def tried(latency_speed_up: object) -> frozenset[Remedy]:
    """Returns what a cut to a target in milliseconds, if it had one, has tried already."""
    return frozenset({Remedy.LATENCY} if latency_speed_up else ())


@dataclass(frozen=True)
class LayerTime:
    """A layer before and after a cut.

    Attributes:
        name: Of the layer.
        before: (C_in, C_out).
        after: (C_in, C_out); (0, 0) if the layer was taken out.
        left: Share of its multiply-adds that the cut left, in 0..1.
        before_ms: Milliseconds of all of its calls, timed alone, without what calling any layer takes.
        after_ms: The same after the cut.
    """

    name: str
    before: tuple[int, int]
    after: tuple[int, int]
    left: float
    before_ms: float
    after_ms: float

    def is_off(self, step: int) -> bool:
        """Whether the cut left a width that is no multiple of a step."""
        return any(now != was and now % step for was, now in zip(self.before, self.after, strict=True))

    def missing(self, promised: float) -> float:
        """Returns by how many milliseconds it is slower than if its time had fallen by a factor."""
        return self.after_ms - self.before_ms / promised

    @property
    def wasted(self) -> float:
        """By how many milliseconds it is slower than if its time had fallen as its own multiply-adds."""
        return self.after_ms - self.before_ms * self.left


@dataclass(frozen=True)
class Speed:
    """The milliseconds of a network before and after a cut, and where those are that did not fall.

    Attributes:
        runtime: What ran the networks.
        imgsz: Side of the image in pixels, or height and width.
        before_ms: The best of several runs of the original, in turns with those of the cut network.
        after_ms: The best of several runs of the cut network.
        spread: How far these may be from the truth, relative: as the best of half of the runs from that of the other
            half, or as much as others had the processor meanwhile.
        promised: Multiply-adds before over after.
        layers: Every layer, timed alone, where the cut is slow; else empty.
    """

    runtime: Runtime
    imgsz: int | Sequence[int]
    before_ms: float
    after_ms: float
    spread: float
    promised: float
    layers: tuple[LayerTime, ...] = ()

    @property
    def measured(self) -> float:
        """Milliseconds before over after."""
        return self.before_ms / self.after_ms

    @property
    def is_slow(self) -> bool:
        """Whether it gained less than half of what the multiply-adds promise, by more than the timings' spread."""
        return self.measured * (1 + self.spread) - 1 < (self.promised - 1) / 2

    @property
    def in_doubt(self) -> bool:
        """Whether the machine was too busy to tell how fast the networks are."""
        return self.spread > BUSY

    @property
    def missing(self) -> float:
        """By how many milliseconds the cut network is slower than promised."""
        return self.after_ms - self.before_ms / self.promised

    @property
    def step(self) -> int:
        """The multiple of channels that the hardware takes at once."""
        return VECTOR if self.runtime.device == "cpu" else GPU_VECTOR

    @property
    def slowest(self) -> tuple[LayerTime, ...]:
        """The layers with most of the missing time, the worst first."""
        ordered = sorted(self.layers, key=lambda layer: -layer.missing(self.promised))
        return tuple(layer for layer in ordered[:SHOWN] if layer.missing(self.promised) > 0)

    @property
    def off(self) -> tuple[LayerTime, ...]:
        """The layers whose widths the cut left off the hardware's step."""
        return tuple(layer for layer in self.layers if layer.is_off(self.step))

    @property
    def outside(self) -> tuple[float, float]:
        """Milliseconds outside of the layers, before and after: joins, views, and the calls themselves."""
        before = self.before_ms - sum(layer.before_ms for layer in self.layers)
        return before, self.after_ms - sum(layer.after_ms for layer in self.layers)

    def parts(self) -> dict[Remedy, float]:
        """Returns where the missing milliseconds are, by what would help; together they are `missing`.

        Widths off the hardware's step waste time in their layers, and outside of them where what is narrower takes
        longer. The rest of the layers' time is missing since too little was cut where the time is. The rest of what is
        outside follows no multiply-adds.
        """
        before, after = self.outside
        grown = max(0.0, after - before) if self.off else 0.0
        wasted = sum(layer.wasted for layer in self.off)
        inside = sum(layer.missing(self.promised) for layer in self.layers)
        return {
            Remedy.ROUND_TO: wasted + grown,
            Remedy.LATENCY: inside - wasted,
            Remedy.RUNTIME: after - before / self.promised - grown,
        }

    def remedies(self, tried: frozenset[Remedy] = frozenset()) -> tuple[Remedy, ...]:
        """Returns what would help, the best first; nothing where the layers were not timed.

        Args:
            tried: What was tried already.
        """
        parts = self.parts() if self.layers else {}
        ordered = sorted(parts, key=lambda remedy: -parts[remedy])
        found = [remedy for remedy in ordered if parts[remedy] >= LEAST_PART * self.missing and remedy not in tried]
        return tuple(found) or ((Remedy.RUNTIME,) if parts else ())


def compare(
    before: nn.Module,
    after: nn.Module,
    promised: float,
    runtime: Runtime,
    imgsz: int | Sequence[int],
    *,
    known: tuple[float, float, float] | None = None,
    onnx: Path | None = None,
) -> Speed:
    """Times a network before and after a cut, and layer by layer where that is slow.

    Args:
        before: The original; both are left as they are.
        after: The cut network.
        promised: Multiply-adds before over after.
        runtime: What runs them.
        imgsz: Side of the image in pixels, or height and width.
        known: What `time_networks` returned, where it is known.
        onnx: The ONNX of the cut network at that size, where there is one.
    """
    speed = Speed(runtime, imgsz, *(known or time_networks(before, after, runtime, imgsz, onnx)), promised)
    return replace(speed, layers=time_both(before, after, runtime, imgsz)) if speed.is_slow else speed


def time_networks(
    before: nn.Module, after: nn.Module, runtime: Runtime, imgsz: int | Sequence[int], onnx: Path | None = None
) -> tuple[float, float, float]:
    """Times two networks in turns; returns the milliseconds of each, and the spread (see `Speed`)."""
    (first, second), spread = time_in_turns([before, after], runtime, imgsz, onnx)
    return first, second, spread


def time_in_turns(
    networks: Sequence[nn.Module], runtime: Runtime, imgsz: int | Sequence[int], onnx: Path | None = None
) -> tuple[list[float], float]:
    """Times any number of networks in turns.

    Args:
        networks: They are left as they are.
        runtime: What runs them.
        imgsz: Side of the image in pixels, or height and width.
        onnx: The ONNX of the last one at that size, where there is one.

    Returns:
        The milliseconds of each, and the spread of them (see `Speed`).
    """
    *others, last = networks
    runs = [*(runtime.network(network, imgsz) for network in others), runtime.network(last, imgsz, onnx)]
    with runtime.threading():
        found = rounds_in_turns(dict(enumerate(runs)), ROUNDS, SECONDS * len(runs) / 2)
    best = [min(found[number]) for number in range(len(runs))]
    halves = (abs(min(each[::2]).ms - min(each[1::2]).ms) / min(each).ms for each in found.values())
    waited = (run.waited for run in best if runtime.device == "cpu")
    return [run.ms for run in best], max(*halves, *waited, 0.0)


def time_both(
    before: nn.Module, after: nn.Module, runtime: Runtime, imgsz: int | Sequence[int]
) -> tuple[LayerTime, ...]:
    """Times each layer of two networks alone, a layer before its counterpart."""
    calls, left = (shapes_of(network, trace(network, imgsz=imgsz), imgsz) for network in (before, after))
    known: dict[Shape, float] = {}

    def of(shape: Shape) -> float:
        if shape not in known:
            known[shape] = milliseconds(runtime.layer(shape, shape.inputs, shape.outputs), least=3, seconds=0.01)
        return known[shape]

    with runtime.threading():
        for name, shapes in calls.items():
            for shape in (*shapes, *left.get(name, ())):
                of(shape)
        call = of(TINY)
    return layer_times(calls, left, {shape: max(0.0, ms - call) for shape, ms in known.items()})


def layer_times(
    before: Mapping[str, Sequence[Shape]], after: Mapping[str, Sequence[Shape]], ms: Mapping[Shape, float]
) -> tuple[LayerTime, ...]:
    """Returns the layers of a network before and after a cut.

    Args:
        before: The calls of each layer.
        after: The calls of those that are left.
        ms: Milliseconds of each call.
    """

    def widths(shapes: Sequence[Shape]) -> tuple[int, int]:
        return (shapes[0].inputs, shapes[0].outputs) if shapes else (0, 0)

    def weights(shapes: Sequence[Shape]) -> float:  # of one cell each: the cut leaves the cells as they are
        return sum(shape.inputs * shape.outputs / (shape.groups or shape.inputs) for shape in shapes)

    found = []
    for name, calls in before.items():
        left = after.get(name, ())
        times = (sum(ms[shape] for shape in shapes) for shapes in (calls, left))
        found.append(LayerTime(name, widths(calls), widths(left), weights(left) / weights(calls), *times))
    return tuple(found)
