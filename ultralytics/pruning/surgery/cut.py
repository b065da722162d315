"""Cuts channels out of a network in place, as a plan says. The only code that changes a model's widths.

Every module keeps its class: the result is a network of stock layers with other widths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import PruningError
from ..networks.wrappers import unwrapped
from ..plans.plan import LayerPlan, PruningPlan


class PlanMismatchError(PruningError):
    """A plan that was made for another network."""


def cut(model: nn.Module, plan: PruningPlan) -> None:
    """Removes from `model` all channels that `plan` does not keep.

    Args:
        model: The network that the plan was made for; changed in place.
        plan: What to keep.

    Raises:
        PlanMismatchError: If a layer, an attribute or a block of the plan is missing or another one, or the network
            has other parameters than the plan was made for. The model is unchanged then.
    """
    model = unwrapped(model)
    modules: dict[str, Any] = dict(model.named_modules())
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    _check_plan(model, plan, {**tensors, **modules})

    for name, layer in plan.layers.items():
        if (len(layer.kept_in) == layer.in_before and len(layer.kept_out) == layer.out_before) or not layer.kept_out:
            continue
        if layer.type in _CUTTERS:
            _CUTTERS[layer.type](modules[name], layer.kept_in, layer.kept_out)
        else:
            owner, _, attribute = name.rpartition(".")
            tensor = tensors[name]
            setattr(modules[owner], attribute, _pick(tensor, _long_dim(tensor), layer.kept_out))

    for name, widths in plan.widths.items():
        for attribute, width in widths.items():
            _set_width(modules[name], attribute, width)
    for block in plan.blocks:
        modules[block] = _take_out(modules, block)
    for part in modules.values():
        if {"i", "f", "np"} <= vars(part).keys():  # the release's models note each layer's number of parameters
            part.np = sum(p.numel() for p in part.parameters())


def _check_plan(model: nn.Module, plan: PruningPlan, named: dict[str, Any]) -> None:
    """Refuses a plan of another network; `named` are the modules, parameters and buffers by their names."""
    for name, layer in plan.layers.items():
        _check(name, named.get(name), layer)
    for name, widths in plan.widths.items():
        for attribute, width in widths.items():
            _check_width(named.get(name), f"{name}.{attribute}", attribute, width)
    if unknown := [name for name in plan.blocks if not name or not isinstance(named.get(name), nn.Module)]:
        raise PlanMismatchError(f"the plan takes out a block {unknown[0]!r} that this network does not have")
    parameters = sum(p.numel() for p in model.parameters())
    if parameters != plan.before.params:
        raise PlanMismatchError(
            f"this network has {parameters:,} parameters, the plan was made for one with {plan.before.params:,}"
        )


def _take_out(modules: dict[str, Any], name: str) -> nn.Module:
    """Puts an identity in the place of a residual block, with the numbers that the release's models keep in a layer."""
    owner, _, last = name.rpartition(".")
    identity: Any = nn.Identity()
    identity.training = modules[name].training
    for attribute in ("i", "f", "type", "np"):
        if attribute in vars(modules[name]):
            setattr(identity, attribute, vars(modules[name])[attribute])
    modules[owner]._modules[last] = identity
    return identity


def _long_dim(tensor: torch.Tensor) -> int:
    """Returns the dimension of a tensor that holds a value for each channel."""
    return max(range(tensor.ndim), key=lambda dim: tensor.shape[dim])


def _set_width(module: Any, attribute: str, width: int) -> None:
    """Sets an attribute, or one number of a list: `sizes.1`."""
    name, _, place = attribute.partition(".")
    if not place:
        setattr(module, name, width)
        return
    values = list(getattr(module, name))
    values[int(place)] = width
    setattr(module, name, type(getattr(module, name))(values))


def _check_width(module: Any, place: str, attribute: str, width: int) -> None:
    """Refuses an attribute that holds no width of a module, as large as the new one at least."""
    name, _, number = attribute.partition(".")
    held = vars(module).get(name) if isinstance(module, nn.Module) else None
    if number and isinstance(held, (list, tuple)):
        held = held[int(number)] if number.isdecimal() and int(number) < len(held) else None
    elif number:
        held = None
    if type(held) is not int or not 0 <= width <= held:
        raise PlanMismatchError(f"the plan makes {place[:80]} {width}, which is no width of this network, or narrower")


