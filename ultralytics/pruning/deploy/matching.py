"""What two runtimes found on an image, matched: which detections are the same, and how far they differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .outputs import RAW_TOLERANCE, raw_difference

BOX_TOLERANCE = 0.5  # pixels of the image
SCORE_TOLERANCE = 0.01
SAME_OBJECT = 0.5  # IoU from which on two boxes can be the same detection
POINT_TOLERANCE = 0.5  # pixels of the image, of a keypoint
MASK_TOLERANCE = 0.02  # share of two masks together that only one of them has
ANGLE_TOLERANCE = 0.01  # radians
PART_TOLERANCES = {"point": POINT_TOLERANCE, "mask": MASK_TOLERANCE, "angle": ANGLE_TOLERANCE}


@dataclass(frozen=True)
class Found:
    """What a runtime found on an image.

    Attributes:
        boxes: Detections as (x0, y0, x1, y1, score, class), boxes in pixels, of shape (N, 6).
        points: Keypoints in pixels, of shape (N, K, 2).
        masks: Which pixels each has, bool of shape (N, H, W).
        angles: In radians, of shape (N,).
    """

    boxes: np.ndarray
    points: np.ndarray | None = None
    masks: np.ndarray | None = None
    angles: np.ndarray | None = None


@dataclass(frozen=True)
class Agreement:
    """How well two runtimes agree, on one image or, added up, on several.

    Attributes:
        images: Number of images.
        pairs: Detections that both have.
        box: Largest difference of a coordinate in a pair, in pixels of the image.
        score: Largest difference of the scores in a pair.
        alone: Detections that only one has.
        marginal: Detections that only one has, for a reason that does not count against it (see `compare`).
        point: Largest difference of a keypoint's coordinate in a pair, in pixels of the image.
        mask: Largest share of the two masks of a pair that only one of them has.
        angle: Largest difference of the angles in a pair, in radians.
    """

    images: int = 0
    pairs: int = 0
    box: float = 0.0
    score: float = 0.0
    alone: int = 0
    marginal: int = 0
    point: float = 0.0
    mask: float = 0.0
    angle: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            images=self.images + other.images,
            pairs=self.pairs + other.pairs,
            box=max(self.box, other.box),
            score=max(self.score, other.score),
            point=max(self.point, other.point),
            mask=max(self.mask, other.mask),
            angle=max(self.angle, other.angle),
            alone=self.alone + other.alone,
            marginal=self.marginal + other.marginal,
        )

    @property
    def holds(self) -> bool:
        """Whether the differences are rounding."""
        same = self.box <= BOX_TOLERANCE and self.score <= SCORE_TOLERANCE and not self.alone
        return same and self.point <= POINT_TOLERANCE and self.mask <= MASK_TOLERANCE and self.angle <= ANGLE_TOLERANCE


def differences(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compares each detection of one side with each of the other.

    Args:
        ours: Detections as (x0, y0, x1, y1, score, class), boxes in pixels, of shape (N, 6).
        theirs: The other side's, of shape (M, 6).

    Returns:
        The largest difference of a coordinate in pixels, the difference of the scores, and whether both can be the
        same detection (of one class, and overlapping), each of shape (N, M).
    """
    a, b = ours[:, None], theirs[None]
    box, score = np.abs(a[..., :4] - b[..., :4]).max(-1), np.abs(a[..., 4] - b[..., 4])
    shared = (np.minimum(a[..., 2:4], b[..., 2:4]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(-1)
    areas = (a[..., 2:4] - a[..., :2]).prod(-1) + (b[..., 2:4] - b[..., :2]).prod(-1)
    overlap = (shared >= SAME_OBJECT * (areas - shared)) | (box <= BOX_TOLERANCE)  # a thin box overlaps nothing
    return box, score, overlap & (a[..., 5] == b[..., 5])


def match(found: Found, other: Found) -> np.ndarray:
    """Pairs the detections of two sides, the most similar first; each is used once.

    Boxes may be the same where keypoints, masks or angles are not: two that reach beyond the image end at its border.

    Args:
        found: What one side found.
        other: What the other one found.

    Returns:
        Indices into both, of shape (K, 2).
    """
    box, score, same = differences(found.boxes, other.boxes)
    distance = np.maximum(box / BOX_TOLERANCE, score / SCORE_TOLERANCE)
    near = np.argwhere(same & (distance <= 1))
    for name, gaps in part_gaps(found, other, near).items():
        distance[tuple(near.T)] = np.maximum(distance[tuple(near.T)], gaps / PART_TOLERANCES[name])
    free = np.ones(len(found.boxes), bool), np.ones(len(other.boxes), bool)
    pairs = []
    for i, j in np.argwhere(same)[np.argsort(distance[same], kind="stable")]:
        if free[0][i] and free[1][j]:
            free[0][i] = free[1][j] = False
            pairs.append((i, j))
    return np.array(pairs, dtype=int).reshape(-1, 2)


def part_gaps(found: Found, other: Found, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """Returns how far the keypoints, masks and angles of pairs differ, by their name in `Agreement`, of shape (K,).

    Args:
        found: What one side found.
        other: What the other one found.
        pairs: Indices into both, of shape (K, 2).
    """
    ours, theirs = pairs.T
    gaps = {}
    if found.points is not None and other.points is not None:
        gaps["point"] = np.abs(found.points[ours] - other.points[theirs]).max((1, 2), initial=0)
    if found.masks is not None and other.masks is not None:
        gaps["mask"] = np.array([_mask_gap(found.masks[i], other.masks[j]) for i, j in pairs])
    if found.angles is not None and other.angles is not None:
        gap = np.abs(found.angles[ours] - other.angles[theirs]) % np.pi  # turned by half, a box is the same
        gaps["angle"] = np.minimum(gap, np.pi - gap)
    return gaps


def _mask_gap(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the share of two masks together that only one of them has."""
    return (ours ^ theirs).sum() / max((ours | theirs).sum(), 1)


def compare(
    found: Found, other: Found, confidence: float, computes_the_same: Callable[[], bool] = lambda: False
) -> Agreement:
    """Compares what two runtimes found on one image.

    Rounding can add or remove a detection in two ways that are not disagreements. A score may fall on either side of
    the confidence threshold, so a detection without a partner may lie that close to it. And ties may be broken
    differently: which of two boxes survives NMS, which of two classes is the best, which detections are the first 300.
    The detections left do not show a tie, so one is assumed only if the outputs of the networks, before all that, agree
    on the image in all that detections are made of.

    Args:
        found: What one side found.
        other: What the other one found.
        confidence: The threshold of both.
        computes_the_same: Whether the networks' outputs for the image agree; asked only if the detections do not.
    """
    ours, theirs = found.boxes, other.boxes
    pairs = match(found, other)
    box, score, _ = (values[tuple(pairs.T)] for values in differences(ours, theirs))
    gaps = {"box": box, "score": score, **part_gaps(found, other, pairs)}
    allowed = {"box": BOX_TOLERANCE, "score": SCORE_TOLERANCE, **PART_TOLERANCES}
    equal = np.all([gap <= allowed[name] for name, gap in gaps.items()], axis=0)
    scores = np.concatenate([np.delete(ours, pairs[:, 0], 0), np.delete(theirs, pairs[:, 1], 0)])[:, 4]
    alone = int((scores > confidence + SCORE_TOLERANCE).sum())
    marginal = len(scores) - alone
    if (alone or not equal.all()) and computes_the_same():
        marginal += alone + 2 * int((~equal).sum())
        gaps, alone = {name: gap[equal] for name, gap in gaps.items()}, 0
    largest = {name: float(gap.max(initial=0)) for name, gap in gaps.items()}
    return Agreement(1, len(gaps["box"]), **largest, alone=alone, marginal=marginal)


def same_outputs(ours: np.ndarray, theirs: np.ndarray, classes: int, gain: float) -> bool:
    """Whether two networks' outputs agree before NMS, in every box, every score and what follows them.

    Args:
        ours: (x, y, width, height) in pixels of the network's image, then scores, of shape (1, 4 + C + ..., A).
        theirs: The other side's.
        classes: C.
        gain: Pixels of the network's image per pixel of the image.
    """
    if ours.shape != theirs.shape or not 4 + classes <= ours.shape[1] < ours.shape[2]:  # NMS is inside, or not needed
        return False
    gap = np.abs(ours - theirs).max((0, 2))
    # Half, since a corner adds up an error of the centre and one of the size.
    detections = (gap[:4] <= BOX_TOLERANCE / 2 * gain).all() and (gap[4 : 4 + classes] <= SCORE_TOLERANCE).all()
    parts = raw_difference(ours[:, 4 + classes :], theirs[:, 4 + classes :])  # coefficients, keypoints, angles
    return bool(detections and parts <= RAW_TOLERANCE)
