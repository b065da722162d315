"""Hooks on the layers of a network that are gone when a block ends."""

from __future__ import annotations

import contextlib
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
