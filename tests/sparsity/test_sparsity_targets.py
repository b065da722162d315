"""Sparsity training to a target: what is chosen, met exactly, announced, and taken up again."""

import copy

import numpy as np
import pytest
import torch

from helpers.networks import difference, image, raw_outputs, small_yolo
from helpers.sparsity_runs import residual, run_of, set_all, set_gammas, train
from ultralytics.pruning import Limits, PruningError, cut, trace
from ultralytics.pruning.pipeline import prune_network
from ultralytics.pruning.plans.findings import Kind
from ultralytics.pruning.selection.choose import choose
from ultralytics.pruning.selection.targets import Target
from ultralytics.pruning.selection.zeros import share_at_zero, zero_groups
from ultralytics.pruning.sparsity.erasing import erasable


@pytest.mark.parametrize("mode", ["steered", "group"])
def test_a_target_that_removes_nothing_is_refused(mode):
    with pytest.raises(PruningError, match="target_sparsity=1e-05 removes nothing"):
        run_of(small_yolo(), sparsity=mode, target_sparsity=1e-5)


def test_a_target_that_cannot_be_met_is_announced():
    assert run_of(small_yolo(), sparsity="steered", target_sparsity=0.5).missed == ()
    (found,) = run_of(small_yolo(), sparsity="steered", target_speed_up=500.0).missed
    assert (found.kind, found.about, found.wanted) == (Kind.MISSED, "speed_up", 500.0) and 2 < found.reached < 500


def test_an_epoch_that_starts_twice_is_chosen_once():
    """As where the release runs short of memory in the first epoch of a resumed run."""
    net = small_yolo()
    run = run_of(net, sparsity="steered", target_sparsity=0.5)
    train(net, run, 6, end=2)
    for _ in range(2):
        run.epoch_starts(2, 6)
        assert run.mode._fading.any()


MODES_TO_A_TARGET = ["steered", "group_reg", "proximal", "group"]


TARGETS = [{"target_speed_up": 2.0}, {"target_sparsity": 0.5}]


@pytest.mark.parametrize("asked", TARGETS, ids=str)
@pytest.mark.parametrize("mode", MODES_TO_A_TARGET)
def test_a_target_is_met_exactly_by_zeros_that_can_be_cut(mode, asked):
    net = small_yolo()
    run = run_of(net, sparsity=mode, **asked, round_to=8)
    train(net, run, epochs=6)
    before = copy.deepcopy(net).double()
    result = prune_network(net, zeros=True, imgsz=64)
    plan = result.plan
    if "target_speed_up" in asked:
        assert plan.before.macs / plan.after.macs == pytest.approx(2, rel=0.02)
    else:
        channel_map = trace(net)
        removed = channel_map.channels[zero_groups(channel_map, net)].sum()
        ratable = erasable(channel_map, net) if mode in ("steered", "group_reg") else channel_map.free
        assert removed / channel_map.channels[ratable].sum() == pytest.approx(0.5, abs=0.02)
    assert not plan.limits  # nothing had to be given back
    assert all(len(layer.kept_out) % 8 == 0 or layer.kept_out == tuple(range(layer.out_before))
               for layer in plan.layers.values() if layer.type == "Conv2d")  # fmt: skip
    if mode in ("steered", "group_reg"):
        x = image(before, 64)
        pruned = copy.deepcopy(net)
        cut(pruned, plan)
        assert difference(raw_outputs(before, x), raw_outputs(pruned.double(), x)) < 1e-10
        assert all(c.removed_out == [] or not net.get_submodule(n).bias[c.removed_out].any()
                   for n, c in plan.layers.items() if c.type == "BatchNorm2d")  # fmt: skip


def test_steering_fades_step_by_step_and_chooses_as_prune_does():
    net = small_yolo()
    run = run_of(net, sparsity="steered", target_sparsity=0.5, round_to=4)
    steering = run.mode
    generator = torch.Generator().manual_seed(0)
    steering.importance.copy_(torch.rand(len(steering.importance), generator=generator))
    channel_map = trace(net)
    run.epoch_starts(0, 10)
    assert not steering.removed.any()
    before = run.scales.values()
    run.epoch_starts(6, 10)
    scores = np.where(erasable(channel_map, net), steering.importance.double().numpy(), np.nan)
    kept, _ = choose(channel_map, scores, Target("prune_ratio", 0.5), Limits(round_to=4))
    assert (steering.removed == ~kept).all()
    chosen = torch.from_numpy(steering.removed)[run.scales.groups]
    torch.testing.assert_close(run.scales.values(), before)
    run.mode.after_step(0.5)  # half an epoch
    torch.testing.assert_close(run.scales.values(), torch.where(chosen, before * 1e-3**0.5, before))
    steering.importance.zero_()
    run.epoch_starts(7, 10)
    assert (run.scales.values()[chosen] == 0).all() and (run.scales.values()[~chosen] != 0).all()


@pytest.mark.parametrize("asked", [{"sparsity": m, **TARGETS[0]} for m in MODES_TO_A_TARGET] + [{"sr": 0.01}], ids=str)
def test_a_saved_state_goes_on_as_if_nothing_had_happened(asked, tmp_path):
    whole, halves = small_yolo(), small_yolo()
    train(whole, run_of(whole, **asked), epochs=6)
    first = run_of(halves, **asked)
    train(halves, first, 6, end=3)
    torch.save(first.state(), tmp_path / "state.pt")
    second = run_of(halves, **asked)
    second.load(torch.load(tmp_path / "state.pt", weights_only=False))
    train(halves, second, 6, start=3)
    assert second.mode.travel == pytest.approx(first.mode.travel * 2, rel=0.9)
    if second.settings.target:
        assert share_at_zero(trace(halves), halves) == pytest.approx(share_at_zero(trace(whole), whole), abs=0.02)


def test_exact_zeros_reach_the_average_and_survive_half_precision():
    net = set_all(residual())
    average = copy.deepcopy(net)
    run = run_of(net, sparsity="steered", target_sparsity=0.5)
    train(net, run, epochs=4)
    run.copy_zeros(average)
    for name in "abc":
        live, averaged = net.get_submodule(name)[1], average.half().get_submodule(name)[1]
        assert ((live.weight == 0) == (averaged.weight == 0)).all() or name in "ac"  # a and c have zeros of their own
        assert (averaged.weight[live.weight == 0] == 0).all() and (averaged.bias[live.weight == 0] == 0).all()
    assert (net.b[1].weight == 0).any()


def test_a_run_in_which_nothing_faded_says_so():
    net = residual()
    set_gammas(net, a=[1.0] * 4, b=[1.0] * 6, c=[1.0] * 4)
    weak = run_of(net, sparsity="proximal", sr=0.001)
    weak.mode.travel = 0.01
    (said,) = weak.findings()
    assert "too weak" in said and "100 times" in said
    held = run_of(net, sparsity="proximal", sr=0.1)
    held.mode.travel = 2.0
    assert "the loss holds against the pull" in held.findings()[0]
    set_gammas(net, a=[0.0] * 4, b=[0.0] * 6, c=[1.0] * 4)
    assert held.findings() == ()
