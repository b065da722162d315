"""Runs a compression: a scheme down to the target, then fine-tuning; keeps the best state that honours the limits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import checkpoint
from ..errors import PruningError
from ..limits import Limits
from ..stages import say, shown
from ..targets import TOLERANCE
from . import units
from .recipe import Recipe
from .report import draw, steps_table
from .state import State, Step


@dataclass(frozen=True)
class Candidate:
    """A smaller network, after its recovery.

    Attributes:
        file: Its checkpoint.
        step: Its row of `compress.csv`.
        limits: What kept the cut from its target, in words.
    """

    file: Path
    step: Step
    limits: tuple[str, ...]


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
        params, macs = self.state.once("original size", lambda: units.size(self.weights, recipe))
        accuracy = self._accuracy("original", self.weights)
        self.steps = [Step("original", 0, params, macs, None, accuracy, self.state.seconds("original accuracy"))]

    @property
    def original(self) -> Step:
        """The network that is compressed."""
        return self.steps[0]

    def honours(self, accuracy: float) -> bool:
        """Whether an accuracy is within the allowed drop."""
        drop = self.recipe.max_map_drop
        return drop is None or accuracy >= self.original.accuracy - drop

    def reached(self, step: Step) -> float:
        """Returns what is left over what the target allows; up to 1 where it is reached."""
        target = self.recipe.target
        if target.name == "target_params":
            return step.parameters / target.value
        return step.macs / self.original.macs * target.value

    def note(self, step: Step) -> None:
        """Adds a row to the table, on disk too."""
        self.steps.append(step)
        self.state.write_csv(self.steps)
        draw(self.steps, self.recipe, self.folder / "compress.png")

    def _accuracy(self, name: str, file: Path) -> float:
        return self.state.once(f"{name} accuracy", lambda: units.accuracy(file, self.recipe, self.folder))

    def _cut(self, name: str, start: Path, target: dict[str, Any], limits: Limits) -> tuple[Path, dict[str, Any]]:
        """Cuts, once; returns the file, and its size and what limited the cut."""
        file = self.folder / f"{name}.pt"

        def work() -> dict[str, Any]:
            result = units.cut(start, target, file, self.recipe, limits)
            after = result.plan.after
            return {"params": after.params, "macs": after.macs, "limits": list(result.plan.limits)}

        return file, self.state.once(f"{name} cut", work)

    def _train(self, name: str, start: Path, settings: dict[str, Any]) -> Path:
        """Trains, once; returns the checkpoint to go on with."""
        found = self.state.once(
            f"{name} training", lambda: str(units.train(name, start, settings, self.recipe, self.folder))
        )
        return Path(found)

    def stepwise(self) -> Iterator[Candidate]:
        """Cuts a little and recovers, step by step; yields each state."""
        recipe, file = self.recipe, self.weights
        for step in range(1, recipe.steps + 1):
            name = f"step-{step}"
            macs = self.steps[-1].macs
            if recipe.target.name == "target_params":
                params = self.original.parameters
                wanted = params + (recipe.target.value - params) * step / recipe.steps
                target: dict[str, Any] = {"target_params": round(wanted)}
            else:
                target = {"speed_up": max(1.0, macs / (self.original.macs * recipe.target_at(step)))}
            say(f"\nStep {step} of {recipe.steps}: " + ", ".join(f"{k} {v:.4g}" for k, v in target.items()))
            pruned, found = self._cut(name, file, target, recipe.limits)
            cut = self._accuracy(f"{name} cut", pruned)
            file = self._train(name, pruned, {"epochs": recipe.epochs_per_step, "finetune": True})
            recovered = self._accuracy(f"{name} recovered", file)
            works = (f"{name} cut", f"{name} cut accuracy", f"{name} training", f"{name} recovered accuracy")
            epochs, seconds = step * recipe.epochs_per_step, self.state.seconds(*works)
            row = Step(str(step), epochs, found["params"], found["macs"], cut, recovered, seconds)
            yield Candidate(file, row, tuple(found["limits"]))

    def steered(self) -> Iterator[Candidate]:
        """Fades what the target removes in one training, then cuts it; yields that state."""
        recipe = self.recipe
        name = {"speed_up": "target_speed_up", "prune_ratio": "target_sparsity"}[recipe.target.name]
        settings = {"epochs": recipe.fading, "sparsity": "steered", "round_to": recipe.limits.round_to}
        say(f"\nSteered training: {recipe.fading} epochs to {recipe.target.name} {recipe.target.value:g}")
        faded = self._train("steered", self.weights, {**settings, name: recipe.target.value})
        pruned, found = self._cut("steered", faded, {"zeros": True}, Limits(floor=0))
        cut = self._accuracy("steered cut", pruned)
        works = ("steered training", "steered cut", "steered cut accuracy")
        seconds = self.state.seconds(*works)
        row = Step("steered", recipe.fading, found["params"], found["macs"], cut, None, seconds)
        yield Candidate(pruned, row, tuple(found["limits"]))

    def run(self) -> Step | None:
        """Compresses and fine-tunes.

        Returns:
            The fine-tuned network's row, or None if no state honours the limits.
        """
        kept: Candidate | None = None
        ended = ""
        for candidate in getattr(self, self.recipe.scheme)():
            self.note(candidate.step)
            for limit in candidate.limits:
                say(f"Limit: {limit}")
            stepwise = self.recipe.scheme == "stepwise"  # the steered one still has all of its fine-tuning before it
            if stepwise and not self.honours(candidate.step.accuracy):
                ended = (
                    f"--max-map-drop {self.recipe.max_map_drop:g} ended it: step {candidate.step.step} has "
                    f"{candidate.step.accuracy:.4f}, the original {self.original.accuracy:.4f}"
                )
                break
            kept = candidate
        if not ended and kept:
            name, value = self.recipe.target.name.replace("_", "-"), self.recipe.target.value
            reached = self.reached(kept.step) <= (1 + TOLERANCE)
            why = (
                "the target is reached" if reached else f"the steps are used up, {self.recipe.steps}, before the target"
            )
            ended = f"{why}: --{name} {value:g}"
        say(f"\nWhat ended it: {ended}")
        if not kept:
            return None
        settings = {"epochs": self.recipe.epochs, "finetune": True}
        last = self._train("fine-tuned", kept.file, settings)
        best = last.with_name("best.pt")
        accuracy = self._accuracy("fine-tuned", best)
        step = kept.step
        seconds = self.state.seconds("fine-tuned training", "fine-tuned accuracy")
        row = Step("fine-tuned", step.epochs + self.recipe.epochs, step.parameters, step.macs, None, accuracy, seconds)
        self.note(row)
        with checkpoint.whole_file(self.folder / "compressed.pt") as file:
            shutil.copyfile(best, file)
        return row


def compress(recipe: Recipe, folder: Path) -> None:
    """Compresses a checkpoint in a folder, or goes on where an earlier process was stopped.

    Raises:
        PruningError: If the folder holds another compression, or no smaller network honours the limits.
    """
    os.makedirs(folder, exist_ok=True)
    compression = Compression(recipe, folder)
    row = compression.run()
    say("\n" + steps_table(compression.steps))
    original = compression.original
    if row is None or not compression.honours(row.accuracy):
        found = compression.steps[-1]
        raise PruningError(
            f"{original.macs / found.macs:.2f}x fewer multiply-adds cost {original.accuracy - found.accuracy:.4f} of "
            f"the accuracy, --max-map-drop allows {recipe.max_map_drop:g}: nothing smaller was kept; allow more, take "
            f"more --epochs, or a smaller target (all states are in {shown(folder)})"
        )
    change = row.accuracy - original.accuracy
    say(f"\n{original.macs / row.macs:.2f}x fewer multiply-adds, accuracy {change:+.4f} against the original.")
    say(f"Written: {shown(folder / 'compressed.pt')}, compress.csv and compress.png beside it")
    say(f"Next: python val.py {shown(Path(recipe.weights))} {shown(folder / 'compressed.pt')}, then python export.py "
        f"--weights {shown(folder / 'compressed.pt')}")  # fmt: skip
