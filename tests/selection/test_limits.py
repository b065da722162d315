"""Tests of the rules for single layers: rounding, least and most, what is left alone, what has a ratio of its own."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.networks import Net, block, chain, conv, csp_net, image, yolo
from ultralytics.pruning import ChannelMap, Limits, PruningError, make_plan, trace
from ultralytics.pruning.plans.findings import Finding, Kind, Reason
from ultralytics.pruning.selection.choose import choose
from ultralytics.pruning.selection.limits import layers_named
from ultralytics.pruning.selection.reach import with_room
from ultralytics.pruning.selection.targets import Target

MODELS = ("yolov8n", "yolo11n", "yolov9t")
TINY = {"csp": csp_net, "chain": functools.partial(chain, 8, 5, 12)}
SEEDS, RATIOS = st.integers(0, 2**16), st.floats(0.05, 0.9)
quick = settings(deadline=None, max_examples=40)


@functools.cache
def channels(name: str) -> ChannelMap:
    """The channels of a tiny network or of one of the release."""
    if name in TINY:
        net = TINY[name]()
        return trace(net, image(net, 8, batch=1))
    return trace(yolo(name))


def kept_by(
    channel_map: ChannelMap, seed: int, ratio: float, **limits
) -> tuple[np.ndarray, dict[str, tuple[int, int]]]:
    """Which groups stay at random scores, and of each layer with filters that can shrink the kept channels and all."""
    scores = np.random.default_rng(seed).random(len(channel_map.channels))
    kept, _ = choose(channel_map, scores, Target("prune_ratio", ratio), Limits(**limits))
    layers = [layer for layer in channel_map.layers.values() if layer.kind != "BatchNorm2d"]
    return kept, {
        layer.name: (int(kept[layer.outputs].sum()), len(layer.outputs))
        for layer in layers
        if channel_map.free[layer.outputs].any()
    }


def even(channel_map: ChannelMap, kept: np.ndarray) -> bool:
    """Whether parts that must be equal are, but for those inside of a block that is taken out."""
    inner = [group for block in channel_map.taken_out(kept) for group in block.inner]
    return all(
        len({int(kept[part].sum()) for part in balance.parts}) == 1
        for balance in channel_map.balances
        if not np.isin(np.concatenate(balance.parts), inner).any()
    )


@given(
    name=st.sampled_from((*MODELS, *TINY)),
    seed=SEEDS,
    ratio=RATIOS,
    step=st.sampled_from([2, 3, 4, 5, 8]),
    floor=st.sampled_from([0.0, 0.1, 0.3]),
    least=st.sampled_from([1, 5, 20]),
)
@quick
def test_widths_are_rounded_and_at_least_what_they_must_be(name, seed, ratio, step, floor, least) -> None:
    channel_map = channels(name)
    kept, widths = kept_by(channel_map, seed, ratio, round_to=step, floor=floor, min_channels=least)
    assert kept[~channel_map.free].all() and even(channel_map, kept)
    gone = {layer for block in channel_map.taken_out(kept) for layer in block.layers}
    assert not gone or least == 1
    for layer, (count, width) in widths.items():
        if layer not in gone:
            assert count % step == 0 or count == width, layer
            assert count >= max(math.ceil(floor * width), min(least, width), 1), layer
    assert all(kept[layer.inputs].any() for layer in channel_map.layers.values() if layer.name not in gone)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("step", [4, 8, 16])
def test_rounding_gives_back_little(name, step) -> None:
    """The same threshold, rounded: fewer than one step per layer comes back, halves and shortcuts included."""
    channel_map = channels(name)
    plain = kept_by(channel_map, 0, 0.5)[1]
    rounded = kept_by(channel_map, 0, 0.5, round_to=step)[1]
    assert plain.keys() == rounded.keys()
    gain = [rounded[layer][0] - plain[layer][0] for layer in plain]
    assert sum(gain) < step * len(gain) / 2
    assert sum(count < width for count, width in rounded.values()) > 0.5 * len(rounded)


@given(name=st.sampled_from((*MODELS, *TINY)), seed=SEEDS, ratio=RATIOS, most=st.sampled_from([0.1, 0.25, 0.5, 0.7]))
@quick
def test_no_layer_loses_more_than_the_largest_share(name, seed, ratio, most) -> None:
    _, widths = kept_by(channels(name), seed, ratio, max_ratio=most)
    for layer, (count, width) in widths.items():
        assert width - count <= most * width + 1e-9, layer


def test_the_largest_share_can_be_reached() -> None:
    channel_map = trace(net := chain(10, 10), image(net, 8, batch=1))
    _, widths = kept_by(channel_map, 0, 0.9, max_ratio=0.7)
    assert set(widths.values()) == {(3, 10)}


@given(
    name=st.sampled_from(MODELS),
    seed=SEEDS,
    ratio=RATIOS,
    pattern=st.sampled_from(["model.0", "model.2*", "model.22", "*.cv1", "model.?.conv", "model.*.cv2.conv"]),
    step=st.sampled_from([1, 8]),
)
@quick
def test_ignored_layers_stay_whole(name, seed, ratio, pattern, step) -> None:
    channel_map = channels(name)
    _, widths = kept_by(channel_map, seed, ratio, ignore=(pattern,), round_to=step)
    matched = set(layers_named(channel_map, pattern)) & widths.keys()
    assert matched and all(widths[layer][0] == widths[layer][1] for layer in matched)
    assert any(count < width for count, width in widths.values())


def test_patterns_match_a_layer_or_what_it_lies_in() -> None:
    channel_map = channels("csp")
    assert layers_named(channel_map, "cv1.0") == ["cv1.0"]
    assert layers_named(channel_map, "cv1") == ["cv1.0"]
    assert layers_named(channel_map, "cv*") == ["cv1.0", "cv2.0"]
    assert layers_named(channel_map, "cv[2-9].*") == ["cv2.0"]
    assert layers_named(channel_map, "?") == ["m.0"]
    head = layers_named(channels("yolov8n"), "model.22")
    assert head == layers_named(channels("yolov8n"), "model.22.*") and len(head) == 18


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("model.22.cv", "did you mean model.22.cv"),
        ("model.22.bn", "matches no convolution"),
        ("model.0.bn", "did you mean model.0 or model.0.conv"),
        ("xyz", "names look like model.0.conv"),
        ("", "names look like model.0.conv"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(pattern, said) -> None:
    channel_map = channels("yolov8n")
    scores = np.zeros(len(channel_map.channels))
    for limits in (Limits(ignore=(pattern,)), Limits(ratios=((pattern, 0.5),))):
        with pytest.raises(PruningError, match=said) as error:
            make_plan(channel_map, scores, prune_ratio=0.5, limits=limits)
        assert repr(pattern) in str(error.value) and "\n" not in str(error.value)


def chain_map() -> tuple[ChannelMap, dict[str, np.ndarray]]:
    """Three blocks of 10 channels each, and the groups that each makes."""
    net = chain(10, 10, 10)
    channel_map = trace(net, image(net, 8, batch=1))
    return channel_map, {f"body.{i}": channel_map.layers[f"body.{i}.0"].outputs for i in range(3)}


@given(order=st.permutations(range(30)))
@quick
def test_own_ratios_are_apart_from_the_threshold(order) -> None:
    channel_map, made = chain_map()
    scores = np.zeros(len(channel_map.channels))
    scores[np.concatenate(list(made.values()))] = order
    limits = Limits(floor=0, ratios=(("body.1", 0.3), ("body.[12]", 0.6)))
    kept, found = choose(channel_map, scores, Target("prune_ratio", 0.2), limits)
    for name, removed in (("body.0", 2), ("body.1", 3), ("body.2", 6)):  # the first pattern that matches decides
        assert set(np.flatnonzero(~kept)) & set(made[name]) == set(made[name][np.argsort(scores[made[name]])[:removed]])
    assert not found


@given(name=st.sampled_from(MODELS), seed=SEEDS, share=st.floats(0, 0.9), ratio=RATIOS)
@quick
def test_a_layer_of_its_own_ratio_loses_that_share(name, seed, share, ratio) -> None:
    """Of a plain convolution; elsewhere halves and shortcuts have a say."""
    _, widths = kept_by(channels(name), seed, ratio, ratios=(("model.0", share),))
    count, width = widths["model.0.conv"]
    assert count == max(width - round(share * width), math.ceil(0.1 * width))


def test_an_own_ratio_that_cannot_be_had_is_reported() -> None:
    channel_map = channels("chain")
    scores = np.arange(len(channel_map.channels), dtype=float)
    for limits, finding in (
        (Limits(ratios=(("out", 0.5),)), Finding(Kind.IDLE_RATIO, "out")),
        (Limits(ratios=(("body.0", 0.9),), floor=0.5), Finding(Kind.SHORT_RATIO, "body.0", wanted=7, reached=4)),
    ):
        assert finding in make_plan(channel_map, scores, prune_ratio=0.1, limits=limits).findings


def test_all_layers_with_own_ratios() -> None:
    channel_map, made = chain_map()
    kept, found = choose(
        channel_map, np.zeros(len(channel_map.channels)), Target("prune_ratio", 0.5), Limits(ratios=(("body", 0.4),))
    )
    assert [int(kept[groups].sum()) for groups in made.values()] == [6, 6, 6]
    assert not found


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"floor": 1.5}, "floor is 1.5"),
        ({"max_ratio": -0.1}, "-0.1"),
        ({"max_ratio": math.nan}, "nan"),
        ({"min_channels": 0}, "least number of channels is 0"),
        ({"round_to": 0}, "rounding step is 0"),
        ({"round_to": 2.5}, "rounding step is 2.5"),
        ({"ratios": (("model.0", 1.0),)}, "ratio of 'model.0' is 1.0"),
        ({"ratios": (("model.0", math.nan),)}, "ratio of 'model.0' is nan"),
    ],
)
def test_values_out_of_range_are_refused(limits, said) -> None:
    with pytest.raises(PruningError, match=said):
        Limits(**limits)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (
            {"ignore": ("body.0",), "ratios": (("body.*", 0.5),)},
            r"body.0.0 is to be ignored \('body.0'\) and has a ratio",
        ),
        ({"ignore": ("*",)}, "no channel of this network can be removed: all are pinned, ignored"),
        ({"round_to": 13}, "multiples of 13 keeps every layer whole: the widest that can be pruned, body.2.0, has 12"),
    ],
)
def test_contradictions_are_refused(limits, said) -> None:
    channel_map = channels("chain")
    with pytest.raises(PruningError, match=said):
        make_plan(channel_map, np.zeros(len(channel_map.channels)), prune_ratio=0.5, limits=Limits(**limits))


def test_layers_at_a_limit_are_reported() -> None:
    channel_map = channels("chain")
    scores = np.arange(len(channel_map.channels), dtype=float)
    all_three = ("body.0.0", "body.1.0", "body.2.0")
    for limits, rule, number, layers in (
        (Limits(min_channels=7), "min_channels", 7, ("body.0.0", "body.2.0")),
        (Limits(max_ratio=0.5), "max_ratio", 0.5, all_three),
        (Limits(floor=0.5), "floor", 0.5, all_three),
    ):
        missed, *others = make_plan(channel_map, scores, prune_ratio=0.9, limits=limits).findings
        assert (missed.kind, missed.about, missed.wanted) == (Kind.MISSED, "prune_ratio", 0.9)
        assert 0 < missed.reached < 0.9 and Reason(rule, number) in missed.reasons
        assert Finding(Kind.AT_LIMIT, rule, wanted=number, layers=layers) in others


def test_limits_are_noted_in_the_plan_as_plain_data() -> None:
    channel_map = channels("chain")
    limits = Limits(0.2, 2, 0.8, 2, ("body.0",), (("body.1", 0.5),))
    plan = make_plan(channel_map, np.zeros(len(channel_map.channels)), speed_up=1.5, limits=limits, settings={"a": 1})
    assert plan.settings == {
        "a": 1,
        "speed_up": 1.5,
        "floor": 0.2,
        "min_channels": 2,
        "max_ratio": 0.8,
        "round_to": 2,
        "ignore": ["body.0"],
        "ratios": [["body.1", 0.5]],
    }
    assert plan == plan.from_json(plan.to_json())


def test_parts_with_other_constraints_are_rounded_too() -> None:
    """A chunk whose first half has a shortcut, a grouped convolution, and a tensor that holds one channel twice."""

    def run(net, x):
        first, second = net.cv(x).chunk(2, 1)
        inner = net.inner(first) + first
        grouped = net.grouped(inner)
        return net.out(net.cat(net.dw(torch.cat([second, second, grouped], 1))))

    net = Net(
        run,
        cv=block(3, 24),
        inner=block(12, 12),
        grouped=block(12, 12, groups=3),
        dw=block(36, 36, groups=36),
        cat=block(36, 20, 1),
        out=conv(20, 2, 1),
    )
    channel_map = trace(net, image(net, 8, batch=1))
    for seed in range(20):
        for step in (2, 4, 5, 6, 8):
            kept, widths = kept_by(channel_map, seed, 0.6, round_to=step)
            assert even(channel_map, kept)
            assert len(widths) == 5
            assert all(count % step == 0 or count == width for count, width in widths.values()), (step, widths)
            assert any(count < width for count, width in widths.values())


@pytest.mark.parametrize(
    ("target", "floor"),
    [
        (Target("speed_up", 1.0), 0.5),  # half of all is 2x, the most that a floor of a half allows
        (Target("speed_up", 1.5), 0.25),
        (Target("speed_up", 4.0), 0.1),
        (Target("speed_up", 9.0), 0.1),  # none leaves a choice
        (Target("prune_ratio", 0.4), 0.25),  # of the other 60 %, half
        (Target("target_params", 1300), 0.5),  # not even half of it is less than the network has
        (Target("target_params", 320), 0.25),  # of 622, 31 a channel
    ],
)
def test_the_evenest_limits_that_leave_a_choice(target, floor) -> None:
    """In two layers of which one is free, the cost falls with the share of its channels."""
    channel_map = trace(net := chain(20), image(net, 8, batch=1))
    assert with_room(channel_map, target, [Limits(floor=each) for each in (0.5, 0.25, 0.1)]).floor == floor
