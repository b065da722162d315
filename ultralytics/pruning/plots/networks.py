"""The scales of a network's prunable channels, and what they are in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checkpoints import checkpoint
from ..gammas import gammas_of
from ..report import table
from ..selection.ratios import RatioCut, ratio_cuts
from ..tracing.trace import trace


@dataclass(frozen=True)
class NetworkGammas:
    """The scales of a network's prunable channels.

    Attributes:
        title: What to call the network, e.g. its checkpoint.
        layers: |gamma| of each batch norm's prunable channels (K_i,), by name, in network order; K_i may be 0.
        cuts: What some pruning ratios would do.
    """

    title: str
    layers: dict[str, np.ndarray]
    cuts: tuple[RatioCut, ...] = ()

    @property
    def values(self) -> np.ndarray:
        """|gamma| of all prunable channels, of shape (K,)."""
        return np.concatenate(list(self.layers.values()))


def network_gammas(path: Path, title: str) -> NetworkGammas:
    """Reads the scales of a checkpoint.

    Raises:
        PruningError: If it is not a checkpoint, or none of its scales can be pruned.
    """
    model, content = checkpoint.load(path)
    channel_map = trace(model, imgsz=checkpoint.image_size(content))
    gammas = gammas_of(channel_map, model)
    layers = {name: gamma.prunable() for name, gamma in gammas.items()}
    return NetworkGammas(title, layers, ratio_cuts(channel_map, model))


def gamma_table(networks: Sequence[NetworkGammas]) -> str:
    """Returns a table of how many gammas are small, one line for each network."""
    header = ("checkpoint", "prunable gammas", "|gamma| < 1e-2", "|gamma| < 1e-3", "exactly 0", "median")
    rows = []
    for network in networks:
        values = network.values
        shares = [f"{np.mean(small):.1%}" for small in (values < 1e-2, values < 1e-3, values == 0)]
        rows.append((network.title, f"{len(values):,}", *shares, f"{np.median(values):.3g}"))
    return table(header, rows)
