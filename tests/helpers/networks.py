"""Tiny networks with set weights, and the tests' own measures: they share no code with the engine."""

import contextlib
import copy
import functools
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.zoo_models import named
from ultralytics.nn.tasks import BaseModel, DetectionModel
from ultralytics.pruning import ChannelMap, PruningPlan

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)
GAIN = 3.0  # of a layer's variance; about what SiLU takes away, so that a deep network still sees its image


class Net(nn.Module):
    """A network of named layers (or plain attributes) with `run(net, x)` as its forward pass."""

    def __init__(self, run: Callable[["Net", torch.Tensor], Any], **layers: Any) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)
        set_weights(self.double())

    def forward(self, x: torch.Tensor) -> Any:
        return self.run(self, x)


def conv(c_in: int, c_out: int, k: int = 3, **settings: Any) -> nn.Conv2d:
    """A convolution that keeps the size, with a bias unless told otherwise."""
    return nn.Conv2d(c_in, c_out, k, **{"padding": k // 2, **settings})


def block(c_in: int, c_out: int, k: int = 3, act: type[nn.Module] = nn.SiLU, **settings: Any) -> nn.Sequential:
    """Convolution, batch norm and activation, as all of YOLO is made of."""
    return nn.Sequential(conv(c_in, c_out, k, bias=False, **settings), nn.BatchNorm2d(c_out), act())


def csp_net() -> Net:
    """A small network with a residual, a chunk, concatenations, a depthwise and a grouped convolution."""

    def run(net: Net, x: torch.Tensor) -> torch.Tensor:
        stem = net.stem(x)
        first, second = net.cv1(stem).chunk(2, 1)
        inner = net.cv2(torch.cat([first, second, second + net.m(second)], 1))
        return net.out(torch.cat([net.grouped(inner + stem), net.dw(stem)], 1))

    return Net(
        run,
        stem=block(3, 6),
        cv1=block(6, 8, 1),
        m=block(4, 4),
        cv2=block(12, 6, 1),
        grouped=block(6, 6, groups=2),
        dw=block(6, 6, groups=6),
        out=conv(12, 2, 1),
    )


def chain(*widths: int) -> Net:
    """Blocks one behind the other, with a convolution at the end that gives 2 channels."""

    def run(net: Net, x: torch.Tensor) -> torch.Tensor:
        return net.out(net.body(x))

    body = nn.Sequential(*(block(a, b) for a, b in zip((3, *widths), widths, strict=False)))
    return Net(run, body=body, out=conv(widths[-1], 2, 1))


def set_weights(model: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every layer weights that let signals through, and every batch norm statistics that are not trivial."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, mean: float, std: float) -> None:
        tensor.copy_(torch.empty_like(tensor, dtype=torch.float32).normal_(mean, std, generator=generator))

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                normal(module.running_mean, 0, 0.3)
                normal(module.running_var, 1, 0.2)
                module.running_var.abs_().add_(0.1)
                if module.affine:
                    normal(module.weight, 1, 0.3)
                    normal(module.bias, 0, 0.3)
            elif isinstance(module, LAYERS):
                # how many products one output sums; a transposed convolution spreads its kernel over stride^2 cells
                summed = module.weight[0].numel()
                if isinstance(module, nn.ConvTranspose2d):
                    summed = module.in_channels // module.groups * module.weight[0, 0].numel() // module.stride[0] ** 2
                normal(module.weight, 0, (GAIN / summed) ** 0.5)
                if module.bias is not None:
                    normal(module.bias, 0, 0.3)
    return model


SMALL = {  # a quarter of yolov8n's layers, and wide enough to be cut to a target within 5 %
    "nc": 10,
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "C2f", [32, True]]]
    + [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "C2f", [64, True]]],
    "head": [[[2, 4], 1, "Detect", ["nc"]]],
}


