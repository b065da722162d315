"""Checks that a network of some classes gives for these the very outputs of the network that it came from."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from ..errors import PruningError
from ..tracing.trace import image_shape
from .verification import LARGEST_DIFFERENCE, raw_outputs


def check_rows(model: Any, smaller: Any, kept: Sequence[int]) -> float:
    """Compares the raw outputs of two networks on a random image in float64.

    Args:
        model: The network as it came.
        smaller: The one without the rows of other classes.
        kept: The rows that it has.

    Returns:
        The largest difference, relative to the largest value of an output.

    Raises:
        PruningError: If it is more than rounding, or an output has another shape than without these rows.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(image_shape(model, 2), generator=generator, dtype=torch.float64, device="cpu").to(device)
    expected, found = (raw_outputs(copy.deepcopy(network).double(), image) for network in (model, smaller))
    differences = [_difference(*pair, kept) for pair in zip(expected, found, strict=False)]
    largest = float(torch.tensor(differences if len(expected) == len(found) else [float("inf")], device="cpu").max())
    if not largest <= LARGEST_DIFFERENCE:
        raise PruningError(
            f"a {type(model.model[-1]).__name__} cannot lose single classes exactly: what it says of others differs "
            f"by {largest:.1e} (relative, at most {LARGEST_DIFFERENCE:g} is rounding)"
        )
    return largest


def _difference(whole: torch.Tensor, part: torch.Tensor, kept: Sequence[int]) -> float:
    """Returns how far an output is from the kept rows of another; infinite if they are not comparable."""
    dims = [dim for dim, (a, b) in enumerate(zip(whole.shape, part.shape, strict=False)) if a != b]
    if whole.ndim != part.ndim or len(dims) > 1 or any(part.shape[dim] != len(kept) for dim in dims):
        return float("inf")
    for dim in dims:
        whole = whole.index_select(dim, torch.tensor(kept, device=whole.device))
    return float((whole - part).abs().max() / whole.abs().max().clamp_min(1e-300)) if whole.numel() else 0.0
