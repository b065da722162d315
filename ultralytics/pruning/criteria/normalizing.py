"""What makes the scores of different layers comparable: each layer's are divided by a quantity of that layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..channels import ChannelMap
from .members import Members, filter_layers


def _over(values: np.ndarray, by: np.ndarray | float) -> np.ndarray:
    """Divides; zero where there is nothing to divide by."""
    return np.divide(values, by, out=np.zeros_like(values), where=np.broadcast_to(by, values.shape) > 0)


def lamp(values: np.ndarray) -> np.ndarray:
    """Divides each value by the sum of those of its layer that are not smaller, itself included.

    The paper orders equal values by their position; here they score alike.

    Source: Layer-adaptive Sparsity for the Magnitude-based Pruning, arXiv 2010.07611.
    """
    ascending = np.sort(values)
    not_smaller = np.cumsum(ascending[::-1])[::-1]
    return _over(values, not_smaller[np.searchsorted(ascending, values)])


NORMALIZERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda values: values,
    "mean": lambda values: _over(values, values.mean()),
    "max": lambda values: _over(values, values.max()),
    "gaussian": lambda values: _over(values - values.mean(), values.std()),
    "lamp": lamp,
}


def normalized(channel_map: ChannelMap, scores: np.ndarray, how: str) -> np.ndarray:
    """Makes the scores of different layers comparable.

    Args:
        channel_map: The traced network.
        scores: One per group, float64 of shape (G,).
        how: A key of `NORMALIZERS`, applied to the groups of each layer that has filters. A group that several layers
            make gets the mean of what it has in them.

    Returns:
        One score per group, float64 of shape (G,); NaN where there was one, or where no layer makes the group.
    """
    if how == "none":
        return scores
    members = Members(channel_map)
    for layer in filter_layers(channel_map):
        groups = np.unique(layer.outputs)
        groups = groups[~np.isnan(scores[groups])]
        if len(groups):
            members.add(groups, NORMALIZERS[how](scores[groups]))
    return members.mean()
