"""What a network finds in images, as rows of label files: its own confident detections in the place of a person's.

Each image is shown as the release's validation shows it, so that a validation of the same network on these labels finds
its own detections again. (A prediction pads an image less, and a network sees other things at the border then.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..release import quiet_release
from .isolation import isolated
from .memory import Shrinking, free_gpu_memory

GREY = 114  # of what the release pads images with
LEAST_SIDE = 1e-5  # of a box, as a share of the image: what rounds to nothing is no box
VISIBLE = 0.5  # visibility above which a keypoint counts as one


@dataclass(frozen=True)
class Canvas:
    """An image as the network is shown it.

    Attributes:
        pixels: The image in its frame, uint8 of shape (H, W, C).
        offset: Where the image begins in it, x and y in pixels.
        size: Width and height of the image in it, in pixels.
    """

    pixels: np.ndarray
    offset: tuple[int, int]
    size: tuple[int, int]

    def shares(self, points: np.ndarray) -> np.ndarray:
        """Returns points (..., 2), in pixels of the canvas, as shares of the image's width and height."""
        return (points.astype(float) - self.offset) / self.size


def canvas(image: np.ndarray, imgsz: int, stride: int, *, stretched: bool = False) -> Canvas:
    """Returns an image as a validation shows it to a network.

    Args:
        image: The image, uint8 of shape (H, W, C).
        imgsz: What its longer side becomes, in pixels.
        stride: Of the network, in pixels; the frame's sides are multiples of it.
        stretched: Whether the shorter side becomes `imgsz` too, without a frame, as for RT-DETR.
    """
    import cv2

    height, width = image.shape[:2]
    if stretched:
        size = imgsz, imgsz
    else:
        sides = (min(int(np.ceil(side * imgsz / max(height, width))), imgsz) for side in (width, height))
        size = next(sides), next(sides)
    resized = image if size == (width, height) else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    resized = resized.reshape(*resized.shape[:2], -1)  # OpenCV drops a single channel
    if stretched:
        return Canvas(resized, (0, 0), size)

    # The rule of the release's `rect`: half a stride more, rounded up.
    outer = [int(np.ceil(side / max(height, width) * imgsz / stride + 0.5)) * stride for side in (width, height)]
    left, top = (round((whole - part) / 2 - 0.1) for whole, part in zip(outer, size, strict=True))
    pixels = np.full((outer[1], outer[0], resized.shape[2]), GREY, dtype=np.uint8)
    pixels[top : top + size[1], left : left + size[0]] = resized
    return Canvas(pixels, (left, top), size)


