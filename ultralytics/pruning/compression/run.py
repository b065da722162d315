"""Runs a compression: a scheme down to the target, then fine-tuning; keeps the best state that honours the limits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..errors import NothingToRemoveError, PruningError
from ..files.locks import alone_in
from ..files.places import shown, write_folder
from ..files.whole import DiskFullError, naming_the_disk
from ..latency import Latency
from ..latency.shapes import Shapes
from ..plans.findings import missed
from ..report import say
from ..runs.folders import kept_runs, put_back, recover, visible
from ..runs.following import Origin, say_next
from ..selection.limits import Limits
from ..selection.target_kinds import Size
from . import work
from .recipe import Recipe
from .state import State, Step, clear, has_result, make_room
from .summary import draw, steps_table


@dataclass(frozen=True)
class Candidate:
    """A smaller network, after its recovery.

    Attributes:
        file: Its checkpoint.
        step: Its row of `compress.csv`.
        limits: What kept the cut from its target, in words.
        missed: Whether the cut fell short of what it was to do.
        faster: Milliseconds of the original over its own, as timed or by the table; 1 where milliseconds are no target.
    """

    file: Path
    step: Step
    limits: tuple[str, ...]
    missed: bool = False
    faster: float = 1.0


def size_of(step: Step, faster: float = 1.0) -> Size:
    """Returns the size of the network in a row of the table."""
    return Size(step.parameters, step.macs, faster)


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
        target, now = self.recipe.target, size_of(candidate.step, candidate.faster)
        return not target.kind.met(target.value, size_of(self.original), now, missed=candidate.missed)

    def note(self, step: Step) -> None:
        """Adds a row to the table, on disk too."""
        self.steps.append(step)
        self.state.write_csv(self.steps)
        draw(self.steps, self.recipe, self.folder / "compress.png")

    def _accuracy(self, name: str, file: Path) -> float:
        return self.state.once(f"{name} accuracy", lambda: work.accuracy(file, self.recipe, self.folder), inputs=[file])

    def _cut(self, name: str, start: Path, target: dict[str, Any], limits: Limits) -> tuple[Path, dict[str, Any]]:
        """Cuts, once; returns the file, and its size and what limited the cut."""
        file = self.folder / f"{name}.pt"

        def job() -> dict[str, Any]:
            try:
                result = work.cut(start, target, file, self.recipe, limits)
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

    def _target(self, step: int) -> dict[str, Any] | None:
        """Returns what a step aims at, seen from the network before it; None if that is small enough already."""
        recipe, target = self.recipe, self.recipe.target
        sizes = size_of(self.original), size_of(self.steps[-1], self.faster)
        value = target.kind.next_value(target.value, (step - 1) / recipe.steps, step / recipe.steps, *sizes)
        if value is None:
            return None
        if not target.kind.timed:
            return {target.name: value}
        table = Path(recipe.table) if recipe.table else None
        return {"latency": Latency(value, recipe.runtime, recipe.training["imgsz"], table, timed_as=self._shapes)}

    def stepwise(self) -> Iterator[Candidate]:
        """Cuts a little and recovers, step by step; yields each state."""
        recipe, file, widths = self.recipe, self.weights, work.widths(self.weights)
        for step in range(1, recipe.steps + 1):
            name = f"step-{step}"
            say(f"\nStep {step} of {recipe.steps}")
            target = self._target(step)
            if target is None:
                say("the network is that small already")
                continue
            pruned, found = self._cut(name, file, target, recipe.limits_at(step, widths))
            if "stuck" in found:
                self.stuck = found["stuck"]
                return
            self.faster *= found["faster"]
            cut = self._accuracy(f"{name} cut", pruned)
            file = self._train(name, pruned, {"epochs": recipe.epochs_per_step, "finetune": True})
            recovered = self._accuracy(f"{name} recovered", file)
            works = (f"{name} cut", f"{name} cut accuracy", f"{name} training", f"{name} recovered accuracy")
            epochs, seconds = step * recipe.epochs_per_step, self.state.seconds(*works)
            row = Step(str(step), epochs, found["params"], found["macs"], cut, recovered, seconds)
            yield Candidate(file, row, tuple(found["limits"]), found.get("missed", False), self.faster)

    def steered(self) -> Iterator[Candidate]:
        """Fades what the target removes in one training, then cuts it; yields that state."""
        recipe = self.recipe
        settings = {"epochs": recipe.fading, "sparsity": "steered", "round_to": recipe.limits.round_to}
        say(f"\nSteered training: {recipe.fading} epochs to {recipe.target.name} {recipe.target.value:g}")
        faded = self._train("steered", self.weights, {**settings, recipe.target.kind.argument: recipe.target.value})
        pruned, found = self._cut("steered", faded, {"zeros": True}, Limits(floor=0))
        cut = self._accuracy("steered cut", pruned)
        works = ("steered training", "steered cut", "steered cut accuracy")
        seconds = self.state.seconds(*works)
        row = Step("steered", recipe.fading, found["params"], found["macs"], cut, None, seconds)
        yield Candidate(pruned, row, tuple(found["limits"]))

    def run(self) -> Step | None:
        """Compresses and fine-tunes.

        Returns:
            The row of the network that is kept, or None if no state honours the limits.
        """
        kept: Candidate | None = None
        ended = ""
        stepwise = self.recipe.scheme == "stepwise"
        for candidate in self.stepwise() if stepwise else self.steered():
            self.note(candidate.step)
            for limit in candidate.limits:
                say(f"Limit: {limit}")
            # The steered scheme still has all of its fine-tuning before it.
            if stepwise and not self.honours(candidate.step.accuracy):
                ended = (
                    f"--max-map-drop {self.recipe.max_map_drop:g} ended it: step {candidate.step.step} has "
                    f"{candidate.step.accuracy:.4f}, the original {self.original.accuracy:.4f}"
                )
                break
            kept = candidate
        if not ended and self.stuck:
            ended = f"nothing more can be removed: {self.stuck}"
        elif not ended and kept:
            missing = self.missing(kept)
            used_up = f"the steps are used up, {self.recipe.steps}, before the target"
            asked = f"{self.recipe.target.kind.option} {self.recipe.target.value:g}"
            ended = f"{used_up if missing else 'the target is reached'}: {asked}"
        say(f"\nWhat ended it: {ended}")
        if not kept:
            return None
        self.faster = kept.faster
        settings = {"epochs": self.recipe.epochs, "finetune": True}
        best = self._train("fine-tuned", kept.file, settings, "best.pt")
        accuracy = self._accuracy("fine-tuned", best)
        step = kept.step
        seconds = self.state.seconds("fine-tuned training", "fine-tuned accuracy")
        row = Step("fine-tuned", step.epochs + self.recipe.epochs, step.parameters, step.macs, None, accuracy, seconds)
        self.note(row)
        if accuracy < step.accuracy:
            say(f"The fine-tuning ended at {accuracy:.4f}, below the {step.accuracy:.4f} before it: that state is kept")
            row, best = step, kept.file
        result = self.folder / "compressed.pt"
        if not self.honours(row.accuracy):
            result.unlink(missing_ok=True)
            return None
        self.steps = [replace(own, kept=own is row) for own in self.steps]
        self.state.write_csv(self.steps)
        with checkpoint.whole_file(result) as file:
            shutil.copyfile(best, file)
        if self.recipe.runtime:
            self.faster = self.state.once(
                "final timing", lambda: work.faster(self.weights, result, self.recipe), inputs=[self.weights, result]
            )
        return row


def compress(recipe: Recipe, folder: Path, *, overwrite: bool = False) -> None:
    """Compresses a checkpoint in a folder, or goes on where an earlier process was stopped.

    Args:
        recipe: What is asked for.
        folder: Where it is kept.
        overwrite: Whether to begin anew.

    Raises:
        PruningError: If the folder holds another compression, another process works in it, or no smaller network
            honours the limits.
    """
    with alone_in(folder):
        recover(folder, ended=has_result)
        kept = make_room(folder, overwrite=overwrite)
        write_folder(folder)
        begins = not visible(folder)
        try:
            with naming_the_disk(folder):
                compression = Compression(recipe, folder)
                row = compression.run()
        except PruningError as error:
            done = any(folder.glob("*.pt")) or any(folder.glob("*/weights"))
            if begins and not done and not isinstance(error, DiskFullError):  # nothing was cut or trained
                put_back(folder, kept)
            raise
        if row is not None:
            for place in kept_runs(folder):
                clear(place)
                place.rmdir()
    say("\n" + steps_table(compression.steps))
    original = compression.original
    if len(compression.steps) == 1:
        raise PruningError("nothing can be removed from this network by these limits: nothing was written")
    if row is None:
        found = compression.steps[-1]
        raise PruningError(
            f"{original.macs / found.macs:.2f}x fewer multiply-adds cost {original.accuracy - found.accuracy:.4f} of "
            f"the accuracy, --max-map-drop allows {recipe.max_map_drop:g}: nothing smaller was kept; allow more, take "
            f"more --epochs, or a smaller target (all states are in {shown(folder)})"
        )
    change = row.accuracy - original.accuracy
    by = "by the table" if recipe.table else "as timed"
    timed = f", {compression.faster:.2f}x faster {by}" if recipe.runtime or recipe.table else ""
    say(f"\n{original.macs / row.macs:.2f}x fewer multiply-adds{timed}, accuracy {change:+.4f} against the original.")
    file = shown(folder / "compressed.pt")
    say(f"Written: {file}, compress.csv and compress.png beside it")
    known = {"before": Path(recipe.weights), "data": recipe.data, "name": folder.name, "compares": True}
    say_next(("val.py", "export.py"), Origin.of((folder / "compressed.pt").resolve(), recipe.training, **known))
