"""Folds what removed channels still emit into the layers that read them.

A channel with gamma = 0 is not silent: it emits the constant act(beta). Dropping it shifts the next layer's input by
that constant, and so does a residual block that is taken out. The network itself runs twice, with the removed gammas at
zero and with the removed channels silent, where every layer of the second run is held at the output that it had in
the first. What a layer then sees differently is what it has to absorb, whatever lies between: pooling, upsampling,
concatenation, additions, any activation. It absorbs the sum over its kernel of W * difference: subtracted from the
running mean of the batch norm behind it, or added to its bias. That is exact for 1x1 and unpadded kernels, and errs at
the border where a kernel is padded with zeros.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..channels import ChannelMap
from ..networks.hooks import hooked
from ..plans.plan import PruningPlan
from ..tracing.trace import image_shape, quiet

SAME = 1e-3  # two images that differ by no more than this part show a constant


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
        The layers that cannot absorb all that is removed: they have neither a batch norm of their own nor a bias, or
        what they read is no constant, as behind a gate, or they make no constant of it, as a transposed convolution
        with a stride, which absorbs the mean over its output cells.
    """
    readers = [name for name, layer in channel_map.layers.items() if layer.has_filters and plan.layers[name].kept_out]
    modules: dict[str, Any] = dict(model.named_modules())
    skipped = []
    with torch.no_grad():
        for name, calls in _differences(model, modules, channel_map, plan, readers, side).items():
            constant, whole = _constant(calls)
            uneven = getattr(modules[name], "transposed", False) and max(modules[name].stride) > 1
            shift = _shift(modules[name], constant)

            norm = channel_map.layers[name].norm
            absorbed = True
            if norm and modules[norm].running_mean is not None:
                modules[norm].running_mean -= shift
            elif modules[name].bias is not None:
                modules[name].bias += shift
            else:
                absorbed = not shift.abs().max() > 0

            seen = any(first.abs().max() > 0 for first, _ in calls)
            if (seen and (uneven or not whole)) or not absorbed:
                skipped.append(name)
    return skipped


def _constant(calls: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, bool]:
    """Returns the part of a difference that is a constant, (C_in,), and whether that is all of it.

    Args:
        calls: What a layer read at each call of a first and of a last image, (C_in,) each.
    """
    constants = torch.stack([first for first, _ in calls])
    changing = constants - torch.stack([last for _, last in calls])
    varying = constants - constants[0]  # between the calls of a shared layer
    moves = (torch.maximum(changing.abs(), varying.abs()) > SAME * constants.abs().max()).any(0)
    constant = torch.where(moves, 0, constants[0])
    return constant, torch.equal(constant, constants[0])


