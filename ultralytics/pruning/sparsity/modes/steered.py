"""The steered mode: decide what to remove, then fade just that, instead of pulling on every gamma and hoping for a gap.

The importance of a group is gathered from gradients that the training computes anyway. From the second epoch to `LAST`
of the run, the wanted cost falls in steps to the target; at each epoch's start the selection of `prune.py` chooses anew
what has to go. Gammas and betas of that choice fade by a factor at every step, reach zero one epoch later, and are held
there. Everything else is trained without a penalty.

Where milliseconds are the target, the last `CORRECTED` choices are timed in turns with the original, and the factor
that the latency model is asked for is corrected by that: the choice that stands meets the target as timed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...channels import ChannelMap
from ...cost import cost_of
from ...errors import PruningError
from ...plans.findings import Finding
from ...selection.choose import choose
from ...selection.targets import Target
from ..asked import Asked
from ..erasing import erasable, traceless
from ..findings import Ending, of_a_target
from ..scales import Scales
from ..timed import Correction, milliseconds_of
from .base import Mode, Traits

LAST = 0.6  # part of the run after which the choice stands
FADE = 1e-3  # what is left of a scale after an epoch of fading
MEMORY = 1.0  # epochs over which the importance is averaged
CORRECTED = 3  # choices at the end that are timed, where milliseconds are the target
LEAST_EPOCHS = 3  # one to look, one to fade, one at zero


def _gradient(tensor: Tensor) -> Tensor:
    """Returns a parameter's gradient, zeros if the loss did not reach it."""
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


