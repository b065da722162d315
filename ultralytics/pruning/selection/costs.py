"""What choices of one network's channels cost, in every unit that a target may have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..channels import ChannelMap
from ..cost import CostModel
from ..errors import PruningError

Milliseconds = Callable[[np.ndarray], float]  # from a choice, bool of shape (G,)


class Costs:
    """What choices of one network's channels cost, in every unit that a target may have.

    Args:
        channel_map: The traced network.
        candidates: Groups that the threshold may remove, bool of shape (G,).
        milliseconds: From a choice to its time, if anything knows that.

    Attributes:
        everything: The choice that keeps all groups.
    """

    def __init__(
        self, channel_map: ChannelMap, candidates: np.ndarray, milliseconds: Milliseconds | None = None
    ) -> None:
        self._cost, self._milliseconds = CostModel(channel_map), milliseconds
        self._channels = np.where(candidates, channel_map.channels, 0)
        self.everything = np.ones(len(candidates), dtype=bool)

    def channels(self, kept: np.ndarray) -> int:
        """Returns how many of the candidates' channels stay."""
        return int(self._channels[kept].sum())

    def macs(self, kept: np.ndarray) -> int:
        """Returns the multiply-adds of the deployed network."""
        return self._cost(kept).macs

    def parameters(self, kept: np.ndarray) -> int:
        """Returns the parameters of the deployed network."""
        return self._cost(kept).deployed

    def milliseconds(self, kept: np.ndarray) -> float:
        """Returns the time for one image.

        Raises:
            PruningError: If nobody has timed the layers.
        """
        if self._milliseconds is None:
            raise PruningError("milliseconds are a target only with timings: prune_network(latency=...) takes them")
        return self._milliseconds(kept)
