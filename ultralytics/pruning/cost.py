"""Parameters and multiply-adds of any choice of channels: arithmetic on the `ChannelMap`, no forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .channels import ChannelMap, Layer


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        params: Number of parameters, batch norms included (running statistics are buffers, not parameters).
        macs: Multiply-adds of all convolutions and linear layers of the deployed network for one image.
        training_only: Those of the parameters that are not deployed, such as a second head that trains the first.
    """

    params: int
    macs: int
    training_only: int = 0

    @property
    def deployed(self) -> int:
        """Number of parameters of the deployed network, before batch norms and branches are folded."""
        return self.params - self.training_only

    def to_dict(self) -> dict[str, int]:
        """Returns it as plain data, for a plan."""
        plain = {"params": self.params, "macs": self.macs}
        return {**plain, "training_only": self.training_only} if self.training_only else plain

    @property
    def gflops(self) -> float:
        """10^9 floating-point operations for one image, counted as 2 x multiply-adds."""
        return 2 * self.macs / 1e9


class KeptCounts:
    """Counts for many lists of groups at once how many of their places a choice keeps.

    Args:
        parts: Groups of each list, none of them empty.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._places = np.concatenate([np.empty(0, dtype=np.int64), *parts])
        self._starts = np.cumsum([0, *map(len, parts)])[:-1]

    def __call__(self, kept: np.ndarray) -> np.ndarray:
        """Returns the number of kept places of each list, int64 of shape (len(parts),), for `kept` of shape (G,)."""
        return np.add.reduceat(kept.astype(np.int64)[self._places], self._starts)


class CostModel:
    """The costs of many choices of one network; what does not depend on the choice is computed once."""

    def __init__(self, channel_map: ChannelMap) -> None:
        layers = list(channel_map.layers.values())
        self._counts = KeptCounts([layer.inputs for layer in layers] + [layer.outputs for layer in layers])
        self._other = channel_map.other_parameters
        self._inner = KeptCounts([block.inner for block in channel_map.blocks])
        place = {layer.name: i for i, layer in enumerate(layers)}
        self._inside = [[place[name] for name in block.layers] for block in channel_map.blocks]
        self._filters = np.array([layer.has_filters for layer in layers], dtype=bool)
        self._kernel = np.array([layer.kernel_cells for layer in layers])
        self._groups = np.array([layer.conv_groups for layer in layers])
        self._depthwise = np.array([layer.conv_groups == len(layer.inputs) for layer in layers], dtype=bool)
        self._per_channel = np.array([_vectors(layer) for layer in layers])
        self._deployed = np.array([layer.deployed for layer in layers], dtype=bool)
        self._uses = np.array([layer.cells for layer in layers]) * self._deployed
        self._training_only = channel_map.training_only

    def __call__(self, kept: np.ndarray) -> Cost:
        """Returns the cost of the network that keeps the given groups, bool of shape (G,)."""
        width_in, width_out = np.split(self._counts(kept), 2)
        for block in np.flatnonzero(self._inner(kept) == 0) if self._inside else ():
            width_in[self._inside[block]] = width_out[self._inside[block]] = 0
        groups = np.where(self._depthwise, np.maximum(width_in, 1), self._groups)
        weights = np.where(self._filters, width_in * width_out * self._kernel // groups, 0)
        params = weights + width_out * self._per_channel
        return Cost(
            params=self._other + int(params.sum()),
            macs=int((weights * self._uses).sum()),
            training_only=self._training_only + int(params[~self._deployed].sum()),
        )


def _vectors(layer: Layer) -> int:
    """Returns how many parameters a layer has for each output channel, besides its filters."""
    if layer.is_norm:
        return 2 if layer.bias else 0
    return int(layer.bias if layer.has_filters else layer.kind == "Parameter")


def cost_of(channel_map: ChannelMap, kept: np.ndarray | None = None) -> Cost:
    """Costs of a network that keeps the given groups.

    Args:
        channel_map: The traced network.
        kept: Which groups stay, bool of shape (G,); all by default.
    """
    if kept is None:
        kept = np.ones(len(channel_map.channels), dtype=bool)
    return CostModel(channel_map)(kept)


def macs_of_groups(channel_map: ChannelMap) -> np.ndarray:
    """Multiply-adds that each group costs while all others are there: of the filters that make it and of its readers.

    Returns:
        Multiply-adds for one image, float64 of shape (G,).
    """
    macs = np.zeros(len(channel_map.channels))
    for layer in channel_map.layers.values():
        if layer.has_filters:
            each = layer.kernel_cells * layer.cells / layer.conv_groups
            ins, outs = (np.bincount(part, minlength=len(macs)) for part in (layer.inputs, layer.outputs))
            if layer.is_depthwise:  # input and output are the same
                macs += each * len(layer.inputs) * outs
            else:
                macs += each * (outs * len(layer.inputs) + ins * len(layer.outputs) - ins * outs)
    return macs
