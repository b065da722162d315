"""Bins of |gamma|: on a linear axis, or on a logarithmic one, which has no place for the exact zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .networks import NetworkGammas

LOWEST = -6  # power of ten at which a logarithmic axis starts; what is smaller, but not zero, falls into the first bin
PER_DECADE = 10  # bins of the gammas over the epochs, whatever the network
FEWEST, MOST = 10, 90  # bins per power of ten, where the network decides
MANY = 90  # bins of a logarithmic axis, about
LEAST_TOP = 1.2  # a linear axis always shows where gammas begin: at one
OUTLIERS = 99.9  # percentile at which a linear axis ends; the last bin holds what is larger
FINE = 150  # linear bins, at least
SMALL = 0.01  # what is smaller has faded, and is no part of a bell
STEPS = (0.005, 0.01, 0.02)  # widths of linear bins, and these times powers of ten


@dataclass(frozen=True)
class Bins:
    """Bins of |gamma|.

    Attributes:
        edges: (B + 1,), ascending.
        logarithmic: Whether they are of equal width on a logarithmic axis, else on a linear one.
    """

    edges: np.ndarray
    logarithmic: bool

    @property
    def zeros(self) -> tuple[float, float]:
        """Where the exact zeros are drawn: below the first edge."""
        low, high = (np.log10(self.edges) if self.logarithmic else self.edges)[[0, -1]]
        below = low - (high - low) * np.array([0.09, 0.04])
        return tuple(10.0**below if self.logarithmic else below)


def _largest(networks: Sequence[NetworkGammas]) -> float:
    return max((float(values.max()) for net in networks for values in net.layers.values() if values.size), default=0.0)


def log_bins(networks: Sequence[NetworkGammas], lowest: int = LOWEST, per_decade: int = PER_DECADE) -> Bins:
    """Returns bins up to 2 or the largest |gamma|.

    Args:
        networks: Whose gammas they are for.
        lowest: Power of ten at which they start.
        per_decade: How many there are for each power of ten.
    """
    last = int(np.floor(np.log10(max(2.0, _largest(networks))) * per_decade)) + 1
    return Bins(10.0 ** (np.arange(lowest * per_decade, last + 1) / per_decade), logarithmic=True)


def fitting_log_bins(networks: Sequence[NetworkGammas]) -> Bins:
    """Returns logarithmic bins from the smallest |gamma| that is not zero: the fewer powers of ten, the finer."""
    found = [values[values > 0].min() for net in networks for values in net.layers.values() if (values > 0).any()]
    lowest = int(np.clip(np.floor(np.log10(min(found, default=0.1))), LOWEST, -1))
    return log_bins(networks, lowest, int(np.clip(MANY // -lowest, FEWEST, MOST)))


def linear_bins(networks: Sequence[NetworkGammas], most: int = 320) -> Bins:
    """Returns bins of equal width from zero to nearly the largest |gamma|; the last one is for what is larger, too.

    They are as wide as the rule of Freedman and Diaconis makes them for the network whose bell is narrower, but fine
    enough that what is at zero is a spike.

    Args:
        networks: Whose gammas they are for.
        most: How many, at most.
    """
    values = np.concatenate([net.values for net in networks])
    top = max(LEAST_TOP, float(np.percentile(values, OUTLIERS)) if values.size else 0.0)
    rules = [rule for net in networks if (rule := _width(net.values[net.values > SMALL])) > 0]
    least = max(top / most, min([*rules, top / FINE]))
    widths = (step * 10.0**power for power in range(int(np.log10(top)) + 3) for step in STEPS)
    width = next(width for width in widths if width >= least)
    return Bins(np.arange(int(np.ceil(top / width)) + 1) * width, logarithmic=False)


def _width(bell: np.ndarray) -> float:
    """Returns the width of bins by the rule of Freedman and Diaconis."""
    low, high = np.percentile(bell, (25, 75)) if bell.size else (0.0, 0.0)
    return float(2 * (high - low) / max(len(bell), 1) ** (1 / 3))


def fixed_edges() -> np.ndarray:
    """Returns edges for any network, up to 2; larger values must be clipped."""
    return log_bins([]).edges


def count_by_bin(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts |gamma| per bin.

    Args:
        values: |gamma| (K,).
        edges: Bin edges (B + 1,), ascending.

    Returns:
        Counts (1 + B,): the exact zeros, then the bins; the first and the last also hold what lies beyond them.
    """
    inside = np.clip(values[values > 0], edges[0], edges[-1])
    return np.concatenate([[np.sum(values == 0)], np.histogram(inside, edges)[0]])
