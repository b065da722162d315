"""Exports a checkpoint by the release; an ONNX file is kept only if it finds the same as the checkpoint."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import packages, release, report
from ..checkpoints import checkpoint
from ..data import sets
from ..data.images import images_in
from ..data.of_training import data_before
from ..errors import PruningError, first_line, hint, quoted
from ..files import places, whole
from ..files.locks import alone_in
from ..passes.isolation import isolated
from ..release import check_side
from ..runs.belongings import is_export
from ..runs.moved import relocated
from .agreement import RUNTIMES, check_agreement
from .annotation import KEY, annotate, summary_of
from .equal_accuracy import check_accuracy
from .softmax import bins_last

# What all formats take, or the release refuses by itself.
EXPORTS_ANY = ("format", "imgsz", "device", "data", "batch", "quantize", "split", "fraction", "verbose")
NMS_SETTINGS = ("nms", "conf", "iou", "max_det", "agnostic_nms")


class Finish(Protocol):
    """Makes something else of an exported ONNX that agrees with its checkpoint."""

    def prepare(self, model: Any, content: dict[str, Any], settings: dict[str, Any], data: str | None) -> None:
        """Gets ready, before anything is exported.

        Args:
            model: The network.
            content: Of its checkpoint.
            settings: Of the export.
            data: The data set that the user named, or that of the training; None is not known.

        Raises:
            PruningError: If it cannot be made.
        """

    def __call__(self, onnx: Path, name: str) -> Path:
        """Returns the product, beside the ONNX.

        Args:
            onnx: The exported file.
            name: Of the checkpoint, without its ending.

        Raises:
            PruningError: If it is not worth having.
        """


COMPARED = f"{', '.join(RUNTIMES)}, where their packages are installed,"


def runs_here(name: str) -> bool:
    """Whether what is exported to a format can be run on this machine, to compare it."""
    return name in RUNTIMES and all(map(packages.is_there, packages.RUNTIMES.get(name, ())))


def export(options: argparse.Namespace, finish: Finish | None = None) -> Path:
    """Exports `options.weights`, compares, and puts the product beside it; returns where it is.

    Args:
        options: Of `export.py`.
        finish: What makes the product of the ONNX, if that is not the product itself.

    Raises:
        PruningError: If an option is wrong, the export fails, or an ONNX file finds something other than the
            checkpoint; nothing is written then.
    """
    from ultralytics.cfg import QUANTIZE_ALIASES

    path = places.located(options.weights).resolve()
    model, content = checkpoint.load(path, trained_with_bn=False)
    if options.imgsz is None:
        options.imgsz = checkpoint.side_of_training(content)
    check_side(options.imgsz, model)

    settings = {"format": options.format, "imgsz": options.imgsz, "device": options.device, **options.settings}
    arguments = check_export_settings(settings)
    data = settings.pop("data", options.data)
    precision = QUANTIZE_ALIASES.get(str(settings.get("quantize") or 32).lower())
    compares = runs_here(settings["format"]) and precision == 32
    said = getattr(options, "said", ())
    if not compares and "images" in said:
        raise PruningError(f"--images does nothing here: {COMPARED} are compared, in full precision")
    packages.need(needed(settings, precision), f"format {settings['format']}")

    if data and not compares and "data" in arguments:  # integer arithmetic needs the ranges of the activations
        settings["data"] = sets.resolve_data(data, task=model.task)
    trained_on = _trained_on(content, path)
    images = comparison_images(data, trained_on, options.images, model.task) if compares else []
    if finish:
        known = data or (data_before({"data": trained_on}, model.task) if trained_on else None)
        finish.prepare(model, content, settings, known)
    places.write_folder(path.parent)

    with (
        alone_in(worked_in(path.parent)),
        whole.naming_the_disk(path.parent),
        whole.temporary_folder(path.parent, "exporting") as folder,  # on the same disk: moved in one step
    ):
        report.say(f"Exporting {places.shown(path)} as {settings['format']} for images of {settings['imgsz']} px ...")
        with release.quiet_release():  # it would name the temporary folder as the place of the product
            copy = Path(shutil.copy2(path, folder))
            product = export_by_release(copy, settings)
            if compares:
                check_agreement(product, copy, images, settings)
                if data and "data" in said:
                    check_accuracy(product, copy, sets.resolve_data(data, task=model.task), settings)
            else:
                report.say(f"No comparison was run: {COMPARED} are compared, in full precision.")
            if settings["format"] == "onnx":
                annotate(product, {KEY: summary_of(checkpoint.plans_of(model))})
        product = finish(product, path.stem) if finish else product
        for file in keep(folder, copy, product, path.parent):
            report.say(f"Wrote {places.shown(file)}")
        return path.parent / product.name


def _trained_on(content: dict[str, Any], path: Path) -> str | None:
    """Returns where the data set lies now that a checkpoint was trained on, None if it does not say."""
    trained = content.get("train_args") or {}
    if not trained.get("data"):
        return None
    return relocated(trained["data"], trained.get("save_dir"), path.parent.parent)


def worked_in(folder: Path) -> Path:
    """Returns the folder that others must keep out of: that of the run, for a checkpoint in a run."""
    return folder.parent if folder.name == "weights" and (folder.parent / "args.yaml").is_file() else folder


def needed(settings: dict[str, Any], precision: Any) -> list[str]:
    """Returns the modules that an export needs, besides what this repository always needs."""
    modules = list(packages.FORMATS.get(settings["format"], ()))
    if settings["format"] != "onnx" and settings.get("simplify") is False:
        modules = [module for module in modules if module not in {"onnxslim", "onnxruntime"}]
    return modules + list(packages.INTEGERS.get(settings["format"], ()) if precision == 8 else ())


def check_export_settings(settings: dict[str, Any]) -> list[str]:
    """Returns the settings that the release takes for the format; puts the name of the format in lower case.

    Raises:
        PruningError: If the format is unknown, or the images are too small for any network.
    """
    from ultralytics.engine.exporter import export_formats

    formats = export_formats()
    known = dict(zip(formats["Argument"][1:], formats["Arguments"][1:], strict=True))
    name = settings["format"] = str(settings["format"]).lower()
    if name not in known:
        raise PruningError(f"unknown format {quoted(name)}; {hint(name, known)}")
    if idle := [key for key in settings if key not in {*known[name], *EXPORTS_ANY, *NMS_SETTINGS}]:
        raise PruningError(f"{idle[0]}= does nothing for format {name}: leave it out")
    sides = settings["imgsz"] if isinstance(settings["imgsz"], (list, tuple)) else [settings["imgsz"]]
    if not all(isinstance(side, int) and side >= 32 for side in sides):
        raise PruningError(f"imgsz {settings['imgsz']}: a side must be a whole number of at least 32 pixels")
    return known[name]


def comparison_images(data: str | None, trained_on: str | None, count: int, task: str | None = None) -> list[Path]:
    """Returns the images to compare on, evenly spaced in the val split.

    Args:
        data: The data set that the user named.
        trained_on: That of the checkpoint; without either, or if this one is not here, the release's own pictures.
        count: How many images, at most.
        task: What the network does, as the release names it.

    Raises:
        PruningError: If the user's data set cannot be used or has no images, or the count is below 1.
    """
    from ultralytics.utils import ASSETS

    if count < 1:
        raise PruningError(f"--images {count}: at least 1 is needed to compare")
    images = sorted(ASSETS.glob("*.jpg"))
    if data:
        found = sets.resolve_data(data, task=task)
        sets.check_usable(found, ("val",), task or "detect")
        images = val_images(found, task)
    elif trained_on and "://" not in trained_on and (task != "classify" or Path(trained_on).is_dir()):
        try:
            images = val_images(sets.resolve_data(trained_on, check_images=False, task=task), task)
        except PruningError as error:
            report.say(f"Comparing on the release's own pictures; the data of the training is not here ({error})")
    return [images[i] for i in np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)]


def val_images(data: str, task: str | None = None) -> list[Path]:
    """Returns the images of the val split of a data set that is on this machine, sorted.

    Raises:
        PruningError: If there are none.
    """
    from ultralytics.data.utils import check_cls_dataset, check_det_dataset

    try:
        found = check_cls_dataset(data) if task == "classify" else check_det_dataset(data, autodownload=False)
        split = found["val"]
    except Exception as error:  # whatever its checks raise
        raise PruningError(f"{data}: {first_line(error)}") from error
    folders = [split] if isinstance(split, (str, Path)) else split or []
    images = sorted(image for folder in folders for image in images_in(Path(folder)) if image.is_file())
    if not images:
        raise PruningError(f"{data}: its val split holds no images")
    return images


def export_by_release(weights: Path, settings: dict[str, Any]) -> Path:
    """Exports by the release, beside the weights, and returns the product: a file or a folder.

    An ONNX file gets its box branch's softmax along the last axis, which computes the same faster.

    Raises:
        PruningError: If it fails.
    """
    from ultralytics.models import YOLO

    name = f"format {settings['format']}"
    try:
        with isolated():
            product = Path(YOLO(weights).export(**settings))
    except ModuleNotFoundError as error:
        package = (error.name or str(error)).split(".")[0]
        raise PruningError(f"{name} needs the package '{package}', which is not installed") from error
    except Exception as error:  # each format raises what its converter raises
        if whole.full_disk(error):
            raise
        raise PruningError(f"{name}: {first_line(error).removeprefix('ERROR ❌️ ')}") from error
    if product.suffix == ".onnx":
        bins_last(product)
    return product


def keep(folder: Path, copy: Path, product: Path, target: Path) -> list[Path]:
    """Moves the product, and what belongs to it, from the temporary folder to its place.

    Args:
        folder: The temporary folder.
        copy: The checkpoint in it, which is not moved.
        product: What the release named as the product.
        target: Where it belongs; a file or folder of its name there is replaced.

    Returns:
        What was moved, at its new place.

    Raises:
        PruningError: If something that no export made has a name of the product; nothing is moved then.
    """
    # An ONNX file on the way to another format is not kept.
    moved = [made for made in sorted(folder.iterdir()) if made != copy and (made.suffix != ".onnx" or made == product)]
    for made in moved:
        check_replaceable(made, target / made.name)
    kept = []
    for made in moved:
        place = target / made.name
        if place.is_dir():  # cannot be replaced in one step
            os.replace(place, folder / f"{made.name}.old")
        os.replace(made, place)
        kept.append(place)
    return kept


def check_replaceable(made: Path, place: Path) -> None:
    """Refuses to replace what was not made by an export.

    Raises:
        PruningError: If a file would replace a folder or the other way round, or an ONNX file there was not written by
            the release.
    """
    other_kind = place.exists() and place.is_dir() != made.is_dir()
    if other_kind or (place.suffix == ".onnx" and place.is_file() and not is_export(place)):
        raise PruningError(f"'{places.shown(place)}' was not made by an export, and is not overwritten: move it away")
