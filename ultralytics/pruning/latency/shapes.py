"""What a layer does at one call, apart from its weights: everything that its time depends on."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..channels import ChannelMap, Layer
from ..networks.hooks import hooked
from ..tracing.trace import image_shape, quiet


@dataclass(frozen=True)
class Shape:
    """A call of a layer with filters.

    Attributes:
        kind: `Conv2d` or `ConvTranspose2d`; a linear layer is a 1x1 convolution over its tokens.
        kernel: (kH, kW).
        stride: (sH, sW).
        padding: (pH, pW).
        dilation: (dH, dW).
        groups: As of the layer; 0 if it is depthwise, so that the groups follow the width.
        inputs: C_in of the whole network.
        outputs: C_out of the whole network.
        cells: (H, W) of the input.
        activation: Whether a SiLU follows, as behind each batch norm of a YOLO.
    """

    kind: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    inputs: int
    outputs: int
    cells: tuple[int, int]
    activation: bool

    def key(self) -> str:
        """Returns a name that is different for each shape."""

        def pair(values: tuple[int, int]) -> str:
            return "x".join(map(str, values))

        parts = (f"k{pair(self.kernel)}", f"s{pair(self.stride)}", f"p{pair(self.padding)}", f"d{pair(self.dilation)}")
        widths = f"{self.inputs}->{self.outputs} g{self.groups} at {pair(self.cells)}"
        return f"{self.kind} {' '.join(parts)} {widths}{' silu' if self.activation else ''}"


Shapes = Mapping[str, tuple[Shape, ...]]  # the calls of each layer


def sides(imgsz: int | Sequence[int]) -> tuple[int, int]:
    """Returns height and width of an image in pixels."""
    return (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[-1])


def shapes_of(model: nn.Module, channel_map: ChannelMap, imgsz: int | Sequence[int]) -> Shapes:
    """Runs a network once and notes the shape of each call of each deployed layer that has filters.

    Args:
        model: The network; it is left as it is.
        channel_map: Its channels.
        imgsz: Side of the image in pixels, or height and width.

    Returns:
        The calls by layer.
    """
    found: dict[str, list[Shape]] = {}

    def note(layer: Layer, module: Any, inputs: tuple) -> None:
        found.setdefault(layer.name, []).append(_shape(layer, module, inputs[0]))

    layers = [layer for layer in channel_map.layers.values() if layer.has_filters and layer.deployed and layer.cells]
    hooks = {layer.name: functools.partial(note, layer) for layer in layers}
    parameter = next(model.parameters())
    _, channels, _, _ = image_shape(model, 1)
    image = torch.zeros(1, channels, *sides(imgsz), device=parameter.device, dtype=parameter.dtype)
    with quiet(model), hooked(model, hooks, before=True):
        model(image)
    return {name: tuple(shapes) for name, shapes in found.items()}


def _shape(layer: Layer, module: Any, tensor: torch.Tensor) -> Shape:
    """Returns the shape of one call."""
    if layer.kind == "Linear":
        tokens = tensor.numel() // tensor.shape[-1]
        return Shape(
            kind="Conv2d",
            kernel=(1, 1),
            stride=(1, 1),
            padding=(0, 0),
            dilation=(1, 1),
            groups=0 if layer.is_depthwise else layer.conv_groups,
            inputs=module.in_features,
            outputs=module.out_features,
            cells=(tokens, 1),
            activation=layer.norm is not None,
        )

    kernel, dilation, padding = module.kernel_size, module.dilation, module.padding
    if isinstance(padding, str):
        padding = tuple(d * (k - 1) // 2 if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True))
    return Shape(
        kind=layer.kind,
        kernel=kernel,
        stride=module.stride,
        padding=padding,
        dilation=dilation,
        groups=0 if layer.is_depthwise else layer.conv_groups,
        inputs=module.in_channels,
        outputs=module.out_channels,
        cells=(tensor.shape[2], tensor.shape[3]),
        activation=layer.norm is not None,
    )
