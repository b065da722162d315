"""What each operation does to the labels of channels: one small function each, bound in one dict at the end.

A rule gets the tracer, the call's arguments and its result. It returns True when it has given the result its labels,
and False when this call is not one that it understands; then the labels that went in are pinned, as they are for an
operation without a rule. So what is unknown costs compression, never correctness.

A removed channel is a channel that is zero everywhere, so a rule passes labels on only where zero stays zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from .tracing import Tracer


def argument(args: tuple, kwargs: dict, place: int, name: str, default: Any = None) -> Any:
    """Returns an argument of a call, given by place or by name."""
    return args[place] if len(args) > place else kwargs.get(name, default)


# Layers


def convolution(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Each output channel gets a label; a depthwise convolution passes labels on; groups must stay equally wide."""
    image = argument(args, kwargs, 0, "input")
    module = trace.layer(argument(args, kwargs, 1, "weight"))
    if module is None:
        return False
    dim = image.ndim - 3
    inputs = trace.inputs(image, dim)
    width, groups = len(inputs), module.groups
    if groups == width == result.shape[dim] > 1:
        return trace.put(result, dim, trace.record(module, inputs, result, passes=True))
    outputs = trace.record(module, inputs, result, used_on=image if module.transposed else None)
    if groups == width > 1:  # several filters for each input channel
        trace.union.pin(np.concatenate([inputs, outputs]), "depthwise with several filters per channel")
    elif groups > 1:
        trace.balances.append(tuple(np.split(inputs, groups)))
        trace.balances.append(tuple(np.split(outputs, groups)))
    return trace.put(result, dim, outputs)


