"""The pull on the batch-norm scales (gamma) that makes channels fade during sparsity training."""

from __future__ import annotations

import torch
from torch import nn

from .errors import PruningError
from .tracing import trace


def prunable_gammas(model: nn.Module) -> dict[torch.Tensor, torch.Tensor]:
    """Returns the gammas that a cut could remove: each batch norm's gamma (C,) with a mask (C,), one where prunable.

    A batch norm is left out if none of its channels can be removed.

    Raises:
        PruningError: If no gamma can be removed, so that a penalty would do nothing.
    """
    channel_map = trace(model)
    modules = dict(model.named_modules())
    gammas = {}
    for layer in channel_map.norms():
        gamma = modules[layer.name].weight
        free = channel_map.free[layer.outputs]
        if gamma is not None and free.any():
            gammas[gamma] = torch.as_tensor(free, dtype=gamma.dtype, device=gamma.device)
    if not gammas:
        raise PruningError("no batch-norm scale of this network can be pruned, so sparsity training would do nothing")
    return gammas


class SubgradientPenalty:
    """Adds the subgradient of `s * sum |gamma|` to the gradients of the prunable gammas.

    The subgradient of |gamma| is sign(gamma), so that gamma.grad += s(e) * sign(gamma), with a strength that decays
    over the epochs: s(e) = sr * (1 - 0.9 * e / E).

    Source: Network Slimming, arXiv 1708.06519, equation (1).

    Args:
        model: The network to be trained.
        sr: The strength lambda at the start.
    """

    def __init__(self, model: nn.Module, sr: float) -> None:
        self.sr = sr
        self.gammas = prunable_gammas(model)

    def strength(self, epoch: int, epochs: int) -> float:
        """Returns s(e) in epoch `epoch` of `epochs`, counted from 0."""
        return self.sr * (1 - 0.9 * epoch / epochs)

    def add_to_gradients(self, epoch: int, epochs: int) -> None:
        """Adds the pull; call it once for each optimizer step, after backward and before the step."""
        live = [(gamma, mask) for gamma, mask in self.gammas.items() if gamma.grad is not None]  # not frozen
        if not live:
            return
        with torch.no_grad():
            pulls = torch._foreach_sign([gamma for gamma, _ in live])
            torch._foreach_mul_(pulls, [mask for _, mask in live])
            torch._foreach_add_([gamma.grad for gamma, _ in live], pulls, alpha=self.strength(epoch, epochs))
