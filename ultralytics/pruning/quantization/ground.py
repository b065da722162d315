"""By what exported networks are judged: accuracy on a val split, and milliseconds in turns; training images besides."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints import checkpoint
from ..command_line.devices import cores
from ..data.samples import LABELLED_BY_TEXT, labels_of
from ..data.some_classes import data_for
from ..deploy.exporting import val_images
from ..errors import PruningError
from ..latency.timing import Runtime, in_turns
from ..passes.reading import Images, frozen_copy, reader_of
from ..passes.validating import accuracy_of

CALIBRATION, COMPARED = 64, 16  # training images: for the ranges of activations, and others to compare outputs on


@dataclass(frozen=True)
class Ground:
    """By what an exported network is judged.

    Attributes:
        model: The network, as it was loaded.
        data: The yaml of its data set, or the folder of classified images.
        imgsz: Side of the images in pixels.
        threads: Of the CPU.
        single_cls: Whether all classes count as one.
    """

    model: Any
    data: str
    imgsz: int
    threads: int
    single_cls: bool

    @classmethod
    def of(cls, model: Any, content: dict[str, Any], data: str | None, imgsz: int, threads: int, option: str) -> Ground:
        """Returns by what a network is judged.

        Args:
            model: The network.
            content: Of its checkpoint.
            data: The data set that the user named, or that of the training; None is not known.
            imgsz: Side of the images in pixels.
            threads: Of the CPU; 0: all cores.
            option: What needs it.

        Raises:
            PruningError: If there is no data set, it is not of this network, or nobody labelled it.
        """
        if not data:
            raise PruningError(f"{option} needs images, for ranges and for accuracy: name the data set with --data")
        single = checkpoint.counts_as_one({}, content)
        found = data_for(model, data, classes=None if single else len(model.names), splits=("train", "val"))
        if model.task in LABELLED_BY_TEXT and not any(labels_of(image).is_file() for image in val_images(found)):
            raise PruningError(
                f"{option} measures accuracy, and no val image of {found} has labels; --data FOLDER_OF_ITS_IMAGES "
                f"lets the network label them itself"
            )
        return cls(model, found, imgsz, threads or cores(), single)

    def images(self) -> list[np.ndarray]:
        """Returns training images, each float32 of shape (1, C, H, W) in 0..1; accuracy is measured on others."""
        asked = Images(self.data, CALIBRATION + COMPARED, 1, self.imgsz, "cpu")
        reader = reader_of(frozen_copy(self.model), asked)
        return [reader.batch(samples)["img"].float().numpy() for samples in reader]

    def accuracy(self, file: Path) -> float:
        """Returns the accuracy of an exported file on the val split, in 0..1."""
        asked = {"data": self.data, "imgsz": self.imgsz, "batch": 1, "device": "cpu", "rect": False}
        return accuracy_of(file, {**asked, "single_cls": self.single_cls}, file.parent)[0]

    def ms(self, files: Sequence[Path]) -> list[float]:
        """Times files in turns; returns the milliseconds of each."""
        runtime = Runtime("onnxruntime", self.threads)
        runs = {number: runtime.network(self.model, self.imgsz, file) for number, file in enumerate(files)}
        with runtime.threading():
            found = in_turns(runs)
        return [found[number] for number in range(len(files))]


class Judged:
    """What `export.py` makes of an ONNX by measuring (see `deploy.exporting.Finish`).

    Args:
        options: Of `export.py`.

    Attributes:
        option: Of the command line, which asks for it.
        ground: By what it is judged; there once it is prepared.

    Raises:
        PruningError: If options contradict each other.
    """

    option: str
    ground: Ground

    def __init__(self, options: argparse.Namespace) -> None:
        if isinstance(options.imgsz, (list, tuple)):  # None: that of the training
            raise PruningError(f"{self.option} measures on square images: give --imgsz one side")
        self.options = options

    def prepare(self, model: Any, content: dict[str, Any], settings: dict[str, Any], data: str | None) -> None:
        """Looks for the data set (see `deploy.exporting.Finish`)."""
        threads = self.options.threads or 0
        self.ground = Ground.of(model, content, data, settings["imgsz"], threads, self.option)
