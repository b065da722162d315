"""What a compression is asked for. A run that goes on is asked for the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..criteria.scoring import Scoring
from ..errors import PruningError
from ..latency import Latency
from ..passes.images import Images
from ..selection.limits import Limits
from ..selection.targets import KINDS, Target
from ..sparsity.modes.steered import LEAST_EPOCHS

FREE = ("training device", "runtime threads", "runtime device")  # may differ when a run goes on
# A file may lie elsewhere when a run goes on, e.g. since it was moved with it, if its content is the same.
PATHS = {"weights": "sha256", "data": "data_digest", "table": "table_sha256"}
SCHEMES = {
    "one-shot": "one cut by what the outputs need, as prune.py does it, then all epochs; "
    "with 100 or more, two cuts to a far target",
    "steered": "one sparsity training that chooses and fades, then one cut",
    "stepwise": "cuts a little and trains, several times",
}
READ_BY_PASSES = {"seed", "single_cls", "fraction", "amp"}  # training arguments that decide what a pass looks at


@dataclass(frozen=True)
class Recipe:
    """A compression.

    Attributes:
        weights: The trained checkpoint.
        sha256: Its SHA-256.
        images: Training images that scores and statistics come from, of the data set that everything else uses too.
        target: How much smaller or faster; of a ladder the hardest one.
        milder: Numbers of the targets before it, if it is a ladder, the mildest first.
        milder_limits: The rules for single layers at these, where they differ from `limits`; else none.
        scheme: A key of `SCHEMES`.
        steps: Number of cuts of the stepwise scheme.
        epochs_per_step: Epochs of recovery after each cut; the steered scheme takes all of them in one training, the
            one-shot scheme none.
        epochs: Epochs of the fine-tuning at the end.
        halfway: How many of these follow a first cut of the one-shot scheme, halfway to the target; 0: there is none.
        max_map_drop: How much lower than the original's the accuracy may be, in 0..1; None is no limit.
        scoring: By which the schemes that cut without fading score; None: as the network asks for.
        recalibrate: Training batches for the statistics of the batch norms after a cut; 0: none.
        limits: The rules for single layers.
        latency: How milliseconds are known, for a `latency_speed_up`: by a runtime or by a table; its factor is that of
            the target.
        teacher: Whether the original teaches.
        training: Arguments of all trainings: `imgsz`, `batch`, and what else the user said.
        data_digest: What tells the data set from others wherever it lies (`sets.data_set_digest`); empty if unknown.
        table_sha256: The SHA-256 of the table of latencies; empty if there is none.

    Raises:
        PruningError: If something is outside of its range.
    """

    weights: str
    sha256: str
    images: Images
    target: Target
    milder: tuple[float, ...] = ()
    milder_limits: tuple[Limits, ...] = ()
    scheme: str = "steered"
    steps: int = 4
    epochs_per_step: int = 10
    epochs: int = 100
    halfway: int = 0
    max_map_drop: float | None = None
    scoring: Scoring | None = field(default_factory=Scoring)
    recalibrate: int = Images.batches
    limits: Limits = field(default_factory=Limits)
    latency: Latency | None = None
    teacher: bool = False
    training: dict[str, Any] = field(default_factory=dict)
    data_digest: str = ""
    table_sha256: str = ""

    def __post_init__(self) -> None:
        if self.target.value == self.target.kind.nothing:
            raise PruningError(f"{self.target.kind.option} {self.target.value:g} removes nothing")
        if self.scheme not in SCHEMES:
            raise PruningError(f"unknown scheme '{self.scheme}'; there are {', '.join(SCHEMES)}")
        if self.max_map_drop is not None and not 0 <= self.max_map_drop < 1:
            raise PruningError(f"the allowed drop is {self.max_map_drop}; it must be at least 0 and below 1")
        if self.fades:
            self._check_steered()
        elif self.milder and self.scheme != "one-shot":
            raise PruningError(f"{self.target.kind.option} with several numbers needs --scheme one-shot or steered")

    def _check_steered(self) -> None:
        """Raises a PruningError for what a steered training cannot do."""
        if not self.target.kind.argument:
            others = " or ".join(kind.option for kind in KINDS.values() if kind.argument)
            raise PruningError(
                f"{self.target.kind.option} is a target of --scheme stepwise; the steered one takes {others}"
            )
        if min(self.fadings) < LEAST_EPOCHS:
            each = " to each target" if self.milder else ""
            raise PruningError(
                f"--steps {self.steps} x --epochs-per-step {self.epochs_per_step}: fading takes at least "
                f"{LEAST_EPOCHS} epochs{each}"
            )

    @property
    def data(self) -> str:
        """Path of the data set's yaml."""
        return self.images.data

    @property
    def fades(self) -> bool:
        """Whether channels fade before they are cut."""
        return self.scheme == "steered"

    @property
    def fading(self) -> int:
        """Epochs before the last cut of the steered scheme."""
        return self.steps * self.epochs_per_step

    @property
    def targets(self) -> tuple[Target, ...]:
        """All targets, the mildest first."""
        return (*(replace(self.target, value=value) for value in self.milder), self.target)

    @property
    def fadings(self) -> tuple[int, ...]:
        """Epochs of the fading to each target, as even as they come."""
        count = len(self.targets)
        return tuple(self.fading // count + (number < self.fading % count) for number in range(count))

    @property
    def target_limits(self) -> tuple[Limits, ...]:
        """The rules for single layers at each target, the mildest first."""
        return (*(self.milder_limits or [self.limits] * len(self.milder)), self.limits)

    @property
    def statistics(self) -> Images | None:
        """The training images for the statistics of the batch norms after a cut."""
        return replace(self.images, batches=self.recalibrate) if self.recalibrate else None

    def limits_at(self, step: int, widths: Mapping[str, int]) -> Limits:
        """Returns the limits that hold after step 1, 2, ...: evenly from the whole network to the limits of the end.

        Args:
            step: Number of the step.
            widths: Of the original's layers, by name: what all shares are of.
        """
        part, end = step / self.steps, self.limits
        ratios = tuple((pattern, share * part) for pattern, share in end.ratios)
        most = end.max_ratio if end.max_ratio == 1 else end.max_ratio * part  # 1: whole blocks may go from the start
        return replace(end, floor=1 - (1 - end.floor) * part, max_ratio=most, ratios=ratios, widths=widths)

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data, as `state.json` has kept it from the first version on."""
        runtime = self.latency.runtime if self.latency else None
        table = self.latency.table if self.latency else None
        return {
            "weights": self.weights,
            "sha256": self.sha256,
            "data": self.data,
            "target": asdict(self.target),
            **({"milder": self.milder} if self.milder else {}),
            **({"milder_limits": [each.settings() for each in self.milder_limits]} if self.milder_limits else {}),
            "scheme": self.scheme,
            "steps": self.steps,
            "epochs_per_step": self.epochs_per_step,
            "epochs": self.epochs,
            **({"halfway": self.halfway} if self.halfway else {}),
            "max_map_drop": self.max_map_drop,
            **{name: getattr(self.scoring, name, None) for name in ("criterion", "normalize", "per")},
            "batches": self.images.batches,
            "recalibrate": self.recalibrate,
            "limits": self.limits.settings(),
            "runtime": asdict(runtime) if runtime else None,
            "table": str(table) if table else None,
            "teacher": self.teacher,
            "training": self.training,
            "data_digest": self.data_digest,
            "table_sha256": self.table_sha256,
        }

    def differences(self, earlier: dict[str, Any]) -> list[str]:
        """Returns what an earlier recipe, as plain data, had otherwise, in words."""
        before, now = (_flat(json.loads(json.dumps(recipe))) for recipe in (earlier, self.plain()))
        moved = [path for path, content in PATHS.items() if before.get(content) and before[content] == now[content]]
        free = {*FREE, *moved, *(content for content in PATHS.values() if content != "sha256")}
        names = [name for name in {**before, **now} if name not in free and before.get(name) != now.get(name)]
        return [f"{_shortened(name)} was {_shortened(before.get(name))}, is {now.get(name)}" for name in names]


def images_of(training: Mapping[str, Any], data: str, batches: int = Images.batches) -> Images:
    """Returns the images that passes outside of trainings look at, as many at once as one GPU trains with, or fewer.

    Args:
        training: Training arguments: `imgsz`, `batch`, and what else there is.
        data: Path of the data set's yaml.
        batches: How many batches.
    """
    devices = [word.strip() for word in str(training.get("device", "")).strip("[]() ").split(",") if word.strip()]
    batch = min(Images.batch, training.get("batch", Images.batch) // max(len(devices), 1))
    settings = tuple((key, value) for key, value in training.items() if key in READ_BY_PASSES)
    return Images(data, batches, max(batch, 1), training["imgsz"], devices[0] if devices else "", settings)


def _shortened(value: Any) -> str:
    """Returns what a file says in words, but not all of a long text."""
    return str(value) if len(str(value)) <= 300 else f"{str(value)[:300]}..."


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Returns nested values by joined names, e.g. `limits round_to`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found.update({f"{name} {inner}": part for inner, part in _flat(value).items()})
        else:
            found[name] = value
    return found
