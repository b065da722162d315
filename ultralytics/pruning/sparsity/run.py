"""What the trainer holds during a sparsity training: it calls this at each step and epoch, and knows of no mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..errors import PruningError
from ..plans.findings import Finding, Kind
from ..tracing.trace import trace
from .findings import Ending
from .modes import divides
from .scales import Scales
from .settings import Settings
from .watching import History


class SparsityRun:
    """A sparsity training of one network. Under DDP each rank has one, and all do the same.

    Args:
        model: The network, without wrappers.
        settings: What is asked for.
        imgsz: Side of the training images in pixels, or height and width: a target is met at this size.

    Attributes:
        settings: What is asked for.
        scales: The gammas that it works on; the list is made once.
        mode: What lets them fade.
        history: What the user watches.
        divides: Whether the optimizer divides gradients by their running size.

    Raises:
        PruningError: If the network has nothing that can fade.
    """

    def __init__(self, model: nn.Module, settings: Settings, imgsz: int | Sequence[int] = 640) -> None:
        channel_map = trace(model, imgsz=imgsz)
        self.settings = settings
        self.scales = Scales.of(model, channel_map)
        self.history = History()
        self._share = 0.0  # of an epoch, since the last step
        self.divides = False
        self._at_start = self.scales.prunable().cpu()
        self._scheduled = settings.sr
        self.mode = settings.traits.start(model, channel_map, self.scales, settings)
        ids = {id(tensor) for tensor in self.mode.faded}
        self._may_be_zero = {name: tensor for name, tensor in model.named_parameters() if id(tensor) in ids}

    def __str__(self) -> str:
        count, norms = int(self.scales.free.sum()), len(self.scales.names)
        return f"{self.settings}; {count:,} prunable gammas of {norms} batch norms"

    @property
    def missed(self) -> tuple[Finding, ...]:
        """What will keep the training from its target."""
        return tuple(finding for finding in self.mode.foreseen if finding.kind == Kind.MISSED)

    @property
    def strength(self) -> float:
        """The strength in this epoch; 0 where nothing is pulled."""
        return self.mode.strength

    def attach(self, optimizer: Optimizer) -> None:
        """Acts at each step of an optimizer from now on, except those that a gradient scaler skips."""
        skipped = False

        def before(optimizer: Optimizer, *_: Any) -> None:
            nonlocal skipped
            skipped = _skipped(optimizer)
            if not skipped:
                self.mode.before_step(optimizer, self._share)

        def after(*_: Any) -> None:
            if not skipped:
                self.mode.after_step(self._share)
                self._share = 0.0

        self.divides = divides(optimizer)
        if not self.settings.traits.in_gradients:
            optimizer.register_step_pre_hook(before)
            optimizer.register_step_post_hook(after)

    def check(self, optimizer: Optimizer, steps_per_epoch: float, epochs: int) -> None:
        """Refuses a training that cannot end well.

        Raises:
            PruningError: If the strength would take all gammas to zero within an epoch, or the epochs are too few.
        """
        least = self.settings.traits.least_epochs
        if epochs < least:
            raise PruningError(f"sparsity={self.settings.mode} needs at least {least} epochs, these are {epochs}")
        way, largest = self.mode.way(optimizer, steps_per_epoch), float(self._at_start.max())
        if way is not None and way >= largest:
            raise PruningError(
                f"sr={self.settings.sr:g} moves an idle gamma by {way:.2g} in an epoch, and the largest is "
                f"{largest:.2g}: all channels would fade at once; use an sr of at most "
                f"{self.settings.sr * largest / way / 3:.1g}"
            )

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Sets the strength of an epoch, counted from 0, or chooses what fades in it."""
        self._scheduled = self.settings.strength(epoch, epochs)
        self.mode.epoch_starts(epoch, epochs)

    def batch_starts(self, batches: int) -> None:
        """Counts how much of an epoch the next step is: the batches since the last one.

        Args:
            batches: Number of batches in an epoch.
        """
        self._share += 1 / batches

    def add_to_gradients(self, optimizer: Optimizer) -> None:
        """Lets a mode that pulls through the gradients do so, once for each step, between backward and the step."""
        self.mode.before_step(optimizer, self._share)

    def copy_zeros(self, averaged: nn.Module) -> None:
        """Copies exact zeros into the averaged weights (EMA), where averaging alone never makes any.

        Args:
            averaged: The average of this run's network.
        """
        with torch.no_grad():
            for name, tensor in self._may_be_zero.items():
                averaged.get_parameter(name).masked_fill_(tensor == 0, 0.0)

    def state(self) -> dict[str, Any]:
        """Returns what `load` takes, as tensors and plain data."""
        return {
            **self.mode.state(),
            "history": self.history.state(),
            "travel": self.mode.travel,
            "at_start": self._at_start,
            "strength": self._scheduled,
            "share": self._share,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from an earlier `state`."""
        self.mode.load(state)
        self.history.load(state["history"])
        self.mode.travel, self._at_start = state["travel"], state["at_start"]
        self._scheduled, self._share = state["strength"], state["share"]

    def findings(self) -> tuple[str, ...]:
        """Returns lines for the user at the end: that too little has faded, and what to try."""
        return self.mode.findings(Ending(self.scales.sparsity(), self._at_start, self.divides))


def _skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer, which a gradient scaler calls in any case, does nothing in this step."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)
