"""Tensors that report `cuda:0` and hold CPU memory, and the rule of which devices may meet (see `emulated_cuda.py`)."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter, tree_map

CUDA = torch.device("cuda:0")
ANY_DEVICES = {"aten::copy_", "aten::fill_", "aten::_foreach_copy_", "aten::_foreach_copy"}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({})"


class CudaTensor(Tensor):
    """A tensor on the emulated GPU; `_own` is a plain tensor over the same memory."""

    _own: Tensor

    def __new__(cls, own: Tensor) -> CudaTensor:
        """Wraps a plain tensor without a copy."""
        tensor: CudaTensor = Tensor._make_subclass(cls, own)
        tensor._own = own
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        """Runs an operation on the memory, if the devices of its tensors allow it."""
        kwargs = kwargs or {}
        refuse_mixed(function, args, kwargs)
        if isinstance(kwargs.get("generator"), torch.Generator):
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        known = {id(tensor): tensor for tensor in tree_iter((args, kwargs)) if type(tensor) is Tensor}

        def owned(item: Any) -> Any:
            if isinstance(item, cls):
                known[id(item._own)] = item
                return item._own
            return item

        def given(item: Any) -> Any:
            return known.get(id(item)) if id(item) in known else cls(item) if isinstance(item, Tensor) else item

        return tree_map(given, function(*tree_map(owned, args), **tree_map(owned, kwargs)))

    def get_device(self) -> int:
        """Returns the GPU's number."""
        return CUDA.index

    def numpy(self, *, force: bool = False):
        """Raises, as CUDA does, unless it is forced."""
        if force:
            return self._own.numpy(force=True)
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    def tolist(self):
        """Returns the numbers, past any mode that wants to see it."""
        if torch._C._is_torch_function_mode_enabled():
            return torch.overrides.handle_torch_function(Tensor.tolist, (self,), self)
        return self._own.tolist()

    def __array__(self, dtype=None, copy=None):
        """Raises, as `numpy` does."""
        return self.numpy()

    def __deepcopy__(self, memo: dict) -> CudaTensor:
        if id(self) not in memo:
            memo[id(self)] = self._like_this(CudaTensor(self._own.clone()))
            if self.grad is not None:
                memo[id(self)].grad = copy.deepcopy(self.grad, memo)
        return memo[id(self)]

    def _like_this(self, tensor: CudaTensor) -> CudaTensor:
        """Makes a tensor a parameter where this one is, and lets it require a gradient as this one does."""
        if getattr(self, "_is_param", False):
            tensor._is_param = True
        return tensor.requires_grad_(self.requires_grad)

    def __reduce_ex__(self, protocol):
        """Gives what PyTorch writes of a tensor on CUDA: a stock tensor whose storage has the location `cuda:0`."""
        if getattr(self, "_is_param", False):
            return torch._utils._rebuild_parameter, (self.detach(), self.requires_grad, OrderedDict())
        self._own.untyped_storage().emulated = True
        rebuild, parts = self._own.__reduce_ex__(protocol)
        return rebuild, (*parts[:4], self.requires_grad, *parts[5:])

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"{self._own!r} on {CUDA}"

    def __format__(self, words: str) -> str:
        return format(self._own, words)


def on_cuda(item: Any) -> bool:
    """Whether a tensor, or what names a device, is on the emulated GPU."""
    if isinstance(item, Tensor):
        return isinstance(item, CudaTensor)
    if isinstance(item, torch.device):
        return item.type == "cuda"
    return isinstance(item, int) or (isinstance(item, str) and item.startswith("cuda"))


def refuse_mixed(function: Any, args: tuple, kwargs: dict) -> None:
    """Raises a RuntimeError where CUDA does, as an operation meets tensors of both devices.

    Allowed are copies; indices on the CPU for a tensor on the GPU; one number on the CPU (0 dimensions) in an
    elementwise operation whose result goes to the GPU, in `_foreach_` operations in each element of the lists.
    """
    tensors = [item for item in tree_iter((args, kwargs)) if isinstance(item, Tensor)]
    name = function._schema.name
    if len({on_cuda(tensor) for tensor in tensors}) < 2 or name in ANY_DEVICES:
        return
    if name in INDEXING:
        target, _, *values = args
        if not on_cuda(target):
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        if any(isinstance(value, Tensor) and not on_cuda(value) and value.ndim for value in values):
            raise RuntimeError(MIXED.format(name))
    elif name.startswith("aten::_foreach_"):
        lists = [item for item in args if isinstance(item, (list, tuple)) and any(isinstance(i, Tensor) for i in item)]
        single = [item for item in args if isinstance(item, Tensor)]
        for own in zip(*lists, strict=True):
            _refuse_mixed_numbers(name, [*own, *single], written=own[0] if name.endswith("_") else None)
    elif name == "aten::where":  # numbers are brought over
        if any(tensor.ndim for tensor in tensors if not on_cuda(tensor)):
            raise RuntimeError(MIXED.format(name))
    elif name.startswith("aten::masked_fill"):
        if not (on_cuda(args[0]) and on_cuda(args[1])) or args[2].ndim:
            raise RuntimeError(MIXED.format(name))
    elif torch.Tag.pointwise in function.tags:
        writes = name.endswith("_") or "out" in kwargs
        _refuse_mixed_numbers(name, tensors, written=kwargs.get("out", args[0]) if writes else None)
    else:
        raise RuntimeError(MIXED.format(name))


def _refuse_mixed_numbers(name: str, tensors: list[Tensor], written: Tensor | None) -> None:
    """Raises a RuntimeError unless there is at most one tensor on the CPU, a number that is not written to."""
    others = [tensor for tensor in tensors if not on_cuda(tensor)]
    if len(others) == len(tensors):
        return
    if len(others) > 1 or any(tensor.ndim or tensor is written for tensor in others):
        raise RuntimeError(MIXED.format(name))
