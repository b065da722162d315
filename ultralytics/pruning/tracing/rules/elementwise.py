"""Functions of each element alone: activations, sums, products. They tie the channels of their operands.

Whether zero stays zero, as it does for a product but not for a sigmoid, is found out by trying the function on a few
numbers, so that it needs no list and holds for every setting.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..records import Labelled
from ..tape import Tape
from .call import Call, Rule

PROBES = (0.75, -1.25, 2.5, -3.5)  # what an operand that is not zero may be


def elementwise(tape: Tape, call: Call) -> bool:
    """Channels at the same place become one."""
    tensors = [value for value in [*call.args, *call.kwargs.values()] if isinstance(value, Tensor)]
    return _unite(tape, call, tensors, call.result, lambda items: _stays_zero(call, items))


def typed_like(tape: Tape, call: Call) -> bool:
    """A copy with the type of another tensor, which says nothing about channels."""
    return _unite(tape, call, [call.tensor], call.result, lambda items: items[0].silent)


def prelu(tape: Tape, call: Call) -> bool:
    """A leaky rectifier with one slope, or one for each channel (dimension 1)."""
    image, slope = call.tensor, tape.labelled(call.argument(1, "weight"))
    item = tape.labelled(image)
    if item is None or (call.argument(1, "weight").numel() > 1 and (slope is None or item.dim != 1)):
        return False
    if slope is not None and item.dim == 1:
        tape.union.unite(item.labels, slope.labels)
        tape.stored_width("num_parameters", item.labels)
    return tape.put(call.result, item.dim, item.labels, silent=item.silent)


def softmax(tape: Tape, call: Call) -> bool:
    """Normalises over a dimension; over that of the channels, it mixes them."""
    item, dim = tape.labelled(call.tensor), call.argument(1, "dim")
    if item is None or dim is None or dim % call.tensor.ndim == item.dim:
        return False
    return tape.put(call.result, item.dim, item.labels, silent=False)


def normalize(tape: Tape, call: Call) -> bool:
    """Divides by the norm over a dimension, to which zero channels add nothing."""
    item = tape.labelled(call.tensor)
    if item is None or not item.silent:
        return False
    return tape.put(call.result, item.dim, item.labels)


def glu(tape: Tape, call: Call) -> bool:
    """The first half of the channels times the sigmoid of the second half."""
    item, dim = tape.labelled(call.tensor), call.argument(1, "dim", -1) % call.tensor.ndim
    if item is None or (dim == item.dim and not item.silent):
        return False
    if dim != item.dim:
        return tape.put(call.result, item.dim, item.labels, silent=item.silent)
    half = len(item.labels) // 2
    tape.union.unite(item.labels[:half], item.labels[half:])
    return tape.put(call.result, dim, item.labels[:half])


def _unite(tape: Tape, call: Call, operands: list[Tensor], result: Any, zero: Any) -> bool:
    """Aligns operands by the rules of broadcasting, and unites their labels."""
    if not isinstance(result, Tensor):
        return False
    items = [item for item in map(tape.labelled, operands) if item is not None]
    places = {item.dim + result.ndim - item.tensor.ndim for item in items}
    if len(places) != 1 or min(places) < 0:
        return False

    dim = places.pop()
    width = result.shape[dim]
    wide = [item.labels for item in items if len(item.labels) == width]
    silent = zero(items)
    for operand in operands:  # a constant with a number for each channel cannot be cut
        place = dim - result.ndim + operand.ndim
        if tape.labelled(operand) is None and place >= 0 and operand.shape[place] == width > 1:
            return False

    for item in items:
        if len(item.labels) < width:  # one channel that reaches every other
            tape.union.pin(item.labels, "broadcast over channels")
    tape.union.unite_all(wide)
    if call.in_place and not silent:
        tape.sound(result)
    if not wide:
        return False
    return tape.put(result, dim, wide[0], silent=silent)


def _stays_zero(call: Call, items: list[Labelled]) -> bool:
    """Whether the result is zero where the silent operands are, whatever the others are."""
    quiet = {id(item.tensor) for item in items if item.silent}
    width = max(len(item.labels) for item in items)
    quiet -= {id(item.tensor) for item in items if len(item.labels) < width}
    if not quiet:
        return False

    def probe(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        numbers = torch.zeros(len(PROBES)) if id(value) in quiet else torch.tensor(PROBES)
        numbers = numbers > 0 if value.dtype is torch.bool and id(value) not in quiet else numbers
        floats = value.dtype.is_floating_point
        return numbers.to(torch.float32 if floats else value.dtype).view(1, -1, 1, 1)  # 4-D: memory formats ask for it

    kwargs = {key: probe(value) for key, value in call.kwargs.items()}
    try:
        return not bool(call.function(*map(probe, call.args), **kwargs).count_nonzero())
    except (RuntimeError, TypeError):
        return False


ACTIVATIONS = """silu relu leaky_relu relu6 gelu mish hardswish elu selu celu softsign tanhshrink tanh sigmoid
    hardsigmoid hardtanh softplus logsigmoid softshrink hardshrink threshold rrelu dropout dropout1d dropout2d dropout3d
    alpha_dropout feature_alpha_dropout"""
ARITHMETIC = """add sub subtract mul multiply div divide true_divide pow maximum minimum neg negative abs absolute exp
    exp2 expm1 log log1p log2 sqrt rsqrt square reciprocal sign erf sin cos atan floor ceil round clamp clip clamp_min
    clamp_max where lerp addcmul addcdiv clone detach contiguous to float half bfloat16 double nan_to_num
    masked_fill logit gt lt ge le eq ne logical_not rsub"""
OPERATORS = """add radd iadd sub rsub isub mul rmul imul truediv rtruediv itruediv div idiv rdiv pow ipow rpow neg abs
    gt lt ge le eq ne"""


def variants(*names: str) -> list[Any]:
    """Returns all functions of torch with these names: of `torch`, of `Tensor`, of `functional`, and in place."""
    places = (torch, Tensor, F)
    return [
        getattr(place, variant)
        for name in names
        for variant in (name, f"{name}_")
        for place in places
        if hasattr(place, variant)
    ]


def _operators() -> list[Any]:
    return [getattr(Tensor, f"__{name}__") for name in OPERATORS.split() if hasattr(Tensor, f"__{name}__")]


ELEMENTWISE: dict[object, Rule] = {
    **dict.fromkeys(variants(*ACTIVATIONS.split(), *ARITHMETIC.split()) + _operators(), elementwise),
    **dict.fromkeys(variants("type_as"), typed_like),
    **dict.fromkeys(variants("prelu"), prelu),
    **dict.fromkeys(variants("softmax", "log_softmax", "softmin"), softmax),
    F.normalize: normalize,
    **dict.fromkeys(variants("glu"), glu),
}
