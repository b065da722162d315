"""Checks a cut against its definition: removing channels equals silencing them.

The reference is the original network with the removed channels' filters, gammas, betas and biases at zero. It is made
here with plain masks, by code that shares nothing with the surgery.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from .plan import PruningPlan
from .records import tensors_in
from .tracing import SHAPE_ONLY_OUTPUTS, quiet


def silenced(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """Returns a copy of `model`, at full width, in which every channel that `plan` removes is zero."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, module in masked.named_modules():
            layer = plan.layers.get(name)
            if layer is None:
                continue
            tensors = (module.weight, getattr(module, "running_mean", None))
            like = next((tensor for tensor in tensors if tensor is not None), None)
            if like is None:  # a norm without weights and statistics: zero where its input is
                continue
            mask = torch.zeros(layer.out_before, dtype=like.dtype, device=like.device)
            mask[list(layer.kept_out)] = 1
            if module.weight is None:  # (0 - mean) / deviation
                module.running_mean *= mask
                continue
            if module.bias is not None:
                module.bias *= mask
            if isinstance(module, nn.ConvTranspose2d):  # (C_in, C_out / groups, kH, kW)
                blocks = module.weight.view(module.groups, -1, *module.weight.shape[1:])
                blocks *= mask.view(module.groups, 1, -1, 1, 1)
            else:
                module.weight *= mask.view(-1, *[1] * (module.weight.ndim - 1))
        for name, tensor in [*masked.named_parameters(), *masked.named_buffers()]:
            if layer := plan.layers.get(name):  # a tensor with a value for each channel
                tensor.view(-1)[layer.removed_out] = 0
    return masked


def raw_outputs(model: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    """Returns the tensors that a network's heads return before decoding, for images (N, C, H, W)."""
    with quiet(model):
        return list(tensors_in(model(image), SHAPE_ONLY_OUTPUTS))


def largest_difference(reference: nn.Module, pruned: nn.Module, image: torch.Tensor) -> float:
    """Returns the largest difference of any raw output, relative to how far that output strays from its mean.

    Raises:
        ValueError: If the two networks return tensors of different number or shape.
    """
    expected, found = raw_outputs(reference, image), raw_outputs(pruned, image)
    if [t.shape for t in expected] != [t.shape for t in found]:
        raise ValueError(
            f"outputs of shapes {[tuple(t.shape) for t in found]}, expected {[tuple(t.shape) for t in expected]}"
        )
    differences = [
        (a - b).abs().max() / (a - a.mean()).abs().max().clamp_min(1e-30) for a, b in zip(expected, found, strict=True)
    ]
    return float(torch.stack(differences).max())  # NaN if any is
