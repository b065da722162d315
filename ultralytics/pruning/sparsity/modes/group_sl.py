"""Group sparsity learning: all groups that can be removed decay, those of small norm the fastest."""

from __future__ import annotations

import math

import numpy as np

from ...channels import ChannelMap
from ...criteria.magnitude import group_norm
from ...criteria.members import Members, filter_layers
from ..findings import Ending, larger
from .base import BY_EPOCHS, Traits, by_epochs
from .decay import Decay

ALPHA = 4.0  # the least important group of a layer decays 2^ALPHA times as fast as the most important


def relative_rates(channel_map: ChannelMap, norms: np.ndarray) -> np.ndarray:
    """Returns how fast each group decays, relative to the least important of its layer, float64 of shape (G,).

    2^(-ALPHA * (I - I_min) / (I_max - I_min)), I the norm of a group and I_min, I_max those of its layer. A group that
    several layers make gets the mean.

    Source: DepGraph, arXiv 2301.12900, section 3.3, where the factor is 2^(ALPHA * (I_max - I) / (I_max - I_min)).
    """
    members = Members(channel_map)
    for layer in filter_layers(channel_map):
        groups = np.unique(layer.outputs)
        groups = groups[channel_map.free[groups] & ~np.isnan(norms[groups])]
        if len(groups):
            of_layer = norms[groups]
            place = (of_layer - of_layer.min()) / max(of_layer.max() - of_layer.min(), 1e-12)
            members.add(groups, 2 ** (-ALPHA * place))
    return np.nan_to_num(members.mean())


class GroupSL(Decay):
    """Decays each group by its norm, anew each epoch.

    Source: DepGraph, arXiv 2301.12900.
    """

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Sets the rates of an epoch, counted from 0."""
        self.strength = self._asked.strength(epoch, epochs)
        self._decay_by(self.strength * relative_rates(self._map, group_norm(self._map, self._model)))

    def findings(self, ending: Ending) -> tuple[str, ...]:
        """Returns a line for the user if the decay was too weak: what to try."""
        if self.travel >= 1:
            return ()
        return (
            f"the decay was too weak: the least important groups could lose {1 - math.exp(-self.travel):.0%} of "
            f"their size in all; use {larger(7 / max(self.travel, 1e-9))}, or more epochs",
        )


GROUP_SL = Traits(
    GroupSL,
    "decays all weights of a group, the faster the less they weigh (DepGraph)",
    default_strength=by_epochs,
    default_said=BY_EPOCHS,
    for_a_target="steered or group_reg",
    fades_betas=True,
    criterion="group_norm",
    cut_by=(
        ("--speed-up", "2"),
        "It has decayed whole groups: their norm, by which prune.py scores, tells what can go.",
    ),
)
