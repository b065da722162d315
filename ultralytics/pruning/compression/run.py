"""Runs a compression: a scheme down to the target, then fine-tuning; the best state within the limits is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..latency import Runtime
from ..latency.comparing import Speed
from ..report import say
from . import work
from .jobs import Jobs
from .schemes import CANDIDATES, Candidate, fine_tuned, met
from .state import Step


class Compression(Jobs):
    """A compression to one target, in a folder."""

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
        row, file = fine_tuned(self, kept)
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
            self.note(candidate.step, candidate.limits)
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
        return kept, f"{used_up if not met(self, self.recipe.target, kept) else 'the target is reached'}: {asked}"

    def _keep(self, row: Step, file: Path, result: Path) -> None:
        """Marks a row as the one that is kept, copies its checkpoint to `result`, and times that where a runtime is."""
        self.keep(row, file, result)
        if self.recipe.latency and self.recipe.latency.runtime:
            before, after, _ = self._milliseconds(self.recipe.latency.runtime)
            self.faster = round(before / after, 3)

    def speed(self, runtime: Runtime) -> Speed:
        """Times `compressed.pt` in turns with the original, once, and notes the milliseconds in the table.

        Args:
            runtime: What runs both.
        """
        known = self._milliseconds(runtime)
        (kept,) = self.kept
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
