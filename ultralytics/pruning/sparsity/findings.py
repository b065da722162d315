"""What is said at the end of a run in which too little has faded, and what to try."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..selection.targets import Target


@dataclass(frozen=True)
class Ending:
    """How a run ends.

    Attributes:
        sparsity: Share of faded gammas, in 0..1.
        at_start: |gamma| of the channels that can be pruned at the start, of shape (K,).
        divides: Whether the optimizer divides gradients by their running size.
    """

    sparsity: float
    at_start: Tensor
    divides: bool


def larger(times: float) -> str:
    """Returns in words the strength to try instead of one that was too weak by a factor."""
    return f"an sr {max(2, round(times)):,} times as large"


def of_a_target(target: Target, ending: Ending) -> tuple[str, ...]:
    """Returns a line for the user if a run to a target ended with less than a tenth of it."""
    return _of_a_share(target.kind.channels(target.value), ending)


def of_a_pull(travel: float, ending: Ending) -> tuple[str, ...]:
    """Returns a line for the user if a pull was too weak, or less than a tenth of what could fade has faded.

    Args:
        travel: How far an idle gamma has moved.
        ending: How the run ended.
    """
    could = float((ending.at_start < travel).float().mean())
    if could >= 0.1 or ending.divides:
        return _of_a_share(could, ending)
    typical = float(ending.at_start.median())
    more = larger(typical / travel) if travel else "a larger sr"
    return (
        f"the pull was too weak for anything to fade: an idle gamma moved by {travel:.2g} in all, and "
        f"half of them began above {typical:.2g}; {ending.sparsity:.1%} have faded. Use {more}, more epochs, or "
        f"sparsity=steered with a target",
    )


def _of_a_share(could: float, ending: Ending) -> tuple[str, ...]:
    """Returns a line for the user if less than a tenth of the share that could fade has faded."""
    if ending.sparsity >= could / 10:
        return ()
    return (
        f"{ending.sparsity:.1%} of the prunable gammas have faded, where {could:.0%} could: the loss holds against the "
        f"pull, or an optimizer that divides by its gradients' size swallowed it. Try optimizer=SGD, a larger sr, more "
        f"epochs, or sparsity=steered with a target",
    )
