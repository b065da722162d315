"""Tests of the criteria: hand-set weights and hand-computed scores, Torch-Pruning's where it computes the same."""

import copy
import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch_pruning as tp
from torch import nn

from helpers.networks import Net, block, chain, conv, csp_net, difference, image, raw_outputs, removed_by, silence
from ultralytics.pruning import CRITERIA, ChannelMap, PruningError, cost_of, make_plan, prune_network, trace
from ultralytics.pruning.criteria import NORMALIZERS
from ultralytics.pruning.criteria.scoring import Scoring
from ultralytics.pruning.passes.gates import Gates
from ultralytics.pruning.passes.likelihood import drawn

BY_IMAGES = ("group_taylor", "group_hessian")
BY_OUTPUTS = ("group_fisher",)
BY_SCALES = ("slim", "group_slim")
BY_WEIGHTS = ("random", "l1", "l2", "group_norm", "lamp", "fpgm")
A, B, OUT = [[1, 2, 2], [0, 3, 4]], [[-2, 0, 0], [0, -5, 12]], [[1, 2], [3, -4]]  # filters of `residual`


def map_of(net: nn.Module) -> ChannelMap:
    """The channels of a tiny network, on an image of 8 x 8."""
    return trace(net, image(net, 8, batch=1))


def put(net: nn.Module, **values: list) -> nn.Module:
    """Sets parameters by hand: of 1 x 1 convolutions as matrices, of larger ones the first cell, the rest is zero."""
    parameters = dict(net.named_parameters())
    with torch.no_grad():
        for name, value in values.items():
            parameter, value = parameters[name.replace("__", ".")], torch.tensor(value).double()
            parameter.zero_()
            (parameter[:, :, 0, 0] if parameter.ndim == 4 else parameter).copy_(value)
    return net


def filled(net: nn.Module, **values: float | list) -> dict[str, torch.Tensor]:
    """Gradients by hand: a number or nested lists for each parameter, zero for those without."""
    found = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for name, value in values.items():
        zeros = found[name.replace("__", ".")]
        zeros += torch.tensor(value).double().reshape(-1, *[1] * (zeros.ndim - 1))
    return found


def score(net: nn.Module, criterion: str, layer: str, *gradients: dict, **settings: object) -> list[float]:
    """The scores of a layer's output channels, as the criterion has them before anything is divided."""
    channel_map = map_of(net)
    extra = [list(gradients)] if gradients else []
    scores = CRITERIA[criterion](channel_map, net, *extra, **{"normalize": "none", **settings})
    assert scores.dtype == np.float64 and scores.shape == channel_map.channels.shape
    return scores[channel_map.layers[layer].outputs].tolist()


