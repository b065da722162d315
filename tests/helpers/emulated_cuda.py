"""CUDA without a GPU: tensors that report `cuda:0`, hold CPU memory, and refuse what CUDA refuses.

`with emulated_cuda():` lets `torch.zeros(3, device="cuda:0")`, `tensor.to("cuda")`, `module.cuda()` and their like
return a `CudaTensor`: its memory is real CPU memory, views share it, and PyTorch's own kernels compute with it. Every
operation goes through `CudaTensor.__torch_dispatch__`, also those of a backward pass, and raises where tensors of both
devices meet, but for what CUDA allows (see `emulated_tensor.refuse_mixed`).

What it cannot show: anything of CUDA's kernels (their rounding, their speed, missing ones), streams and their order,
memory that ends, autocast (`autocast("cuda")` does nothing here), pinned memory (`pin_memory` returns the tensor),
cuDNN, several GPUs, worker processes of a data loader and the threads that pin for them. A tensor that C++ code makes
by the options of another cannot know that it belongs on `cuda`: such an operation raises here, though CUDA runs it.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # PyTorch's optimizers import it; here, before anything is replaced
from torch import Tensor
from torch.overrides import TorchFunctionMode

from helpers.emulated_tensor import CUDA, CudaTensor, on_cuda


class _Move(torch.autograd.Function):
    """A copy to the other device, whose gradient goes back."""

    @staticmethod
    def forward(ctx, tensor: Tensor, to_cuda: bool) -> Tensor:
        ctx.to_cuda = to_cuda
        with torch._C._AutoDispatchBelowAutograd():
            return CudaTensor(tensor.detach().clone()) if to_cuda else tensor._own.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return _Move.apply(gradient, not ctx.to_cuda), None


class _Emulation(TorchFunctionMode):
    """Sees every call of PyTorch that names a device, before PyTorch looks for a GPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Moves, makes and assigns as CUDA does; all else runs as it is."""
        kwargs = dict(kwargs or {})
        if own := OWN.get(function):
            return own(*args, **kwargs)
        device = kwargs.get("device")
        if device is None or (isinstance(device, torch.device) and device.type == "meta"):
            return function(*args, **kwargs)
        wanted, generator = on_cuda(device), kwargs.get("generator")
        if wanted and generator is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        result = function(*args, **{**kwargs, "device": "cpu"})
        if not isinstance(result, Tensor):
            return result
        result = _moved(result, wanted)
        return result.requires_grad_() if kwargs.get("requires_grad") else result


def _moved(tensor: Tensor, to_cuda: bool) -> Tensor:
    return tensor if on_cuda(tensor) == to_cuda else _Move.apply(tensor, to_cuda)


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to`, in each of its forms."""
    kwargs.pop("non_blocking", None)
    fresh = kwargs.pop("copy", False)
    other = args[0] if args else kwargs.pop("other", None)
    if isinstance(other, Tensor):
        args, kwargs = (), {**kwargs, "device": other.device, "dtype": other.dtype}
    device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
    moved = tensor if device is None else _moved(tensor, on_cuda(device))
    how = {"memory_format": layout} if layout is not None else {}
    if device is not None and device.type == "meta":
        return tensor.to(device)
    return Tensor.to(moved, dtype or moved.dtype, copy=fresh and moved is tensor, **how)


def _made(*args: Any, **kwargs: Any) -> Tensor:
    """`torch.tensor`: a copy where the content is, unless a device is named."""
    source, *rest = args
    device = kwargs.pop("device", source.device if isinstance(source, Tensor) else "cpu")
    source = source._own if isinstance(source, CudaTensor) else source
    return _on(device, torch.tensor(source, *rest, **kwargs))


