"""Cuts and joins: a tensor into several, several into one; channels into space and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .call import Call, Rule, takes_sizes
from .elementwise import variants
from .views import element_labels, moving, spread

if TYPE_CHECKING:
    from ..records import Labelled
    from ..tracer import Tracer


def chunk(trace: Tracer, call: Call) -> bool:
    """Cuts the channels into equal parts by position, so that all parts must keep equally many."""
    item, dim = trace.labelled(call.tensor), call.argument(2, "dim", 0) % call.tensor.ndim
    if item is None:
        return False
    if dim != item.dim:
        return all(trace.put(part, item.dim, item.labels, silent=item.silent) for part in call.result)
    parts = _parts(item.labels, call.result, dim)
    if len({len(part) for part in parts}) > 1:
        trace.union.pin(item.labels, "chunk into unequal parts")
    elif len(parts) > 1:
        trace.balances.append(tuple(parts))
        trace.stored_width("c", parts[0])
    return _put_parts(trace, call, item, parts)


@takes_sizes
def split(trace: Tracer, call: Call) -> bool:
    """Cuts the channels into parts whose sizes the code names."""
    item, dim = trace.labelled(call.tensor), call.argument(2, "dim", 0) % call.tensor.ndim
    sizes = call.argument(1, "split_size_or_sections", call.kwargs.get("split_size"))
    if item is None:
        return False
    if dim != item.dim:
        trace.use_sizes(call)
        return all(trace.put(part, item.dim, item.labels, silent=item.silent) for part in call.result)
    parts = _parts(item.labels, call.result, dim)
    if isinstance(sizes, int):
        sizes = [sizes] * len(parts)
        if len(parts[-1]) < int.__index__(sizes[0]):
            sizes[-1] = len(parts[-1])
    for size, part in zip(sizes, parts, strict=True):
        trace.equations.equate(size, part)
    return _put_parts(trace, call, item, parts)


def _parts(labels: np.ndarray, results: Sequence[Tensor], dim: int) -> list[np.ndarray]:
    return np.split(labels, np.cumsum([part.shape[dim] for part in results])[:-1])


def _put_parts(trace: Tracer, call: Call, item: Labelled, parts: list[np.ndarray]) -> bool:
    pairs = zip(call.result, parts, strict=True)
    return all(trace.put(tensor, item.dim, part, silent=item.silent) for tensor, part in pairs)


def cat(trace: Tracer, call: Call) -> bool:
    """Joins channels; along another dimension, channels at the same place become one."""
    tensors, dim = list(call.argument(0, "tensors")), call.argument(1, "dim", 0)
    items = [trace.labelled(tensor) for tensor in tensors]
    silent = all(item.silent for item in items if item)
    if call.short_name == "stack":
        labels = torch.stack([element_labels(trace, tensor) for tensor in tensors], dim)
        own = {item.dim + (item.dim >= dim % call.result.ndim) for item in items if item}
        return _joined(trace, call, labels, own, silent)
    if all(item is not None and item.dim == dim % call.result.ndim for item in items):
        joined = np.concatenate([item.labels for item in items if item])
        return trace.put(call.result, dim % call.result.ndim, joined, silent=silent)
    labels = torch.cat([element_labels(trace, tensor) for tensor in tensors], dim)
    return _joined(trace, call, labels, {item.dim for item in items if item}, silent)


def _joined(trace: Tracer, call: Call, labels: Tensor, dims: set[int], silent: bool) -> bool:
    """Labels a join; constants beside channels along another dimension than theirs tie the channels down."""
    if len(dims) != 1:
        return False
    spread(trace, call.result, labels, silent=silent, prefer=list(dims))
    return True


def repeat_interleave(trace: Tracer, call: Call) -> bool:
    """Repeats each element a number of times."""
    item, repeats = trace.labelled(call.tensor), call.argument(1, "repeats")
    if item is None or not isinstance(repeats, int) or call.argument(2, "dim") is None:
        return False
    return moving(trace, call)


# Channels and space


def pixel_shuffle(trace: Tracer, call: Call) -> bool:
    """Moves blocks of r * r channels into space: they become one."""
    return _blocks(trace, call, call.argument(1, "upscale_factor") ** 2, shrinks=True)


def pixel_unshuffle(trace: Tracer, call: Call) -> bool:
    """Moves cells of r * r into channels: each channel becomes r * r."""
    return _blocks(trace, call, call.argument(1, "downscale_factor") ** 2, shrinks=False)


def _blocks(trace: Tracer, call: Call, block: int, *, shrinks: bool) -> bool:
    item, dim = trace.labelled(call.tensor), call.tensor.ndim - 3
    if item is None or item.dim != dim:
        return False
    if not shrinks:
        return trace.put(call.result, dim, np.repeat(item.labels, block), silent=item.silent)
    columns = item.labels.reshape(-1, block).T
    trace.union.unite_all(columns)
    return trace.put(call.result, dim, columns[0], silent=item.silent)


def channel_shuffle(trace: Tracer, call: Call) -> bool:
    """Deals the channels of each group out: the channels at the same place of all groups become one."""
    item, groups = trace.labelled(call.tensor), int(call.argument(1, "groups"))
    if item is None or item.dim != call.tensor.ndim - 3:
        return False
    rows = item.labels.reshape(groups, -1)
    trace.union.unite_all(rows)
    return trace.put(call.result, item.dim, np.repeat(rows[0], groups), silent=item.silent)


PARTS: dict[object, Rule] = {
    **dict.fromkeys(variants("chunk"), chunk),
    **dict.fromkeys(variants("split", "split_with_sizes"), split),
    **dict.fromkeys(variants("cat", "concat", "concatenate", "stack"), cat),
    **dict.fromkeys(variants("repeat_interleave"), repeat_interleave),
    F.pixel_shuffle: pixel_shuffle,
    F.pixel_unshuffle: pixel_unshuffle,
    **dict.fromkeys(variants("channel_shuffle"), channel_shuffle),
}