def gradients_of(net: nn.Module, batches: int = 2) -> list[dict[str, torch.Tensor]]:
    """The gradients of a loss on random images, a mapping for each batch."""
    net, found = copy.deepcopy(net).eval(), []
    for seed in range(batches):
        net.zero_grad(set_to_none=True)
        net(image(net, 8, seed=seed)).square().sum().backward()
        found.append({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    return found


def effects_of(net: nn.Module, channel_map: ChannelMap) -> list[np.ndarray]:
    """What outputs on random images say to each group's gate, for each image."""
    net = copy.deepcopy(net).eval()
    gates, found = Gates(net, channel_map), []
    for seed in range(3):
        drawn(net(image(net, 8, batch=1, seed=seed)), torch.Generator().manual_seed(seed)).backward()
        found.append(gates.gradients())
    return found


def scoring(name: str, **settings: object) -> Scoring:
    """A criterion by name, with gradients, or what outputs say, if it needs some."""
    passes = {"gradients": gradients_of if name in BY_IMAGES else None}
    return Scoring(criterion=name, outputs=effects_of if name in BY_OUTPUTS else None, **passes, **settings)


def single(**layers: nn.Module) -> Net:
    """The given layers one behind the other."""
    return Net(lambda n, x: functools.reduce(lambda x, name: getattr(n, name)(x), layers, x), **layers)


def residual() -> nn.Module:
    """Two branches that are added, with batch norms: both channels have two members of each kind."""
    layers = {"a": conv(3, 2, 1), "abn": nn.BatchNorm2d(2), "b": conv(3, 2, 1), "bbn": nn.BatchNorm2d(2)}
    net = Net(lambda n, x: n.out(n.abn(n.a(x)) + n.bbn(n.b(x))), **layers, out=conv(2, 2, 1))
    scales = {"abn__weight": [1, -2], "abn__bias": [1, 0], "bbn__weight": [-3, 0.5], "bbn__bias": [0, 2]}
    return put(net, a__weight=A, b__weight=B, out__weight=OUT, a__bias=[7, 0], b__bias=[0, 8], **scales)


def layouts() -> nn.Module:
    """Every way in which a weight's axes can lie: grouped, depthwise, transposed (2 x 2 with stride 2)."""
    up = nn.ConvTranspose2d(4, 2, 2, stride=2)
    grouped, dw = conv(4, 4, 1, groups=2), conv(4, 4, 1, groups=4)
    net = single(stem=conv(3, 4, 1), grouped=grouped, dw=dw, up=up, out=conv(2, 1, 1))
    pairs = [[1, 2], [3, 4], [5, 6], [7, 8]]  # of `grouped` by output, of `up` by input
    stem = [[1, 0, 0], [0, -2, 0], [0, 0, 3], [-4, 0, 0]]
    net = put(net, stem__weight=stem, grouped__weight=pairs, dw__weight=[[1], [-2], [3], [-4]], up__weight=pairs)
    return put(net, out__weight=[[2, -3]])


def flat() -> nn.Module:
    """Two channels of 2 x 2 cells each that a linear layer reads flattened."""
    net = single(a=conv(3, 2, 1), pool=nn.AdaptiveAvgPool2d(2), flatten=nn.Flatten(), fc=nn.Linear(8, 1))
    return put(net, a__weight=A, fc__weight=[[1, 1, 1, -1, 2, 2, -2, 2]])


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("l1", [(5 + 2) / 2, (7 + 17) / 2]),
        ("l2", [(3 + 2) / 2, (5 + 13) / 2]),
        ("slim", [(1 + 3) / 2, (2 + 0.5) / 2]),
        ("group_slim", [math.sqrt(1 + 9), math.sqrt(4 + 0.25)]),
        ("group_norm", [math.sqrt(9 + 4 + 1 + 9 + 10), math.sqrt(25 + 169 + 4 + 0.25 + 20)]),
        ("fpgm", [(math.sqrt(6) + math.sqrt(173)) / 2] * 2),
    ],
)
def test_channels_of_a_residual(criterion: str, expected: list[float]) -> None:
    assert score(residual(), criterion, "a") == pytest.approx(expected, rel=1e-12)
    assert score(residual(), criterion, "b") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("criterion", "layer", "expected"),
    [
        ("l1", "stem", [1, 2, 3, 4]),
        ("l1", "grouped", [(3 + 1) / 2, (7 + 2) / 2, (11 + 3) / 2, (15 + 4) / 2]),  # a depthwise filter is a second one
        ("l1", "up", [1 + 3 + 5 + 7, 2 + 4 + 6 + 8]),
        ("l2", "up", [math.sqrt(84), math.sqrt(120)]),
        # stem: own filter and what `grouped` reads; grouped: filter, depthwise filter once, what `up` reads
        ("group_norm", "stem", np.sqrt([1 + 1 + 9, 4 + 4 + 16, 9 + 25 + 49, 16 + 36 + 64])),
        ("group_norm", "grouped", np.sqrt([5 + 1 + 5, 25 + 4 + 25, 61 + 9 + 61, 113 + 16 + 113])),
        ("group_norm", "dw", np.sqrt([5 + 1 + 5, 25 + 4 + 25, 61 + 9 + 61, 113 + 16 + 113])),
        ("group_norm", "up", np.sqrt([84 + 4, 120 + 9])),
    ],
)
def test_rows_and_columns_of_weights(criterion: str, layer: str, expected: list[float]) -> None:
    assert score(layouts(), criterion, layer) == pytest.approx(list(expected), rel=1e-12)


