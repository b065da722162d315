"""Pruning of a network in memory, from end to end: trace, score, select, check, cut. Or again, by a plan."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from .channels import ChannelMap
from .checkpoints import checkpoint
from .criteria.scoring import Scoring
from .errors import NothingToRemoveError, PruningError, typed_line
from .latency import Latency, LatencyModel
from .latency.search import plan_for_latency
from .networks.wrappers import unwrapped
from .passes.images import Images, recalibrate
from .passes.refitting import Refitting
from .plans.plan import PruningPlan, plan_from
from .rounds import Chosen, choose_in_rounds
from .selection.choose import make_plan
from .selection.limits import Limits
from .selection.targets import Target
from .selection.wording import all_said
from .selection.zeros import keep_the_rest
from .surgery.cut import PlanMismatchError, cut
from .surgery.folding import fold_constants
from .surgery.matching import matched
from .surgery.verification import largest_difference, silenced
from .tracing.trace import image_shape, quiet, trace

LARGEST_DIFFERENCE = 1e-10  # in float64, where rounding is below 1e-14


@dataclass(frozen=True)
class Pruned:
    """What `prune_network` and `repeat_plan` return.

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
    model = unwrapped(model)
    unfolded = fold_constants(model, channel_map, plan) if channel_map else []
    cut(model, plan)
    checkpoint.attach_plan(model, plan)
    network: Any = model
    if getattr(network, "criterion", None) is not None:
        network.criterion = None  # was made from the network as it was
    return unfolded


def prune_network(
    model: nn.Module,
    *,
    target: Target | None = None,
    prune_ratio: float | None = None,
    speed_up: float | None = None,
    target_params: int | None = None,
    zeros: bool | None = None,
    latency: Latency | None = None,
    scoring: Scoring | None = None,
    limits: Limits | None = None,
    imgsz: int | Sequence[int] = 640,
    fold: bool = True,
    statistics: Images | None = None,
    rounds: int = 1,
    refit: Images | None = None,
    source: dict[str, str] | None = None,
) -> Pruned:
    """Traces, scores, selects, checks and cuts a copy of a network. Exactly one target is given.

    Args:
        model: The network, or a `YOLO` that holds it; it is left as it is.
        target: How much to remove; or one of the five that follow.
        prune_ratio: Share of the prunable channels to remove, in [0, 1).
        speed_up: Multiply-adds before over after, at least 1.
        target_params: Number of parameters to leave.
        latency: Milliseconds before over after, as timed; where and by what.
        zeros: True: just the channels go whose scales are exactly zero.
        scoring: How channels are scored; by their batch-norm scales by default.
        limits: What holds for single layers; a floor alone by default.
        imgsz: Side of the image, in pixels, for which the plan gives costs.
        fold: Whether the readers of removed channels absorb what these emit.
        statistics: Training images on which the statistics of the batch norms are estimated anew, if any.
        rounds: In how many rounds the channels are chosen, each of which scores anew what the one before has left.
        refit: Images on which the layers are fitted to those of the original behind each round, if any; no labels.
        source: Where the network comes from, for the plan.

    Raises:
        PruningError: If the network takes no image or has nothing that the criterion scores by, the target or the
            limits are wrong, nothing can be removed, the cut network is not the original with silenced channels, or
            the images cannot be read.
    """
    targets: dict[str, Any] = {
        "target": target,
        "prune_ratio": prune_ratio,
        "speed_up": speed_up,
        "target_params": target_params,
    }
    given = [name for name, value in targets.items() if value is not None]
    if latency and (zeros or given):
        raise PruningError("a latency and another target: one is needed")
    if zeros and given:
        raise PruningError(f"zeros and {given[0]}: one target is needed")
    if (rounds > 1 or refit) and (zeros or latency):
        raise PruningError("rounds and a fit are for a share, a speed-up or a number of parameters")

    model, scoring, start = unwrapped(model), scoring or Scoring(), time.perf_counter()
    channel_map = channel_map_of(model, imgsz)
    seconds = {"trace": time.perf_counter() - start}
    start = time.perf_counter()
    settings = {**scoring.settings(), "imgsz": imgsz, "fold": fold}
    chosen = None

    if zeros:
        plan = _plan_of_zeros(model, channel_map, limits or Limits(floor=0), settings)
    elif latency:
        plan = _plan_by_timings(model, channel_map, latency, scoring, limits or Limits(), settings)
    elif rounds > 1 or refit:
        fit = Refitting(model, channel_map, refit) if refit else None
        how: dict[str, Any] = {"rounds": rounds, "fold": fold, "fit": fit}
        settings |= {"rounds": rounds, "refit": fit.images if fit else 0}
        goal = Target.one_of(**targets)
        chosen = choose_in_rounds(model, channel_map, scoring, goal, limits or Limits(), settings=settings, **how)
        plan = chosen.plan
    else:
        plan = make_plan(channel_map, scoring(channel_map, model), **targets, limits=limits, settings=settings)
    seconds["select"] = time.perf_counter() - start

    if plan.limits and plan.after == plan.before:
        raise NothingToRemoveError(f"nothing would be removed: {plan.limits[0]}")
    return _carried_out(model, channel_map, plan, fold, statistics, source or {}, seconds, chosen)


