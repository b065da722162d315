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
    """Lets channels fade. Each method is called once per optimizer step or epoch; nothing in a step waits for a GPU.

    A mode that subclasses it inherits the bodies below.

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
        """Sets the strength of an epoch, counted from 0, or chooses what fades in it."""
        return

    def before_step(self, optimizer: Optimizer, share: float) -> None:
        """Reads or changes the gradients, before the optimizer uses them.

        Args:
            optimizer: The optimizer.
            share: How much of an epoch the step is.
        """
        return

    def after_step(self, share: float) -> None:
        """Changes the weights, after the optimizer's step.

        Args:
            share: How much of an epoch the step was.
        """
        return

    def state(self) -> dict[str, Any]:
        """Returns what it needs to resume besides strength and travel, under keys of this mode: tensors, plain data."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from an earlier state: that of the run, which holds what `state` returned beside the rest."""
        return

    def findings(self, ending: Ending) -> tuple[str, ...]:
        """Returns lines for the user at the end: that too little has faded, and what to try."""
        return ()


def not_frozen(channel_map: ChannelMap, model: nn.Module, scales: Scales) -> np.ndarray:
    """Returns which groups have no frozen gamma, bool of shape (G,)."""
    return scales.whole


@dataclass(frozen=True)
class Traits:
    """What is known about a mode before there is a network.

    Attributes:
        start: From the network, its channels, its gammas and what is asked for to the mode.
        summary: What it does, in words.
        default_strength: From the number of epochs to the default of `sr`; None where there is none.
        default_said: The same in words.
        needs_target: Whether it works only with a target.
        for_a_target: The modes to use instead for a target, in words; empty where it takes one.
        fades_betas: Whether the betas fade with their gammas, so that `sr_bias` means nothing.
        in_gradients: Whether it pulls through the gradients, which rules out autocast, gradient scaler and clipping.
        least_epochs: The fewest epochs in which it works.
        eligible: Which groups it may choose for a target, bool of shape (G,).
        criterion: By which its channels are scored afterwards, a key of `CRITERIA`.
        cut_by: The target to name to `prune.py` after it, and why, in words; None where the gammas tell what can go.
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
    criterion: str = "slim"
    cut_by: tuple[tuple[str, ...], str] | None = None


def by_epochs(epochs: int) -> float:
    """Returns the default strength of the modes that count in epochs: an idle gamma of 1 is at 0 past the middle."""
    return min(2 / epochs, 0.5)


BY_EPOCHS = "2 / epochs"
