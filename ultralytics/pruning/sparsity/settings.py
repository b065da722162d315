"""What a sparsity training is asked for: mode, strength or target, schedule. Checked before anything is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import PruningError, hint
from ..selection.limits import Limits
from ..selection.targets import KINDS, Target

MODES = {
    "subgradient": "adds sr * sign(gamma) to the gradients, as in Network Slimming",
    "proximal": "shrinks each gamma after the optimizer's step, to exact zeros",
    "group": "shrinks coupled groups of gammas as one, to exact zeros",
    "group_sl": "decays all weights of a group, the faster the less they weigh (DepGraph)",
    "group_reg": "chooses by weight for a target, and decays that ever faster (growing regularisation)",
    "steered": "chooses what to remove for a target, and fades just that",
}
NEED_TARGET = ("steered", "group_reg")
SCHEDULES: dict[str, Callable[[float], float]] = {  # progress e / E in 0..1 -> part of the strength
    "linear": lambda progress: 1 - 0.9 * progress,
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.55 + 0.45 * math.cos(math.pi * progress),
    "ramp": lambda progress: 1 - abs(2 * progress - 1),
}
TARGETS = {kind.argument: name for name, kind in KINDS.items() if kind.argument}  # argument -> name of a `Target`
LEAST_EPOCHS = 3  # of a steered training: one to look, one to fade, one at zero


@dataclass(frozen=True)
class Settings:
    """A sparsity training.

    Attributes:
        mode: A name in `MODES`.
        sr: Strength at the start: lambda of the subgradient; how far an idle gamma moves in an epoch for the proximal
            modes; rate per epoch of the least important groups' decay for group_sl; 0 where a target is given.
        sr_bias: The same for the betas; it does not decay.
        schedule: A name in `SCHEDULES`.
        target: What the training aims at instead of a strength.
        limits: The rules that a choice of channels follows where there is a target.

    Raises:
        PruningError: If they contradict each other.
    """

    mode: str
    sr: float = 0.0
    sr_bias: float = 0.0
    schedule: str = "linear"
    target: Target | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for what, value, known in (("mode", self.mode, MODES), ("schedule", self.schedule, SCHEDULES)):
            if value not in known:
                raise PruningError(f"unknown sparsity {what} '{value}'; {hint(str(value), known)}")
        if self.target and self.sr:
            raise PruningError(
                f"sr={self.sr:g} and a target: with a target the strength is found; leave out one of both"
            )
        if self.target and self.mode == "subgradient":
            raise PruningError(
                "sparsity=subgradient takes a strength, sr; for a target use sparsity=steered or proximal"
            )
        if self.mode in NEED_TARGET and not self.target:
            raise PruningError(f"sparsity={self.mode} needs target_speed_up, e.g. 2.0, or target_sparsity, e.g. 0.5")
        if self.mode == "group_sl" and self.target:
            raise PruningError("sparsity=group_sl takes a strength, sr; for a target use sparsity=steered or group_reg")
        if self.mode in (*NEED_TARGET, "group_sl") and self.sr_bias:
            raise PruningError(f"sparsity={self.mode} fades the betas with their gammas: leave out sr_bias")

    @classmethod
    def of(cls, args: Any) -> Settings | None:
        """Reads the training arguments; None if they ask for no sparsity.

        Args:
            args: The training arguments, with attributes such as `sparsity` and `sr`.

        Raises:
            PruningError: If they contradict each other.
        """
        given = {name: value for name in TARGETS if (value := getattr(args, name))}
        if len(given) > 1:
            raise PruningError("target_speed_up and target_sparsity: one target is enough, leave out one of both")
        if not given and not args.sr and args.sparsity not in NEED_TARGET:
            for name in ("sparsity", "sr_bias"):
                if getattr(args, name):
                    raise PruningError(f"{name}={getattr(args, name)} without a strength: give sr, or a target")
            return None
        return cls(
            mode=args.sparsity or "subgradient",
            sr=args.sr,
            sr_bias=args.sr_bias,
            schedule=args.sr_schedule,
            target=next((Target(TARGETS[name], value) for name, value in given.items()), None),
            limits=Limits(round_to=args.round_to),
        )

    def strength(self, epoch: int, epochs: int) -> float:
        """Returns s(e) in epoch `epoch` of `epochs`, counted from 0."""
        return self.sr * SCHEDULES[self.schedule](epoch / epochs)

    @property
    def asked(self) -> str:
        """What is asked for, in the words of the training arguments."""
        if not self.target:
            return f"sr={self.sr:g} ({self.schedule})"
        return f"{self.target.kind.argument}={self.target.value:g}"

    def __str__(self) -> str:
        return f"{self.mode}, {self.asked}" + (f", sr_bias={self.sr_bias:g}" if self.sr_bias else "")
