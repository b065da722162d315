"""Which weights of a network are deployed: what is left when the release has fused it, and is read for an image.

A network holds more than it is deployed with: the second head of v10 and 26, branches that are merged into one
convolution (RepConv, RepVGGDW), and what only losses read (a semantic branch, the sigmas of a pose, the inner heads of
a decoder). None of it is listed here: a copy without memory is fused by the release's own code and runs
as it is exported by default. What is gone by then, or is not read, is not deployed.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .counting import Uses


@dataclass(frozen=True)
class Deployed:
    """What is deployed of a network.

    Attributes:
        names: The parameters and the modules that own them, by their names in the whole network.
        cells: How often each weight of a layer with filters is used for one image, by the layer's name.
    """

    names: frozenset[str]
    cells: Counter[str]


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
            with uses:
                fused(image)
    except Exception:  # whatever the network's own code raises
        return None
    whole = dict(model.named_parameters())
    read = {name for name in uses.read if name in whole}
    cells = Counter({_owner(name): count for name, count in uses.cells.items()})
    for name in sorted(uses.read - {""} - whole.keys()):  # of a convolution into which others were merged
        shape, place = fused.get_parameter(name).shape, f"{_owner(_owner(name))}."
        alike = [key for key in whole if key.startswith(place) and key not in read and whole[key].shape == shape]
        if name.endswith(".weight") and alike:
            cells[_owner(alike[0])] = cells.pop(_owner(name), 0)
            read.update(_of(model, _owner(alike[0])))
    left = dict(fused.named_modules())
    beside = {_owner(_owner(name)) for name in read}
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and name not in left and _owner(name) in beside:  # folded into these
            read.update(_of(model, name))
    return Deployed(frozenset(read | {_owner(name) for name in read}), cells)


def _fused(model: nn.Module, image: Tensor) -> Any:
    """Returns a copy of a network as it is exported by default, with weights of zeros that take no memory."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    statistics = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var) if tensor is not None]
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach().to("meta"), False) for p in model.parameters()}
    memo |= {id(tensor): tensor.to("meta") for tensor in statistics}
    fused: Any = copy.deepcopy(model, memo).eval()
    if callable(getattr(fused, "fuse", None)):
        if getattr(fused, "end2end", False) and not fused.is_fused():
            fused.end2end = False  # as the release exports without nms=False
        with torch.device("meta"):
            fused.fuse(verbose=False)
    for module in fused.modules():
        if isinstance(getattr(module, "export", None), bool):
            module.export = True  # as the release's exporter tells its heads
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                if tensor is not None and tensor.is_meta:
                    zeros = torch.zeros((), dtype=tensor.dtype, device=image.device).expand(tensor.shape)
                    tensors[key] = nn.Parameter(zeros, False) if tensors is module._parameters else zeros
    return fused


def _owner(name: str) -> str:
    """Returns the name of the module that owns a parameter or module."""
    return name.rpartition(".")[0]


def _of(model: nn.Module, module: str) -> list[str]:
    """Returns the names of a module's own parameters."""
    return [f"{module}.{key}" for key, _ in model.get_submodule(module).named_parameters(recurse=False)]
