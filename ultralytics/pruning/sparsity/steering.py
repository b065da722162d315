"""Steered sparsity: decide what to remove, then fade just that, instead of pulling on every gamma and hoping for a gap.

The importance of a group is gathered from gradients that the training computes anyway. From the second epoch to `LAST`
of the run the wanted cost falls in steps to the target; at each epoch's start the selection of `prune.py` chooses anew
what has to go. Gammas and betas of that choice fade by a factor at every step, reach zero one epoch later, and are held
there. All else is trained without a penalty.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..channels import ChannelMap
from ..errors import PruningError
from ..selection.choose import choose
from ..selection.targets import Target
from .scales import Scales
from .settings import LEAST_EPOCHS, Settings

LAST = 0.6  # part of the run after which the choice stands
FADE = 1e-3  # what is left of a scale after an epoch of fading
MEMORY = 1.0  # epochs over which the importance is averaged


def erasable(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Returns which groups emit nothing once their gammas, betas and parameters are zero, bool of shape (G,).

    Each convolution of such a group has a batch norm of its own, so that no bias is left, and all of it is trained.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    erases = channel_map.free.copy()
    for layer in channel_map.layers.values():
        if layer.has_filters:
            fades = layer.norm is not None
        elif layer.is_norm:
            fades = modules[layer.name].weight is not None and modules[layer.name].weight.requires_grad
        else:
            fades = layer.name in parameters and parameters[layer.name].requires_grad
        if not fades:
            erases[layer.outputs] = False
    return erases


def _gradient(tensor: Tensor) -> Tensor:
    """Returns a parameter's gradient, zeros if the loss did not reach it."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


class Steering:
    """Chooses what to remove, epoch by epoch, and fades it.

    Args:
        model: The network.
        channel_map: Its channels.
        scales: Its gammas and betas.
        settings: What is asked for; has a target.

    Attributes:
        removed: Which groups the last choice removes, bool of shape (G,).
        importance: Running mean of each group's squared effect on the loss, of shape (G,).
        erased: The parameters in which it makes zeros.
        findings: What will keep the choice from the target.

    Raises:
        PruningError: If no group can be faded without a trace, or the limits fit no layer.
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap, scales: Scales, settings: Settings) -> None:
        assert settings.target is not None
        self._map, self._scales, self._target, self._limits = channel_map, scales, settings.target, settings.limits
        self._eligible = erasable(channel_map, model)
        if not self._eligible.any():
            raise PruningError("no channel of this network can be faded without a trace: use sparsity=proximal")
        device = scales.groups.device
        layers, parameters = channel_map.layers.values(), dict(model.named_parameters())
        vectors = {layer.name: layer.outputs for layer in layers if layer.kind == "Parameter"}
        self.erased = [*scales.gammas, *scales.betas, *(parameters[name] for name in vectors)]
        self._faded = [tensor.detach().view(-1) for tensor in self.erased]
        groups = [torch.as_tensor(outputs, device=device) for outputs in vectors.values()]
        self._groups = torch.cat([scales.groups, scales.groups, *groups])  # of all that fades
        self._sizes = [len(tensor) for tensor in self._faded]
        self.removed = np.zeros(len(self._eligible), dtype=bool)
        self.importance = torch.zeros(len(self._eligible), device=device, dtype=scales.gammas[0].dtype)
        kept, self.findings = choose(channel_map, self.scores(), self._target, self._limits)
        if kept.all():
            raise PruningError(f"the target {settings.asked} removes nothing")
        self._chose_in = -1  # epoch
        self._fading = torch.zeros(len(self._eligible), dtype=torch.bool, device=device)
        self._gone = self._fading.clone()

    def observe(self, share_of_epoch: float) -> None:
        """Adds the gradients of a step to the importance, before the optimizer uses them.

        Removing a group changes the loss, to first order, by the sum over its members of gamma * dL/dgamma + beta *
        dL/dbeta. Source: arXiv 1906.10771, equation (8), at the gates of the batch norms.

        Args:
            share_of_epoch: How much of an epoch the step is.
        """
        scales = self._scales
        products = [
            torch._foreach_mul([tensor.detach() for tensor in tensors], [_gradient(tensor) for tensor in tensors])
            for tensors in (scales.gammas, scales.betas)
        ]
        effect = torch.cat(products[0]) + torch.cat(products[1])
        self.importance.lerp_(scales.per_group(effect).square(), min(share_of_epoch / MEMORY, 1.0))

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Chooses anew, up to `LAST` of the run.

        Args:
            epoch: Which, counted from 0.
            epochs: How many there are; at least `LEAST_EPOCHS`.
        """
        if epoch == self._chose_in:  # the release starts its first epoch again when memory is short
            return
        self._chose_in, before = epoch, self.removed
        last = min(max(round(LAST * epochs), 1), epochs - LEAST_EPOCHS + 1)
        if 1 <= epoch <= last:
            kept, _ = choose(self._map, self.scores(), self.wanted(epoch / last), self._limits)
            self.removed = ~kept
        self._hold(gone=self.removed & before, fading=self.removed & ~before)

    def scores(self) -> np.ndarray:
        """Returns what the selection ranks groups by, float64 of shape (G,); NaN where one cannot fade."""
        return np.where(self._eligible, self.importance.cpu().double().numpy(), np.nan)

    def wanted(self, progress: float) -> Target:
        """Returns the target on the way, at a progress in 0..1: the cost falls evenly from 1 to that of the target."""
        return replace(self._target, value=self._target.kind.on_the_way(self._target.value, progress))

    def _hold(self, *, gone: np.ndarray, fading: np.ndarray) -> None:
        """Sets what is held at zero from now on, and what fades."""
        self._gone, self._fading = (torch.as_tensor(mask, device=self._gone.device) for mask in (gone, fading))
        self.after_step(0.0)

    def after_step(self, share_of_epoch: float) -> None:
        """Fades what the choice removes; call it after the optimizer's step.

        Args:
            share_of_epoch: How much of an epoch the step was.
        """
        factors = torch.ones(len(self._gone), dtype=self._faded[0].dtype, device=self._gone.device)
        factors.masked_fill_(self._fading, FADE**share_of_epoch).masked_fill_(self._gone, 0.0)
        with torch.no_grad():
            torch._foreach_mul_(self._faded, list(factors[self._groups].split(self._sizes)))

    def state(self) -> dict[str, Any]:
        """Returns what `load` takes."""
        return {
            "gone": self._gone.cpu(),
            "removed": torch.from_numpy(self.removed),
            "importance": self.importance.cpu(),
            "chose_in": self._chose_in,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from an earlier `state`."""
        self.removed = state["removed"].numpy().copy()
        self.importance.copy_(state["importance"])
        self._chose_in = state["chose_in"]
        gone = state["gone"].numpy()
        self._hold(gone=gone, fading=self.removed & ~gone)
