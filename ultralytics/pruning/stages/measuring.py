"""Measures checkpoints on one data set, side by side: size, cost, accuracy and speed."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import packages, report
from ..accuracy import accuracies
from ..checkpoints import checkpoint
from ..command_line import entry, kinds
from ..command_line.settings import VALIDATION
from ..cost import cost_of
from ..data import sets
from ..data.samples import LABELLED_BY_TEXT
from ..data.some_classes import measured_on
from ..deploy.onnx_files import read_onnx, try_out
from ..errors import PruningError, counted, first_line
from ..files import places
from ..networks.keeping import check_order, known_names
from ..one_shot.own_labels import agreement
from ..passes.validating import validate
from ..runs.folders import room_for
from ..runs.stale import older_products
from ..tracing.trace import trace
from .measurement import Measurement, comparison, write_csv

ONE_CLASS = {0: "item"}  # names of a network that the release trained with single_cls


class CheckpointParser(entry.Parser):
    """Words with a `=` are settings of Ultralytics, all others are checkpoints."""

    def __init__(self, what: str, example: str) -> None:
        super().__init__(what, example, keys=VALIDATION)
        files = ".pt and .onnx files, in any number"
        self.add_argument("checkpoints", type=kinds.as_source, nargs="+", metavar="checkpoint", help=files)

    def parse_intermixed_args(self, args=None, namespace=None):
        """Parses, and tells checkpoints from settings, in whatever order they come."""
        options = super().parse_intermixed_args(args, namespace)
        words = [*options.settings, *options.checkpoints]
        options.settings = [word for word in words if is_setting(word)]
        options.checkpoints = [word for word in words if not is_setting(word)]
        if not options.checkpoints:
            self.error("name at least one checkpoint, .pt or .onnx")
        return options


def is_setting(word: str) -> bool:
    """Whether a word is a key=value; the folders of a sweep have a = in their names."""
    return bool(re.match(r"\w+=", word)) and not places.located(word).is_file()


def measure_stage(options: argparse.Namespace) -> None:
    """Measures `options.checkpoints` on a data set: a table, and `val.csv` beside the release's pictures.

    Raises:
        PruningError: If something that the user gave is wrong; nothing is written then.
    """
    settings = {"imgsz": options.imgsz, "batch": options.batch, "device": options.device, **options.settings}
    check_sizes(settings)
    paths = [find(word) for word in options.checkpoints]
    rows = [described(path, settings) for path in paths]
    settings["data"] = measuring_data(settings.get("data", options.data), settings.get("split") or "val", rows)
    for path in paths:
        if path in older_products(path.with_suffix(".pt")):
            report.say(f"{places.shown(path)} is older than the .pt beside it: perhaps of an earlier network")
    # The release feeds a .pt narrow images where it can, and an ONNX file squares: here alike, so that they compare.
    settings = {"rect": all(path.suffix == ".pt" for path in paths), "plots": True, "verbose": False, **settings}
    with room_for(options.name, overwrite=options.overwrite) as (folder, work):
        for i, (path, label) in enumerate(zip(paths, folder_names(paths), strict=True)):
            report.say(f"\nMeasuring {rows[i].checkpoint}")
            rows[i] = run_one(path, rows[i], {**settings, "project": str(work), "name": label})
            os.replace(work / label, folder / label)
            write_csv(rows[: i + 1], folder / "val.csv")  # after each, so that an interruption loses no finished one
        folder = places.run_folder(options.name)
    if said := agreement(settings["data"]):
        report.say(f"\n{said}")
    report.say(f"\n{comparison(rows)}\n\nWrote {places.shown(folder / 'val.csv')}; curves and pictures lie beside it.")


def check_sizes(settings: dict[str, Any]) -> None:
    """Raises a PruningError for settings of Ultralytics with which a measurement makes no sense."""
    for key in ("imgsz", "batch"):
        if not isinstance(settings[key], int) or settings[key] < 1:
            raise PruningError(f"{key} {settings[key]}: it must be a whole number of at least 1")


def find(word: str) -> Path:
    """Returns the path of a checkpoint, relative to the current folder or to the repository.

    Raises:
        PruningError: If it is not there, or of another kind.
    """
    path = places.located(word)
    if not path.is_file():
        name = places.shown(path)
        raise PruningError(f"'{name}' is not there; name checkpoints, .pt or .onnx, or settings, key=value")
    if path.suffix not in {".pt", ".onnx"}:
        raise PruningError(f"'{places.shown(path)}' cannot be measured: it is neither a .pt nor an .onnx")
    return path.resolve()


def described(path: Path, settings: dict[str, Any]) -> Measurement:
    """Describes a checkpoint that is not measured yet.

    Raises:
        PruningError: If it is damaged, or does not take images of the size in the settings.
    """
    name, imgsz = places.shown(path), settings["imgsz"]
    if path.suffix == ".onnx":
        packages.need(("onnx", "onnxruntime"), f"'{name}'")
    row = Measurement(name, "", 0, 0, None, path.stat().st_size / 1e6, imgsz, settings["batch"], settings["device"])
    if path.suffix == ".onnx":
        row = described_onnx(path, row)
        return replace(row, single_cls=settings.get("single_cls", row.single_cls))
    model, content = checkpoint.load(path, trained_with_bn=False)
    row = replace(row, single_cls=checkpoint.counts_as_one(settings, content), names=tuple(known_names(model)))
    row = replace(row, shapes=dict(model.yaml))
    stride = max(int(model.stride.max()), 32)
    if imgsz % stride:
        raise PruningError(
            f"imgsz {imgsz}: '{name}' takes multiples of {stride}, e.g. {imgsz + stride - imgsz % stride}"
        )
    cost = cost_of(trace(model, imgsz=imgsz))
    return replace(row, task=model.task, classes=len(model.names), parameters=cost.deployed, gflops=cost.gflops)


def described_onnx(path: Path, row: Measurement) -> Measurement:
    """Completes the description of an ONNX file from what the release wrote into it; its cost is not in there.

    Raises:
        PruningError: If it is damaged or foreign, or does not take images of this size.
    """
    import onnxruntime

    file = read_onnx(path, row.checkpoint)
    if not file.dynamic and file.sides != (row.imgsz, row.imgsz):
        size = " x ".join(map(str, file.sides))
        raise PruningError(f"'{row.checkpoint}' takes images of {size} pixels only; imgsz is {row.imgsz}")
    batch = row.batch if file.dynamic else file.batch
    try_out(path, row.checkpoint, file, batch, (row.imgsz, row.imgsz))
    # On a GPU without the ONNX Runtime for it, the release asks for another package first.
    on_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return replace(
        row,
        task=file.task,
        classes=len(file.names),
        names=file.names,
        shapes={"channels": file.channels, "kpt_shape": file.keypoints},
        single_cls=dict(enumerate(file.names)) == ONE_CLASS,
        parameters=file.parameters,
        batch=batch,
        device=row.device if on_gpu else "cpu",
    )


def measuring_data(data: str, split: str, rows: Sequence[Measurement]) -> str:
    """Returns the path of the data set's yaml, or the folder of classified images.

    Raises:
        PruningError: If it is not a data set, lacks the split, or has other classes or keypoints than a checkpoint;
            if some checkpoints classify images and others do not.
    """
    if len({row.task == "classify" for row in rows}) > 1:
        tasks = ", ".join(f"'{row.checkpoint}': {row.task}" for row in rows)
        raise PruningError(f"no data set serves all of these checkpoints ({tasks}); measure them one by one")
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
    found = 1 if row.single_cls else len(names)
    if row.classes != found:
        raise PruningError(
            f"'{row.checkpoint}' has {counted(row.classes, 'class', 'classes')}, --data {data} has {found}; use "
            "the data of its training"
        )
    if not row.single_cls:
        check_order(row.names, names, data)


def folder_names(paths: Sequence[Path]) -> list[str]:
    """Returns a name for each checkpoint, all different: `train-norm-best` for `runs/train-norm/weights/best.pt`."""
    names: list[str] = []
    for path in paths:
        of_run = path.parent.name == "weights" and path.parent.parent != places.ROOT
        folder = path.parent.parent if of_run else path.parent
        name = f"{folder.name}-{path.stem}" + path.suffix.replace(".pt", "").replace(".", "-")
        variants = [name, *(f"{name}-{i}" for i in range(2, len(paths) + 1))]
        names.append(next(variant for variant in variants if variant not in names))
    return names


def run_one(path: Path, row: Measurement, settings: dict[str, Any]) -> Measurement:
    """Validates one checkpoint by the release, and returns its row with what was measured."""
    of_row = {"batch": row.batch, "device": row.device, "single_cls": row.single_cls}
    metrics, _, batch = validate(path, {"exist_ok": True, **settings, **of_row})
    return replace(
        row, batch=batch, milliseconds=metrics.speed["inference"], accuracy=accuracies(metrics.results_dict, row.task)
    )
