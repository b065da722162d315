"""Channels whose batch-norm scales are exactly zero: what a steered or proximal training wants removed."""

from __future__ import annotations

import numpy as np
from torch import nn

from ..channels import ChannelMap
from ..errors import PruningError
from ..gammas import all_gammas
from ..plans.findings import Finding, Kind
from .limits import Limits
from .repair import Repair

LEAST_SHARE = 0.01  # of the prunable channels, from which on a checkpoint counts as one that names what to remove


def zero_groups(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Returns which free groups have gammas, all of them exactly zero, bool of shape (G,)."""
    zero, other = (np.zeros(len(channel_map.channels), dtype=bool) for _ in range(2))
    for gamma in all_gammas(channel_map, model).values():
        at_zero = (gamma.parameter.detach() == 0).cpu().numpy()
        zero[gamma.groups[at_zero]] = True
        other[gamma.groups[~at_zero]] = True
    return zero & ~other & channel_map.free


def share_at_zero(channel_map: ChannelMap, model: nn.Module) -> float:
    """Returns the share of the free channels that are in `zero_groups`, in 0..1."""
    free = channel_map.channels[channel_map.free].sum()
    return float(channel_map.channels[zero_groups(channel_map, model)].sum() / max(free, 1))


def keep_the_rest(channel_map: ChannelMap, model: nn.Module, limits: Limits) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """Chooses all groups but those at exactly zero, and of these what the limits give back.

    Args:
        channel_map: The traced network.
        model: The network.
        limits: What holds for single layers, but for their own ratios.

    Returns:
        Which groups stay, bool of shape (G,), and what was given back.

    Raises:
        PruningError: If no group is at zero.
    """
    zero = zero_groups(channel_map, model)
    if not zero.any():
        raise PruningError(
            "no channel of this network has scales of exactly zero: train it with sparsity=steered, or name a target, "
            "such as --prune-ratio 0.5"
        )
    kept = Repair(channel_map, limits, np.where(zero, 0, 1))(~zero)
    back = int(channel_map.channels[kept & zero].sum())
    channels = int(channel_map.channels[zero].sum())
    found = Finding(Kind.ZEROS_STAY, wanted=channels, reached=channels - back)
    return kept, (found,) if back else ()