def _as_tensor(source: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """`torch.as_tensor`: the tensor itself where nothing has to change."""
    if not isinstance(source, Tensor):
        return _on(device or "cpu", torch.as_tensor(source, dtype=dtype))
    return _to(source, device or source.device, dtype or source.dtype)


def _on(device: Any, tensor: Tensor) -> Tensor:
    """Brings a new tensor to a device; one that requires a gradient stays a leaf."""
    if not on_cuda(device):
        return tensor if str(device) == "cpu" else tensor.to(device)
    return CudaTensor(tensor.detach().clone()).requires_grad_(tensor.requires_grad)


def _set_data(tensor: Tensor, value: Tensor) -> None:
    """Assigns `.data`: on CUDA, the same object then has the other tensor's memory and device."""
    if on_cuda(tensor) != on_cuda(value):
        value = value.detach()
        if isinstance(tensor, torch.nn.Parameter):
            value = torch.nn.Parameter(value, tensor.requires_grad)
        if tensor.grad is not None:
            value.grad = _moved(tensor.grad, on_cuda(value))
        torch.utils.swap_tensors(tensor, value)
        return
    Tensor.data.__set__(tensor, value)
    if isinstance(tensor, CudaTensor):
        tensor._own = value._own


def _set_grad(tensor: Tensor, value: Tensor | None) -> None:
    """Assigns `.grad`."""
    if value is not None and on_cuda(tensor) != on_cuda(value):
        raise RuntimeError("attempting to assign a gradient located on a different device")
    Tensor.grad.__set__(tensor, value)


def _no_such(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    raise NotImplementedError("the emulation has no change of shape or storage in place")


OWN: dict[Any, Any] = {
    Tensor.to: _to,
    Tensor.type_as: lambda tensor, other: _to(tensor, other),
    Tensor.cpu: lambda tensor, **_: _moved(tensor, False),
    Tensor.cuda: lambda tensor, *_, **__: _moved(tensor, True),
    Tensor.pin_memory: lambda tensor, *_: tensor,
    Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    Tensor.grad.__set__: _set_grad,  # type: ignore[attr-defined]
    Tensor.set_: _no_such,
    Tensor.resize_: _no_such,
    Tensor.tolist: lambda tensor: tensor._own.tolist() if on_cuda(tensor) else tensor.tolist(),
    Tensor.new_tensor: lambda tensor, data, dtype=None, device=None, **how: _made(
        data, dtype=dtype or tensor.dtype, device=device or tensor.device, **how
    ),
    torch.tensor: _made,
    torch.as_tensor: _as_tensor,
}


def _rebuilt(rebuild):
    """Wraps PyTorch's reading of a tensor: one whose storage is restored to `cuda:0` is on the emulated GPU."""

    @functools.wraps(rebuild)  # so that pickle writes the name of PyTorch's own
    def rebuild_tensor(storage, *parts):
        tensor = rebuild(storage, *parts)
        return CudaTensor(tensor) if getattr(tensor.untyped_storage(), "emulated", False) else tensor

    return rebuild_tensor


def _location(storage: Any) -> str | None:
    return str(CUDA) if getattr(storage, "emulated", False) else None


def _restored(storage: Any, location: str) -> Any:
    if not location.startswith("cuda"):
        return None
    storage.emulated = True
    return storage


STREAM = types.SimpleNamespace(is_capturing=lambda: False)
GPU: dict[str, Any] = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_name": lambda device=None: "an emulated GPU",
    "get_device_capability": lambda device=None: (8, 0),
    "get_device_properties": lambda device=None: types.SimpleNamespace(
        name="an emulated GPU", total_memory=8 << 30, multi_processor_count=1, major=8, minor=0
    ),
    "mem_get_info": lambda device=None: (8 << 30, 8 << 30),
    "get_rng_state": lambda device=None: torch.zeros(16, dtype=torch.uint8),
    **{name: lambda *_, **__: 0 for name in ("memory_reserved", "memory_allocated", "max_memory_allocated")},
    **{
        name: lambda *_, **__: None
        for name in (
            ("synchronize", "empty_cache", "set_device", "set_rng_state", "manual_seed", "manual_seed_all")
            + ("reset_peak_memory_stats",)
        )
    },
}


@contextlib.contextmanager
def emulated_cuda() -> Iterator[torch.device]:
    """Lets this thread have one emulated GPU; yields its device."""
    allowed = torch._weights_only_unpickler._get_allowed_globals
    registry = torch.serialization._package_registry
    package = (0, _location, _restored)
    with contextlib.ExitStack() as undo:
        for name, stub in GPU.items():
            undo.enter_context(mock.patch.object(torch.cuda, name, stub))
        undo.enter_context(mock.patch.object(torch.accelerator, "current_stream", return_value=STREAM))
        undo.enter_context(mock.patch.object(torch, "_has_compatible_shallow_copy_type", return_value=True))
        rebuild = _rebuilt(torch._utils._rebuild_tensor_v2)
        undo.enter_context(mock.patch.object(torch._utils, "_rebuild_tensor_v2", rebuild))
        registry.insert(0, package)
        undo.callback(registry.remove, package)
        allowed.cache_clear()  # it holds the function that was there before
        undo.callback(allowed.cache_clear)
        undo.enter_context(_Emulation())
        yield CUDA
