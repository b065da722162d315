"""Masked equivalence: a pruned network gives what the original gives with the removed channels at zero.

The reference is masked by hooks on the outputs of layers (see `networks.silence`), which share nothing with the surgery
or with the engine's own check.
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from helpers.networks import csp_net, difference, image, raw_outputs, removed_by, silence, yolo
from ultralytics.nn.modules import C2f
from ultralytics.pruning import PruningPlan, cut, make_plan, plans_of, prune, trace

DETECTORS = [f"yolov8{size}" for size in "nsmlx"]  # all other files: see test_zoo.py
CHOICES = {"yolov8m": (0,), "yolov8l": (1,), "yolov8x": (2,)}  # large: one choice each
FLOAT32, FLOAT64 = 1e-5, 1e-10


def random_plan(model: nn.Module, seed: int) -> PruningPlan:
    """Random scores and a random ratio."""
    channel_map = trace(model)
    generator = np.random.default_rng(seed)
    ratio = generator.uniform(0.3, 0.8)
    return make_plan(channel_map, generator.random(len(channel_map.channels)), prune_ratio=ratio)


def classes(model: nn.Module) -> dict[str, type]:
    """The class of each module."""
    return {name: type(module) for name, module in model.named_modules()}


def other_image(model: nn.Module) -> torch.Tensor:
    """Two images of a size that the tracer did not see, not square."""
    stride = int(max(model.stride))
    return image(model, 3 * max(stride, 32), 2 * max(stride, 32))


def compare(model: nn.Module, plan: PruningPlan, tolerance: float) -> nn.Module:
    """Cuts a copy, compares it with the silenced original, and returns it."""
    pruned = copy.deepcopy(model)
    cut(pruned, plan)
    x = other_image(model)
    expected = raw_outputs(silence(model, removed_by(plan)), x)
    assert difference(expected, raw_outputs(pruned, x)) < tolerance
    assert difference(raw_outputs(model, x), expected) > 0.1, "the cut removed nothing that matters"
    return pruned


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name in DETECTORS for seed in CHOICES.get(name, (0, 1))])
def test_pruned_detectors_equal_the_silenced_original(name: str, seed: int) -> None:
    model = yolo(name)
    plan = random_plan(model, seed)
    pruned = compare(model, plan, FLOAT32)
    assert classes(pruned) == classes(model)
    train_once(pruned)


def train_once(model: nn.Module) -> None:
    """Every parameter of a pruned network still learns."""
    model.train().requires_grad_(True)
    for module in model.modules():
        if type(module).__name__ == "DFL":
            module.requires_grad_(False)  # fixed numbers of the decoder
    outputs = model(other_image(model))
    sum(output.square().mean() for output in (outputs["boxes"], outputs["scores"])).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.shape == parameter.shape, name
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("seed", range(4))
def test_yolov8n_equals_the_silenced_original_in_float64(seed: int) -> None:
    model = yolo("yolov8n").double()
    compare(model, random_plan(model, seed), FLOAT64)


def test_c2f_knows_its_width() -> None:
    model = yolo("yolov8n").double()
    plan = random_plan(model, 0)
    pruned = compare(model, plan, FLOAT64)
    blocks = {name: module for name, module in pruned.named_modules() if isinstance(module, C2f)}
    assert len(blocks) == 8
    for name, module in blocks.items():
        assert 2 * module.c == module.cv1.conv.out_channels == len(plan.layers[f"{name}.cv1.conv"].kept_out)
        x = torch.rand(2, module.cv1.conv.in_channels, 5, 7, dtype=torch.float64)
        module.eval()
        with torch.no_grad():
            assert module.forward_split(x).equal(module(x))
    assert any(module.c < model.get_submodule(name).c for name, module in blocks.items())


@pytest.mark.parametrize("name", ["yolov8n", "csp"])
def test_a_second_round_equals_the_silenced_first(name: str) -> None:
    """And the silenced original: what both rounds removed is zero there."""
    model = csp_net() if name == "csp" else yolo(name).double()
    model.stride = getattr(model, "stride", torch.tensor([32.0]))
    first = copy.deepcopy(model)
    prune(first, random_plan(first, 0))
    second = copy.deepcopy(first)
    prune(second, random_plan(first, 1))
    assert len(plans_of(first)) == 1
    plans = plans_of(second)
    assert len(plans) == 2 and plans[0] == plans_of(first)[0]
    assert plans[1].before == plans[0].after and plans[1].after.params == sum(p.numel() for p in second.parameters())

    x = other_image(model)
    found = raw_outputs(second, x)
    assert difference(raw_outputs(silence(first, removed_by(plans[1])), x), found) < FLOAT64
    kept = {
        layer: [plans[0].layers[layer].kept_out[i] for i in plan.kept_out] for layer, plan in plans[1].layers.items()
    }
    removed = {layer: sorted(set(range(plans[0].layers[layer].out_before)) - set(kept[layer])) for layer in kept}
    assert difference(raw_outputs(silence(model, removed), x), found) < FLOAT64


def test_a_wrong_cut_is_seen() -> None:
    """The comparison can fail: one channel of one layer is enough."""
    model = yolo("yolov8n").double()
    plan = random_plan(model, 0)
    removed = removed_by(plan)
    x = other_image(model)
    expected = raw_outputs(silence(model, removed), x)
    layer = "model.9.cv1.bn"
    removed[layer] = removed[layer][:-1]
    removed["model.9.cv1.conv"] = removed["model.9.cv1.conv"][:-1]
    assert difference(expected, raw_outputs(silence(model, removed), x)) > 100 * FLOAT32
