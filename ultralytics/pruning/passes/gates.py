"""What the outputs of a network would say to a gate at each group of channels, image by image."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..channels import ChannelMap, Layer
from ..tracing.trace import quiet
from .images import gradients, progress
from .likelihood import drawn
from .memory import Shrinking, free_gpu_memory
from .photographs import Photographs
from .reading import Images, Reader, frozen_copy, reader_of

SAMPLES = 4  # outputs that are drawn for each image


class Gates:
    """A factor of 1 behind each layer that makes channels, which gathers gradients: of each group, behind its norms.

    A group without a norm has its gates behind the layers that make it.

    Args:
        model: The network.
        channel_map: Its channels.
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap) -> None:
        self._normed = np.zeros(len(channel_map.channels), dtype=bool)
        for layer in channel_map.layers.values():
            if layer.is_norm:
                self._normed[layer.outputs] = True
        modules: dict[str, Any] = dict(model.named_modules())
        self._layers = [layer for layer in channel_map.layers.values() if self._has_gate(layer)]
        self._factors = {layer.name: torch.ones(0) for layer in self._layers}
        self._hooks = [modules[layer.name].register_forward_hook(self._hook(layer)) for layer in self._layers]

    def _has_gate(self, layer: Layer) -> bool:
        return layer.is_norm or (layer.has_filters and not self._normed[layer.outputs].all())

    def _hook(self, layer: Layer) -> Any:
        def gate(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            factor = self._factors[layer.name]
            if factor.numel() != len(layer.outputs):
                factor = torch.ones(len(layer.outputs), device=output.device).requires_grad_()
                self._factors[layer.name] = factor
            dim = output.ndim - (1 if layer.kind == "Linear" else 3)
            return output * factor.to(output.dtype).view(-1, *[1] * (output.ndim - dim - 1))

        return gate

    def gradients(self) -> np.ndarray:
        """Returns the gradient of each group's gate since the last call, float64 of shape (G,)."""
        found = np.zeros(len(self._normed))
        for layer in self._layers:
            gradient = self._factors[layer.name].grad
            if gradient is not None:
                counts = layer.is_norm | ~self._normed[layer.outputs]
                np.add.at(found, layer.outputs[counts], gradient.cpu().double().numpy()[counts])
                self._factors[layer.name].grad = None
        return found

    def close(self) -> None:
        """Takes the gates away."""
        for hook in self._hooks:
            hook.remove()


def passes_over(images: Images | None) -> dict[str, Any]:
    """Returns what criteria may ask of images, as `Scoring` takes it; nothing where there are none."""
    if images is None:
        return {}
    return {
        "gradients": functools.partial(gradients, images=images),
        "outputs": functools.partial(gate_gradients, images=images),
    }


def gate_gradients(model: nn.Module, channel_map: ChannelMap, images: Images) -> Iterator[np.ndarray]:
    """Yields how the log-likelihood of drawn outputs depends on a gate at each group, for each image and draw.

    Labels take no part (see `likelihood.py`). Images go through the network one by one.

    Args:
        model: The network; it is left as it is.
        channel_map: Its channels.
        images: Which images.

    Yields:
        float64 of shape (G,).

    Raises:
        PruningError: If the data set cannot be read, or a single image does not fit into memory.
    """
    try:
        yield from _gate_gradients(model, channel_map, images)
    finally:
        free_gpu_memory()


def _gate_gradients(model: nn.Module, channel_map: ChannelMap, images: Images) -> Iterator[np.ndarray]:
    probe = frozen_copy(model)
    reader = reader_of(probe, images)
    generator = torch.Generator().manual_seed(0)
    gates = Gates(probe, channel_map)
    shrinking = Shrinking("the gradients of the outputs", [1])
    try:
        for samples in progress(iter(reader), images, "outputs"):
            for sample in samples:
                yield from shrinking(functools.partial(_of_image, probe, reader, sample, gates, generator))
    finally:
        gates.close()


def _of_image(
    probe: nn.Module, reader: Reader | Photographs, sample: Any, gates: Gates, generator: torch.Generator, way: int
) -> list[np.ndarray]:
    image = reader.batch([sample])["img"]
    gates.gradients()  # of a try that failed
    with reader.reproducible(), quiet(probe), torch.enable_grad():
        outputs = probe(image)
        found = []
        for number in range(SAMPLES):
            drawn(outputs, generator).backward(retain_graph=number + 1 < SAMPLES)
            found.append(gates.gradients())
    return found
