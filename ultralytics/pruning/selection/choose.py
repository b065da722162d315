"""From scores to a choice of channels: one global threshold that meets the target, then repairs.

Repairs only ever restore channels, the highest-scored first (see `repair.py`): the fewer channels a threshold leaves,
the fewer are left after them too, so that the threshold can be found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..channels import ChannelMap
from ..errors import NothingToRemoveError, PruningError
from ..plans.plan import PruningPlan, plan_from
from .limits import Limits, OwnRatio, filters, ignored, least_of_parts, own_ratios
from .repair import Repair
from .targets import Budget, Latency, Target

CLOSE = 0.005  # part of the budget that may be left over before channels are given back


def smallest_cut(candidates: int, reaches: Callable[[int], bool]) -> int:
    """Returns the smallest count in 0..candidates for which `reaches` holds (monotone), or `candidates`."""
    low, high = 0, candidates
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low


def choose(
    channel_map: ChannelMap, scores: np.ndarray, target: Target, limits: Limits, latency: Latency | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Chooses the groups to keep, by one threshold over the whole network.

    Args:
        channel_map: The traced network.
        scores: Importance of each group, float of shape (G,); NaN keeps a group.
        target: How much to remove.
        limits: What holds for single layers.
        latency: From a choice to its milliseconds, for a `latency_speed_up`.

    Returns:
        Which groups stay, bool of shape (G,), and what kept the choice from its target, in words.

    Raises:
        PruningError: If no group can be removed, a pattern matches no layer or contradicts another one, the rounding
            step is larger than every layer, or the network has no more parameters than wanted.
    """
    prunable = channel_map.free & ~np.isnan(scores) & ~ignored(channel_map, limits)
    if not prunable.any():
        why = "pinned, ignored" if limits.ignore else "pinned"
        raise NothingToRemoveError(
            f"no channel of this network can be removed: all are {why}, or lack what the criterion reads (a batch norm)"
        )
    _check_step(channel_map, prunable, limits.round_to)
    ranks = ranked(scores, prunable)
    own = own_ratios(channel_map, limits, ranks, prunable)
    repair = Repair(channel_map, limits, ranks)
    candidates = prunable.copy()
    for ratio in own:
        candidates[ratio.claimed] = False
    order = np.flatnonzero(candidates)
    order = order[np.argsort(ranks[order])]
    budget = Budget(target, channel_map, candidates, latency)

    def cut(count: int) -> np.ndarray:
        kept = np.ones(len(scores), dtype=bool)
        for ratio in own:
            kept[ratio.removed] = False
        kept[order[:count]] = False
        return repair(kept)

    kept = cut(smallest_cut(len(order), lambda count: budget.spent(cut(count)) <= budget.limit))
    if target.name != "prune_ratio" or limits.round_to > 1:  # else a threshold and nothing else, as in Network Slimming
        kept = use_up(channel_map, kept, order, budget, repair)
    return kept, tuple(findings(channel_map, kept, prunable, limits, budget, own))


def ranked(scores: np.ndarray, prunable: np.ndarray) -> np.ndarray:
    """Returns the place of each group in the order of importance, int64 of shape (G,); what must stay comes last.

    Equal scores are spread over the network, the same way each time. Threshold and repairs follow this very order.
    """
    order = np.flatnonzero(prunable)
    shuffled = np.random.default_rng(0).permutation(len(order))
    ranks = np.full(len(scores), len(scores))
    ranks[order[np.lexsort((shuffled, scores[order]))]] = np.arange(len(order))
    return ranks


def _check_step(channel_map: ChannelMap, prunable: np.ndarray, step: int) -> None:
    """Refuses a rounding step that keeps every layer whole."""
    widths = {name: len(outputs) for name, outputs in filters(channel_map).items() if prunable[outputs].any()}
    widest = max(widths, key=widths.__getitem__, default=None)
    if widest and step > widths[widest]:
        raise PruningError(
            f"rounding to multiples of {step} keeps every layer whole: the widest that can be pruned, {widest}, has "
            f"{widths[widest]} channels"
        )


def use_up(channel_map: ChannelMap, kept: np.ndarray, order: np.ndarray, budget: Budget, repair: Repair) -> np.ndarray:
    """Gives channels back while the target holds: one step of the threshold can remove several rounding steps at once.

    The best removed group is tried first; where it does not fit, its layers are not tried again.
    """
    layers = list({outputs.tobytes(): outputs for outputs in filters(channel_map).values()}.values())
    open_groups = np.zeros(len(kept), dtype=bool)
    open_groups[order] = True
    while budget.spent(kept) < (1 - CLOSE) * budget.limit:
        removed = order[~kept[order] & open_groups[order]]
        if not len(removed):
            break
        best = removed[-1]
        trial = kept.copy()
        trial[best] = True
        trial = repair(trial)
        if budget.spent(trial) <= budget.limit:
            kept = trial
        else:
            for outputs in layers:
                if best in outputs:
                    open_groups[outputs] = False
    return kept


