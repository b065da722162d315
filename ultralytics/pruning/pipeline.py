"""Pruning of a network in memory, from end to end: trace, score, select, check, cut."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
from torch import nn

from . import checkpoint
from .channels import ChannelMap
from .criteria import CRITERIA
from .errors import PruningError
from .folding import fold_constants
from .plan import PruningPlan
from .selection import make_plan
from .surgery import cut
from .tracing import image_shape, trace
from .verification import largest_difference, silenced

LARGEST_DIFFERENCE = 1e-8  # in float64, where rounding is below 1e-10


@dataclass(frozen=True)
class Pruned:
    """What `prune_network` returns.

    Attributes:
        model: The pruned network.
        plan: What was kept.
        difference: Largest difference to the original with silenced channels, before folding, relative.
        unfolded: Layers that could not absorb the constants of removed channels.
    """

    model: nn.Module
    plan: PruningPlan
    difference: float
    unfolded: list[str]


def prune(model: nn.Module, plan: PruningPlan, channel_map: ChannelMap | None = None) -> list[str]:
    """Cuts a network in place as planned, and notes the plan in it.

    Args:
        model: The network that the plan was made for.
        plan: What to keep.
        channel_map: Its channels; with them, what the removed channels still emit is folded into their readers first.

    Returns:
        The layers that could not absorb what removed channels emit (see `fold_constants`).
    """
    unfolded = fold_constants(model, channel_map, plan) if channel_map else []
    cut(model, plan)
    checkpoint.attach_plan(model, plan)
    return unfolded


def prune_network(
    model: nn.Module, *, prune_ratio: float, imgsz: int = 640, fold: bool = True, source: dict[str, str] | None = None
) -> Pruned:
    """Traces, scores, selects, checks and cuts a copy of a network.

    Args:
        model: The network; it is left as it is.
        prune_ratio: Share of the prunable channels to remove, in [0, 1).
        imgsz: Side of the image, in pixels, for which the plan gives costs.
        fold: Whether the readers of removed channels absorb what these emit.
        source: Where the network comes from, for the plan.

    Raises:
        PruningError: If nothing can be removed, or the cut network is not the original with silenced channels.
    """
    criterion = "slim"
    seconds = {}
    start = time.perf_counter()
    channel_map = trace(model, imgsz=imgsz)
    seconds["trace"] = time.perf_counter() - start
    start = time.perf_counter()
    settings = {"criterion": criterion, "imgsz": imgsz, "fold": fold}
    plan = make_plan(channel_map, CRITERIA[criterion](channel_map, model), prune_ratio=prune_ratio, settings=settings)
    seconds["select"] = time.perf_counter() - start

    pruned = copy.deepcopy(model)
    start = time.perf_counter()
    cut(pruned, plan)
    seconds["cut"] = time.perf_counter() - start
    plan = plan.with_source(source or {}, {stage: round(value, 4) for stage, value in seconds.items()})

    difference = check(model, pruned, plan)
    unfolded: list[str] = []
    if fold:  # anew from the original: what is folded in changes the outputs, so it comes after the check
        pruned = copy.deepcopy(model)
        unfolded = prune(pruned, plan, channel_map)
    else:
        checkpoint.attach_plan(pruned, plan)
    return Pruned(pruned, plan, difference, unfolded)


def check(model: nn.Module, pruned: nn.Module, plan: PruningPlan) -> float:
    """Compares a cut network with the original whose removed channels are silenced, on random images in float64.

    Returns:
        The largest relative difference of any raw output.

    Raises:
        PruningError: If it is above `LARGEST_DIFFERENCE`.
    """
    device = next(model.parameters()).device
    _, *shape = image_shape(model, 3)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, *shape, generator=generator, dtype=torch.float64).to(device)
    difference = largest_difference(silenced(model, plan).double(), copy.deepcopy(pruned).double(), image)
    if not difference <= LARGEST_DIFFERENCE:
        raise PruningError(
            f"the cut network differs from the original with silenced channels by {difference:.1e} (relative, at most "
            f"{LARGEST_DIFFERENCE:g} is rounding): please report this model, nothing was written"
        )
    return difference
