"""Looks at a few images and labels of a data set before a run starts: the release leaves out what it cannot read.

A single bad file is left to its warnings. If none of the first images is good, the labels are for another task, or for
other classes, and the run would fail hours later, or teach nothing.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import PruningError, first_line
from ..inputs.documents import brief, read_text

LOOKED_AT = 32  # first images of a split
SMALLEST = 10  # pixels of a side, below which the release leaves an image out
NEED_PLUGINS = {".heic", ".heif", ".avif", ".dng"}  # which the release may install
LABELLED_BY_TEXT = ("detect", "pose", "segment", "obb")  # tasks with a text file of labels for each image


def check_samples(images: Iterable[Path], what: str, task: str, classes: int, keypoints: Any = None) -> None:
    """Checks that one of the first images of a split can be used.

    Args:
        images: Of the split; only the first are read.
        what: How the error names the split.
        task: What the network does, as the release names it.
        classes: How many classes the data set has.
        keypoints: `kpt_shape` of the data set.

    Raises:
        PruningError: If none can be used; it says why not.
    """
    reasons = []
    for image in itertools.islice(images, LOOKED_AT):
        try:
            check_image(image)
            if task in LABELLED_BY_TEXT:
                _check_labels(labels_of(image), task, classes, keypoints)
            return
        except ValueError as error:
            reasons.append(f"{image.name}: {error}")
    if reasons:
        raise PruningError(f"{what}: none of the first {len(reasons)} images can be used, e.g. {reasons[0]}")


def check_image(path: Path) -> None:
    """Raises a ValueError if a file is not an image that can be used; formats that need a plug-in pass unread."""
    from PIL import Image

    if path.suffix.lower() in NEED_PLUGINS:
        return

    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            size = image.size
            image.verify()
    except Exception as error:  # whatever its decoders raise
        said = " ".join(first_line(error).split())[:100]
        raise ValueError(f"not an image ({type(error).__name__}: {said})") from error
    if min(size) < SMALLEST:
        raise ValueError(f"an image of only {size[0]} x {size[1]} pixels")


def labels_of(image: Path) -> Path:
    """Returns where the labels of an image lie: its path with the last `images` replaced by `labels`."""
    from ultralytics.data.utils import img2label_paths

    return Path(img2label_paths([str(image)])[0])


def _check_labels(path: Path, task: str, classes: int, keypoints: Any) -> None:
    """Raises a ValueError if a file of labels has a wrong row; an image without the file has no objects."""
    if not path.is_file():
        return
    columns = 5 + keypoints[0] * keypoints[1] if keypoints else 0
    for number, line in enumerate(read_text(path, f"'{path.name}'").splitlines(), 1):
        if line.split():
            _check_row(line, f"line {number} of its labels", task, classes, columns)


def _check_row(line: str, where: str, task: str, classes: int, columns_with_keypoints: int) -> None:
    """Raises a ValueError if a row of labels is not a class and a box, a polygon or keypoints within the image."""
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{where} is {brief(line)}, not numbers") from None
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{where} holds numbers that are not finite")
    if not _fits(len(values), task, columns_with_keypoints):
        raise ValueError(f"{where} has {len(values)} columns, which does not fit {task}")

    if values[0] % 1 or not 0 <= values[0] < classes:
        raise ValueError(f"{where} is of class {words[0]}, there are classes 0 to {classes - 1}")
    end = 5 if task == "pose" else len(values)
    if min(values[1:end]) < -0.01 or max(values[1:end]) > 1.01:
        raise ValueError(f"{where} holds coordinates outside the image: they are fractions of its sides, 0 to 1")


def _fits(columns: int, task: str, with_keypoints: int) -> bool:
    """Whether a row of labels has as many columns as a task takes: a box or a polygon, or a box with keypoints."""
    if task == "pose":
        return columns == with_keypoints
    return columns == 5 or (columns >= 7 and columns % 2 == 1) or (task == "detect" and columns == with_keypoints)
