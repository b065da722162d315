"""How often each weight of a network is used for one image of any size.

The network's own code runs at that size, but what costs time is not computed: a convolution, a sum or a join returns
zeros of the right shape that take no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .records import tensors_in
from .rules.elementwise import ACTIVATIONS, variants
from .rules.layers import ZEROS, cells_of
from .rules.reductions import POOLING

KEEP_SHAPE = {F.batch_norm, *variants(*ACTIVATIONS.split(), "clone", "contiguous", "softmax")}
BROADCAST = set(variants("add", "sub", "mul", "div")) | {
    getattr(Tensor, f"__{sign}{name}__") for sign in ("", "r", "i") for name in ("add", "sub", "mul", "truediv")
}
JOINS = set(variants("cat", "concat", "stack"))
PRODUCTS = {*variants("matmul", "bmm"), Tensor.__matmul__}
OF_EACH_CHANNEL = set(variants(*POOLING.split()))
TAKES_NAMES = JOINS | OF_EACH_CHANNEL  # whose arguments by name are understood


class Uses(TorchFunctionMode):
    """Adds up the cells that each weight is used on, and notes which tensors are read at all.

    Args:
        names: Names of the tensors to look for, by their ids.
    """

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.cells: Counter[str] = Counter()
        self.read: set[str] = set()
        self._names = names

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Runs a function, or returns zeros of its result's shape (see `torch.overrides.TorchFunctionMode`)."""
        result = _shaped(function, args, kwargs or {})
        if getattr(function, "__name__", "") != "__get__":  # a shape or a type says nothing of the values
            self.read.update(self._names.get(id(tensor), "") for tensor in tensors_in([args, kwargs]))
        if function in (F.conv2d, F.conv_transpose2d, F.linear):
            image, weight = (*args, *(kwargs or {}).values())[:2]
            if name := self._names.get(id(weight)):
                self.cells[name] += cells_of(function, image, result)
        return result


def _shaped(function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Returns what a function returns, with zeros for values wherever that is cheaper."""
    if function is Tensor.__setitem__ and 0 in args[0].stride():  # no memory to write to
        return None
    if function in KEEP_SHAPE:
        return args[0]
    if kwargs and function not in TAKES_NAMES:
        return function(*args, **kwargs)
    if function in ZEROS:
        return ZEROS[function](*args)

    if function in OF_EACH_CHANNEL and args and args[0].ndim == 4:
        one = function(args[0][:, :1], *args[1:], **kwargs)
        return one.expand(-1, args[0].shape[1], -1, -1) if isinstance(one, Tensor) else function(*args, **kwargs)
    tensors = [value for value in args if isinstance(value, Tensor) and value.dtype.is_floating_point]
    if function in BROADCAST and tensors:
        like = next((tensor for tensor in tensors if tensor.ndim), tensors[0])  # a number may be on the CPU
        return like.new_zeros(()).expand(np.broadcast_shapes(*(tensor.shape for tensor in tensors)))

    if function in PRODUCTS and min(args[0].ndim, args[1].ndim) > 1:
        shape = (*np.broadcast_shapes(args[0].shape[:-2], args[1].shape[:-2]), args[0].shape[-2], args[1].shape[-1])
        return args[0].new_zeros(()).expand(shape)
    if function in JOINS:
        return _joined(function, args[0], args[1] if len(args) > 1 else kwargs.get("dim", 0))
    return function(*args, **kwargs)


def _joined(function: Any, tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Returns zeros of the shape of tensors that are joined, by `stack` along a new dimension."""
    sizes = list(tensors[0].shape)
    if function is torch.stack:
        sizes.insert(dim % (len(sizes) + 1), len(tensors))
    else:
        sizes[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return tensors[0].new_zeros(()).expand(sizes)


def cells_at(model: nn.Module, names: Collection[str], image: Tensor) -> Counter[str] | None:
    """Counts the uses of the weights of the layers with these names, for an image (1, C, H, W).

    Returns:
        The uses by layer, or None where the network's code does not run on zeros.
    """
    modules = dict(model.named_modules())
    counter = Uses({id(modules[name].weight): name for name in names})
    try:
        with counter:
            model(image)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None
    return counter.cells
