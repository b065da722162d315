"""Tests of what becomes integers: the blocks of a graph, the tail that never does, and the search by measurement."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ultralytics.pruning.quantization import faster
from ultralytics.pruning.quantization.blocks import blocks_of, tail_of, up_to
from ultralytics.pruning.quantization.faster import fastest_within
from ultralytics.pruning.quantization.int8 import difference, outputs_of
from ultralytics.pruning.quantization.integers import Choice, Integers

SIDE = 16


def conv(name: str, source: str, inputs: int, outputs: int) -> tuple[list, list]:
    """A convolution with SiLU: its nodes and its weights."""
    weight = np.random.default_rng(len(name)).normal(0, 0.5, (outputs, inputs, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", [source, f"{name}.w"], [f"{name}.c"], f"{name}.conv", pads=[1] * 4),
        helper.make_node("Sigmoid", [f"{name}.c"], [f"{name}.s"], f"{name}.sigmoid"),
        helper.make_node("Mul", [f"{name}.c", f"{name}.s"], [f"{name}.y"], f"{name}.mul"),
    ]
    return nodes, [numpy_helper.from_array(weight, f"{name}.w")]


@pytest.fixture
def network(tmp_path) -> Path:
    """Two convolutions, then one without activation whose output is decoded: a sigmoid, and a sum with its input."""
    first, second = conv("a", "images", 3, 8), conv("b", "a.y", 8, 8)
    last = np.random.default_rng(0).normal(0, 0.3, (4, 8, 1, 1)).astype(np.float32)
    nodes = [
        *first[0],
        *second[0],
        helper.make_node("Conv", ["b.y", "last.w"], ["last"], "last.conv"),
        helper.make_node("Sigmoid", ["last"], ["scores"], "decode.sigmoid"),
        helper.make_node("Add", ["scores", "last"], ["out"], "decode.add"),
    ]
    image, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, channels, SIDE, SIDE))
        for name, channels in (("images", 3), ("out", 4))
    )
    weights = [*first[1], *second[1], numpy_helper.from_array(last, "last.w")]
    graph = helper.make_graph(nodes, "net", [image], [out], weights)
    file = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


@pytest.fixture
def images() -> list[np.ndarray]:
    return [np.random.default_rng(seed).random((1, 3, SIDE, SIDE), dtype=np.float32) for seed in range(6)]


def types_of(file: Path) -> dict[str, int]:
    types: dict[str, int] = {}
    for node in onnx.load(file).graph.node:
        types[node.op_type] = types.get(node.op_type, 0) + 1
    return types


def in_integers(file: Path) -> set[str]:
    """The convolutions whose weights are integers."""
    graph = onnx.load(file).graph
    made = {node.output[0]: node for node in graph.node}
    reads = {node.name: made.get(node.input[1]) for node in graph.node if node.op_type == "Conv"}
    return {name for name, source in reads.items() if source is not None and source.op_type == "DequantizeLinear"}


def test_blocks_and_tail(network):
    graph = onnx.load(network).graph
    blocks = blocks_of(graph)
    assert blocks == [
        ("a.conv", "a.sigmoid", "a.mul"),
        ("b.conv", "b.sigmoid", "b.mul"),
        ("last.conv", "decode.sigmoid"),
    ][:2] + [("last.conv",)]
    assert tail_of(graph) == {"decode.sigmoid", "decode.add"}
    assert up_to(graph, blocks[0]) == {"a.conv", "a.sigmoid", "a.mul"}


def test_a_choice_is_written_as_it_says(network, images, tmp_path):
    """And the network in integers gives about the same; with everything in float it is the same."""
    integers = Integers(network, images, tmp_path)
    expected = outputs_of(network, images)
    whole = integers.write(Choice())
    assert in_integers(whole) == {"a.conv", "b.conv", "last.conv"}
    assert 0 < difference(expected, outputs_of(whole, images)) < 0.05
    assert in_integers(integers.write(Choice(begin=1))) == {"b.conv", "last.conv"}
    assert in_integers(integers.write(Choice(begin=1, floats=frozenset({2})))) == {"b.conv"}
    alone = integers.write(integers.alone(1, Choice(begin=1)))
    assert in_integers(alone) == {"b.conv"}
    nothing = integers.write(Choice(begin=3))
    assert not in_integers(nothing) and difference(expected, outputs_of(nothing, images)) < 1e-6
    assert types_of(whole)["QuantizeLinear"] > types_of(alone)["QuantizeLinear"]


def test_an_outlier_is_left_out_of_the_range_by_percentile(network, images, tmp_path):
    """One image a hundred times as bright takes all of the range of the largest and the smallest value."""
    integers = Integers(network, [*images, images[0] * 100], tmp_path)
    expected = outputs_of(network, images)
    by = {
        method: difference(expected, outputs_of(integers.write(Choice(method)), images))
        for method in ("minmax", "percentile")
    }
    assert by["percentile"] < by["minmax"]


def test_difference_is_relative_to_each_channel():
    ours = np.zeros((1, 2, 4))
    ours[0, 0], ours[0, 1] = [0, 1, 0, 1], [0, 100, 0, 100]
    theirs = ours.copy()
    theirs[0, 1] += 50  # a deviation
    assert difference([ours], [theirs]) == pytest.approx(0.5)


class Bench:
    """Stands in for writing and measuring: ten blocks, each with a time and a cost of accuracy in integers."""

    def __init__(self, gains: list[float], costs: list[float], entry: float = 0.0) -> None:
        self.gains, self.costs, self.entry = gains, costs, entry
        self.blocks = [(str(number),) for number in range(len(gains))]
        self.written: dict[Path, Choice] = {}

    def write(self, choice: Choice) -> Path:
        file = Path(f"{len(self.written)}.onnx")
        self.written[file] = choice
        return file

    def alone(self, number: int, choice: Choice) -> Choice:
        return replace(choice, begin=0, floats=frozenset(range(len(self.blocks))) - {number})

    def chosen(self, file: Path) -> list[int]:
        choice = self.written[file]
        return [block for block in range(choice.begin, len(self.blocks)) if block not in choice.floats]

    def lost(self, file: Path) -> float:
        choice = self.written[file]
        worse = 1.5 if choice.method == "minmax" else 1.0
        return worse * sum(self.costs[block] for block in self.chosen(file))

    def timed(self, files) -> list[float]:
        return [10.0, *(10 - sum(self.gains[block] for block in self.chosen(file)) for file in files)]

    def run(self, least: float) -> faster.Product:
        return fastest_within(
            self, least, differs=self.lost, timed=self.timed, measured=lambda file: 0.8 - self.lost(file)
        )


def test_blocks_that_integers_make_slower_stay_in_float():
    bench = Bench(gains=[-1.0, -0.2, *[0.6] * 8], costs=[0.0001] * 10)
    found = bench.run(0.79)
    assert found.choice == Choice("percentile", begin=2) and found.faster == pytest.approx(10 / 5.2)


def test_what_costs_accuracy_goes_back_to_float():
    """The most sensitive first, no more than it takes; speed is the price."""
    costs = [0.0] * 10
    costs[7], costs[4] = 0.05, 0.02
    found = Bench(gains=[0.4] * 10, costs=costs).run(0.79)
    assert found.accuracy >= 0.79 and {7, 4} <= found.choice.floats and len(found.choice.floats) <= 4
    assert found.faster > 1.3


def test_where_nothing_holds_the_most_accurate_is_returned():
    found = Bench(gains=[0.1] * 10, costs=[0.02] * 10).run(0.8)
    assert found.accuracy == pytest.approx(max(0.8 - 0.02 * left for left in (10, 2)))
