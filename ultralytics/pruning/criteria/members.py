"""The parameters that belong to each group of channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..channels import ChannelMap, Layer


class Members:
    """Adds up values of channels over their groups."""

    def __init__(self, channel_map: ChannelMap) -> None:
        self._total = np.zeros(len(channel_map.channels))
        self._count = np.zeros(len(channel_map.channels))

    def add(self, groups: np.ndarray, values: Tensor | np.ndarray) -> None:
        """Adds one value (C,) for each place of a tensor's channels, whose groups are int64 of shape (C,)."""
        np.add.at(self._total, groups, torch.as_tensor(values).double().cpu().numpy())
        np.add.at(self._count, groups, 1)

    def mean(self) -> np.ndarray:
        """Returns the mean of each group, float64 of shape (G,); NaN where there is none."""
        return np.divide(self._total, self._count, out=np.full_like(self._total, np.nan), where=self._count > 0)

    def sum(self) -> np.ndarray:
        """Returns the sum of each group, float64 of shape (G,); NaN where there is none."""
        return np.where(self._count > 0, self._total, np.nan)


def filter_layers(channel_map: ChannelMap) -> Iterator[Layer]:
    """Yields the layers that have filters."""
    return (layer for layer in channel_map.layers.values() if layer.has_filters)


def parameters_of(layer: Layer, model: nn.Module) -> dict[str, Tensor]:
    """Returns the parameters of a layer by name in the model: its weight and bias, or the parameter that it is."""
    owner, _, last = layer.name.rpartition(".")
    found: Any = getattr(model.get_submodule(owner), last)
    if not isinstance(found, nn.Module):
        return {layer.name: found}
    parts: dict[str, Any] = {"weight": found.weight, "bias": found.bias}
    return {f"{layer.name}.{key}": tensor for key, tensor in parts.items() if tensor is not None}


def rows(layer: Layer, weight: Tensor) -> Tensor:
    """Returns a layer's weights by output channel, of shape (C_out, n)."""
    return _across(weight, layer.conv_groups) if layer.kind == "ConvTranspose2d" else weight.flatten(1)


def columns(layer: Layer, weight: Tensor) -> Tensor:
    """Returns a layer's weights by input channel, of shape (C_in, n)."""
    return weight.flatten(1) if layer.kind == "ConvTranspose2d" else _across(weight, layer.conv_groups)


def to_itself(layer: Layer, weight: Tensor) -> tuple[np.ndarray, Tensor]:
    """Returns what is in a row and in a column of the same group: the groups, and the sum over the kernel of each."""
    first, second = layer.outputs, layer.inputs
    if layer.kind == "ConvTranspose2d":
        first, second = second, first
    ours, theirs = (part.reshape(layer.conv_groups, -1) for part in (first, second))
    where = np.nonzero(ours[:, :, None] == theirs[:, None, :])
    values = weight.reshape(layer.conv_groups, ours.shape[1], theirs.shape[1], -1).sum(3)
    return ours[where[0], where[1]], values[where]


def _across(weight: Tensor, groups: int) -> Tensor:
    """Brings (A, B / groups, ...), where the groups split A, to (B, n)."""
    parts = weight.reshape(groups, len(weight) // groups, weight.shape[1], -1)
    return parts.transpose(1, 2).reshape(groups * weight.shape[1], -1)
