"""What a network says of an image, as a distribution: outputs are drawn from it, and their log-likelihood is a number.

The gradients of the log-likelihood of drawn outputs have the Fisher information as their second moment: how much what
the network says changes with a parameter. No label takes part.

Source: Limitations of the Empirical Fisher Approximation (Kunstner, Balles and Hennig), arXiv 1905.12558: outputs are
drawn from the network, where the gradients of a loss at the labels would not do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..tracing.records import tensors_in
from ..tracing.trace import SHAPE_ONLY_OUTPUTS

BOX_SIDES = 4  # distances from an anchor to the sides of a box
DETECTION = {"boxes", "scores"}  # what a detection head returns at least, for each anchor
ANGLE_SCALE = 10.0  # radians count that much more than distances in strides


def drawn(outputs: Any, generator: torch.Generator) -> Tensor:
    """Draws outputs as likely as a network says, and returns their log-likelihood, which leads back to the network.

    Args:
        outputs: What the network's heads return before decoding, for a batch of images: of a detection head scores
            (B, C, A) as logits, distances to the sides (B, 4 * bins, A), what else there is for each anchor (B, N, A)
            and prototypes of masks; logits of classes (B, C) or (B, C, H, W); other tensors are means with a deviation
            of 1.
        generator: What draws, on the CPU.
    """
    return torch.stack(list(_terms(outputs, generator))).sum()


def _terms(outputs: Any, generator: torch.Generator) -> Iterator[Tensor]:
    if isinstance(outputs, Mapping) and outputs.keys() >= DETECTION:
        yield from _of_detections(outputs, generator)
    elif isinstance(outputs, Mapping):
        for name, value in outputs.items():
            if name == "depth":
                yield _normal(value, generator) / value[0].numel() ** 0.5
            elif name not in SHAPE_ONLY_OUTPUTS:
                yield from _terms(value, generator)
    elif isinstance(outputs, Tensor):
        yield _of_classes(outputs, generator) if outputs.ndim in (2, 4) else _normal(outputs, generator)
    elif isinstance(outputs, Sequence) and not isinstance(outputs, str):
        for value in outputs:
            yield from _terms(value, generator)


def _of_detections(outputs: Mapping[str, Any], generator: torch.Generator) -> Iterator[Tensor]:
    """Yields the log-likelihoods of drawn classes, boxes and the rest; what has no object counts by its score."""
    scores, boxes = outputs["scores"], outputs["boxes"]
    chances = scores.detach().sigmoid()
    drawn_classes = (_uniform(scores, generator) < chances).to(scores)
    yield -F.binary_cross_entropy_with_logits(scores, drawn_classes, reduction="sum")

    weights = chances.amax(1, keepdim=True).sqrt()  # (B, 1, A)
    bins = boxes.shape[1] // BOX_SIDES
    if bins > 1:
        logs = boxes.unflatten(1, (BOX_SIDES, bins)).log_softmax(2)  # (B, 4, bins, A)
        yield (_of_choices(logs, 2, generator) * weights).sum()
    else:
        yield _normal(boxes, generator, weights)

    for name, value in outputs.items():
        if name in DETECTION or name in SHAPE_ONLY_OUTPUTS:
            continue
        if isinstance(value, Tensor) and value.ndim == 3:
            yield _normal(value, generator, weights) * (ANGLE_SCALE if name == "angle" else 1.0)
        else:  # maps that all objects of an image share
            for tensor in tensors_in(value):
                objects = weights.square().sum((1, 2)).view(-1, *[1] * (tensor.ndim - 1))
                yield _normal(tensor, generator, (objects / tensor[0, 0].numel()).sqrt())


def _of_classes(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Returns the log-likelihood of drawn classes: of each image, (B, C), or of its pixels, (B, C, H, W)."""
    logs = logits.log_softmax(1)
    found = _of_choices(logs, 1, generator)
    return found.sum() / found[0].numel() ** 0.5


def _of_choices(logs: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """Draws one of the places along a dimension, as likely as their logarithms say, and returns that of each."""
    noise = -(-_uniform(logs, generator).clamp_min(1e-20).log()).clamp_min(1e-20).log()  # Gumbel's way to draw
    return logs.gather(dim, (logs.detach() + noise).argmax(dim, keepdim=True)).squeeze(dim)


def _normal(means: Tensor, generator: torch.Generator, weights: Tensor | float = 1.0) -> Tensor:
    """Returns what of the log-likelihood of drawn numbers with a deviation of 1 depends on their means."""
    noise = torch.randn(means.shape, generator=generator, dtype=torch.float32).to(means)
    return (means * noise * weights).sum()


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, dtype=torch.float32).to(like)
