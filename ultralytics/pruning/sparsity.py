"""The pull on the batch-norm scales (gamma) that makes channels fade during sparsity training."""

from __future__ import annotations

import torch
from torch import nn

from .gammas import gammas_of
from .tracing import trace


class SubgradientPenalty:
    """Adds the subgradient of `s * sum |gamma|` to the gradients of the prunable gammas.

    The subgradient of |gamma| is sign(gamma), so that gamma.grad += s(e) * sign(gamma), with a strength that decays
    over the epochs: s(e) = sr * (1 - 0.9 * e / E).

    Source: Network Slimming, arXiv 1708.06519, equation (1).

    Args:
        model: The network to be trained.
        sr: The strength lambda at the start.

    Attributes:
        gammas: The gammas with a prunable channel, (C,) each, with a mask (C,) that is one where it can be pruned.

    Raises:
        PruningError: If no gamma can be pruned, so that the pull would do nothing.
    """

    def __init__(self, model: nn.Module, sr: float) -> None:
        self.sr = sr
        self.gammas = {
            gamma.parameter: torch.as_tensor(gamma.free).to(gamma.parameter)
            for gamma in gammas_of(trace(model), model).values()
            if gamma.free.any()
        }

    def strength(self, epoch: int, epochs: int) -> float:
        """Returns s(e) in epoch `epoch` of `epochs`, counted from 0."""
        return self.sr * (1 - 0.9 * epoch / epochs)

    def add_to_gradients(self, epoch: int, epochs: int) -> None:
        """Adds the pull; call it once for each optimizer step, after backward and before the step."""
        live = [
            (gamma, mask, gamma.grad) for gamma, mask in self.gammas.items() if gamma.grad is not None
        ]  # not frozen
        if not live:
            return
        with torch.no_grad():
            pulls = torch._foreach_sign([gamma for gamma, _, _ in live])
            torch._foreach_mul_(pulls, [mask for _, mask, _ in live])
            torch._foreach_add_([gradient for _, _, gradient in live], pulls, alpha=self.strength(epoch, epochs))
