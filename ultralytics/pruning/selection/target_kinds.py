"""The kinds of targets, a class each: what may be spent, what a choice spends, what counts as met, how it is said.

Another kind is a class here, and its entry in `targets.KINDS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import NothingToRemoveError, PruningError
from .costs import Costs

LONG = 1e5  # a factor from which on powers of ten are easier to read
TOLERANCE = 0.02  # a target counts as met up to this relative difference
TIMED_TOLERANCE = 0.05  # and one of milliseconds up to this


@dataclass(frozen=True)
class Footprint:
    """The size of a network on the way to a target.

    Attributes:
        parameters: Of the deployed network.
        macs: Its multiply-adds.
        faster: Milliseconds of the original over its own; 1 where nobody timed it.
    """

    parameters: int
    macs: int
    faster: float = 1.0


class TargetKind(Protocol):
    """A kind of target. A `value` is the number of a target of this kind.

    Attributes:
        name: In `Target.name`, in plans, and as a keyword.
        option: Of the command line.
        argument: The training argument that asks a sparsity training for it, or nothing if none does.
        nothing: The value that asks for nothing, if there is one.
        of_candidates: Whether it counts the prunable channels alone, so that one threshold decides and nothing else.
        timed: Whether it needs timings of layers.
    """

    name: str
    option: str
    argument: str
    nothing: float | None
    of_candidates: bool
    timed: bool

    def check(self, value: float) -> None:
        """Raises a PruningError if a value is outside of its range."""

    def said(self, value: float) -> str:
        """Returns a value in words."""

    def sentence(self, reached: float) -> str:
        """Returns what a choice reached, in words."""

    def limit(self, value: float, costs: Costs) -> float:
        """Returns how much a choice may spend at most."""

    def spent(self, costs: Costs, kept: np.ndarray) -> float:
        """Returns how much a choice spends."""

    def reached(self, costs: Costs, spent: float) -> float | None:
        """Returns the value that a choice reaches; None if there is nothing that could count."""

    def on_the_way(self, value: float, progress: float, parameters: int) -> float:
        """Returns the value to aim at, at a progress in 0..1: what is spent falls evenly to that of `value`.

        Args:
            value: The target.
            progress: How far.
            parameters: Of the whole network, deployed.
        """

    def harder(self, value: float) -> float:
        """Returns the value that leaves half as much."""

    def halfway(self, value: float, parameters: int) -> float | None:
        """Returns the value from which it takes the same factor again to `value`; None if no second cut can tell.

        Args:
            value: The target.
            parameters: Of the whole network, deployed.
        """

    def channels(self, value: float) -> float:
        """Returns about which share of the channels it takes, in 0..1."""

    def next_value(
        self, value: float, done: float, part: float, original: Footprint, before: Footprint
    ) -> float | None:
        """Returns what to ask of the network before a step, or None if that is small enough already.

        Args:
            value: The target, seen from the original.
            done: Part of the way that earlier steps were to go, in 0..1.
            part: Part of the way that this step goes to.
            original: The size at the start.
            before: The size before the step.
        """

    def met(self, value: float, original: Footprint, now: Footprint, *, missed: bool) -> bool:
        """Whether a network has come to the target; `missed` is what the last choice found."""


class PruneRatio:
    """A share of the prunable channels."""

    name, option, argument = "prune_ratio", "--prune-ratio", "target_sparsity"
    nothing: float | None = 0.0
    of_candidates, timed = True, False

    def check(self, value: float) -> None:
        if not 0 <= value < 1:
            raise PruningError(f"the pruning ratio is {value}; it must be at least 0 and below 1")

    def said(self, value: float) -> str:
        return f"{value:.1%}"

    def sentence(self, reached: float) -> str:
        return f"removed {self.said(reached)} of the prunable channels"

    def limit(self, value: float, costs: Costs) -> float:
        total = costs.channels(costs.everything)
        return total - round(value * total)

    def spent(self, costs: Costs, kept: np.ndarray) -> float:
        return costs.channels(kept)

    def reached(self, costs: Costs, spent: float) -> float | None:
        total = costs.channels(costs.everything)
        return (total - spent) / total if total else None  # none: every layer has a ratio of its own

    def on_the_way(self, value: float, progress: float, parameters: int) -> float:
        return progress * value

    def harder(self, value: float) -> float:
        return (1 + value) / 2

    def halfway(self, value: float, parameters: int) -> float | None:
        return None

    def channels(self, value: float) -> float:
        return value

    def next_value(
        self, value: float, done: float, part: float, original: Footprint, before: Footprint
    ) -> float | None:
        return 1 - (1 - value * part) / (1 - value * done)

    def met(self, value: float, original: Footprint, now: Footprint, *, missed: bool) -> bool:
        return not missed


class SpeedUp:
    """Multiply-adds before over after."""

    name, option, argument = "speed_up", "--speed-up", "target_speed_up"
    nothing: float | None = 1.0
    of_candidates, timed = False, False
    least = 1.0  # of what is spent

    def check(self, value: float) -> None:
        if not 1 <= value < math.inf:
            raise PruningError(f"the speed-up is {value}; it must be at least 1")

    def said(self, value: float) -> str:
        return f"{value:.3g}" if value >= LONG else f"{value:.2f}"

    def sentence(self, reached: float) -> str:
        return f"the speed-up is {self.said(reached)}"

    def limit(self, value: float, costs: Costs) -> float:
        return self.spent(costs, costs.everything) / value

    def spent(self, costs: Costs, kept: np.ndarray) -> float:
        return costs.macs(kept)

    def reached(self, costs: Costs, spent: float) -> float | None:
        return self.spent(costs, costs.everything) / max(spent, self.least)

    def on_the_way(self, value: float, progress: float, parameters: int) -> float:
        return 1 / max(self._left(value, progress), 1 / value)

    def harder(self, value: float) -> float:
        return 2 * value

    def halfway(self, value: float, parameters: int) -> float | None:
        return value**0.5

    def channels(self, value: float) -> float:
        return 1 - value**-0.5  # multiply-adds fall with the square of the widths

    def next_value(
        self, value: float, done: float, part: float, original: Footprint, before: Footprint
    ) -> float | None:
        factor = before.macs / (original.macs * self._left(value, part))
        return factor if factor > 1 else None

    def met(self, value: float, original: Footprint, now: Footprint, *, missed: bool) -> bool:
        return now.macs * value <= original.macs * (1 + TOLERANCE)

    def _left(self, value: float, progress: float) -> float:
        """Returns the share of the cost that is left at a progress in 0..1."""
        return 1 - progress * (1 - 1 / value)


class LatencySpeedUp(SpeedUp):
    """Milliseconds before over after."""

    name, option, argument = "latency_speed_up", "--latency-speed-up", "target_latency_speed_up"
    timed = True
    least = 1e-9

    def sentence(self, reached: float) -> str:
        return f"the speed-up by the timings of single layers is {self.said(reached)}"

    def spent(self, costs: Costs, kept: np.ndarray) -> float:
        return costs.milliseconds(kept)

    def next_value(
        self, value: float, done: float, part: float, original: Footprint, before: Footprint
    ) -> float | None:
        factor = 1 / (before.faster * self._left(value, part))
        return factor if factor > 1 else None

    def met(self, value: float, original: Footprint, now: Footprint, *, missed: bool) -> bool:
        return now.faster * (1 + TIMED_TOLERANCE) >= value


class TargetParams:
    """A number of parameters to leave."""

    name, option, argument = "target_params", "--target-params", "target_params"
    nothing: float | None = None
    of_candidates, timed = False, False

    def check(self, value: float) -> None:
        if not 1 <= value < math.inf:
            raise PruningError(f"the number of parameters is {value}; it must be at least 1")

    def said(self, value: float) -> str:
        return f"{value:,.0f}"

    def sentence(self, reached: float) -> str:
        return f"{self.said(reached)} parameters are left"

    def limit(self, value: float, costs: Costs) -> float:
        whole = costs.parameters(costs.everything)
        if whole <= value:
            raise NothingToRemoveError(f"{value:,.0f} parameters are wanted, but the network has only {whole:,}")
        return value

    def spent(self, costs: Costs, kept: np.ndarray) -> float:
        return costs.parameters(kept)

    def reached(self, costs: Costs, spent: float) -> float | None:
        return spent

    def on_the_way(self, value: float, progress: float, parameters: int) -> float:
        return parameters + (value - parameters) * progress

    def harder(self, value: float) -> float:
        return max(1.0, value / 2)

    def halfway(self, value: float, parameters: int) -> float | None:
        return round((parameters * value) ** 0.5)

    def channels(self, value: float) -> float:
        return 0.0  # it takes the network's size to know

    def next_value(
        self, value: float, done: float, part: float, original: Footprint, before: Footprint
    ) -> float | None:
        wanted = round(self.on_the_way(value, part, original.parameters))
        return wanted if wanted < before.parameters else None

    def met(self, value: float, original: Footprint, now: Footprint, *, missed: bool) -> bool:
        return now.parameters <= value * (1 + TOLERANCE)
