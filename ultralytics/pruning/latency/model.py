"""The milliseconds of any choice of channels: the sum over its layers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..channels import ChannelMap
from ..cost import KeptCounts
from ..errors import PruningError
from ..plans.plan import PruningPlan
from .shapes import Shapes
from .tables import LatencyTable, name_of


class LatencyModel:
    """The latency of many choices of one network.

    Args:
        channel_map: The traced network.
        shapes: The calls of its layers.
        table: Timings of these.
        step: The multiple that widths are rounded to.
        timed_as: Shapes under which the table holds the layers, by name, where they are others than in `shapes`: those
            before an earlier cut, whose grids hold narrower widths as well.

    Raises:
        PruningError: If the table lacks a layer, or by its fit the whole network takes no time.
    """

    def __init__(
        self,
        channel_map: ChannelMap,
        shapes: Shapes,
        table: LatencyTable,
        step: int,
        timed_as: Shapes | None = None,
    ) -> None:
        layers = [channel_map.layers[name] for name in shapes]
        grids = timed_as or {}
        wanted = {name: [name_of(shape, step) for shape in grids.get(name, calls)] for name, calls in shapes.items()}
        lacking = [key for keys in wanted.values() for key in keys if key not in table.layers]
        if lacking:
            raise PruningError(
                f"the table of latencies lacks {len(lacking)} layers of this network, e.g. '{lacking[0]}'; write one "
                f"with latency_table.py from these weights, with this --imgsz and this --round-to"
            )

        self._calls = [[table.layers[key] for key in wanted[layer.name]] for layer in layers]
        self._counts = KeptCounts([layer.inputs for layer in layers] + [layer.outputs for layer in layers])
        self._fit = table.fit
        self._names = list(shapes)
        self._known: dict[tuple[int, int, int], float] = {}

        # A block without inner channels is taken out, and so are its layers.
        place = {layer.name: i for i, layer in enumerate(layers)}
        blocks = channel_map.blocks
        self._inner = KeptCounts([block.inner for block in blocks])
        self._inside = [[place[name] for name in block.layers if name in place] for block in blocks]

        if not (whole := self(np.ones(len(channel_map.channels), dtype=bool))) > 0:
            raise PruningError(f"by the table of latencies the whole network takes {whole:g} ms: its fit is wrong")

    def __call__(self, kept: np.ndarray) -> float:
        """Returns the milliseconds of the network that keeps the given groups, bool of shape (G,)."""
        inputs, outputs = np.split(self._counts(kept), 2)
        for block in np.flatnonzero(self._inner(kept) == 0) if self._inside else ():
            inputs[self._inside[block]] = outputs[self._inside[block]] = 0
        return self._network(inputs, outputs)

    def of(self, plan: PruningPlan) -> float:
        """Returns the milliseconds of the network that a plan leaves."""
        layers = [plan.layers[name] for name in self._names]
        return self._network([len(layer.kept_in) for layer in layers], [len(layer.kept_out) for layer in layers])

    def _network(self, inputs: Iterable[int], outputs: Iterable[int]) -> float:
        """Returns the milliseconds of a network with these widths of its layers."""
        constant, factor = self._fit
        total = sum(self._at(i, int(a), int(b)) for i, (a, b) in enumerate(zip(inputs, outputs, strict=True)))
        return constant + factor * total

    def _at(self, layer: int, inputs: int, outputs: int) -> float:
        """Returns the milliseconds of a layer at a width, from memory where it was asked before."""
        key = (layer, inputs, outputs)
        if key not in self._known:
            self._known[key] = sum(timing.at(inputs, outputs) for timing in self._calls[layer])
        return self._known[key]