def _differences(
    model: nn.Module,
    modules: dict[str, Any],
    channel_map: ChannelMap,
    plan: PruningPlan,
    readers: list[str],
    side: int | None,
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Returns what each reader sees of what is removed: for each call (C_in,) of a first and of a last image."""
    removed = _removed(channel_map, plan)
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in readers}
    made: dict[str, list[Tensor]] = {name: [] for name in readers}
    differences: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in readers}

    def first_run(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen[name].append(_middle(module, inputs[0]))
        made[name].append(output.clone())

    def second_run(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        before, now = seen[name].pop(0), _middle(module, inputs[0])
        differences[name].append((before[0] - now[0], before[1] - now[1]))
        held = made[name].pop(0)
        held.movedim(_channel_dim(module, held), 0)[removed[name]] = 0
        return held

    parameter = next(model.parameters())
    _, channels, *sides = image_shape(model, 4)
    sides = [side, side] if side else sides
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, channels, *sides, generator=generator, device="cpu").to(parameter.device, parameter.dtype)
    image[0] = 0
    first = {name: functools.partial(first_run, name) for name in readers}
    second = {name: functools.partial(second_run, name) for name in readers}
    with quiet(model), hooked(model, first), _at_zero(_of_norms(modules, removed, ("weight",))):
        model(image)
    with (
        quiet(model),
        hooked(model, second),
        _at_zero(_of_norms(modules, removed, ("weight", "bias")) + _of_tensors(model, removed)),
        _passed_by(modules, plan.blocks),
    ):
        model(image)
    return differences


def _removed(channel_map: ChannelMap, plan: PruningPlan) -> dict[str, list[int]]:
    """Returns the output channels of each layer that are no longer produced; of a block that goes, the inner ones."""
    inner = {name: block.inner for block in channel_map.blocks if block.name in plan.blocks for name in block.layers}
    removed = {}
    for name, layer in plan.layers.items():
        if name in inner:
            removed[name] = np.flatnonzero(np.isin(channel_map.layers[name].outputs, inner[name])).tolist()
        else:
            removed[name] = layer.removed_out
    return removed


def _channel_dim(module: Any, tensor: Tensor) -> int:
    return tensor.ndim - (1 if isinstance(module, nn.Linear) else 3)


def _middle(module: Any, tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a layer's input at the middle, where borders reach last: (C_in,) of the first and of the last image."""
    values = tensor.detach().movedim(_channel_dim(module, tensor), 0)
    place: Any = tuple(size // 2 for size in values.shape[2:])
    images = (0, -1) if values.ndim > 1 else (..., ...)
    first, last = (values[(slice(None), number, *place)].clone() for number in images)
    return first, last


def _of_norms(
    modules: dict[str, Any], removed: dict[str, list[int]], attributes: tuple[str, ...]
) -> list[tuple[Tensor, list[int]]]:
    """Returns the gammas (and betas) of the batch norms, with the places of the removed channels."""
    norms = [name for name in removed if isinstance(modules.get(name), nn.BatchNorm2d)]
    tensors = [(getattr(modules[name], attribute), removed[name]) for name in norms for attribute in attributes]
    return [(tensor, places) for tensor, places in tensors if tensor is not None]


def _of_tensors(model: nn.Module, removed: dict[str, list[int]]) -> list[tuple[Tensor, list[int]]]:
    """Returns the parameters and buffers with a value for each channel, with the places of the removed ones."""
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    return [(tensors[name].view(-1), places) for name, places in removed.items() if name in tensors]


@contextlib.contextmanager
def _at_zero(places: list[tuple[Tensor, list[int]]]) -> Iterator[None]:
    """Sets values at places of tensors to zero, and gives them back at the end."""
    saved = [(tensor, tensor.detach().clone()) for tensor, _ in places]
    try:
        for tensor, indices in places:
            tensor.data[indices] = 0
        yield
    finally:
        for tensor, values in saved:
            tensor.data.copy_(values)


@contextlib.contextmanager
def _passed_by(modules: dict[str, Any], blocks: tuple[str, ...]) -> Iterator[None]:
    """Lets modules return their input."""
    try:
        for name in blocks:
            vars(modules[name])["forward"] = lambda x: x
        yield
    finally:
        for name in blocks:
            vars(modules[name]).pop("forward", None)


def _shift(module: Any, constant: torch.Tensor) -> torch.Tensor:
    """Returns what a layer makes of a constant input (C_in,) away from borders, without its bias: (C_out,)."""
    if isinstance(module, nn.Linear):
        return F.linear(constant, module.weight)
    if module.transposed:  # each output cell sees one phase of the kernel
        weight = module.weight.reshape(module.groups, -1, *module.weight.shape[1:]).sum((3, 4))  # (g, C_in/g, C_out/g)
        phases = module.stride[0] * module.stride[1]
        return torch.einsum("gi,gio->go", constant.view(module.groups, -1), weight).flatten() / phases
    cells = constant.view(1, -1, 1, 1).expand(-1, -1, *module.kernel_size)
    return F.conv2d(cells, module.weight, groups=module.groups).flatten()
