"""Plans that no score of channels decides alone: what is at zero, what is timed, and no cut at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from ..channels import ChannelMap
from ..criteria.scoring import Scoring
from ..latency import Latency, LatencyModel
from ..latency.search import plan_for_latency
from ..plans.plan import PruningPlan, plan_from
from ..selection.choose import make_plan
from ..selection.limits import Limits
from ..selection.wording import all_said
from ..selection.zeros import keep_the_rest


def plan_of_zeros(model: nn.Module, channel_map: ChannelMap, limits: Limits, settings: dict[str, Any]) -> PruningPlan:
    """Plans to remove just the channels whose scales are exactly zero."""
    kept, found = keep_the_rest(channel_map, model, limits)
    return plan_from(channel_map, kept, {**settings, "zeros": True, **limits.settings()}, all_said(found), found)


def plan_by_timings(
    model: nn.Module,
    channel_map: ChannelMap,
    latency: Latency,
    scoring: Scoring,
    limits: Limits,
    settings: dict[str, Any],
) -> PruningPlan:
    """Plans for milliseconds, timed on this machine."""
    scores = scoring(channel_map, model)

    def by_model(speed_up: float, cost: LatencyModel) -> PruningPlan:
        how: dict[str, Any] = {"limits": limits, "settings": settings, "latency": cost}
        return make_plan(channel_map, scores, latency_speed_up=speed_up, **how)

    return plan_for_latency(latency, model, channel_map, limits, by_model)


def plan_of_all(channel_map: ChannelMap, settings: dict[str, Any]) -> PruningPlan:
    """Plans to keep every channel, where nothing but rows of classes has gone."""
    return plan_from(channel_map, np.ones(len(channel_map.channels), dtype=bool), settings)