def test_a_grouped_transposed_convolution() -> None:
    net = single(stem=conv(3, 4, 1), up=nn.ConvTranspose2d(4, 4, 1, groups=2), out=conv(4, 1, 1))
    pairs = [[1, 2], [3, 4], [5, 6], [7, 8]]  # inputs 0, 1 make outputs 0, 1
    net = put(net, stem__weight=[[0, 0, 0]] * 4, up__weight=pairs, out__weight=[[0, 0, 0, 0]])
    assert score(net, "l1", "up") == [1 + 3, 2 + 4, 5 + 7, 6 + 8]
    assert score(net, "group_norm", "stem") == pytest.approx(np.sqrt([5, 25, 61, 113]).tolist())


def test_a_flattened_channel_has_several_columns() -> None:
    assert score(flat(), "group_norm", "a") == pytest.approx([math.sqrt(9 + 4), math.sqrt(25 + 16)])
    gradients = filled(flat(), fc__weight=3.0, a__bias=[0, 0], a__weight=0)
    assert score(flat(), "group_hessian", "a", gradients) == pytest.approx([4 * 9 / 2, 16 * 9 / 2])
    # the columns cost 4 and the filter 3 multiply-adds in each of 64 cells
    each = score(flat(), "l1", "a", per_multiply_add=True)
    assert each == pytest.approx([5 / (3 * 64 + 4), 7 / (3 * 64 + 4)])


def test_fpgm_is_the_sum_of_distances() -> None:
    net = put(single(a=conv(3, 3, 1), out=conv(3, 2, 1)), a__weight=[[0, 0, 0], [3, 0, 0], [0, -4, 0]])
    assert score(net, "fpgm", "a") == pytest.approx([3 + 4, 3 + 5, 4 + 5])
    filters = chain(40).body[0][0].weight.detach().flatten(1)
    expected = [float(sum((one - other).norm() for other in filters)) for one in filters]
    assert score(chain(40), "fpgm", "body.0.0") == pytest.approx(expected, rel=1e-6)


def test_lamp_divides_by_what_is_not_smaller() -> None:
    net = put(single(a=conv(3, 3, 1), out=conv(3, 2, 1)), a__weight=[[0, 3, 4], [1, 2, 2], [0, 0, 4]])
    assert score(net, "lamp", "a", normalize=None) == pytest.approx([1, 9 / (9 + 16 + 25), 16 / (16 + 25)])
    assert score(net, "lamp", "a") == [25, 9, 16]


def test_lamp_of_equal_filters_is_equal() -> None:
    net = put(single(a=conv(3, 3, 1), out=conv(3, 2, 1)), a__weight=[[1, 0, 0], [0, 1, 0], [0, 0, 2]])
    assert score(net, "lamp", "a", normalize=None) == pytest.approx([1 / 6, 1 / 6, 1])


def test_taylor_adds_the_gates_of_a_group_then_squares_then_averages() -> None:
    net = residual()
    wrong = {"a__weight": 100.0, "b__bias": 100.0}  # layers with a batch norm are no gates
    first = filled(net, abn__weight=[1, 1], abn__bias=[2, 0], bbn__weight=[1, 2], bbn__bias=[0, 1], **wrong)
    second = filled(net, abn__weight=[3, 0], abn__bias=[0, 5], bbn__weight=[0, 4], bbn__bias=[7, -1], **wrong)
    assert score(net, "group_taylor", "a", first) == [(1 + 2 - 3 + 0) ** 2, (-2 + 0 + 1 + 2) ** 2]
    assert score(net, "group_taylor", "a", second) == [(3 + 0 + 0 + 0) ** 2, (0 + 0 + 2 - 2) ** 2]
    assert score(net, "group_taylor", "a", first, second) == [(0 + 9) / 2, (1 + 0) / 2]


