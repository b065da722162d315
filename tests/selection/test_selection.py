"""Tests of the choice of channels: properties that hold for any scores, any target and any floor."""

import itertools
import math
import signal
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.networks import Net, chain, conv, csp_net, image, yolo
from ultralytics.nn.modules import C2f
from ultralytics.pruning import CRITERIA, ChannelMap, Limits, PruningError, make_plan, trace
from ultralytics.pruning.plans.findings import Finding, Kind
from ultralytics.pruning.selection import choose as selection
from ultralytics.pruning.selection.targets import Target


def map_of(net: Net) -> ChannelMap:
    """The channels of a tiny network."""
    return trace(net, image(net, 8, batch=1))


CSP = map_of(csp_net())
CHAIN = map_of(chain(8, 5, 12))
GROUPS = len(CSP.channels)

settings.register_profile("selection", deadline=None)
settings.load_profile("selection")
RATIOS = st.floats(0, 0.95)
FLOORS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])
DISTINCT = st.permutations(range(GROUPS)).map(lambda order: np.array(order, dtype=float))
TIED = st.lists(st.integers(0, 2), min_size=GROUPS, max_size=GROUPS).map(lambda scores: np.array(scores, dtype=float))
SCORES = st.one_of(DISTINCT, TIED)


def choose(
    channel_map: ChannelMap, scores: np.ndarray, ratio: float, floor: float = 0.1
) -> tuple[np.ndarray, tuple[Finding, ...]]:
    """A share of the channels, with a floor and no other limit."""
    return selection.choose(channel_map, scores, Target("prune_ratio", ratio), Limits(floor=floor))


def least(width: int, floor: float) -> int:
    """How many of a layer's channels must stay."""
    return max(1, math.ceil(floor * width))


def filters(channel_map: ChannelMap) -> dict[str, np.ndarray]:
    """The output groups of each layer that has filters."""
    return {name: layer.outputs for name, layer in channel_map.layers.items() if layer.kind != "BatchNorm2d"}


def removed_channels(channel_map: ChannelMap, kept: np.ndarray) -> int:
    """How many channels go."""
    return int(channel_map.channels[~kept].sum())


def constraints(channel_map: ChannelMap) -> Iterator[set[int]]:
    """The groups that each floor and each balance is about."""
    for layer in channel_map.layers.values():
        yield set(layer.inputs.tolist())
        yield set(layer.outputs.tolist())
    for balance in channel_map.balances:
        for part in balance.parts:
            yield set(part.tolist())


@given(scores=SCORES, ratio=RATIOS, floor=FLOORS)
def test_no_layer_is_empty_and_floors_and_balances_hold(scores: np.ndarray, ratio: float, floor: float) -> None:
    kept, _ = choose(CSP, scores, ratio, floor)
    assert kept[~CSP.free].all()
    for name, outputs in filters(CSP).items():
        assert kept[outputs].sum() >= least(len(outputs), floor), name
    for layer in CSP.layers.values():
        assert kept[layer.inputs].any() and kept[layer.outputs].any(), layer.name
    assert CSP.balances
    for balance in CSP.balances:
        assert len({int(kept[part].sum()) for part in balance.parts}) == 1


@given(scores=SCORES, ratio=RATIOS, floor=FLOORS)
def test_a_lower_score_stays_only_where_a_constraint_needs_it(scores: np.ndarray, ratio: float, floor: float) -> None:
    kept, _ = choose(CSP, scores, ratio, floor)
    kept_free, removed = np.flatnonzero(kept & CSP.free), np.flatnonzero(~kept)
    parts = list(constraints(CSP))
    for low in kept_free:
        higher = [high for high in removed if scores[high] > scores[low]]
        # what has the same constraints goes by score alone
        for high in higher:
            assert any(low in part and high not in part for part in parts), f"{high} would have done as well as {low}"
        if higher:
            fewer = kept.copy()
            fewer[low] = False
            assert violated(fewer, floor), f"{low} could have gone"


def violated(kept: np.ndarray, floor: float) -> bool:
    """Whether a choice breaks a floor or a balance."""
    empty = any(not kept[layer.inputs].any() for layer in CSP.layers.values())
    low = any(kept[outputs].sum() < least(len(outputs), floor) for outputs in filters(CSP).values())
    uneven = any(len({int(kept[part].sum()) for part in balance.parts}) > 1 for balance in CSP.balances)
    return empty or low or uneven


@given(scores=DISTINCT, ratios=st.tuples(RATIOS, RATIOS), floor=FLOORS)
def test_a_higher_ratio_keeps_a_subset(scores: np.ndarray, ratios: tuple[float, float], floor: float) -> None:
    more, fewer = (choose(CSP, scores, ratio, floor)[0] for ratio in sorted(ratios))
    assert not (fewer & ~more).any()


def test_a_higher_ratio_keeps_a_subset_of_equal_scores() -> None:
    choices = [choose(CSP, np.ones(GROUPS), ratio)[0] for ratio in np.linspace(0, 0.95, 20)]
    for more, fewer in itertools.pairwise(choices):
        assert not (fewer & ~more).any()


@given(scores=SCORES, ratio=RATIOS, floor=FLOORS)
def test_the_target_is_reached_or_the_limits_say_so(scores: np.ndarray, ratio: float, floor: float) -> None:
    kept, found = choose(CSP, scores, ratio, floor)
    wanted = round(ratio * CSP.channels[CSP.free].sum())
    missed = removed_channels(CSP, kept) < wanted
    assert missed == any(finding.kind == Kind.MISSED for finding in found)
    if missed:  # then nothing more can go at all
        assert removed_channels(CSP, choose(CSP, scores, 0.9999, floor)[0]) == removed_channels(CSP, kept)
    at_floor = {
        name
        for name, outputs in filters(CSP).items()
        if kept[outputs].sum() == least(len(outputs), floor) < len(outputs)
    }
    told = {name for finding in found if finding.kind == Kind.AT_LIMIT for name in finding.layers}
    assert told == at_floor


