"""Fits the layers of a pruned network to what those of the original make of the same images: no training, no labels.

Each convolution is solved in turn, by least squares, for the original's outputs, where its inputs are what the pruned
network has by then; so each layer repairs what those before it have lost. Fitted are places that matter: they are drawn
by how much what the network says depends on them (see `likelihood.py`), since most of an image is background.

Source: the layer-wise reconstruction of Channel Pruning for Accelerating Very Deep Neural Networks, arXiv 1707.06168,
equation (2), on the inputs of the pruned network as in its section 3.2.
"""

from __future__ import annotations

import copy
import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..channels import ChannelMap
from ..networks.hooks import hooked
from ..plans.plan import LayerPlan, PruningPlan
from ..tracing.trace import quiet
from .likelihood import drawn
from .memory import Shrinking, free_gpu_memory, halves
from .reading import Images, frozen_copy, reader_of

PLACES = 9000  # of each layer's output, over all images
FOCUS = 0.95  # part of them that is drawn by what depends on them; the rest is drawn evenly
RIDGE = 0.2  # of the mean of the diagonal
CELLS = 10800  # at the largest stride, over all images: this many images are taken at least
STRIDE = 32
LEAST_IMAGES, MOST_IMAGES = 8, 64


@dataclass(frozen=True)
class Examples:
    """What a layer of the original makes, at some places.

    Attributes:
        places: Image, row and column of each, int64 of shape (3, M).
        weights: How often each was drawn, in a sum of 1, of shape (M, 1).
        outputs: What the layer makes there, of shape (M, C_out).
    """

    places: Tensor
    weights: Tensor
    outputs: Tensor


