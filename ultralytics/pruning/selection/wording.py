"""What was found about a choice of channels, in words. Nothing decides by them."""

from __future__ import annotations

from collections.abc import Sequence

from ..plans.findings import Finding, Kind, Reason
from .targets import KINDS

RULES = {  # limits of single layers
    "floor": "floor of {:.0%}",
    "min_channels": "least of {:.0f} channels",
    "max_ratio": "largest cut of {:.0%}",
}
REASONS = {
    **{name: f"the {rule} per layer" for name, rule in RULES.items()},
    "rounding": "rounding to multiples of {:.0f}",
    "own_ratios": "own ratios of layers",
    "halves": "equal halves",
    "part_floor": "the floor of {:.0%} of each part of a split",
    "fixed": "the {:.0%} of all channels that are pinned, ignored or without a score",
    "step": "step of {:.0f} channels",
    "tied": "group of tied channels",
}


def said(finding: Finding) -> str:
    """Returns a finding in words."""
    return _WORDS[finding.kind](finding)


def all_said(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Returns findings in words, a line each."""
    return tuple(said(finding) for finding in findings)


def _reason(reason: Reason) -> str:
    return REASONS[reason.name].format(reason.number)


def _missed(finding: Finding) -> str:
    kind = KINDS[finding.about]
    text = f"{kind.sentence(finding.reached)} instead of {kind.said(finding.wanted)}"
    return f"{text}: the rest is kept by {_and([_reason(reason) for reason in finding.reasons])}"


def _beyond(finding: Finding) -> str:
    kind = KINDS[finding.about]
    text = f"{kind.sentence(finding.reached)}, beyond the {kind.said(finding.wanted)} asked for"
    has_ratios = any(reason.name == "own_ratios" for reason in finding.reasons)
    step = next(_reason(reason) for reason in finding.reasons if reason.name in ("step", "tied"))
    why = "the own ratios of layers remove that much, or " if has_ratios else ""
    return f"{text}: {why}the next {step} is larger than the difference"


def _missed_as_timed(finding: Finding) -> str:
    text = f"{finding.reached:.2f}x faster as measured, instead of {finding.wanted:g}x, the nearest of "
    return text + f"{finding.reasons[0].number:.0f} trials: widths move in steps, and layers stand at their floor"


def _at_limit(finding: Finding) -> str:
    rule = RULES[finding.about].format(finding.wanted)
    return f"{len(finding.layers)} layers stand at their {rule}: {', '.join(finding.layers)}"


def _idle_ratio(finding: Finding) -> str:
    return f"the ratio of '{finding.about}' does nothing: no channel of its layers can be removed"


def _short_ratio(finding: Finding) -> str:
    kept = f"{finding.wanted - finding.reached:.0f} of the {finding.wanted:.0f} channels"
    return f"'{finding.about}' keeps {kept} that its ratio removes"


def _zeros_stay(finding: Finding) -> str:
    stay = f"{finding.wanted - finding.reached:.0f} channels at zero stay"
    return f"{stay}, so that layers are not empty, rounded, and parts equally wide"


def _and(words: list[str]) -> str:
    """Joins words as in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


_WORDS = {
    Kind.MISSED: _missed,
    Kind.BEYOND: _beyond,
    Kind.MISSED_AS_TIMED: _missed_as_timed,
    Kind.AT_LIMIT: _at_limit,
    Kind.IDLE_RATIO: _idle_ratio,
    Kind.SHORT_RATIO: _short_ratio,
    Kind.ZEROS_STAY: _zeros_stay,
}
