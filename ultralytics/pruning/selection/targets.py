"""How much to remove: a share of the channels, a cut of the multiply-adds, or a number of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..channels import ChannelMap
from ..cost import CostModel
from ..errors import NothingToRemoveError, PruningError

Latency = Callable[[np.ndarray], float]  # from a choice, bool of shape (G,), to milliseconds
LONG = 1e5  # a factor from which on powers of ten are easier to read
TOLERANCE = 0.02  # a target counts as met up to this relative difference


@dataclass(frozen=True)
class Target:
    """What a selection aims at.

    Attributes:
        name: `prune_ratio`, `speed_up`, `latency_speed_up` or `target_params`.
        value: The share of the prunable channels to remove, in [0, 1); the multiply-adds, or the milliseconds, before
            over after, at least 1; or the number of parameters to leave, at least 1.

    Raises:
        PruningError: If the value is outside of its range.
    """

    name: str
    value: float

    def __post_init__(self) -> None:
        if self.name == "prune_ratio" and not 0 <= self.value < 1:
            raise PruningError(f"the pruning ratio is {self.value}; it must be at least 0 and below 1")
        if self.name in ("speed_up", "latency_speed_up") and not 1 <= self.value < math.inf:
            raise PruningError(f"the speed-up is {self.value}; it must be at least 1")
        if self.name == "target_params" and not 1 <= self.value < math.inf:
            raise PruningError(f"the number of parameters is {self.value}; it must be at least 1")

    @classmethod
    def one_of(cls, **values: float | None) -> Target:
        """Returns the one target that is given.

        Raises:
            PruningError: If none is, or several are.
        """
        given = {name: value for name, value in values.items() if value is not None}
        if len(given) != 1:
            found = " and ".join(f"{name}={value}" for name, value in given.items()) or "none"
            raise PruningError(f"one target is needed, {', '.join(values)}; found {found}")
        return cls(*next(iter(given.items())))

    def said(self, value: float) -> str:
        """Returns a value of this kind in words."""
        if self.name in ("speed_up", "latency_speed_up") and value >= LONG:
            return f"{value:.3g}"
        forms = {"prune_ratio": ".1%", "speed_up": ".2f", "latency_speed_up": ".2f", "target_params": ",.0f"}
        return format(value, forms[self.name])


class Budget:
    """What a target means for one network: `spent` may be `limit` at most.

    Args:
        target: The target.
        channel_map: The traced network.
        candidates: Groups that the threshold may remove, bool of shape (G,); a pruning ratio is a share of them.
        latency: From a choice to its milliseconds, for a `latency_speed_up`.

    Raises:
        PruningError: If the network already has no more parameters than wanted.
    """

    def __init__(
        self, target: Target, channel_map: ChannelMap, candidates: np.ndarray, latency: Latency | None = None
    ) -> None:
        self.target, self._latency = target, latency
        self._cost = CostModel(channel_map)
        self._channels = np.where(candidates, channel_map.channels, 0)
        self._total = int(self._channels.sum())
        whole = self._cost(np.ones(len(candidates), dtype=bool))
        self._macs = whole.macs
        if target.name == "prune_ratio":
            self.limit: float = self._total - round(target.value * self._total)
        elif target.name == "speed_up":
            self.limit = whole.macs / target.value
        elif target.name == "latency_speed_up":
            assert latency is not None
            self._ms = latency(np.ones(len(candidates), dtype=bool))
            self.limit = self._ms / target.value
        else:
            self.limit = target.value
            if whole.deployed <= target.value:
                raise NothingToRemoveError(
                    f"{target.value:,.0f} parameters are wanted, but the network has only {whole.deployed:,}"
                )

    def spent(self, kept: np.ndarray) -> float:
        """Returns what a choice costs: candidate channels, multiply-adds, milliseconds or parameters."""
        if self.target.name == "prune_ratio":
            return int(self._channels[kept].sum())
        if self._latency is not None:
            return self._latency(kept)
        cost = self._cost(kept)
        return cost.macs if self.target.name == "speed_up" else cost.deployed

    def outcome(self, kept: np.ndarray) -> str | None:
        """Says in words how a choice misses the target, or goes beyond it by more than `TOLERANCE`, else None."""
        spent = self.spent(kept)
        if self.target.name == "prune_ratio":
            if not self._total:  # every layer has a ratio of its own
                return None
            reached = (self._total - spent) / self._total
            text = f"removed {self.target.said(reached)} of the prunable channels"
        elif self.target.name == "speed_up":
            reached = self._macs / max(spent, 1)
            text = f"the speed-up is {self.target.said(reached)}"
        elif self.target.name == "latency_speed_up":
            reached = self._ms / max(spent, 1e-9)
            text = f"the speed-up by the timings of single layers is {self.target.said(reached)}"
        else:
            reached = spent
            text = f"{self.target.said(reached)} parameters are left"
        if spent > self.limit:
            return f"{text} instead of {self.target.said(self.target.value)}"
        if spent * (1 + TOLERANCE) < self.limit:
            return f"{text}, beyond the {self.target.said(self.target.value)} asked for"
        return None
