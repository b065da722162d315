"""What a mode of sparsity training is, as the trainer's side sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from ...channels import ChannelMap
from ...plans.findings import Finding
from ..asked import Asked
from ..findings import Ending
from ..scales import Scales

REACHED_BY = 0.7  # part of the run at whose end a target holds; the rest is for the accuracy to come back


def divides(optimizer: Optimizer) -> bool:
    """Returns whether an optimizer divides gradients by their running size, so that a pull's strength is lost on it."""
    return not isinstance(optimizer, SGD) and type(optimizer).__name__ != "MuSGD"


class Mode(Protocol):
    """Lets channels fade. One call per optimizer step; nothing in a step waits for a GPU.

    A mode that subclasses it has the bodies below where it says nothing else.

    Attributes:
        strength: The strength in this epoch; 0 where nothing is pulled.
        travel: How far an idle gamma has moved so far.
        faded: The parameters in which it makes zeros.
        foreseen: What its choice found at the start, e.g. that it will miss its target.
    """

    strength: float = 0.0
    travel: float = 0.0
    faded: Sequence[Tensor]
    foreseen: tuple[Finding, ...] = ()

    def way(self, optimizer: Optimizer, steps_per_epoch: float) -> float | None:
        """Returns how far an idle gamma will move in the first epoch; None where no step depends on `sr`."""
        return None

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Sets the strength of an epoch, counted from 0, or the choice."""
        return

    def before_step(self, optimizer: Optimizer, share: float) -> None:
        """Sees or changes the gradients, before the optimizer uses them.

        Args:
            optimizer: The optimizer.
            share: How much of an epoch the step is.
        """
        return

    def after_step(self, share: float) -> None:
        """Changes the weights, behind the optimizer's step.

        Args:
            share: How much of an epoch the step was.
        """
        return

    def state(self) -> dict[str, Any]:
        """Returns what it needs to go on beside strength and travel, under names of its own: tensors, plain data."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from an earlier state: that of the run, in which what `state` returned stands beside the rest."""
        return

    def findings(self, ending: Ending) -> tuple[str, ...]:
        """Says in words what a person should know at the end: that little has faded, and what to try."""
        return ()


def not_frozen(channel_map: ChannelMap, model: nn.Module, scales: Scales) -> np.ndarray:
    """Returns the groups none of whose gammas is frozen, bool of shape (G,)."""
    return scales.whole


@dataclass(frozen=True)
class Traits:
    """What is known of a mode before there is a network.

    Attributes:
        start: From the network, its channels, its gammas and what is asked for to the mode.
        summary: What it does, in words.
        default_strength: From the number of epochs to `sr` where nothing is said; None where there is none.
        default_said: The same in words.
        needs_target: Whether it works to a target alone.
        for_a_target: What to use instead where somebody wants a target, in words; empty where it takes one.
        fades_betas: Whether the betas fade with their gammas, so that `sr_bias` means nothing.
        in_gradients: Whether it pulls through the gradients: then without autocast, gradient scaler and clipping.
        least_epochs: The fewest that it works in.
        eligible: Which groups it may choose for a target, bool of shape (G,).
        cut_by: What to tell `prune.py` behind it, and why, in words; None where the gammas tell what can go.
    """

    start: Callable[[nn.Module, ChannelMap, Scales, Asked], Mode]
    summary: str
    default_strength: Callable[[int], float] | None = None
    default_said: str = ""
    needs_target: bool = False
    for_a_target: str = ""
    fades_betas: bool = False
    in_gradients: bool = False
    least_epochs: int = 1
    eligible: Callable[[ChannelMap, nn.Module, Scales], np.ndarray] = not_frozen
    cut_by: tuple[tuple[str, ...], str] | None = None


def by_epochs(epochs: int) -> float:
    """Returns the default strength of the modes that count in epochs: an idle gamma of 1 is at 0 behind the middle."""
    return min(2 / epochs, 0.5)


BY_EPOCHS = "2 / epochs"
