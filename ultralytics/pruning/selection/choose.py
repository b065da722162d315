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
from ..plans.findings import Finding
from ..plans.plan import PruningPlan, plan_from
from .costs import Costs, Milliseconds
from .limits import Limits, filters, ignored, own_ratios
from .outcome import findings
from .repair import Repair
from .targets import Target
from .wording import all_said

CLOSE = 0.005  # part of the budget that may be left over before channels are given back


def smallest_cut(candidates: int, reaches: Callable[[int], bool]) -> int:
    """Returns the smallest count in 0..candidates for which `reaches` holds (monotone), or `candidates`."""
    low, high = 0, candidates
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low


def choose(
    channel_map: ChannelMap,
    scores: np.ndarray,
    target: Target,
    limits: Limits,
    milliseconds: Milliseconds | None = None,
    gone: np.ndarray | None = None,
) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """Chooses the groups to keep, by one threshold over the whole network.

    Args:
        channel_map: The traced network.
        scores: Importance of each group, float of shape (G,); NaN keeps a group.
        target: How much to remove.
        limits: What holds for single layers.
        milliseconds: From a choice to its time, for a target of milliseconds.
        gone: Groups that an earlier choice under the same limits has removed, bool of shape (G,): they stay away.

    Returns:
        Which groups stay, bool of shape (G,), and what was found, e.g. what kept the choice from its target.

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

    gone = np.zeros(len(scores), dtype=bool) if gone is None else gone
    ranks = ranked(np.where(gone, -np.inf, scores), prunable)
    ratios = own_ratios(channel_map, limits, ranks, prunable)
    repair = Repair(channel_map, limits, ranks)
    candidates = prunable.copy()
    for ratio in ratios:
        candidates[ratio.claimed] = False
    order = np.flatnonzero(candidates)
    order = order[np.argsort(ranks[order])]
    costs = Costs(channel_map, candidates, milliseconds)
    limit = target.kind.limit(target.value, costs)

    def fits(kept: np.ndarray, share: float = 1.0) -> bool:
        return target.kind.spent(costs, kept) <= share * limit

    def cut(count: int) -> np.ndarray:
        kept = ~gone
        for ratio in ratios:
            kept[ratio.removed] = False
        kept[order[:count]] = False
        return repair(kept)

    kept = cut(smallest_cut(len(order), lambda count: fits(cut(count))))
    if not target.kind.of_candidates or limits.round_to > 1:  # else a threshold alone, as in Network Slimming
        kept = use_up(channel_map, kept, order[~gone[order]], fits, repair)
    return kept, findings(channel_map, kept, prunable, target, costs, limits, ratios)


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


def use_up(
    channel_map: ChannelMap, kept: np.ndarray, order: np.ndarray, fits: Callable[..., bool], repair: Repair
) -> np.ndarray:
    """Gives channels back while the target holds: one step of the threshold can remove several rounding steps at once.

    The best removed group is tried first; where it does not fit, its layers are not tried again.

    Args:
        channel_map: The traced network.
        kept: The choice so far, bool of shape (G,).
        order: The candidates, the least important first.
        fits: Whether a choice spends no more than a share, 1 by default, of what the target allows.
        repair: What gives channels back until every rule holds.
    """
    layers = list({outputs.tobytes(): outputs for outputs in filters(channel_map).values()}.values())
    open_groups = np.zeros(len(kept), dtype=bool)
    open_groups[order] = True
    while fits(kept, 1 - CLOSE):
        removed = order[~kept[order] & open_groups[order]]
        if not len(removed):
            break
        best = removed[-1]
        trial = kept.copy()
        trial[best] = True
        trial = repair(trial)
        if fits(trial):
            kept = trial
        else:
            for outputs in layers:
                if best in outputs:
                    open_groups[outputs] = False
    return kept


def make_plan(
    channel_map: ChannelMap,
    scores: np.ndarray,
    *,
    target: Target | None = None,
    prune_ratio: float | None = None,
    speed_up: float | None = None,
    target_params: int | None = None,
    latency_speed_up: float | None = None,
    latency: Milliseconds | None = None,
    limits: Limits | None = None,
    settings: dict[str, Any] | None = None,
    gone: np.ndarray | None = None,
) -> PruningPlan:
    """Plans a cut that meets one target.

    Args:
        channel_map: The traced network.
        scores: Importance of each group, float of shape (G,); NaN keeps a group.
        target: How much to remove; or one of the four that follow.
        prune_ratio: Share of the prunable channels to remove, in [0, 1).
        speed_up: Multiply-adds before over after, at least 1.
        target_params: Number of parameters to leave.
        latency_speed_up: Milliseconds before over after by `latency`, at least 1.
        latency: From a choice, bool of shape (G,), to its milliseconds.
        limits: What holds for single layers; a floor alone by default.
        settings: What else led to the plan.
        gone: Groups that an earlier plan under the same limits has removed, bool of shape (G,): they stay away.

    Raises:
        PruningError: If not exactly one target is given, it is out of its range, or for what `choose` raises.
    """
    target = Target.one_of(
        target,
        prune_ratio=prune_ratio,
        speed_up=speed_up,
        target_params=target_params,
        latency_speed_up=latency_speed_up,
    )
    limits = limits or Limits()
    kept, found = choose(channel_map, scores, target, limits, latency, gone)
    settings = {**(settings or {}), target.name: target.value, **limits.settings()}
    return plan_from(channel_map, kept, settings, all_said(found), found)
