"""What the trainer holds during a sparsity training: it calls this at each step and epoch, and knows no mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from ..errors import PruningError
from ..plans.findings import Finding, Kind
from ..tracing.trace import trace
from .decay import GroupDecay
from .penalties import PROXIMAL_STEPS, add_subgradient
from .regulation import Regulation
from .scales import Scales
from .settings import LEAST_EPOCHS, Settings
from .steering import Steering
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
        history: What a person watches.
        travel: How far an idle gamma has moved so far.
        divides: Whether the optimizer divides gradients by their running size, so that `sr` means nothing to it.

    Raises:
        PruningError: If the network has nothing that can fade.
    """

    def __init__(self, model: nn.Module, settings: Settings, imgsz: int | Sequence[int] = 640) -> None:
        channel_map = trace(model, imgsz=imgsz)
        self.settings = settings
        self.scales = Scales.of(model, channel_map)
        self.history = History()
        self.travel = 0.0
        self._share = 0.0  # of an epoch, since the last step
        self.divides = False
        self._at_start = self.scales.prunable().cpu()
        self._strength = settings.sr
        self._steering = Steering(model, channel_map, self.scales, settings) if settings.mode == "steered" else None
        decays = settings.mode in ("group_sl", "group_reg")
        self._decay = GroupDecay(model, channel_map, self.scales, settings) if decays else None
        regulated = settings.target and settings.mode in PROXIMAL_STEPS
        self._regulation = Regulation(model, channel_map, self.scales, settings) if regulated else None
        chooser = self._steering or self._decay
        faded = [*self.scales.gammas, *(chooser.erased if chooser else [])]
        parts: dict[str, Any] = {"steering": self._steering, "regulation": self._regulation, "decay": self._decay}
        self._choosers = {name: part for name, part in parts.items() if part}  # at most one
        ids = {id(tensor) for tensor in faded}
        self._may_be_zero = {name: tensor for name, tensor in model.named_parameters() if id(tensor) in ids}

    def __str__(self) -> str:
        count, norms = int(self.scales.free.sum()), len(self.scales.names)
        return f"{self.settings}; {count:,} prunable gammas of {norms} batch norms"

    @property
    def missed(self) -> tuple[Finding, ...]:
        """What will keep the training from its target."""
        found = [finding for own in self._choosers.values() for finding in own.findings]
        return tuple(finding for finding in found if finding.kind == Kind.MISSED)

    @property
    def strength(self) -> float:
        """The strength in this epoch; 0 where nothing is pulled."""
        found = self._regulation or self._decay
        return found.strength if found else self._strength

    def attach(self, optimizer: Optimizer) -> None:
        """Works at each step of an optimizer from now on, but not where a gradient scaler skips it."""
        skipped = False

        def before(optimizer: Optimizer, *_: Any) -> None:
            nonlocal skipped
            skipped = _skipped(optimizer)
            if self._steering and not skipped:
                self._steering.observe(self._share)

        def after(*_: Any) -> None:
            if not skipped:
                self._after_step(self._share)
                self._share = 0.0

        self.divides = not isinstance(optimizer, SGD) and type(optimizer).__name__ != "MuSGD"
        if not self._is_subgradient:
            optimizer.register_step_pre_hook(before)
            optimizer.register_step_post_hook(after)

    def check(self, optimizer: Optimizer, steps_per_epoch: float, epochs: int) -> None:
        """Refuses what cannot end well.

        Raises:
            PruningError: If the strength would take all gammas to zero within an epoch, or the epochs are too few.
        """
        if self._steering and epochs < LEAST_EPOCHS:
            raise PruningError(f"sparsity=steered needs at least {LEAST_EPOCHS} epochs, these are {epochs}")
        if self.settings.target or self._decay or (self._is_subgradient and self.divides):  # no step depends on sr
            return
        way = self.strength * (self.idle_step(optimizer) * steps_per_epoch if self._is_subgradient else 1.0)
        largest = float(self._at_start.max())
        if way >= largest:
            raise PruningError(
                f"sr={self.settings.sr:g} moves an idle gamma by {way:.2g} in an epoch, and the largest is "
                f"{largest:.2g}: all channels would fade at once; use an sr of at most "
                f"{self.settings.sr * largest / way / 3:.1g}"
            )

    @property
    def _is_subgradient(self) -> bool:
        return self.settings.mode == "subgradient"

    def idle_step(self, optimizer: Optimizer) -> float:
        """Returns how far an optimizer moves an idle gamma in a step, per unit of the subgradient's strength."""
        group = next(
            group for group in optimizer.param_groups if any(p is self.scales.gammas[0] for p in group["params"])
        )
        if self.divides:
            return group["lr"] / max(self.strength, 1e-12)  # by the pull's own running size: lr, whatever the strength
        return group["lr"] / (1 - group.get("momentum", 0.0))

    def epoch_starts(self, epoch: int, epochs: int) -> None:
        """Sets the strength of an epoch, counted from 0, or the choice."""
        self._strength = self.settings.strength(epoch, epochs)
        for chooser in self._choosers.values():
            chooser.epoch_starts(epoch, epochs)

    def batch_starts(self, batches: int) -> None:
        """Counts how much of an epoch the next step is: as many batches as went by since the last one.

        Args:
            batches: Number of batches in an epoch.
        """
        self._share += 1 / batches

    def add_to_gradients(self, optimizer: Optimizer) -> None:
        """Adds the pull of the subgradient mode, once for each optimizer step, between backward and the step."""
        add_subgradient(self.scales, self._strength, self.settings.sr_bias)
        self.travel += self.idle_step(optimizer) * self._strength

    def _after_step(self, share: float) -> None:
        if self._steering:
            self._steering.after_step(share)
            return
        self.travel += self.strength * share
        if self._decay:
            self._decay.after_step(share)
            return
        if self.strength or self.settings.sr_bias:
            where = self._regulation.pulled if self._regulation else None
            PROXIMAL_STEPS[self.settings.mode](self.scales, self.strength * share, self.settings.sr_bias * share, where)
        if self._regulation:
            self._regulation.after_step()

    def copy_zeros(self, averaged: nn.Module) -> None:
        """Copies exact zeros into the averaged weights (EMA), where they never arise by themselves.

        Args:
            averaged: The average of this run's network.
        """
        with torch.no_grad():
            for name, tensor in self._may_be_zero.items():
                averaged.get_parameter(name).masked_fill_(tensor == 0, 0.0)

    def state(self) -> dict[str, Any]:
        """Returns what `load` takes, as tensors and plain data."""
        states = {name: chooser.state() for name, chooser in self._choosers.items()}
        own = {"travel": self.travel, "at_start": self._at_start, "strength": self._strength, "share": self._share}
        return {**states, "history": self.history.state(), **own}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from an earlier `state`."""
        for name, chooser in self._choosers.items():
            chooser.load(state[name])
        self.history.load(state["history"])
        self.travel, self._at_start = state["travel"], state["at_start"]
        self._strength, self._share = state["strength"], state["share"]

    def shortfall(self) -> str | None:
        """Says in words if a run ends with less than a tenth of what was asked, and what to try; else None."""
        got, target = self.scales.sparsity(), self.settings.target
        if self._decay and not target:
            if self.travel >= 1:
                return None
            return (
                f"the decay was too weak: the least important groups could lose {1 - math.exp(-self.travel):.0%} of "
                f"their size in all; use {_larger(7 / max(self.travel, 1e-9))}, or more epochs"
            )
        passed = float((self._at_start < self.travel).float().mean())
        asked = target.kind.channels(target.value) if target else passed
        if not target and asked < 0.1 and not self.divides:
            typical = float(self._at_start.median())
            larger = _larger(typical / self.travel) if self.travel else "a larger sr"
            return (
                f"the pull was too weak for anything to fade: an idle gamma moved by {self.travel:.2g} in all, and "
                f"half of them began above {typical:.2g}; {got:.1%} have faded. Use {larger}, more epochs, or "
                f"sparsity=steered with a target"
            )
        if got >= asked / 10:
            return None
        return (
            f"{got:.1%} of the prunable gammas have faded, where {asked:.0%} could: the loss holds against the pull, "
            f"or an optimizer that divides by its gradients' size swallowed it. Try optimizer=SGD, a larger sr, more "
            f"epochs, or sparsity=steered with a target"
        )


def _larger(times: float) -> str:
    """Returns the strength to try instead of one that was so many times too weak, in words."""
    return f"an sr {max(2, round(times)):,} times as large"


def _skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer, which a gradient scaler calls in any case, does nothing in this step."""
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)
