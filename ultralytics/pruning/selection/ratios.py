"""What each pruning ratio would cost: from this table and the lines in the picture a person picks one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from ..channels import ChannelMap
from ..cost import cost_of
from ..criteria import bn_scale
from ..report import table
from .choose import choose
from .limits import Limits, filters
from .targets import Target

RATIOS = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class RatioCut:
    """A cut by one threshold over the whole network.

    Attributes:
        ratio: Share of the prunable channels that it removes, in 0..1.
        threshold: The |gamma| below which a channel goes.
        macs: Share of the multiply-adds that is left, in 0..1.
        at_floor: Number of layers of which only the floor stays, a tenth of their channels.
    """

    ratio: float
    threshold: float
    macs: float
    at_floor: int


def ratio_cuts(channel_map: ChannelMap, model: nn.Module) -> tuple[RatioCut, ...]:
    """Returns what the cuts of `RATIOS` would do, without rounding of widths."""
    scores, limits = bn_scale(channel_map, model), Limits()
    scored = np.flatnonzero(channel_map.free & ~np.isnan(scores))
    order = scored[np.argsort(scores[scored])]
    removed = np.cumsum(channel_map.channels[order])
    whole = cost_of(channel_map).macs
    cuts = []
    for ratio in RATIOS:
        kept, _ = choose(channel_map, scores, Target("prune_ratio", ratio), limits)
        place = min(int(np.searchsorted(removed, ratio * removed[-1])), len(order) - 1)
        gone = {name for block in channel_map.taken_out(kept) for name in block.layers}
        at_floor = sum(
            name not in gone and int(kept[outputs].sum()) <= limits.least(name, len(outputs))["floor"] < len(outputs)
            for name, outputs in filters(channel_map).items()
        )
        macs = cost_of(channel_map, kept).macs / whole
        cuts.append(RatioCut(ratio, float(scores[order[place]]), macs, at_floor))
    return tuple(cuts)


def ratio_table(title: str, cuts: tuple[RatioCut, ...]) -> str:
    """Returns the cuts of one network as a table under its title."""
    header = ("--prune-ratio", "threshold on |gamma|", "multiply-adds left", "layers at their floor")
    return f"{title}:\n" + table(
        header, [(f"{c.ratio:g}", f"{c.threshold:.2g}", f"{c.macs:.0%}", c.at_floor) for c in cuts]
    )