@given(scores=SCORES, ratio=RATIOS, floor=FLOORS)
def test_the_same_input_gives_the_same_choice(scores: np.ndarray, ratio: float, floor: float) -> None:
    first, second = (choose(CSP, scores.copy(), ratio, floor) for _ in range(2))
    assert (first[0] == second[0]).all() and first[1] == second[1]


@given(order=st.permutations(range(len(CHAIN.channels))), ratio=RATIOS, floor=FLOORS)
def test_a_chain_is_cut_at_the_smallest_threshold_that_reaches_the_target(
    order: list[int], ratio: float, floor: float
) -> None:
    """Without shortcuts and halves a choice is easy to make in another way, one threshold after the other."""
    scores = np.array(order, dtype=float)
    wanted = round(ratio * CHAIN.free.sum())
    for threshold in [-1.0, *sorted(scores[CHAIN.free])]:
        expected = ~CHAIN.free | (scores > threshold)
        for outputs in filters(CHAIN).values():
            expected[sorted(outputs, key=scores.__getitem__)[-least(len(outputs), floor) :]] = True
        if (~expected).sum() >= wanted:
            break
    assert (choose(CHAIN, scores, ratio, floor)[0] == expected).all()


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, math.nan, math.inf, -math.inf])
def test_a_ratio_outside_of_its_range_is_refused(ratio: float) -> None:
    scores = np.zeros(GROUPS)
    with pytest.raises(PruningError, match="ratio"):
        choose(CSP, scores, ratio)
    with pytest.raises(PruningError, match="ratio"):
        make_plan(CSP, scores, prune_ratio=ratio)


@pytest.mark.parametrize("floor", [1.01, 2.0, math.nan, -0.1])
def test_a_floor_outside_of_its_range_is_refused(floor: float) -> None:
    def too_long(*_: object) -> None:
        raise TimeoutError("choose() does not end")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(PruningError, match="floor"):
            choose(CSP, np.zeros(GROUPS), 0.5, floor)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_network_without_free_channels_is_refused() -> None:
    alone = map_of(Net(lambda n, x: n.out(x), out=conv(3, 2)))
    with pytest.raises(PruningError, match="pinned"):
        choose(alone, np.zeros(len(alone.channels)), 0.5)
    with pytest.raises(PruningError, match="batch norm"):
        choose(CSP, np.full(GROUPS, math.nan), 0.5)


@given(scores=DISTINCT, unknown=st.sets(st.sampled_from(range(GROUPS))), ratio=RATIOS)
@settings(max_examples=30)
def test_a_group_without_a_score_stays(scores: np.ndarray, unknown: set[int], ratio: float) -> None:
    scores[list(unknown)] = math.nan
    if np.isnan(scores[CSP.free]).all():
        return
    kept, _ = choose(CSP, scores, ratio)
    assert kept[list(unknown)].all()


def test_zero_removes_nothing() -> None:
    kept, limits = choose(CSP, np.arange(GROUPS, dtype=float), 0)
    assert kept.all() and not any("instead of" in limit for limit in limits)


def test_equal_scores_are_spread_over_the_network() -> None:
    channel_map = trace(yolo("yolov8n"))
    kept, _ = choose(channel_map, np.ones(len(channel_map.channels)), 0.5)
    wide = {name: outputs for name, outputs in filters(channel_map).items() if channel_map.free[outputs].sum() >= 64}
    assert len(wide) > 20
    for name, outputs in wide.items():
        assert 0.25 < kept[outputs].mean() < 0.75, name


def test_most_channels_of_yolov8n_are_free() -> None:
    channel_map = trace(yolo("yolov8n"))
    assert not channel_map.unknown
    assert channel_map.free_share > 0.8
    assert channel_map.free_share == channel_map.channels[channel_map.free].sum() / channel_map.channels.sum()


def test_residual_groups_of_yolov8n_shrink() -> None:
    model = yolo("yolov8n")
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0, 1, generator=generator)
    channel_map = trace(model)
    kept, _ = choose(channel_map, CRITERIA["slim"](channel_map, model), 0.5)
    blocks = {name for name, m in model.named_modules() if isinstance(m, C2f) and any(b.add for b in m.m)}
    assert len(blocks) == 4
    for name in blocks:
        made = [
            set(outputs.tolist()) for layer, outputs in filters(channel_map).items() if layer.startswith(f"{name}.")
        ]
        tied = {group for groups in made for group in groups if sum(group in others for others in made) > 1}
        assert len(tied) == model.get_submodule(name).c
        assert 0 < kept[list(tied)].sum() < len(tied), name


def test_slim_scores_are_mean_gammas() -> None:
    """Hand-set gammas; channels tied by a sum count together, a channel without a batch norm has no score."""
    net = Net(
        lambda n, x: n.out(torch.cat([n.abn(n.a(x)) + n.bbn(n.b(x)), n.c(x)], 1)),
        a=conv(3, 2),
        abn=nn.BatchNorm2d(2),
        b=conv(3, 2),
        bbn=nn.BatchNorm2d(2),
        c=conv(3, 1),
        out=conv(3, 2),
    )
    net.abn.weight.data = torch.tensor([1.0, -2.0]).double()
    net.bbn.weight.data = torch.tensor([-3.0, 0.5]).double()
    channel_map = map_of(net)
    scores = CRITERIA["slim"](channel_map, net)
    assert scores[channel_map.layers["a"].outputs].tolist() == [2.0, 1.25]
    assert np.isnan(scores[channel_map.layers["c"].outputs]).all()
