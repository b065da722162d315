"""Networks on which the engine was once wrong, found by a review: cut by random plans, they equal their silence."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks import Net, block, conv, difference, image, layers_run, raw_outputs, removed_by, silence
from ultralytics.pruning import cost_of, cut, make_plan, trace
from ultralytics.pruning.surgery.verification import check


class Residual(nn.Module):
    """x + f(x), then perhaps an activation."""

    def __init__(self, *layers: nn.Module, end: Callable[[Tensor], Tensor] = lambda y: y) -> None:
        super().__init__()
        self.body, self.end = nn.Sequential(*layers), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(x + self.body(x))


def residual(**settings) -> Residual:
    """A block with 3 inner channels on a stream of 4."""
    return Residual(conv(4, 3), conv(3, 4), **settings)


def pooled(pool: Callable[[Tensor], Tensor]) -> Callable:
    """Pools what lies along other dimensions than those of space."""
    return lambda n, x: n.out(pool(n.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def written(n: Net, x: Tensor) -> Tensor:
    """Changes a block's output while its input is still read: an identity would return the input itself."""
    h = n.a(x)
    y = n.b(h)
    F.relu(y, inplace=True)
    return n.out(y + h)


def other_bias(n: Net, x: Tensor) -> Tensor:
    """A convolution with the bias of another one."""
    return n.out(F.conv2d(n.a(x), n.b.weight, n.c.bias, padding=1) + n.c(x))


class Halves(nn.Module):
    """Cuts by `chunk`, and takes the stored width for a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.c = 4
        self.cv = conv(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.cv(x).chunk(2, 1)
        return a * self.c**-0.5 + b


class Two(nn.Module):
    """Stores a number under a name that the release's models use as well."""

    def __init__(self) -> None:
        super().__init__()
        self.np, self.cv = 2, conv(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv(x) * self.np


SHARED = conv(4, 3)
TWICE = residual()
NETWORKS = {
    "max pooling over channels": ({}, pooled(lambda p: F.max_pool2d(p, 3, 1, 1))),
    "average pooling over channels": ({}, pooled(lambda p: F.avg_pool2d(p, 3, 1, 1))),
    "padding of channels": ({}, lambda n, x: n.out(F.pad(n.a(x), (0, 0, 0, 0, 1, -1)))),
    "width of a layer as a scale": ({}, lambda n, x: n.out(n.a(x) / math.sqrt(n.a.out_channels))),
    "shape of a weight as a scale": ({}, lambda n, x: n.out(n.a(x) * n.a.weight.shape[0] ** -0.5)),
    "stored width as a scale": ({"b": Halves()}, lambda n, x: n.out(n.b(n.a(x)))),
    "an attribute called np": ({"b": Two()}, lambda n, x: n.out(n.b(n.a(x)))),
    "in place behind a block": ({"b": residual()}, written),
    "one block under two names": ({"b": nn.ModuleList([TWICE, TWICE])}, lambda n, x: n.out(n.b[1](n.b[0](n.a(x))))),
    "blocks that share a layer": (
        {"b": Residual(SHARED, conv(3, 3), conv(3, 4)), "c": Residual(SHARED, conv(3, 4))},
        lambda n, x: n.out(n.c(n.b(n.a(x)))),
    ),
    "a block that ends in a clamp": ({"b": residual(end=lambda y: y.clamp(-1, 1))}, lambda n, x: n.out(n.b(n.a(x)))),
    "bias of another layer": ({"b": conv(4, 4), "c": conv(3, 4)}, other_bias),
    "attention over channels": (
        {},
        lambda n, x: n.out(
            F.scaled_dot_product_attention(*[n.a(x).flatten(2)] * 3, scale=1.0).unflatten(2, x.shape[2:])
        ),
    ),
    "transposed in place": ({}, lambda n, x: n.out(n.a(x).transpose_(2, 3))),
    "a numpy number": ({}, lambda n, x: n.out(F.pad(n.a(x)[:, : np.int64(3)], (0, 0, 0, 0, 0, 1)))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_odd_networks_equal_their_silence(name: str) -> None:
    layers, run = NETWORKS[name]
    net = Net(run, a=conv(3, 4), **copy.deepcopy(layers), out=conv(4, 2))
    net = Net(lambda n, x: n.odd(n.first(x)), first=nn.Sequential(conv(3, 4), conv(4, 3)), odd=net)
    x = image(net, 8)
    channel_map = trace(net, x)
    for seed in range(6):
        scores = np.random.default_rng(seed).random(len(channel_map.channels))
        for own in channel_map.blocks:
            scores[own.inner] -= seed % 2
        plan = make_plan(channel_map, scores, prune_ratio=0.5)
        pruned = copy.deepcopy(net)
        cut(pruned, plan)
        assert difference(raw_outputs(silence(net, removed_by(plan)), x), raw_outputs(pruned, x)) < 1e-10
        assert sum(p.numel() for p in pruned.parameters()) == plan.after.params


@dataclass
class Found:
    """What a network may return."""

    boxes: Tensor


def test_what_leaves_a_network_in_objects_stays() -> None:
    def run(n: Net, x: Tensor) -> Found:
        n.aux = n.b(x)  # a loss may read it
        return Found(n.out(n.a(x)))

    net = Net(run, a=conv(3, 4), b=conv(3, 4), out=conv(4, 2))
    channel_map = trace(net, image(net, 8))
    assert not channel_map.free[channel_map.layers["out"].outputs].any()
    assert not channel_map.free[channel_map.layers["b"].outputs].any()
    assert channel_map.free[channel_map.layers["a"].outputs].all()


def test_a_buffer_and_a_list_stay_as_they_were() -> None:
    def run(n: Net, x: Tensor) -> Tensor:
        n.mean.mul_(0.9).add_(1)
        n.seen.append(x.shape)
        return n.out(n.a(x))

    net = Net(run, a=block(3, 4), out=conv(4, 2), seen=[])
    net.register_buffer("mean", torch.zeros(1))
    trace(net, image(net, 8))
    assert net.seen == [] and net.mean == 0


def test_windows_that_are_merged_with_the_batch_all_count() -> None:
    net = Net(
        lambda n, x: n.out(n.a(x).flatten(2).transpose(1, 2).reshape(-1, 16, 4)), a=conv(3, 4), out=nn.Linear(4, 2)
    )
    x = image(net, 8, batch=1)
    assert cost_of(trace(net, x)).macs == 64 * (4 * 3 * 9 + 4 * 2)
    assert layers_run(net, x)["a"] == 64 * 4 * 3 * 9


def test_a_norm_without_scales_is_compared_as_well() -> None:
    norm = nn.BatchNorm2d(8, affine=False)
    norm.running_mean += 0.7
    net = nn.Sequential(conv(3, 8), norm, nn.ReLU(), conv(8, 2)).double().eval()
    channel_map = trace(net)
    plan = make_plan(channel_map, np.arange(len(channel_map.channels)), prune_ratio=0.5)
    pruned = copy.deepcopy(net)
    cut(pruned, plan)
    assert plan.layers["1"].removed_out and check(net, pruned, plan) < 1e-10
