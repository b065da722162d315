"""What stays is fitted to the original: exactly where the rest can stand in for what went, and never for the worse."""

import contextlib
import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from helpers.networks import Net, conv
from ultralytics.pruning import (
    Limits,
    PruningError,
    PruningPlan,
    Scoring,
    Target,
    load,
    make_plan,
    prune_network,
    repeat_plan,
    trace,
)
from ultralytics.pruning.one_shot.rounds import choose_in_rounds
from ultralytics.pruning.passes import refitting
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.passes.refitting import Refitting
from ultralytics.pruning.plans.plan import plan_from
from ultralytics.pruning.surgery.verification import silenced


class Given:
    """A reader of given images."""

    def __init__(self, model: nn.Module, images: Images) -> None:
        self.reproducible = contextlib.nullcontext
        generator = torch.Generator().manual_seed(0)
        self._images = [torch.rand(1, 3, 24, 20, generator=generator) for _ in range(6)]

    def __iter__(self):
        yield self._images

    def batch(self, samples):
        return {"img": samples[0]}


def line() -> Net:
    """Convolutions, in the first of which channel 3 is a sum of two others."""
    layers = {"a": conv(3, 4, 1, bias=False), "norm": nn.BatchNorm2d(4), "b": conv(4, 5), "c": conv(5, 2, 1)}
    net = Net(lambda net, x: net.c(net.b(net.norm(net.a(x)))), **layers).float().eval()
    with torch.no_grad():
        net.norm.weight.fill_(1.0)
        net.norm.running_var.fill_(1.0)
        net.norm.bias.zero_()
        net.norm.running_mean.zero_()
        net.a.weight[3] = 0.5 * net.a.weight[0] - 0.25 * net.a.weight[1]
    return net


def without(net: nn.Module, name: str, channel: int) -> PruningPlan:
    channel_map = trace(net, torch.zeros(1, 3, 24, 20))
    kept = np.ones(len(channel_map.channels), dtype=bool)
    kept[channel_map.layers[name].outputs[channel]] = False
    return plan_from(channel_map, kept, {})


def test_a_channel_that_is_a_sum_of_others_is_replaced_by_them(monkeypatch):
    monkeypatch.setattr(refitting, "reader_of", Given)
    monkeypatch.setattr(refitting, "RIDGE", 1e-9)
    net = line()
    plan = without(net, "a", 3)
    fit = Refitting(net, trace(net, torch.zeros(1, 3, 24, 20)), Images("none", imgsz=32))
    fitted = silenced(net, plan)
    x = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(9))
    before = (fitted(x) - net(x)).abs().max()
    statistics, kept = copy.deepcopy(fitted.norm.state_dict()), copy.deepcopy(fitted.a.weight)
    fit(fitted, plan)
    assert before > 0.01 and (fitted(x) - net(x)).abs().max() < 1e-3 * before
    assert torch.allclose(fitted.a.weight, kept, atol=1e-4)  # its outputs are the original's already
    assert torch.equal(fitted.norm.running_var, statistics["running_var"]) and not fitted.a.weight[3].any()


def test_a_strong_ridge_leaves_the_weights_as_they_are_and_mends_the_means(monkeypatch):
    monkeypatch.setattr(refitting, "reader_of", Given)
    monkeypatch.setattr(refitting, "RIDGE", 1e9)
    net = line()
    plan = without(net, "a", 0)
    fit = Refitting(net, trace(net, torch.zeros(1, 3, 24, 20)), Images("none", imgsz=32))
    fitted = silenced(net, plan)
    before = copy.deepcopy(fitted)
    fit(fitted, plan)
    assert torch.allclose(fitted.b.weight, before.b.weight, atol=1e-6) and not torch.allclose(fitted.b.bias, net.b.bias)


def test_with_fewer_images_where_memory_ends(monkeypatch):
    monkeypatch.setattr(refitting, "reader_of", Given)
    net = line()
    plan = without(net, "a", 3)
    fit = Refitting(net, trace(net, torch.zeros(1, 3, 24, 20)), Images("none", imgsz=32))
    whole, small = silenced(net, plan), silenced(net, plan)
    fit(whole, plan)
    forward, calls = small.forward, []

    def short(x):
        calls.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return forward(x)

    small.forward = short
    fit(small, plan)
    assert calls == [6, 3] and fit.images == 6
    assert (small.b.weight - whole.b.weight).abs().max() < 0.2 * (whole.b.weight - net.b.weight).abs().max()


def distance(network: nn.Module, original: nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        found, wanted = (model.train(False)(images)[1]["scores"] for model in (network, original))
    return float((found - wanted).square().mean())


def test_a_detector_comes_nearer_to_the_original(small_weights, digits):
    network, _ = load(small_weights)
    images = Images(str(digits), batches=1, batch=8, imgsz=64)
    how = {"speed_up": 1.5, "imgsz": 64, "scoring": Scoring("l1"), "limits": Limits(floor=0.1)}
    plain = prune_network(network, **how)
    fitted = prune_network(network, rounds=2, refit=images, **how)
    seen = Refitting(network, trace(network, imgsz=64), images)
    seen = torch.cat(seen._images)
    assert distance(fitted.model, network, seen) < 0.5 * distance(plain.model, network, seen)
    assert fitted.plan.settings["refit"] == 8 and fitted.plan.settings["rounds"] == 2
    assert fitted.difference < 1e-10
    with pytest.raises(PruningError, match="--refit"):
        repeat_plan(network, fitted.plan)


def test_rounds_lead_to_the_target_and_give_nothing_back(small_weights):
    network, _ = load(small_weights)
    channel_map = trace(network, imgsz=64)
    seen = []

    def scores(found_map, model):
        values = Scoring("slim")(found_map, model)
        seen.append(np.flatnonzero(values == 0))
        return values

    for step in (1, 4):
        seen.clear()
        found = choose_in_rounds(network, channel_map, scores, Target("speed_up", 2.0), Limits(round_to=step), rounds=4)
        assert [set(a) < set(b) for a, b in itertools.pairwise(seen)] == [True] * 3
        assert 2.0 <= found.plan.before.macs / found.plan.after.macs < 2.1
    once = choose_in_rounds(network, channel_map, scores, Target("speed_up", 2.0), Limits(), rounds=1)
    assert once.plan.layers == make_plan(channel_map, Scoring("slim")(channel_map, network), speed_up=2.0).layers


def test_rounds_lead_to_a_number_of_parameters(small_weights):
    network, _ = load(small_weights)
    whole = sum(p.numel() for p in network.parameters())
    result = prune_network(network, target_params=whole // 2, rounds=4, scoring=Scoring("l1"), imgsz=64)
    assert 0.9 * whole / 2 < result.plan.after.deployed <= whole / 2


def test_rounds_are_refused_where_they_do_nothing(small_weights):
    network, _ = load(small_weights)
    with pytest.raises(PruningError, match="rounds are for"):
        prune_network(network, zeros=True, rounds=2, imgsz=64)
