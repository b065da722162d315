"""What a sparsity training is asked for, read from the training arguments and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import PruningError, hint
from ..selection.limits import Limits
from ..selection.targets import KINDS, Target
from .asked import SCHEDULES, TARGET_ARGUMENTS, Asked
from .modes import DEFAULT_MODE, MODES, Traits


@dataclass(frozen=True)
class Settings(Asked):
    """What a sparsity training is asked for, without contradictions to its mode.

    Raises:
        PruningError: If it does.
    """

    def __post_init__(self) -> None:
        for what, value, known in (("mode", self.mode, MODES), ("schedule", self.schedule, SCHEDULES)):
            if value not in known:
                raise PruningError(f"unknown sparsity {what} '{value}'; {hint(str(value), known)}")
        traits = self.traits
        if self.target and self.sr:
            raise PruningError(
                f"sr={self.sr:g} and a target: with a target the strength is found; leave out one of both"
            )
        if self.target and traits.for_a_target:
            raise PruningError(
                f"sparsity={self.mode} takes a strength, sr; for a target use sparsity={traits.for_a_target}"
            )
        if traits.needs_target and not self.target:
            others = ", ".join(name for name in TARGET_ARGUMENTS if name != "target_speed_up")
            raise PruningError(f"sparsity={self.mode} needs target_speed_up, e.g. 2.0, or another target ({others})")
        self._check_table()
        if traits.fades_betas and self.sr_bias:
            raise PruningError(f"sparsity={self.mode} fades the betas with their gammas: leave out sr_bias")

    def _check_table(self) -> None:
        """Raises a PruningError where milliseconds are asked for without timings, or the other way round."""
        timed = next((kind for kind in KINDS.values() if kind.timed and kind.argument), None)
        asked = bool(self.target and self.target.kind.timed)
        if asked and not self.latency_table and self.target:
            raise PruningError(
                f"{self.asked} needs latency_table, the timings of this network's layers, which latency_table.py writes"
            )
        if self.latency_table and not asked and timed:
            raise PruningError(f"latency_table is read for {timed.argument} only: leave it out")

    @property
    def traits(self) -> Traits:
        """What the table says about the mode."""
        return MODES[self.mode]

    @classmethod
    def of(cls, args: Any) -> Settings | None:
        """Reads the training arguments; None if they ask for no sparsity.

        Args:
            args: The training arguments, with attributes such as `sparsity` and `sr`.

        Raises:
            PruningError: If they contradict each other.
        """
        # An earlier run that goes on does not know all of them.
        given = {name: value for name in TARGET_ARGUMENTS if (value := getattr(args, name, None))}
        if len(given) > 1:
            raise PruningError(f"{' and '.join(given)}: one target is enough, leave out the rest")
        needs_target = args.sparsity in MODES and MODES[args.sparsity].needs_target
        table = getattr(args, "latency_table", None) or ""
        if not given and not args.sr and not needs_target:
            for name, value in {"sparsity": args.sparsity, "sr_bias": args.sr_bias, "latency_table": table}.items():
                if value:
                    raise PruningError(f"{name}={value} without a strength: give sr, or a target")
            return None
        return cls(
            mode=args.sparsity or DEFAULT_MODE,
            sr=args.sr,
            sr_bias=args.sr_bias,
            schedule=args.sr_schedule,
            target=next((Target(TARGET_ARGUMENTS[name], value) for name, value in given.items()), None),
            limits=Limits(round_to=args.round_to),
            latency_table=str(table),
            imgsz=_side(args.imgsz),
        )


def _side(imgsz: Any) -> int:
    """Returns the longer side of the training images; what is none is refused by the release."""
    longer = max(imgsz) if isinstance(imgsz, (list, tuple)) and imgsz else imgsz
    return longer if isinstance(longer, int) else Asked.imgsz


# Of a training, that make it one of these.
ARGUMENTS = ("sparsity", "sr", "sr_bias", "sr_schedule", *TARGET_ARGUMENTS, "latency_table")


def mode_of(train_args: Mapping[str, Any]) -> str | None:
    """Returns the sparsity mode that a network was trained with; None if with none.

    Args:
        train_args: The arguments that a checkpoint notes.
    """
    mode = train_args.get("sparsity") or DEFAULT_MODE
    pulled = any(train_args.get(name) for name in ("sr", *TARGET_ARGUMENTS))
    return mode if mode in MODES and (pulled or MODES[mode].needs_target) else None


def without_sparsity(train_args: Mapping[str, Any]) -> dict[str, Any]:
    """Returns training arguments without those of a sparsity training, whose order of channels a cut has used up."""
    return {name: value for name, value in train_args.items() if name not in ARGUMENTS}