def test_taylor_without_batch_norms() -> None:
    net = put(layouts(), stem__bias=[1, 0, 0, -1], up__bias=[0, 1], grouped__bias=[0, 0, 0, 1], dw__bias=[0, 0, 0, 2])
    gradients = filled(net, stem__weight=1, stem__bias=2, up__weight=1, up__bias=1, grouped__weight=1, dw__weight=2)
    assert score(net, "group_taylor", "stem", gradients) == [(1 + 2) ** 2, 2**2, 3**2, (-4 - 2) ** 2]
    assert score(net, "group_taylor", "up", gradients) == [16**2, 21**2]
    assert score(net, "group_taylor", "dw", gradients) == [(3 + 2) ** 2, (7 - 4) ** 2, (11 + 6) ** 2, (15 - 8) ** 2]


def gated(net: nn.Module, x: torch.Tensor, at: Callable[[str], bool]) -> np.ndarray:
    """The derivative of the loss by a factor on each group, put on the outputs of layers by name."""
    channel_map, net = map_of(net), copy.deepcopy(net).eval()
    gates = torch.ones(len(channel_map.channels), dtype=torch.float64, requires_grad=True)
    for name, module in net.named_modules():
        if name in channel_map.layers and at(name):
            groups = torch.as_tensor(channel_map.layers[name].outputs)
            module.register_forward_hook(lambda _, __, output, groups=groups: output * gates[groups].view(1, -1, 1, 1))
    net(x).square().sum().backward()
    return gates.grad.numpy()


def test_taylor_is_the_first_order_change_of_the_loss() -> None:
    net = csp_net()  # each convolution but the last has a batch norm
    modules = dict(net.named_modules())
    each = [
        gated(net, image(net, 8, seed=s), lambda n: n == "out" or isinstance(modules[n], nn.BatchNorm2d))
        for s in (0, 1)
    ]
    scores = CRITERIA["group_taylor"](map_of(net), net, gradients_of(net, 2))
    made = map_of(net).channels > 0
    assert scores[made] == pytest.approx(np.mean(np.square(each), axis=0)[made], rel=1e-9)
    bare = layouts()
    expected = gated(bare, image(bare, 8, seed=0), lambda name: True) ** 2
    scores, made = CRITERIA["group_taylor"](map_of(bare), bare, gradients_of(bare, 1)), map_of(bare).channels > 0
    assert scores[made] == pytest.approx(expected[made], rel=1e-9)


def test_hessian_is_half_of_squared_weights_times_squared_gradients() -> None:
    net = residual()
    ones, threes = ({name: torch.full_like(p, value) for name, p in net.named_parameters()} for value in (1.0, 3.0))
    weights = [9 + 49 + 1 + 1 + 4 + 0 + 9 + 0 + 10, 25 + 0 + 4 + 0 + 169 + 64 + 0.25 + 4 + 20]
    assert score(net, "group_hessian", "b", ones, threes) == pytest.approx([w * (1 + 9) / 2 / 2 for w in weights])
    some = filled(net, abn__weight=[1, 2], b__weight=[3, 0], out__weight=[2, 0])  # out: the first filter alone
    expected = [(1 * 1 + 4 * 9 + 1 * 4) / 2, (4 * 4 + 4 * 4) / 2]
    assert score(net, "group_hessian", "a", some) == pytest.approx(expected)
    assert score(layouts(), "group_hessian", "dw", filled(layouts(), dw__weight=2)) == [2, 8, 18, 32]


def test_hessian_counts_each_parameter_once() -> None:
    """A convolution added to its own input: the weight from a channel to itself is in a row and in a column."""
    net = Net(lambda n, x: n.out((first := n.a(x)) + n.b(first)), a=conv(3, 2, 1), b=conv(2, 2, 1), out=conv(2, 1, 1))
    net = put(net, b__weight=[[1, 2], [3, 4]])
    expected = [(1 + 4 + 9) * 4 / 2, (4 + 9 + 16) * 4 / 2]
    assert score(net, "group_hessian", "a", filled(net, b__weight=2)) == expected