def labels_by(
    weights: Path,
    pictures: Iterable[Path],
    *,
    confidence: float,
    imgsz: int,
    device: str = "cpu",
    report: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> list[tuple[Path, list[str]]]:
    """Returns what a checkpoint finds in images.

    Args:
        weights: The checkpoint, of a network that finds boxes, masks, keypoints or oriented boxes.
        pictures: The images; those that cannot be decoded are left out.
        confidence: A detection counts above it, in 0..1.
        imgsz: Side of the images in pixels.
        device: As the release names it, e.g. `cpu` or `0`.
        report: Wraps the images, to show how far it is.

    Returns:
        The images, each with the rows of its label file.

    Raises:
        PruningError: If an image does not fit into memory.
    """
    try:
        with isolated(), quiet_release():
            finder = Finder(weights, confidence, imgsz, device)
            one_by_one = Shrinking("the detections", [1])
            found = [(picture, one_by_one(lambda _: finder(picture))) for picture in report(pictures)]  # noqa: B023
    finally:
        free_gpu_memory()
    return [(picture, rows) for picture, rows in found if rows is not None]


class Finder:
    """A checkpoint that finds things in images.

    Args:
        weights: As in `labels_by`.
        confidence: As in `labels_by`.
        imgsz: As in `labels_by`.
        device: As in `labels_by`.
    """

    def __init__(self, weights: Path, confidence: float, imgsz: int, device: str) -> None:
        from ultralytics.models import YOLO

        self._model: Any = YOLO(weights)
        network: Any = self._model.model
        self._asked = {"conf": confidence, "device": device, "verbose": False, "save": False}
        self._side, self._stride = imgsz, max(int(torch.as_tensor(network.stride).max()), 32)
        self._stretched = "RTDETR" in type(network).__name__
        self._decoding = _decoding(network.yaml.get("channels") or 3)

    def __call__(self, picture: Path) -> list[str] | None:
        """Returns what is found in an image, as rows of a label file; None if it cannot be decoded."""
        from ultralytics.utils.patches import imread

        image = imread(str(picture), flags=self._decoding)
        if image is None:
            return None
        shown = canvas(image, self._side, self._stride, stretched=self._stretched)
        (found,) = self._model.predict(shown.pixels, imgsz=list(shown.pixels.shape[:2]), **self._asked)
        return rows_of(found.cpu().numpy(), shown, self._model.task)


def _decoding(channels: int) -> int:
    """Returns OpenCV's flag by which the release's data sets read images with a number of channels."""
    import cv2

    return {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)


def rows_of(found: Any, shown: Canvas, task: str) -> list[str]:
    """Returns detections as rows of a label file: a class, then coordinates within the image, as shares of its sides.

    Args:
        found: The release's results for a canvas, as NumPy arrays.
        shown: The canvas.
        task: What the network does, as the release names it.
    """
    if not len(found):
        return []
    if task == "obb":
        polygons = [clipped(shown.shares(corners)) for corners in found.obb.xyxyxyxy]
        return _outlined(found.obb.cls, polygons)

    corners = shown.shares(found.boxes.xyxy.reshape(-1, 2, 2)).clip(0, 1)  # (N, 2, 2)
    if task == "segment":
        outlines = found.masks.xy if found.masks is not None else [[]] * len(corners)
        polygons = [
            shown.shares(outline).clip(0, 1) if len(outline) > 2 else _rectangle(box)
            for outline, box in zip(outlines, corners, strict=True)
        ]
        return _outlined(found.boxes.cls, polygons)

    boxes = np.concatenate([corners.mean(1), corners[:, 1] - corners[:, 0]], axis=1)
    if task == "pose":
        points = [keypoints(shown, points).ravel() for points in found.keypoints.data]
        boxes = np.concatenate([boxes, points], axis=1)
    return [_row(kind, box) for kind, box in zip(found.boxes.cls, boxes, strict=True) if min(box[2:4]) > LEAST_SIDE]


def keypoints(shown: Canvas, points: np.ndarray) -> np.ndarray:
    """Returns the keypoints of an object as labels.

    Args:
        shown: The canvas that they were found on.
        points: Shape (K, 2), or (K, 3) with how visible each is, in 0..1.

    Returns:
        Of the same shape, as shares of the image's sides. With a third column, a point that is visible, and in the
        image, has a 2 there, all others are zero. If none is visible, all in the image count: an object without any
        keypoint could not be found again.
    """
    places = shown.shares(points[:, :2])
    if points.shape[1] == 2:
        return places.clip(0, 1)
    inside = np.all((places >= 0) & (places <= 1), axis=1)
    visible = inside & (points[:, 2] > VISIBLE)
    counts = visible if visible.any() else inside
    return np.where(counts.reshape(-1, 1), np.concatenate([places, np.full_like(places[:, :1], 2)], axis=1), 0)


def clipped(polygon: np.ndarray) -> np.ndarray:
    """Returns the part of a convex polygon (N, 2) that lies in the unit square, by Sutherland and Hodgman; (M, 2)."""
    for axis, sign, bound in ((0, 1, 0), (0, -1, -1), (1, 1, 0), (1, -1, -1)):
        inside = polygon[:, axis] * sign - bound  # what lies at 0 or above stays
        kept = []
        for i in range(len(polygon)):
            if (inside[i - 1] < 0) != (inside[i] < 0):
                part = inside[i - 1] / (inside[i - 1] - inside[i])
                kept.append(polygon[i - 1] + part * (polygon[i] - polygon[i - 1]))
            if inside[i] >= 0:
                kept.append(polygon[i])
        polygon = np.array(kept).reshape(-1, 2)
    return polygon


def _rectangle(box: np.ndarray) -> np.ndarray:
    """Returns the corners (4, 2) of a box, from two that are opposite (2, 2)."""
    (left, top), (right, bottom) = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _outlined(kinds: Sequence[float], polygons: Sequence[np.ndarray]) -> list[str]:
    """Returns polygons as rows; those of no extent are left out."""
    extents = (np.ptp(polygon, axis=0).min() if len(polygon) > 2 else 0 for polygon in polygons)
    return [
        _row(kind, polygon)
        for kind, polygon, extent in zip(kinds, polygons, extents, strict=True)
        if extent > LEAST_SIDE
    ]


def _row(kind: float, values: np.ndarray) -> str:
    """Returns a class and its coordinates as a row."""
    return " ".join([str(int(kind)), *(f"{value:.6g}" for value in np.ravel(values).round(6))])
