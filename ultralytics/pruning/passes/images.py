"""Passes over training images outside of a training, which change nothing in the process and call nobody."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .memory import Shrinking, free_gpu_memory, halves
from .parts import autocast, loss_gradients, ways_of
from .reading import Images, Reader, trainer_class

__all__ = ["Images", "batches_for", "gradients", "recalibrate", "trainer_class"]


@contextlib.contextmanager
def batches_for(model: nn.Module, images: Images) -> Iterator[Iterator[dict[str, Any]]]:
    """Opens the training images of a data set in batches (see `Reader`)."""
    reader = Reader(model, images)
    yield (reader.batch(samples) for samples in reader)


def progress(steps: Iterator[Any], images: Images, what: str) -> Iterator[Any]:
    """Shows a bar while batches go by."""
    from ultralytics.utils import TQDM

    return iter(TQDM(steps, desc=what, total=images.batches, unit="batch", disable=False))


def gradients(model: nn.Module, images: Images) -> Iterator[dict[str, Tensor]]:
    """Yields the gradients of the training loss on batches of training images, with batch norms at their statistics.

    In the precision that a training would have there. When memory ends, the batch begins again with fewer images at
    once (see `parts.loss_gradients`), and so do those that follow.

    Args:
        model: The network; it is left as it is.
        images: Which images.

    Yields:
        For each batch the gradients by parameter name, on the device of the network; parameters that the loss does not
        reach are left out.

    Raises:
        PruningError: If the data set cannot be read, or a single image does not fit into memory.
    """
    try:
        yield from _gradients(model, images)
    finally:
        free_gpu_memory()  # here, where nothing holds the copy of the network any more


def _gradients(model: nn.Module, images: Images) -> Iterator[dict[str, Tensor]]:
    device = next(model.parameters()).device
    probe: Any = copy.deepcopy(model).float()
    for parameter in probe.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    reader = Reader(probe, images)
    shrinking = Shrinking("the gradients of the loss", ways_of(images.batch))
    for samples in progress(iter(reader), images, "gradients"):
        found = shrinking(functools.partial(loss_gradients, probe, reader, samples))
        yield {name: gradient.to(device) for name, gradient in found.items()}


def recalibrate(model: nn.Module, images: Images) -> int:
    """Estimates the statistics of the batch norms anew: a cut network's channels have others than the original's.

    They are the mean over the images of each batch's mean and variance, in the precision that a training would have
    there. When memory ends, the batch begins again in halves: means stay what they are for the first layer, variances
    lose what lies between the halves, as by a smaller `batch`.

    Args:
        model: The network; its running means and variances become those of the images, everything else stays.
        images: Which images.

    Returns:
        How many batches there were.

    Raises:
        PruningError: If the data set cannot be read, or a single image does not fit into memory.
    """
    norms = _tracking(model)
    try:
        found, batches = _statistics(model, images)
    finally:
        free_gpu_memory()
    for norm, statistics in zip(norms, found, strict=True):
        if statistics.images:
            mean, variance = (statistics.total / statistics.images).to(norm.running_mean)
            norm.load_state_dict({**norm.state_dict(), "running_mean": mean, "running_var": variance})
    return batches


@dataclass(frozen=True)
class Statistics:
    """What a batch norm saw.

    Attributes:
        images: How many.
        total: The sum over them of the mean and the variance of their batch, float64 of shape (2, C).
    """

    images: int = 0
    total: Any = 0.0

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(self.images + other.images, self.total + other.total)


def _tracking(model: nn.Module) -> list[nn.BatchNorm2d]:
    """Returns the batch norms that have statistics."""
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]


def _statistics(model: nn.Module, images: Images) -> tuple[list[Statistics], int]:
    """Returns what each batch norm saw in the batches, and how many these were."""
    probe = copy.deepcopy(model).float()
    norms = _tracking(probe)
    for module in probe.modules():  # heads that return raw tensors, no dropout
        module.training = next(module.children(), None) is not None
    for norm in norms:
        norm.train()
        norm.momentum = None  # a plain mean over the calls
    reader = Reader(probe, images)

    def of_batch(samples: Sequence[Any], part: int) -> list[Statistics]:
        found = [Statistics()] * len(norms)
        for begin in range(0, len(samples), part):
            batch = reader.batch(samples[begin : begin + part])
            for norm in norms:
                norm.reset_running_stats()
            with reader.reproducible(), torch.no_grad(), autocast(reader.device, reader.precision):
                probe(batch["img"])
            for i, norm in enumerate(norms):
                if norm.num_batches_tracked:  # else it did not run
                    seen, pair = len(batch["img"]), [norm.running_mean, norm.running_var]
                    found[i] += Statistics(seen, seen * torch.stack(pair).double())  # type: ignore[arg-type]
        return found

    shrinking = Shrinking("the statistics of batch norms", halves(images.batch))
    found, batches = [Statistics()] * len(norms), 0
    for samples in progress(iter(reader), images, "statistics"):
        more: list[Statistics] = shrinking(functools.partial(of_batch, samples))
        found = [before + now for before, now in zip(found, more, strict=True)]
        batches += 1
    return found, batches
