"""Which groups of channels can fade until nothing of them is left."""

from __future__ import annotations

import numpy as np
from torch import nn

from ..channels import ChannelMap
from .scales import Scales


def erasable(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Returns which groups emit nothing once their gammas, betas and parameters are zero, bool of shape (G,).

    Each convolution of such a group has a batch norm behind it, so that no bias is left, and all gammas, betas and
    parameters of the group are trained.
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
    """Returns which groups are `erasable` and have no frozen gamma, bool of shape (G,)."""
    return scales.whole & erasable(channel_map, model)
