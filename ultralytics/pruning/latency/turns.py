"""How long anything that runs takes, by many runs in turns with others: the median, the best, and how far they lie."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .timing import Key, Run, Runtime, rounds_in_turns

ROUNDS, SECONDS = 30, 3.0  # of each, at most


@dataclass(frozen=True)
class Pace:
    """How long something takes, in turns with others.

    Attributes:
        median: Of all rounds, in ms.
        best: The shortest of them, in ms.
        spread: Within how much of each other the middle half of the rounds lies, relative to the median.
        rounds: How many there were.
    """

    median: float
    best: float
    spread: float
    rounds: int


def pace_of(runs: Sequence[Run]) -> Pace:
    """Returns what the runs of one thing tell."""
    low, median, high = np.percentile([run.ms for run in runs], (25, 50, 75))
    return Pace(float(median), min(run.ms for run in runs), float((high - low) / median), len(runs))


def paces(runs: Mapping[Key, Callable[[], Any]], threads: int, *, rounds: int = ROUNDS) -> dict[Key, Pace]:
    """Times things in turns: A B C A B C ..., after a warm-up of each.

    Args:
        runs: What runs each.
        threads: Of the CPU, for what PyTorch runs.
        rounds: How many, at most.
    """
    with Runtime("torch", threads).threading():
        found = rounds_in_turns(dict(runs), rounds, SECONDS * len(runs))
    return {name: pace_of(each) for name, each in found.items()}


@contextlib.contextmanager
def on_cores(threads: int) -> Iterator[None]:
    """Leaves this thread, and those that it starts, so many cores: runtimes that cannot be told take all they see."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if threads >= len(allowed):
        yield
        return
    os.sched_setaffinity(0, allowed[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