def _plan_of_zeros(model: nn.Module, channel_map: ChannelMap, limits: Limits, settings: dict[str, Any]) -> PruningPlan:
    """Plans to remove just the channels whose scales are exactly zero."""
    kept, found = keep_the_rest(channel_map, model, limits)
    return plan_from(channel_map, kept, {**settings, "zeros": True, **limits.settings()}, all_said(found), found)


def _plan_by_timings(
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


def repeat_plan(
    model: nn.Module, plan: PruningPlan, *, statistics: Images | None = None, source: dict[str, str] | None = None
) -> Pruned:
    """Cuts a copy of a network as an earlier plan says, with that plan's settings.

    Args:
        model: The network that the plan was made for; it is left as it is.
        plan: What to keep.
        statistics: Training images on which the statistics of the batch norms are estimated anew, if any.
        source: Where the network comes from; the plan's own source by default.

    Raises:
        PruningError: If the plan does not fit the network, or layers were fitted behind it, which is not in a plan.
    """
    if plan.settings.get("refit"):
        raise PruningError("the layers of this plan were fitted (--refit), which a plan alone does not repeat")
    model, start = unwrapped(model), time.perf_counter()
    channel_map = channel_map_of(model, plan.settings.get("imgsz", 640))
    seconds = {"trace": time.perf_counter() - start, "select": 0.0}
    plan = matched(plan, channel_map)
    fold, source = plan.settings.get("fold", True), source or plan.source
    try:
        result = _carried_out(model, channel_map, plan, fold, statistics, source, seconds)
    except PruningError:
        raise
    except Exception as error:  # whatever layers of unfitting widths raise
        raise PlanMismatchError(f"a network cut by this plan does not run ({typed_line(error)})") from error
    left = sum(p.numel() for p in result.model.parameters())
    if left != plan.after.params:
        raise PlanMismatchError(f"the plan leaves {left:,} parameters, but says that it leaves {plan.after.params:,}")
    return result


def _carried_out(
    model: nn.Module,
    channel_map: ChannelMap,
    plan: PruningPlan,
    fold: bool,
    statistics: Images | None,
    source: dict[str, str],
    seconds: dict[str, float],
    chosen: Chosen | None = None,
) -> Pruned:
    """Cuts a copy of a network, checks it, folds or takes what rounds have fitted, and estimates statistics anew."""
    pruned = copy.deepcopy(model)
    start = time.perf_counter()
    cut(pruned, plan)
    seconds["cut"] = time.perf_counter() - start
    plan = plan.with_source(source, {stage: round(value, 4) for stage, value in seconds.items()})
    plan = replace(plan, settings={**plan.settings, "recalibrate": statistics.batches if statistics else 0})

    difference = check(model, pruned, plan)
    unfolded: list[str] = []
    if chosen:
        pruned, unfolded = chosen.model, list(chosen.unfolded)
        prune(pruned, plan)
    elif fold:  # anew from the original: what is folded in changes the outputs, so it comes after the check
        pruned = copy.deepcopy(model)
        unfolded = prune(pruned, plan, channel_map)
    else:
        checkpoint.attach_plan(pruned, plan)
    if statistics:
        recalibrate(pruned, statistics)
    return Pruned(pruned, plan, difference, unfolded)


def channel_map_of(model: nn.Module, imgsz: int | Sequence[int]) -> ChannelMap:
    """Traces a network; one that does not take an image alone is an error in one line.

    Raises:
        PruningError: If the forward pass fails on an image, also without the tracer.
    """
    try:
        return trace(model, imgsz=imgsz)
    except PruningError:
        raise
    except Exception:
        parameter = next(model.parameters())
        image = torch.zeros(image_shape(model, 2), device=parameter.device, dtype=parameter.dtype)
        try:
            with quiet(model):
                model(image)
        except Exception as error:  # whatever the model's own code raises
            raise PruningError(
                f"the network does not run on an image (1, {', '.join(map(str, image.shape[1:]))}) alone, as it has to "
                f"for its channels to be followed: {typed_line(error)}"
            ) from error
        raise


def check(model: nn.Module, pruned: nn.Module, plan: PruningPlan) -> float:
    """Compares a cut network with the original whose removed channels are silenced, on a random image in float64.

    Returns:
        The largest difference of any raw output or layer, relative to the largest value there.

    Raises:
        PruningError: If it is above `LARGEST_DIFFERENCE`.
    """
    device = next(model.parameters()).device
    _, *shape = image_shape(model, 3)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *shape, generator=generator, dtype=torch.float64, device="cpu").to(device)
    difference = largest_difference(silenced(model, plan).double(), copy.deepcopy(pruned).double(), image, plan)
    if not difference <= LARGEST_DIFFERENCE:
        raise PruningError(
            f"the cut network differs from the original with silenced channels by {difference:.1e} (relative, at most "
            f"{LARGEST_DIFFERENCE:g} is rounding): please report this model, nothing was written"
        )
    return difference