def _check(name: str, module: nn.Module | torch.Tensor | None, layer: LayerPlan) -> None:
    """Refuses a layer that is not the one that the plan was made for."""
    if module is None:
        raise PlanMismatchError(f"the plan names a layer {name!r} that this network does not have")
    is_tensor = layer.type not in _CUTTERS and isinstance(module, torch.Tensor)
    known = is_tensor or layer.type in _CUTTERS
    if not known or (not is_tensor and layer.type not in {base.__name__ for base in type(module).__mro__}):
        raise PlanMismatchError(f"{name} is a {type(module).__name__}, the plan was made for a {layer.type}")
    widths = _widths(module)
    if widths != (layer.in_before, layer.out_before):
        raise PlanMismatchError(
            f"{name} has {widths[0]} input and {widths[1]} output channels, "
            f"the plan was made for {layer.in_before} and {layer.out_before}"
        )


def _widths(module: Any) -> tuple[int, int]:
    """Returns the number of input and output channels of a layer, or of a tensor with a value for each channel."""
    if isinstance(module, torch.Tensor):
        return module.numel(), module.numel()
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, nn.BatchNorm2d):
        return module.num_features, module.num_features
    return module.in_channels, module.out_channels


def _pick(tensor: torch.Tensor | None, dim: int, kept: Sequence[int]) -> Any:
    """Returns the kept slices of a parameter or buffer along `dim`, as the same kind of tensor."""
    if tensor is None:
        return None
    index = torch.as_tensor(kept, dtype=torch.long, device=tensor.device)
    picked = tensor.detach().index_select(dim, index)
    return nn.Parameter(picked, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else picked


def _cut_convolution(module: nn.Conv2d | nn.ConvTranspose2d, kept_in: Sequence[int], kept_out: Sequence[int]) -> None:
    """Slices filters. `weight` is (C_out, C_in / groups, kH, kW), transposed (C_in, C_out / groups, kH, kW)."""
    out_dim, in_dim = (1, 0) if module.transposed else (0, 1)
    if module.groups == 1:
        module.weight = _pick(_pick(module.weight, out_dim, kept_out), in_dim, kept_in)
    elif module.groups == module.in_channels:  # depthwise: filters of their own for each channel
        module.weight = _pick(module.weight, 0, kept_in if module.transposed else kept_out)
        module.groups = len(kept_in)
    else:
        module.weight = _cut_groups(module, kept_in, kept_out)
    module.bias = _pick(module.bias, 0, kept_out)
    module.in_channels, module.out_channels = len(kept_in), len(kept_out)


def _cut_groups(
    module: nn.Conv2d | nn.ConvTranspose2d, kept_in: Sequence[int], kept_out: Sequence[int]
) -> nn.Parameter:
    """Slices the filters of each group of a grouped convolution on its own; the plan keeps equally many in each."""
    step_in, step_out = module.in_channels // module.groups, module.out_channels // module.groups
    blocks = []
    for group in range(module.groups):
        inputs = [i - group * step_in for i in kept_in if i // step_in == group]
        outputs = [i - group * step_out for i in kept_out if i // step_out == group]
        rows, columns = (inputs, outputs) if module.transposed else (outputs, inputs)
        step = step_in if module.transposed else step_out
        block = module.weight.detach()[group * step : (group + 1) * step]
        blocks.append(_pick(_pick(block, 0, rows), 1, columns))
    return nn.Parameter(torch.cat(blocks), module.weight.requires_grad)


def _cut_linear(module: nn.Linear, kept_in: Sequence[int], kept_out: Sequence[int]) -> None:
    """Slices `weight` of shape (C_out, C_in) and `bias`."""
    module.weight = _pick(_pick(module.weight, 0, kept_out), 1, kept_in)
    module.bias = _pick(module.bias, 0, kept_out)
    module.in_features, module.out_features = len(kept_in), len(kept_out)


def _cut_batch_norm(module: nn.BatchNorm2d, kept_in: Sequence[int], kept_out: Sequence[int]) -> None:
    """Slices gamma, beta and the running statistics, all of shape (C,)."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        setattr(module, name, _pick(getattr(module, name), 0, kept_out))
    module.num_features = len(kept_out)


_CUTTERS: dict[str, Callable[..., None]] = {
    "Conv2d": _cut_convolution,
    "ConvTranspose2d": _cut_convolution,
    "Linear": _cut_linear,
    "BatchNorm2d": _cut_batch_norm,
}