def findings(
    channel_map: ChannelMap,
    kept: np.ndarray,
    prunable: np.ndarray,
    limits: Limits,
    budget: Budget,
    own: list[OwnRatio],
) -> list[str]:
    """Says in words what kept a choice from its target, and which layers stand at a limit."""
    words = {
        "floor": f"floor of {limits.floor:.0%}",
        "min_channels": f"least of {limits.min_channels} channels",
        "max_ratio": f"largest cut of {limits.max_ratio:.0%}",
    }
    gone = {name for block in channel_map.taken_out(kept) for name in block.layers}
    standing: dict[str, list[str]] = {}
    reasons: dict[str, None] = {}
    for name, outputs in filters(channel_map).items():
        least, width = limits.least(name, len(outputs)), int(kept[outputs].sum())
        rule = max(least, key=least.__getitem__)
        if not prunable[outputs].any() or name in gone:
            continue
        if width <= min(_rounded_up(least[rule], limits.round_to), len(outputs)):
            reasons[f"the {words[rule]} per layer"] = None
            if width <= least[rule] < len(outputs):
                standing.setdefault(rule, []).append(name)
    lines = []
    outcome = budget.outcome(kept)
    if outcome and budget.spent(kept) > budget.limit:
        reasons.update({f"rounding to multiples of {limits.round_to}": None} if limits.round_to > 1 else {})
        reasons.update({"own ratios of layers": None} if own else {})
        reasons.update({"equal halves": None} if channel_map.balances else {})
        if any(kept[part].sum() <= least for part, least in least_of_parts(channel_map, limits)):
            reasons[f"the floor of {limits.floor:.0%} of each part of a split"] = None
        if budget.target.name != "prune_ratio":
            fixed = 1 - channel_map.channels[prunable].sum() / channel_map.channels.sum()
            reasons[f"the {fixed:.0%} of all channels that are pinned, ignored or without a score"] = None
        lines.append(f"{outcome}: the rest is kept by {_and(list(reasons))}")
    elif outcome:
        step = f"step of {limits.round_to} channels" if limits.round_to > 1 else "group of tied channels"
        why = "the own ratios of layers remove that much, or " if own else ""
        lines.append(f"{outcome}: {why}the next {step} is larger than the difference")
    lines += [
        f"{len(names)} layers stand at their {words[rule]}: {', '.join(names)}" for rule, names in standing.items()
    ]
    for ratio in own:
        back = int(kept[ratio.removed].sum())
        if not len(ratio.claimed):
            lines.append(f"the ratio of '{ratio.pattern}' does nothing: no channel of its layers can be removed")
        elif back:
            lines.append(f"'{ratio.pattern}' keeps {back} of the {len(ratio.removed)} channels that its ratio removes")
    return lines


def _rounded_up(count: int, step: int) -> int:
    """Returns the next multiple of a step."""
    return -(-count // step) * step


def _and(words: list[str]) -> str:
    """Joins words as in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def make_plan(
    channel_map: ChannelMap,
    scores: np.ndarray,
    *,
    prune_ratio: float | None = None,
    speed_up: float | None = None,
    target_params: int | None = None,
    latency_speed_up: float | None = None,
    latency: Latency | None = None,
    limits: Limits | None = None,
    settings: dict[str, Any] | None = None,
) -> PruningPlan:
    """Plans a cut that meets one target.

    Args:
        channel_map: The traced network.
        scores: Importance of each group, float of shape (G,); NaN keeps a group.
        prune_ratio: Share of the prunable channels to remove, in [0, 1).
        speed_up: Multiply-adds before over after, at least 1.
        target_params: Number of parameters to leave.
        latency_speed_up: Milliseconds before over after by `latency`, at least 1.
        latency: From a choice, bool of shape (G,), to its milliseconds.
        limits: What holds for single layers; a floor alone by default.
        settings: What else led to the plan.

    Raises:
        PruningError: If not exactly one target is given, it is out of its range, or for what `choose` raises.
    """
    target = Target.one_of(
        prune_ratio=prune_ratio, speed_up=speed_up, target_params=target_params, latency_speed_up=latency_speed_up
    )
    limits = limits or Limits()
    kept, lines = choose(channel_map, scores, target, limits, latency)
    return plan_from(channel_map, kept, {**(settings or {}), target.name: target.value, **limits.settings()}, lines)
