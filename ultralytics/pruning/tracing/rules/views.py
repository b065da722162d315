"""Views, permutations and slices: functions that move the elements of a tensor about.

Most of these rules run the very function on a tensor of labels, one for each element, and look along which dimension
of the result the labels differ. Sizes that the code names become equations (see `equations.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...channels import FIXED
from ..equations import free, symbols_of
from ..records import Labelled
from ..sizes import Attribute
from ..tape import Tape
from .call import Call, Rule, takes_sizes
from .elementwise import variants

MANY = 64  # columns from which on it pays to sort out those that are there twice


def element_labels(tape: Tape, tensor: Tensor) -> Tensor:
    """Returns the label of each element of a tensor, without memory for what is repeated."""
    item = tape.labelled(tensor)
    if item is None:
        return torch.tensor(FIXED, device="cpu").expand(tensor.shape)  # with labels, whatever the default device
    shape = [len(item.labels) if dim == item.dim else 1 for dim in range(tensor.ndim)]
    return torch.from_numpy(item.labels).view(shape).expand(tensor.shape)


def varying(labels: Tensor) -> list[int]:
    """Returns the dimensions along which element labels differ."""
    return [
        dim
        for dim, (size, stride) in enumerate(zip(labels.shape, labels.stride(), strict=True))
        if size > 1 and stride != 0 and bool((labels.narrow(dim, 1, size - 1) != labels.narrow(dim, 0, size - 1)).any())
    ]


def spread(tape: Tape, result: Tensor, labels: Tensor, *, silent: bool, prefer: Sequence[int] = ()) -> int | None:
    """Labels a result from the labels of its elements, and ties channels until they differ along one dimension.

    Args:
        tape: The notes of the run.
        result: What a call returned.
        labels: The label of each of its elements.
        silent: Whether it is zero where a channel is removed.
        prefer: The dimensions that may hold the channels, the best first; by default all, the last first.

    Returns:
        The dimension with the channels; None if there is none.
    """
    dims = varying(labels)
    if not dims:  # one channel, which a layer keeps in any case
        tape.union.pin(labels.flatten()[:1].numpy(), "a single channel")
        return None
    dim = next((dim for dim in prefer if dim in dims), dims[-1])
    for other in range(labels.ndim):  # what does not differ need not be compared
        labels = labels if other in dims else labels.narrow(other, 0, 1)
    columns = labels.movedim(dim, 0).reshape(labels.shape[dim], -1).numpy().T
    tape.union.unite_all(columns if len(columns) < MANY else np.unique(columns, axis=0))
    tape.put(result, dim, np.ascontiguousarray(columns[0]), silent=silent)
    return dim


def _equate(tape: Tape, result: Tensor, dim: int | None, sizes: Sequence[Any]) -> None:
    """Turns the sizes that a call names for its result into equations."""
    for place, size in enumerate(sizes):
        item = tape.labelled(result)
        if place == dim and item is not None:
            if int.__index__(operator.index(size)) != -1:
                tape.equations.equate(size, item.labels)
        else:
            tape.equations.hold(symbols_of(size))


@takes_sizes
def view(tape: Tape, call: Call) -> bool:
    """A reshape, or anything that names the sizes of its result: view, reshape, expand."""
    item, sizes = tape.labelled(call.tensor), call.numbers(1, "shape", "size")
    if item is None or not sizes or isinstance(sizes[0], torch.dtype) or not isinstance(call.result, Tensor):
        return False
    return _reshape(tape, call, item, sizes)


@takes_sizes
def view_as(tape: Tape, call: Call) -> bool:
    """A reshape to the shape of another tensor."""
    item = tape.labelled(call.tensor)
    return item is not None and _reshape(tape, call, item, tape.shape(call.argument(1, "other")))


def _reshape(tape: Tape, call: Call, item: Labelled, sizes: Sequence[Any]) -> bool:
    labels, shape = element_labels(tape, call.tensor), call.result.shape
    grows = call.short_name in ("expand", "expand_as", "broadcast_to")
    labels = labels.expand(shape) if grows else labels.reshape(shape)
    dims = varying(labels)
    prefer = [dim for dim in reversed(dims) if free(sizes[dim], tape.fixed)] + dims[::-1]
    dim = spread(tape, call.result, labels, silent=item.silent, prefer=prefer)
    if len(dims) > 1 and dim is not None:
        tape.relied.update(symbol for symbol in symbols_of(sizes[dim]) if isinstance(symbol, Attribute))
    _equate(tape, call.result, dim, sizes)
    return True


@takes_sizes
def unflatten(tape: Tape, call: Call) -> bool:
    """Splits one dimension into several."""
    item, place = tape.labelled(call.tensor), call.argument(1, "dim") % call.tensor.ndim
    if item is None:
        return False
    sizes = [-1] * call.result.ndim
    named = call.argument(2, "sizes", call.kwargs.get("unflattened_size"))
    sizes[place : place + len(named)] = named
    return _reshape(tape, call, item, sizes)


def moving(tape: Tape, call: Call) -> bool:
    """Permutations, new and dropped dimensions of size 1, flattening, repetition: no sizes of channels are named."""
    item = tape.labelled(call.tensor)
    if item is None or (call.short_name == "unbind" and call.argument(1, "dim", 0) % call.tensor.ndim == item.dim):
        return False
    if call.in_place and call.short_name.endswith("_"):  # its shape is another one already
        tape.forget(call.tensor)
        return False
    labels = element_labels(tape, call.tensor)
    if call.short_name == "flatten":
        labels = labels.reshape(call.result.shape)
    else:
        labels = call.function(labels, *call.args[1:], **{k: v for k, v in call.kwargs.items() if v is not call.tensor})
    results, parts = ((call.result,), (labels,)) if isinstance(call.result, Tensor) else (call.result, labels)
    for result, part in zip(results, parts, strict=True):
        spread(tape, result, part, silent=item.silent)
    return True


@takes_sizes
def getitem(tape: Tape, call: Call) -> bool:
    """Slices, and indices of other dimensions. A slice's bounds say how many channels lie before them."""
    tensor, index = call.args[0], call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    item = tape.labelled(tensor)
    if item is None:
        return False
    place, part = _index_at(tensor, index, item.dim)
    if not isinstance(part, slice) or part.step not in (None, 1):
        return False
    for bound, is_stop in ((part.start, False), (part.stop, True)):
        if bound is None:
            continue
        number = int.__index__(operator.index(bound))
        before = item.labels[:number] if number >= 0 else item.labels[number:]
        if len(before) and (symbols_of(bound) or not is_stop or len(before) < len(item.labels)):
            tape.equations.equate(bound if number >= 0 else -bound, before)
    others = [part for number, part in enumerate(index) if number != place]
    tape.equations.use([symbol for bound in _bounds(others) for symbol in symbols_of(bound)])
    plain = tuple(part.cpu() if isinstance(part, Tensor) else part for part in index)
    spread(tape, call.result, element_labels(tape, tensor)[plain], silent=item.silent)
    return True


