"""Latency tables whose timings are computed: no clock decides a test."""

import numpy as np
from torch import nn

from ultralytics.pruning.latency import LatencyTable
from ultralytics.pruning.latency.shapes import Shape, shapes_of
from ultralytics.pruning.latency.tables import Timing, grid, name_of


def by_formula(net: nn.Module, channel_map, side: int, formula, step: int = 1) -> tuple[LatencyTable, dict]:
    """A table whose timings are a function of a layer's shape and widths."""
    shapes = shapes_of(net, channel_map, side)
    table = LatencyTable({"machine": "paper", "runtime": "formula", "threads": "1"})
    for own in {shape for calls in shapes.values() for shape in calls}:
        inputs, outputs = grid(own.inputs, step), grid(own.outputs, step)
        ms = np.array([[formula(own, a, b) for b in (outputs if own.groups else (a,))] for a in inputs])
        table.layers[name_of(own, step)] = Timing(inputs, outputs if own.groups else inputs, ms)
    return table, shapes


def macs_ms(own: Shape, inputs: int, outputs: int) -> float:
    """A machine on which a million multiply-adds take a millisecond."""
    cells = own.cells[0] * own.cells[1] / (own.stride[0] * own.stride[1])
    each = own.kernel[0] * own.kernel[1] * cells / 1e6
    return each * (inputs * outputs / own.groups if own.groups else outputs)
