"""How a compression gets smaller: its schemes, each of which yields one smaller network after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..report import say
from ..selection.limits import Limits
from ..selection.target_kinds import Footprint
from ..selection.targets import Target
from . import work
from .jobs import Jobs
from .state import Step


@dataclass(frozen=True)
class Candidate:
    """A smaller network.

    Attributes:
        file: Its checkpoint.
        step: Its row of `compress.csv`.
        limits: What kept the cut from its target, in words.
        missed: Whether the cut fell short of what it was to do.
        faster: Milliseconds of the original over those of this network, as timed or by the table; 1 where milliseconds
            are no target.
    """

    file: Path
    step: Step
    limits: tuple[str, ...]
    missed: bool = False
    faster: float = 1.0

    @property
    def is_recovered(self) -> bool:
        """Whether it was trained after its cut; all but the stepwise scheme have their fine-tuning before them."""
        return self.step.recovered is not None


def footprint_of(step: Step, faster: float = 1.0) -> Footprint:
    """Returns the size of the network in a row of the table."""
    return Footprint(step.parameters, step.macs, faster)


def met(run: Jobs, target: Target, candidate: Candidate) -> bool:
    """Whether a state has come to a target."""
    sizes = footprint_of(run.original), footprint_of(candidate.step, candidate.faster)
    return target.kind.met(target.value, *sizes, missed=candidate.missed)


def _target(run: Jobs, step: int) -> dict[str, Any] | None:
    """Returns what a step aims at, seen from the network before it; None if that is small enough already."""
    recipe, target = run.recipe, run.recipe.target
    sizes = footprint_of(run.original), footprint_of(run.steps[-1], run.faster)
    value = target.kind.next_value(target.value, (step - 1) / recipe.steps, step / recipe.steps, *sizes)
    return None if value is None else _asked(run, value)


def _asked(run: Jobs, value: float) -> dict[str, Any]:
    """Returns a target as `prune_network` takes it."""
    recipe, target = run.recipe, run.recipe.target
    if not target.kind.timed:
        return {target.name: value}
    assert recipe.latency is not None
    return {"latency": replace(recipe.latency, speed_up=value, timed_as=run.shapes)}


@dataclass(frozen=True)
class Start:
    """What a target is gone to from: the original, or a network on the way.

    Attributes:
        file: Its checkpoint.
        value: What is left of the target from there.
        epochs: How long it was trained already.
        faster: Milliseconds of the original over its own, as timed or by the table.
    """

    file: Path
    value: float
    epochs: int = 0
    faster: float = 1.0

    @classmethod
    def of(cls, run: Jobs, target: Target, before: Candidate | None) -> Start | None:
        """Returns where to begin; None if the network `before` is that small already."""
        if not before:
            return cls(run.weights, target.value)
        sizes = footprint_of(run.original), footprint_of(before.step, before.faster)
        value = target.kind.next_value(target.value, 0.0, 1.0, *sizes)
        return None if value is None else cls(before.file, value, before.step.epochs, before.faster)


def one_shot(run: Jobs) -> Iterator[Candidate]:
    """Cuts at once, or a second time behind the epochs of a first cut; yields that state."""
    recipe = run.recipe
    before = halfway(run) if recipe.halfway else None
    if not run.stuck and (candidate := cut_once(run, recipe.target, recipe.limits, before=before)):
        yield candidate


def halfway(run: Jobs) -> Candidate | None:
    """Cuts halfway to the target, and trains what is left; None if nothing can be removed."""
    recipe, name = run.recipe, "halfway"
    value = recipe.target.kind.halfway(recipe.target.value, run.original.parameters)
    assert value is not None
    say(f"\nFirst halfway, {recipe.target.kind.option} {value:.4g}, and {recipe.halfway} epochs")
    cut = cut_once(run, replace(recipe.target, value=value), recipe.limits, name=name)
    if cut is None:
        return None
    trained = _recovered(run, name, cut, recipe.halfway)
    run.note(trained.step, trained.limits)
    return trained


def cut_once(
    run: Jobs, target: Target, limits: Limits, *, name: str = "one-shot", before: Candidate | None = None
) -> Candidate | None:
    """Cuts to a target at once.

    Args:
        run: The compression.
        target: Seen from the original.
        limits: What holds for single layers, as shares of the original's.
        name: Of the cut.
        before: The network to begin with, where it is not the original.

    Returns:
        The cut network, not yet fine-tuned; None if `before` is that small already, or nothing more can be removed.
    """
    start = Start.of(run, target, before)
    if not start:
        return None
    if before:
        limits = replace(limits, widths=work.widths(run.weights))
    pruned, found = run.cut(name, start.file, _asked(run, start.value), limits)
    if "stuck" in found:
        run.stuck = found["stuck"]
        return None
    run.faster = start.faster * found["faster"]
    return _cut(run, name, name, start.epochs, pruned, found)


def _cut(run: Jobs, name: str, step: str, epochs: int, pruned: Path, found: dict[str, Any]) -> Candidate:
    """Returns what a cut has left, measured.

    Args:
        run: The compression.
        name: Of the cut.
        step: What its row is called.
        epochs: How long the network was trained before.
        pruned: The checkpoint that was cut.
        found: What `Jobs.cut` returned of it.
    """
    after_cut = run.accuracy(f"{name} cut", pruned)
    seconds = run.state.seconds(f"{name} cut", f"{name} cut accuracy")
    row = Step(step, epochs, found["params"], found["macs"], after_cut, None, seconds)
    return Candidate(pruned, row, tuple(found["limits"]), found.get("missed", False), run.faster)


def _recovered(run: Jobs, name: str, cut: Candidate, epochs: int) -> Candidate:
    """Trains what a cut has left, and returns that; `name` is the cut's."""
    file = run.train(name, cut.file, {"epochs": epochs, "finetune": True})
    recovered = run.accuracy(f"{name} recovered", file)
    seconds = cut.step.seconds + run.state.seconds(f"{name} training", f"{name} recovered accuracy")
    row = replace(cut.step, epochs=cut.step.epochs + epochs, recovered=recovered, seconds=seconds)
    return replace(cut, file=file, step=row)


