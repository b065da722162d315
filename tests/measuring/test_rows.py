"""What is said of a row against the first, and how long runs in turns take."""

import os
import re

import pytest

from ultralytics.pruning.latency import turns
from ultralytics.pruning.latency.timing import Run
from ultralytics.pruning.latency.turns import Pace, on_cores, pace_of
from ultralytics.pruning.measuring.rows import Measurement, relative
from ultralytics.pruning.measuring.tables import comparison


def row(name: str, *, parameters=1000, gflops=8.0, ap=0.5, task="detect", ms=None, **changes) -> Measurement:
    paces = {batch: Pace(median, median / 2, 0.01, 30) for batch, median in (ms or {}).items()}
    accuracy = {"map50_95": ap} if task == "detect" else {"top1": ap}
    return Measurement(
        name, task, 2, parameters, gflops, 1.0, 64, 4, "cpu", "pt", "torch 1", accuracy=accuracy, paces=paces, **changes
    )


def test_shares_change_and_factors_by_hand():
    first, second = row("a", ms={1: 20, 8: 80}), row("b", parameters=96, gflops=2.0, ap=0.496, ms={1: 9.5, 8: 20})
    found = relative(second, first)
    assert (found.parameters, found.gflops) == (0.096, 0.25) and found.change == pytest.approx(-0.004)
    assert found.speed == {1: pytest.approx(20 / 9.5), 8: 4.0}
    cells = comparison([first, second], 1).splitlines()[3].split("  ")
    assert [cell.strip() for cell in cells if cell.strip()] == [
        "b", "96", "9.6 %", "2.00", "25.0 %", "1.00", "-", "-", "-", "0.4960", "-0.004",
        "9.50", "1%", "2.1x", "2.50", "1%", "4.0x",
    ]  # fmt: skip
    assert relative(first, first).parameters is None


def test_what_is_unknown_stays_so():
    first = row("a", ms={1: 20})
    found = relative(row("b", parameters=None, gflops=None, task="classify"), first)
    assert (found.parameters, found.gflops, found.change, found.speed) == (None, None, None, {1: None})
    alone = comparison([first], 1).splitlines()[0]
    assert "of first" not in alone and "change" not in alone and "speed" not in alone


@pytest.mark.parametrize(("fixed", "takes"), [(None, (True, True)), (1, (True, False)), (8, (False, True))])
def test_a_file_takes_any_number_of_images_or_its_own(fixed, takes):
    assert tuple(row("a", fixed=fixed).takes(batch) for batch in (1, 8)) == takes


def test_a_busy_machine_is_said():
    calm, busy = Pace(10, 9, 0.02, 30), Pace(10, 5, 0.4, 30)
    said = [comparison([row("a") if pace is None else _with(pace)], 1) for pace in (None, calm, busy)]
    assert ["busy" in text for text in said] == [False, False, True]


def _with(pace: Pace) -> Measurement:
    return Measurement("a", "detect", 2, 1, 1.0, 1.0, 64, 1, "cpu", "pt", "torch 1", paces={1: pace})


def test_a_pace_is_the_median_the_best_and_the_middle_half():
    found = pace_of([Run(ms, 0.0) for ms in (10, 11, 12, 13, 50)])
    assert (found.median, found.best, found.rounds) == (12, 10, 5) and found.spread == pytest.approx(2 / 12)


@pytest.mark.timed
def test_turns_alternate_and_each_is_counted():
    calls = []
    found = turns.paces({name: lambda name=name: calls.append(name) for name in "ABC"}, 1, rounds=3)
    assert re.fullmatch("(A+B+C+){5}", "".join(calls))  # two turns to warm up, and in each a few runs
    assert {pace.rounds for pace in found.values()} == {3}


def test_fewer_threads_see_fewer_cores(monkeypatch):
    """The machine of a test may have one core: its answers are planted."""
    asked = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 7}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: asked.append(sorted(cores)), raising=False)
    with on_cores(2):
        assert asked == [[2, 5]]
    assert asked == [[2, 5], [2, 5, 7]]
    with on_cores(3):
        pass
    assert len(asked) == 2
