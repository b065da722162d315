"""Regularisers on all weights of a group, behind the optimizer's step: group sparsity learning, growing regularisation.

Both are a decay: each weight is multiplied by exp(-share of an epoch * rate), with the rate of the group that makes its
row and that of the group that its column reads, added. It goes past the optimizer, so that it is the same under
any of them, and past a gradient scaler.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..channels import ChannelMap
from ..criteria.magnitude import group_norm
from ..criteria.members import Members, filter_layers
from ..errors import PruningError
from ..plans.findings import Finding
from ..selection.choose import choose
from .regulation import REACHED_BY
from .scales import FADED, Scales
from .settings import Settings
from .steering import erasable

ALPHA = 4.0  # the least important group of a layer decays 2^ALPHA times as fast as the most important


def spread(channel_map: ChannelMap, norms: np.ndarray) -> np.ndarray:
    """Returns how fast each group decays, relative to the least important of its layer, float64 of shape (G,).

    2^(-ALPHA * (I - I_min) / (I_max - I_min)), I the norm of a group and I_min, I_max those of its layer. A group that
    several layers make gets the mean.

    Source: DepGraph, arXiv 2301.12900, section 3.3, where the factor is 2^(ALPHA * (I_max - I) / (I_max - I_min)).
    """
    members = Members(channel_map)
    for layer in filter_layers(channel_map):
        groups = np.unique(layer.outputs)
        groups = groups[channel_map.free[groups] & ~np.isnan(norms[groups])]
        if len(groups):
            own = norms[groups]
            place = (own - own.min()) / max(own.max() - own.min(), 1e-12)
            members.add(groups, 2 ** (-ALPHA * place))
    return np.nan_to_num(members.mean())


class GroupDecay:
    """Makes whole groups fade: their filters, their gammas and betas, and what their readers multiply them by.

    `group_sl` decays all groups that can be removed, the faster the less they weigh, anew each epoch. `group_reg`
    chooses at the start, by the same norm, what a target removes; the rate of these grows from zero, so that they are
    at `FADED` of their size at `REACHED_BY` of the run, from where on their gammas and betas are held at zero.

    Source: DepGraph, arXiv 2301.12900 (`group_sl`); Neural Pruning via Growing Regularization, arXiv 2012.09243, GReg-1
    (`group_reg`).

    Args:
        model: The network.
        channel_map: Its channels.
        scales: Its gammas and betas.
        settings: What is asked for.

    Attributes:
        strength: Rate of the fastest in this epoch, per epoch.
        erased: The parameters in which it makes zeros.
        limits: In words, what will keep the choice from the target.

    Raises:
        PruningError: If the target removes nothing, or no group can be faded without a trace.
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap, scales: Scales, settings: Settings) -> None:
        self._model, self._map, self._settings = model, channel_map, settings
        self._device = scales.groups.device
        self._rates = torch.zeros(len(channel_map.channels), device=self._device)
        self._gone = torch.ones_like(self._rates)  # factor of gammas and betas: 0 where they are held
        self.erased = [*scales.gammas, *scales.betas]
        self._erased_groups = [part for _ in range(2) for part in scales.groups.split(scales.sizes)]
        self._weights: list[tuple[Tensor, Tensor, Tensor | None]] = list(self._places())
        self._factors: tuple[float, list[Tensor]] = (-1.0, [])
        self.strength, self.removed = 0.0, np.zeros(len(channel_map.channels), dtype=bool)
        self.findings: tuple[Finding, ...] = ()
        if settings.target:
            eligible = scales.whole & erasable(channel_map, model)
            scores = np.where(eligible, group_norm(channel_map, model), np.nan)
            kept, self.findings = choose(channel_map, scores, settings.target, settings.limits)
            self.removed = ~kept
            if kept.all():
                raise PruningError(f"the target {settings.asked} removes nothing")

    def _places(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yields each weight that decays, with the groups of its first dimension (A,) and of its second (A, B)."""
        modules = dict(self._model.named_modules())
        for layer in self._map.layers.values():
            module: Any = modules.get(layer.name)
            weight = getattr(module, "weight", None)
            if weight is None or not weight.requires_grad or not (layer.has_filters or layer.is_norm):
                continue
            makes, reads = torch.as_tensor(layer.outputs), torch.as_tensor(layer.inputs)
            if layer.is_norm or layer.is_depthwise:
                for parameter in (weight, module.bias):
                    if parameter is not None:
                        yield parameter.detach(), makes.to(self._device), None
                continue
            own, other = (reads, makes) if layer.kind == "ConvTranspose2d" else (makes, reads)
            across = other.reshape(layer.conv_groups, -1).repeat_interleave(len(own) // layer.conv_groups, 0)
            yield weight.detach(), own.to(self._device), across.to(self._device)

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Sets the rates of an epoch, counted from 0."""
        if self._settings.target:
            grown = REACHED_BY * epochs
            most = 2 * -math.log(FADED) / grown  # a rate that grows evenly to this leaves FADED
            self.strength = most * (epoch + 0.5) / grown if epoch < round(grown) else 0.0
            rates = np.where(self.removed, self.strength, 0.0)
            if not self.strength:
                self._gone = torch.as_tensor(~self.removed, device=self._device).to(self._gone)
        else:
            self.strength = self._settings.strength(epoch, epochs)
            rates = self.strength * spread(self._map, group_norm(self._map, self._model))
        self._rates = torch.as_tensor(rates, device=self._device, dtype=self._rates.dtype)
        self._factors = (-1.0, [])
        self._hold()

    def after_step(self, share_of_epoch: float) -> None:
        """Decays; call it after the optimizer's step.

        Args:
            share_of_epoch: How much of an epoch the step was.
        """
        if self.strength:
            if self._factors[0] != share_of_epoch:
                self._factors = share_of_epoch, [self._factor(*own, share_of_epoch) for own in self._weights]
            with torch.no_grad():
                torch._foreach_mul_([weight for weight, _, _ in self._weights], self._factors[1])
        self._hold()

    def _factor(self, weight: Tensor, own: Tensor, across: Tensor | None, share: float) -> Tensor:
        """Returns what a weight is multiplied by, in a shape that broadcasts to it."""
        rates = self._rates[own]
        if across is not None:
            rates = rates[:, None] + self._rates[across]
        return torch.exp(-share * rates).to(weight.dtype).reshape(*rates.shape, *[1] * (weight.ndim - rates.ndim))

    def _hold(self) -> None:
        """Sets what is held to zero."""
        if not self.strength and self.removed.any():
            with torch.no_grad():
                for tensor, groups in zip(self.erased, self._erased_groups, strict=True):
                    tensor.mul_(self._gone[groups].to(tensor.dtype))

    def state(self) -> dict[str, Any]:
        """Returns what `load` takes."""
        own = {"rates": self._rates.cpu(), "gone": self._gone.cpu(), "strength": self.strength}
        return {"removed": torch.from_numpy(self.removed), **own}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from an earlier `state`."""
        self.removed = state["removed"].numpy().copy()
        self._rates, self._gone = (state[name].to(self._device) for name in ("rates", "gone"))
        self.strength = state["strength"]
        self._factors = (-1.0, [])
        self._hold()
