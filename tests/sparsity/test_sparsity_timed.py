"""Sparsity training to milliseconds: by a table, and corrected by what is timed. A formula stands for the clock."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.networks import small_yolo
from helpers.sparsity_runs import arguments, run_of, train
from helpers.timings import macs_ms, plant
from ultralytics.pruning import PruningError, prune_network, trace
from ultralytics.pruning.latency import Latency, LatencyTable, Runtime, search
from ultralytics.pruning.latency.tables import runtime_of
from ultralytics.pruning.selection.target_kinds import TIMED_TOLERANCE
from ultralytics.pruning.sparsity import SparsityRun
from ultralytics.pruning.sparsity.settings import Settings, without_sparsity

SIDE, EPOCHS, WANTED = 64, 5, 1.6
RUNTIME = Runtime("torch")


def sluggish(factor: float) -> float:
    """A machine that gains six tenths of what its layers gain."""
    return 1 + 0.6 * (factor - 1)


@pytest.fixture
def table(monkeypatch, tmp_path) -> Path:
    """The timings of the small detector, where they are kept of this machine, which is sluggish."""
    plant(monkeypatch, macs_ms, sluggish)
    net = small_yolo()
    latency = Latency(WANTED, RUNTIME, SIDE, folder=tmp_path)
    latency.model(net, trace(net, imgsz=SIDE), 1)
    return latency.timings


def run_to(net: nn.Module, table: Path, mode: str = "steered", **changes) -> SparsityRun:
    asked = {"target_latency_speed_up": WANTED, "latency_table": str(table), "imgsz": SIDE, **changes}
    return run_of(net, sparsity=mode, **asked)


def as_timed(net: nn.Module) -> float:
    """How many times faster a network is without what is at zero, as the planted clock says."""
    result = prune_network(net, zeros=True, imgsz=SIDE).model
    ms = search.in_turns({"before": RUNTIME.network(net, SIDE), "after": RUNTIME.network(result, SIDE)})
    return ms["before"] / ms["after"]


def test_the_correction_meets_what_the_model_alone_would_miss(table, tmp_path):
    net = small_yolo()
    run = run_to(net, table)
    train(net, run, EPOCHS)
    assert as_timed(net) == pytest.approx(WANTED, rel=TIMED_TOLERANCE)
    timed = run.mode._correction.timed
    assert len(timed) == 3 and timed[-1][1] == pytest.approx(as_timed(net), rel=1e-6)
    assert run.findings() == ()

    elsewhere = tmp_path / "board.json"
    elsewhere.write_text(table.read_text())
    net = small_yolo()
    train(net, run_to(net, elsewhere), EPOCHS)
    by_model = 1 + (as_timed(net) - 1) / 0.6
    assert by_model == pytest.approx(WANTED, rel=0.1) and as_timed(net) < WANTED * (1 - 2 * TIMED_TOLERANCE)


@pytest.mark.parametrize("mode", ["proximal", "group", "group_reg"])
def test_other_modes_go_by_the_table(mode, table):
    net = small_yolo()
    train(net, run_to(net, table, mode), EPOCHS)
    assert 1 + (as_timed(net) - 1) / 0.6 == pytest.approx(WANTED, rel=0.1)


def test_a_factor_that_no_choice_reaches_is_said(table, monkeypatch):
    plant(monkeypatch, macs_ms, lambda factor: min(factor, 1.2))
    net = small_yolo()
    run = run_to(net, table, target_latency_speed_up=3.0)
    train(net, run, 4)
    (said,) = run.findings()
    assert f"{run.mode._correction.timed[-1][1]:.2f}x as fast" in said


def test_it_goes_on_from_any_epoch_as_if_nothing_had_been(table, tmp_path):
    """Nothing is timed twice, and in the end the same channels are gone."""
    whole = small_yolo()
    run = run_to(whole, table)
    states = []
    for epoch in range(EPOCHS):
        train(whole, run, EPOCHS, start=epoch, end=epoch + 1)
        torch.save(run.state(), tmp_path / "state.pt")
        states.append((copy.deepcopy(whole), torch.load(tmp_path / "state.pt", weights_only=True)))
    assert run.mode._correction.timed and run.mode._correction.factor > WANTED
    for epoch, (net, state) in enumerate(states):
        again = run_to(net, table)
        again.load(state)
        for later in range(epoch + 1, EPOCHS):
            train(net, again, EPOCHS, start=later, end=later + 1)
        assert again.mode._correction.state() == run.mode._correction.state()
        for (name, own), found in zip(whole.named_parameters(), net.parameters(), strict=True):
            assert torch.equal(own, found), (epoch, name)


def test_one_odd_reading_does_not_decide(table, monkeypatch):
    """A moment in which the machine was busy with the original alone, or with the cut one."""
    for odd in (10.0, 0.1):
        run = run_to(small_yolo(), table)
        run.mode.importance.uniform_()
        monkeypatch.setattr(search, "in_turns", lambda runs, odd=odd: {"before": odd, "after": 1.0})
        run.mode._correction.correct(run.mode._choose_by_model, last=False)
        assert run.mode._correction.timed == [(WANTED, odd)]
        assert WANTED / 1.5 <= run.mode._correction.factor <= WANTED * 1.5 + 1e-9


def test_a_state_of_before_milliseconds_is_read():
    net = small_yolo()
    run = run_of(net, sparsity="steered", target_speed_up=2.0)
    train(net, run, 4, end=2)
    state = run.state()
    del state["steering"]["correction"]
    again = run_of(net, sparsity="steered", target_speed_up=2.0)
    again.load(state)
    assert (again.mode.removed == run.mode.removed).all()


def test_the_network_that_is_trained_is_left_as_it_is(table):
    """Hooks, gradients and random numbers, too: a teacher's hooks hold tensors that cannot be copied."""
    net = small_yolo()
    run = run_to(net, table)
    train(net, run, EPOCHS, end=4)
    held = [torch.ones(1, requires_grad=True) * 2]
    handle = net.model[0].register_forward_hook(lambda *_, held=held: None)
    handle.held = held
    vars(net)["criterion"] = held
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    run.mode._correction.correct(run.mode._choose_by_model, last=True)
    assert all(torch.equal(own, before[name]) for name, own in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert len(net.model[0]._forward_hooks) == 1 and net.criterion is held and net.training


def test_whose_timings_a_table_holds(table, tmp_path):
    assert runtime_of(table) == RUNTIME
    other = tmp_path / "board.json"
    other.write_text(table.read_text())
    assert runtime_of(other) is None and Latency.by(other, 2.0, SIDE).table == other
    known = LatencyTable.load(table)
    for about in ({"threads": "0"}, {"threads": "-"}, {"threads": "9" * 50}, {"machine": "another"}, {"runtime": "?"}):
        foreign = LatencyTable({**known.about, **about}, known.layers)
        foreign.save(tmp_path / "other" / table.name)
        assert runtime_of(tmp_path / "other" / table.name) is None
        (tmp_path / "other" / table.name).unlink()


REFUSED = {
    "no table": ({"target_latency_speed_up": 2.0}, "needs latency_table"),
    "a table for nothing": ({"latency_table": "t.json"}, "needs target_speed_up"),
    "a table for multiply-adds": ({"target_speed_up": 2.0, "latency_table": "t.json"}, "is read for target_latency"),
    "two targets": ({"target_params": 1000, "target_speed_up": 2.0}, "one target is enough"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_itself_is_refused(name):
    changes, message = REFUSED[name]
    with pytest.raises(PruningError, match=message):
        Settings.of(arguments(sparsity="steered", **changes))


def test_a_table_that_is_gone_or_of_another_network_is_refused(table, tmp_path):
    for path, message in ((tmp_path / "gone.json", "is not there"), (table, "lacks")):
        if path == table:  # as if it were of another machine: nothing can be added
            path = tmp_path / "board.json"
            path.write_text(table.read_text())
        with pytest.raises(PruningError, match=message):
            run_to(small_yolo(), path, imgsz=96)


def test_layers_that_are_missing_of_this_machine_are_timed(table):
    """As where the training builds the network with other classes than the stage has seen."""
    count = len(LatencyTable.load(table).layers)
    run_to(small_yolo(), table, imgsz=96)
    assert len(LatencyTable.load(table).layers) == 2 * count


@pytest.mark.parametrize("mode", ["steered", "group", "proximal", "group_reg"])
def test_a_number_of_parameters_is_reached(mode):
    net = small_yolo()
    whole = sum(parameter.numel() for parameter in net.parameters())
    train(net, run_of(net, sparsity=mode, target_params=whole // 2), 6)
    plan = prune_network(net, zeros=True, imgsz=SIDE).plan
    assert plan.after.params == pytest.approx(whole / 2, rel=0.03)
    with pytest.raises(PruningError, match="has only"):
        run_of(small_yolo(), sparsity=mode, target_params=2 * whole)


def test_a_cut_forgets_what_the_training_was_asked_for():
    kept = without_sparsity({"target_latency_speed_up": 2.0, "latency_table": "t", "target_params": 9, "lr0": 1})
    assert kept == {"lr0": 1}