def test_random_is_fixed_and_has_no_ties() -> None:
    first, second = (CRITERIA["random"](map_of(csp_net()), csp_net()) for _ in range(2))
    assert (first == second).all() and len(np.unique(first)) == len(first) and not np.isnan(first).any()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("none", [[1, 2, 3, 6], [3, 0.75]]),
        ("mean", [[1 / 3, 2 / 3, 1, 2], [1.6, 0.4]]),
        ("max", [[1 / 6, 1 / 3, 1 / 2, 1], [1, 0.25]]),
        ("gaussian", [np.array([-2, -1, 0, 3]) / math.sqrt(14 / 4), [1, -1]]),
        ("lamp", [[1 / 12, 2 / 11, 3 / 9, 1], [1, 0.75 / 3.75]]),
    ],
)
def test_normalizers(how: str, expected: list) -> None:
    net = single(a=conv(3, 4, 1), b=conv(4, 2, 1), zero=conv(2, 3, 1), out=conv(3, 1, 1))
    net = put(net, a__weight=[[1, 0, 0], [-1, 1, 0], [0, 0, -3], [1, 2, 3]], b__weight=[[3, 0, 0, 0], [0, 0, 0, -0.75]])
    assert score(net, "l1", "a", normalize=how) == pytest.approx(list(expected[0]))
    assert score(net, "l1", "b", normalize=how) == pytest.approx(list(expected[1]))
    assert score(put(net, zero__weight=[[0, 0]] * 3), "l1", "zero", normalize=how) == [0, 0, 0]


def test_a_group_of_several_layers_gets_the_mean_of_what_it_has_in_them() -> None:
    layers = {"a": conv(3, 2, 1), "c": conv(3, 1, 1), "b": conv(3, 3, 1), "out": conv(3, 1, 1)}
    net = Net(lambda n, x: n.out(torch.cat([n.a(x), n.c(x)], 1) + n.b(x)), **layers)
    net = put(net, a__weight=[[2, 0, 0], [0, 4, 0]], c__weight=[[0, 0, 6]], b__weight=[[4, 0, 0], [8, 0, 0], [0, 0, 0]])
    assert score(net, "l1", "b") == [3, 6, 3]
    expected = [(3 / 4.5 + 3 / 4) / 2, (6 / 4.5 + 6 / 4) / 2, (3 / 3 + 3 / 4) / 2]
    assert score(net, "l1", "b", normalize="mean") == pytest.approx(expected)


def test_group_fisher_is_half_the_mean_square_of_what_the_outputs_say() -> None:
    net = chain(3, 4)
    groups = len(map_of(net).channels)
    effects = [np.arange(groups) * 1.0, np.full(groups, 3.0)]
    assert CRITERIA["group_fisher"](map_of(net), net, effects).tolist() == [(g * g + 9) / 4 for g in range(groups)]
    assert CRITERIA["group_fisher"](map_of(net), net, []).tolist() == [0.0] * groups


def test_default_normalizers() -> None:
    net = csp_net()
    channel_map, gradients = map_of(net), gradients_of(net)
    effects = effects_of(net, channel_map)
    expected = {**dict.fromkeys(("l1", "l2", "group_norm", "fpgm"), "mean"), "lamp": "lamp"}
    assert {*CRITERIA} == {*BY_WEIGHTS, *BY_SCALES, *BY_IMAGES, *BY_OUTPUTS} and {*NORMALIZERS} >= {
        "none",
        "max",
        "gaussian",
    }
    for name, criterion in CRITERIA.items():
        seen = effects if name in BY_OUTPUTS else gradients
        default = criterion(channel_map, net, seen)
        named = criterion(channel_map, net, seen, normalize=expected.get(name, "none"))
        np.testing.assert_array_equal(default, named, name)
        assert scoring(name).settings()["normalize"] == expected.get(name, "none")


def test_per_multiply_add() -> None:
    net = layouts()  # 8 x 8 cells up to `up`, 16 x 16 behind it
    costs = {
        "stem": 64 * (3 + 2),  # the filter, and the two filters of `grouped` that read it
        "grouped": 64 * (2 + 1 + 2 * 4),  # the filter, the depthwise one, two columns of 2 x 2 in `up`
        "up": 64 * 4 * 4 + 256,
    }
    for layer, cost in costs.items():
        expected = [value / cost for value in score(net, "l1", layer)]
        assert score(net, "l1", layer, per_multiply_add=True) == pytest.approx(expected), layer
    normalized = [value / 320 for value in score(net, "l1", "stem", normalize="max")]
    assert score(net, "l1", "stem", normalize="max", per_multiply_add=True) == pytest.approx(normalized)


