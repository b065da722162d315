"""Tests of the targets: a share of the channels, a speed-up, a number of parameters."""

import copy
import functools
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.networks import LAYERS, csp_net, image, layers_run, yolo
from ultralytics.pruning import ChannelMap, Cost, Limits, PruningError, PruningPlan, make_plan, prune_network, trace
from ultralytics.pruning.command_line.kinds import as_count, as_pattern_ratio
from ultralytics.pruning.plans.findings import Finding, Kind, Reason
from ultralytics.pruning.selection.choose import choose
from ultralytics.pruning.selection.costs import Costs
from ultralytics.pruning.selection.target_kinds import SpeedUp
from ultralytics.pruning.selection.targets import KINDS, Target

MODELS = ("yolov8n", "yolo11n", "yolov9t")
STEPS = (1, 4, 8, 16)
SEEDS = st.integers(0, 2**16)
quick = settings(deadline=None, max_examples=25)


@functools.cache
def channels(name: str) -> ChannelMap:
    """The channels of a network."""
    if name == "csp":
        net = csp_net()
        return trace(net, image(net, 8, batch=1))
    return trace(yolo(name))


def plan_of(name: str, seed: int, **target) -> PruningPlan:
    """A plan for random scores."""
    channel_map = channels(name)
    return make_plan(channel_map, np.random.default_rng(seed).random(len(channel_map.channels)), **target)


def said_of_target(findings: tuple[Finding, ...]) -> bool:
    """Whether a choice was found to miss its target or to go beyond it."""
    return any(finding.kind in (Kind.MISSED, Kind.BEYOND) for finding in findings)


def met(target: float, reached: float, findings: tuple[Finding, ...]) -> bool:
    """Whether a target is reached within 2 %, or it was found not to be."""
    return target <= reached <= 1.02 * target or said_of_target(findings)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("speed_up", [1.5, 2.0, 3.0])
def test_a_speed_up_is_reached(name, step, speed_up) -> None:
    for seed in range(3):
        plan = plan_of(name, seed, speed_up=speed_up, limits=Limits(round_to=step))
        assert speed_up <= plan.before.macs / plan.after.macs <= 1.02 * speed_up
        assert not said_of_target(plan.findings)


@given(
    name=st.sampled_from((*MODELS, "csp")),
    seed=SEEDS,
    speed_up=st.floats(1, 60),
    step=st.sampled_from((1, 2, 4)),
    floor=st.sampled_from([0.0, 0.1, 0.4]),
)
@quick
def test_any_speed_up_is_reached_or_the_limits_say_why(name, seed, speed_up, step, floor) -> None:
    plan = plan_of(name, seed, speed_up=speed_up, limits=Limits(floor=floor, round_to=step))
    assert met(speed_up, plan.before.macs / plan.after.macs, plan.findings)


@given(name=st.sampled_from(MODELS), seed=SEEDS, share=st.floats(0.02, 0.98), step=st.sampled_from(STEPS))
@quick
def test_a_number_of_parameters_is_reached_or_the_limits_say_why(name, seed, share, step) -> None:
    wanted = int(share * plan_of(name, seed, prune_ratio=0).before.deployed)
    plan = plan_of(name, seed, target_params=wanted, limits=Limits(round_to=step))
    assert met(plan.after.deployed, wanted, plan.findings)  # the wanted number is the upper one here
    if share > 0.3:  # yolov9t in steps of 16 comes down to 0.21
        assert 0.98 * wanted <= plan.after.deployed <= wanted


@given(name=st.sampled_from(MODELS), seed=SEEDS, ratio=st.floats(0.05, 0.8), step=st.sampled_from(STEPS))
@quick
def test_rounding_does_not_miss_the_ratio(name, seed, ratio, step) -> None:
    channel_map = channels(name)
    scores = np.random.default_rng(seed).random(len(channel_map.channels))
    kept, found = choose(channel_map, scores, Target("prune_ratio", ratio), Limits(round_to=step))
    free = int(channel_map.channels[channel_map.free].sum())
    left = free - int(channel_map.channels[~kept].sum())
    assert met(left, free - round(ratio * free), found)
    assert not said_of_target(found) or ratio > 0.6


