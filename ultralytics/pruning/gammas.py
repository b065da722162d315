"""The batch-norm scales (gamma) of the channels that can be removed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from .channels import ChannelMap
from .errors import PruningError


@dataclass(frozen=True)
class Gamma:
    """The scales of one batch norm.

    Attributes:
        parameter: gamma of shape (C,).
        beta: The shifts beside them, of shape (C,).
        groups: The group of each channel, int64 of shape (C,).
        free: Which of its channels can be removed, bool of shape (C,).
    """

    parameter: torch.Tensor
    beta: torch.Tensor
    groups: np.ndarray
    free: np.ndarray

    def prunable(self) -> np.ndarray:
        """|gamma| of the channels that can be removed, float64 of shape (K,)."""
        return self.parameter.detach().abs().cpu().double().numpy()[self.free]


def all_gammas(channel_map: ChannelMap, model: nn.Module) -> dict[str, Gamma]:
    """Returns the scales of each batch norm that has any, by name, in the order of their first run."""
    modules = dict(model.named_modules())
    return {
        layer.name: Gamma(norm.weight, norm.bias, layer.outputs, channel_map.free[layer.outputs])
        for layer in channel_map.norms()
        if (norm := modules[layer.name]).weight is not None
    }


def gammas_of(channel_map: ChannelMap, model: nn.Module) -> dict[str, Gamma]:
    """Returns `all_gammas` of a network whose channels can be told by them.

    Raises:
        PruningError: If no channel with a scale can be removed.
    """
    gammas = all_gammas(channel_map, model)
    if not any(gamma.free.any() for gamma in gammas.values()):
        raise PruningError("no batch-norm scale of this network can be pruned, so a pull on them would do nothing")
    return gammas


def prunable_values(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Returns |gamma| of every batch-norm channel that can be removed, float64 of shape (K,)."""
    return np.concatenate([gamma.prunable() for gamma in gammas_of(channel_map, model).values()])
