"""The subgradient mode: the pull on the gammas goes through the optimizer, as a part of the loss's gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ...channels import ChannelMap
from ..asked import Asked
from ..findings import Ending, of_a_pull
from ..scales import Scales
from .base import Mode, Traits, divides

DEFAULT_SR = 1e-2


def add_subgradient(scales: Scales, strength: float, bias_strength: float = 0.0) -> None:
    """Adds the subgradient of `strength * sum |gamma|`, which is `strength * sign(gamma)`, to the gradients.

    Call it after the backward pass and before the optimizer's step.

    Source: Network Slimming, arXiv 1708.06519, equation (1).

    Args:
        scales: The gammas.
        strength: s(e).
        bias_strength: The same for the betas.
    """
    for tensors, pull in ((scales.gammas, strength), (scales.betas, bias_strength)):
        reached = [
            (tensor, mask) for tensor, mask in zip(tensors, scales.masks, strict=True) if tensor.grad is not None
        ]
        if not pull or not reached:
            continue
        with torch.no_grad():
            signs = torch._foreach_sign([tensor for tensor, _ in reached])
            torch._foreach_mul_(signs, [mask for _, mask in reached])
            gradients: list[Any] = [tensor.grad for tensor, _ in reached]
            torch._foreach_add_(gradients, signs, alpha=pull)


class Subgradient(Mode):
    """Pulls on every gamma that can be pruned by the gradient of its absolute value.

    Args:
        model: The network.
        channel_map: Its channels.
        scales: Its gammas and betas.
        asked: What is asked for.
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap, scales: Scales, asked: Asked) -> None:
        self._scales, self._asked = scales, asked
        self.faded, self.strength = scales.gammas, asked.sr

    def idle_step(self, optimizer: Optimizer) -> float:
        """Returns how far an optimizer moves an idle gamma in a step, per unit of the strength."""
        group = next(
            group for group in optimizer.param_groups if any(p is self._scales.gammas[0] for p in group["params"])
        )
        if divides(optimizer):
            return group["lr"] / max(self.strength, 1e-12)  # by the running size of the pull itself: it moves by lr
        return group["lr"] / (1 - group.get("momentum", 0.0))

    def way(self, optimizer: Optimizer, steps_per_epoch: float) -> float | None:
        """Returns how far an idle gamma will move in the first epoch; None where no step depends on `sr`."""
        return None if divides(optimizer) else self.strength * (self.idle_step(optimizer) * steps_per_epoch)

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Sets the strength of an epoch, counted from 0."""
        self.strength = self._asked.strength(epoch, epochs)

    def before_step(self, optimizer: Optimizer, share: float) -> None:
        """Adds the pull, between the backward pass and the step."""
        add_subgradient(self._scales, self.strength, self._asked.sr_bias)
        self.travel += self.idle_step(optimizer) * self.strength

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from an earlier state of the run."""
        self.strength = state["strength"]

    def findings(self, ending: Ending) -> tuple[str, ...]:
        """Returns a line for the user if too little has faded: what to try."""
        return of_a_pull(self.travel, ending)


SUBGRADIENT = Traits(
    Subgradient,
    "adds sr * sign(gamma) to the gradients, as in Network Slimming",
    default_strength=lambda epochs: DEFAULT_SR,
    default_said=f"{DEFAULT_SR}",
    for_a_target="steered or proximal",
    in_gradients=True,
)
