"""Several targets in one run, the mildest first, each from the network before it.

By one cut each, the next one is cut out of what was fine-tuned. Where channels fade, they fade on from each target to
the next, and a branch is fine-tuned at each.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from ..files.whole import whole_file
from ..latency import Runtime
from ..latency.comparing import Speed
from ..report import say
from ..selection.targets import Target
from . import work
from .jobs import Jobs
from .recipe import Recipe
from .schemes import Candidate, cut_once, fade, fine_tuned, met
from .state import LADDER
from .summary import draw_rungs, rung_rows


def number_of(target: Target) -> str:
    """Returns the number of a target as it stands in the names of files: 1.5, or 900000."""
    return f"{target.value:.10g}"


def said(target: Target) -> str:
    """Returns a target as its option says it."""
    return f"{target.kind.option} {number_of(target)}"


class Ladder(Jobs):
    """A compression to several targets, in a folder.

    Args:
        recipe: What is asked for.
        folder: Where it is kept.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        super().__init__(recipe, folder)
        self._targets: dict[str, Target] = {}  # of the rows that are kept
        self._faded: dict[str, int] = {}  # epochs of each fading

    def run(self) -> None:
        """Compresses to each target, the mildest first, until the last one, or what ends it.

        Each network that honours the limits is kept in `compressed-NUMBER.pt`, by the number of its target.
        """
        before, ended = None, ""
        for number, target in enumerate(self.recipe.targets):
            candidate = self._smaller(number, before)
            if candidate is None and self.stuck:
                ended = f"nothing more can be removed: {self.stuck}"
                break
            if candidate is None:
                say(f"{said(target)}: the network is that small already")
                continue
            self.note(candidate.step, candidate.limits)
            if not met(self, target, candidate):
                say(f"{said(target)} is missed")
            row, file = fine_tuned(self, candidate, f"fine-tuned-{number_of(target)}")
            if not self.honours(row.accuracy):
                self.file_of(target).unlink(missing_ok=True)
                drop = f"--max-map-drop {self.recipe.max_map_drop:g} ended it"
                ended = f"{drop}: {row.accuracy:.4f} at {said(target)}, the original {self.original.accuracy:.4f}"
                break
            self._targets[row.step] = target
            self.keep(row, file, self.file_of(target))
            before = candidate if self.recipe.fades else replace(candidate, file=file, step=row)
        say(f"\nWhat ended it: {ended or 'all targets were gone to'}")
        self.show()

    def _smaller(self, number: int, before: Candidate | None) -> Candidate | None:
        """Makes the network of a target, not yet fine-tuned, as `cut_once` and `fade` do."""
        recipe = self.recipe
        target = recipe.targets[number]
        name = f"{recipe.scheme}-{number_of(target)}"
        if not recipe.fades:
            return cut_once(self, target, recipe.target_limits[number], name=name, before=before)
        candidate = fade(self, target, recipe.fadings[number], name=name, before=before)
        if candidate:
            self._faded[name] = recipe.fadings[number]
        return candidate

    def file_of(self, target: Target) -> Path:
        """Returns where the network of a target is kept."""
        return self.folder / f"compressed-{number_of(target)}.pt"

    @property
    def files(self) -> list[Path]:
        """The networks that are kept, as the rows in `kept`."""
        return [self.file_of(self._targets[step.step]) for step in self.kept]

    def rows(self) -> list[dict[str, str]]:
        """Returns the original and the networks that are kept, a row each, in words."""
        names = [number_of(self._targets[step.step]) for step in self.kept]
        return rung_rows([self.original, *self.kept], ["", *names])

    def show(self) -> None:
        """Writes the table and the picture of the networks that are kept, if there are any."""
        if not self.kept:
            return
        rows = self.rows()
        with whole_file(self.folder / LADDER) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        draw_rungs([self.original, *self.kept], rows, self.recipe, self.folder / "compress.png")

    def cheaper(self) -> str:
        """Returns how much a compression for each target would have taken, in words."""
        return self._cheaper_fadings() if self.recipe.fades else self._cheaper_cuts()

    def _cheaper_cuts(self) -> str:
        """Of cuts: a compression of its own would need all the epochs that a network has behind it here."""
        kept = [number for number, step in enumerate(self.steps) if step.kept]
        behind = [sum(step.seconds for step in self.steps[: number + 1]) for number in kept]
        here, there = self.steps[kept[-1]].epochs, sum(self.steps[number].epochs for number in kept)
        times = f", about {sum(behind) / behind[-1]:.1f} times as long" if behind[-1] else ""
        return f"{here} epochs; compressions with as many behind each network take {there}{times}"

    def _cheaper_fadings(self) -> str:
        """Of fadings: a compression of its own would fade for all the epochs, and at full width."""
        recipe, count = self.recipe, len(self._faded)
        seconds = [self.state.seconds(f"{name} training") for name in self._faded]
        at_full_width = seconds[0] / recipe.fadings[0]  # of an epoch: a compression of its own begins with the original
        spent = sum(step.seconds for step in self.steps)
        alone = spent - sum(seconds) + count * recipe.fading * at_full_width
        here, there = sum(self._faded.values()) + count * recipe.epochs, count * (recipe.fading + recipe.epochs)
        times = f", about {alone / spent:.1f} times as long" if spent else ""
        return f"{here} epochs; a compression for each target takes {there}{times}"

    def speed(self, number: int, runtime: Runtime) -> Speed:
        """Returns how fast a network is: all that are kept are timed in turns with the original, once.

        Args:
            number: Which of those that are kept, the mildest first.
            runtime: What runs all of them.
        """
        files, imgsz = [self.weights, *self.files], self.recipe.training["imgsz"]
        name = f"{runtime.name}, {runtime.threads} threads, {runtime.device}: turns"
        before, *after, spread = self.state.once(name, lambda: work.in_turns(files, imgsz, runtime), inputs=files)
        if self.original.ms != before:  # not noted yet
            ms = dict(zip((step.step for step in (self.original, *self.kept)), (before, *after), strict=True))
            self.steps = [replace(step, ms=ms.get(step.step)) for step in self.steps]
            self.state.write_csv(self.steps)
            self.show()
        promised, known = self.original.macs / self.kept[number].macs, (before, after[number], spread)
        return work.speed(self.weights, self.files[number], promised, imgsz, runtime, known)