def test_per_multiply_add_is_what_removing_a_group_saves() -> None:
    net = chain(8, 5, 12)
    channel_map = map_of(net)
    scores = CRITERIA["l1"](channel_map, net)
    macs = scores / CRITERIA["l1"](channel_map, net, per_multiply_add=True)
    for group in np.flatnonzero(channel_map.free):
        kept = np.arange(len(channel_map.channels)) != group
        assert macs[group] == pytest.approx(cost_of(channel_map).macs - cost_of(channel_map, kept).macs)
    # each layer's multiply-adds are in the groups that it makes, and again in those that it reads
    body = [layer for layer in channel_map.layers.values() if layer.has_filters]
    makes = [len(la.inputs) * len(la.outputs) * la.kernel_cells * la.cells for la in body]
    assert macs[channel_map.free].sum() == pytest.approx(2 * sum(makes) - makes[0] - makes[-1])


def test_scores_rank_as_those_of_torch_pruning() -> None:
    net = chain(8, 6, 10)
    magnitude, channel_map = tp.importance.MagnitudeImportance, map_of(net)
    hessian = tp.importance.GroupHessianImportance(group_reduction="sum", normalizer=None)
    with torch.no_grad():  # it leaves the betas out
        for name, parameter in net.named_parameters():
            parameter.mul_(0 if name.endswith(".1.bias") else 1)
    batches = gradients_of(net)
    for name, parameter in net.named_parameters():  # its h is what lies in .grad
        parameter.grad = (batches[0][name].square() + batches[1][name].square()) / 2
    same = {
        "l1": (magnitude(p=1, group_reduction="first", normalizer=None), lambda ours: ours),
        "l2": (magnitude(p=2, group_reduction="first", normalizer=None), np.square),
        "slim": (tp.importance.BNScaleImportance(group_reduction="mean", normalizer=None), lambda ours: ours),
        "group_norm": (magnitude(p=2, group_reduction="sum", normalizer=None), np.square),
        "lamp": (tp.importance.LAMPImportance(p=2, group_reduction="first"), lambda ours: ours),
        "group_hessian": (hessian, lambda ours: 2 * ours),
    }
    graph = tp.DependencyGraph().build_dependency(net, image(net, 8))
    for name, (importance, as_theirs) in same.items():
        normalize = "lamp" if name == "lamp" else "none"
        scores = CRITERIA[name](channel_map, net, batches, normalize=normalize)
        for i in range(3):
            layer = net.body[i][0]
            group = graph.get_pruning_group(layer, tp.prune_conv_out_channels, list(range(layer.out_channels)))
            ours, theirs = scores[channel_map.layers[f"body.{i}.0"].outputs], importance(group).numpy()
            assert (np.argsort(ours) == np.argsort(theirs)).all(), (name, i)
            assert as_theirs(ours) == pytest.approx(theirs, rel=1e-5), (name, i)


def test_fpgm_ranks_as_torch_pruning_where_no_weight_is_negative() -> None:
    """Torch-Pruning compares |w|^p instead of w."""
    net = chain(8, 6)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.abs_()
    graph = tp.DependencyGraph().build_dependency(net, image(net, 8))
    theirs = tp.importance.FPGMImportance(p=1, group_reduction="first", normalizer=None)
    for i in range(2):
        group = graph.get_pruning_group(net.body[i][0], tp.prune_conv_out_channels, list(range((8, 6)[i])))
        assert score(net, "fpgm", f"body.{i}.0") == pytest.approx(theirs(group).tolist(), rel=1e-5)


