"""Growing regularisation: chooses at the start by weight for a target, and decays that ever faster."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ...channels import ChannelMap
from ...criteria.magnitude import group_norm
from ...errors import PruningError
from ...selection.choose import choose
from ..asked import Asked
from ..erasing import traceless
from ..findings import Ending, of_a_target
from ..scales import FADED, Scales
from ..timed import milliseconds_of
from .base import REACHED_BY, Traits
from .decay import Decay


class GroupReg(Decay):
    """Decays the groups that a target removes, chosen by their norm at the start.

    The rate grows from zero, so that these groups are at `FADED` of their size at `REACHED_BY` of the run. From there
    on their gammas and betas are held at zero.

    Source: Neural Pruning via Growing Regularization, arXiv 2012.09243, GReg-1.

    Args:
        model: The network.
        channel_map: Its channels.
        scales: Its gammas and betas.
        asked: What is asked for; has a target.

    Raises:
        PruningError: If the target removes nothing, or no group can fade completely.
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap, scales: Scales, asked: Asked) -> None:
        assert asked.target is not None
        super().__init__(model, channel_map, scales, asked)
        self._target = asked.target
        scores = np.where(traceless(channel_map, model, scales), group_norm(channel_map, model), np.nan)
        cost = milliseconds_of(model, channel_map, asked)
        kept, self.foreseen = choose(channel_map, scores, asked.target, asked.limits, cost)
        self.removed = ~kept
        if kept.all():
            raise PruningError(f"the target {asked.asked} removes nothing")

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Sets the rates of an epoch, counted from 0."""
        grown = REACHED_BY * epochs
        most = 2 * -math.log(FADED) / grown  # a rate that grows evenly to this leaves FADED
        self.strength = most * (epoch + 0.5) / grown if epoch < round(grown) else 0.0
        if not self.strength:
            self._gone = torch.as_tensor(~self.removed, device=self._device).to(self._gone)
        self._decay_by(np.where(self.removed, self.strength, 0.0))

    def findings(self, ending: Ending) -> tuple[str, ...]:
        """Returns a line for the user if too little has faded: what to try."""
        return of_a_target(self._target, ending)


GROUP_REG = Traits(
    GroupReg,
    "chooses by weight for a target, and decays that ever faster (growing regularisation)",
    needs_target=True,
    fades_betas=True,
    eligible=traceless,
)
