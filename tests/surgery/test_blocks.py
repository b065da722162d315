"""Residual blocks of which every inner channel goes are taken out whole, and the network says the same without them."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from helpers.networks import Net, block, conv, difference, image, raw_outputs, removed_by, silence, yolo
from helpers.processes.python import run_python
from ultralytics.nn.modules import Bottleneck
from ultralytics.pruning import Limits, PruningPlan, cut, make_plan, prune, save, trace
from ultralytics.pruning.plans.plan import plan_from

# Blocks of these files, by what a reader of the yaml would expect; what they are made of is not looked at here.
BLOCKS = {
    "yolov8n": ["model.2.m.0", "model.4.m.0", "model.4.m.1", "model.6.m.0", "model.6.m.1", "model.8.m.0"],
    "yolov5n": ["model.2.m", "model.4.m", "model.4.m.0", "model.4.m.1", "model.6.m", "model.6.m.2", "model.8.m.0"],
    "yolo11n": ["model.2.m.0", "model.6.m.0.m.0", "model.6.m.0.m.1", "model.10.m.0", "model.16.m.0"],
    "yolov10n": ["model.2.m.0", "model.6.m.1", "model.22.m.0"],
    "yolo12n": ["model.6.m.0.0", "model.6.m.1.1", "model.8.m.1"],
    "yolov8n-ghost": ["model.2.m.0"],
}
NOT_BLOCKS = {"yolov8n": ["model.12.m.0", "model.2", "model.9"], "yolo11n": ["model.6.m.0", "model.9", "model.10"]}


class Residual(nn.Module):
    """x + f(x), whatever f is."""

    def __init__(self, *layers: nn.Module, end: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.end = end or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.end(x + self.body(x))


def residual_net(end: nn.Module | None = None, k: int = 1) -> Net:
    """A stem, a residual block with 5 inner channels, and two readers."""
    residual = Residual(*block(4, 5, k), *block(5, 4, k), end=end)
    layers = {"stem": block(3, 4), "res": residual, "mix": block(4, 6, k), "out": conv(6, 2, 1)}
    return Net(lambda net, x: net.out(net.mix(net.res(net.stem(x)))), **layers)


def without_blocks(model: nn.Module, names: list[str], ratio: float = 0.0) -> PruningPlan:
    """A plan that takes these blocks out, and a share of the other channels."""
    channel_map = trace(model)
    scores = 1 + np.random.default_rng(0).random(len(channel_map.channels))
    for own in channel_map.blocks:
        if own.name in names:
            scores[own.inner] = 0
    inner = sum(channel_map.channels[own.inner].sum() for own in channel_map.blocks if own.name in names)
    share = inner / channel_map.channels[channel_map.free].sum()
    return make_plan(channel_map, scores, prune_ratio=min(share + ratio, 0.9), limits=Limits(floor=0.05))


@pytest.mark.parametrize("name", BLOCKS)
def test_residual_blocks_are_found(name: str) -> None:
    found = {own.name for own in trace(yolo(name)).blocks}
    assert set(BLOCKS[name]) <= found
    assert not found & set(NOT_BLOCKS.get(name, []))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("ratio", [0.0, 0.4])
def test_a_network_without_blocks_equals_one_with_silent_blocks(name: str, ratio: float) -> None:
    model = yolo(name).double()
    names = BLOCKS[name][::2]
    plan = without_blocks(model, names, ratio)
    assert all(own.startswith(plan.blocks) for own in names)  # itself, or what holds nothing else
    pruned = copy.deepcopy(model)
    cut(pruned, plan)
    assert all(type(pruned.get_submodule(own)) is nn.Identity for own in plan.blocks)
    assert sum(p.numel() for p in pruned.parameters()) == plan.after.params
    side = 2 * max(32, int(max(model.stride)))
    x = image(model, side)
    expected = raw_outputs(silence(model, removed_by(plan)), x)
    assert difference(expected, raw_outputs(pruned, x)) < 1e-10
    assert difference(raw_outputs(model, x), expected) > 1e-3, "the blocks did nothing"
    assert PruningPlan.from_json(plan.to_json()) == plan


def test_what_a_faded_block_still_adds_is_folded() -> None:
    net = residual_net()
    with torch.no_grad():
        net.res.body[1].weight.zero_()
    x = image(net, 8)
    before = raw_outputs(net, x)
    channel_map = trace(net, x)
    (own,) = channel_map.blocks
    kept = np.ones(len(channel_map.channels), dtype=bool)
    kept[own.inner] = False
    plan = plan_from(channel_map, kept, {})
    dropped, folded = copy.deepcopy(net), copy.deepcopy(net)
    cut(dropped, plan)
    assert prune(folded, plan, channel_map) == []
    assert type(folded.res) is nn.Identity
    assert difference(before, raw_outputs(folded, x)) < 1e-10
    assert difference(before, raw_outputs(dropped, x)) > 1e-2, "there was nothing to fold"


def test_a_block_that_ends_in_an_activation_stays() -> None:
    assert not trace(residual_net(end=nn.ReLU())).blocks


def test_a_bottleneck_without_a_shortcut_stays() -> None:
    net = Net(lambda n, x: n.out(n.b(n.stem(x))), stem=block(3, 4), b=Bottleneck(4, 4, shortcut=False), out=conv(4, 2))
    assert not trace(net).blocks


def test_blocks_stay_where_a_layer_has_to_keep_channels() -> None:
    net = residual_net()
    channel_map = trace(net)
    scores = np.ones(len(channel_map.channels))
    scores[channel_map.blocks[0].inner] = 0
    for limits in (Limits(min_channels=2), Limits(max_ratio=0.9), Limits(ignore=("res.body.0",))):
        assert not make_plan(channel_map, scores, prune_ratio=0.3, limits=limits).blocks
    assert make_plan(channel_map, scores, prune_ratio=0.3).blocks == ("res",)


STOCK = """
import sys, torch
from ultralytics import YOLO
model = YOLO(sys.argv[1])
assert any(isinstance(module, torch.nn.Identity) for module in model.model.model[2].m), model.model.model[2].m
model.predict(torch.zeros(1, 3, 64, 64), verbose=False)
model.export(format="onnx", imgsz=64)
"""


def test_a_stock_release_loads_a_network_without_blocks(tmp_path) -> None:
    model = yolo("yolo11n")
    plan = without_blocks(model, ["model.2.m.0", "model.10.m.0"])
    prune(model, plan)
    save(model, tmp_path / "pruned.pt")
    (tmp_path / "stock.py").write_text(STOCK)
    environment = {"ULTRALYTICS_SAFE_LOAD": "1", "YOLO_CONFIG_DIR": str(tmp_path / "config"), "YOLO_AUTOINSTALL": "0"}
    done = run_python("stock.py", "pruned.pt", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
