"""Milliseconds as the target of a sparsity training: what choices cost, and what was timed of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import distributed, nn

from ..channels import ChannelMap
from ..errors import PruningError
from ..latency import Latency, LatencyModel
from ..latency.search import SEARCH_TOLERANCE, TRIALS, TimedCut, next_factor, timed_cuts
from ..networks.hooks import copied_without_hooks
from ..passes.isolation import isolated
from ..plans.plan import PruningPlan, plan_from
from ..selection.target_kinds import TIMED_TOLERANCE
from .asked import Asked

Found = TypeVar("Found")
BELIEVED = 1.5  # between a timing and the model: more, on a busy machine, would let channels fade that then come back


def agreed(find: Callable[[], Found]) -> Found:
    """Returns what the first process of a training finds, in all of them: each clock would say something else.

    Raises:
        PruningError: If that process raises one.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return find()
    found: list[Any] = [None]
    if distributed.get_rank() == 0:
        try:
            found = [find()]
        except PruningError as error:  # the others wait
            found = [error]
    distributed.broadcast_object_list(found, 0)
    if isinstance(found[0], PruningError):
        raise found[0]
    return found[0]


def latency_of(asked: Asked) -> Latency | None:
    """Returns the target in milliseconds, by the table that is named; None if something else is asked for.

    Raises:
        PruningError: If the table is missing, or none.
    """
    if not asked.target or not asked.target.kind.timed:
        return None
    return Latency.by(Path(asked.latency_table), asked.target.value, asked.imgsz)


def milliseconds_of(model: nn.Module, channel_map: ChannelMap, asked: Asked) -> LatencyModel | None:
    """Returns the milliseconds of any choice, the same in all processes; None where they are no target.

    Where the table is kept of this machine, layers that it lacks are timed and added.

    Raises:
        PruningError: If the table is missing, or none, or one from elsewhere lacks a layer.
    """
    latency = latency_of(asked)
    if latency is None:
        return None
    if latency.runtime:  # a file holds rounded numbers: all that is chosen by is read from it
        agreed(lambda: latency.model(model, channel_map, asked.limits.round_to) and None)
    return latency.model(model, channel_map, asked.limits.round_to)


class Correction:
    """What the latency model has to be asked for, so that a factor is met as timed in turns with the original.

    Args:
        model: The network that is trained; its weights do not matter.
        channel_map: Its channels.
        latency: The target; has a runtime.

    Attributes:
        factor: What to ask the model for.
        timed: What was asked for, and the factor that was timed: of each correction, the first one first.
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap, latency: Latency) -> None:
        self._model, self._map, self._latency = model, channel_map, latency
        self.factor = latency.speed_up
        self.timed: list[tuple[float, float]] = []

    @classmethod
    def of(cls, model: nn.Module, channel_map: ChannelMap, asked: Asked) -> Correction | None:
        """Returns the correction of a training; None where nothing can be timed, or milliseconds are no target."""
        latency = latency_of(asked)
        return cls(model, channel_map, latency) if latency and latency.runtime else None

    def correct(self, choose: Callable[[float], np.ndarray], *, last: bool) -> None:
        """Times what is chosen by the factor, and corrects it.

        Args:
            choose: From a factor to the groups that stay in the end, bool of shape (G,).
            last: Whether this choice stands: then others are tried, until the target is met.
        """
        from ultralytics.utils import LOGGER, colorstr

        def find() -> tuple[float, float, float]:
            def make(factor: float) -> PruningPlan:
                return plan_from(self._map, choose(factor), {})

            with isolated():
                network = copied_without_hooks(self._model)
                trials = timed_cuts(self._latency, network, make, first=self.factor, most=TRIALS if last else 1)
            best = min(trials, key=lambda trial: trial.off(self._latency.speed_up))
            LOGGER.info(
                f"{colorstr('sparsity:')} timed in turns with the original: {best.reached:.2f}x as fast, by the "
                f"timings of single layers {best.asked:.2f}x"
            )
            return best.asked, best.reached, best.asked if last else self._next(best)

        asked, reached, self.factor = agreed(find)
        self.timed.append((asked, reached))

    def _next(self, trial: TimedCut) -> float:
        """Returns what to ask for after a trial; of a reading that is far off the model, no more than `BELIEVED`."""
        wanted = self._latency.speed_up
        if trial.off(wanted) <= SEARCH_TOLERANCE:
            return trial.asked
        reached = float(np.clip(trial.reached, trial.asked / BELIEVED, trial.asked * BELIEVED))
        return next_factor(wanted, [replace(trial, reached=reached)])

    def state(self) -> dict[str, Any]:
        """Returns what `load` takes, as plain data."""
        return {"factor": self.factor, "timed": [list(pair) for pair in self.timed]}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from an earlier `state`."""
        self.factor = state["factor"]
        self.timed = [(asked, reached) for asked, reached in state["timed"]]

    def findings(self) -> tuple[str, ...]:
        """Returns a line for the user if the last choice missed the target as timed."""
        wanted = self._latency.speed_up
        if not self.timed or abs(np.log(self.timed[-1][1] / wanted)) <= TIMED_TOLERANCE:
            return ()
        return (f"timed in turns, what is left is {self.timed[-1][1]:.2f}x as fast as the original, not {wanted:.2f}x",)
