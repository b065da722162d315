"""Whether an exported network finds what its checkpoint finds: its runtime and PyTorch, compared on real images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import report
from ..errors import PruningError
from ..passes.isolation import isolated
from ..report import table
from .matching import (
    ANGLE_TOLERANCE,
    BOX_TOLERANCE,
    MASK_TOLERANCE,
    POINT_TOLERANCE,
    SCORE_TOLERANCE,
    Agreement,
    Found,
    compare,
    same_outputs,
)
from .outputs import RAW_TOLERANCE, chosen_difference, random_images, raw_difference, share_that_differs

CONFIDENCES = (0.25, 0.05, 0.001)  # the next one where the one before finds nothing
TASKS_WITH_BOXES = {"detect", "segment", "pose", "obb"}
RUNTIMES = {"onnx": "ONNX Runtime", "torchscript": "TorchScript", "openvino": "OpenVINO", "ncnn": "NCNN"}  # by format


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Lets OpenVINO compute in float32, which takes bfloat16 by itself where a processor has it."""
    try:
        import openvino
    except ImportError:
        yield
        return
    compile_model = openvino.Core.compile_model

    def in_full(core: Any, model: Any, device_name: Any = None, config: Any = None, **others: Any) -> Any:
        return compile_model(core, model, device_name, {**(config or {}), "INFERENCE_PRECISION_HINT": "f32"}, **others)

    openvino.Core.compile_model = in_full
    try:
        yield
    finally:
        openvino.Core.compile_model = compile_model


@isolated()
@in_float32()
def check_agreement(product: Path, weights: Path, images: Sequence[Path], settings: dict[str, Any]) -> None:
    """Compares the runtime of a format with PyTorch in float32, both on the CPU and on the same square images.

    Args:
        product: The exported file or folder.
        weights: The checkpoint.
        images: Image files.
        settings: The settings of the export.

    Raises:
        PruningError: If the two do not agree.
    """
    models, run = opened(product, weights, settings)
    runtime = RUNTIMES[settings.get("format", "onnx")]
    confidences: tuple[float, ...] = CONFIDENCES
    if settings.get("nms"):  # then NMS is part of the file, with its threshold
        confidences = (settings.get("conf") or CONFIDENCES[0],)
    for confidence in confidences if models[1].task in TASKS_WITH_BOXES else ():
        found = sum((compare_on(models, image, {**run, "conf": confidence}) for image in images), Agreement())
        if found.pairs or found.alone:
            report.say(agreement_table(found, confidence, runtime))
            if not found.holds:
                raise PruningError(f"{runtime} finds something other than '{weights.name}'; it was not kept")
            return
    if settings.get("nms"):
        raise PruningError(f"no detection to compare, from {confidences[0]} on; use other --data or a smaller conf=")
    check_raw(models, weights.name, images, run, runtime)


def opened(product: Path, weights: Path, settings: dict[str, Any]) -> tuple[tuple[Any, Any], dict[str, Any]]:
    """Returns two models of the release, the exported one first, and the settings with which both run alike."""
    from ultralytics.models import YOLO
    from ultralytics.nn.modules import Depth, SemanticSegment

    original = YOLO(weights)
    models = YOLO(product, task=original.task), original
    network: Any = models[1].model
    heads: list[Any] = [module for module in network.modules() if isinstance(module, (Depth, SemanticSegment))]
    for head in heads:
        head.export, head.format = (
            True,
            settings.get("format", "onnx"),
        )  # maps as there: of classes
    run: dict[str, Any] = {"device": "cpu", "rect": False, "verbose": False}
    run |= {key: settings[key] for key in ("imgsz", "iou", "max_det", "agnostic_nms") if key in settings}
    if settings.get("nms") is False:  # the head that needs no NMS, where the network has one
        run["nms"] = False
    return models, run


