"""How much to remove: a kind (multiply-adds, milliseconds, parameters, share of the channels) and a number."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import PruningError
from .target_kinds import LatencySpeedUp, PruneRatio, SpeedUp, TargetKind, TargetParams

KINDS: dict[str, TargetKind] = {kind.name: kind for kind in (SpeedUp(), LatencySpeedUp(), TargetParams(), PruneRatio())}


@dataclass(frozen=True)
class Target:
    """What a selection aims at.

    Attributes:
        name: A key of `KINDS`.
        value: Its number: the share of the prunable channels to remove, in [0, 1); the multiply-adds, or the
            milliseconds, before over after, at least 1; or the number of parameters to leave, at least 1.

    Raises:
        PruningError: If there is no such kind, or the value is outside of its range.
    """

    name: str
    value: float

    def __post_init__(self) -> None:
        if self.name not in KINDS:
            raise PruningError(f"unknown target '{self.name}'; there are {', '.join(KINDS)}")
        self.kind.check(self.value)

    @property
    def kind(self) -> TargetKind:
        """What its number means."""
        return KINDS[self.name]

    @classmethod
    def one_of(cls, target: Target | None = None, **values: float | None) -> Target:
        """Returns the one target that is given, whole or as a value by name.

        Raises:
            PruningError: If none is, or several are.
        """
        given = {name: value for name, value in values.items() if value is not None}
        if target and not given:
            return target
        if target or len(given) != 1:
            given |= {target.name: target.value} if target else {}
            found = " and ".join(f"{name}={value}" for name, value in given.items()) or "none"
            raise PruningError(f"one target is needed, {', '.join(values)}; found {found}")
        return cls(*next(iter(given.items())))