def small_yolo() -> BaseModel:
    """The small detector with random weights and batch norm statistics."""
    return set_weights(DetectionModel(SMALL, verbose=False))


@functools.cache
def _yolo(name: str) -> BaseModel:
    return set_weights(named(name).build(classes=10))


def yolo(name: str) -> BaseModel:
    """A network of the release with random weights and batch norm statistics, 10 classes."""
    return copy.deepcopy(_yolo(name))


def image(model: nn.Module, *sides: int, batch: int = 2, seed: int = 1) -> torch.Tensor:
    """Random images (batch, 3, height, width) in the type of the model's weights, each with a look of its own."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, 3, 2, 2, generator=generator, dtype=torch.float64)
    images = nn.functional.interpolate(coarse, size=(sides * 2)[:2], mode="bilinear")
    noise = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    return (images + noise).to(next(model.parameters()).dtype)


# What comes out, and what a network with removed channels should give


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of nested outputs, but for `feats`, which the release's heads hand through."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value):
            if key != "feats":
                yield from tensors(value[key])
    elif isinstance(value, Iterable):
        for item in value:
            yield from tensors(item)


def raw_outputs(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What the heads return before decoding (train mode), with fixed batch norm statistics and no dropout."""
    model.train()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
            module.eval()
    with torch.no_grad():
        return list(tensors(model(x)))


