"""Cuts and joins: a tensor into several, several into one; channels into space and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..records import Labelled
from ..tape import Tape
from .call import Call, Rule, takes_sizes
from .elementwise import variants
from .views import element_labels, moving, spread


def chunk(tape: Tape, call: Call) -> bool:
    """Cuts the channels into equal parts by position, so that all parts must keep equally many."""
    item, dim = tape.labelled(call.tensor), call.argument(2, "dim", 0) % call.tensor.ndim
    if item is None:
        return False
    if dim != item.dim:
        return all(tape.put(part, item.dim, item.labels, silent=item.silent) for part in call.result)
    parts = _parts(item.labels, call.result, dim)
    if len({len(part) for part in parts}) > 1:
        tape.union.pin(item.labels, "chunk into unequal parts")
    elif len(parts) > 1:
        tape.balances.append(tuple(parts))
        tape.stored_width("c", parts[0])
    return _put_parts(tape, call, item, parts)


@takes_sizes
def split(tape: Tape, call: Call) -> bool:
    """Cuts the channels into parts whose sizes the code names."""
    item, dim = tape.labelled(call.tensor), call.argument(2, "dim", 0) % call.tensor.ndim
    sizes = call.argument(1, "split_size_or_sections", call.kwargs.get("split_size"))
    if item is None:
        return False
    if dim != item.dim:
        tape.use_sizes([call.args, call.kwargs])
        return all(tape.put(part, item.dim, item.labels, silent=item.silent) for part in call.result)
    parts = _parts(item.labels, call.result, dim)
    if isinstance(sizes, int):
        sizes = [sizes] * len(parts)
        if len(parts[-1]) < int.__index__(sizes[0]):
            sizes[-1] = len(parts[-1])
    for size, part in zip(sizes, parts, strict=True):
        tape.equations.equate(size, part)
    return _put_parts(tape, call, item, parts)


def _parts(labels: np.ndarray, results: Sequence[Tensor], dim: int) -> list[np.ndarray]:
    return np.split(labels, np.cumsum([part.shape[dim] for part in results])[:-1])


def _put_parts(tape: Tape, call: Call, item: Labelled, parts: list[np.ndarray]) -> bool:
    pairs = zip(call.result, parts, strict=True)
    return all(tape.put(tensor, item.dim, part, silent=item.silent) for tensor, part in pairs)


def cat(tape: Tape, call: Call) -> bool:
    """Joins channels; along another dimension, channels at the same place become one."""
    tensors, dim = list(call.argument(0, "tensors")), call.argument(1, "dim", 0)
    items = [tape.labelled(tensor) for tensor in tensors]
    silent = all(item.silent for item in items if item)
    if call.short_name == "stack":
        labels = torch.stack([element_labels(tape, tensor) for tensor in tensors], dim)
        dims = {item.dim + (item.dim >= dim % call.result.ndim) for item in items if item}
        return _joined(tape, call, labels, dims, silent)
    if all(item is not None and item.dim == dim % call.result.ndim for item in items):
        joined = np.concatenate([item.labels for item in items if item])
        return tape.put(call.result, dim % call.result.ndim, joined, silent=silent)
    labels = torch.cat([element_labels(tape, tensor) for tensor in tensors], dim)
    return _joined(tape, call, labels, {item.dim for item in items if item}, silent)


def _joined(tape: Tape, call: Call, labels: Tensor, dims: set[int], silent: bool) -> bool:
    """Labels a join; a constant that is joined to channels along another dimension pins them."""
    if len(dims) != 1:
        return False
    spread(tape, call.result, labels, silent=silent, prefer=list(dims))
    return True


def repeat_interleave(tape: Tape, call: Call) -> bool:
    """Repeats each element a number of times."""
    item, repeats = tape.labelled(call.tensor), call.argument(1, "repeats")
    if item is None or not isinstance(repeats, int) or call.argument(2, "dim") is None:
        return False
    return moving(tape, call)


# Channels and space


def pixel_shuffle(tape: Tape, call: Call) -> bool:
    """Moves blocks of r * r channels into space: they become one."""
    return _blocks(tape, call, call.argument(1, "upscale_factor") ** 2, shrinks=True)


def pixel_unshuffle(tape: Tape, call: Call) -> bool:
    """Moves cells of r * r into channels: each channel becomes r * r."""
    return _blocks(tape, call, call.argument(1, "downscale_factor") ** 2, shrinks=False)


def _blocks(tape: Tape, call: Call, block: int, *, shrinks: bool) -> bool:
    item, dim = tape.labelled(call.tensor), call.tensor.ndim - 3
    if item is None or item.dim != dim:
        return False
    if not shrinks:
        return tape.put(call.result, dim, np.repeat(item.labels, block), silent=item.silent)
    columns = item.labels.reshape(-1, block).T
    tape.union.unite_all(columns)
    return tape.put(call.result, dim, columns[0], silent=item.silent)


def channel_shuffle(tape: Tape, call: Call) -> bool:
    """Deals the channels of each group out: the channels at the same place of all groups become one."""
    item, groups = tape.labelled(call.tensor), int(call.argument(1, "groups"))
    if item is None or item.dim != call.tensor.ndim - 3:
        return False
    rows = item.labels.reshape(groups, -1)
    tape.union.unite_all(rows)
    return tape.put(call.result, item.dim, np.repeat(rows[0], groups), silent=item.silent)


PARTS: dict[object, Rule] = {
    **dict.fromkeys(variants("chunk"), chunk),
    **dict.fromkeys(variants("split", "split_with_sizes"), split),
    **dict.fromkeys(variants("cat", "concat", "concatenate", "stack"), cat),
    **dict.fromkeys(variants("repeat_interleave"), repeat_interleave),
    F.pixel_shuffle: pixel_shuffle,
    F.pixel_unshuffle: pixel_unshuffle,
    **dict.fromkeys(variants("channel_shuffle"), channel_shuffle),
}
