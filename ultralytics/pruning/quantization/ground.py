"""By what exported networks are judged: accuracy on a val split, and milliseconds in turns; training images besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..accuracy import accuracy
from ..checkpoints import checkpoint
from ..command_line.devices import cores
from ..data.some_classes import data_for
from ..errors import PruningError
from ..latency.timing import Runtime, in_turns
from ..passes.reading import Images, frozen_copy, reader_of
from ..passes.validating import validate
from ..release import quiet_release

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
            PruningError: If there is no data set, or it is not of this network.
        """
        if not data:
            raise PruningError(f"{option} needs images, for ranges and for accuracy: name the data set with --data")
        single = checkpoint.counts_as_one({}, content)
        found = data_for(model, data, classes=None if single else len(model.names), splits=("train", "val"))
        return cls(model, found, imgsz, threads or cores(), single)

    def images(self) -> list[np.ndarray]:
        """Returns training images, each float32 of shape (1, C, H, W) in 0..1; accuracy is measured on others."""
        asked = Images(self.data, CALIBRATION + COMPARED, 1, self.imgsz, "cpu")
        reader = reader_of(frozen_copy(self.model), asked)
        return [reader.batch(samples)["img"].float().numpy() for samples in reader]

    def accuracy(self, file: Path) -> float:
        """Returns the accuracy of an exported file on the val split, in 0..1."""
        run = {"project": str(file.parent), "name": "val", "exist_ok": True, "plots": False, "verbose": False}
        asked = {"data": self.data, "imgsz": self.imgsz, "batch": 1, "device": "cpu", "workers": 0, "rect": False}
        with quiet_release():
            metrics, task, _ = validate(file, {**asked, **run, "single_cls": self.single_cls})
        return accuracy(metrics.results_dict, task) or 0.0

    def ms(self, files: Sequence[Path]) -> list[float]:
        """Times files in turns; returns the milliseconds of each."""
        runtime = Runtime("onnxruntime", self.threads)
        runs = {number: runtime.network(self.model, self.imgsz, file) for number, file in enumerate(files)}
        with runtime.threading():
            found = in_turns(runs)
        return [found[number] for number in range(len(files))]
