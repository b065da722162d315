"""The parts of an exported ONNX that are taken to integers together: a convolution and its activation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

WEIGHTED = {"Conv", "ConvTranspose", "Gemm"}
ACTIVATIONS = {"Sigmoid", "Mul", "Relu", "LeakyRelu", "HardSwish", "Clip"}


def blocks_of(graph: Any) -> list[tuple[str, ...]]:
    """Returns the names of the nodes of each convolution and what follows it value by value, in their order.

    Args:
        graph: Of an ONNX model, whose nodes have names and stand in the order in which they run.
    """
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in graph.node:
        if node.op_type not in WEIGHTED:
            continue
        block, edge = [node.name], node.output[0]
        for _ in range(2):  # SiLU is a sigmoid, and a product that reads it too
            following = [reader for reader in readers.get(edge, []) if reader.op_type in ACTIVATIONS]
            if len(following) != len(readers.get(edge, [])) or not following:
                break
            block += [reader.name for reader in following if reader.name not in block]
            edge = following[0].output[0]
        found.append(tuple(block))
    return found


def tail_of(graph: Any) -> set[str]:
    """Returns the names of the nodes behind the last convolutions: there boxes in pixels meet scores in 0..1.

    One scale for both would leave nothing of the scores.
    """
    leads = set()  # tensors that a weighted node reads, itself or through others
    tail = set()
    for node in reversed(graph.node):
        if node.op_type in WEIGHTED or any(name in leads for name in node.output):
            leads.update(node.input)
        else:
            tail.add(node.name)
    return tail


def up_to(graph: Any, block: Iterable[str]) -> set[str]:
    """Returns the names of all nodes from the first to the last one of a block."""
    names = [node.name for node in graph.node]
    last = max(names.index(name) for name in block)
    return set(names[: last + 1])
