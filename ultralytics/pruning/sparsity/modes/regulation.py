"""A target instead of a strength for the proximal modes: the strength is found anew at each epoch's start."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ...channels import ChannelMap
from ...criteria import bn_scale
from ...errors import PruningError
from ...plans.findings import Finding
from ...selection.choose import choose
from ..asked import Asked
from ..scales import Scales
from ..timed import milliseconds_of
from .base import REACHED_BY


class Regulation:
    """Finds the strength that takes to zero, in time, the gammas that the target wants removed.

    At each epoch's start the selection of `prune.py` says which groups would go, by |gamma| as it is. Only these are
    pulled: a pull on all groups that is strong enough in time ruins the network. The strength is their largest |gamma|
    over the epochs left: gammas that resist raise it, until others are chosen instead. From `REACHED_BY` of the run on,
    the choice stands, its gammas are held at zero, and nothing is pulled any more.

    Args:
        model: The network.
        channel_map: Its channels.
        scales: Its gammas.
        asked: What is asked for; has a target.

    Attributes:
        held: Which groups are held at zero, bool of shape (G,).
        strength: How far an idle gamma of `pulled` moves in this epoch.
        pulled: Which of the K channels, bool of shape (K,).
        foreseen: What the choice found at the start.

    Raises:
        PruningError: If the target is so small that it removes nothing.
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap, scales: Scales, asked: Asked) -> None:
        assert asked.target is not None
        self._model, self._map, self._scales = model, channel_map, scales
        self._target, self._limits = asked.target, asked.limits
        self._milliseconds = milliseconds_of(model, channel_map, asked)
        self.held = np.zeros(len(channel_map.channels), dtype=bool)
        self.strength = 0.0
        self.pulled = torch.zeros_like(scales.free)
        self._keeps: Tensor = torch.ones_like(scales.free, dtype=scales.gammas[0].dtype)
        kept, self.foreseen = self._choose()
        if kept.all():
            raise PruningError(f"the target {asked.asked} removes nothing")

    def _choose(self) -> tuple[np.ndarray, tuple[Finding, ...]]:
        """Chooses by |gamma| as it is."""
        scores = np.where(self._scales.whole, bn_scale(self._map, self._model), np.nan)
        return choose(self._map, scores, self._target, self._limits, self._milliseconds)

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Sets the strength of this epoch, counted from 0."""
        left = round(REACHED_BY * epochs) - epoch
        if self.held.any():
            return
        removed = ~self._choose()[0]
        self.pulled = torch.as_tensor(removed, device=self._scales.groups.device)[self._scales.groups]
        if left > 0:
            self.strength = float(self._scales.values().abs()[self.pulled].max()) / left
        else:
            self.strength = 0.0
            self._hold(removed)

    def after_step(self) -> None:
        """Holds at zero what the choice removes; call it after the proximal step."""
        if self.held.any():
            self._scales.write(self._scales.gammas, self._scales.values() * self._keeps)

    def state(self) -> dict:
        """Returns what `load` reads."""
        return {"held": torch.from_numpy(self.held), "strength": self.strength, "pulled": self.pulled.cpu()}

    def load(self, state: dict) -> None:
        """Resumes from an earlier `state`."""
        self.strength = state["strength"]
        self.pulled = state["pulled"].to(self.pulled.device)
        self._hold(state["held"].numpy().copy())

    def _hold(self, groups: np.ndarray) -> None:
        """Sets which groups are held at zero from now on."""
        self.held = groups
        held = torch.as_tensor(self.held, device=self._scales.groups.device)[self._scales.groups]
        self._keeps = (~held).to(self._keeps)
        self.after_step()
