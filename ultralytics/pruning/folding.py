"""Folds what removed channels still emit into the layers that read them.

A channel with gamma = 0 is not silent: it emits the constant act(beta). Dropping it shifts the next layer's input by
that constant. The shift is followed to its readers by running the network itself once with the removed gammas at
zero, so that pooling, upsampling, concatenation, additions and any activation on the way need no rules of their own.
Each reading convolution absorbs sum over the kernel of W[:, removed] * constant: subtracted from the running mean of
the batch norm behind it, or added to its bias. That is exact for 1x1 and unpadded kernels, and errs at the border
where a kernel is padded with zeros.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .channels import ChannelMap, Layer
from .plan import LayerPlan, PruningPlan
from .tracing import image_shape, quiet


def fold_constants(
    model: nn.Module, channel_map: ChannelMap, plan: PruningPlan, *, side: int | None = None
) -> list[str]:
    """Lets the readers of removed channels absorb the constants that these emit at gamma = 0.

    Call it before the cut.

    Args:
        model: The network that the plan was made for; running means and biases are changed in place.
        channel_map: Its channels.
        plan: What the cut will keep.
        side: Side of the square image to run it on, in pixels; by default 4 times the largest stride.

    Returns:
        The layers that read removed channels but have neither a batch norm of their own nor a bias to absorb them.
    """
    readers = {
        name: layer
        for name, layer in channel_map.layers.items()
        if not layer.is_norm and len(plan.layers[name].kept_in) < plan.layers[name].in_before
    }
    modules: dict[str, Any] = dict(model.named_modules())
    constants = _constants(model, modules, plan, readers, side)
    skipped = []
    with torch.no_grad():
        for name, layer in readers.items():
            constant, *others = constants[name]
            if any(not torch.allclose(constant, other) for other in others):  # a shared layer that reads two constants
                skipped.append(name)
                continue
            shift = _shift(modules[name], constant)
            if layer.norm and modules[layer.norm].running_mean is not None:
                modules[layer.norm].running_mean -= shift
            elif modules[name].bias is not None:
                modules[name].bias += shift
            elif shift.abs().max() > 0:
                skipped.append(name)
    return skipped


def _constants(
    model: nn.Module, modules: dict[str, Any], plan: PruningPlan, readers: dict[str, Layer], side: int | None
) -> dict[str, list[torch.Tensor]]:
    """Returns what each reader sees of the removed channels, once for each call: (C_in,), zero for kept channels."""
    constants: dict[str, list[torch.Tensor]] = {name: [] for name in readers}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            image = inputs[0].detach()
            image = image.movedim(-1, 0) if isinstance(module, nn.Linear) else image.movedim(-3, 0)
            middle = [size // 2 for size in image.shape[2:]]  # where borders reach last; of the first image
            place: Any = (slice(None), *[0] * (image.ndim > 1), *middle)
            value = image[place]
            removed = torch.ones(len(value), dtype=torch.bool, device=value.device)
            removed[list(plan.layers[name].kept_in)] = False
            constants[name].append(torch.where(removed, value, 0))

        return hook

    parameter = next(model.parameters())
    batch, channels, *sides = image_shape(model, 4)
    sides = [side, side] if side else sides
    image = torch.zeros(batch, channels, *sides, device=parameter.device, dtype=parameter.dtype)
    hooks = [modules[name].register_forward_pre_hook(note(name)) for name in readers]
    try:
        with quiet(model), gammas_at_zero(modules, plan):
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return constants


@contextlib.contextmanager
def gammas_at_zero(modules: dict[str, Any], plan: PruningPlan) -> Iterator[None]:
    """Sets gamma of the removed channels to zero, and gives the gammas back at the end."""
    saved: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        for name, layer in plan.layers.items():
            if layer.type == "BatchNorm2d" and modules[name].weight is not None:
                gamma = modules[name].weight.data
                saved.append((gamma, gamma.clone()))
                gamma[removed_outputs(layer)] = 0
        yield
    finally:
        for gamma, values in saved:
            gamma.copy_(values)


def removed_outputs(layer: LayerPlan) -> list[int]:
    """Returns the output channels that a plan removes from a layer."""
    return sorted(set(range(layer.out_before)) - set(layer.kept_out))


def _shift(module: Any, constant: torch.Tensor) -> torch.Tensor:
    """Returns what a layer makes of a constant input (C_in,) away from borders, without its bias: (C_out,)."""
    if isinstance(module, nn.Linear):
        return F.linear(constant, module.weight)
    if module.transposed:  # each output cell sees one phase of the kernel: the mean over the phases
        weight = module.weight.reshape(module.groups, -1, *module.weight.shape[1:]).sum((3, 4))  # (g, C_in/g, C_out/g)
        phases = module.stride[0] * module.stride[1]
        return torch.einsum("gi,gio->go", constant.view(module.groups, -1), weight).flatten() / phases
    cells = constant.view(1, -1, 1, 1).expand(-1, -1, *module.kernel_size)
    return F.conv2d(cells, module.weight, groups=module.groups).flatten()
