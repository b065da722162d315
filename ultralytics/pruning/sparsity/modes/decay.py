"""What the modes share that decay all weights of a group after the optimizer's step.

Each weight is multiplied by exp(-share of an epoch * rate), where the rate is the sum of that of the group that makes
its row and that of the group that its column reads. This bypasses the optimizer, so that it is the same under any of
them, and a gradient scaler.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...channels import ChannelMap
from ..asked import Asked
from ..scales import Scales
from .base import Mode


class Decay(Mode):
    """Makes whole groups fade: their filters, their gammas and betas, and what their consumers multiply them by.

    A mode sets the rates at each epoch's start. Gammas and betas of groups that have faded are held at zero.

    Args:
        model: The network.
        channel_map: Its channels.
        scales: Its gammas and betas.
        asked: What is asked for.

    Attributes:
        strength: The highest rate in this epoch, per epoch.
        removed: Which groups a choice removes, bool of shape (G,).
    """

    def __init__(self, model: nn.Module, channel_map: ChannelMap, scales: Scales, asked: Asked) -> None:
        self._model, self._map, self._asked = model, channel_map, asked
        self._device = scales.groups.device
        self._rates = torch.zeros(len(channel_map.channels), device=self._device)
        self._gone = torch.ones_like(self._rates)  # factor of gammas and betas: 0 where they are held at zero
        self.faded = [*scales.gammas, *scales.betas]
        self._faded_groups = [part for _ in range(2) for part in scales.groups.split(scales.sizes)]
        self._weights: list[tuple[Tensor, Tensor, Tensor | None]] = list(self._places())
        self._factors: tuple[float, list[Tensor]] = (-1.0, [])
        self.removed = np.zeros(len(channel_map.channels), dtype=bool)

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
            first, second = (reads, makes) if layer.kind == "ConvTranspose2d" else (makes, reads)
            across = second.reshape(layer.conv_groups, -1).repeat_interleave(len(first) // layer.conv_groups, 0)
            yield weight.detach(), first.to(self._device), across.to(self._device)

    def _decay_by(self, rates: np.ndarray) -> None:
        """Sets the rates of an epoch, of shape (G,), at its start."""
        self._rates = torch.as_tensor(rates, device=self._device, dtype=self._rates.dtype)
        self._factors = (-1.0, [])
        self._hold()

    def after_step(self, share: float) -> None:
        """Decays; call it after the optimizer's step.

        Args:
            share: How much of an epoch the step was.
        """
        self.travel += self.strength * share
        if self.strength:
            if self._factors[0] != share:
                self._factors = share, [self._factor(*entry, share) for entry in self._weights]
            with torch.no_grad():
                torch._foreach_mul_([weight for weight, _, _ in self._weights], self._factors[1])
        self._hold()

    def _factor(self, weight: Tensor, first: Tensor, across: Tensor | None, share: float) -> Tensor:
        """Returns what a weight is multiplied by, in a shape that broadcasts to it."""
        rates = self._rates[first]
        if across is not None:
            rates = rates[:, None] + self._rates[across]
        return torch.exp(-share * rates).to(weight.dtype).reshape(*rates.shape, *[1] * (weight.ndim - rates.ndim))

    def _hold(self) -> None:
        """Sets what is held at zero to it, once nothing decays any more."""
        if not self.strength and self.removed.any():
            with torch.no_grad():
                for tensor, groups in zip(self.faded, self._faded_groups, strict=True):
                    tensor.mul_(self._gone[groups].to(tensor.dtype))

    def state(self) -> dict[str, Any]:
        """Returns the rates, and what is held at zero."""
        return {
            "decay": {
                "removed": torch.from_numpy(self.removed),
                "rates": self._rates.cpu(),
                "gone": self._gone.cpu(),
                "strength": self.strength,
            }
        }

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from an earlier state of the run."""
        decay = state["decay"]
        self.removed = decay["removed"].numpy().copy()
        self._rates, self._gone = (decay[name].to(self._device) for name in ("rates", "gone"))
        self.strength = decay["strength"]
        self._factors = (-1.0, [])
        self._hold()
