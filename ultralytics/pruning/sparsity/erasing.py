"""Which groups of channels can fade without a trace."""

from __future__ import annotations

import numpy as np
from torch import nn

from ..channels import ChannelMap
from .scales import Scales


def erasable(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Returns which groups emit nothing once their gammas, betas and parameters are zero, bool of shape (G,).

    Each convolution of such a group has a batch norm of its own, so that no bias is left, and all of it is trained.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    erases = channel_map.free.copy()
    for layer in channel_map.layers.values():
        if layer.has_filters:
            fades = layer.norm is not None
        elif layer.is_norm:
            fades = modules[layer.name].weight is not None and modules[layer.name].weight.requires_grad
        else:
            fades = layer.name in parameters and parameters[layer.name].requires_grad
        if not fades:
            erases[layer.outputs] = False
    return erases


def traceless(channel_map: ChannelMap, model: nn.Module, scales: Scales) -> np.ndarray:
    """Returns the groups of `erasable` none of whose gammas is frozen, bool of shape (G,)."""
    return scales.whole & erasable(channel_map, model)
