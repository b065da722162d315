"""Drawn outputs are as likely as the network says: the second moment of the gradients is the Fisher information."""

import pytest
import torch
from torch import nn

from helpers.networks import chain, image, set_weights, yolo
from ultralytics.pruning import trace
from ultralytics.pruning.passes.gates import Gates
from ultralytics.pruning.passes.likelihood import ANGLE_SCALE, drawn
from ultralytics.pruning.tracing.trace import quiet

DRAWS = 1500


def moments(make, parameter: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and mean square of the gradients by a parameter, over draws."""
    generator = torch.Generator().manual_seed(0)
    found = torch.stack([torch.autograd.grad(drawn(make(parameter), generator), parameter)[0] for _ in range(DRAWS)])
    return found.mean(0), found.square().mean(0)


def test_scores_have_the_information_of_chances():
    logits = torch.tensor([[[-2.0, 0.0], [1.0, -4.0]]], requires_grad=True)
    mean, square = moments(lambda scores: {"scores": scores, "boxes": torch.zeros(1, 4, 2)}, logits)
    chances = logits.detach().sigmoid()
    assert torch.allclose(mean, torch.zeros(()), atol=0.05)
    assert torch.allclose(square, chances * (1 - chances), atol=0.03)


def test_bins_have_the_information_of_a_choice_as_far_as_there_is_an_object():
    bins = torch.tensor([2.0, 0.0, -1.0, 0.5]).repeat(4).view(1, 16, 1).requires_grad_()
    scores = torch.tensor([[[0.5], [-1.0]]])
    mean, square = moments(lambda boxes: {"scores": scores, "boxes": boxes}, bins)
    chances = torch.tensor([2.0, 0.0, -1.0, 0.5]).softmax(0).repeat(4).view(1, 16, 1)
    object_chance = torch.tensor(0.5).sigmoid()
    assert torch.allclose(mean, torch.zeros(()), atol=0.05)
    assert torch.allclose(square, object_chance * chances * (1 - chances), atol=0.03)


def test_numbers_have_the_information_of_a_deviation_of_1_and_angles_more():
    boxes = torch.zeros(1, 4, 1, requires_grad=True)
    angle = torch.zeros(1, 1, 1, requires_grad=True)
    scores = torch.tensor([[[-1.0]]])
    _, square = moments(lambda own: {"scores": scores, "boxes": own}, boxes)
    assert torch.allclose(square, torch.tensor(-1.0).sigmoid().expand(1, 4, 1), atol=0.06)
    _, square = moments(lambda own: {"scores": scores, "boxes": torch.zeros(1, 4, 1), "angle": own}, angle)
    assert float(square) == pytest.approx(float(torch.tensor(-1.0).sigmoid()) * ANGLE_SCALE**2, rel=0.15)


def test_classes_have_the_information_of_a_choice():
    logits = torch.tensor([[1.0, 0.0, -1.0]], requires_grad=True)
    mean, square = moments(lambda classes: classes, logits)
    chances = logits.detach().softmax(1)
    assert torch.allclose(mean, torch.zeros(()), atol=0.05)
    assert torch.allclose(square, chances * (1 - chances), atol=0.03)


def test_maps_of_depth_have_the_information_of_a_deviation_of_1_in_their_mean():
    depth = torch.zeros(1, 1, 2, 2, requires_grad=True)
    _, square = moments(lambda values: {"depth": values}, depth)
    assert torch.allclose(square, torch.full((1, 1, 2, 2), 0.25), atol=0.03)


def test_a_gate_has_the_gradient_of_gamma_and_beta_together():
    net = set_weights(chain(3, 6, 5, 4))
    x = image(net, 12, batch=1)
    channel_map = trace(net, x)
    generator = torch.Generator().manual_seed(3)
    gates = Gates(net, channel_map)
    with quiet(net), torch.enable_grad():
        drawn(net(x), generator).backward()
    found = gates.gradients()
    gates.close()

    expected = torch.zeros(len(found), dtype=torch.float64)
    net.zero_grad()
    with quiet(net), torch.enable_grad():
        drawn(net(x), torch.Generator().manual_seed(3)).backward()
    modules = dict(net.named_modules())
    for layer in channel_map.norms():
        norm = modules[layer.name]
        product = norm.weight * norm.weight.grad + norm.bias * norm.bias.grad
        expected.index_add_(0, torch.as_tensor(layer.outputs), product.detach().double())
    normed = expected != 0
    assert normed.sum() >= 11
    assert torch.allclose(torch.as_tensor(found)[normed], expected[normed], rtol=1e-4, atol=1e-6)
    assert not [name for name, module in net.named_modules() if module._forward_hooks]


@pytest.mark.parametrize(
    "name",
    ["yolov8n", "yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolov8n-cls", "yolov10n", "yolo11n", "yolo26n"]
    + ["yolo26n-seg", "yolo26n-pose", "yolo26n-sem", "yolov8n-rtdetr"],
)
def test_each_head_says_something_to_the_first_layer(name):
    network = yolo(name)
    network.requires_grad_(False)
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    first.weight.requires_grad_()
    with quiet(network), torch.enable_grad():
        drawn(network(torch.rand(1, 3, 64, 64)), torch.Generator().manual_seed(0)).backward()
    assert torch.isfinite(first.weight.grad).all() and first.weight.grad.abs().max() > 0
