"""What a compression is asked for. A run that goes on is asked for the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..errors import PruningError
from ..latency import Runtime
from ..selection.limits import Limits
from ..selection.targets import KINDS, Target
from ..sparsity.modes.steered import LEAST_EPOCHS

FREE = ("training device", "runtime threads", "runtime device")  # may differ when a run goes on
# A file may lie elsewhere when a run goes on, e.g. since it was moved with it, if its content is the same.
PATHS = {"weights": "sha256", "data": "data_digest", "table": "table_sha256"}
SCHEMES = {
    "steered": "one sparsity training that chooses and fades, then one cut",
    "stepwise": "cuts a little and trains, several times",
}


@dataclass(frozen=True)
class Recipe:
    """A compression.

    Attributes:
        weights: The trained checkpoint.
        sha256: Its SHA-256.
        data: Path of the data set's yaml.
        target: How much smaller or faster.
        scheme: A key of `SCHEMES`.
        steps: Number of cuts of the stepwise scheme.
        epochs_per_step: Epochs of recovery after each cut; the steered scheme takes all of them in one training.
        epochs: Epochs of the fine-tuning at the end.
        max_map_drop: How much lower than the original's the accuracy may be, in 0..1; None is no limit.
        criterion: By which the stepwise scheme scores.
        normalize: What makes layers comparable; None: the criterion's own.
        per: `multiply-add` or None.
        batches: Training batches for criteria that look at images.
        recalibrate: Training batches for the statistics of the batch norms after a cut; 0: none.
        limits: What holds for single layers.
        runtime: What a `latency_speed_up` is timed by.
        table: Timings of another machine in its place.
        teacher: Whether the original teaches.
        training: Arguments of all trainings: `imgsz`, `batch`, and what else the user said.
        data_digest: What tells the data set from others wherever it lies (`sets.data_set_digest`); empty if unknown.
        table_sha256: The same of `table`.

    Raises:
        PruningError: If something is outside of its range.
    """

    weights: str
    sha256: str
    data: str
    target: Target
    scheme: str = "steered"
    steps: int = 4
    epochs_per_step: int = 10
    epochs: int = 100
    max_map_drop: float | None = None
    criterion: str = "slim"
    normalize: str | None = None
    per: str | None = None
    batches: int = 16
    recalibrate: int = 16
    limits: Limits = field(default_factory=Limits)
    runtime: Runtime | None = None
    table: str | None = None
    teacher: bool = True
    training: dict[str, Any] = field(default_factory=dict)
    data_digest: str = ""
    table_sha256: str = ""

    def __post_init__(self) -> None:
        if self.target.value == self.target.kind.nothing:
            raise PruningError(f"{self.target.name}={self.target.value:g} removes nothing")
        if self.scheme not in SCHEMES:
            raise PruningError(f"unknown scheme '{self.scheme}'; there are {', '.join(SCHEMES)}")
        if self.max_map_drop is not None and not 0 <= self.max_map_drop < 1:
            raise PruningError(f"the allowed drop is {self.max_map_drop}; it must be at least 0 and below 1")
        if self.scheme == "steered":
            if not self.target.kind.argument:
                others = " or ".join(kind.option for kind in KINDS.values() if kind.argument)
                raise PruningError(
                    f"{self.target.kind.option} is a target of --scheme stepwise; the steered one takes {others}"
                )
            if self.fading < LEAST_EPOCHS:
                raise PruningError(
                    f"--steps {self.steps} x --epochs-per-step {self.epochs_per_step}: fading takes at least "
                    f"{LEAST_EPOCHS} epochs"
                )

    @property
    def fading(self) -> int:
        """Epochs before the last cut of the steered scheme."""
        return self.steps * self.epochs_per_step

    def limits_at(self, step: int, widths: Mapping[str, int]) -> Limits:
        """Returns the limits that hold after step 1, 2, ...: evenly from the whole network to the limits of the end.

        Args:
            step: Number of the step.
            widths: Of the original's layers, by name: what all shares are of.
        """
        part, end = step / self.steps, self.limits
        own = tuple((pattern, share * part) for pattern, share in end.ratios)
        most = end.max_ratio if end.max_ratio == 1 else end.max_ratio * part  # 1: whole blocks may go from the start
        return replace(end, floor=1 - (1 - end.floor) * part, max_ratio=most, ratios=own, widths=widths)

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return {**asdict(self), "limits": self.limits.settings()}

    def differences(self, earlier: dict[str, Any]) -> list[str]:
        """Returns what an earlier recipe, as plain data, had otherwise, in words."""
        before, now = (_flat(json.loads(json.dumps(recipe))) for recipe in (earlier, self.plain()))
        moved = [path for path, content in PATHS.items() if before.get(content) and before[content] == now[content]]
        free = {*FREE, *moved, *(content for content in PATHS.values() if content != "sha256")}
        names = [name for name in {**before, **now} if name not in free and before.get(name) != now.get(name)]
        return [f"{_shortened(name)} was {_shortened(before.get(name))}, is {now.get(name)}" for name in names]


def _shortened(value: Any) -> str:
    """Returns what a file says in words, but not all of a long text."""
    return str(value) if len(str(value)) <= 300 else f"{str(value)[:300]}..."


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Returns nested values by joined names, e.g. `limits round_to`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found.update({f"{name} {inner}": own for inner, own in _flat(value).items()})
        else:
            found[name] = value
    return found
