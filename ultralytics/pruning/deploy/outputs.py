"""How far the raw outputs of two networks differ: tensors, maps of classes, rows of chosen detections."""

from __future__ import annotations

import numpy as np

RAW_TOLERANCE = 1e-3  # of the largest value of an output's channel; of the pixels of a map of classes
SMALLEST_SCALE = 3e-4  # what a channel counts as at least: a runtime's sigmoid errs by 1e-7, however small its value
TIES = 0.1  # share of the rows that equal scores may exchange


def raw_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the largest difference of two network outputs, of shape (B, C, ...), relative to its channel's values."""
    if ours.shape != theirs.shape:
        return float("inf")
    others = tuple(axis for axis in range(ours.ndim) if axis != 1)
    gaps = np.abs(ours - theirs).max(others) / np.abs(theirs).max(others).clip(SMALLEST_SCALE)
    return float(gaps.max(initial=0))


def share_that_differs(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the share of the pixels in which two maps of classes, of shape (B, H, W), differ."""
    return float((ours != theirs).mean()) if ours.shape == theirs.shape else float("inf")


def chosen_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns how far two choices of the best detections differ; rows of equal scores may come in any order.

    Args:
        ours: (x0, y0, x1, y1, score, class, ...) of each detection, of shape (B, N, 6 + ...).
        theirs: The other side's.

    Returns:
        The largest relative difference of the sorted scores and of each row to the most similar one; infinite where
        more than a tenth of the rows has no partner within the tolerance.
    """
    if ours.shape != theirs.shape:
        return float("inf")
    scale = np.abs(theirs).max((0, 1)).clip(SMALLEST_SCALE)
    worst = float((np.abs(np.sort(ours[..., 4]) - np.sort(theirs[..., 4])) / scale[4]).max())
    for a, b in ((ours, theirs), (theirs, ours)):
        for one, other in zip(a / scale, b / scale, strict=True):
            nearest = np.abs(one[:, None] - other[None]).max(-1).min(-1)
            if (nearest > RAW_TOLERANCE).mean() > TIES:
                return float("inf")
            worst = max(worst, float(nearest[nearest <= RAW_TOLERANCE].max(initial=0)))
    return worst


def random_images(sides: int | list[int] | tuple[int, ...], count: int = 2) -> list[np.ndarray]:
    """Returns images of random numbers, the first of large patches, as uint8 of shape (H, W, 3)."""
    height, width = (sides, sides) if isinstance(sides, int) else (sides[0], sides[-1])
    generator = np.random.default_rng(0)
    patches = [32 if number == 0 else 1 for number in range(count)]
    return [
        np.kron(
            generator.integers(0, 256, (-(-height // size), -(-width // size), 3), dtype=np.uint8),
            np.ones((size, size, 1), dtype=np.uint8),
        )[:height, :width]
        for size in patches
    ]