def stepwise(run: Jobs) -> Iterator[Candidate]:
    """Cuts a little and recovers, step by step; yields each state."""
    recipe, file, widths = run.recipe, run.weights, work.widths(run.weights)
    for step in range(1, recipe.steps + 1):
        say(f"\nStep {step} of {recipe.steps}")
        target = _target(run, step)
        if target is None:
            say("the network is that small already")
            continue
        name, each = f"step-{step}", recipe.epochs_per_step
        pruned, found = run.cut(name, file, target, recipe.limits_at(step, widths))
        if "stuck" in found:
            run.stuck = found["stuck"]
            return
        run.faster *= found["faster"]
        candidate = _recovered(run, name, _cut(run, name, str(step), (step - 1) * each, pruned, found), each)
        file = candidate.file
        yield candidate


def steered(run: Jobs) -> Iterator[Candidate]:
    """Fades what the target removes in one training, then cuts it; yields that state."""
    if candidate := fade(run, run.recipe.target, run.recipe.fading):
        yield candidate


def fade(
    run: Jobs, target: Target, epochs: int, *, name: str = "steered", before: Candidate | None = None
) -> Candidate | None:
    """Fades what a target removes in one training, and cuts it.

    Args:
        run: The compression.
        target: Seen from the original.
        epochs: Of the training.
        name: Of the training and of the cut.
        before: The network to begin with, where it is not the original.

    Returns:
        The cut network, not yet fine-tuned; None if `before` is that small already, or nothing more can be removed.
    """
    recipe, start = run.recipe, Start.of(run, target, before)
    if not start:
        return None
    settings = {"epochs": epochs, "sparsity": "steered", "round_to": recipe.limits.round_to}
    settings |= {**work.timings(start.file, recipe), target.kind.argument: start.value}
    settings |= {"finetune": True} if before else {}
    say(f"\nSteered training: {epochs} epochs to {target.name} {target.value:g}")
    faded = run.train(name, start.file, settings)
    pruned, found = run.cut(name, faded, {"zeros": True}, Limits(floor=0))
    if "stuck" in found:
        run.stuck = found["stuck"]
        return None
    after_cut = run.accuracy(f"{name} cut", pruned)
    seconds = run.state.seconds(f"{name} training", f"{name} cut", f"{name} cut accuracy")
    row = Step(name, start.epochs + epochs, found["params"], found["macs"], after_cut, None, seconds)
    return Candidate(pruned, row, tuple(found["limits"]), faster=run.faster_by(name, pruned))


def fine_tuned(run: Jobs, kept: Candidate, name: str = "fine-tuned") -> tuple[Step, Path]:
    """Fine-tunes a state; returns the better one of before and after, as its row and its checkpoint.

    Args:
        run: The compression.
        kept: The state.
        name: Of the training.
    """
    before, epochs = kept.step, run.recipe.epochs - run.recipe.halfway
    best = run.train(name, kept.file, {"epochs": epochs, "finetune": True}, "best.pt")
    accuracy = run.accuracy(name, best)
    seconds = run.state.seconds(f"{name} training", f"{name} accuracy")
    row = Step(name, before.epochs + epochs, before.parameters, before.macs, None, accuracy, seconds)
    run.note(row)
    if accuracy >= before.accuracy:
        return row, best
    say(f"The fine-tuning ended at {accuracy:.4f}, below the {before.accuracy:.4f} before it: that state is kept")
    return before, kept.file


CANDIDATES: dict[str, Callable[[Jobs], Iterator[Candidate]]] = {  # by the names in `recipe.SCHEMES`
    "one-shot": one_shot,
    "steered": steered,
    "stepwise": stepwise,
}
