"""Measures checkpoints on one data set, side by side: size, cost, accuracy and speed."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import report
from ..accuracy import accuracies, by_class, has_classes
from ..checkpoints import checkpoint
from ..command_line import entry, kinds
from ..command_line.devices import cores
from ..command_line.settings import VALIDATION
from ..data import sets
from ..data.samples import LABELLED_BY_TEXT
from ..data.some_classes import measured_on
from ..data.yamls import check_data_yaml
from ..errors import PruningError, counted, first_line, typed_line
from ..files import places
from ..inputs.documents import read_yaml
from ..latency.files import without_notice
from ..measuring import speed
from ..measuring.formats import checkpoint_of, describe, find, suffix_of, suffixes
from ..measuring.rows import Measurement
from ..measuring.tables import class_table, comparison, video_table, write_csv, write_json
from ..networks.keeping import check_order
from ..one_shot.own_labels import agreement
from ..passes.validating import validate
from ..runs.folders import room_for
from ..runs.stale import older_products
from .weights import follow_training


class CheckpointParser(entry.Parser):
    """Words with a `=` are settings of Ultralytics, all others are files to measure."""

    def __init__(self, what: str, example: str) -> None:
        super().__init__(what, example, keys=VALIDATION)
        files = "checkpoints (.pt) and exported files (.onnx, _openvino_model, ...), in any number"
        self.add_argument("checkpoints", type=kinds.as_source, nargs="+", metavar="checkpoint", help=files)

    def parse_intermixed_args(self, args=None, namespace=None):
        """Parses, and tells checkpoints from settings, in whatever order they come."""
        options = super().parse_intermixed_args(args, namespace)
        words = [*options.settings, *options.checkpoints]
        options.settings = [word for word in words if is_setting(word)]
        options.checkpoints = [word for word in words if not is_setting(word)]
        if not options.checkpoints:
            self.error("name at least one checkpoint or exported file")
        return options


def is_setting(word: str) -> bool:
    """Whether a word is a key=value; the folders of a sweep have a = in their names."""
    return bool(re.match(r"\w+=", word)) and places.first_there(word) is None


def measure_stage(options: argparse.Namespace) -> None:
    """Measures `options.checkpoints` on a data set: a table, `val.csv` and `val.json` beside the release's pictures.

    Raises:
        PruningError: If something that the user gave is wrong; nothing is written then.
    """
    paths = [find(word) for word in options.checkpoints]
    first = next((path for path in paths if path.suffix == ".pt"), None)
    model, content = checkpoint.load(first, trained_with_bn=False) if first else (None, {})
    follow_training(options, content, model.task if model else "detect")
    settings = {"imgsz": options.imgsz, "batch": options.batch, "device": options.device, **options.settings}
    check_sizes(settings)
    check_timing(options)
    rows = [describe(path, settings) for path in paths]
    check_classes_asked(options, rows)
    split = settings.get("split") or "val"
    settings["data"] = measuring_data(settings.get("data", options.data), split, rows)
    clip = speed.read_clip(options.video) if options.video else None
    for path in paths:
        if path in older_products(checkpoint_of(path)):
            report.say(f"{places.shown(path)} is older than the .pt beside it: perhaps of an earlier network")
    # The release feeds a .pt narrow images where it can, and an export squares: here alike, so that they compare.
    settings = {"rect": all(path.suffix == ".pt" for path in paths), "plots": True, "verbose": False, **settings}
    with room_for(options.name, overwrite=options.overwrite) as (folder, work):
        for i, (path, label) in enumerate(zip(paths, folder_names(paths), strict=True)):
            report.say(f"\nMeasuring {rows[i].checkpoint}")
            rows[i] = run_one(path, rows[i], {**settings, "project": str(work), "name": label})
            os.replace(work / label, folder / label)
            write_csv(rows[: i + 1], folder / "val.csv")  # after each, so that an interruption loses no finished one
        threads = options.threads or cores() if options.timing or clip else None
        rows = time_all(rows, paths, options, clip, threads or 1, settings)
        write_csv(rows, folder / "val.csv")
        write_json(rows, folder / "val.json", data=settings["data"], split=split, threads=threads, clip=clip)
        folder = places.run_folder(options.name)
    if said := agreement(settings["data"]):
        report.say(f"\n{said}")
    report.say(f"\n{comparison(rows, threads)}")
    if clip and rows[0].frame:
        report.say(f"\n{video_table(rows, clip)}")
    if options.per_class:
        report.say(f"\n{class_table(rows, folder_names(paths))}")
    report.say(f"\nWrote {places.shown(folder / 'val.csv')} and val.json; curves and pictures lie beside them.")


def time_all(
    rows: list[Measurement],
    paths: Sequence[Path],
    options: argparse.Namespace,
    clip: speed.Clip | None,
    threads: int,
    settings: dict[str, Any],
) -> list[Measurement]:
    """Times what the options ask for, in turns; where that fails, one line says why, and what was measured stays."""
    batches = sorted({1, settings["batch"]} if "batch" in getattr(options, "said", ()) else {1})
    try:
        if options.timing:
            report.say(f"\nTiming {counted(len(rows), 'file')} in turns, {counted(threads, 'thread')}")
            rows = speed.timed(rows, paths, batches, threads, settings)
        if clip:
            rows = speed.timed_on(clip, rows, paths, threads, settings)
    except Exception as error:  # whatever a runtime raises
        report.say(f"\nNot timed: {typed_line(error)}")
    return rows


def check_timing(options: argparse.Namespace) -> None:
    """Refuses options that say how to time where nothing is timed.

    Raises:
        PruningError: If there are any.
    """
    if options.threads and not (options.timing or options.video):
        raise PruningError("--threads is read for a timing only, and --no-timing leaves that out")


def check_classes_asked(options: argparse.Namespace, rows: Sequence[Measurement]) -> None:
    """Refuses `--per-class` where classes have no accuracy of their own.

    Raises:
        PruningError: If a file is of such a task.
    """
    for row in rows:
        if options.per_class and not has_classes(row.task):
            raise PruningError(f"--per-class: '{row.checkpoint}' does {row.task}, where no class has an AP of its own")


def check_sizes(settings: dict[str, Any]) -> None:
    """Raises a PruningError for settings of Ultralytics with which a measurement makes no sense."""
    for key in ("imgsz", "batch"):
        if not isinstance(settings[key], int) or settings[key] < 1:
            raise PruningError(f"{key} {settings[key]}: it must be a whole number of at least 1")


def measuring_data(data: str, split: str, rows: Sequence[Measurement]) -> str:
    """Returns the path of the data set's yaml, or the folder of classified images.

    Raises:
        PruningError: If it is not a data set, lacks the split, or has other classes or keypoints than a checkpoint;
            if some checkpoints classify images and others do not.
    """
    if len({row.task == "classify" for row in rows}) > 1:
        tasks = ", ".join(f"'{row.checkpoint}': {row.task}" for row in rows)
        raise PruningError(f"no data set serves all of these checkpoints ({tasks}); measure them one by one")
    check_before_download(rows, data)
    file = sets.resolve_data(data, task=rows[0].task)
    if rows[0].task in LABELLED_BY_TEXT and not any(row.single_cls or row.names != rows[0].names for row in rows):
        file = measured_on(file, rows[0].names)
    names = names_of_split(file, split, rows[0].task, data)
    sets.check_usable(file, (split,), rows[0].task)
    for row in rows:
        sets.check_usable(file, (), row.task, row.shapes)
    for row in rows:
        check_row_classes(row, names, data)
    return file


def check_before_download(rows: Sequence[Measurement], data: str) -> None:
    """Refuses a data set whose yaml has other classes than a checkpoint: the release downloads what is not here.

    A yaml with all classes of a checkpoint and some more is not refused: a set of these can be made of it.

    Raises:
        PruningError: If it is such a one.
    """
    if rows[0].task == "classify":  # known by a folder, or a name alone
        return
    content = read_yaml(Path(sets.resolve_data(data, check_images=False, task=rows[0].task)), f"--data {data}")
    classes, names = check_data_yaml(content, rows[0].task), content.get("names") or []
    known = {str(name) for name in (names.values() if isinstance(names, dict) else names)}
    for row in rows:
        if not known.issuperset(row.names):
            check_count(row, classes, data)


def check_count(row: Measurement, classes: int, data: str) -> None:
    """Refuses a data set with another number of classes than a checkpoint.

    Raises:
        PruningError: If it is such a one.
    """
    found = 1 if row.single_cls else classes
    if row.classes != found:
        raise PruningError(
            f"'{row.checkpoint}' has {counted(row.classes, 'class', 'classes')}, --data {data} has {found}; use "
            "the data of its training"
        )


def names_of_split(file: str, split: str, task: str, data: str) -> dict[int, str]:
    """Returns the names of a data set's classes, by the release, which also finds out whether the split is there.

    Raises:
        PruningError: If it refuses the data set.
    """
    from ultralytics.data.utils import check_cls_dataset, check_det_dataset

    check = check_cls_dataset if task == "classify" else check_det_dataset
    try:
        return check(file, split=split)["names"]
    except Exception as error:  # whatever its checks raise
        raise PruningError(f"--data {data}: {first_line(error)}") from error


def check_row_classes(row: Measurement, names: dict[int, str], data: str) -> None:
    """Refuses a data set with other classes than a checkpoint, or in another order.

    Raises:
        PruningError: If it is such a one.
    """
    check_count(row, len(names), data)
    if not row.single_cls:
        check_order(row.names, names, data)


def folder_names(paths: Sequence[Path]) -> list[str]:
    """Returns a name for each checkpoint, all different: `train-norm-best` for `runs/train-norm/weights/best.pt`."""
    names: list[str] = []
    for path in paths:
        of_run = path.parent.name == "weights" and path.parent.parent != places.ROOT
        folder = path.parent.parent if of_run else path.parent
        name = f"{folder.name}-{checkpoint_of(path).stem}" + _label(path)
        variants = [name, *(f"{name}-{i}" for i in range(2, len(paths) + 1))]
        names.append(next(variant for variant in variants if variant not in names))
    return names


def _label(path: Path) -> str:
    """Returns what tells files of one name from each other in the name of a folder: nothing for a checkpoint."""
    kind = suffixes()[suffix_of(path) or ""]
    return "" if kind == "pt" else f"-{kind}"


def run_one(path: Path, row: Measurement, settings: dict[str, Any]) -> Measurement:
    """Validates one file by the release, and returns its row with what was measured."""
    of_row = {"batch": row.batch, "device": row.device, "single_cls": row.single_cls}
    with without_notice():
        metrics, _, batch = validate(path, {"exist_ok": True, **settings, **of_row})
    found = accuracies(metrics.results_dict, row.task)
    classes = by_class(metrics, row.task) if has_classes(row.task) else {}
    return replace(row, batch=batch, accuracy=found, by_class=classes)
