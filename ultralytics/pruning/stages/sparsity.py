"""What a sparsity training needs beside a training: a strength, and afterwards what to tell `prune.py`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..channels import ChannelMap
from ..command_line import options as shared
from ..criteria import bn_scale
from ..errors import PruningError
from ..latency import Latency
from ..selection.choose import choose
from ..selection.limits import DEFAULT_ROUND_TO, Limits
from ..selection.reach import check_reach
from ..selection.target_kinds import LatencySpeedUp
from ..selection.targets import Target
from ..selection.zeros import LEAST_SHARE, share_at_zero
from ..sparsity import DEFAULT_MODE, FADED, MODES, TARGET_ARGUMENTS, Scales, Settings
from ..sparsity.settings import mode_of
from ..tracing.trace import trace


def default_strengths() -> str:
    """Says in words which strength each mode has where nothing is said."""
    modes: dict[str, list[str]] = {}
    for name, traits in MODES.items():
        if traits.default_strength:
            modes.setdefault(traits.default_said, []).append(name)
    *some, (last, _) = modes.items()
    return "; ".join([f"{', '.join(names)}: {said}" for said, names in some] + [f"all others: {last}"])


def latency_of(options: argparse.Namespace, imgsz: int) -> Latency | None:
    """Returns the target in milliseconds, if it was given.

    Raises:
        PruningError: If options contradict each other, or the runtime does not run.
    """
    return shared.latency(options, imgsz, LatencySpeedUp.argument)


def sparsity_settings(settings: dict[str, Any], latency: Latency | None = None) -> dict[str, Any]:
    """Returns what a sparsity training needs beside what was said.

    Args:
        settings: The training arguments that were said.
        latency: The target, if it is one of milliseconds.

    Returns:
        A strength, where there is no target, or where the timings are, for one of milliseconds.

    Raises:
        PruningError: If what was said contradicts itself, or nothing would fade.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    more: dict[str, Any] = {"latency_table": str(latency.timings.resolve())} if latency else {}
    strength = MODES.get(settings.get("sparsity") or DEFAULT_MODE, MODES[DEFAULT_MODE]).default_strength
    if strength and not any(name in settings for name in ("sr", *TARGET_ARGUMENTS)):
        more |= {"sr": strength(settings["epochs"])}
    if not Settings.of(argparse.Namespace(**{**DEFAULT_CFG_DICT, **settings, **more})):
        raise PruningError("sr is 0: nothing would fade; train-normal.py trains without a pull")
    return more


def check_target(network: Any, settings: dict[str, Any], latency: Latency | None = None) -> None:
    """Refuses a target that pinned channels, floors and rounding keep out of reach, for images of the training's size.

    Args:
        network: What is trained on.
        settings: The training arguments.
        latency: The target, if it is one of milliseconds: the layers are timed that have no timings yet.

    Raises:
        PruningError: If it is; it says what is the most that can be had. If a table of latencies is not of the network.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    asked = Settings.of(argparse.Namespace(**{**DEFAULT_CFG_DICT, **settings}))
    if not asked or not asked.target:
        return
    channel_map = trace(network, imgsz=settings["imgsz"])
    frozen = [parameter.requires_grad for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # as in the training, and not in a checkpoint
    eligible = asked.traits.eligible(channel_map, network, Scales.of(network, channel_map))
    for parameter, was in zip(network.parameters(), frozen, strict=True):
        parameter.requires_grad_(was)
    option = f"--{asked.target.kind.argument.replace('_', '-')}"
    cost = latency.model(network, channel_map, asked.limits.round_to) if latency else None
    check_reach(channel_map, eligible, asked.target, asked.limits, option, cost)


@dataclass(frozen=True)
class Trained:
    """A checkpoint that a training wrote, loaded: the network, what else it holds, and the network's channels."""

    model: Any
    content: dict[str, Any]
    channel_map: ChannelMap


def prune_options(last: Trained) -> tuple[tuple[str, ...], str]:
    """Returns what to tell prune.py after a sparsity training, the largest cut that removes only faded channels.

    Returns:
        The words of the command line, and why, in words.
    """
    model, channel_map = last.model, last.channel_map
    mode = mode_of(last.content.get("train_args") or {})
    if share_at_zero(channel_map, model) >= LEAST_SHARE:
        return (), "prune.py will cut just the channels that are at exactly zero."
    if mode and (cut_by := MODES[mode].cut_by):
        return cut_by
    percent = faded_percent(channel_map, bn_scale(channel_map, model))
    if not percent:
        why = "Hardly a channel has faded: expect to lose accuracy by the cut, or train with a stronger pull first."
        return (), why
    return ("--prune-ratio", f"{percent / 100:g}"), "The ratio removes only channels that have faded."


def faded_percent(channel_map: ChannelMap, scores: np.ndarray) -> int:
    """Returns the largest pruning ratio, in whole percents, that removes only faded channels.

    Args:
        channel_map: The traced network.
        scores: The scale of each group, of shape (G,).
    """
    channels, scored = channel_map.channels, channel_map.free & ~np.isnan(scores)
    limits = Limits(round_to=DEFAULT_ROUND_TO)
    percent = int(100 * channels[scored & (scores < FADED)].sum() / channels[scored].sum())
    while percent:  # floors and rounding give channels back, for which others would go
        kept, _ = choose(channel_map, scores, Target("prune_ratio", percent / 100), limits)
        if (scores[~kept] < FADED).all():
            break
        percent -= 1
    return percent
