"""Whether an exported ONNX finds what its checkpoint finds: ONNX Runtime and PyTorch, compared on real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import report
from ..errors import PruningError
from ..passes.isolation import isolated
from ..report import table
from .outputs import RAW_TOLERANCE, chosen_difference, random_images, raw_difference, share_that_differs

BOX_TOLERANCE = 0.5  # pixels of the image
SCORE_TOLERANCE = 0.01
SAME_OBJECT = 0.5  # IoU from which on two boxes can be the same detection
CONFIDENCES = (0.25, 0.05, 0.001)  # the next one where the one before finds nothing
TASKS_WITH_BOXES = {"detect", "segment", "pose"}


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
    """

    images: int = 0
    pairs: int = 0
    box: float = 0.0
    score: float = 0.0
    alone: int = 0
    marginal: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            images=self.images + other.images,
            pairs=self.pairs + other.pairs,
            box=max(self.box, other.box),
            score=max(self.score, other.score),
            alone=self.alone + other.alone,
            marginal=self.marginal + other.marginal,
        )

    @property
    def holds(self) -> bool:
        """Whether the differences are rounding."""
        return self.box <= BOX_TOLERANCE and self.score <= SCORE_TOLERANCE and not self.alone


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


def match(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Pairs the detections of two sides, the most similar first; each is used once.

    Args:
        ours: Detections (see `differences`) of shape (N, 6).
        theirs: The other side's, of shape (M, 6).

    Returns:
        Indices into both, of shape (K, 2).
    """
    box, score, same = differences(ours, theirs)
    distance = np.maximum(box / BOX_TOLERANCE, score / SCORE_TOLERANCE)
    free = np.ones(len(ours), bool), np.ones(len(theirs), bool)
    pairs = []
    for i, j in np.argwhere(same)[np.argsort(distance[same], kind="stable")]:
        if free[0][i] and free[1][j]:
            free[0][i] = free[1][j] = False
            pairs.append((i, j))
    return np.array(pairs, dtype=int).reshape(-1, 2)


def compare(
    ours: np.ndarray, theirs: np.ndarray, confidence: float, computes_the_same: Callable[[], bool] = lambda: False
) -> Agreement:
    """Compares what two runtimes found on one image.

    Rounding can add or remove a detection in two ways that are not disagreements. A score may fall on either side of
    the confidence threshold, so a detection without a partner may lie that close to it. And ties may be broken
    differently: which of two boxes survives NMS, which of two classes is the best, which detections are the first 300.
    The detections left do not show a tie, so one is assumed only if the outputs of the networks, before all that, agree
    on the image in every box and every score.

    Args:
        ours: Detections (see `differences`) of shape (N, 6).
        theirs: The other side's, of shape (M, 6).
        confidence: The threshold of both.
        computes_the_same: Whether the networks' outputs for the image agree; asked only if the detections do not.
    """
    pairs = match(ours, theirs)
    box, score, _ = (values[tuple(pairs.T)] for values in differences(ours, theirs))
    equal = (box <= BOX_TOLERANCE) & (score <= SCORE_TOLERANCE)
    scores = np.concatenate([np.delete(ours, pairs[:, 0], 0), np.delete(theirs, pairs[:, 1], 0)])[:, 4]
    alone = int((scores > confidence + SCORE_TOLERANCE).sum())
    marginal = len(scores) - alone
    if (alone or not equal.all()) and computes_the_same():
        marginal += alone + 2 * int((~equal).sum())
        box, score, alone = box[equal], score[equal], 0
    return Agreement(1, len(box), float(box.max(initial=0)), float(score.max(initial=0)), alone, marginal)


def same_outputs(ours: np.ndarray, theirs: np.ndarray, classes: int, gain: float) -> bool:
    """Whether two networks' outputs agree before NMS, in every box and every score.

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
    return bool((gap[:4] <= BOX_TOLERANCE / 2 * gain).all() and (gap[4 : 4 + classes] <= SCORE_TOLERANCE).all())


@isolated()
def check_agreement(onnx: Path, weights: Path, images: Sequence[Path], settings: dict[str, Any]) -> None:
    """Compares ONNX Runtime with PyTorch in float32, both on the CPU and on the same square images.

    Args:
        onnx: The exported file.
        weights: The checkpoint.
        images: Image files.
        settings: The settings of the export.

    Raises:
        PruningError: If the two do not agree.
    """
    models, run = opened(onnx, weights, settings)
    confidences: tuple[float, ...] = CONFIDENCES
    if settings.get("nms"):  # then NMS is part of the file, with its threshold
        confidences = (settings.get("conf") or CONFIDENCES[0],)
    for confidence in confidences if models[1].task in TASKS_WITH_BOXES else ():
        found = sum((compare_on(models, image, {**run, "conf": confidence}) for image in images), Agreement())
        if found.pairs or found.alone:
            report.say(agreement_table(found, confidence))
            if not found.holds:
                raise PruningError(f"the ONNX file finds something other than '{weights.name}'; it was not kept")
            return
    if settings.get("nms"):
        raise PruningError(f"no detection to compare, from {confidences[0]} on; use other --data or a smaller conf=")
    check_raw(models, weights.name, images, run)


def opened(onnx: Path, weights: Path, settings: dict[str, Any]) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """Returns two models of the release, the exported one first, and the settings with which both run alike."""
    from ultralytics.models import YOLO
    from ultralytics.nn.modules import Depth, SemanticSegment

    models = YOLO(onnx), YOLO(weights)
    network: Any = models[1].model
    heads: list[Any] = [module for module in network.modules() if isinstance(module, (Depth, SemanticSegment))]
    for head in heads:
        head.export, head.format = True, "onnx"  # maps as in the file: of the image's size, of classes
    run: dict[str, Any] = {"device": "cpu", "rect": False, "verbose": False}
    run |= {key: settings[key] for key in ("imgsz", "iou", "max_det", "agnostic_nms") if key in settings}
    if settings.get("nms") is False:  # the head that needs no NMS, where the network has one
        run["nms"] = False
    return models, run


def check_raw(models: Sequence[Any], name: str, images: Sequence[Path | np.ndarray], run: dict[str, Any]) -> None:
    """Compares what two models return before any detection is chosen.

    Args:
        models: The exported model and that of the checkpoint.
        name: Name of the checkpoint.
        images: Image files, or images of shape (H, W, 3).
        run: The settings of both.

    Raises:
        PruningError: If the two do not agree.
    """
    compared, what = raw_difference, "without detections to compare): largest relative difference"
    if models[1].task == "semantic":
        compared, what = share_that_differs, "maps of classes): largest share of pixels that differ"
    elif type(models[1].model.model[-1]).__name__ == "RTDETRDecoder" or run.get("nms") is False:
        compared, what = chosen_difference, "the best places): largest relative difference"
    difference = max(compared(*outputs_on(models, image, run)[0]) for image in images)
    report.say(
        f"\nRaw outputs of ONNX Runtime and PyTorch on {len(images)} images ({what} {difference:.1e}, up to "
        f"{RAW_TOLERANCE:g} is allowed.\n"
    )
    if not difference <= RAW_TOLERANCE:
        raise PruningError(f"the ONNX file computes something other than '{name}'; it was not kept")


def check_written(onnx: Path, weights: Path, images: Sequence[Path], settings: dict[str, Any]) -> None:
    """Compares an ONNX file with its checkpoint, on images if there are any, and always on random numbers.

    An untrained network finds nothing on any image, and a trained one nothing that depends on all of its channels.

    Args:
        onnx: The exported file.
        weights: The checkpoint.
        images: Image files, if there are any.
        settings: The settings of the export.

    Raises:
        PruningError: If the two do not agree.
    """
    if images:
        check_agreement(onnx, weights, images, settings)
    models, run = opened(onnx, weights, settings)
    check_raw(models, weights.name, random_images(settings["imgsz"]), run)


def compare_on(models: Sequence[Any], image: Path, run: dict[str, Any]) -> Agreement:
    """Compares two models of the release on one image."""

    def computes_the_same() -> bool:
        (ours, theirs), gain = outputs_on(models, image, run)
        return same_outputs(ours, theirs, classes=len(models[1].names), gain=gain)

    ours, theirs = (predict(model, image, run).boxes.data.double().numpy() for model in models)
    return compare(ours, theirs, run["conf"], computes_the_same)


def predict(model: Any, image: Path | np.ndarray, run: dict[str, Any]) -> Any:
    """Returns the release's result for one image.

    Raises:
        PruningError: If the image cannot be read.
    """
    results = model.predict(image if isinstance(image, np.ndarray) else str(image), **run)
    if not results:
        raise PruningError(f"'{image}' cannot be read as an image; compare on other data with --data")
    return results[0]


def outputs_on(models: Sequence[Any], image: Path | np.ndarray, run: dict[str, Any]) -> tuple[list[np.ndarray], float]:
    """Returns the first output of both networks for one image, and the gain of the image's preparation."""
    outputs, gain = [], 1.0
    for model in models:
        pixels = predict(model, image, run).orig_img
        batch = model.predictor.preprocess([pixels])
        gain = min(batch.shape[-2] / pixels.shape[0], batch.shape[-1] / pixels.shape[1])
        output = model.predictor.model(batch)
        while isinstance(output, (list, tuple)):
            output = output[0]
        outputs.append(output.double().numpy())
    return outputs, gain


def agreement_table(found: Agreement, confidence: float) -> str:
    """Returns the comparison as a table."""
    rows = [
        ("detections that both find", found.pairs, ""),
        ("largest difference of a box", f"{found.box:.2g} px", f"{BOX_TOLERANCE} px"),
        ("largest difference of a score", f"{found.score:.2g}", SCORE_TOLERANCE),
        ("found by one only", found.alone, 0),
        ("found by one only, at the threshold or by a tie", found.marginal, "any"),
    ]
    title = f"\nONNX Runtime and PyTorch on {found.images} images, from confidence {confidence:g} on:\n\n"
    return title + table(("", "measured", "allowed"), rows) + "\n"
