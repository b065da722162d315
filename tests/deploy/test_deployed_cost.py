"""Costs are those of the network that is deployed, at the image size that it is used with."""

import argparse
import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from benchmarks.zoo_models import named
from helpers.networks import Net, block, conv, image, layers_run, set_weights
from ultralytics.pruning import PruningPlan, cost_of, cut, make_plan, plots, prune_network, release, save, trace
from ultralytics.pruning.deploy import exporting
from ultralytics.pruning.latency.shapes import shapes_of
from ultralytics.pruning.plans.plan import Cost
from ultralytics.pruning.plans.tables import cost_table, deployed_note
from ultralytics.pruning.sparsity import Settings, SparsityRun
from ultralytics.utils import DEFAULT_CFG_DICT


def network(name: str) -> nn.Module:
    return set_weights(named(name).build(classes=10))


def planned(model: nn.Module, **how) -> PruningPlan:
    channel_map = trace(model, **how)
    return make_plan(channel_map, np.random.default_rng(0).random(len(channel_map.channels)), prune_ratio=0.5)


def unfolded(model: nn.Module) -> int:
    """Parameters of the fused network, one more for each bias that was a batch norm with two, and merged branches."""
    fused = copy.deepcopy(model).eval().fuse(verbose=False)
    before = dict(model.named_modules())
    became = sum(
        module.bias.numel()
        for name, module in fused.named_modules()
        if isinstance(module, nn.Conv2d) and module.bias is not None and getattr(before[name], "bias", None) is None
    )
    branches = [m.conv1 for m in model.modules() if type(m).__name__ == "RepVGGDW"]  # merged into one convolution
    merged = sum(p.numel() for branch in branches for p in branch.parameters())
    return sum(p.numel() for p in fused.parameters()) + became + merged


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("yolov8n", 320),
        ("yolov9t", 320),
        ("yolov10n", 320),
        ("yolov10n", 640),
        ("yolo26n", 640),
        ("yolo26n-seg", 320),
        ("yolo26n-pose", 320),
        ("yolov8n-rtdetr", 320),
    ],
)
def test_multiply_adds_are_those_of_the_fused_network(name: str, side: int) -> None:
    model = network(name)
    plan = planned(model, imgsz=side)
    x = image(model, side, batch=1)
    assert plan.before.macs == sum(layers_run(model, x, deployed=True).values())
    assert plan.before.params == sum(p.numel() for p in model.parameters())
    cut(model, plan)
    assert plan.after.macs == sum(layers_run(model, x, deployed=True).values())
    assert plan.after.params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["yolov8n", "yolov10n", "yolo26n", "yolo26n-seg", "yolo26n-pose"])
def test_parameters_are_those_of_the_fused_network(name: str) -> None:
    model = network(name)
    plan = planned(model)
    for cost in (plan.before, plan.after):
        assert cost.deployed == unfolded(model)
        assert (cost.training_only > 0) == (name != "yolov8n")
        cut(model, plan) if cost is plan.before else None


def test_an_exported_file_holds_what_is_counted(tmp_path) -> None:
    """Counted from the ONNX alone: the numbers of each convolution's weights times the cells of its output."""
    model = network("yolov10n")
    model.task, model.names = "detect", {i: str(i) for i in range(10)}
    pruned = prune_network(model, prune_ratio=0.5, imgsz=64)
    save(pruned.model, tmp_path / "best.pt", train_args={"task": "detect", "imgsz": 64})
    with release.quiet_release():
        file = exporting.export_by_release(tmp_path / "best.pt", {"format": "onnx", "imgsz": 64, "device": "cpu"})
    graph = onnx.shape_inference.infer_shapes(onnx.load(file)).graph
    sizes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.value_info}
    weights = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    macs = sum(
        weights[node.input[1]] * int(np.prod(sizes[node.output[0]][2:]))
        for node in graph.node
        if node.op_type == "Conv"
    )
    assert macs == pruned.plan.after.macs


def test_a_plan_keeps_its_keys_and_says_what_is_not_deployed() -> None:
    plan = planned(network("yolov10n"))
    data = plan.to_dict()["cost"]
    assert data["before"].keys() == {"params", "macs", "training_only"}
    assert PruningPlan.from_dict(plan.to_dict()).after == plan.after
    assert planned(network("yolov8n")).to_dict()["cost"]["before"].keys() == {"params", "macs"}
    assert Cost(10, 5) == Cost(**{"params": 10, "macs": 5}) and Cost(10, 5).deployed == 10  # of an earlier version
    assert f"{plan.before.training_only:,}" in cost_table(plan) and f"{plan.after.deployed:,}" in cost_table(plan)
    assert deployed_note(Cost(10, 5)) == ""


def test_targets_are_those_of_the_deployed_network() -> None:
    model = network("yolo26n")
    channel_map = trace(model, imgsz=320)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    plan = make_plan(channel_map, scores, speed_up=2)
    assert plan.before.macs / plan.after.macs == pytest.approx(2, rel=0.02)
    wanted = plan.before.deployed // 2
    assert make_plan(channel_map, scores, target_params=wanted).after.deployed == pytest.approx(wanted, rel=0.02)
    heads = [name for name, layer in channel_map.layers.items() if not layer.deployed and layer.has_filters]
    assert heads and not set(heads) & set(shapes_of(model, channel_map, 64))
    assert any(plan.layers[name].removed_out for name in heads), "the other head is cut as well"


def test_a_branch_that_only_runs_in_training_is_not_counted() -> None:
    """In a network that the release does not know."""

    def run(net: Net, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        x = net.stem(x)
        return (net.out(x), net.extra(x)) if net.training else net.out(x)

    channel_map = trace(Net(run, stem=block(3, 8), out=conv(8, 2), extra=conv(8, 5)))
    assert {name for name, layer in channel_map.layers.items() if not layer.deployed} == {"extra"}
    assert cost_of(channel_map).training_only == 8 * 5 * 9 + 5


# The image size


@pytest.mark.parametrize("imgsz", [320, (192, 320)])
def test_a_target_of_a_sparsity_training_is_met_at_its_image_size(imgsz) -> None:
    """An RT-DETR asks 300 queries at any size, so that its head weighs more in a small image."""
    model = network("yolov8n-rtdetr").float()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    own = {"sparsity": "proximal", "target_speed_up": 1.5}
    run = SparsityRun(model, Settings.of(argparse.Namespace(**{**DEFAULT_CFG_DICT, **own})), imgsz)
    expected, at_640 = cost_of(trace(model, imgsz=imgsz)).macs, cost_of(trace(model, imgsz=640)).macs
    assert cost_of(run.mode._regulation._map).macs == expected
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    assert expected > at_640 * height * width / 640**2 * 1.05


@pytest.mark.parametrize("trained_at", [320, [320, 192], None])
def test_looking_at_a_checkpoint_counts_at_the_size_of_its_training(trained_at, tmp_path, monkeypatch) -> None:
    model = network("yolov8n")
    save(model, tmp_path / "a.pt", train_args={"task": "detect", "imgsz": trained_at} if trained_at else {})
    asked = []
    monkeypatch.setattr(plots.networks, "trace", lambda model, imgsz: asked.append(imgsz) or trace(model, imgsz=64))
    plots.network_gammas(tmp_path / "a.pt", "a")
    assert asked == [trained_at or 640]
