"""Puts the softmax of an exported ONNX's box branch where CPUs are fast at it: along the last axis.

The release's DFL layer takes the expected value of 16 bins per box side: softmax along axis 1 of (B, bins, 4, A), then
a 1x1 convolution with the bins' values. ONNX Runtime walks along axis 1 in strides of 4 * A: 13 of the 73 ms that a
YOLOv8n takes at 640 pixels on two cores, and pruning does not make that less. Along the last axis, of (B, 4, A, bins),
it is fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def bins_last(file: Path) -> int:
    """Rewrites each transpose, softmax and 1x1 convolution of an ONNX file that form a DFL layer; in place.

    Args:
        file: An ONNX file. One in which no layer has this form is left as it is.

    Returns:
        The number of layers rewritten.
    """
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(file)
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    found = [nodes for node in graph.node if (nodes := dfl_nodes(graph, node, weights))]

    for transpose, softmax, conv in found:
        transpose.CopyFrom(helper.make_node("Transpose", transpose.input, transpose.output, perm=[0, 1, 3, 2]))
        softmax.CopyFrom(helper.make_node("Softmax", softmax.input, softmax.output, axis=-1))
        values = numpy_helper.to_array(weights[conv.input[1]]).reshape(-1, 1)
        weights[conv.input[1]].CopyFrom(numpy_helper.from_array(values, conv.input[1]))
        conv.CopyFrom(helper.make_node("MatMul", conv.input, conv.output))

    # The shapes that were noted of what is now transposed no longer hold.
    stale = {node.output[0] for nodes in found for node in nodes}
    shapes = [value for value in graph.value_info if value.name not in stale]
    del graph.value_info[:]
    graph.value_info.extend(shapes)
    if found:
        onnx.save(model, file)
    return len(found)


def dfl_nodes(graph: Any, softmax: Any, weights: dict[str, Any]) -> tuple[Any, Any, Any] | None:
    """Returns transpose, softmax and convolution of a DFL layer, if `softmax` is in the middle of one.

    A reshape to (B, 4, A) must be all that reads the convolution, whose (B, 1, 4, A) becomes (B, 4, A, 1).
    """
    if softmax.op_type != "Softmax" or attribute(softmax, "axis") != 1:
        return None
    transpose = next((node for node in graph.node if softmax.input[0] in node.output), None)
    conv = only_reader(graph, softmax)
    if transpose is None or only_reader(graph, transpose) != softmax or conv is None or conv.op_type != "Conv":
        return None

    reshape, weight = only_reader(graph, conv), weights.get(conv.input[1])
    fits = (
        transpose.op_type == "Transpose"
        and attribute(transpose, "perm") == [0, 2, 1, 3]
        and reshape is not None
        and reshape.op_type == "Reshape"
        and len(conv.input) == 2
        and weight is not None
        and [weight.dims[0], *weight.dims[2:]] == [1, 1, 1]
        and sum(conv.input[1] in node.input for node in graph.node) == 1
    )
    return (transpose, softmax, conv) if fits else None


def only_reader(graph: Any, node: Any) -> Any | None:
    """Returns the node that reads a node's output, if it is the only one and the output is not the graph's."""
    readers = [other for other in graph.node if node.output[0] in other.input]
    is_result = any(node.output[0] == result.name for result in graph.output)
    return readers[0] if len(readers) == 1 and not is_result else None


def attribute(node: Any, name: str) -> Any:
    """Returns an attribute of an ONNX node, None if it has none."""
    from onnx import helper

    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), None)
