"""Tests of folding: the constants that faded channels (gamma = 0) still emit go into the layers that read them."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks import Net, block, conv, difference, image, raw_outputs, yolo
from ultralytics.pruning import ChannelMap, PruningPlan, cut, make_plan, prune, trace
from ultralytics.pruning.plans.plan import plan_from
from ultralytics.pruning.surgery.folding import fold_constants

EXACT = 1e-10
SIDE = 8

Faded = dict[str, list[int]]


def fade(model: nn.Module, faded: Faded) -> None:
    """Sets gammas of the named batch norms to zero, and betas to what cannot be overlooked."""
    with torch.no_grad():
        for name, channels in faded.items():
            norm = model.get_submodule(name)
            norm.weight[channels] = 0
            norm.bias[channels] = torch.linspace(0.7, 1.5, len(channels), dtype=norm.bias.dtype)


def plan_without(channel_map: ChannelMap, faded: Faded) -> PruningPlan:
    """The plan that removes just these channels."""
    kept = np.ones(len(channel_map.channels), dtype=bool)
    for name, channels in faded.items():
        kept[channel_map.layers[name].outputs[channels]] = False
    assert channel_map.free[~kept].all()
    return plan_from(channel_map, kept, {})


def pruned(net: nn.Module, faded: Faded, *, fold: bool = True) -> tuple[nn.Module, list[str]]:
    """A copy without the faded channels, and the layers that could not absorb their constants."""
    net = copy.deepcopy(net)
    channel_map = trace(net, image(net, SIDE, batch=1))
    plan = plan_without(channel_map, faded)
    unfolded = fold_constants(net, channel_map, plan, side=SIDE) if fold else []
    cut(net, plan)
    return net, unfolded


def many_ways(net: Net, x: Tensor) -> tuple[Tensor, ...]:
    """A sum, pooling, upsampling and a concatenation, read by a batch norm's convolution, a bias and a linear layer."""
    both = net.a(x) + net.b(x)
    joined = torch.cat([F.interpolate(F.max_pool2d(both, 2), scale_factor=2), net.c(x)], 1)
    return net.out(net.norm(joined)), net.bias(joined), net.linear(joined.mean((2, 3)))


def gate(net: Net, x: Tensor) -> Tensor:
    """A product, a slice of space and an average."""
    return net.out(F.avg_pool2d((net.a(x) * net.b(x))[:, :, 1:, 1:], 3))


