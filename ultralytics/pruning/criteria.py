"""How important each group of channels is. Higher is kept.

A criterion is a pure function from the channel map and the model to one score per group, float64 of shape (G,); NaN
where it cannot tell, and such a group is kept. A group's score combines its members by the mean unless the
criterion's paper says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from .channels import ChannelMap

Criterion = Callable[[ChannelMap, nn.Module], np.ndarray]


def bn_scale(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Mean |gamma| over a group's batch-norm channels.

    Source: Learning Efficient Convolutional Networks through Network Slimming, arXiv 1708.06519, section 3.
    """
    total = np.zeros(len(channel_map.channels))
    members = np.zeros(len(channel_map.channels))
    modules = dict(model.named_modules())
    for layer in channel_map.norms():
        gamma = modules[layer.name].weight
        if gamma is None:
            continue
        np.add.at(total, layer.outputs, gamma.detach().abs().cpu().double().numpy())
        np.add.at(members, layer.outputs, 1)
    return np.divide(total, members, out=np.full_like(total, np.nan), where=members > 0)


CRITERIA: dict[str, Criterion] = {"slim": bn_scale}
