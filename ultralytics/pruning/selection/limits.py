"""What a selection has to respect in single layers: how many channels stay, in which steps, and which layers differ.

Layers are named by patterns: `*`, `?` and `[...]` as in file names, where a pattern that matches a module stands for
all layers in it. So `model.22` and `model.22.*` both mean the whole head.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..channels import ChannelMap
from ..errors import PruningError, closest

DEFAULT_FLOOR = 0.1
DEFAULT_ROUND_TO = 16  # of prune.py: the fastest of 1, 4, 8, 16 at equal multiply-adds, see docs/results/latency.md


@dataclass(frozen=True)
class Limits:
    """Rules for the number of channels that layers keep. Only output channels of layers with filters are meant.

    Attributes:
        floor: Least share of each layer's channels that stay, in 0..1; at least one channel stays in any case.
        min_channels: Least number of channels that stay in each layer; narrower layers stay whole.
        max_ratio: Largest share of any one layer's channels that is removed, in 0..1.
        round_to: The number of channels that each layer keeps is a multiple of this, or the layer's full width.
        ignore: Patterns of layers that keep all their channels.
        ratios: Patterns of layers that lose a share of their own free channels, in [0, 1), whatever the threshold of
            the others; the first pattern that matches a channel decides.
        widths: Layers whose shares (`floor`, `max_ratio`, `ratios`) are of another width than the present one: of that
            before an earlier cut.

    Raises:
        PruningError: If a value is outside of its range.
    """

    floor: float = DEFAULT_FLOOR
    min_channels: int = 1
    max_ratio: float = 1.0
    round_to: int = 1
    ignore: tuple[str, ...] = ()
    ratios: tuple[tuple[str, float], ...] = ()
    widths: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, value in (("floor", self.floor), ("largest share to remove of a layer", self.max_ratio)):
            if not 0 <= value <= 1:
                raise PruningError(f"the {name} is {value}; it must be at least 0 and at most 1")
        for name, value in (("least number of channels", self.min_channels), ("rounding step", self.round_to)):
            if not isinstance(value, int) or value < 1:
                raise PruningError(f"the {name} is {value}; it must be a whole number of at least 1")
        for pattern, share in self.ratios:
            if not 0 <= share < 1:
                raise PruningError(f"the ratio of '{pattern}' is {share}; it must be at least 0 and below 1")

    def least(self, layer: str, width: int) -> dict[str, int]:
        """Returns how many channels of a layer must stay, by the name of the rule, before rounding.

        Args:
            layer: Its name.
            width: How many it has.
        """
        whole = self.widths.get(layer, width)
        least = {
            "floor": max(1, math.ceil(self.floor * whole)),
            "min_channels": self.min_channels,
            "max_ratio": whole - math.floor(self.max_ratio * whole + 1e-9),  # 0.7 of 10 channels are 7
        }
        return {rule: min(count, width) for rule, count in least.items()}

    def settings(self) -> dict[str, Any]:
        """Returns the rules as plain data."""
        plain = {name: value for name, value in asdict(self).items() if name != "widths"}
        return {**plain, "ignore": list(self.ignore), "ratios": [list(entry) for entry in self.ratios]}


def filters(channel_map: ChannelMap) -> dict[str, np.ndarray]:
    """Returns the output groups of each layer that has filters, by its name."""
    return {layer.name: layer.outputs for layer in channel_map.layers.values() if layer.has_filters}


def least_of_parts(channel_map: ChannelMap, limits: Limits) -> list[tuple[np.ndarray, int]]:
    """Returns how many channels must stay in each part of a tensor that is no layer's own: its floor, and one at least.

    A layer's floor says nothing of what its output is split into: it may leave the values of an attention, and none of
    its queries and keys.
    """
    earlier = np.ones(len(channel_map.channels))  # widths before an earlier cut over the present ones
    for name, outputs in filters(channel_map).items():
        earlier[outputs] = limits.widths.get(name, len(outputs)) / len(outputs)
    parts = [(part, limits.floor * float(earlier[part].sum())) for part in channel_map.parts]
    return [(part, min(max(1, math.ceil(least - 1e-9)), len(part))) for part, least in parts]


def layers_named(channel_map: ChannelMap, pattern: str) -> list[str]:
    """Returns the layers with filters whose own name or a parent module's name matches a pattern.

    Raises:
        PruningError: If there is none.
    """
    names = {name: _with_parents(name) for name in filters(channel_map)}
    found = [name for name, parts in names.items() if any(fnmatch.fnmatchcase(part, pattern) for part in parts)]
    if not found:
        known = dict.fromkeys(part for parts in names.values() for part in parts)
        close = closest(pattern, known, 3)
        hint = (
            f"did you mean {' or '.join(close)}?" if close else f"names look like {next(iter(names), 'model.0.conv')}"
        )
        raise PruningError(f"the pattern '{pattern}' matches no convolution and no linear layer; {hint}")
    return found


def _with_parents(name: str) -> list[str]:
    """Returns a module's name and those of the modules that it lies in: a.b.c, a, a.b."""
    parts = name.split(".")
    return [name, *(".".join(parts[:i]) for i in range(1, len(parts)))]


def ignored(channel_map: ChannelMap, limits: Limits) -> np.ndarray:
    """Returns which groups a pattern in `limits.ignore` keeps, bool of shape (G,).

    Raises:
        PruningError: If a pattern matches nothing, or a layer has a ratio of its own as well.
    """
    own_ratio = {name: pattern for pattern, _ in limits.ratios for name in layers_named(channel_map, pattern)}
    mask = np.zeros(len(channel_map.channels), dtype=bool)
    for pattern in limits.ignore:
        for name in layers_named(channel_map, pattern):
            if name in own_ratio:
                raise PruningError(f"{name} is to be ignored ('{pattern}') and has a ratio ('{own_ratio[name]}')")
            mask[channel_map.layers[name].outputs] = True
    return mask


@dataclass(frozen=True)
class OwnRatio:
    """What a pattern in `limits.ratios` does.

    Attributes:
        pattern: The pattern.
        claimed: The free groups of its layers, for which it decides.
        removed: Those of them that go.
    """

    pattern: str
    claimed: np.ndarray
    removed: np.ndarray


def own_ratios(channel_map: ChannelMap, limits: Limits, ranks: np.ndarray, prunable: np.ndarray) -> list[OwnRatio]:
    """Returns what each pattern in `limits.ratios` removes: of each layer the lowest-ranked groups.

    Args:
        channel_map: The traced network.
        limits: The rules.
        ranks: Place of each group in the order of importance, of shape (G,).
        prunable: Which groups may go, bool of shape (G,).
    """
    undecided = prunable.copy()
    result = []
    for pattern, share in limits.ratios:
        claimed, removed = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for name in layers_named(channel_map, pattern):
            outputs = channel_map.layers[name].outputs
            groups = np.unique(outputs)
            groups = groups[undecided[groups]]
            undecided[groups] = False
            claimed.append(groups)
            gone = limits.widths.get(name, len(outputs)) - len(outputs)
            removed.append(groups[np.argsort(ranks[groups])][: max(0, round(share * (len(groups) + gone)) - gone)])
        result.append(OwnRatio(pattern, np.concatenate(claimed), np.concatenate(removed)))
    return result
