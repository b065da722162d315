"""Convolutions, linear layers and batch norms: the layers that the surgery cuts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ..tape import Tape
from .call import Call, Rule


def owner(tape: Tape, call: Call) -> Any:
    """Returns the layer that a call runs, None if its tensors are not all of one layer."""
    tensors = [value for value in [*call.args[1:], *call.kwargs.values()] if isinstance(value, Tensor)]
    owners = {tape.layer(tensor) for tensor in tensors if tensor is not call.tensor}
    if len(owners) == 1:
        return owners.pop()
    for layer in owners - {None}:
        tape.touch(layer, "its weights are used with those of others")
    return None


def convolution(tape: Tape, call: Call) -> bool:
    """Each output channel gets a label; a depthwise convolution passes labels on; groups must stay equally wide."""
    image, result = call.tensor, call.result
    module = owner(tape, call)
    if module is None:
        return False
    if getattr(module, "transposed", None) != (call.function is F.conv_transpose2d):
        tape.touch(module, "its weights are used by another kind of layer")
        return False
    dim = image.ndim - 3
    width, groups, made = image.shape[dim], module.groups, result.shape[dim]
    depthwise = groups == width > 1
    inputs = tape.inputs(image, dim, silent=not depthwise)
    outputs = np.repeat(inputs, made // width) if depthwise else None
    record = tape.record(module, inputs, made, outputs)
    record.cells += cells_of(call.function, image, result)
    tape.made_by[id(result)] = tape.names[module]
    if 1 < groups < width:
        tape.balances += [tuple(np.split(inputs, groups)), tuple(np.split(record.outputs, groups))]
    return tape.put(result, dim, record.outputs)


def linear(tape: Tape, call: Call) -> bool:
    """Each output feature gets a label; the input's labels must lie on the last dimension."""
    features, result = call.tensor, call.result
    module = owner(tape, call)
    if not isinstance(module, nn.Linear):
        if module is not None:
            tape.touch(module, "its weights are used by another kind of layer")
        return False
    record = tape.record(module, tape.inputs(features, features.ndim - 1), result.shape[-1])
    record.cells += cells_of(call.function, features, result)
    tape.made_by[id(result)] = tape.names[module]
    return tape.put(result, result.ndim - 1, record.outputs)


def batch_norm(tape: Tape, call: Call) -> bool:
    """Passes labels on; each channel's gamma, beta and statistics belong to it."""
    image = call.tensor
    module = owner(tape, call)
    if module is None:
        return False
    inputs = tape.inputs(image, 1, silent=False)
    record = tape.record(module, inputs, len(inputs), inputs)
    made_by = tape.made_by.get(id(image))
    if made_by:
        tape.records[made_by].norm = tape.names[module]
    return tape.put(call.result, 1, record.outputs)


def cells_of(function: Any, image: Tensor, result: Tensor) -> int:
    """Returns how often a convolution or linear layer uses each of its weights in one call, for the whole batch.

    Args:
        function: `conv2d`, `conv_transpose2d` or `linear` of `torch.nn.functional`.
        image: Its input, (N, C_in, H, W), or (N, ..., C_in) of a linear layer.
        result: Its output.
    """
    if function is F.linear:
        return result.numel() // result.shape[-1]
    counted = image if function is F.conv_transpose2d else result
    return counted.numel() // counted.shape[-3]


def _zeros_of_convolution(
    image: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Returns zeros of the shape of a convolution's output, without memory."""
    if padding == "same":
        cells = list(image.shape[-2:])
    else:
        padding = 0 if padding == "valid" else padding
        pairs = [value if isinstance(value, (tuple, list)) else (value, value) for value in (stride, padding, dilation)]
        cells = [
            (size + 2 * pad - step * (kernel - 1) - 1) // jump + 1
            for size, kernel, jump, pad, step in zip(image.shape[-2:], weight.shape[-2:], *pairs, strict=True)
        ]
    return image.new_zeros(()).expand(*image.shape[:-3], weight.shape[0], *cells)


def _zeros_of_linear(features: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    """Returns zeros of the shape of a linear layer's output, without memory."""
    return features.new_zeros(()).expand(*features.shape[:-1], weight.shape[0])


ZEROS: dict[object, Callable[..., Tensor]] = {F.conv2d: _zeros_of_convolution, F.linear: _zeros_of_linear}
LAYERS: dict[object, Rule] = {
    F.conv2d: convolution,
    F.conv_transpose2d: convolution,
    F.linear: linear,
    F.batch_norm: batch_norm,
}