def _bounds(index: Sequence[Any]) -> list[Any]:
    return [bound for part in index for bound in ((part.start, part.stop) if isinstance(part, slice) else (part,))]


def _index_at(tensor: Tensor, index: tuple, dim: int) -> tuple[int | None, Any]:
    """Returns which part of an index, and what, stands at a dimension; a full slice where none does."""

    def takes(part: Any) -> int:
        if part is None or part is Ellipsis:
            return 0
        return part.ndim if isinstance(part, Tensor) and part.dtype is torch.bool else 1

    missing = tensor.ndim - sum(map(takes, index))
    at = 0
    for place, part in enumerate(index):
        width = missing if part is Ellipsis else takes(part)
        if at <= dim < at + width:
            return (None, slice(None)) if part is Ellipsis else (place, part)
        at += width
    return None, slice(None)


@takes_sizes
def narrow(tape: Tape, call: Call) -> bool:
    """A slice of one dimension by its start and length."""
    dim = call.argument(1, "dim") % call.tensor.ndim
    start, length = call.argument(2, "start"), call.argument(3, "length")
    index = (slice(None),) * dim + (slice(start, start + length),)
    return getitem(tape, Call(Tensor.__getitem__, (call.tensor, index), {}, call.result))


MOVING = (
    "permute transpose swapaxes swapdims movedim moveaxis squeeze unsqueeze flatten unbind flip t ravel tile repeat"
)
VIEWS: dict[object, Rule] = {
    **dict.fromkeys([*variants("view", "reshape", "expand", "broadcast_to")], view),
    **dict.fromkeys(variants("view_as", "reshape_as", "expand_as"), view_as),
    **dict.fromkeys(variants("unflatten"), unflatten),
    **dict.fromkeys([*variants(*MOVING.split()), Tensor.mT.__get__, Tensor.T.__get__], moving),  # type: ignore[attr-defined]
    Tensor.__getitem__: getitem,
    **dict.fromkeys(variants("narrow"), narrow),
}
