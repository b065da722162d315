"""Readers of option values: from a word of the command line to a number, or one line that says what it should be."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError

UNITS = {"k": 1e3, "m": 1e6, "g": 1e9}


def _number(text: str) -> float:
    """Reads a number; what is none becomes NaN, which is within no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def ratio(text: str) -> float:
    """Reads a pruning ratio."""
    value = _number(text)
    if not 0 <= value < 1:
        raise ArgumentTypeError(f"{text!r} is no number of at least 0 and below 1")
    return value


def share(text: str) -> float:
    """Reads a share that may be the whole."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text!r} is no number of at least 0 and at most 1")
    return value


def factor(text: str) -> float:
    """Reads how many times less."""
    value = _number(text)
    if not 1 <= value < math.inf:
        raise ArgumentTypeError(f"{text!r} is no number of at least 1")
    return value


def count(text: str) -> int:
    """Reads a large number: 1200000, 1.2M or 900k."""
    unit = UNITS.get(text[-1:].lower())
    value = _number(text[:-1]) * unit if unit else _number(text)
    if not 1 <= value < math.inf or (not unit and value != int(value)):
        raise ArgumentTypeError(f"{text!r} is no number such as 1200000, 1.2M or 900k")
    return round(value)


def pattern_ratio(text: str) -> tuple[str, float]:
    """Reads PATTERN=R."""
    pattern, equals, value = text.rpartition("=")
    if not equals or not pattern:
        raise ArgumentTypeError(f"{text!r} is not of the form PATTERN=RATIO, such as 'model.2.*=0.3'")
    return pattern, ratio(value)