def test_what_cannot_be_scored_is_nan_and_stays() -> None:
    net = Net(lambda n, x: n.out(torch.cat([n.a(x), n.b(x)], 1)), a=block(3, 4, 1), b=conv(3, 4, 1), out=conv(8, 2, 1))
    channel_map = map_of(net)
    bare = channel_map.layers["b"].outputs
    for how in NORMALIZERS:
        for name in BY_SCALES:
            scores = CRITERIA[name](channel_map, net, normalize=how, per_multiply_add=how != "gaussian")
            assert np.isnan(scores[bare]).all() and not np.isnan(scores[channel_map.layers["a.0"].outputs]).any()
            kept = make_plan(channel_map, scores, prune_ratio=0.3).layers
            assert len(kept["b"].kept_out) == 4 and len(kept["a.0"].kept_out) < 4, (name, how)


@pytest.mark.parametrize("name", BY_IMAGES)
def test_no_batch_tells_nothing(name: str) -> None:
    net = chain(4)
    try:
        scores = CRITERIA[name](map_of(net), net, [])
    except PruningError:
        return
    assert np.isnan(scores).all()


def test_settings_without_sense_are_refused() -> None:
    net = chain(4)
    for settings in ({"criterion": "l3"}, {"normalize": "median"}, {"per": "parameter"}):
        with pytest.raises(PruningError, match=r"unknown .*(l3|median|parameter).*(there are|did you mean)"):
            Scoring(**settings)
    with pytest.raises(PruningError, match="median"):
        score(net, "l1", "out", normalize="median")
    with pytest.raises(PruningError, match="gaussian"):
        score(net, "l1", "out", normalize="gaussian", per_multiply_add=True)
    for name in (*BY_IMAGES, *BY_OUTPUTS):
        with pytest.raises(PruningError, match="images"):
            Scoring(name)
        with pytest.raises(PruningError, match="gradients"):
            score(net, name, "out")


@pytest.mark.parametrize("norm", [nn.Identity(), nn.BatchNorm2d(4, affine=False)])
def test_scales_need_a_batch_norm_that_has_some(norm: nn.Module) -> None:
    net = single(a=conv(3, 4), norm=norm, out=conv(4, 2))
    for name in BY_SCALES:
        with pytest.raises(PruningError, match="batch norm") as error:
            Scoring(name)(map_of(net), net)
        told = str(error.value).split(":")[-1]
        assert all(other in told for other in (*BY_WEIGHTS, *BY_IMAGES, *BY_OUTPUTS)) and "slim" not in told
    for name in (*BY_WEIGHTS, *BY_IMAGES, *BY_OUTPUTS):
        scores = scoring(name)(map_of(net), net)[map_of(net).layers["a"].outputs]
        assert not np.isnan(scores).any(), f"the message says that {name} works without"


@pytest.mark.parametrize("name", CRITERIA)
def test_scoring_leaves_the_network_as_it_is(name: str) -> None:
    net = csp_net().train()
    net.stem.eval()
    net.out.weight.requires_grad_(False)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    before = copy.deepcopy(net)
    scores = [scoring(name, per="multiply-add")(map_of(net), net) for _ in range(2)]
    np.testing.assert_array_equal(*scores)
    for (key, old), new in zip(before.state_dict().items(), net.state_dict().values(), strict=True):
        assert torch.equal(old, new), key
    for old, new in zip(before.parameters(), net.parameters(), strict=True):
        assert old.requires_grad == new.requires_grad and (new.grad is None or (new.grad == 1).all())
    assert [m.training for m in before.modules()] == [m.training for m in net.modules()]


@pytest.mark.parametrize("per", [None, "multiply-add"])
@pytest.mark.parametrize("name", CRITERIA)
def test_a_network_pruned_by_any_criterion_is_the_silenced_one(name: str, per: str | None) -> None:
    net = csp_net()
    result = prune_network(net, speed_up=1.5, scoring=scoring(name, per=per), imgsz=32, fold=False)
    assert result.plan.before.macs >= 1.5 * result.plan.after.macs
    assert result.plan.settings["criterion"] == name and result.plan.settings["per"] == per
    x = image(net, 16)
    assert difference(raw_outputs(silence(net, removed_by(result.plan)), x), raw_outputs(result.model, x)) < 1e-9
