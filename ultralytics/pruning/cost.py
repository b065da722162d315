"""Parameters and multiply-adds of any choice of channels: arithmetic on the `ChannelMap`, no forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .channels import ChannelMap


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        params: Number of parameters, batch norms included (running statistics are buffers, not parameters).
        macs: Multiply-adds of all convolutions and linear layers for one image.
    """

    params: int
    macs: int

    @property
    def gflops(self) -> float:
        """10^9 floating-point operations for one image, counted as 2 x multiply-adds."""
        return 2 * self.macs / 1e9


def cost_of(channel_map: ChannelMap, kept: np.ndarray | None = None) -> Cost:
    """Costs of a network that keeps the given groups.

    Args:
        channel_map: The traced network.
        kept: Which groups stay, bool of shape (G,); all by default.
    """
    if kept is None:
        kept = np.ones(len(channel_map.channels), dtype=bool)
    params, macs = channel_map.other_parameters, 0
    for layer in channel_map.layers.values():
        width_in, width_out = int(kept[layer.inputs].sum()), int(kept[layer.outputs].sum())
        if not layer.has_filters:
            params += (2 * width_out if layer.bias else 0) if layer.is_norm else width_out * (layer.kind == "Parameter")
            continue
        groups = width_in if layer.conv_groups == len(layer.inputs) else layer.conv_groups
        weights = width_in * width_out * layer.kernel_cells // max(groups, 1)
        params += weights + (width_out if layer.bias else 0)
        macs += weights * layer.cells
    return Cost(params=params, macs=macs)
