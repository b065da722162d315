"""Gradients of the loss of a batch, of which fewer images go through the network at once where memory asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..tracing.trace import quiet
from .memory import halves

SCALES = (2.0**16, 2.0**11, 2.0**6, 2.0)  # of a loss in float16, until no gradient overflows


class Batches(Protocol):
    """What joins images to batches (see `reading.Reader`)."""

    device: torch.device
    precision: torch.dtype | None
    reproducible: Any

    def batch(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Returns images as a batch."""


@dataclass(frozen=True)
class Way:
    """How the gradients of a batch are computed.

    Attributes:
        images: How many go through the network at once.
        apart: Whether each such part has a loss of its own.
    """

    images: int
    apart: bool = False

    def __str__(self) -> str:
        return f"{self.images} (with a loss of their own)" if self.apart else str(self.images)


def ways_of(batch: int) -> list[Way]:
    """Returns the ways for a batch, each of which takes less memory than the one before, where it differs.

    First the whole; then the network in halves, quarters, ..., and one loss of the whole, which gives the same
    gradients; last, where the loss itself is too large, parts with a loss of their own.
    """
    sizes = halves(batch)
    return [*(Way(size) for size in sizes), *(Way(size, apart=True) for size in sizes[1:])]


def loss_gradients(model: Any, batches: Batches, samples: Sequence[Any], way: Way) -> dict[str, Tensor]:
    """Returns the gradients of the training loss of a batch, by parameter name, float32.

    The loss of a batch is no sum over its images: it is divided by what the batch holds (target scores, foreground
    pixels, visible keypoints). So the network runs on parts of the images, of which only the outputs are kept, the loss
    is that of all outputs, and on the way back each part runs again. The result is that of the whole batch but for
    rounding. With `way.apart`, the losses of the parts are added up instead, as if the batch were smaller: each is
    divided by what its own part holds (a mean over images or objects counts by the share of its part in the batch).
    So it is for RT-DETR in any case, whose queries depend on the objects of a batch.

    Args:
        model: The network, on the device of the batches.
        batches: What joins images.
        samples: Images, as the data set gives them.
        way: How many at once.
    """
    if batches.precision is not torch.float16:
        return _backward(model, batches, samples, way, batches.precision, 1.0)
    for scale in SCALES:
        found = _backward(model, batches, samples, way, torch.float16, scale)
        if all(bool(torch.isfinite(gradient).all()) for gradient in found.values()):
            return found
    return _backward(model, batches, samples, way, None, 1.0)


def autocast(device: torch.device, precision: torch.dtype | None) -> Any:
    """Returns the context in which the network computes in a precision, that of its weights if None."""
    return torch.autocast(device.type, dtype=precision) if precision else contextlib.nullcontext()


def _backward(
    model: Any, batches: Batches, samples: Sequence[Any], way: Way, precision: torch.dtype | None, scale: float
) -> dict[str, Tensor]:
    """Returns the gradients of a loss that is scaled for the way back."""
    size = way.images if way.apart else len(samples)
    model.zero_grad(set_to_none=True)
    try:
        for begin in range(0, len(samples), size):
            part = samples[begin : begin + size]
            batch = batches.batch(part)
            with batches.reproducible(), quiet(model), torch.enable_grad():
                with _in_parts(model, len(part), way.images), autocast(batches.device, precision):
                    loss, _ = model.loss(batch)
                (loss.sum() * (scale * _share(model, part, samples))).backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return {name: gradient / scale if scale != 1 else gradient for name, gradient in gradients.items()}
    finally:
        model.zero_grad(set_to_none=True)


def _share(model: nn.Module, part: Sequence[Any], whole: Sequence[Any]) -> float:
    """Returns the weight of the loss of a part: 1 where the release multiplies a mean by the number of images."""
    from ultralytics.nn.tasks import ClassificationModel, RTDETRDetectionModel

    if isinstance(model, ClassificationModel):  # a mean over images
        return len(part) / len(whole)
    if isinstance(model, RTDETRDetectionModel):  # over objects
        objects = [max(sum(len(sample["cls"]) for sample in samples), 1) for samples in (part, whole)]
        return objects[0] / objects[1]
    return 1.0


@contextlib.contextmanager
def _in_parts(model: nn.Module, whole: int, size: int) -> Iterator[None]:
    """Lets a network run on parts of a batch, of which nothing is kept but the outputs; they run again on the way back.

    Args:
        model: The network.
        whole: Images in the batch.
        size: Images in a part.
    """
    if size >= whole:
        yield
        return
    forward = model.forward

    def in_parts(*args: Any, **kwargs: Any) -> Any:
        parts = []
        for begin in range(0, whole, size):
            images = slice(begin, begin + size)
            given, named = _mapped((args, kwargs), lambda t, images=images: t[images] if len(t) == whole else t)
            parts.append(checkpoint(forward, *given, use_reentrant=False, **named))
        return _joined(parts, [min(size, whole - begin) for begin in range(0, whole, size)])

    model.forward = in_parts  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.forward


def _mapped(value: Any, of_tensor: Any) -> Any:
    """Returns nested lists, tuples and dicts with each tensor of at least one dimension replaced."""
    if isinstance(value, Tensor):
        return of_tensor(value) if value.ndim else value
    if isinstance(value, dict):
        return {key: _mapped(item, of_tensor) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(item, of_tensor) for item in value)
    return value


def _joined(parts: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Returns the outputs of parts as those of the whole: tensors one behind the other, in whatever holds them.

    Raises:
        MemoryError: If they do not come image by image, so that this way saves no memory.
    """
    first = parts[0]
    if isinstance(first, Tensor):
        if not first.ndim or [len(part) for part in parts] != list(sizes):
            raise MemoryError("the outputs of this network do not come image by image")
        return torch.cat(list(parts))
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts], sizes) for key in first}
    if isinstance(first, (list, tuple)):
        return type(first)(_joined(item, sizes) for item in zip(*parts, strict=True))
    return first
