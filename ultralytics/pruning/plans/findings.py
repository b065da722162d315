"""What kept a choice of channels from its target, or what it ran into: values to decide by; `wording.py` says them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What was found."""

    MISSED = "missed target"
    BEYOND = "beyond target"
    MISSED_AS_TIMED = "missed target as timed"
    AT_LIMIT = "layers at a limit"
    IDLE_RATIO = "ratio without effect"
    SHORT_RATIO = "ratio met in part"
    ZEROS_STAY = "channels at zero stay"


@dataclass(frozen=True)
class Reason:
    """Why, with its number if it has one.

    Attributes:
        name: `floor`, `min_channels`, `max_ratio`, `part_floor`, `rounding`, `own_ratios`, `halves`, `fixed`, `step`,
            `tied` or `trials`.
        number: A share, a count of channels or of trials.
    """

    name: str
    number: float = 0.0


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: What.
        about: The name of the target, of the limit, or the pattern of a layer's own ratio.
        wanted: What was asked for, in the unit of `about`.
        reached: What came of it.
        layers: The layers, where it is about some.
        reasons: Why.
    """

    kind: Kind
    about: str = ""
    wanted: float = 0.0
    reached: float = 0.0
    layers: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()


def missed(findings: tuple[Finding, ...]) -> bool:
    """Whether a choice fell short of its target."""
    return any(finding.kind in (Kind.MISSED, Kind.MISSED_AS_TIMED) for finding in findings)
