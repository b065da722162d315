"""A choice in rounds: a part of the way at a time, after which what is left is fitted and scored anew.

Scores say what a network loses without one group more; what it loses without a hundred depends on which have gone. All
rounds work on the original at its full width, where what was removed is silent, so that the last choice is a plan of
the original like any other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import nn

from .channels import ChannelMap
from .plans.plan import PruningPlan
from .selection.choose import make_plan
from .selection.limits import Limits
from .selection.targets import Target
from .surgery.folding import fold_constants
from .surgery.matching import kept_groups
from .surgery.verification import silenced

Fit = Callable[[nn.Module, PruningPlan], None]  # of a network with silent channels, in place


def plan_in_rounds(
    model: nn.Module,
    channel_map: ChannelMap,
    scores: Callable[[ChannelMap, nn.Module], np.ndarray],
    target: Target,
    limits: Limits,
    *,
    rounds: int = 1,
    fit: Fit | None = None,
    settings: dict | None = None,
) -> tuple[PruningPlan, nn.Module]:
    """Plans a cut in rounds.

    Args:
        model: The network; it is left as it is.
        channel_map: Its channels.
        scores: From the channels and the network to the score of each group, float of shape (G,).
        target: How much to remove.
        limits: The rules for single layers.
        rounds: How many; of each, the cost falls by the same factor or share.
        fit: What repairs a network behind each round.
        settings: What else led to the plan.

    Returns:
        The plan, and the network at full width: removed channels are silent, what they emitted is folded into their
        readers, and the others are fitted.

    Raises:
        PruningError: For what `make_plan` raises.
    """
    work, gone = copy.deepcopy(model), np.zeros(len(channel_map.channels), dtype=bool)
    for number in range(1, rounds + 1):
        on_the_way = replace(target, value=target.kind.on_the_way(target.value, number / rounds))
        goal = target if number == rounds else on_the_way
        plan = make_plan(
            channel_map, scores(channel_map, work), target=goal, limits=limits, settings=settings, gone=gone
        )
        gone = ~kept_groups(plan, channel_map)
        fold_constants(work, channel_map, plan)
        work = silenced(work, plan)
        if fit:
            fit(work, plan)
    return plan, work
