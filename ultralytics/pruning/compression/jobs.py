"""The jobs of a compression in its folder, each of which is done once: measure, cut, train, time."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..errors import NothingToRemoveError
from ..latency.shapes import Shapes
from ..plans.findings import missed
from ..report import say
from ..selection.limits import Limits
from . import work
from .recipe import Recipe
from .state import State, Step
from .summary import draw_steps


class Jobs:
    """What a compression has done, and does.

    Args:
        recipe: What is asked for.
        folder: Where it is kept.

    Attributes:
        state: What is done already.
        weights: The original's checkpoint.
        steps: The rows of the table so far, the original's first.
        faster: Milliseconds before over after, as timed or by the table, of the cuts so far.
        stuck: Why nothing more could be removed, if so.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.state = State(folder, recipe)
        self.weights = Path(recipe.weights)
        params, macs = self.state.once("original size", lambda: work.size(self.weights, recipe), inputs=[self.weights])
        accuracy = self.accuracy("original", self.weights)
        self.faster, self.stuck = 1.0, ""
        self.steps = [Step("original", 0, params, macs, None, accuracy, self.state.seconds("original accuracy"))]

    @cached_property
    def shapes(self) -> Shapes:
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

    @property
    def kept(self) -> list[Step]:
        """The rows of the networks that are kept."""
        return [step for step in self.steps if step.kept]

    def note(self, step: Step, limits: Sequence[str] = ()) -> None:
        """Adds a row to the table, on disk too; says what limited it."""
        self.steps.append(step)
        self.state.write_csv(self.steps)
        draw_steps(self.steps, self.recipe, self.folder / "compress.png")
        for limit in limits:
            say(f"Limit: {limit}")

    def keep(self, row: Step, file: Path, result: Path) -> None:
        """Marks a row as one that is kept, and copies its checkpoint to `result`."""
        self.steps = [replace(step, kept=True) if step is row else step for step in self.steps]
        self.state.write_csv(self.steps)
        with checkpoint.whole_file(result) as whole:
            shutil.copyfile(file, whole)

    def accuracy(self, name: str, file: Path) -> float:
        """Returns the accuracy of a checkpoint, measured once."""

        def job() -> float:
            return work.measured_accuracy(file, self.recipe, self.folder)

        return self.state.once(f"{name} accuracy", job, inputs=[file])

    def cut(self, name: str, start: Path, target: dict[str, Any], limits: Limits) -> tuple[Path, dict[str, Any]]:
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

    def train(self, name: str, start: Path, settings: dict[str, Any], result: str = "last.pt") -> Path:
        """Trains, once; returns the checkpoint to go on with."""
        file = self.folder / name / "weights" / result

        def job() -> None:
            work.train(name, start, settings, self.recipe, self.folder)

        def discard() -> None:
            shutil.rmtree(self.folder / name, ignore_errors=True)

        self.state.once(f"{name} training", job, file, inputs=[start], discard=discard)
        return file

    def faster_by(self, name: str, file: Path) -> float:
        """Returns the milliseconds of the original over those of a network, once; 1 where they are no target."""
        if not self.recipe.latency:
            return 1.0
        return self.state.once(
            f"{name} timing", lambda: work.faster(self.weights, file, self.recipe), inputs=[self.weights, file]
        )
