"""Runs a compression: a scheme down to the target, then fine-tuning; the best state within the limits is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..errors import NothingToRemoveError
from ..latency import Runtime
from ..latency.comparing import Speed
from ..latency.shapes import Shapes
from ..plans.findings import missed
from ..report import say
from ..selection.limits import Limits
from ..selection.target_kinds import Footprint
from . import work
from .recipe import Recipe
from .state import State, Step
from .summary import draw_steps


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
        """Whether it was trained after its cut; the steered scheme still has all of its fine-tuning before it."""
        return self.step.recovered is not None


def footprint_of(step: Step, faster: float = 1.0) -> Footprint:
    """Returns the size of the network in a row of the table."""
    return Footprint(step.parameters, step.macs, faster)


class Compression:
    """A compression in a folder.

    Args:
        recipe: What is asked for.
        folder: Where it is kept.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.state = State(folder, recipe)
        self.weights = Path(recipe.weights)
        params, macs = self.state.once("original size", lambda: work.size(self.weights, recipe), inputs=[self.weights])
        accuracy = self._accuracy("original", self.weights)
        self.faster = 1.0  # milliseconds before over after, as timed or by the table, of the cuts so far
        self.stuck = ""  # why nothing more could be removed, if so
        self.steps = [Step("original", 0, params, macs, None, accuracy, self.state.seconds("original accuracy"))]

    @cached_property
    def _shapes(self) -> Shapes:
        """The calls of the original's layers, under which those of all steps are timed."""
        return work.shapes(self.weights, self.recipe.training["imgsz"])

    @property
    def original(self) -> Step:
        """The network that is compressed."""
        return self.steps[0]

    def honours(self, accuracy: float) -> bool:
        """Whether an accuracy is within the allowed drop."""
        drop = self.recipe.max_map_drop
        return drop is None or accuracy >= self.original.accuracy - drop

    def missing(self, candidate: Candidate) -> bool:
        """Whether a state falls short of the target."""
        target, now = self.recipe.target, footprint_of(candidate.step, candidate.faster)
        return not target.kind.met(target.value, footprint_of(self.original), now, missed=candidate.missed)

    def note(self, step: Step) -> None:
        """Adds a row to the table, on disk too."""
        self.steps.append(step)
        self.state.write_csv(self.steps)
        draw_steps(self.steps, self.recipe, self.folder / "compress.png")

    def _accuracy(self, name: str, file: Path) -> float:
        def job() -> float:
            return work.measured_accuracy(file, self.recipe, self.folder)

        return self.state.once(f"{name} accuracy", job, inputs=[file])

    def _cut(self, name: str, start: Path, target: dict[str, Any], limits: Limits) -> tuple[Path, dict[str, Any]]:
        """Cuts, once; returns the file, and its size and what limited the cut."""
        file = self.folder / f"{name}.pt"

        def job() -> dict[str, Any]:
            try:
                result = work.cut_checkpoint(start, target, file, self.recipe, limits)
            except NothingToRemoveError as error:
                return {"stuck": str(error)}
            after = result.plan.after
            timed = result.plan.settings.get("latency", {})
            faster = timed.get("speed_up", result.plan.settings.get("latency_speed_up", 1.0))
            sizes = {"params": after.params, "macs": after.macs, "faster": faster}
            return {**sizes, "limits": list(result.plan.limits), "missed": missed(result.plan.findings)}

        return file, self.state.once(f"{name} cut", job, file, inputs=[start])

    def _train(self, name: str, start: Path, settings: dict[str, Any], result: str = "last.pt") -> Path:
        """Trains, once; returns the checkpoint to go on with."""
        file = self.folder / name / "weights" / result

        def job() -> None:
            work.train(name, start, settings, self.recipe, self.folder)

        def discard() -> None:
            shutil.rmtree(self.folder / name, ignore_errors=True)

        self.state.once(f"{name} training", job, file, inputs=[start], discard=discard)
        return file

    def _faster(self, name: str, file: Path) -> float:
        """Returns the milliseconds of the original over those of a network, once; 1 where they are no target."""
        if not self.recipe.latency:
            return 1.0
        return self.state.once(
            f"{name} timing", lambda: work.faster(self.weights, file, self.recipe), inputs=[self.weights, file]
        )

    def _target(self, step: int) -> dict[str, Any] | None:
        """Returns what a step aims at, seen from the network before it; None if that is small enough already."""
        recipe, target = self.recipe, self.recipe.target
        sizes = footprint_of(self.original), footprint_of(self.steps[-1], self.faster)
        value = target.kind.next_value(target.value, (step - 1) / recipe.steps, step / recipe.steps, *sizes)
        if value is None:
            return None
        if not target.kind.timed:
            return {target.name: value}
        assert recipe.latency is not None
        return {"latency": replace(recipe.latency, speed_up=value, timed_as=self._shapes)}

    def stepwise(self) -> Iterator[Candidate]:
        """Cuts a little and recovers, step by step; yields each state."""
        recipe, file, widths = self.recipe, self.weights, work.widths(self.weights)
        for step in range(1, recipe.steps + 1):
            say(f"\nStep {step} of {recipe.steps}")
            target = self._target(step)
            if target is None:
                say("the network is that small already")
                continue
            pruned, found = self._cut(f"step-{step}", file, target, recipe.limits_at(step, widths))
            if "stuck" in found:
                self.stuck = found["stuck"]
                return
            self.faster *= found["faster"]
            candidate = self._recovered(step, pruned, found)
            file = candidate.file
            yield candidate

    def _recovered(self, step: int, pruned: Path, found: dict[str, Any]) -> Candidate:
        """Trains what a step has cut.

        Args:
            step: Number of the step.
            pruned: The checkpoint that was cut.
            found: What `_cut` returned of it.
        """
        name, epochs = f"step-{step}", self.recipe.epochs_per_step
        after_cut = self._accuracy(f"{name} cut", pruned)
        file = self._train(name, pruned, {"epochs": epochs, "finetune": True})
        recovered = self._accuracy(f"{name} recovered", file)

        parts = (f"{name} cut", f"{name} cut accuracy", f"{name} training", f"{name} recovered accuracy")
        seconds = self.state.seconds(*parts)
        row = Step(str(step), step * epochs, found["params"], found["macs"], after_cut, recovered, seconds)
        return Candidate(file, row, tuple(found["limits"]), found.get("missed", False), self.faster)

    def steered(self) -> Iterator[Candidate]:
        """Fades what the target removes in one training, then cuts it; yields that state."""
        recipe = self.recipe
        settings = {"epochs": recipe.fading, "sparsity": "steered", "round_to": recipe.limits.round_to}
        settings |= work.timings(self.weights, recipe)
        say(f"\nSteered training: {recipe.fading} epochs to {recipe.target.name} {recipe.target.value:g}")
        faded = self._train("steered", self.weights, {**settings, recipe.target.kind.argument: recipe.target.value})
        pruned, found = self._cut("steered", faded, {"zeros": True}, Limits(floor=0))
        if "stuck" in found:
            self.stuck = found["stuck"]
            return
        after_cut = self._accuracy("steered cut", pruned)
        seconds = self.state.seconds("steered training", "steered cut", "steered cut accuracy")
        row = Step("steered", recipe.fading, found["params"], found["macs"], after_cut, None, seconds)
        yield Candidate(pruned, row, tuple(found["limits"]), faster=self._faster("steered", pruned))

    def run(self) -> Step | None:
        """Compresses and fine-tunes.

        Returns:
            The row of the network that is kept, or None if no state honours the limits.
        """
        kept, ended = self._down_to_target()
        say(f"\nWhat ended it: {ended}")
        if kept is None:
            return None
        self.faster = kept.faster
        row, file = self._fine_tuned(kept)
        result = self.folder / "compressed.pt"
        if not self.honours(row.accuracy):
            result.unlink(missing_ok=True)
            return None
        self._keep(row, file, result)
        return row

    def _down_to_target(self) -> tuple[Candidate | None, str]:
        """Goes through the states of the scheme; returns the last one that honours the limits, and what ended it."""
        kept: Candidate | None = None
        for candidate in CANDIDATES[self.recipe.scheme](self):
            self.note(candidate.step)
            for limit in candidate.limits:
                say(f"Limit: {limit}")
            if candidate.is_recovered and not self.honours(candidate.step.accuracy):
                return kept, (
                    f"--max-map-drop {self.recipe.max_map_drop:g} ended it: step {candidate.step.step} has "
                    f"{candidate.step.accuracy:.4f}, the original {self.original.accuracy:.4f}"
                )
            kept = candidate
        if self.stuck:
            return kept, f"nothing more can be removed: {self.stuck}"
        if kept is None:
            return None, ""
        used_up = f"the steps are used up, {self.recipe.steps}, before the target"
        asked = f"{self.recipe.target.kind.option} {self.recipe.target.value:g}"
        return kept, f"{used_up if self.missing(kept) else 'the target is reached'}: {asked}"

    def _fine_tuned(self, kept: Candidate) -> tuple[Step, Path]:
        """Fine-tunes a state; returns the better one of before and after, as its row and its checkpoint."""
        before, epochs = kept.step, self.recipe.epochs
        best = self._train("fine-tuned", kept.file, {"epochs": epochs, "finetune": True}, "best.pt")
        accuracy = self._accuracy("fine-tuned", best)
        seconds = self.state.seconds("fine-tuned training", "fine-tuned accuracy")
        row = Step("fine-tuned", before.epochs + epochs, before.parameters, before.macs, None, accuracy, seconds)
        self.note(row)
        if accuracy >= before.accuracy:
            return row, best
        say(f"The fine-tuning ended at {accuracy:.4f}, below the {before.accuracy:.4f} before it: that state is kept")
        return before, kept.file

    def _keep(self, row: Step, file: Path, result: Path) -> None:
        """Marks a row as the one that is kept, copies its checkpoint to `result`, and times that where a runtime is."""
        self.steps = [replace(step, kept=step is row) for step in self.steps]
        self.state.write_csv(self.steps)
        with checkpoint.whole_file(result) as whole:
            shutil.copyfile(file, whole)
        if self.recipe.latency and self.recipe.latency.runtime:
            before, after, _ = self._milliseconds(self.recipe.latency.runtime)
            self.faster = round(before / after, 3)

    def speed(self, runtime: Runtime) -> Speed:
        """Times `compressed.pt` in turns with the original, once, and notes the milliseconds in the table.

        Args:
            runtime: What runs both.
        """
        known = self._milliseconds(runtime)
        kept = next(step for step in self.steps if step.kept)
        ms = {id(self.original): known[0], id(kept): known[1]}
        self.steps = [replace(step, ms=ms.get(id(step))) for step in self.steps]
        self.state.write_csv(self.steps)
        where = (self.weights, self.folder / "compressed.pt")
        return work.speed(*where, self.original.macs / kept.macs, self.recipe.training["imgsz"], runtime, known)

    def _milliseconds(self, runtime: Runtime) -> tuple[float, float, float]:
        """Returns the milliseconds of the original and of `compressed.pt`, timed once on each runtime."""
        weights, result = self.weights, self.folder / "compressed.pt"
        imgsz = self.recipe.training["imgsz"]
        name = f"{runtime.name}, {runtime.threads} threads, {runtime.device}: milliseconds"
        before, after, spread = self.state.once(
            name, lambda: work.milliseconds(weights, result, imgsz, runtime), inputs=[weights, result]
        )
        return before, after, spread


CANDIDATES: dict[str, Callable[[Compression], Iterator[Candidate]]] = {  # by the names in `recipe.SCHEMES`
    "steered": Compression.steered,
    "stepwise": Compression.stepwise,
}
