"""Which weights of a network are deployed: what is left when the release has fused it, and is read for an image.

A network holds more than it is deployed with: the second head of v10 and 26, and what only losses read (a semantic
branch, the sigmas of a pose, the inner heads of a decoder). None of it is listed here: a copy without memory is fused
by the release's own code and runs as it is exported by default. What is gone by then, or is not read, is not deployed.
Branches that are merged into one convolution (RepConv, RepVGGDW) are parameters of the deployed network as folded batch
norms are, but multiply nothing.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .counting import Uses
from .records import tensors_in

SMALL = 100_000  # numbers of a tensor that may take memory


@dataclass(frozen=True)
class Deployed:
    """What is deployed of a network.

    Attributes:
        names: The parameters and the modules that own them, by their names in the whole network.
        cells: How often each weight of a layer with filters is used for one image, by the layer's name; 0 for a branch
            that is merged into another.
        inner: Modules that ran, by their names, and read just what the modules around them had made of their inputs.
    """

    names: frozenset[str]
    cells: Counter[str]
    inner: frozenset[str]


def deployed(model: nn.Module, image: Tensor) -> Deployed | None:
    """Finds out what of a network is deployed.

    Args:
        model: The network; it is left as it is.
        image: An image (1, C, H, W), whose values are not read.

    Returns:
        What is deployed; None where the network cannot be copied or fused, or its code does not run on zeros.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            fused = _fused(model, image)
            uses = Uses({id(tensor): name for name, tensor in fused.named_parameters()})
            given = _noting_inputs(fused)
            with uses:
                fused(image)
    except Exception:  # whatever the network's own code raises
        return None

    whole = dict(model.named_parameters())
    read = {name for name in uses.read if name in whole}
    cells = Counter({_owner(name): count for name, count in uses.cells.items()})
    for name in sorted(uses.read - {""} - whole.keys()):
        if name.endswith(".weight"):
            read |= _merged_branches(name, whole, fused, cells)
    read |= _folded_norms(model, fused, read)
    return Deployed(frozenset(read | {_owner(name) for name in read}), cells, _inner(given))


def _noting_inputs(model: nn.Module) -> dict[str, list[Tensor]]:
    """Lets each module note the tensors that go into it, by its name; returns where."""
    given: dict[str, list[Tensor]] = {}

    def note(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        given.setdefault(name, []).extend(tensors_in([args, kwargs]))

    for name, module in model.named_modules():
        module.register_forward_pre_hook(functools.partial(note, name), with_kwargs=True)
    return given


def _inner(given: dict[str, list[Tensor]]) -> frozenset[str]:
    """Returns the modules that got nothing of the shape of what the modules around them got."""
    shapes = {name: {tuple(tensor.shape) for tensor in tensors} for name, tensors in given.items()}
    return frozenset(name for name in shapes if name and not shapes[name] & shapes.get(_owner(name), set()))


def _merged_branches(name: str, whole: dict[str, nn.Parameter], fused: nn.Module, cells: Counter[str]) -> set[str]:
    """Returns the parameters of branches that were merged into one convolution, and gives its uses to one of them.

    Args:
        name: The weight of the convolution, which the whole network does not have.
        whole: The parameters of the whole network.
        fused: The fused network.
        cells: How often each weight is used, by its layer; changed in place.
    """
    kept = dict(fused.named_parameters()).keys()
    place, shape = f"{_owner(_owner(name))}.", fused.get_parameter(name).shape
    branches = [key for key in whole if key not in kept and key.startswith(place)]
    like = [_owner(key) for key in branches if whole[key].shape == shape and key.endswith(".weight")]
    if not like:
        return set()
    cells.update(dict.fromkeys((_owner(key) for key in branches), 0))
    cells[like[0]] = cells.pop(_owner(name), 0)
    return set(branches)


def _folded_norms(model: nn.Module, fused: nn.Module, read: set[str]) -> set[str]:
    """Returns the parameters of the batch norms that were folded into layers of which something is read."""
    left = dict(fused.named_modules())
    beside = {_owner(_owner(name)) for name in read}
    folded: set[str] = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and name not in left and _owner(name) in beside:
            folded.update(_of(model, name))
    return folded


def _fused(model: nn.Module, image: Tensor) -> Any:
    """Returns a copy of a network as it is exported by default, with weights of zeros that take no memory."""
    fused: Any = _light_copy(model, image.device).eval()
    if callable(getattr(fused, "fuse", None)):
        if getattr(fused, "end2end", False) and not fused.is_fused():
            fused.end2end = False  # as the release exports without nms=False
        with _without_arithmetic():
            fused.fuse(verbose=False)
    for module in fused.modules():
        if isinstance(getattr(module, "export", None), bool):
            module.export = True  # as the release's exporter tells its heads
    return fused


def _light_copy(model: nn.Module, device: torch.device) -> nn.Module:
    """Copies the modules of a network one by one, many times as fast as `copy.deepcopy`, with zeros for parameters."""
    copies: dict[int, Any] = {id(p): nn.Parameter(_zeros(p, device), False) for p in model.parameters()}
    if any(_copies_itself(module) for module in model.modules()):
        return copy.deepcopy(model, copies)

    copies |= {id(module): object.__new__(type(module)) for module in model.modules()}
    for module in model.modules():
        for key, value in module.__getstate__().items():
            if type(module) is nn.BatchNorm2d and key == "_buffers":
                copied: Any = dict(value)  # which eval mode leaves as they are
            elif type(value) in (dict, OrderedDict) and not value:
                copied = type(value)()
            else:
                copied = copy.deepcopy(value, copies)
            vars(copies[id(module)])[key] = copied
    return copies[id(model)]


def _copies_itself(module: nn.Module) -> bool:
    """Whether a module says how it is copied: otherwise than PyTorch's modules, whose state is their attributes."""
    names = ("__deepcopy__", "__reduce_ex__", "__reduce__", "__getstate__")
    return any(getattr(type(module), name, None) is not getattr(nn.Module, name, None) for name in names)


def _zeros(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns zeros of a tensor's shape: of one number if it is large, as the release writes into small ones only."""
    if tensor.numel() <= SMALL:
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
    return torch.zeros((), dtype=tensor.dtype, device=device).expand(tensor.shape)


@contextlib.contextmanager
def _without_arithmetic() -> Iterator[None]:
    """Lets the release fold a batch norm into its convolution without computing any weight: they are zeros here."""
    from ultralytics.nn import tasks

    def folded(convolution: Any, _: nn.Module) -> Any:
        if convolution.bias is None:
            outputs, weight = convolution.out_channels, convolution.weight
            convolution.bias = nn.Parameter(weight.new_zeros(outputs), False)
        return convolution

    names = ("fuse_conv_and_bn", "fuse_deconv_and_bn")
    release = {name: getattr(tasks, name) for name in names}
    try:
        vars(tasks).update(dict.fromkeys(names, folded))
        yield
    finally:
        vars(tasks).update(release)


def _owner(name: str) -> str:
    """Returns the name of the module that owns a parameter or module."""
    return name.rpartition(".")[0]


def _of(model: nn.Module, module: str) -> list[str]:
    """Returns the names of a module's own parameters."""
    return [f"{module}.{key}" for key, _ in model.get_submodule(module).named_parameters(recurse=False)]