@given(
    name=st.sampled_from((*MODELS, "csp")),
    seed=SEEDS,
    pair=st.tuples(st.floats(1, 8), st.floats(1, 8)),
    step=st.sampled_from((1, 2, 4)),
)
@quick
def test_a_higher_speed_up_costs_no_more(name, seed, pair, step) -> None:
    """Both as multiply-adds, and as the number of parameters that these leave."""
    slow, fast = (plan_of(name, seed, speed_up=x, limits=Limits(round_to=step)) for x in sorted(pair))
    assert fast.after.macs <= slow.after.macs


@pytest.mark.parametrize("step", [1, 8])
def test_fewer_wanted_parameters_leave_fewer(step) -> None:
    wanted = [int(share * 1e6) for share in np.linspace(0.1, 2.9, 15)]
    plans = [plan_of("yolov8n", 0, target_params=n, limits=Limits(round_to=step)) for n in wanted]
    for fewer, more in itertools.pairwise(plans):
        assert fewer.after.params <= more.after.params


@given(name=st.sampled_from((*MODELS, "csp")), seed=SEEDS, speed_up=st.floats(1, 8), step=st.sampled_from((1, 4)))
@settings(quick, max_examples=10)
def test_the_same_input_gives_the_same_plan(name, seed, speed_up, step) -> None:
    first, second = (plan_of(name, seed, speed_up=speed_up, limits=Limits(round_to=step)) for _ in range(2))
    assert first == second


def test_the_first_plans_settings_are_the_targets() -> None:
    assert plan_of("csp", 0, prune_ratio=0.5).settings["prune_ratio"] == 0.5
    assert plan_of("csp", 0, speed_up=1.5).settings["speed_up"] == 1.5
    settings_of = plan_of("csp", 0, target_params=500).settings
    assert settings_of["target_params"] == 500 and "speed_up" not in settings_of and "prune_ratio" not in settings_of


def test_a_speed_up_of_one_removes_nothing() -> None:
    plan = plan_of("yolov8n", 0, speed_up=1)
    assert plan.after == plan.before and not plan.limits


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({}, "one target is needed, prune_ratio, speed_up, target_params, latency_speed_up; found none"),
        ({"prune_ratio": 0.5, "speed_up": 2}, "found prune_ratio=0.5 and speed_up=2"),
        ({"speed_up": 2, "target_params": 100}, "found speed_up=2 and target_params=100"),
        ({"speed_up": 0.9}, "speed-up is 0.9"),
        ({"speed_up": math.inf}, "speed-up is inf"),
        ({"speed_up": math.nan}, "speed-up is nan"),
        ({"target_params": 0}, "number of parameters is 0"),
        ({"target_params": 10**9}, "1,000,000,000 parameters are wanted, but the network has only"),
    ],
)
def test_bad_targets_are_refused(target, said) -> None:
    with pytest.raises(PruningError, match=said):
        plan_of("csp", 0, **target)


def test_what_limits_a_target_is_found() -> None:
    missed = plan_of("yolov8n", 0, speed_up=200, limits=Limits(round_to=8, floor=0.3)).findings[0]
    assert (missed.kind, missed.about, missed.wanted) == (Kind.MISSED, "speed_up", 200) and 1 < missed.reached < 200
    assert {Reason("floor", 0.3), Reason("rounding", 8)} < set(missed.reasons)
    assert 0 < next(reason.number for reason in missed.reasons if reason.name == "fixed") < 1
    beyond = plan_of("yolov8n", 0, speed_up=1.1, limits=Limits(ratios=(("model.1?", 0.8),))).findings[0]
    assert beyond.kind == Kind.BEYOND and beyond.reached > 1.1 * 1.02
    assert beyond.reasons == (Reason("own_ratios"), Reason("tied"))
    left = plan_of("yolov8n", 0, target_params=100).findings[0]
    assert (left.kind, left.about, left.wanted) == (Kind.MISSED, "target_params", 100) and left.reached > 100


