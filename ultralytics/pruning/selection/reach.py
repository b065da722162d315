"""Whether a network can get as small as somebody wants, whatever its channels are worth."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..channels import ChannelMap
from ..errors import NothingToRemoveError, PruningError
from ..plans.findings import Finding, Kind
from .choose import choose
from .costs import Milliseconds
from .limits import Limits
from .targets import Target
from .wording import said


def check_reach(
    channel_map: ChannelMap,
    eligible: np.ndarray,
    target: Target,
    limits: Limits,
    option: str,
    milliseconds: Milliseconds | None = None,
) -> None:
    """Refuses a target that pinned channels, floors and rounding keep out of reach.

    Args:
        channel_map: The traced network.
        eligible: Groups that may be removed at all, bool of shape (G,).
        target: What is asked for.
        limits: What holds for single layers.
        option: What the user said it with.
        milliseconds: From a choice to its time, for a target of milliseconds.

    Raises:
        PruningError: If it is out of reach; it says what is the most that can be had.
    """
    for finding in _missed(channel_map, eligible, target, limits, milliseconds):
        raise PruningError(f"{option} {target.value:g} is out of reach: {said(finding)}")


def with_room(channel_map: ChannelMap, target: Target, several: Sequence[Limits]) -> Limits:
    """Returns the first of several limits that leave a choice: half of what the target leaves would be within reach.

    Args:
        channel_map: The traced network.
        target: What is asked for, but no milliseconds.
        several: The limits; the last are returned if none of them leave a choice.
    """
    harder = Target(target.name, target.kind.harder(target.value))
    everything = np.ones(len(channel_map.channels), dtype=bool)
    with contextlib.suppress(NothingToRemoveError):  # whoever goes for the target says so
        return next((one for one in several if not _missed(channel_map, everything, harder, one)), several[-1])
    return several[0]


def _missed(
    channel_map: ChannelMap,
    eligible: np.ndarray,
    target: Target,
    limits: Limits,
    milliseconds: Milliseconds | None = None,
) -> list[Finding]:
    """Returns what keeps a network from a target, whatever its channels are worth; empty if nothing does."""
    scores: Any = np.random.default_rng(0).random(len(channel_map.channels))
    _, findings = choose(channel_map, np.where(eligible, scores, np.nan), target, limits, milliseconds)
    return [finding for finding in findings if finding.kind == Kind.MISSED]
