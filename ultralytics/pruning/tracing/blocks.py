"""Residual blocks that can be taken out whole: all that they add to their input is made by channels of their own.

A block whose inner channels all go is replaced by `nn.Identity`, a stock class that leaves the widths around it as they
are. That works for every module that returns its input when its layers are silent: the Bottlenecks with a shortcut in
C2f, C3, C3k and C3k2, CIB, PSABlock, ABlock, GhostBottleneck. It does not for a Bottleneck without a shortcut (the
necks of v8 to 12), nor for C3k (it has no shortcut of its own), nor for ResNetBlock (it ends in an activation).
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..channels import Block, ChannelMap, Layer
from .rules import LAYERS, ZEROS
from .tape import Tape


class _Silence(TorchFunctionMode):
    """Lets every layer return zeros."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Runs the function (see `torch.overrides.TorchFunctionMode`)."""
        if function in ZEROS and not kwargs:
            return ZEROS[function](*args).contiguous()
        result = function(*args, **(kwargs or {}))
        return torch.zeros_like(result) if function in LAYERS else result


def returns_its_input(module: nn.Module, like: Tensor) -> bool:
    """Whether a module whose layers are silent returns its input, tried on a random tensor like the given one."""
    x = (torch.rand(like.shape) - 0.5) * 10 ** (6 * torch.rand(like.shape) - 3)  # of all sizes: a clamp may be wide
    x = x.to(like.device, like.dtype)
    try:
        with _Silence():
            found = module(x.clone())
    except RuntimeError:
        return False
    return isinstance(found, Tensor) and torch.equal(found, x)


def residual_blocks(model: nn.Module, tape: Tape, channel_map: ChannelMap) -> tuple[Block, ...]:
    """Finds the blocks that can be taken out, outer ones before those inside of them.

    Args:
        model: The network.
        tape: What was noted while it ran.
        channel_map: Its channels.
    """
    layers, free = channel_map.layers, channel_map.free

    def places(some: list[Layer]) -> np.ndarray:
        return np.bincount(np.concatenate([np.r_[layer.inputs, layer.outputs] for layer in some]), minlength=len(free))

    everywhere = places(list(layers.values())) if layers else np.zeros(0)
    blocks = []
    for name, (module, image) in sorted(_passing(model, tape).items()):
        inside = {key: layer for key, layer in layers.items() if key.startswith(f"{name}.")}
        made = [layer.outputs for layer in inside.values() if layer.has_filters]
        if not made or not _only_layers(module, name, inside):
            continue
        if any(tape.records[key].calls != 1 for key in inside if tape.records[key].module):
            continue
        inner = np.unique(np.concatenate(made))
        inner = inner[places(list(inside.values()))[inner] == everywhere[inner]]
        if len(inner) and free[inner].all() and returns_its_input(module, image):
            blocks.append(Block(name, inner, tuple(inside)))
    return tuple(blocks)


def _passing(model: nn.Module, tape: Tape) -> dict[str, tuple[nn.Module, Tensor]]:
    """Returns the modules, each in one place, whose output has the channels of their input, with that input."""
    held = Counter(id(part) for module in model.modules() for part in _parts(module))
    roots = tape.union.roots()
    return {
        name: (module, item.tensor)
        for name, (module, item, left) in tape.passed.items()
        if name
        and held[id(module)] == 1
        and np.array_equal(roots[item.labels], roots[left.labels])
        and not {id(item.tensor), id(left.tensor)} & tape.written  # an identity returns the very tensor
    }


def _parts(module: nn.Module) -> list[nn.Module]:
    """Returns the modules that a module holds, registered or in plain lists, as often as it holds them."""
    plain = [item for value in vars(module).values() if isinstance(value, (list, tuple)) for item in value]
    return [part for part in [*module._modules.values(), *plain] if isinstance(part, nn.Module)]


def _only_layers(module: nn.Module, name: str, layers: dict[str, Layer]) -> bool:
    """Whether all parameters of a module are those of known layers."""
    paths = [f"{name}.{key}" for key, _ in module.named_parameters()]
    return all(path in layers or path.rpartition(".")[0] in layers for path in paths)