class Refitting:
    """Fits pruned states of one network.

    Args:
        model: The original; it is left as it is.
        channel_map: Its channels.
        images: Which images; of these, as many as a fit needs.

    Attributes:
        images: How many there are.

    Raises:
        PruningError: If the data set cannot be read, or a single image does not fit into memory.
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap, images: Images) -> None:
        self._map = channel_map
        probe = frozen_copy(model)
        reader = reader_of(probe, images)
        self._reproducible = reader.reproducible
        count = min(max(-(-CELLS // max(images.imgsz // STRIDE, 1) ** 2), LEAST_IMAGES), MOST_IMAGES)
        samples = itertools.islice(itertools.chain.from_iterable(reader), count)
        self._images = [reader.batch([sample])["img"] for sample in samples]
        self.images = len(self._images)
        with self._reproducible(), quiet(probe):
            self._examples = _examples(probe, _fitted(channel_map), self._images)

    def __call__(self, model: nn.Module, plan: PruningPlan) -> None:
        """Fits a state of the network in place, where the images are; then it goes back to where it was.

        Args:
            model: The original with the removed channels silenced, and maybe fitted before.
            plan: Which channels are not removed.

        Raises:
            PruningError: If a single image does not fit into memory.
        """
        shrinking = Shrinking("the fit of layers", halves(len(self._images)))
        home = next(model.parameters()).device
        model.to(self._images[0].device)
        before = copy.deepcopy(model.state_dict())

        def fit(images: int) -> None:
            model.load_state_dict(before)  # of a try that failed
            self._fit(model, plan, images)

        try:
            shrinking(fit)
        finally:
            model.to(home)
            free_gpu_memory()

    def _fit(self, model: nn.Module, plan: PruningPlan, images: int) -> None:
        modules: dict[str, Any] = dict(model.named_modules())
        hooks = {}
        for name, examples in self._examples.items():
            layer, norm = plan.layers[name], self._map.layers[name].norm
            if layer.kept_out and layer.kept_in:
                hooks[name] = functools.partial(
                    _solve, layer=layer, norm=modules[norm] if norm else None, examples=examples
                )
        with self._reproducible(), quiet(model), torch.no_grad(), hooked(model, hooks, before=True):
            model(torch.cat(self._images[:images]))
            fitted = {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(fitted)  # of which `quiet` has undone the buffers


def _fitted(channel_map: ChannelMap) -> list[str]:
    """Returns the layers that can be fitted: convolutions whose filters see all channels."""
    return [layer.name for layer in channel_map.layers.values() if layer.kind == "Conv2d" and layer.conv_groups == 1]


def _examples(probe: Any, names: list[str], images: list[Tensor]) -> dict[str, Examples]:
    """Returns what the layers make at places that matter; layers that run other than once for an image are left out."""
    random = np.random.default_rng(0)
    places = {name: _drawn_places(maps, random) for name, maps in _effects(probe, names, images).items()}
    made: dict[str, list[Tensor]] = {name: [] for name in places}

    def gather(name: str, number: int, module: nn.Module, inputs: Any, output: Tensor) -> None:
        _, row, column = places[name][0][:, places[name][0][0] == number].to(output.device)
        made[name].append(output[0][:, row, column].T)

    for number, image in enumerate(images):
        with hooked(probe, {name: functools.partial(gather, name, number) for name in places}), torch.no_grad():
            probe(image)
    return {name: Examples(*places[name], torch.cat(rows)) for name, rows in made.items()}


def _effects(probe: Any, names: list[str], images: list[Tensor]) -> dict[str, list[Tensor]]:
    """Returns how much what the network says depends on each place of a layer's output, (H, W) for each image."""
    effects: dict[str, list[Tensor]] = {name: [] for name in names}
    made: list[tuple[str, Tensor]] = []
    generator = torch.Generator().manual_seed(0)

    def keep(name: str, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        output = output if output.requires_grad else output.detach().requires_grad_()
        output.retain_grad()
        made.append((name, output))
        return output

    with hooked(probe, {name: functools.partial(keep, name) for name in names}), torch.enable_grad():
        for image in images:
            drawn(probe(image), generator).backward()
            for name, output in made:
                gradient = torch.zeros_like(output) if output.grad is None else output.grad
                effects[name].append(gradient.square().sum(1)[0].cpu().double())
            made.clear()
    return {name: maps for name, maps in effects.items() if len(maps) == len(images)}


def _drawn_places(effects: list[Tensor], random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draws places by what depends on them.

    Args:
        effects: For each image what depends on each place, float64 of shape (H, W).
        random: What draws.

    Returns:
        Image, row and column of each, int64 of shape (3, M), and how often each was drawn, in a sum of 1, (M, 1).
    """
    effect = np.concatenate([values.flatten().numpy() for values in effects])
    even = np.full(len(effect), 1 / len(effect))
    chances = FOCUS * effect / effect.sum() + (1 - FOCUS) * even if effect.sum() > 0 else even
    steps = (np.arange(PLACES) + random.random(PLACES)) / PLACES  # evenly over the sum of the chances
    index = np.searchsorted(np.cumsum(chances) / chances.sum(), steps).clip(0, len(effect) - 1)
    found, times = np.unique(index, return_counts=True)

    begins = np.cumsum([0] + [values.numel() for values in effects])
    numbers = np.searchsorted(begins, found, side="right") - 1
    rest, widths = found - begins[numbers], np.array([values.shape[-1] for values in effects])[numbers]
    weights = torch.as_tensor(times / times.sum(), dtype=torch.float32).view(-1, 1)
    return torch.as_tensor(np.stack([numbers, rest // widths, rest % widths])), weights


def _solve(module: Any, inputs: tuple[Tensor, ...], *, layer: LayerPlan, norm: Any, examples: Examples) -> None:
    """Solves a convolution, before it runs, for what the original makes of the same images."""
    image = inputs[0]
    there = examples.places[0] < len(image)  # fewer images where memory asks for it
    read = _patches(image, examples.places[:, there], module, layer.kept_in)  # (M, C_in * kH * kW)
    rows = torch.as_tensor(layer.kept_out, device=image.device)
    columns = torch.as_tensor(layer.kept_in, device=image.device)
    weight = module.weight[rows][:, columns].flatten(1)
    bias = module.bias[rows] if module.bias is not None else 0
    missing = examples.outputs[there].to(image)[:, rows] - read @ weight.T - bias

    weights = (examples.weights[there] / examples.weights[there].sum()).to(image)
    shifts = (norm is not None and norm.running_mean is not None) or module.bias is not None
    mean_read, mean_missing = (weights * read).sum(0) * shifts, (weights * missing).sum(0) * shifts
    read, missing = (read - mean_read) * weights.sqrt(), (missing - mean_missing) * weights.sqrt()
    gram = (read.T @ read).double()
    gram.diagonal().add_(RIDGE * gram.diagonal().mean() + torch.finfo(torch.float32).tiny)
    change = torch.cholesky_solve((read.T @ missing).double(), torch.linalg.cholesky(gram)).to(weight).T
    shift = mean_missing - change @ mean_read

    kernel = module.weight[rows]
    kernel[:, columns] += change.reshape(len(rows), len(columns), *module.kernel_size)
    module.weight[rows] = kernel
    if norm is not None and norm.running_mean is not None:
        norm.running_mean[rows] -= shift
    elif module.bias is not None:
        module.bias[rows] += shift


def _patches(image: Tensor, places: Tensor, module: Any, channels: tuple[int, ...]) -> Tensor:
    """Returns what a convolution reads at places of its output, of shape (M, C * kH * kW)."""
    number, row, column = places.to(image.device)
    image = image[:, torch.as_tensor(channels, device=image.device)]
    height, width = module.kernel_size
    if module.padding == "same" or any(module.padding):
        pads = module._reversed_padding_repeated_twice
        image = F.pad(image, pads)
    rows = (row * module.stride[0])[:, None, None] + (torch.arange(height) * module.dilation[0]).to(row)[:, None]
    columns = (column * module.stride[1])[:, None, None] + (torch.arange(width) * module.dilation[1]).to(row)
    return image[number[:, None, None], :, rows, columns].permute(0, 3, 1, 2).flatten(1)
