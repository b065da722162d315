"""The same few validation images with what each network finds in them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import sets
from ..data.images import images_in
from ..errors import PruningError, first_line
from ..files.places import exists
from ..passes.isolation import isolated
from ..release import quiet_release
from ..runs.moved import relocated
from .networks import Network

IMAGES = 6
SIDE = 480  # pixels of the longer side of an image in a report
CONFIDENCE = 0.25
MOST = 60  # things that are drawn in an image
DRAWN = {"detect", "segment", "obb", "pose", "classify"}  # tasks whose results are outlines, points or names


@dataclass(frozen=True)
class Thing:
    """Something that a network finds in an image.

    Attributes:
        kind: Number of its class.
        label: Its class.
        confidence: In 0..1.
        outline: Corners (N, 2), as shares of the image's sides; none if it is the image that has a class.
        points: Keypoints (K, 2), as shares of the image's sides.
    """

    kind: int
    label: str
    confidence: float
    outline: tuple[tuple[float, float], ...] = ()
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Shown:
    """An image, and what each network finds in it.

    Attributes:
        name: Of its file.
        width: In pixels.
        height: In pixels.
        jpeg: Its content, in base64.
        found: By the name of the network.
    """

    name: str
    width: int
    height: int
    jpeg: str
    found: dict[str, tuple[Thing, ...]]


def shown_by(networks: Sequence[Network], data: str | None) -> tuple[list[Shown], str]:
    """Returns a few validation images with what networks find in them, and a line about them.

    Args:
        networks: The networks; those without a `.pt` are left out.
        data: The data set, as the user named it; None: that of the training.

    Raises:
        PruningError: If the data set that the user named is none.
    """
    there = [network for network in networks if network.channel_map is not None and network.task in DRAWN]
    if not there:
        return [], "No images: nothing that these networks find can be drawn here."
    named = data
    if data is None:
        noted = list(dict.fromkeys(name for network in there for name in _data_of(network)))
        data = next((place for place in map(relocated, noted) if exists(place)), None)
        if data is None and noted:
            return [], f"No images: the data of the training, {noted[0]}, is not on this machine; --data names it."
        if data is None:
            return [], "No images: these networks do not say which data they were trained on; --data names it."
    try:
        pictures = pictures_of(data, there[0].task)
    except PruningError as error:
        if named is not None:
            raise
        return [], f"No images: the data of the training is not on this machine ({first_line(error)}); --data names it."
    images = [_image(picture) for picture in pictures]
    with isolated(), quiet_release():
        for network in there:
            for image, things in zip(images, _found(network, pictures), strict=True):
                image.found[network.name] = tuple(things)
    return images, f"{len(images)} images of the val split of {data}, evenly spread; confidence above {CONFIDENCE}."


def _data_of(network: Network) -> Iterator[str]:
    """Yields the data set of a network's compression, and that of its training, as they are noted."""
    compression, arguments = network.source.compression, network.content.get("train_args") or {}
    for noted in (compression.recipe.get("data") if compression else None, arguments.get("data")):
        if isinstance(noted, str) and noted:
            yield noted


def pictures_of(data: str, task: str) -> list[Path]:
    """Returns a few images of the val split of a data set that can be read, evenly spread.

    Raises:
        PruningError: If it is no data set, or its images are missing.
    """
    from ultralytics.data.utils import check_cls_dataset, check_det_dataset

    file = sets.resolve_data(data, task=task, check_images=False)
    try:
        with quiet_release():
            found = check_cls_dataset(file) if task == "classify" else check_det_dataset(file, autodownload=False)
    except Exception as error:  # whatever its checks raise
        raise PruningError(f"--data {data}: {first_line(error)}") from error
    images = sorted(image for place in sets.places_of(found.get("val")) for image in images_in(place))
    if not images:
        raise PruningError(f"--data {data}: no val images")
    spread = np.linspace(0, len(images) - 1, min(IMAGES, len(images))).round().astype(int)
    readable = [images[place] for place in dict.fromkeys(spread.tolist()) if _decoded(images[place]) is not None]
    if not readable:
        raise PruningError(f"--data {data}: its val images cannot be read")
    return readable


def _decoded(picture: Path) -> np.ndarray | None:
    """Returns the pixels of an image, uint8 of shape (H, W, 3); None if it cannot be read as one of colours."""
    from ultralytics.utils.patches import imread

    image = imread(str(picture))
    return image if image is not None and image.ndim == 3 and image.shape[2] == 3 else None


def _image(picture: Path) -> Shown:
    """Returns an image, small enough for a report, with nothing found in it yet."""
    import cv2

    image = _decoded(picture)
    assert image is not None  # `pictures_of` has looked
    scale = min(1.0, SIDE / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    return Shown(picture.name, *size, base64.b64encode(jpeg.tobytes()).decode("ascii"), {})


def _found(network: Network, pictures: Sequence[Path]) -> list[list[Thing]]:
    """Returns what a network finds in images."""
    from ultralytics.models import YOLO

    assert network.source.path is not None
    model: Any = YOLO(network.source.path)
    asked = {"conf": CONFIDENCE, "imgsz": network.imgsz, "device": "cpu", "verbose": False, "save": False}
    return [things_of(model.predict(str(picture), **asked)[0].cpu().numpy(), network.task) for picture in pictures]


def things_of(result: Any, task: str) -> list[Thing]:
    """Returns what the release found in an image.

    Args:
        result: Its results, as NumPy arrays.
        task: What the network does, as the release names it.
    """
    if task == "classify":
        return [Thing(kind, str(result.names[kind]), float(result.probs.data[kind])) for kind in result.probs.top5[:1]]
    boxes = result.obb if task == "obb" else result.boxes
    if boxes is None:
        return []
    things = []
    for number in range(min(len(boxes), MOST)):
        if task == "obb":
            outline = boxes.xyxyxyxyn[number]
        elif task == "segment" and result.masks is not None and len(result.masks.xyn[number]) > 2:
            outline = result.masks.xyn[number]
        else:
            left, top, right, bottom = boxes.xyxyn[number]
            outline = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        points = result.keypoints.xyn[number] if task == "pose" and result.keypoints is not None else ()
        kind = int(boxes.cls[number])
        seen = [(float(x), float(y)) for x, y in points if x or y]
        corners = tuple((float(x), float(y)) for x, y in outline)
        things.append(Thing(kind, str(result.names[kind]), float(boxes.conf[number]), corners, tuple(seen)))
    return things
