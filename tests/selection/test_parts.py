"""No part of a tensor ends empty: what a layer's output is split into keeps its floor, whoever reads it."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmarks.zoo_models import named
from helpers.networks import Net, block, conv, set_weights
from ultralytics.pruning import CRITERIA, Limits, cut, make_plan, trace
from ultralytics.pruning.selection.limits import least_of_parts
from ultralytics.pruning.tracing.trace import image_shape, quiet


class Empties(TorchFunctionMode):
    """Notes the functions that read or return a tensor without elements."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        stack: list[Any] = [args, result]
        while stack:
            value = stack.pop()
            if isinstance(value, (list, tuple)):
                stack.extend(value)
            elif isinstance(value, Tensor) and not value.numel():
                self.found.add(getattr(function, "__name__", str(function)))
        return result


def empties(model: nn.Module) -> set[str]:
    """The functions of a network that meet an empty tensor."""
    with quiet(model), torch.no_grad():
        image = torch.zeros(image_shape(model, 2), dtype=next(model.parameters()).dtype)
        with Empties() as mode:
            model(image)
    return mode.found


FAMILIES = (
    "yolov5n yolov8n yolov9t yolov10n yolo11n yolo11n-seg yolo12n yolo26n yolo26n-pose yolov8n-rtdetr yolov8n-worldv2"
)
NAMES = ("group_norm", "lamp", "l1", "slim", "random")


@pytest.mark.parametrize(("place", "name"), enumerate(FAMILIES.split()))
def test_no_part_is_empty_at_any_speed_up(place: int, name: str) -> None:
    model = set_weights(named(name).build(classes=10))
    usual = empties(model)
    channel_map = trace(model)
    for i, speed_up in enumerate((2, 4, 8)):
        criterion = NAMES[(place + 2 * i) % len(NAMES)] if place % 2 else "group_norm"
        scores = CRITERIA[criterion](channel_map, model)
        plan = make_plan(channel_map, scores, speed_up=speed_up, limits=Limits(round_to=(1, 4, 8)[i]))
        pruned = copy.deepcopy(model)
        cut(pruned, plan)
        assert empties(pruned) <= usual, (criterion, speed_up)


@pytest.mark.parametrize("criterion", NAMES)
@pytest.mark.parametrize("zeros", [False, True])
def test_queries_and_keys_keep_their_floor(criterion: str, zeros: bool) -> None:
    """They are worthless by any score; v alone would satisfy the floor of the convolution that makes all three."""
    model = set_weights(named("yolo26n").build(classes=10))
    channel_map = trace(model)
    scores = CRITERIA[criterion](channel_map, model)
    attention = next(name for name, module in model.named_modules() if hasattr(module, "key_dim"))
    outputs, dense = channel_map.layers[f"{attention}.qkv.conv"].outputs, model.get_submodule(attention)
    heads = outputs.reshape(dense.num_heads, -1)
    scores[np.unique(heads[:, : 2 * dense.key_dim])] = -1.0
    limits = Limits(floor=0) if zeros else Limits()
    plan = make_plan(channel_map, scores, speed_up=1.5, limits=limits)
    cut(model, plan)
    assert dense.key_dim == (1 if zeros else -(-len(heads[0]) // 4 // 10))
    assert not empties(model)


def test_the_floor_of_a_part_is_of_its_width_before_an_earlier_cut() -> None:
    channel_map = trace(attention())
    widths = {name: 3 * len(layer.outputs) for name, layer in channel_map.layers.items()}
    once, twice = (
        [least for _, least in least_of_parts(channel_map, limits)] for limits in (Limits(), Limits(widths=widths))
    )
    assert all(least >= 1 for least in once)
    assert [least for least in twice if least > 1]
    for (part, least), before in zip(least_of_parts(channel_map, Limits(widths=widths)), once, strict=True):
        assert before <= least <= len(part)


# Splits of other kinds


def attention() -> Net:
    def run(net: Net, x: Tensor) -> Tensor:
        x = net.stem(x)
        b, _, h, w = x.shape
        q, k, v = torch.split(net.qkv(x), [net.key, net.key, net.value], dim=1)
        weights = (q.flatten(2).transpose(1, 2) @ k.flatten(2)).softmax(dim=-1)
        return net.out((v.flatten(2) @ weights.transpose(1, 2)).view(b, net.value, h, w))

    net = Net(run, stem=block(3, 8, stride=8), qkv=conv(8, 64, 1), out=conv(32, 3, 1))
    net.key, net.value = 16, 32
    return net


def by_heads() -> Net:
    def run(net: Net, x: Tensor) -> Tensor:
        x = net.stem(x)
        b, _, h, w = x.shape
        q, k, v = net.qkv(x).view(b, net.heads, 3 * net.dim, h * w).split([net.dim] * 3, dim=2)
        weights = (q.transpose(-2, -1) @ k).softmax(dim=-1)
        return net.out((v @ weights.transpose(-2, -1)).reshape(b, -1, h, w))

    net = Net(run, stem=block(3, 8, stride=8), qkv=conv(8, 96, 1), out=conv(32, 3, 1))
    net.heads, net.dim = 2, 16
    return net


def gated() -> Net:
    def run(net: Net, x: Tensor) -> Tensor:
        value, gate = net.both(net.stem(x)).chunk(2, dim=1)
        return net.out(value * gate.sigmoid())

    return Net(run, stem=block(3, 8, stride=8), both=conv(8, 40, 1), out=conv(20, 3, 1))


def mixed_product() -> Net:
    """Slices of a concatenation, of which two meet in a product, and none is a layer's own output."""

    def run(net: Net, x: Tensor) -> Tensor:
        x = net.stem(x)
        joined = torch.cat([net.a(x), net.b(x)], dim=1)
        first, second, rest = joined[:, : net.part], joined[:, net.part : 2 * net.part], joined[:, 2 * net.part :]
        energy = torch.einsum("bchw,bchw->bhw", first, second).sigmoid()
        return net.out(rest * energy.unsqueeze(1))

    net = Net(run, stem=block(3, 8, stride=8), a=conv(8, 20, 1), b=conv(8, 28, 1), out=conv(24, 3, 1))
    net.part = 12
    return net


def shuffled() -> Net:
    def run(net: Net, x: Tensor) -> Tensor:
        left, right = net.stem(x).chunk(2, dim=1)
        x = torch.cat([left, net.branch(right)], dim=1)
        b, c, h, w = x.shape
        x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return net.out(x)

    return Net(run, stem=block(3, 40, stride=8), branch=block(20, 20), out=conv(40, 3, 1))


@pytest.mark.parametrize("make", [attention, by_heads, gated, mixed_product, shuffled])
@pytest.mark.parametrize("worthless", ["first", "last", "even"])
@pytest.mark.parametrize("ratio", [0.5, 0.85])
def test_no_part_of_a_split_is_empty(make: Callable[[], Net], worthless: str, ratio: float) -> None:
    net = make()
    channel_map = trace(net)
    assert not empties(net)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    layer = next(channel_map.layers[key] for key in ("qkv", "both", "a", "stem.0") if key in channel_map.layers)
    worst = np.arange(len(layer.outputs))
    half = len(worst) // 2
    worst = {"first": worst[:half], "last": worst[half:], "even": worst[::2]}[worthless]
    scores[layer.outputs[worst]] -= 2
    plan = make_plan(channel_map, scores, prune_ratio=ratio)
    cut(net, plan)
    assert not empties(net)
