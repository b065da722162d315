"""What a sparsity training is asked for, as plain data: mode, strength or target, schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ..selection.limits import Limits
from ..selection.targets import KINDS, Target

SCHEDULES: dict[str, Callable[[float], float]] = {  # progress e / E in 0..1 -> part of the strength
    "linear": lambda progress: 1 - 0.9 * progress,
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.55 + 0.45 * math.cos(math.pi * progress),
    "ramp": lambda progress: 1 - abs(2 * progress - 1),
}
# Training argument -> name of a `Target`.
TARGET_ARGUMENTS = {kind.argument: name for name, kind in KINDS.items() if kind.argument}


@dataclass(frozen=True)
class Asked:
    """What a sparsity training is asked for.

    Attributes:
        mode: A name in the table of `modes/`.
        sr: Strength at the start: lambda of the subgradient; how far an idle gamma moves in an epoch for the proximal
            modes; rate per epoch of the least important groups' decay for group_sl; 0 where a target is given.
        sr_bias: The same for the betas; it does not decay.
        schedule: A name in `SCHEDULES`.
        target: What the training aims at, in place of a strength.
        limits: The rules that a choice of channels follows where there is a target.
        latency_table: Path of the timings of layers, for a target of milliseconds.
        imgsz: Side of the images in pixels, for which such a target holds.
    """

    mode: str
    sr: float = 0.0
    sr_bias: float = 0.0
    schedule: str = "linear"
    target: Target | None = None
    limits: Limits = field(default_factory=Limits)
    latency_table: str = ""
    imgsz: int = 640

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
