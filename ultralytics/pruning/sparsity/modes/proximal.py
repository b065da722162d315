"""The proximal modes: the pull on the gammas is a step after the optimizer's, to exact zeros; each gamma alone."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...channels import ChannelMap
from ..asked import Asked
from ..findings import Ending, of_a_pull, of_a_target
from ..scales import Scales
from .base import BY_EPOCHS, Mode, Traits, by_epochs
from .regulation import Regulation


class Shrink(Protocol):
    """A proximal step: how far the gammas move, how far the betas, and which of the K channels."""

    def __call__(self, scales: Scales, step: float, bias_step: float = 0.0, where: Tensor | None = None) -> None:
        """Takes the step."""


def shrink(scales: Scales, step: float, bias_step: float = 0.0, where: Tensor | None = None) -> None:
    """Moves each prunable gamma towards zero by `step`, and those nearer than that to exactly zero.

    The proximal step of `step * |gamma|`: gamma = sign(gamma) * max(|gamma| - step, 0).

    Source: iterative soft-thresholding, arXiv 1802.00124, section 4.

    Args:
        scales: The gammas.
        step: How far, at least 0.
        bias_step: The same for the betas.
        where: Which of the K channels; by default all that can be pruned.
    """
    where = scales.free if where is None else where
    for tensors, distance in ((scales.gammas, step), (scales.betas, bias_step)):
        if distance:
            values = torch.cat([tensor.detach() for tensor in tensors])
            scales.write(tensors, torch.where(where, torch.nn.functional.softshrink(values, distance), values))


class Proximal(Mode):
    """Moves gammas towards zero after the optimizer's step, by a strength, or to a target by a regulated one.

    Args:
        model: The network.
        channel_map: Its channels.
        scales: Its gammas and betas.
        asked: What is asked for.
        step: The proximal step.

    Raises:
        PruningError: If the target is so small that it removes nothing.
    """

    def __init__(
        self, model: nn.Module, channel_map: ChannelMap, scales: Scales, asked: Asked, *, step: Shrink
    ) -> None:
        self._scales, self._asked, self._step = scales, asked, step
        self.faded, self.strength = scales.gammas, asked.sr
        self._regulation = Regulation(model, channel_map, scales, asked) if asked.target else None
        self.foreseen = self._regulation.foreseen if self._regulation else ()

    def way(self, optimizer: Optimizer, steps_per_epoch: float) -> float | None:
        """Returns how far an idle gamma will move in the first epoch; None where a target is given."""
        return None if self._asked.target else self.strength

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Sets the strength of an epoch, counted from 0."""
        if self._regulation:
            self._regulation.epoch_starts(epoch, epochs)
            self.strength = self._regulation.strength
        else:
            self.strength = self._asked.strength(epoch, epochs)

    def after_step(self, share: float) -> None:
        """Takes the proximal step, and holds at zero what is held."""
        self.travel += self.strength * share
        if self.strength or self._asked.sr_bias:
            where = self._regulation.pulled if self._regulation else None
            self._step(self._scales, self.strength * share, self._asked.sr_bias * share, where)
        if self._regulation:
            self._regulation.after_step()

    def state(self) -> dict[str, Any]:
        """Returns what the regulation needs to resume."""
        return {"regulation": self._regulation.state()} if self._regulation else {}

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from an earlier state of the run."""
        if self._regulation:
            self._regulation.load(state["regulation"])
        self.strength = self._regulation.strength if self._regulation else state["strength"]

    def findings(self, ending: Ending) -> tuple[str, ...]:
        """Returns a line for the user if too little has faded: what to try."""
        target = self._asked.target
        return of_a_target(target, ending) if target else of_a_pull(self.travel, ending)


PROXIMAL = Traits(
    partial(Proximal, step=shrink),
    "shrinks each gamma after the optimizer's step, to exact zeros",
    default_strength=by_epochs,
    default_said=BY_EPOCHS,
)