NETWORKS: dict[str, tuple[Net, Faded]] = {
    "many ways": (
        Net(
            many_ways,
            a=block(3, 4, 1),
            b=block(3, 4, 1),
            c=block(3, 3, 1),
            norm=block(7, 5, 1),
            bias=conv(7, 2, 1),
            linear=nn.Linear(7, 2),
            out=conv(5, 2, 1),
        ),
        {"a.1": [1, 3], "b.1": [1, 3], "c.1": [0], "norm.1": [2, 4]},
    ),
    "one behind the other": (
        Net(
            lambda n, x: n.out(n.c(n.b(n.a(x)))),
            a=block(3, 5, 1),
            b=block(5, 4, 1, act=nn.ReLU),
            c=block(4, 6, 1, act=nn.Identity),
            out=conv(6, 2, 1),
        ),
        {"a.1": [0, 4], "b.1": [1], "c.1": [2, 3, 5]},
    ),
    "3x3 without padding": (
        Net(lambda n, x: n.out(n.b(n.a(x))), a=block(3, 4), b=block(4, 4, padding=0), out=conv(4, 2, padding=0)),
        {"a.1": [1, 2], "b.1": [0, 3]},
    ),
    "3x3 with a reflected border": (
        Net(lambda n, x: n.out(n.a(x)), a=block(3, 4), out=conv(4, 2, padding_mode="reflect")),
        {"a.1": [1, 2]},
    ),
    "grouped reader": (
        Net(lambda n, x: n.out(n.b(n.a(x))), a=block(3, 6, 1), b=block(6, 4, 1, groups=2), out=conv(4, 2, 1)),
        {"a.1": [0, 4], "b.1": [1, 2]},
    ),
    "through a depthwise convolution": (
        Net(lambda n, x: n.out(n.dw(n.a(x))), a=block(3, 4, 1), dw=block(4, 4, groups=4), out=conv(4, 2, 1)),
        {"a.1": [1, 2], "dw.1": [1, 2]},
    ),
    "gate": (
        Net(gate, a=block(3, 4, 1), b=block(3, 4, 1), out=conv(4, 2, 1)),
        {"a.1": [0, 2], "b.1": [0, 2]},
    ),
    "linear behind flatten": (
        Net(lambda n, x: n.out(n.a(x).flatten(1)), a=block(3, 4, 1), out=nn.Linear(4 * SIDE * SIDE, 2)),
        {"a.1": [1, 3]},
    ),
    "bias and batch norm": (
        Net(
            lambda n, x: n.out(n.bn(n.b(n.a(x)))),
            a=block(3, 4, 1),
            b=conv(4, 4, 1),
            bn=nn.BatchNorm2d(4),
            out=conv(4, 2),
        ),
        {"a.1": [1, 3]},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_is_exact_without_padding(name: str) -> None:
    net, faded = copy.deepcopy(NETWORKS[name])
    fade(net, faded)
    x = image(net, SIDE)
    expected = raw_outputs(net, x)
    folded, unfolded = pruned(net, faded)
    assert unfolded == []
    assert difference(expected, raw_outputs(folded, x)) < EXACT
    plain, _ = pruned(net, faded, fold=False)
    assert difference(expected, raw_outputs(plain, x)) > 1e-2, "without folding, the outputs must differ"


def test_channels_that_did_not_fade_are_folded_as_if_they_had() -> None:
    """The gammas of the chosen channels count as zero, whatever they are."""
    net, faded = copy.deepcopy(NETWORKS["many ways"])
    folded, _ = pruned(net, faded)
    with torch.no_grad():
        for name, channels in faded.items():
            net.get_submodule(name).weight[channels] = 0
    x = image(net, SIDE)
    assert difference(raw_outputs(net, x), raw_outputs(folded, x)) < EXACT


@pytest.mark.parametrize(
    "layer",
    [pytest.param(block(4, 4, 3), id="reader"), pytest.param(conv(4, 4, 3, groups=4), id="depthwise, on the way")],
)
def test_folding_errs_only_at_a_padded_border(layer: nn.Module) -> None:
    net = Net(lambda n, x: n.out(n.b(n.a(x))), a=block(3, 4, 1), b=layer, out=conv(4, 2, 1))
    faded = {"a.1": [1, 3]}
    fade(net, faded)
    x = image(net, SIDE)
    (expected,), (found,) = raw_outputs(net, x), raw_outputs(pruned(net, faded)[0], x)
    error = (expected - found).abs().amax((0, 1))
    assert error[1:-1, 1:-1].max() < EXACT
    error[1:-1, 1:-1] = torch.inf
    assert error.min() > 1e-4, "every border cell sees the zeros of the padding"


def test_a_transposed_convolution_is_exact_on_average() -> None:
    """Each of its output cells sees another cell of the kernel, one bias has to serve them all: it is named."""
    net = Net(lambda n, x: n.t(n.a(x)), a=block(3, 4, 1), t=nn.ConvTranspose2d(4, 2, 2, 2))
    faded = {"a.1": [1, 3]}
    fade(net, faded)
    x = image(net, SIDE)
    expected = [F.avg_pool2d(t, 2) for t in raw_outputs(net, x)]
    (folded, unfolded), (plain, _) = (pruned(net, faded, fold=fold) for fold in (True, False))
    assert difference(expected, [F.avg_pool2d(t, 2) for t in raw_outputs(folded, x)]) < EXACT
    assert difference(expected, [F.avg_pool2d(t, 2) for t in raw_outputs(plain, x)]) > 1e-2
    assert unfolded == ["t"]


@pytest.mark.parametrize(("beta", "reported"), [(1.0, ["out"]), (0.0, [])])
def test_a_reader_that_cannot_absorb_is_reported(beta: float, reported: list[str]) -> None:
    net = Net(lambda n, x: n.out(n.a(x)), a=block(3, 4, 1), out=conv(4, 2, 1, bias=False))
    faded = {"a.1": [1, 3]}
    fade(net, faded)
    net.a[1].bias.data[faded["a.1"]] = beta
    assert pruned(net, faded)[1] == reported
    channel_map = trace(net)
    assert prune(net, plan_without(channel_map, faded), channel_map) == reported


@pytest.mark.parametrize(
    ("run", "layers"),
    [
        pytest.param(lambda n, y: n.out(n.bn(F.relu(y, inplace=True))), {}, id="activation in place before it"),
        pytest.param(lambda n, y: n.out(n.bn(F.relu(y))), {}, id="activation before it"),
        pytest.param(lambda n, y: n.out(n.bn(y)) + n.more(y), {"more": conv(4, 2, 1)}, id="read by two"),
        pytest.param(
            lambda n, y: (n.out(n.bn(y)), y),
            {},
            id="also an output",
        ),
    ],
)
def test_a_batch_norm_absorbs_only_what_it_alone_reads(run: Callable, layers: dict[str, nn.Module]) -> None:
    """Where `b` has no bias, such a reader has to be reported, not folded into the wrong place."""
    b = conv(4, 4, 1, bias=False)
    net = Net(
        lambda n, x: run(n, n.b(n.a(x))), a=block(3, 4, 1), b=b, bn=nn.BatchNorm2d(4), out=conv(4, 2, 1), **layers
    )
    faded = {"a.1": [1, 3]}
    fade(net, faded)
    before = net.bn.running_mean.clone()
    folded, unfolded = pruned(net, faded)
    assert unfolded == ["b"]
    assert folded.bn.running_mean.equal(before)


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(
            Net(lambda n, x: n.out(n.a(x).permute(0, 2, 3, 1)), a=block(3, 4, 1), out=nn.Linear(4, 2)),
            id="linear on the last of four dimensions",
        ),
        pytest.param(
            Net(lambda n, x: n.out(n.a(x).flatten(2).transpose(1, 2)), a=block(3, 4, 1), out=nn.Linear(4, 2)),
            id="linear on the last of three dimensions",
        ),
        pytest.param(
            Net(
                lambda n, x: n.out(torch.cat([n.bn1(n.b(y := n.a(x))), n.bn2(n.b(F.max_pool2d(y, 3, 1, 1)))], 1)),
                a=block(3, 4, 1),
                b=conv(4, 4, 1, bias=False),
                bn1=nn.BatchNorm2d(4),
                bn2=nn.BatchNorm2d(4),
                out=conv(8, 2, 1),
            ),
            id="one convolution, two batch norms",
        ),
        pytest.param(
            Net(
                lambda n, x: n.out(torch.cat([n.s(n.a(x)), n.s(n.b(x))], 1)),
                a=block(3, 4, 1),
                b=block(3, 4, 1, act=nn.ReLU),
                s=conv(4, 4, 1),
                out=conv(8, 2, 1),
            ),
            id="one convolution, two constants",
        ),
    ],
)
def test_folding_is_exact_or_says_what_it_left_out(net: Net) -> None:
    faded = {f"{name}.1": [1, 3] for name, module in net.named_children() if isinstance(module, nn.Sequential)}
    fade(net, faded)
    x = image(net, SIDE)
    folded, unfolded = pruned(net, faded)
    assert unfolded or difference(raw_outputs(net, x), raw_outputs(folded, x)) < EXACT


