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
from .cost import cost_of
from .criteria.scoring import Scoring
from .errors import NothingToRemoveError, PruningError, typed_line
from .latency import Latency
from .networks.keep_classes import check_kept
from .networks.keep_classes import keep_classes as keep_classes_of
from .networks.wrappers import unwrapped
from .one_shot.defaults import Default, default_of, of_its_classes, side_of_training
from .one_shot.plans import plan_by_timings, plan_of_all, plan_of_zeros
from .one_shot.rounds import Chosen, carried_out, choose_in_rounds
from .passes.images import Images, recalibrate
from .passes.refitting import Refitting
from .plans.plan import PruningPlan
from .selection.choose import make_plan
from .selection.limits import Limits
from .selection.targets import Target
from .surgery.cut import PlanMismatchError, cut
from .surgery.folding import fold_constants
from .surgery.matching import matched
from .surgery.rows import check_rows
from .surgery.verification import check
from .tracing.trace import image_shape, quiet, trace


@dataclass(frozen=True)
class Pruned:
    """What `prune_network` and `repeat_plan` return.

    Attributes:
        model: The pruned network.
        plan: What was kept.
        difference: Largest difference to the original with silenced channels, before folding, relative.
        unfolded: Layers that could not absorb the constants of removed channels.
        default: How it was cut and why, where the network decided.
    """

    model: nn.Module
    plan: PruningPlan
    difference: float
    unfolded: list[str]
    default: Default | None = None


def prune(model: nn.Module, plan: PruningPlan, channel_map: ChannelMap | None = None) -> list[str]:
    """Cuts a network in place as planned, and notes the plan in it.

    Args:
        model: The network that the plan was made for.
        plan: What to keep.
        channel_map: Its channels; with them, what the removed channels still emit is folded into their readers first.

    Returns:
        The layers that could not absorb what removed channels emit.
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
    imgsz: int | Sequence[int] | None = None,
    fold: bool = True,
    statistics: Images | None = None,
    rounds: int = 1,
    refit: Images | None = None,
    source: dict[str, str] | None = None,
    images: Images | None = None,
    keep_classes: str | Sequence[str | int] | None = None,
) -> Pruned:
    """Traces, scores, selects, checks and cuts a copy of a network.

    One target is given, or none where channels are at exactly zero or classes are named. Without `scoring`, the network
    decides how channels are scored (see `one_shot.defaults`): a trained one that saw no sparsity training by images, in
    rounds, with a fit.

    Args:
        model: The network, or a `YOLO` that holds it; it is left as it is.
        target: How much to remove; or one of the five that follow.
        prune_ratio: Share of the prunable channels to remove, in [0, 1).
        speed_up: Multiply-adds before over after, at least 1.
        target_params: Number of parameters to leave.
        latency: Milliseconds before over after, as timed; where and by what.
        zeros: True: just the channels go whose scales are exactly zero.
        scoring: How channels are scored; by default as the network asks for, which may mean rounds and a fit.
        limits: What holds for single layers; a floor alone by default.
        imgsz: Side of the images, in pixels, that are scored on, and for which the plan gives costs; by default that of
            the network's training, 640 if it knows none.
        fold: Whether the readers of removed channels absorb what these emit.
        statistics: Training images on which the statistics of the batch norms are estimated anew, if any.
        rounds: In how many rounds the channels are chosen, each of which scores anew what the one before has left.
        refit: Images on which the layers are fitted to those of the original behind each round, if any; no labels.
        source: Where the network comes from, for the plan.
        images: Images to score by without `scoring`; by default those of the network's training, if they are here.
        keep_classes: Names or numbers of classes: the rows of all others go first, and the target counts from there.
            Without a target nothing else goes. Of a data set with more classes, the images that have these are taken;
            a `scoring` brings its own.

    Raises:
        PruningError: If the network takes no image or has nothing that the criterion scores by, the target or the
            limits are wrong, nothing can be removed, classes cannot be kept (see `networks.keep_classes`), the cut
            network is not the original with silenced channels, or the images cannot be read.
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
    if (rounds > 1 and latency) or ((rounds > 1 or refit) and zeros):
        raise PruningError("rounds are for a share, a speed-up or a number of parameters, a fit is for all but zeros")

    rows_alone = keep_classes is not None and not (given or zeros or latency)
    if rows_alone and (scoring or limits or rounds > 1 or refit):
        raise PruningError("keep_classes without a target only takes rows out: name a target to prune by")

    start = time.perf_counter()
    model = unwrapped(model)
    imgsz = imgsz or side_of_training(model)
    model, noted = _of_classes(model, keep_classes, imgsz)
    images, refit, statistics = (of_its_classes(model, some) for some in (images, refit, statistics))
    channel_map = channel_map_of(model, imgsz)
    seconds = {"trace": time.perf_counter() - start}
    settings = {"imgsz": imgsz, "fold": fold, **noted}
    if rows_alone:
        plan = plan_of_all(channel_map, settings)
        return _carried_out(model, channel_map, plan, fold, statistics, source or {}, {**seconds, "select": 0.0})

    start = time.perf_counter()
    default = None
    if scoring is None and not zeros:
        default = default_of(model, channel_map, images, imgsz, target=bool(given or latency), in_time=bool(latency))
        scoring, zeros = default.scoring(), default.zeros
        if rounds == 1 and not refit:
            rounds, refit = default.rounds, default.images if default.refit else None
    scoring, limits = scoring or Scoring(), limits or Limits(floor=0 if zeros else Limits.floor)
    settings = {**scoring.settings(), **settings}

    fit = Refitting(model, channel_map, refit) if refit else None
    settings |= {"rounds": rounds, "refit": fit.images if fit else 0} if rounds > 1 or fit else {}
    chosen = None
    if zeros:
        plan = plan_of_zeros(model, channel_map, limits, settings)
    elif latency:
        plan = plan_by_timings(model, channel_map, latency, scoring, limits, settings)
        chosen = carried_out(model, channel_map, plan, fold=fold, fit=fit) if fit else None
    elif rounds > 1 or fit:
        goal, how = Target.one_of(**targets), dict[str, Any](rounds=rounds, settings=settings)
        chosen = choose_in_rounds(model, channel_map, scoring, goal, limits, fold=fold, fit=fit, **how)
        plan = chosen.plan
    else:
        plan = make_plan(channel_map, scoring(channel_map, model), **targets, limits=limits, settings=settings)
    seconds["select"] = time.perf_counter() - start

    if plan.limits and plan.after == plan.before:
        raise NothingToRemoveError(f"nothing would be removed: {plan.limits[0]}")
    result = _carried_out(model, channel_map, plan, fold, statistics, source or {}, seconds, chosen)
    return replace(result, default=default)


def _of_classes(
    model: Any, keep: str | Sequence[str | int] | None, imgsz: int | Sequence[int]
) -> tuple[Any, dict[str, Any]]:
    """Returns a network without the rows of all classes but those to keep, and what its plan notes of that."""
    if keep is None:
        return model, {}
    smaller, kept = keep_classes_of(model, keep)
    check_rows(model, smaller, kept.numbers)
    return smaller, {"classes": {**kept.to_dict(), "before": cost_of(channel_map_of(model, imgsz)).to_dict()}}


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
    model, start, imgsz = unwrapped(model), time.perf_counter(), plan.settings.get("imgsz", 640)
    if classes := plan.settings.get("classes"):
        check_kept(model, classes)
        model, noted = _of_classes(model, classes["kept"], imgsz)
        plan = replace(plan, settings={**plan.settings, **noted})
    statistics = of_its_classes(model, statistics)
    channel_map = channel_map_of(model, imgsz)
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
