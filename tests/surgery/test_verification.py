"""The check of a cut: exact cuts of untrained networks pass it, and one wrong channel anywhere does not.

What a network puts out says little of a channel far upstream when it is untrained: its signals die on the way.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.zoo_models import named
from helpers.networks import Net, block, conv, set_weights
from ultralytics.pruning import PruningError, Scoring, cut, load, make_plan, pipeline, prune_network, trace
from ultralytics.pruning.plans.plan import LayerPlan, PruningPlan
from ultralytics.pruning.surgery.verification import LARGEST_DIFFERENCE, check, largest_difference, silenced

FAMILIES = [
    "yolov3-tiny",
    "yolov5n",
    "yolov6n",
    "yolov8n",
    "yolov8n-p6",
    "yolov8n-ghost",
    "yolov8n-cls",
    "yolov8n-worldv2",
    "yolov8n-rtdetr",
    "yolov9t",
    "yolov10n",
    "yolo11n",
    "yolo11n-seg",
    "yolo11n-pose",
    "yolo11n-obb",
    "yolo12n",
    "yolo26n",
    "yolo26n-seg",
    "yolo26n-pose",
    "yolo26n-sem",
    "yolo26n-depth",
    "yoloe-11n",
]
ROUNDING = 1e-13


def untrained(name: str, seed: int) -> nn.Module:
    """A network as the release makes it."""
    torch.manual_seed(seed)
    return named(name).build(classes=3)


def planned(model: nn.Module, seed: int = 0) -> PruningPlan:
    """A plan by random scores."""
    channel_map = trace(model)
    scores = np.random.default_rng(seed).random(len(channel_map.channels))
    return make_plan(channel_map, scores, prune_ratio=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_network_passes_whatever_its_seed(seed: int) -> None:
    assert prune_network(untrained("yolov8n", seed), prune_ratio=0.5).difference < ROUNDING


@pytest.mark.parametrize(("seed", "name"), enumerate(FAMILIES))
def test_untrained_networks_of_every_family_pass(seed: int, name: str) -> None:
    model = untrained(name, seed)
    plan = planned(model, seed)
    pruned = copy.deepcopy(model)
    cut(pruned, plan)
    assert check(model, pruned, plan) < ROUNDING


def test_a_trained_network_passes(tau) -> None:
    assert prune_network(load(tau)[0], prune_ratio=0.5, scoring=Scoring()).difference < ROUNDING


# One wrong channel


class Faint(nn.Module):
    """A layer scale and an offset for each channel, as buffer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(1e-3, 1, width))
        self.register_buffer("offset", torch.linspace(-1, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (1, -1, 1, 1)
        return x * self.scale.view(shape) * self.offset.view(shape)


def every_kind() -> Net:
    """A network with a layer of each kind, and signals that hardly reach its end."""

    def run(net: Net, x: torch.Tensor) -> torch.Tensor:
        x = net.faint(net.depthwise(net.plain(x)))
        x = net.up_depthwise(net.up_grouped(net.up(net.grouped(x))))
        x = net.norm(net.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        return net.out(x) * 1e-9 + 2

    return Net(
        run,
        plain=block(3, 12, stride=4),
        depthwise=conv(12, 12, groups=12),
        faint=Faint(12),
        grouped=conv(12, 16, groups=4),
        up=nn.ConvTranspose2d(16, 12, 2, 2),
        up_grouped=nn.ConvTranspose2d(12, 12, 2, 2, groups=3),
        up_depthwise=nn.ConvTranspose2d(12, 12, 3, 1, 1, groups=12),
        linear=nn.Linear(12, 10),
        norm=nn.BatchNorm2d(10),
        out=conv(10, 3, 1),
    )


def faults(original: nn.Module, pruned: nn.Module, name: str, layer: LayerPlan) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields places in a cut layer, and what stands there if one channel is another one: a removed one where it can."""
    module, full = pruned.get_submodule(name), original.get_submodule(name)
    for key, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        if tensor.ndim == 0:
            continue
        whole = full.state_dict()[key]
        for dim in range(min(tensor.ndim, 2)):
            if whole.shape[dim] < 2:
                continue
            wrong = tensor.detach().clone()
            place, others = wrong.select(dim, 0), whole
            if tensor.ndim > 1:  # of the same cut along the other dimension, as far as that can be
                others = whole.narrow(1 - dim, 0, wrong.shape[1 - dim])
            candidates = [others.select(dim, i) for i in reversed(range(others.shape[dim]))]
            other = next((c for c in candidates if c.shape == place.shape and not torch.equal(c, place)), None)
            if other is not None:
                place.copy_(other)
                yield f"{name}.{key}[{dim}]", wrong


def plant(original: nn.Module, plan: PruningPlan, names: list[str], side: int = 64) -> dict[str, float]:
    """Plants one fault after the other in a cut network; returns what the check measures with each."""
    pruned = copy.deepcopy(original)
    cut(pruned, plan)
    image = torch.rand(1, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reference, pruned = silenced(original, plan).double(), pruned.double()
    assert largest_difference(reference, pruned, image, plan) < ROUNDING
    found = {}
    for name in names:
        for place, wrong in faults(original.double(), pruned, name, plan.layers[name]):
            tensor = pruned.get_submodule(name).state_dict()[place.rpartition(".")[2][:-3]]
            right = tensor.clone()
            tensor.copy_(wrong)
            found[place] = largest_difference(reference, pruned, image, plan)
            tensor.copy_(right)
    assert largest_difference(reference, pruned, image, plan) < ROUNDING, "the faults were not taken back"
    return found


@pytest.mark.parametrize("trained", [True, False])
def test_one_wrong_channel_in_each_kind_of_layer_is_seen(trained: bool) -> None:
    torch.manual_seed(0)
    net = every_kind()
    if not trained:
        for module in net.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    plan = planned(net)
    names = [name for name, layer in plan.layers.items() if name in dict(net.named_modules())]
    kinds = {plan.layers[name].type for name in names}
    assert kinds == {"Conv2d", "ConvTranspose2d", "Linear", "BatchNorm2d"}
    assert any(plan.layers[name].removed_out for name in names)
    found = plant(net, plan, names, side=16)
    assert len(found) > (25 if trained else 15)
    missed = [place for place, difference in found.items() if not difference > 100 * LARGEST_DIFFERENCE]
    assert not missed


@pytest.mark.parametrize("name", ["yolov8n", "yolo26n-pose", "tau"])
def test_one_wrong_channel_in_a_network_of_the_release_is_seen(name: str, request: pytest.FixtureRequest) -> None:
    model = load(request.getfixturevalue("tau"))[0] if name == "tau" else untrained(name, seed=1)
    plan = planned(model.float())
    cut_layers = [key for key, layer in plan.layers.items() if layer.removed_out]
    names = [cut_layers[i] for i in np.linspace(0, len(cut_layers) - 1, 4).round().astype(int)]
    found = plant(model, plan, names, side=32)
    assert len(found) >= 4
    assert all(difference > 100 * LARGEST_DIFFERENCE for difference in found.values()), found


@pytest.mark.parametrize("kind", ["scale", "offset"])
def test_a_wrong_value_of_a_tensor_with_a_value_for_each_channel_is_seen(kind: str) -> None:
    net = every_kind()
    plan = planned(net)
    pruned = copy.deepcopy(net)
    cut(pruned, plan)
    assert len(getattr(pruned.faint, kind)) < 12
    getattr(pruned.faint, kind).data[0] = getattr(net.faint, kind)[plan.layers[f"faint.{kind}"].removed_out[0]]
    with pytest.raises(PruningError, match="differs"):
        check(net, pruned, plan)


def test_a_wrong_weight_behind_a_channel_at_zero_is_seen() -> None:
    """After a sparsity training, a channel that a floor keeps is zero in every run; what reads it is not."""
    net = set_weights(Net(lambda net, x: net.out(net.b(net.a(x))), a=block(3, 8), b=block(8, 8), out=conv(8, 2)))
    plan = planned(net)
    dead = plan.layers["a.0"].kept_out[0]
    net.a[1].weight.data[dead] = net.a[1].bias.data[dead] = 0
    pruned = copy.deepcopy(net)
    cut(pruned, plan)
    assert check(net, pruned, plan) < ROUNDING
    place = plan.layers["b.0"].kept_in.index(dead)
    pruned.b[0].weight.data[:, place] = pruned.b[0].weight.data[:, place - 1]
    with pytest.raises(PruningError, match="differs"):
        check(net, pruned, plan)


@pytest.mark.parametrize("name", ["yolov8n"])
def test_a_plan_in_which_a_layer_reads_another_channel_is_seen(name: str) -> None:
    """As if the tracing had been wrong: every layer is cut as planned, but two of them do not fit together."""
    model = untrained(name, seed=2)
    plan = planned(model)
    readers = [
        key
        for key, layer in plan.layers.items()
        if layer.type == "Conv2d" and len(layer.kept_in) < layer.in_before and model.get_submodule(key).groups == 1
    ]
    for key in [readers[i] for i in np.linspace(0, len(readers) - 1, 4).round().astype(int)]:
        layer = plan.layers[key]
        gone = sorted({*range(layer.in_before)} - {*layer.kept_in})[0]
        kept = tuple(sorted({*layer.kept_in[1:], gone}))
        wrong = replace(plan, layers={**plan.layers, key: replace(layer, kept_in=kept)})
        pruned = copy.deepcopy(model)
        cut(pruned, wrong)
        with pytest.raises(PruningError, match="differs"):
            check(model, pruned, wrong)


def test_a_tensor_that_the_plan_leaves_alone_must_be_the_same() -> None:
    model = untrained("yolov8n", seed=0)
    plan = planned(model)
    pruned = copy.deepcopy(model)
    cut(pruned, plan)
    pruned.model[-1].dfl.conv.weight.data.flatten()[3] += 1
    with pytest.raises(PruningError, match="differs"):
        check(model, pruned, plan)


def test_a_cut_that_is_wrong_is_refused(monkeypatch) -> None:
    """Through the whole pipeline, where a slip of the surgery would show."""
    from ultralytics.pruning.surgery import cut as surgery

    pick = surgery._pick
    slips = iter([True])

    def slipping(tensor, dim, kept):
        if tensor is not None and tensor.ndim == 4 and 0 not in kept and next(slips, False):
            kept = [0, *kept[1:]]
        return pick(tensor, dim, kept)

    monkeypatch.setattr(surgery, "_pick", slipping)
    with pytest.raises(PruningError, match="differs"):
        pipeline.prune_network(untrained("yolov8n", seed=0), prune_ratio=0.5)
    assert next(slips, None) is None, "nothing was planted"