def linear(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Each output feature gets a label; the input's labels must lie on the last dimension."""
    features = argument(args, kwargs, 0, "input")
    module = trace.layer(argument(args, kwargs, 1, "weight"))
    if module is None:
        return False
    outputs = trace.record(module, trace.inputs(features, features.ndim - 1), result)
    return trace.put(result, result.ndim - 1, outputs)


def batch_norm(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Passes labels on; each channel's gamma, beta and statistics belong to it."""
    image = argument(args, kwargs, 0, "input")
    module = trace.layer(argument(args, kwargs, 3, "weight")) or trace.layer(argument(args, kwargs, 1, "running_mean"))
    if module is None:
        return False
    trace.normalises(module, image)
    return trace.put(result, 1, trace.record(module, trace.inputs(image, 1), result, passes=True))


# One tensor


def same(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Activations with f(0) = 0, pooling, upsampling, copies: the channels stay where they are."""
    tensor = argument(args, kwargs, 0, "input")
    item = trace.labelled(tensor)
    if item is None or not isinstance(result, Tensor) or result.shape[: item.dim + 1] != tensor.shape[: item.dim + 1]:
        return False
    return trace.put(result, item.dim, item.labels)


def pad(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Passes labels on if it pads with zeros, or copies, behind the channel dimension."""
    constant = argument(args, kwargs, 2, "mode", "constant") == "constant"
    if constant and argument(args, kwargs, 3, "value") not in (None, 0):
        return False
    return same(trace, args, kwargs, result)


def reduce(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Mean, sum or maximum over dimensions behind the channels."""
    tensor, dims = argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "dim")
    item = trace.labelled(tensor)
    dims = (dims,) if isinstance(dims, int) else dims
    if item is None or not dims or not isinstance(result, Tensor):
        return False
    if any(dim % tensor.ndim <= item.dim for dim in dims):
        return False
    return trace.put(result, item.dim, item.labels)


def flatten(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Merges dimensions: each channel becomes as many features as it has cells."""
    tensor = argument(args, kwargs, 0, "input")
    item = trace.labelled(tensor)
    start, end = argument(args, kwargs, 1, "start_dim", 0), argument(args, kwargs, 2, "end_dim", -1)
    start, end = start % tensor.ndim, end % tensor.ndim
    if item is None or start < item.dim <= end:
        return False
    if start > item.dim:
        return trace.put(result, item.dim, item.labels)
    if end < item.dim:
        return trace.put(result, item.dim - (end - start), item.labels)
    return trace.put(result, start, np.repeat(item.labels, int(np.prod(tensor.shape[start + 1 : end + 1]))))


def view(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """A reshape that keeps the channel dimension; one that names its size holds only as long as the size does."""
    tensor = argument(args, kwargs, 0, "input")
    item = trace.labelled(tensor)
    shape = args[1:] if len(args) > 1 else (kwargs.get("shape") or kwargs.get("size"))
    shape = shape[0] if shape and isinstance(shape[0], (tuple, list)) else shape
    if item is None or not shape or isinstance(shape[0], torch.dtype):
        return False
    dim = item.dim
    if tuple(tensor.shape[: dim + 1]) != tuple(result.shape[: dim + 1]):
        return False
    if shape[dim] != -1:
        trace.union.pin(item.labels, "reshape to a fixed size")
    return trace.put(result, dim, item.labels)


def permute(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Moves the channel dimension."""
    item = trace.labelled(argument(args, kwargs, 0, "input"))
    order = args[1:] if len(args) > 1 else kwargs["dims"]
    order = order[0] if isinstance(order[0], (tuple, list)) else order
    if item is None:
        return False
    return trace.put(result, [dim % result.ndim for dim in order].index(item.dim), item.labels)


def transpose(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Swaps two dimensions."""
    item = trace.labelled(argument(args, kwargs, 0, "input"))
    first, second = (argument(args, kwargs, i + 1, f"dim{i}") % result.ndim for i in (0, 1))
    if item is None:
        return False
    return trace.put(result, {first: second, second: first}.get(item.dim, item.dim), item.labels)


def getitem(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Slices. Bounds on the channel dimension are numbers in the code that the surgery cannot change: pinned."""
    item, index = trace.labelled(args[0]), args[1] if isinstance(args[1], tuple) else (args[1],)
    if item is None or not all(isinstance(part, slice) for part in index):
        return False
    labels = item.labels
    if item.dim < len(index) and index[item.dim] != slice(None):
        trace.union.pin(labels, "slice at a fixed place")
        labels = labels[index[item.dim]]
    return trace.put(result, item.dim, labels)


# One to several, several to one


def chunk(trace: Tracer, args: tuple, kwargs: dict, result: tuple[Tensor, ...]) -> bool:
    """Cuts the channels into equal parts by position, so that all parts must keep equally many."""
    tensor = argument(args, kwargs, 0, "input", argument(args, kwargs, 0, "tensor"))
    item, dim = trace.labelled(tensor), argument(args, kwargs, 2, "dim", 0) % tensor.ndim
    if item is None:
        return False
    if dim != item.dim:
        return all(trace.put(part, item.dim, item.labels) for part in result)
    parts = np.split(item.labels, np.cumsum([part.shape[dim] for part in result])[:-1])
    if len({len(part) for part in parts}) > 1:
        trace.union.pin(item.labels, "chunk into unequal parts")
    elif len(parts) > 1:
        trace.balances.append(tuple(parts))
        trace.stored_width("c", parts[0])
    return all(trace.put(tensor, dim, part) for tensor, part in zip(result, parts, strict=True))


def split(trace: Tracer, args: tuple, kwargs: dict, result: tuple[Tensor, ...]) -> bool:
    """Cuts the channels at places that are numbers in the code: pinned."""
    tensor = argument(args, kwargs, 0, "input", argument(args, kwargs, 0, "tensor"))
    item, dim = trace.labelled(tensor), argument(args, kwargs, 2, "dim", 0) % tensor.ndim
    if item is None:
        return False
    if dim != item.dim:
        return all(trace.put(part, item.dim, item.labels) for part in result)
    trace.union.pin(item.labels, "split at a fixed place")
    parts = np.split(item.labels, np.cumsum([part.shape[dim] for part in result])[:-1])
    return all(trace.put(tensor, dim, part) for tensor, part in zip(result, parts, strict=True))


def cat(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """Joins channels; along another dimension, channels at the same place become one."""
    tensors, dim = argument(args, kwargs, 0, "tensors"), argument(args, kwargs, 1, "dim", 0) % result.ndim
    items = [trace.labelled(tensor) for tensor in tensors]
    dims = {item.dim for item in items if item}
    if len(dims) != 1:
        return False
    channel_dim = dims.pop()
    labels = []
    for tensor, item in zip(tensors, items, strict=True):
        if item is None:  # made by no layer: it stays, and what is beside it can go
            fixed = trace.union.new(tensor.shape[channel_dim], channel=False)
            trace.union.pin(fixed, "not made by a layer")
            labels.append(fixed)
        else:
            labels.append(item.labels)
    if dim == channel_dim:
        return trace.put(result, dim, np.concatenate(labels))
    for other in labels[1:]:
        trace.union.unite(labels[0], other)
    return trace.put(result, channel_dim, labels[0])


def _combine(trace: Tracer, args: tuple, kwargs: dict, result: Tensor, *, zero_stays: bool) -> bool:
    """Elementwise with two operands: channels at the same place become one.

    Args:
        zero_stays: Whether zero combined with any number is zero (a product) or not (a sum).
    """
    operands = [argument(args, kwargs, 0, "input"), argument(args, kwargs, 1, "other")]
    items = [item for item in map(trace.labelled, operands) if item]
    if len(items) == 1:
        other = operands[1] if trace.labelled(operands[0]) else operands[0]
        item = items[0]
        single = not isinstance(other, Tensor) or other.numel() == 1
        if not zero_stays or not single or result.shape != item.tensor.shape:
            return False
        return trace.put(result, item.dim, item.labels)
    places = {item.tensor.ndim - item.dim for item in items}
    if len(places) != 1:
        return False
    dim = result.ndim - places.pop()
    first, second = (item.labels for item in items)
    if len(first) == len(second):
        trace.union.unite(first, second)
        return trace.put(result, dim, first)
    wide, narrow = (first, second) if len(first) > len(second) else (second, first)
    trace.union.pin(narrow, "broadcast over channels")
    if not zero_stays:  # a sum: the one channel reaches every other
        trace.union.pin(wide, "broadcast over channels")
    return trace.put(result, dim, wide)


def add(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """A sum or difference, e.g. a shortcut."""
    return _combine(trace, args, kwargs, result, zero_stays=False)


def multiply(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """A product, e.g. a gate."""
    return _combine(trace, args, kwargs, result, zero_stays=True)


def divide(trace: Tracer, args: tuple, kwargs: dict, result: Tensor) -> bool:
    """A quotient by a number; a removed channel must not stand below the line."""
    divisor = argument(args, kwargs, 1, "other")
    return trace.labelled(divisor) is None and multiply(trace, args, kwargs, result)


# Activations that map zero to zero, whatever their settings.
ACTIVATIONS: tuple[Any, ...] = (
    F.silu,
    F.relu,
    F.leaky_relu,
    F.relu6,
    F.gelu,
    F.mish,
    F.hardswish,
    F.elu,
    F.selu,
    F.celu,
    F.softsign,
)
ACTIVATIONS += (F.tanhshrink, F.tanh, torch.tanh, Tensor.tanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
POOLING = (F.max_pool2d, torch.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.interpolate)
COPIES: tuple[Any, ...] = (
    F.dropout,
    F.dropout2d,
    torch.clone,
    Tensor.clone,
    Tensor.detach,
    Tensor.contiguous,
    Tensor.to,
    Tensor.float,
)
COPIES += (Tensor.half, Tensor.double, Tensor.type, torch.neg, Tensor.neg, Tensor.__neg__, torch.abs, Tensor.abs)

RULES: dict[Any, Callable[..., bool]] = {
    F.conv2d: convolution,
    F.conv_transpose2d: convolution,
    F.linear: linear,
    F.batch_norm: batch_norm,
    F.pad: pad,
    **dict.fromkeys(ACTIVATIONS + POOLING + COPIES, same),
    **dict.fromkeys((torch.mean, Tensor.mean, torch.sum, Tensor.sum, torch.amax, Tensor.amax), reduce),
    **dict.fromkeys((torch.flatten, Tensor.flatten), flatten),
    **dict.fromkeys((torch.reshape, Tensor.reshape, Tensor.view), view),
    **dict.fromkeys((torch.permute, Tensor.permute), permute),
    **dict.fromkeys((torch.transpose, Tensor.transpose), transpose),
    Tensor.__getitem__: getitem,
    **dict.fromkeys((torch.chunk, Tensor.chunk), chunk),
    **dict.fromkeys((torch.split, Tensor.split), split),
    **dict.fromkeys((torch.cat, torch.concat), cat),
    **dict.fromkeys((torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__), add),
    **dict.fromkeys((torch.sub, Tensor.sub, Tensor.sub_, Tensor.__sub__, Tensor.__isub__), add),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__), multiply),
    **dict.fromkeys((torch.div, Tensor.div, Tensor.div_, Tensor.__truediv__, Tensor.__itruediv__), divide),
}
