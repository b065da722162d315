"""What a cut left of each layer, and where a limit or a tie held it, why."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..channels import ChannelMap
from ..checkpoints import checkpoint
from ..errors import PruningError
from ..files.whole import sha256
from ..plans.plan import PruningPlan
from ..selection.limits import Limits, filters
from ..selection.wording import RULES
from ..sparsity.asked import TARGET_ARGUMENTS
from .networks import Network

MOST_TIES = 2  # layers that a reason names


@dataclass(frozen=True)
class Width:
    """What is left of a layer.

    Attributes:
        name: Of the layer.
        type: Its class.
        part: Of the network, in which it lies.
        before: Output channels before all cuts.
        kept: Those that are left.
        held: What kept it from being narrower, in words: a limit, or what its channels are pinned by.
        tied: With what it goes together, or went, in words.
        decided: What says which channels stay where nothing holds the layer, in words.
    """

    name: str
    type: str
    part: str
    before: int
    kept: int
    held: str = ""
    tied: str = ""
    decided: str = "its scores"

    @property
    def why(self) -> str:
        """All reasons in words."""
        return "; ".join(reason for reason in (self.held, self.tied) if reason) or self.decided


def widths_of(network: Network) -> list[Width]:
    """Returns the layers with filters of a network that was cut, in network order; none if it was not."""
    if not network.plans or network.channel_map is None:
        return []
    first: dict[str, Any] = {}
    for plan in network.plans:
        for name, layer in plan.layers.items():
            first.setdefault(name, layer)
    last, limits = network.plans[-1], limits_of(network)
    compression = network.source.compression
    recipe = compression.recipe if compression else {}
    scheme, ladder = recipe.get("scheme"), bool(recipe.get("milder"))
    cut_again = ladder or bool(recipe.get("halfway"))
    of_the_original = scheme == "stepwise" or (cut_again and scheme == "one-shot")  # what shares are of
    ties = _ties(network.channel_map)
    decided = "not at zero after the training" if last.settings.get("zeros") else Width.decided
    widths = []
    for name, layer in first.items():
        if layer.type not in ("Conv2d", "ConvTranspose2d", "Linear"):
            continue
        kept = len(last.layers[name].kept_out) if name in last.layers else 0
        at_cut = last.layers[name].out_before if name in last.layers and not of_the_original else layer.out_before
        held = _held(name, at_cut, kept, limits, network)
        tied = ties.get(name, "") if kept else "its block was taken out whole"
        widths.append(Width(name, layer.type, network.part_of(name), layer.out_before, kept, held, tied, decided))
    return widths


def limits_of(network: Network) -> Limits:
    """Returns the limits that the last cut respected.

    A cut of what is at zero has none of its own: they were those of the training that chose, or of the compression.
    """
    settings: Mapping[str, Any] = network.plans[-1].settings
    if settings.get("zeros"):
        compression = network.source.compression
        asked = compression.recipe.get("limits") if compression else None
        settings = asked if isinstance(asked, dict) else _of_training(network.plans[-1])
    lists = {"ignore": tuple(settings.get("ignore", ())), "ratios": tuple(map(tuple, settings.get("ratios", ())))}
    numbers = {name: settings[name] for name in ("floor", "min_channels", "max_ratio", "round_to") if name in settings}
    try:
        return Limits(**{"floor": 0.0, **numbers, **lists})
    except (TypeError, ValueError):  # somebody else's plan
        return Limits(floor=0.0)


def _of_training(plan: PruningPlan) -> dict[str, Any]:
    """Returns the limits of the sparsity training before a cut of zeros, if it is there and chose by a target."""
    file = Path(plan.source.get("file", ""))
    try:
        if not file.is_file() or sha256(file) != plan.source.get("sha256"):
            return {}
        arguments = checkpoint.load(file)[1].get("train_args") or {}
    except (PruningError, OSError):
        return {}
    chose = any(arguments.get(name) for name in TARGET_ARGUMENTS)
    return {"floor": Limits.floor, "round_to": arguments.get("round_to", 1)} if chose else {}


def _held(name: str, before: int, kept: int, limits: Limits, network: Network) -> str:
    """Returns what kept a layer from being narrower, in words.

    Args:
        name: Of the layer.
        before: The width that the shares of limits are of.
        kept: What is left of it.
        limits: What the last cut respected.
        network: The network.
    """
    channel_map = network.channel_map
    assert channel_map is not None
    if not kept:
        return ""
    if kept == before and (pinned := _pinned(name, channel_map)):
        return pinned
    parents = [name.rsplit(".", depth)[0] for depth in range(name.count(".") + 1)]
    if pattern := next((one for one in limits.ignore if _matches(one, parents)), None):
        return f"ignored: {pattern}"
    if ratio := next(((one, share) for one, share in limits.ratios if _matches(one, parents)), None):
        rounded = f", rounded up to {kept}" if before - kept < round(ratio[1] * before) else ""
        return f"its own ratio: {ratio[0]} loses {ratio[1]:.0%}{rounded}"
    return _at_limit(name, before, kept, limits)


def _matches(pattern: str, names: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def _at_limit(name: str, before: int, kept: int, limits: Limits) -> str:
    """Returns the limit that a layer stands at, in words."""
    least, step = limits.least(name, before), limits.round_to
    rule = max(least, key=least.__getitem__)
    rounded = -(-least[rule] // step) * step
    if kept > min(rounded, before):
        return ""
    number = {"floor": limits.floor, "min_channels": limits.min_channels, "max_ratio": limits.max_ratio}[rule]
    said = "the last channel" if least[rule] == 1 and rule == "floor" else RULES[rule].format(number)
    if rounded >= before > least[rule]:
        beyond = f" above its {said}" if step < before else ""
        return f"whole: no multiple of {step}{beyond} is narrower"
    return f"{said}, rounded up to {rounded}" if rounded > least[rule] else said


def _pinned(name: str, channel_map: ChannelMap) -> str:
    """Returns why all channels of a layer must stay; empty if some may go."""
    layer = channel_map.layers.get(name)
    if layer is None or not all(int(group) in channel_map.pinned for group in layer.outputs):
        return ""
    reasons = dict.fromkeys(channel_map.pinned[int(group)] for group in layer.outputs)
    return f"pinned: {', '.join(reasons)}"


def _ties(channel_map: ChannelMap) -> dict[str, str]:
    """Returns for each layer with filters, in words, with which others its channels go, and whose parts are equal."""
    outputs = filters(channel_map)
    makers: dict[int, list[str]] = {}
    for name, groups in outputs.items():
        for group in np.unique(groups).tolist():
            if group not in channel_map.pinned:
                makers.setdefault(group, []).append(name)
    balanced = {int(group) for balance in channel_map.balances for part in balance.parts for group in part}

    found = {}
    for name, groups in outputs.items():
        free = [group for group in np.unique(groups).tolist() if group not in channel_map.pinned]
        others = dict.fromkeys(other for group in free for other in makers[group] if other != name)
        said = []
        if others:
            more = f" and {len(others) - MOST_TIES} more" if len(others) > MOST_TIES else ""
            said.append(f"one with {', '.join(list(others)[:MOST_TIES])}{more}")
        if any(group in balanced for group in free):
            said.append("equal halves")
        if said:
            found[name] = "; ".join(said)
    return found
