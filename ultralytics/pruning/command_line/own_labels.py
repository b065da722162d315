"""`--data FOLDER_OF_IMAGES`, or a video: the network labels them itself, and what an accuracy then means is said."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..data.unlabelled import find_pictures, is_unlabelled, is_video, unused_labels
from ..errors import PruningError, counted
from ..files.places import shown
from ..files.whole import sha256
from ..one_shot.own_labels import CONFIDENCE, OwnLabels, label_images, own_labels
from ..report import say
from . import kinds

SPLITS = {"train": "that are looked at", "val": "that are measured on"}
FOLDERS = "or a folder of images, or a video, which the network labels itself"


def add_confidence(parser: argparse.ArgumentParser) -> None:
    """Adds the threshold above which a network's own detections are labels."""
    labels = f"of a --data without labels: what the network finds above C is a label (default: {CONFIDENCE})"
    parser.add_argument("--confidence", type=kinds.as_part, metavar="C", help=labels)


def label(
    options: argparse.Namespace,
    model: Any,
    weights: Path | None,
    imgsz: Any,
    *,
    needed: Collection[str] = (),
    original: bool = False,
) -> None:
    """Lets a network label the images where `--data` names a folder or a video; `options.data` is then the data set.

    A classifier's folder is its data set. All others stay as they are, too.

    Args:
        options: Of the command line; changed in place.
        model: The network that the stage works on.
        weights: Its checkpoint; None for a model yaml.
        imgsz: Side of the images in pixels.
        needed: The splits whose labels are read, of `train` and `val`.
        original: Whether the checkpoint labels that this one was cut from, where it is still there.

    Raises:
        PruningError: If nothing can be labelled so, nothing was found in a split that is needed, or a threshold is
            named where none is read.
    """
    wanted: float | None = getattr(options, "confidence", None)  # a stage of somebody else's may not have it
    if not options.data or model.task == "classify" or not is_unlabelled(options.data):
        if wanted is not None:
            raise PruningError("--confidence is read for a --data without labels only: a folder of images, or a video")
        return
    source = Path(options.data)
    if weights is None:
        raise PruningError(f"--data {source} has no labels, and the random weights of a model yaml find none")
    confidence = CONFIDENCE if wanted is None else wanted
    side = imgsz if isinstance(imgsz, int) else max(imgsz)
    device = options.device.split(",")[0]
    weights = uncut(weights, model) if original else weights
    file = label_images(source, weights, confidence=confidence, imgsz=side, device=device)
    options.data = str(file)

    labels = own_labels(file)
    assert labels is not None
    for split, which in SPLITS.items():
        if split in needed and not getattr(labels, split):
            raise PruningError(
                f"--data {source}: {labels.network} finds nothing above a confidence of {confidence:g} in the images "
                f"{which}: take a lower --confidence, or a data set with labels"
            )
    say_labels(labels, file, source)


def uncut(weights: Path, model: Any) -> Path:
    """Returns the checkpoint that a pruned one was cut from, where it is still there, else this one."""
    plans = checkpoint.plans_of(model)
    if not plans:
        return weights
    name, digest = (str(plans[0].source.get(key, "")) for key in ("file", "sha256"))
    if digest and Path(name).is_file() and sha256(Path(name)) == digest:
        return Path(name)
    say(f"What {shown(weights)} was cut from is not here ({name}): the pruned network labels the images itself")
    return weights


def say_labels(labels: OwnLabels, file: Path, source: Path) -> None:
    """Says how images were labelled, what was left out, and what that means.

    Args:
        labels: How.
        file: The yaml of the data set.
        source: The folder or video.
    """
    if not is_video(source) and (unused := unused_labels(find_pictures(source))):
        say(f"WARNING: {unused}")
    left_out = f" ({labels.left_out} could not be read)" if labels.left_out else ""
    say(
        f"Labelled {counted(labels.images, 'image')}{left_out} by {labels.network} itself: "
        f"{counted(labels.objects, 'object')} above a confidence of {labels.confidence:g}, kept in "
        f"{shown(file.parent)}; accuracy means agreement with it\n"
    )
    if not labels.objects:
        say("WARNING: nothing was found in them: take a lower --confidence where labels count\n")
