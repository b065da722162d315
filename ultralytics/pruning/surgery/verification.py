"""Checks a cut against its definition: removing channels equals silencing them.

The reference is the original network with the removed channels' filters, gammas, betas and biases at zero. It is made
here with plain masks, by code that shares nothing with the surgery.

What leaves a network may say nothing about a channel far upstream: in an untrained one the boxes are a bias of 2.0, and
all that the image adds is 6e-8 of it. So every layer is compared as well, in two ways that do not depend on how much of
its signal arrives at the end: what its weights make of random numbers, and what it is given to read in a run of the
whole network. Differences are relative to the largest value of a tensor: in float64 below 1e-14 for exact cuts, and
above 1e-7 for a wrong channel.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PruningError
from ..plans.plan import LayerPlan, PruningPlan
from ..tracing.records import tensors_in
from ..tracing.trace import SHAPE_ONLY_OUTPUTS, image_shape, quiet

LARGEST_DIFFERENCE = 1e-10  # in float64, where rounding is below 1e-14


def silenced(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """Returns a copy of `model`, at full width, in which every channel that `plan` removes is zero."""
    masked = copy.deepcopy(model)
    with torch.no_grad():
        for name, module in masked.named_modules():
            if layer := plan.layers.get(name):
                _silence(module, layer)
        for name, tensor in [*masked.named_parameters(), *masked.named_buffers()]:
            if layer := plan.layers.get(name):  # a tensor with a value for each channel
                tensor.view(-1)[layer.removed_out] = 0
    return masked


def _silence(module: Any, layer: LayerPlan) -> None:
    """Sets to zero what makes the removed channels of a layer."""
    tensors = (module.weight, getattr(module, "running_mean", None))
    like = next((tensor for tensor in tensors if tensor is not None), None)
    if like is None:  # a norm without weights and statistics: zero where its input is
        return
    mask = torch.zeros(layer.out_before, dtype=like.dtype, device=like.device)
    mask[list(layer.kept_out)] = 1

    if module.weight is None:  # (0 - mean) / deviation
        module.running_mean *= mask
        return
    if module.bias is not None:
        module.bias *= mask
    if isinstance(module, nn.ConvTranspose2d):  # (C_in, C_out / groups, kH, kW)
        blocks = module.weight.view(module.groups, -1, *module.weight.shape[1:])
        blocks *= mask.view(module.groups, 1, -1, 1, 1)
    else:
        module.weight *= mask.view(-1, *[1] * (module.weight.ndim - 1))


def raw_outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Returns the tensors that a network's heads return before decoding, for images (N, C, H, W)."""
    with quiet(model):
        return list(tensors_in(model(image), SHAPE_ONLY_OUTPUTS))


def largest_difference(
    reference: nn.Module, pruned: nn.Module, image: Tensor, plan: PruningPlan | None = None
) -> float:
    """Returns the largest difference of two networks, relative to the magnitude of what is compared.

    Args:
        reference: The original with silenced channels.
        pruned: The cut network.
        image: Images (N, C, H, W) to run both on, of the type of their weights.
        plan: What was kept; with it each layer is compared, and without it the outputs alone.

    Returns:
        The difference; infinite where a layer does not run as often, or reads tensors of another shape, or was to be
        left as it is and is not; NaN if any difference is.

    Raises:
        ValueError: If the two networks return tensors of different number or shape.
    """
    layers = {name: layer for name, layer in plan.layers.items() if layer.kept_out} if plan else {}
    expected, found = _run(reference, image, layers, whole=True), _run(pruned, image, layers, whole=False)
    if [t.shape for t in expected["outputs"]] != [t.shape for t in found["outputs"]]:
        raise ValueError(
            f"outputs of shapes {[tuple(t.shape) for t in found['outputs']]}, expected "
            f"{[tuple(t.shape) for t in expected['outputs']]}"
        )
    nudged = _run(reference, image * (1 + 64 * torch.finfo(image.dtype).eps), layers, whole=True)
    largest = max((float(t.abs().max()) for tensors in expected.values() for t in tensors if t.numel()), default=0.0)
    differences = []
    for name, tensors in expected.items():
        if [t.shape for t in tensors] != [t.shape for t in found.get(name, [])]:
            return float("inf")
        for ours, theirs, other in zip(tensors, found[name], nudged[name], strict=True):
            differences.append(_relative(ours, theirs, largest, other))
    differences += _differences_of_weights(reference, pruned, plan) if plan else []
    return float(torch.tensor(differences, device="cpu").max())  # NaN if any is


ROUNDINGS = 1e11  # with a difference of 1e-10 allowed: 10 times what rounding does


