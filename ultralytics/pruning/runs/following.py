"""The commands that a stage prints at its end: what to run next, so that it runs as printed, where the user stands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import report
from ..checkpoints.checkpoint import side_of_training
from ..data.sets import DEFAULT, is_known
from ..files import places
from ..inputs.documents import brief

DEFAULT_IMGSZ, DEFAULT_BATCH = 640, 48
STAGES = (places.NORMAL, places.SPARSITY, places.FINETUNE, "compress")
OF_A_STAGE = re.compile(rf"(?:(.*)-)?(?:{'|'.join(STAGES)})(?:-\d+)?")  # a name that `_name` made, or a default one


@dataclass(frozen=True)
class Origin:
    """What a stage worked on, as far as the next one has to know.

    Attributes:
        weights: The checkpoint to go on with.
        before: The one that was started from, if it is there.
        data: The data set; None is not known.
        imgsz: Side of its images in pixels.
        side: What the next stage takes where nobody names one.
        batch: Images per training step; None is not known.
        single_cls: Whether all classes count as one.
        name: Of the run.
        compares: Whether it is to be measured beside the one that was started from.
    """

    weights: Path
    before: Path | None = None
    data: str | None = None
    imgsz: int = DEFAULT_IMGSZ
    side: int = DEFAULT_IMGSZ
    batch: int | None = None
    single_cls: bool = False
    name: str = ""
    compares: bool = False

    @classmethod
    def of(cls, weights: Path, train_args: dict[str, Any], **known: Any) -> Origin:
        """Reads what a training was told; `known` is said by the user and counts more."""
        imgsz, batch, start = train_args.get("imgsz"), train_args.get("batch"), str(train_args.get("model"))
        found = {
            "before": Path(start) if start.endswith(".pt") and places.exists(start, Path.is_file) else None,
            "data": train_args.get("data"),
            "imgsz": imgsz if isinstance(imgsz, int) else DEFAULT_IMGSZ,
            "side": side_of_training({"train_args": train_args}),
            "batch": batch if isinstance(batch, int) and batch > 0 else None,
            "single_cls": bool(train_args.get("single_cls")),
        }
        return cls(weights, **{**found, **{name: value for name, value in known.items() if value is not None}})


def run_name_of(weights: Path) -> str:
    """Returns the name of the run that a checkpoint lies in, or nothing."""
    folder = weights.resolve().parent
    return folder.parent.name if folder.name == "weights" and folder.parent.parent == places.RUNS.resolve() else ""


PLACEHOLDER = "my.yaml"  # in the place of a data set that is not on this machine


def say_next(scripts: Sequence[str], origin: Origin, more: Sequence[str] = ()) -> None:
    """Prints a line with a command for each script.

    Args:
        scripts: Their names.
        origin: What they go on with.
        more: Further words of the last one.
    """
    if origin.data and not is_known(origin.data):
        where = "is not on this machine: name your data set in the place of"
        report.say(f"The data of its training, {brief(origin.data)}, {where} {PLACEHOLDER}")
    for script in scripts:
        words = [*_WORDS[script](origin), *(more if script == scripts[-1] else ())]
        report.say(f"Next: python {shlex.join([seen(places.ROOT / script), *words])}")


def seen(path: Path) -> str:
    """Returns a path relative to the current folder where it lies in it, else the whole path."""
    path = path if path.is_absolute() else path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _data(origin: Origin) -> list[str]:
    """Returns the options that name the data set and the size of its images, where they are not the defaults."""
    from ultralytics.utils import checks

    words = []
    if origin.data and places.exists(origin.data):
        default = checks.check_file(DEFAULT, hard=False)
        if not default or Path(origin.data).resolve() != Path(default).resolve():
            words += ["--data", seen(Path(origin.data))]
    elif origin.data and not is_known(origin.data):
        words += ["--data", PLACEHOLDER]
    elif origin.data and origin.data != DEFAULT:
        words += ["--data", origin.data]
    told = {origin.imgsz, origin.side} != {DEFAULT_IMGSZ}
    return words + (["--imgsz", str(origin.imgsz)] if told else [])


def _name(origin: Origin, default: str) -> list[str]:
    """Returns the option that names the next run: after this one if that has a name of its own, and not taken yet."""
    stage = OF_A_STAGE.fullmatch(origin.name)
    base = (stage[1] or "") if stage else origin.name
    wanted = f"{base}-{default}" if base else default
    names = [wanted, *(f"{wanted}-{number}" for number in range(2, 1000))]
    free = next(name for name in names if not _taken(places.RUNS / name))
    return ["--name", free] if free != default else []


def _taken(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _single(origin: Origin) -> list[str]:
    return ["single_cls=True"] if origin.single_cls else []


def _training(origin: Origin, default: str) -> list[str]:
    batch = ["--batch", str(origin.batch)] if origin.batch not in (None, DEFAULT_BATCH) else []
    return [
        *("--weights", seen(origin.weights)), *_data(origin), *batch, *_name(origin, default), *_single(origin),
    ]  # fmt: skip


def _looking(origin: Origin) -> list[str]:
    words = [seen(file) for file in (origin.before, origin.weights) if file]
    is_named = origin.name and origin.name not in STAGES
    return words + (["--save", seen(places.RUNS / origin.name / "bn-weights.png")] if is_named else [])


def _measuring(origin: Origin) -> list[str]:
    compared = [origin.before] if origin.compares and origin.before else []
    words = [seen(file) for file in (*compared, origin.weights)]
    return [*words, *_data(origin), *_name(origin, "val"), *_single(origin)]


_WORDS = {
    "train_sparsity.py": lambda origin: _training(origin, places.SPARSITY),
    "vis-bn-weight.py": _looking,
    "prune.py": lambda origin: ["--weights", seen(origin.weights)],
    "finetune.py": lambda origin: _training(origin, places.FINETUNE),
    "val.py": _measuring,
    "export.py": lambda origin: ["--weights", seen(origin.weights), *_data(origin)],
}