def test_the_pruned_network_is_as_fast_and_as_round_as_planned() -> None:
    """Counted while it runs."""
    model = yolo("yolov8n")
    result = prune_network(model, speed_up=2.0, limits=Limits(round_to=8, ignore=("model.0",)), imgsz=64, fold=False)
    x = image(model, 64, 64, batch=1)
    before, after = (sum(layers_run(net, x).values()) for net in (model, result.model))
    assert 2 <= before / after <= 2.04
    assert result.plan.after == Cost(sum(p.numel() for p in result.model.parameters()), after)
    original = dict(model.named_modules())
    for name, layer in result.model.named_modules():
        if isinstance(layer, LAYERS) and not isinstance(layer, nn.BatchNorm2d):
            assert layer.out_channels % 8 == 0 or layer.out_channels == original[name].out_channels, name
    assert result.model.model[0].conv.out_channels == 16


def test_nothing_to_remove_is_an_error_not_a_dense_network() -> None:
    with pytest.raises(PruningError, match=r"nothing would be removed: .* least of 999 channels per layer"):
        prune_network(copy.deepcopy(yolo("yolov8n")), prune_ratio=0.5, limits=Limits(min_channels=999))


@pytest.mark.parametrize(
    ("text", "value"),
    [("1200000", 1_200_000), ("1.2M", 1_200_000), ("900k", 900_000), ("1e6", 10**6), (".5m", 500_000)],
)
def test_numbers_of_parameters(text, value) -> None:
    assert as_count(text) == value


def test_pattern_and_ratio() -> None:
    assert as_pattern_ratio("model.2*=0.25") == ("model.2*", 0.25)


class Halvings(SpeedUp):
    """A kind of target that nobody thought of: how often the multiply-adds are halved."""

    name, option, argument = "halvings", "--halvings", ""
    nothing = 0.0

    def check(self, value: float) -> None:
        if value < 0:
            raise PruningError(f"{value} halvings")

    def limit(self, value: float, costs: Costs) -> float:
        return self.spent(costs, costs.everything) / 2**value

    def reached(self, costs: Costs, spent: float) -> float:
        return math.log2(self.spent(costs, costs.everything) / spent)


def test_a_kind_of_target_is_a_class_and_an_entry(monkeypatch) -> None:
    """It is met, and missed with its own numbers, wherever a target is taken."""
    monkeypatch.setitem(KINDS, "halvings", Halvings())
    plan = prune_network(yolo("yolov8n"), target=Target("halvings", 1.0), imgsz=64).plan
    assert 2 <= plan.before.macs / plan.after.macs <= 2.04
    assert plan.settings["halvings"] == 1.0
    missed = plan_of("yolov8n", 0, target=Target("halvings", 9.0)).findings[0]
    assert (missed.kind, missed.about, missed.wanted) == (Kind.MISSED, "halvings", 9.0) and 1 < missed.reached < 9
    with pytest.raises(PruningError, match="one target is needed"):
        plan_of("csp", 0, target=Target("halvings", 1.0), speed_up=2.0)
    with pytest.raises(PruningError, match="unknown target 'thirds'"):
        Target("thirds", 1.0)


@pytest.mark.parametrize(
    ("name", "value", "halfway"),
    [("speed_up", 9, 3), ("latency_speed_up", 4, 2), ("target_params", 100, 1000), ("prune_ratio", 0.5, None)],
)
def test_halfway_is_the_same_factor_twice(name, value, halfway):
    found = KINDS[name].halfway(value, 10_000)
    assert found == halfway