def _relative(expected: Tensor, found: Tensor, largest: float = 0.0, nudged: Tensor | None = None) -> float:
    """Returns the largest difference of two tensors, relative to the largest value.

    Where large numbers cancel out, what is left may be nothing but their rounding: there, the difference is relative to
    what becomes of a change of the image in its last digits.

    Args:
        expected: One of them.
        found: The other.
        largest: The largest number in the network; a tensor of zeros is compared with its rounding.
        nudged: The first, for the changed image.
    """
    if not expected.numel():
        return 0.0
    scale = expected.abs().max()
    if not scale:
        scale = torch.full_like(scale, largest / ROUNDINGS * 1e6)
    if nudged is not None:
        scale = torch.maximum(scale, ROUNDINGS * (nudged - expected).abs().max())
    return float((expected - found).abs().max() / scale.clamp_min(torch.finfo(scale.dtype).tiny))


def _run(model: nn.Module, image: Tensor, layers: dict[str, LayerPlan], *, whole: bool) -> dict[str, list[Tensor]]:
    """Runs a network and notes what its layers read at each call, by name; its `outputs` come first.

    Args:
        model: The network.
        image: Images (N, C, H, W).
        layers: The layers to look at.
        whole: Whether it has all channels: of these, the kept ones are noted.
    """
    seen: dict[str, list[Tensor]] = {"outputs": []}

    def note(name: str, layer: LayerPlan) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
            read = (*inputs, *named.values())[0]
            seen[name].append(_at(read, layer, layer.kept_in) if whole else read.clone())

        return hook

    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            if name in layers:
                seen[name] = []
                hooks.callback(module.register_forward_pre_hook(note(name, layers[name]), with_kwargs=True).remove)
        seen["outputs"] = raw_outputs(model, image)
    return seen


def _at(tensor: Tensor, layer: LayerPlan, channels: tuple[int, ...]) -> Tensor:
    """Returns a copy of some channels of a layer's input or output."""
    dim = -1 if layer.type == "Linear" else -3
    return tensor.index_select(tensor.ndim + dim, torch.tensor(channels, device=tensor.device))


def _differences_of_weights(reference: nn.Module, pruned: nn.Module, plan: PruningPlan) -> Iterator[float]:
    """Yields how far each layer's weights are from what they should be, tried on random numbers.

    In a run, a channel that is at zero hides which weights read it. Here every channel has a value. What the plan does
    not name has to be the very same.
    """
    wholes, cuts = dict(reference.named_modules()), dict(pruned.named_modules())
    before, after = (dict([*model.named_parameters(), *model.named_buffers()]) for model in (reference, pruned))
    layers = {name: layer for name, layer in plan.layers.items() if layer.kept_out}
    with quiet(reference), quiet(pruned):
        for name, layer in layers.items():
            if name not in {**cuts, **after}:
                yield float("inf")
            elif name in before:  # a tensor with a value for each channel
                kept = torch.tensor(layer.kept_out, device=before[name].device)
                yield _relative(before[name].flatten()[kept], after[name].flatten())
            else:
                numbers = _numbers_for(wholes[name], layer)
                forward = getattr(nn, layer.type).forward  # with the weights alone, whatever a subclass does with them
                expected = _at(forward(wholes[name], numbers), layer, layer.kept_out)
                found = forward(cuts[name], _at(numbers, layer, layer.kept_in))
                yield _relative(expected, found)

    named = tuple(f"{name}." for name in (*plan.layers, *plan.blocks))
    for name, tensor in before.items():
        if name not in plan.layers and not name.startswith(named):
            yield 0.0 if name in after and torch.equal(tensor, after[name]) else float("inf")


def _numbers_for(module: Any, layer: LayerPlan) -> Tensor:
    """Returns random inputs for a layer at full width, zero at the channels that the cut one does not read."""
    tensors = (module.weight, getattr(module, "running_mean", None))
    like = next((tensor for tensor in tensors if tensor is not None), torch.zeros((), dtype=torch.float64))
    cells: list[int] = [] if layer.type == "Linear" else [2, 2]
    if hasattr(module, "kernel_size"):
        cells = [d * (k - 1) + 2 for k, d in zip(module.kernel_size, module.dilation, strict=True)]
    mask = torch.zeros(layer.in_before, device="cpu")
    mask[list(layer.kept_in)] = 1
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(2, layer.in_before, *cells, generator=generator, device="cpu")
    return (numbers * mask.view(-1, *[1] * len(cells))).to(like)


def check(model: nn.Module, pruned: nn.Module, plan: PruningPlan) -> float:
    """Compares a cut network with the original whose removed channels are silenced, on a random image in float64.

    Returns:
        The largest difference of any raw output or layer, relative to the largest value there.

    Raises:
        PruningError: If it is above `LARGEST_DIFFERENCE`.
    """
    device = next(model.parameters()).device
    _, *shape = image_shape(model, 3)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *shape, generator=generator, dtype=torch.float64, device="cpu").to(device)
    difference = largest_difference(silenced(model, plan).double(), copy.deepcopy(pruned).double(), image, plan)
    if not difference <= LARGEST_DIFFERENCE:
        raise PruningError(
            f"the cut network differs from the original with silenced channels by {difference:.1e} (relative, at most "
            f"{LARGEST_DIFFERENCE:g} is rounding): please report this model, nothing was written"
        )
    return difference
