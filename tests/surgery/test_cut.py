"""Tests of what a choice of channels becomes: its cost, its plan, and the cut."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.networks import (
    LAYERS,
    Net,
    block,
    chain,
    conv,
    csp_net,
    difference,
    image,
    layers_run,
    letters,
    raw_outputs,
    removed_by,
    silence,
    without,
    yolo,
)
from ultralytics.pruning import ChannelMap, PruningError, PruningPlan, cost_of, cut, make_plan, trace
from ultralytics.pruning.plans.plan import plan_from
from ultralytics.pruning.surgery.cut import PlanMismatchError

COUNTED = ["yolov8n", "yolov8n-seg", "yolov8n-cls"]
BEHIND_UNKNOWN = pytest.param(
    "yolo11n",
)


def random_plan(channel_map: ChannelMap, ratio: float = 0.5, seed: int = 0, **settings) -> PruningPlan:
    """A plan by random scores."""
    scores = np.random.default_rng(seed).random(len(channel_map.channels))
    return make_plan(channel_map, scores, prune_ratio=ratio, settings=settings)


def parameters(model: nn.Module) -> int:
    """How many parameters a network has."""
    return sum(p.numel() for p in model.parameters())


def state_bytes(model: nn.Module) -> dict[str, bytes]:
    """The bytes of all weights and buffers."""
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def attributes(model: nn.Module) -> dict[str, dict[str, object]]:
    """All numbers that modules store, e.g. their widths."""
    return {
        name: {key: value for key, value in vars(module).items() if isinstance(value, (int, float, str, tuple))}
        for name, module in model.named_modules()
    }


# Cost


@pytest.mark.parametrize("name", [*COUNTED, BEHIND_UNKNOWN])
def test_cost_is_what_running_it_counts(name: str) -> None:
    model = yolo(name)
    channel_map = trace(model, imgsz=160)
    plan = random_plan(channel_map)
    x = image(model, 160)
    for cost in (cost_of(channel_map), plan.before):
        assert cost.params == parameters(model)
        assert cost.macs == sum(layers_run(model, x).values())
    cut(model, plan)
    assert plan.after.params == parameters(model) < plan.before.params
    assert plan.after.macs == sum(layers_run(model, x).values()) < plan.before.macs


def test_cost_of_a_tiny_network_by_hand() -> None:
    """A 3x3 convolution from 3 to 4 with a bias at 8 x 8, a batch norm, a 1x1 convolution from 4 to 2 at 4 x 4."""
    net = Net(lambda n, x: n.out(n.bn(n.a(x))[:, :, ::2, ::2]), a=conv(3, 4), bn=nn.BatchNorm2d(4), out=conv(4, 2, 1))
    channel_map = trace(net, image(net, 8))
    cost = cost_of(channel_map)
    assert cost.params == (3 * 4 * 9 + 4) + 2 * 4 + (4 * 2 + 2)
    assert cost.macs == 3 * 4 * 9 * 64 + 4 * 2 * 16
    assert cost.gflops == 2 * cost.macs / 1e9
    cost = cost_of(channel_map, without(channel_map, "e"))
    assert cost.params == (3 * 3 * 9 + 3) + 2 * 3 + (3 * 2 + 2)
    assert cost.macs == 3 * 3 * 9 * 64 + 3 * 2 * 16


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(csp_net(), id="grouped and depthwise"),
        pytest.param(
            Net(
                lambda n, x: n.out(n.t(n.a(x))),
                a=conv(3, 4),
                t=nn.ConvTranspose2d(4, 6, 2, 2, groups=2),
                out=conv(6, 2),
            ),
            id="transposed and grouped",
        ),
        pytest.param(
            Net(lambda n, x: n.out(n.s(n.s(n.a(x)))), a=conv(3, 4), s=conv(4, 4, stride=2), out=conv(4, 2)),
            id="a layer called twice",
        ),
        pytest.param(
            Net(
                lambda n, x: n.out(n.a(x) + n.p.view(1, -1, 1, 1)),
                a=conv(3, 2),
                p=nn.Parameter(torch.ones(2)),
                out=block(2, 2),
            ),
            id="a parameter outside of layers",
        ),
        pytest.param(
            Net(lambda n, x: n.out(n.a(x).permute(0, 2, 3, 1)), a=conv(3, 4), out=nn.Linear(4, 2)),
            id="linear on places",
        ),
    ],
)
def test_cost_of_special_layers(net: Net) -> None:
    x = image(net, 8)
    cost = cost_of(trace(net, x))
    assert cost.params == parameters(net)
    assert cost.macs == sum(layers_run(net, x).values())


def test_cost_of_a_linear_layer_on_places_grows_with_the_image() -> None:
    net = Net(lambda n, x: n.out(n.a(x).flatten(2).transpose(1, 2)), a=conv(3, 4), out=nn.Linear(4, 2))
    assert cost_of(trace(net, imgsz=160)).macs == sum(layers_run(net, image(net, 160)).values())


# Plan


@pytest.mark.parametrize("name", [*COUNTED, BEHIND_UNKNOWN])
def test_a_plan_has_each_layer_that_runs_with_its_widths(name: str) -> None:
    model = yolo(name)
    x = image(model, 64)
    before = {layer: (type(m := model.get_submodule(layer)).__name__, *widths(m)) for layer in layers_run(model, x)}
    plan = random_plan(trace(model), imgsz=640)
    cut(model, plan)
    data = json.loads(plan.to_json())
    assert data["layers"].keys() == before.keys()
    for layer, entry in data["layers"].items():
        assert (entry["type"], entry["in_before"], entry["out_before"]) == before[layer]
        assert (len(entry["in"]), len(entry["out"])) == widths(model.get_submodule(layer))
        for side in ("in", "out"):
            assert entry[side] == sorted(set(entry[side]))
            assert set(entry[side]) <= set(range(entry[f"{side}_before"]))


def widths(module: nn.Module) -> tuple[int, int]:
    """Input and output channels of a layer, read off its tensors as well as its attributes."""
    if isinstance(module, nn.BatchNorm2d):
        assert len(module.weight) == len(module.bias) == len(module.running_mean) == len(module.running_var)
        assert module.num_features == len(module.weight)
        return module.num_features, module.num_features
    assert module.bias is None or len(module.bias) == module.weight.shape[isinstance(module, nn.ConvTranspose2d)]
    if isinstance(module, nn.Linear):
        assert (module.out_features, module.in_features) == module.weight.shape
        return module.in_features, module.out_features
    shape = [module.out_channels, module.in_channels // module.groups]
    if isinstance(module, nn.ConvTranspose2d):
        shape = [module.in_channels, module.out_channels // module.groups]
    assert list(module.weight.shape[:2]) == shape
    return module.in_channels, module.out_channels


def test_a_plan_is_plain_data_in_the_promised_form() -> None:
    plan = random_plan(trace(yolo("yolov8n")), criterion="random", imgsz=640)
    plan = plan.with_source({"file": "best.pt", "sha256": "0" * 64}, {"trace": 0.1, "select": 0.2, "cut": 0.3})
    data = json.loads(plan.to_json())
    promised = {"format", "source", "settings", "cost", "seconds", "pinned", "layers"}
    assert promised <= data.keys() <= promised | {"limits", "widths", "blocks"}
    assert data["format"] == 1
    assert data["source"] == {"file": "best.pt", "sha256": "0" * 64}
    assert data["settings"]["prune_ratio"] == 0.5 and data["settings"]["criterion"] == "random"
    assert data["cost"] == {
        "before": {"params": plan.before.params, "macs": plan.before.macs},
        "after": {"params": plan.after.params, "macs": plan.after.macs},
    }
    assert data["seconds"] == {"trace": 0.1, "select": 0.2, "cut": 0.3}
    assert data["pinned"] == {"output": 3 * (64 + 10)}
    entries = data["layers"].values()
    assert all(entry.keys() == {"type", "in", "out", "in_before", "out_before"} for entry in entries)
    assert all(type(i) is int for entry in entries for i in [*entry["in"], *entry["out"]])
    assert len(plan.to_json().splitlines()) > len(entries), "one line for each layer"


def test_a_plan_survives_json() -> None:
    plan = random_plan(trace(yolo("yolov8n"))).with_source({"file": "best.pt"}, {"trace": 0.1})
    again = PruningPlan.from_json(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()
    assert PruningPlan.from_dict(plan.to_dict()) == plan


def test_a_plan_of_another_format_is_refused() -> None:
    data = random_plan(trace(yolo("yolov8n"))).to_dict()
    with pytest.raises(ValueError, match="format 2"):
        PruningPlan.from_dict({**data, "format": 2})


def test_a_saved_plan_repeats_the_cut_to_the_byte(tmp_path: Path) -> None:
    original = yolo("yolov8n")
    plan = random_plan(trace(original))
    (tmp_path / "pruned.json").write_text(plan.to_json(), encoding="utf-8")
    first, second = copy.deepcopy(original), copy.deepcopy(original)
    cut(first, plan)
    cut(second, PruningPlan.from_json((tmp_path / "pruned.json").read_text(encoding="utf-8")))
    assert state_bytes(first) == state_bytes(second) != state_bytes(original)
    assert attributes(first) == attributes(second) != attributes(original)


# Cut


@pytest.mark.parametrize(
    ("planned", "other"),
    [
        ("yolov8n", "yolov8s"),
        ("yolov8n", "yolov8n-cls"),
        ("yolov8n-seg", "yolov8n"),
        ("yolov8n", "yolo11n"),
        pytest.param(
            "yolov8n",
            "yolov8n-seg",
        ),
    ],
)
def test_a_plan_of_another_network_is_refused(planned: str, other: str) -> None:
    plan = random_plan(trace(yolo(planned)))
    model = yolo(other)
    before = state_bytes(model), attributes(model)
    with pytest.raises(PlanMismatchError) as error:
        cut(model, plan)
    assert isinstance(error.value, PruningError) and "\n" not in str(error.value)
    assert (state_bytes(model), attributes(model)) == before


@pytest.mark.parametrize(
    "out", [conv(4, 3), conv(5, 2), nn.Linear(4, 2), nn.ConvTranspose2d(4, 2, 3)], ids=lambda m: type(m).__name__
)
def test_a_plan_names_the_layer_that_does_not_fit(out: nn.Module) -> None:
    net = Net(lambda n, x: n.out(n.a(x)), a=conv(3, 4), out=conv(4, 2))
    channel_map = trace(net, image(net, 8))
    net.out = out
    with pytest.raises(PlanMismatchError, match="out"):
        cut(net, plan_from(channel_map, without(channel_map, "d"), {}))


def test_a_plan_fits_once() -> None:
    model = yolo("yolov8n")
    plan = random_plan(trace(model))
    cut(model, plan)
    with pytest.raises(PlanMismatchError):
        cut(model, plan)


def test_a_cut_keeps_the_named_weights() -> None:
    net = Net(lambda n, x: n.out(n.bn(n.a(x))), a=conv(3, 4), bn=nn.BatchNorm2d(4), out=conv(4, 2))
    before = copy.deepcopy(net)
    channel_map = trace(net, image(net, 8))
    # the image's A, B, C must stay, d to g can go, H and I are the output: see `helpers.networks.letters`
    assert letters(channel_map)[0] == {"a": "ABC>defg", "bn": "defg>defg", "out": "defg>HI"}
    net.a.weight.requires_grad_(False)
    cut(net, plan_from(channel_map, without(channel_map, "df"), {}))
    kept = [1, 3]
    assert net.a.weight.equal(before.a.weight[kept]) and net.a.bias.equal(before.a.bias[kept])
    assert net.out.weight.equal(before.out.weight[:, kept]) and net.out.bias.equal(before.out.bias)
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert getattr(net.bn, name).equal(getattr(before.bn, name)[kept])
    assert net.bn.num_batches_tracked.equal(before.bn.num_batches_tracked)
    assert not net.a.weight.requires_grad and net.a.bias.requires_grad and net.bn.weight.requires_grad
    assert [name for name, _ in net.named_parameters()] == [name for name, _ in before.named_parameters()]
    assert [name for name, _ in net.named_buffers()] == [name for name, _ in before.named_buffers()]
    assert all(p.is_contiguous() and p.is_leaf and p.dtype == torch.float64 for p in net.parameters())


def test_a_plan_that_keeps_all_changes_nothing() -> None:
    model = yolo("yolov8n")
    before = state_bytes(model), attributes(model)
    cut(model, random_plan(trace(model), ratio=0.0))
    assert (state_bytes(model), attributes(model)) == before


def test_a_cut_updates_what_modules_store() -> None:
    model = yolo("yolov8n")
    cut(model, random_plan(trace(model)))
    for block_of_model in model.model:
        assert block_of_model.np == parameters(block_of_model)
    for module in model.modules():
        if isinstance(module, LAYERS):
            widths(module)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("make", [csp_net, lambda: chain(6, 4, 9)], ids=["csp", "chain"])
def test_random_cuts_of_tiny_networks_equal_silence(make, seed: int) -> None:
    net = make()
    plan = random_plan(trace(net, image(net, 16)), ratio=0.3 + 0.1 * seed, seed=seed)
    pruned = copy.deepcopy(net)
    cut(pruned, plan)
    x = image(net, 16, 24)
    expected = raw_outputs(silence(net, removed_by(plan)), x)
    assert difference(expected, raw_outputs(pruned, x)) < 1e-10
    assert difference(expected, raw_outputs(net, x)) > 1e-3
