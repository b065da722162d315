"""From scores to a choice of channels: one global threshold that meets the target, then repairs.

Repairs only ever restore channels, the highest-scored first: a floor for each layer, and equal numbers where the
network cuts a tensor by position. They are monotone: the fewer channels a threshold leaves, the fewer are left after
them too, so that the threshold can be found by bisection.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .channels import ChannelMap
from .errors import PruningError
from .plan import PruningPlan, plan_from

DEFAULT_FLOOR = 0.1


def floors_of(channel_map: ChannelMap, floor: float) -> list[tuple[str, np.ndarray, int]]:
    """Returns for each layer that has filters: its name, the groups of its outputs, and how many must stay."""
    return [
        (layer.name, layer.outputs, max(1, math.ceil(floor * len(layer.outputs))))
        for layer in channel_map.layers.values()
        if layer.has_filters
    ]


def _restore(kept: np.ndarray, scores: np.ndarray, part: np.ndarray, count: int) -> bool:
    """Keeps the highest-scored channels of `part` until `count` of its places are kept; True if it changed `kept`."""
    missing = count - int(kept[part].sum())
    if missing <= 0:
        return False
    removed, places = np.unique(part[~kept[part]], return_counts=True)
    for index in np.lexsort((removed, -scores[removed])):
        kept[removed[index]] = True
        missing -= int(places[index])
        if missing <= 0:
            break
    return True


def repair(channel_map: ChannelMap, scores: np.ndarray, kept: np.ndarray, floor: float) -> np.ndarray:
    """Restores channels until every floor and every balance holds.

    Args:
        channel_map: The traced network.
        scores: Importance of each group, float of shape (G,).
        kept: Which groups a threshold leaves, bool of shape (G,).
        floor: Least share of each layer's channels that stay, in 0..1; at least one stays in any case.

    Returns:
        Which groups stay, bool of shape (G,).
    """
    kept = kept.copy()
    minimums = [(outputs, count) for _, outputs, count in floors_of(channel_map, floor)]
    minimums += [(layer.inputs, 1) for layer in channel_map.layers.values()]
    changed = True
    while changed:
        changed = False
        for part, count in minimums:
            changed |= _restore(kept, scores, part, count)
        for balance in channel_map.balances:
            count = max(int(kept[part].sum()) for part in balance.parts)
            for part in balance.parts:
                changed |= _restore(kept, scores, part, count)
    return kept


def smallest_cut(candidates: int, reaches: Callable[[int], bool]) -> int:
    """Returns the smallest count in 0..candidates for which `reaches` holds (monotone), or `candidates`."""
    low, high = 0, candidates
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low


def choose(
    channel_map: ChannelMap, scores: np.ndarray, prune_ratio: float, floor: float = DEFAULT_FLOOR
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Chooses the groups to keep, by one threshold over the whole network.

    Args:
        channel_map: The traced network.
        scores: Importance of each group, float of shape (G,); NaN keeps a group.
        prune_ratio: Share of the prunable channels to remove, in [0, 1).
        floor: Least share of each layer's channels that stay, in 0..1.

    Returns:
        Which groups stay, bool of shape (G,), and what kept the choice from its target, in words.

    Raises:
        PruningError: If `prune_ratio` is outside [0, 1) or `floor` outside [0, 1], or no group can be removed.
    """
    if not 0 <= prune_ratio < 1:
        raise PruningError(f"the pruning ratio is {prune_ratio}; it must be at least 0 and below 1")
    if not 0 <= floor <= 1:
        raise PruningError(f"the floor is {floor}; it must be at least 0 and at most 1")
    prunable = channel_map.free & ~np.isnan(scores)
    if not prunable.any():
        raise PruningError("no channel of this network can be removed: all are pinned or have no batch norm")
    order = np.flatnonzero(prunable)
    shuffled = np.random.default_rng(0).permutation(len(order))  # ties: spread over the network, the same each time
    order = order[np.lexsort((shuffled, scores[order]))]
    ranks = np.full(len(scores), len(scores))
    ranks[order] = np.arange(len(order))  # repairs follow the very order of the threshold, also between equal scores
    total = int(channel_map.channels[prunable].sum())

    def cut(count: int) -> np.ndarray:
        kept = np.ones(len(scores), dtype=bool)
        kept[order[:count]] = False
        return repair(channel_map, ranks, kept, floor)

    def removed(kept: np.ndarray) -> int:
        return int(channel_map.channels[~kept].sum())

    wanted = round(prune_ratio * total)
    kept = cut(smallest_cut(len(order), lambda count: removed(cut(count)) >= wanted))
    return kept, _limits(channel_map, kept, floor, removed(kept), wanted, total)


def _limits(
    channel_map: ChannelMap, kept: np.ndarray, floor: float, removed: int, wanted: int, total: int
) -> tuple[str, ...]:
    """Says which layers stand at their floor, and whether that keeps the choice from its target."""
    at_floor = [
        name
        for name, outputs, count in floors_of(channel_map, floor)
        if int(kept[outputs].sum()) <= count < len(outputs)
    ]
    limits = []
    if removed < wanted:
        limits.append(
            f"removed {removed / total:.1%} of the prunable channels instead of {wanted / total:.1%}: the rest is kept "
            f"by the floor of {floor:.0%} per layer and by equal halves"
        )
    if at_floor:
        limits.append(f"{len(at_floor)} layers stand at their floor of {floor:.0%}: {', '.join(at_floor)}")
    return tuple(limits)


def make_plan(
    channel_map: ChannelMap,
    scores: np.ndarray,
    *,
    prune_ratio: float,
    floor: float = DEFAULT_FLOOR,
    settings: dict | None = None,
) -> PruningPlan:
    """Plans a cut that removes a share of the prunable channels (see `choose` for arguments and errors)."""
    kept, limits = choose(channel_map, scores, prune_ratio, floor)
    return plan_from(channel_map, kept, {**(settings or {}), "prune_ratio": prune_ratio, "floor": floor}, limits)
