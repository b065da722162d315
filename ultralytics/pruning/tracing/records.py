"""What is noted of a network's tensors and layers while it is traced."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

LAYER_TYPES = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)


HOLD_NONE = {bool, int, float, str, type(None)}  # of most attributes


@dataclass(frozen=True)
class Labelled:
    """The labels of one tensor.

    Attributes:
        tensor: The tensor, kept alive, since tensors are known by their id.
        dim: The dimension with the channels.
        labels: The label of each channel, int64 of shape (tensor.shape[dim],).
        silent: Whether the tensor is zero where a channel is removed. Behind a sigmoid, for one, it is not.
    """

    tensor: torch.Tensor
    dim: int
    labels: np.ndarray
    silent: bool = True


@dataclass
class Record:
    """A layer, or a tensor of a module with a value for each channel, while the network runs; becomes a `Layer`."""

    kind: str
    inputs: np.ndarray
    outputs: np.ndarray
    module: Any = None
    calls: int = 0
    cells: int = 0
    norm: str | None = None


def tensors_in(value: Any, skip: frozenset[str] | set[str] = frozenset()) -> Iterator[torch.Tensor]:
    """Yields the tensors in nested lists, tuples and dicts, but for dict entries with a key in `skip`."""
    if type(value) in HOLD_NONE:
        return
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in skip:
                yield from tensors_in(item, skip)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, skip)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in(vars(value), skip)


def stored_in(modules: Iterable[nn.Module]) -> Iterator[torch.Tensor]:
    """Yields the tensors that modules keep in plain attributes: no parameters, no buffers."""
    for module in modules:
        values = [value for value in vars(module).values() if type(value) not in HOLD_NONE]
        yield from tensors_in([value for value in values if not isinstance(value, dict)])


def owners_of(model: nn.Module) -> tuple[dict[int, Any], dict[int, str | None]]:
    """Returns the layer that owns each weight, by id, and the path of each other parameter and buffer, by id.

    A tensor that two modules share is nobody's (None), so that neither is cut.
    """
    layers: dict[int, Any] = {}
    paths: dict[int, str | None] = {}
    for name, module in model.named_modules():
        for key, tensor in {**module._parameters, **module._buffers}.items():
            if tensor is None:
                continue
            shared = id(tensor) in layers or id(tensor) in paths
            if isinstance(module, LAYER_TYPES):
                layers[id(tensor)] = None if shared else module
            else:
                paths[id(tensor)] = None if shared else f"{name}.{key}".lstrip(".")
    return layers, paths
