"""A cut to a measured speed-up: choose by the latency model, time the result, correct the target, repeat."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ..channels import ChannelMap
from ..errors import PruningError
from ..files import places
from ..plans.findings import Finding, Kind, Reason
from ..plans.plan import PruningPlan
from ..selection.limits import Limits
from ..selection.target_kinds import TIMED_TOLERANCE
from ..selection.wording import all_said
from ..surgery.cut import cut
from .model import LatencyModel
from .shapes import Shapes, shapes_of
from .tables import LatencyTable, cache, runtime_of, time_layers
from .timing import Runtime, in_turns

SEARCH_TOLERANCE = 0.02  # relative difference to the wanted factor at which the search ends
TRIALS = 8
BY_MODEL = (Kind.MISSED, Kind.BEYOND)  # what a choice finds about the milliseconds of the model


@dataclass(frozen=True)
class Latency:
    """A target in milliseconds.

    Attributes:
        speed_up: Time before over after, above 1.
        runtime: What runs the network; None with a table.
        imgsz: Side of the image in pixels.
        table: A table measured elsewhere, in place of timings on this machine.
        folder: Where timings are kept.
        timed_as: Shapes of the layers before an earlier cut, under which they are timed (see `LatencyModel`).

    Raises:
        PruningError: If the factor is 1 or less.
    """

    speed_up: float
    runtime: Runtime | None
    imgsz: int
    table: Path | None = None
    folder: Path = field(default_factory=lambda: places.RUNS / "latency")
    timed_as: Shapes | None = None

    def __post_init__(self) -> None:
        if not self.speed_up > 1:
            raise PruningError(f"latency_speed_up={self.speed_up:g} removes nothing")

    @classmethod
    def by(cls, timings: Path, speed_up: float, imgsz: int) -> Latency:
        """Returns the target by the timings in a file; with their runtime, if they are kept of this very machine.

        Args:
            timings: A table.
            speed_up: Time before over after, above 1.
            imgsz: Side of the image in pixels.

        Raises:
            PruningError: If the file is missing, or no such table.
        """
        runtime = runtime_of(timings)
        return cls(speed_up, runtime, imgsz, table=None if runtime else timings, folder=timings.parent)

    @property
    def timings(self) -> Path:
        """Where the timings of layers are, or will be."""
        if self.table:
            return self.table
        assert self.runtime is not None
        return cache(self.runtime, self.folder)

    def model(self, network: nn.Module, channel_map: ChannelMap, step: int) -> LatencyModel:
        """Returns the latency of any choice; times the layers that have no timings yet.

        Raises:
            PruningError: If the table from elsewhere lacks a layer.
        """
        shapes = shapes_of(network, channel_map, self.imgsz)
        if self.table:
            return LatencyModel(channel_map, shapes, LatencyTable.load(self.table), step, self.timed_as)
        assert self.runtime is not None
        path = self.timings
        table = LatencyTable(self.runtime.about())
        with contextlib.suppress(PruningError):  # missing, or damaged: timed again
            table = LatencyTable.load(path)
        timed = {**shapes, **(self.timed_as or {})}
        if time_layers((shape for calls in timed.values() for shape in calls), self.runtime, step, table):
            table.save(path, replace=True)
        return LatencyModel(channel_map, shapes, table, step, self.timed_as)


def plan_for_latency(
    latency: Latency,
    network: nn.Module,
    channel_map: ChannelMap,
    limits: Limits,
    make: Callable[[float, LatencyModel], PruningPlan],
) -> PruningPlan:
    """Plans a cut that makes a network faster by a factor, as timed against the original.

    Args:
        latency: The target.
        network: The original.
        channel_map: Its channels.
        limits: The rules for single layers.
        make: From a factor by the model to a plan that meets it.

    Returns:
        The plan whose network came closest. Its settings say what was measured, its limits where that is not the
        target; with a table from elsewhere, what is predicted.
    """
    model = latency.model(network, channel_map, limits.round_to)
    if latency.table:
        plan = make(latency.speed_up, model)
        ms = {"before": model(np.ones(len(channel_map.channels), dtype=bool)), "after": model.of(plan)}
        return _noted(plan, latency, {"predicted": True, **_timed(ms)})

    trials = timed_cuts(latency, network, lambda factor: make(factor, model))
    best = min(trials, key=lambda trial: trial.off(latency.speed_up))
    return _noted(
        best.plan, latency, _timed(best.ms), missed=best.off(latency.speed_up) > TIMED_TOLERANCE, count=len(trials)
    )


@dataclass(frozen=True)
class TimedCut:
    """A cut and its timing.

    Attributes:
        asked: The factor that the latency model was asked for.
        reached: The factor that was measured.
        plan: The cut.
        ms: Milliseconds `before` and `after`.
    """

    asked: float
    reached: float
    plan: PruningPlan
    ms: dict[str, float]

    def off(self, wanted: float) -> float:
        """Returns how far the measured factor is from a wanted one, as the logarithm of their ratio."""
        return abs(math.log(self.reached / wanted))


def timed_cuts(
    latency: Latency,
    network: nn.Module,
    make: Callable[[float], PruningPlan],
    *,
    first: float | None = None,
    most: int = TRIALS,
) -> list[TimedCut]:
    """Times cuts until one is close enough, the model has no other one, or the trials are used up.

    Args:
        latency: The target; has a runtime.
        network: The original.
        make: From a factor that the latency model is asked for to a plan.
        first: The factor to begin with; by default that of the target.
        most: How many trials there may be.
    """
    runtime = latency.runtime
    assert runtime is not None
    original = runtime.network(network, latency.imgsz)
    trials: list[TimedCut] = []
    with runtime.threading():
        while len(trials) < most:
            asked = first if first and not trials else next_factor(latency.speed_up, trials)
            plan = make(asked)
            if any(plan.after == trial.plan.after for trial in trials):
                break

            pruned = copy.deepcopy(network)
            cut(pruned, plan)
            ms = in_turns({"before": original, "after": runtime.network(pruned, latency.imgsz)})
            trials.append(TimedCut(asked, ms["before"] / ms["after"], plan, ms))
            if trials[-1].off(latency.speed_up) <= SEARCH_TOLERANCE:
                break
    return trials


def next_factor(wanted: float, trials: Sequence[TimedCut]) -> float:
    """Returns what to ask the latency model for, after some trials.

    It is interpolated between the nearest trials on both sides of the wanted factor, in milliseconds; that a factor of
    1 reaches 1 is known beforehand. Where no trial was fast enough, it is corrected in proportion.
    """
    if not trials:
        return wanted
    known = [(1.0, 1.0), *((trial.reached, trial.asked) for trial in trials)]
    reached, asked = max(pair for pair in known if pair[0] < wanted or pair[0] == 1.0)
    above = [pair for pair in known if pair[0] >= wanted]
    if not above:
        return max(1.0, asked * wanted / reached)
    faster, more = min(above)
    part = (1 / reached - 1 / wanted) / max(1 / reached - 1 / faster, 1e-9)
    return 1 / (1 / asked + part * (1 / more - 1 / asked))


def _timed(ms: dict[str, float]) -> dict[str, Any]:
    """Returns what a plan notes of the milliseconds `before` and `after`."""
    factor = round(ms["before"] / max(ms["after"], 1e-9), 3)
    return {"speed_up": factor, "ms": {name: round(value, 2) for name, value in ms.items()}}


def _noted(
    plan: PruningPlan, latency: Latency, found: dict[str, Any], *, missed: bool = False, count: int = 0
) -> PruningPlan:
    """Notes in a plan what was found; what the model alone said of the target no longer counts."""
    about = latency.runtime.about() if latency.runtime else LatencyTable.load(latency.table or Path()).about
    settings = {**plan.settings, "latency_speed_up": latency.speed_up, "latency": {**about, **found}}
    findings = tuple(finding for finding in plan.findings if latency.table or finding.kind not in BY_MODEL)
    if missed:
        timed = {"wanted": latency.speed_up, "reached": found["speed_up"], "reasons": (Reason("trials", count),)}
        findings = (Finding(Kind.MISSED_AS_TIMED, "latency_speed_up", **timed), *findings)
    return replace(plan, settings=settings, limits=all_said(findings), findings=findings)
