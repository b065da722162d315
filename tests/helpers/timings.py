"""Timings that are planted or computed: no clock decides a test."""

import numpy as np
from torch import nn

from ultralytics.pruning import trace
from ultralytics.pruning.latency import LatencyTable, Runtime, comparing, search, tables, turns
from ultralytics.pruning.latency.shapes import Shape, shapes_of
from ultralytics.pruning.latency.tables import Timing, grid, name_of

PLANTED = (50.0, 2.0, 0.0)  # milliseconds before and after a cut, and their spread: as fast as anybody can promise


def planted_paces(runs, threads: int, *, rounds: int = 30) -> dict:
    """What `turns.paces` finds: each runs twice as fast as the one before it, the first in 8 ms; each is run once."""
    for run in runs.values():
        run()
    return {name: turns.Pace(8 / 2**place, 4 / 2**place, 0.02, rounds) for place, name in enumerate(runs)}


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


def plant(monkeypatch, formula, measured=lambda factor: factor) -> None:
    """Replaces the clock: a layer takes what a formula says, a network the sum of its layers.

    Args:
        monkeypatch: Undoes it.
        formula: From a layer's shape and its widths to milliseconds.
        measured: From how many times faster a network is by its layers to how many times it is as timed in turns.
    """

    def of_layer(own: Shape, runtime: Runtime, step: int) -> Timing:
        inputs, outputs = grid(own.inputs, step), grid(own.outputs, step)
        ms = np.array([[formula(own, a, b) for b in (outputs if own.groups else (a,))] for a in inputs])
        return Timing(inputs, outputs if own.groups else inputs, ms)

    known: dict[tuple, float] = {}  # by the shapes of the weights

    def of_network(runtime: Runtime, model: nn.Module, imgsz: int) -> float:
        key = (imgsz, *(parameter.shape for parameter in model.parameters()))
        if key not in known:
            calls = shapes_of(model, trace(model, imgsz=imgsz), imgsz).values()
            known[key] = sum(formula(own, own.inputs, own.outputs) for shapes in calls for own in shapes)
        return known[key]

    def in_turns(runs: dict) -> dict:
        original = next(iter(runs.values()))
        return {name: original / measured(original / own) for name, own in runs.items()}

    def time_networks(before: nn.Module, after: nn.Module, runtime: Runtime, imgsz: int, onnx=None) -> tuple:
        runs = {place: of_network(runtime, model, imgsz) for place, model in enumerate((before, after))}
        return (*in_turns(runs).values(), 0.0)

    monkeypatch.setattr(tables, "_timed", of_layer)
    monkeypatch.setattr(Runtime, "network", of_network)
    monkeypatch.setattr(search, "in_turns", in_turns)
    monkeypatch.setattr(comparing, "time_networks", time_networks)
