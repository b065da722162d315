"""What kept a choice of channels from its target, and which layers stand at a limit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..channels import ChannelMap
from ..plans.findings import Finding, Kind, Reason
from .costs import Costs
from .limits import Limits, OwnRatio, filters, least_of_parts
from .target_kinds import TOLERANCE
from .targets import Target


def findings(
    channel_map: ChannelMap,
    kept: np.ndarray,
    prunable: np.ndarray,
    target: Target,
    costs: Costs,
    limits: Limits,
    ratios: Sequence[OwnRatio],
) -> tuple[Finding, ...]:
    """Returns what was found about a choice.

    Args:
        channel_map: The traced network.
        kept: Which groups stay, bool of shape (G,).
        prunable: Which could go, bool of shape (G,).
        target: What was asked for.
        costs: What choices cost.
        limits: What holds for single layers.
        ratios: What the ratios of single layers removed.
    """
    near, standing = _at_limits(channel_map, kept, prunable, limits)
    found = []
    if (about := _about_target(kept, target, costs)) and about[0] == Kind.MISSED:
        why = [Reason(rule, _number(rule, limits)) for rule in near]
        why += _other_reasons(channel_map, kept, prunable, limits, ratios, of_candidates=target.kind.of_candidates)
        found.append(Finding(*about, reasons=tuple(why)))
    elif about:
        step = Reason("step", limits.round_to) if limits.round_to > 1 else Reason("tied")
        found.append(Finding(*about, reasons=(*([Reason("own_ratios")] if ratios else []), step)))
    found += [
        Finding(Kind.AT_LIMIT, rule, wanted=_number(rule, limits), layers=tuple(names))
        for rule, names in standing.items()
    ]
    return (*found, *_about_ratios(kept, ratios))


def _about_target(kept: np.ndarray, target: Target, costs: Costs) -> tuple[Kind, str, float, float] | None:
    """Returns how a choice misses its target or goes far beyond: kind, name, wanted, reached."""
    kind, limit = target.kind, target.kind.limit(target.value, costs)
    spent = kind.spent(costs, kept)
    reached = kind.reached(costs, spent)
    if reached is None or limit / (1 + TOLERANCE) <= spent <= limit:
        return None
    return Kind.MISSED if spent > limit else Kind.BEYOND, target.name, target.value, reached


def _at_limits(
    channel_map: ChannelMap, kept: np.ndarray, prunable: np.ndarray, limits: Limits
) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the rules that keep layers from being narrower, and the layers that stand at each of them."""
    gone = {name for block in channel_map.taken_out(kept) for name in block.layers}
    near: dict[str, None] = {}
    standing: dict[str, list[str]] = {}
    for name, outputs in filters(channel_map).items():
        if not prunable[outputs].any() or name in gone:
            continue
        least, width = limits.least(name, len(outputs)), int(kept[outputs].sum())
        rule = max(least, key=least.__getitem__)
        rounded = -(-least[rule] // limits.round_to) * limits.round_to
        if width <= min(rounded, len(outputs)):
            near[rule] = None
        if width <= least[rule] < len(outputs):
            standing.setdefault(rule, []).append(name)
    return list(near), standing


def _number(rule: str, limits: Limits) -> float:
    """Returns the number of a rule of `Limits.least`."""
    return {"floor": limits.floor, "min_channels": limits.min_channels, "max_ratio": limits.max_ratio}[rule]


def _other_reasons(
    channel_map: ChannelMap,
    kept: np.ndarray,
    prunable: np.ndarray,
    limits: Limits,
    ratios: Sequence[OwnRatio],
    *,
    of_candidates: bool,
) -> list[Reason]:
    """Returns what else than the limits of layers can keep a choice from its target."""
    why = [Reason("rounding", limits.round_to)] if limits.round_to > 1 else []
    why += [Reason("own_ratios")] if ratios else []
    why += [Reason("halves")] if channel_map.balances else []
    if any(kept[part].sum() <= least for part, least in least_of_parts(channel_map, limits)):
        why.append(Reason("part_floor", limits.floor))
    if not of_candidates:
        why.append(Reason("fixed", 1 - channel_map.channels[prunable].sum() / channel_map.channels.sum()))
    return why


def _about_ratios(kept: np.ndarray, ratios: Sequence[OwnRatio]) -> list[Finding]:
    """Returns the ratios of single layers that do nothing, or not all."""
    found = []
    for ratio in ratios:
        removed = len(ratio.removed)
        gone = removed - int(kept[ratio.removed].sum())
        if not len(ratio.claimed):
            found.append(Finding(Kind.IDLE_RATIO, ratio.pattern))
        elif gone < removed:
            found.append(Finding(Kind.SHORT_RATIO, ratio.pattern, wanted=removed, reached=gone))
    return found