def mute(channels: list[int]) -> Callable:
    """A forward hook that sets these output channels of a layer to zero."""

    def hook(module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        dim = output.ndim - 1 if isinstance(module, nn.Linear) else 1
        return output.index_fill(dim, torch.tensor(channels, dtype=torch.long), 0)

    return hook


def silence(model: nn.Module, removed: Mapping[str, Iterable[int]]) -> nn.Module:
    """A copy of full width in which the given channels are zero (see `silenced`)."""
    with silenced(copy.deepcopy(model), removed) as (copied, undo):
        undo.pop_all()  # for good
    return copied


@contextlib.contextmanager
def silenced(
    model: nn.Module, removed: Mapping[str, Iterable[int]]
) -> Iterator[tuple[nn.Module, contextlib.ExitStack]]:
    """Sets the given channels of a network to zero while the context lasts: of layers by hooks on their outputs.

    A name that is no layer's is that of a parameter or buffer with one number for each channel.
    """
    modules, numbers = dict(model.named_modules()), {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad(), contextlib.ExitStack() as undo:
        for name, channels in removed.items():
            if name in modules:
                undo.callback(modules[name].register_forward_hook(mute(list(channels))).remove)
            else:
                tensor = numbers[name]
                undo.callback(tensor.copy_, tensor.clone())
                assert sum(size > 1 for size in tensor.shape) <= 1, f"{name} is no vector"
                tensor.view(-1)[list(channels)] = 0
        yield model, undo


def silenced_by(model: nn.Module, plan: PruningPlan) -> nn.Module:
    """A copy of full width in which every channel that a plan removes is zero, wherever it is made."""
    model = copy.deepcopy(model)

    def mute(module: nn.Module, removed: list[int]) -> None:
        def hook(module: nn.Module, _: tuple, output: torch.Tensor) -> torch.Tensor:
            last = isinstance(module, (nn.Linear, nn.LayerNorm))
            return output.index_fill(output.ndim - 1 if last else 1, torch.tensor(removed), 0)

        module.register_forward_hook(hook)

    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, layer in plan.layers.items():
        removed = sorted(set(range(layer.out_before)) - set(layer.kept_out))
        if removed and name in tensors:  # a parameter or buffer with an entry for each channel
            (dim,) = [dim for dim, size in enumerate(tensors[name].shape) if size == layer.out_before]
            tensors[name].data.index_fill_(dim, torch.tensor(removed), 0)
        elif removed:
            mute(model.get_submodule(name), removed)
    return model


def removed_by(plan: Any) -> dict[str, list[int]]:
    """The output channels that a plan removes, by layer."""
    kept = {name: set(layer.kept_out) for name, layer in plan.layers.items()}
    return {
        name: [i for i in range(layer.out_before) if i not in kept[name]]
        for name, layer in plan.layers.items()
        if len(kept[name]) < layer.out_before
    }


def difference(expected: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    """Largest difference, relative to how far a tensor strays from its mean over images and places.

    A constant per channel, such as a bias, says nothing about the network, so it is not in the scale.
    """
    assert [t.shape for t in expected] == [t.shape for t in found]

    def spread(tensor: torch.Tensor) -> torch.Tensor:
        dims = [0, *range(2, tensor.ndim)] if len(tensor) > 1 or tensor.ndim > 2 else [0, 1]
        return (tensor - tensor.mean(dims, keepdim=True)).abs().max()

    # a maximum of tensors, which is NaN if any of them is
    return float(torch.stack([(a - b).abs().max() / spread(a) for a, b in zip(expected, found, strict=True)]).max())


# What a network costs, counted while it runs


def layers_run(model: nn.Module, x: torch.Tensor, *, deployed: bool = False) -> dict[str, int]:
    """Multiply-adds for one image of each layer that runs, by name; 0 for a batch norm.

    Args:
        model: The network, as it is trained.
        x: Images (B, C, H, W).
        deployed: Whether it is fused first and runs as it does behind an export.
    """
    counts: dict[str, int] = {}

    def count(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            if isinstance(module, nn.ConvTranspose2d):
                uses = inputs[0][0, 0].numel()
            elif isinstance(module, nn.Conv2d):
                uses = output[0, 0].numel()
            else:
                uses = output[0].numel() // output.shape[-1]
            macs = 0 if isinstance(module, nn.BatchNorm2d) else module.weight.numel() * uses
            counts[name] = counts.get(name, 0) + macs

        return hook

    model = copy.deepcopy(model)
    if deployed:
        model.eval().fuse(verbose=False)
    for name, module in model.named_modules():
        if isinstance(module, LAYERS) and not name.endswith("dfl.conv"):  # fixed numbers of the decoder
            module.register_forward_hook(count(name))
    if deployed:
        with torch.no_grad():
            model(x)
    else:
        raw_outputs(model, x)
    return counts


# Channel maps, written by hand


def letters(channel_map: ChannelMap) -> tuple[dict[str, str], dict[str, int]]:
    """Writes a channel map down in letters: "inputs>outputs" for each layer, a letter for each channel.

    Channels with the same letter are of one group: they stay or go together. Letters are dealt from the alphabet in the
    order in which groups appear, reading layer by layer; a small letter is a group that can be removed, a capital one
    a group that cannot. So `{"a": "ABC>defg", "out": "defg>HI"}` says: layer `a` reads three channels that must stay,
    those of the image, and makes four that can go one by one; `out` reads these four, and its two outputs must stay.
    `"defg>ddee"` would be a layer whose first two outputs go when its first input goes.

    Returns:
        The text by layer, and the group of each letter.
    """
    free = channel_map.free
    letter_of: dict[int, str] = {}

    def write(groups: np.ndarray) -> str:
        for group in groups.tolist():
            alphabet = string.ascii_lowercase if free[group] else string.ascii_uppercase
            letter_of.setdefault(group, alphabet[len(letter_of)])
        return "".join(letter_of[group] for group in groups.tolist())

    text = {name: f"{write(layer.inputs)}>{write(layer.outputs)}" for name, layer in channel_map.layers.items()}
    return text, {letter: group for group, letter in letter_of.items()}


def without(channel_map: ChannelMap, removed: str) -> np.ndarray:
    """Which groups stay when those of the given letters (see `letters`) go, bool of shape (G,)."""
    kept = np.ones(len(channel_map.channels), dtype=bool)
    kept[[letters(channel_map)[1][letter] for letter in removed]] = False
    return kept
