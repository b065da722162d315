"""A choice in rounds: a part of the way at a time, after which what is left is fitted and scored anew.

Scores say what a network loses without one group more; what it loses without a hundred depends on which have gone. All
rounds work on the original at its full width, where what was removed is silent, so that the last choice is a plan of
the original like any other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from ..channels import ChannelMap
from ..cost import cost_of
from ..plans.plan import PruningPlan
from ..selection.choose import make_plan
from ..selection.limits import Limits
from ..selection.targets import Target
from ..surgery.folding import fold_constants
from ..surgery.matching import kept_groups
from ..surgery.verification import silenced

Scores = Callable[[ChannelMap, nn.Module], np.ndarray]  # of each group, float of shape (G,)
Fit = Callable[[nn.Module, PruningPlan], None]  # of a network with silent channels, in place


@dataclass(frozen=True)
class Chosen:
    """What the last round leaves.

    Attributes:
        plan: What stays.
        model: The network at its full width: removed channels are silent, the others are fitted.
        unfolded: Layers that could not absorb what removed channels emit (see `fold_constants`).
    """

    plan: PruningPlan
    model: nn.Module
    unfolded: tuple[str, ...]


def choose_in_rounds(
    model: nn.Module,
    channel_map: ChannelMap,
    scores: Scores,
    target: Target,
    limits: Limits,
    *,
    rounds: int,
    fold: bool = True,
    fit: Fit | None = None,
    settings: dict[str, Any] | None = None,
) -> Chosen:
    """Chooses what stays, a part of the way at a time.

    Args:
        model: The network; it is left as it is.
        channel_map: Its channels.
        scores: How groups are scored.
        target: How much to remove.
        limits: The rules for single layers.
        rounds: How many; what is spent falls evenly from one to the next.
        fold: Whether the readers of removed channels absorb what these emit.
        fit: What repairs the network behind each round.
        settings: What else led to the plan.

    Raises:
        PruningError: For what `make_plan` raises.
    """
    parameters = cost_of(channel_map).deployed
    work, gone = model, np.zeros(len(channel_map.channels), dtype=bool)
    unfolded: dict[str, None] = {}
    for number in range(1, rounds + 1):
        goal = target
        if number < rounds:
            goal = replace(target, value=target.kind.on_the_way(target.value, number / rounds, parameters))
        found = scores(channel_map, work)
        plan = make_plan(channel_map, found, target=goal, limits=limits, settings=settings, gone=gone)
        gone = ~kept_groups(plan, channel_map)

        chosen = carried_out(work, channel_map, plan, fold=fold, fit=fit)
        work, unfolded = chosen.model, unfolded | dict.fromkeys(chosen.unfolded)
    return Chosen(plan, work, tuple(unfolded))


def carried_out(
    model: nn.Module, channel_map: ChannelMap, plan: PruningPlan, *, fold: bool = True, fit: Fit | None = None
) -> Chosen:
    """Returns a copy of a network at its full width in which a plan is carried out, and fitted if that is wanted."""
    work = copy.deepcopy(model)
    unfolded = fold_constants(work, channel_map, plan) if fold else ()
    work = silenced(work, plan)
    if fit:
        fit(work, plan)
    return Chosen(plan, work, tuple(unfolded))