def check_raw(
    models: Sequence[Any],
    name: str,
    images: Sequence[Path | np.ndarray],
    run: dict[str, Any],
    runtime: str = RUNTIMES["onnx"],
) -> None:
    """Compares what two models return before any detection is chosen.

    Args:
        models: The exported model and that of the checkpoint.
        name: Name of the checkpoint.
        images: Image files, or images of shape (H, W, 3).
        run: The settings of both.
        runtime: What runs the exported one, in words.

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
        f"\nRaw outputs of {runtime} and PyTorch on {len(images)} images ({what} {difference:.1e}, up to "
        f"{RAW_TOLERANCE:g} is allowed.\n"
    )
    if not difference <= RAW_TOLERANCE:
        raise PruningError(f"{runtime} computes something other than '{name}'; it was not kept")


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
        return same_outputs(ours, theirs, classes=len(models[1].names), gain=gain) and same_prototypes()

    def same_prototypes() -> bool:
        if models[1].task != "segment":
            return True
        (ours, theirs), _ = outputs_on(models, image, run, which=1)
        return raw_difference(ours, theirs) <= RAW_TOLERANCE

    ours, theirs = (found_in(predict(model, image, run)) for model in models)
    return compare(ours, theirs, run["conf"], computes_the_same)


def found_in(result: Any) -> Found:
    """Returns what the release's result for an image has: boxes, and keypoints, masks or angles with them."""
    if result.obb is not None:
        rotated = result.obb
        boxes = np.concatenate([_array(part).reshape(len(rotated), -1) for part in _columns(rotated)], 1)
        return Found(boxes, angles=_array(rotated.xywhr)[:, 4])
    points = _array(result.keypoints.xy) if result.keypoints is not None else None
    masks = _array(result.masks.data).astype(bool) if result.masks is not None else None
    return Found(_array(result.boxes.data), points, masks)


def _columns(rotated: Any) -> tuple[Any, Any, Any]:
    """Returns the upright boxes around rotated ones, their scores and their classes."""
    return rotated.xyxy, rotated.conf, rotated.cls


def _array(tensor: Any) -> np.ndarray:
    return tensor.double().cpu().numpy()


def predict(model: Any, image: Path | np.ndarray, run: dict[str, Any]) -> Any:
    """Returns the release's result for one image.

    Raises:
        PruningError: If the image cannot be read.
    """
    results = model.predict(image if isinstance(image, np.ndarray) else str(image), **run)
    if not results:
        raise PruningError(f"'{image}' cannot be read as an image; compare on other data with --data")
    return results[0]


def outputs_on(
    models: Sequence[Any], image: Path | np.ndarray, run: dict[str, Any], *, which: int = 0
) -> tuple[list[np.ndarray], float]:
    """Returns an output of both networks for one image, and the gain of the image's preparation.

    Args:
        models: Of the release.
        image: An image file, or an image of shape (H, W, 3).
        run: The settings of both.
        which: 0 for the detections, 1 for the prototypes of masks.
    """
    outputs, gain = [], 1.0
    for model in models:
        pixels = predict(model, image, run).orig_img
        batch = model.predictor.preprocess([pixels])
        gain = min(batch.shape[-2] / pixels.shape[0], batch.shape[-1] / pixels.shape[1])
        output = model.predictor.model(batch)
        while isinstance(output, (list, tuple)):
            inner = isinstance(output[0], (list, tuple))
            output = output[0 if inner else which]
        outputs.append(output.double().numpy())
    return outputs, gain


def agreement_table(found: Agreement, confidence: float, runtime: str = RUNTIMES["onnx"]) -> str:
    """Returns the comparison as a table."""
    parts = (
        ("difference of a keypoint", found.point, POINT_TOLERANCE, " px"),
        ("share that two masks differ in", found.mask, MASK_TOLERANCE, ""),
        ("difference of an angle", found.angle, ANGLE_TOLERANCE, " rad"),
    )
    others = [(f"largest {what}", f"{size:.2g}{unit}", f"{most}{unit}") for what, size, most, unit in parts if size]
    rows = [
        ("detections that both find", found.pairs, ""),
        ("largest difference of a box", f"{found.box:.2g} px", f"{BOX_TOLERANCE} px"),
        ("largest difference of a score", f"{found.score:.2g}", SCORE_TOLERANCE),
        *others,
        ("found by one only", found.alone, 0),
        ("found by one only, at the threshold or by a tie", found.marginal, "any"),
    ]
    title = f"\n{runtime} and PyTorch on {found.images} images, from confidence {confidence:g} on:\n\n"
    return title + table(("", "measured", "allowed"), rows) + "\n"
