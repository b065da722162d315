"""Layers that do not run in the trace, but in another mode: YOLOE's visual prompts, for one.

Such a layer is not cut, so what it may read must keep its width: each input of the module around it that is as wide as
the layer's own input. A layer that runs when the network is deployed was seen there: the box branch's expected value
(DFL) reads what its head has made, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np
from torch import nn


def read_by_dormant(
    model: nn.Module, inputs: Mapping[nn.Module, list[np.ndarray]], inner: Collection[str] = ()
) -> Iterator[np.ndarray]:
    """Yields the labels that layers which did not run may read in another mode.

    Args:
        model: The network.
        inputs: Labels of the tensors that went into each module that ran.
        inner: Names of modules that run when deployed, and read nothing that goes into the modules around them.
    """
    apart = {module for name, module in model.named_modules() if name in inner}
    for module in model.modules():
        if module not in inputs:
            continue
        parts = [
            part for child in module.children() for part in (child if isinstance(child, nn.ModuleList) else [child])
        ]
        widths = {width for part in parts if part not in inputs and part not in apart for width in _entry_widths(part)}
        yield from (labels for labels in inputs[module] if len(labels) in widths)


def _entry_widths(module: nn.Module) -> Iterator[int]:
    """Yields the input widths of the layers that a module's input may reach first."""
    if isinstance(module, nn.Linear):
        yield module.in_features
    elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        yield module.in_channels
    children = list(module.children())
    for child in children[:1] if isinstance(module, nn.Sequential) else children:
        yield from _entry_widths(child)
