"""Checks of single values in plain data; each returns the value, or raises a ValueError that names its place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .documents import brief

Check = Callable[[Any, str], Any]


def whole_number(value: Any, where: str, least: int = 0, most: int | None = None) -> int:
    """Returns a whole number, which True and 1.0 are not."""
    if type(value) is not int or value < least or (most is not None and value > most):
        span = f"of at least {least}" if most is None else f"from {least} to {most:,}"
        raise ValueError(f"{where} is {brief(value)}, not a whole number {span}")
    return value


def number(value: Any, where: str, least: float = -math.inf, most: float = math.inf, above: float = -math.inf) -> float:
    """Returns a finite number."""
    if type(value) not in {int, float} or not math.isfinite(value) or not least <= value <= most or value <= above:
        span = f" above {above:g}" if above > -math.inf else f" of at least {least:g}" if least > -math.inf else ""
        span += f" and at most {most:g}" if most < math.inf else ""
        raise ValueError(f"{where} is {brief(value)}, not a number{span}")
    return float(value)


def text(value: Any, where: str) -> str:
    """Returns a string that may be empty."""
    if not isinstance(value, str):
        raise ValueError(f"{where} is {brief(value)}, not text")
    return value


def flag(value: Any, where: str) -> bool:
    """Returns True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{where} is {brief(value)}, neither true nor false")
    return value


def listing(value: Any, where: str, each: Check | None = None, count: int | None = None) -> list[Any]:
    """Returns a list, of `count` entries if given, whose entries pass a check."""
    if not isinstance(value, (list, tuple)) or (count is not None and len(value) != count):
        raise ValueError(f"{where} is {brief(value)}, not a list" + (f" of {count}" if count is not None else ""))
    for i, entry in enumerate(value) if each else ():
        each(entry, f"{where}[{i}]")  # type: ignore[misc]
    return list(value)


def mapping(value: Any, where: str, each: Check | None = None, needs: tuple[str, ...] = ()) -> dict[str, Any]:
    """Returns a dict with text as keys, among them those that it needs, whose values pass a check."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {brief(value)}, not a dict")
    for key in value:
        text(key, f"a key of {where}")
    if lacking := [key for key in needs if key not in value]:
        raise ValueError(f"{where} lacks {brief(lacking[0])}")
    for key, entry in value.items() if each else ():
        each(entry, f"{where}[{brief(key)}]")  # type: ignore[misc]
    return value


def optional(check: Check) -> Check:
    """Returns a check that also lets None pass."""
    return lambda value, where: None if value is None else check(value, where)