def test_folding_changes_only_running_means_and_biases() -> None:
    """Gammas are given back, and modes and hooks stay."""
    net, faded = copy.deepcopy(NETWORKS["many ways"])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    channel_map = trace(net, image(net, SIDE, batch=1))
    net.train()
    net.a.eval()
    modes = [module.training for module in net.modules()]
    fold_constants(net, channel_map, plan_without(channel_map, faded), side=SIDE)
    changed = {name for name, tensor in net.state_dict().items() if not tensor.equal(before[name])}
    assert changed == {"norm.1.running_mean", "bias.bias", "linear.bias", "out.bias"}
    assert [module.training for module in net.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_gammas_are_given_back_when_the_network_fails() -> None:
    net, faded = copy.deepcopy(NETWORKS["linear behind flatten"])
    before = net.a[1].weight.clone()
    channel_map = trace(net, image(net, SIDE, batch=1))
    with pytest.raises(RuntimeError):
        fold_constants(net, channel_map, plan_without(channel_map, faded), side=2 * SIDE)
    assert net.a[1].weight.equal(before) and (before != 0).all()
    assert not net.out._forward_pre_hooks


def test_folding_helps_yolov8n() -> None:
    """With padded 3x3 kernels everywhere it is not exact, but nearer to the original than nothing."""
    model = yolo("yolov8n").double()
    channel_map = trace(model)
    plan = make_plan(channel_map, np.random.default_rng(0).random(len(channel_map.channels)), prune_ratio=0.2)
    with torch.no_grad():
        for name, layer in plan.layers.items():
            if layer.type == "BatchNorm2d":
                gone = sorted(set(range(layer.out_before)) - set(layer.kept_out))
                model.get_submodule(name).weight[gone] = 0
    folded, plain = copy.deepcopy(model), copy.deepcopy(model)
    assert prune(folded, plan, channel_map) == []
    prune(plain, plan)
    x = image(model, 256)
    expected = raw_outputs(model, x)
    assert 2 * difference(expected, raw_outputs(folded, x)) < difference(expected, raw_outputs(plain, x))