class Steering(Mode):
    """Chooses what to remove, epoch by epoch, and fades it.

    Args:
        model: The network.
        channel_map: Its channels.
        scales: Its gammas and betas.
        asked: What is asked for; has a target.

    Attributes:
        removed: Which groups the last choice removes, bool of shape (G,).
        importance: Running mean of each group's squared effect on the loss, of shape (G,).

    Raises:
        PruningError: If no group can fade completely, the limits fit no layer, or a table of latencies is not of this
            network.
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap, scales: Scales, asked: Asked) -> None:
        assert asked.target is not None
        self._map, self._scales, self._target, self._limits = channel_map, scales, asked.target, asked.limits
        self._parameters = cost_of(channel_map).deployed
        self._eligible = erasable(channel_map, model)
        if not self._eligible.any():
            raise PruningError("no channel of this network can be faded without a trace: use sparsity=proximal")

        # Besides gammas and betas, parameters that are added or multiplied as they are fade with their group.
        device = scales.groups.device
        layers, parameters = channel_map.layers.values(), dict(model.named_parameters())
        vectors = {layer.name: layer.outputs for layer in layers if layer.kind == "Parameter"}
        self.faded = [*scales.gammas, *scales.betas, *(parameters[name] for name in vectors)]
        self._flat = [tensor.detach().view(-1) for tensor in self.faded]
        groups = [torch.as_tensor(outputs, device=device) for outputs in vectors.values()]
        self._groups = torch.cat([scales.groups, scales.groups, *groups])  # of all that fades
        self._sizes = [len(tensor) for tensor in self._flat]

        self.removed = np.zeros(len(self._eligible), dtype=bool)
        self.importance = torch.zeros(len(self._eligible), device=device, dtype=scales.gammas[0].dtype)
        self._milliseconds = milliseconds_of(model, channel_map, asked)
        self._correction = Correction.of(model, channel_map, asked)
        kept, self.foreseen = self._choose()
        if kept.all():
            raise PruningError(f"the target {asked.asked} removes nothing")

        self._chose_in = -1  # epoch
        self._fading = torch.zeros(len(self._eligible), dtype=torch.bool, device=device)
        self._gone = self._fading.clone()

    def before_step(self, optimizer: Optimizer, share: float) -> None:
        """Adds the gradients of a step to the importance, before the optimizer uses them.

        Removing a group changes the loss, to first order, by the sum over its members of gamma * dL/dgamma + beta *
        dL/dbeta. Source: arXiv 1906.10771, equation (8), at the gates of the batch norms.

        Args:
            optimizer: The optimizer.
            share: How much of an epoch the step is.
        """
        scales = self._scales
        products = [
            torch._foreach_mul([tensor.detach() for tensor in tensors], [_gradient(tensor) for tensor in tensors])
            for tensors in (scales.gammas, scales.betas)
        ]
        effect = torch.cat(products[0]) + torch.cat(products[1])
        self.importance.lerp_(scales.per_group(effect).square(), min(share / MEMORY, 1.0))

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Chooses anew, up to `LAST` of the run.

        Args:
            epoch: Which, counted from 0.
            epochs: How many there are; at least `LEAST_EPOCHS`.
        """
        if epoch == self._chose_in:  # the release restarts its first epoch when memory is short
            return
        self._chose_in, before = epoch, self.removed
        last = min(max(round(LAST * epochs), 1), epochs - LEAST_EPOCHS + 1)
        if 1 <= epoch <= last:
            if self._correction and epoch > last - CORRECTED:
                self._correction.correct(self._choose_by_model, last=epoch == last)
            self.removed = ~self._choose(epoch / last)[0]
        self._hold(gone=self.removed & before, fading=self.removed & ~before)

    def scores(self) -> np.ndarray:
        """Returns what the selection ranks groups by, float64 of shape (G,); NaN where one cannot fade."""
        return np.where(self._eligible, self.importance.cpu().double().numpy(), np.nan)

    def _choose(self, progress: float = 1.0, value: float | None = None) -> tuple[np.ndarray, tuple[Finding, ...]]:
        """Chooses what stays at a progress in 0..1, by the target as it is corrected so far, or by another value."""
        target = self.wanted(progress, value)
        return choose(self._map, self.scores(), target, self._limits, self._milliseconds)

    def _choose_by_model(self, factor: float) -> np.ndarray:
        """Returns what stays in the end if the latency model is asked for a factor."""
        return self._choose(value=factor)[0]

    def wanted(self, progress: float, value: float | None = None) -> Target:
        """Returns the target at a progress in 0..1: the cost falls evenly from that of the network to the target's."""
        if value is None:
            value = self._correction.factor if self._correction else self._target.value
        if progress < 1:
            value = self._target.kind.on_the_way(value, progress, self._parameters)
        return replace(self._target, value=value)

    def _hold(self, *, gone: np.ndarray, fading: np.ndarray) -> None:
        """Sets what is held at zero from now on, and what fades."""
        self._gone, self._fading = (torch.as_tensor(mask, device=self._gone.device) for mask in (gone, fading))
        self.after_step(0.0)

    def after_step(self, share: float) -> None:
        """Fades what the choice removes; call it after the optimizer's step.

        Args:
            share: How much of an epoch the step was.
        """
        factors = torch.ones(len(self._gone), dtype=self._flat[0].dtype, device=self._gone.device)
        factors.masked_fill_(self._fading, FADE**share).masked_fill_(self._gone, 0.0)
        with torch.no_grad():
            torch._foreach_mul_(self._flat, list(factors[self._groups].split(self._sizes)))

    def state(self) -> dict[str, Any]:
        """Returns the choice, and what it is made by."""
        return {
            "steering": {
                "gone": self._gone.cpu(),
                "removed": torch.from_numpy(self.removed),
                "importance": self.importance.cpu(),
                "chose_in": self._chose_in,
                "correction": self._correction.state() if self._correction else None,
            }
        }

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from an earlier state of the run."""
        steering = state["steering"]
        self.removed = steering["removed"].numpy().copy()
        self.importance.copy_(steering["importance"])
        self._chose_in = steering["chose_in"]
        if self._correction and steering.get("correction"):  # an earlier version noted none
            self._correction.load(steering["correction"])
        gone = steering["gone"].numpy()
        self._hold(gone=gone, fading=self.removed & ~gone)

    def findings(self, ending: Ending) -> tuple[str, ...]:
        """Returns lines for the user: that too little has faded, and what to try; that it is slower than asked for."""
        return of_a_target(self._target, ending) + (self._correction.findings() if self._correction else ())


STEERED = Traits(
    Steering,
    "chooses what to remove for a target, and fades just that",
    needs_target=True,
    fades_betas=True,
    least_epochs=LEAST_EPOCHS,
    eligible=traceless,
)
