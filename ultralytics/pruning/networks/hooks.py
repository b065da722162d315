"""Hooks on the layers of a network that are gone when a block ends, and copies of a network without any."""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn


@contextlib.contextmanager
def hooked(model: nn.Module, hooks: Mapping[str, Callable[..., Any]], *, before: bool = False) -> Iterator[None]:
    """Calls hooks behind layers, within the block.

    Args:
        model: The network.
        hooks: By the layers' names, as PyTorch's `register_forward_hook` takes them.
        before: Before the layers instead, as `register_forward_pre_hook` takes them.
    """
    modules = dict(model.named_modules())
    with contextlib.ExitStack() as handles:
        for name, hook in hooks.items():
            layer = modules[name]
            handle = layer.register_forward_pre_hook(hook) if before else layer.register_forward_hook(hook)
            handles.callback(handle.remove)
        yield


def copied_without_hooks(model: nn.Module) -> Any:
    """Returns a copy of a network in the midst of a training: without hooks, loss, or anything that these hold."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    memo: dict[int, Any] = {id(vars(m)[name]): OrderedDict() for m in model.modules() for name in hooks}
    if (loss := vars(model).get("criterion")) is not None:
        memo[id(loss)] = nn.Identity()  # a copy that is None would be made
    copied: Any = copy.deepcopy(model, memo)
    if loss is not None:
        copied.criterion = None
    return copied
