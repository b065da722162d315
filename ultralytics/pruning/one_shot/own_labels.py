"""Images without labels as a data set: a network's own confident detections are the labels. Made once, and kept.

An accuracy on such a data set is agreement with that network. It lies in a folder of its own, so that its labels are
never mixed with a person's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..data import sets, unlabelled
from ..data.samples import LABELLED_BY_TEXT
from ..errors import PruningError, counted
from ..files.places import write_folder
from ..files.whole import naming_the_disk, put_unless_there, sha256, temporary_folder
from ..inputs.documents import read_yaml
from ..networks.keeping import known_names
from ..passes.labelling import labels_by

CONFIDENCE = 0.25  # the release's own threshold for what it shows
LEAST = 2  # images: one to look at, one to measure on


@dataclass(frozen=True)
class OwnLabels:
    """How a data set was labelled, as its yaml has it.

    Attributes:
        network: The checkpoint's name.
        sha256: Its SHA-256.
        confidence: Above which its detections count, in 0..1.
        imgsz: Side in pixels of the images as it was shown them.
        train: How many objects it found in the images that are looked at.
        val: How many in those that are measured on.
        images: How many images there are.
        left_out: How many could not be read.
    """

    network: str
    sha256: str
    confidence: float
    imgsz: int
    train: int
    val: int
    images: int
    left_out: int = 0

    @property
    def objects(self) -> int:
        """How many objects there are."""
        return self.train + self.val

    def __str__(self) -> str:
        return f"what {self.network} itself finds above a confidence of {self.confidence:g}"


def own_labels(data: str | Path | None) -> OwnLabels | None:
    """Returns how a network labelled a data set; None for any other data set, whose labels are a person's.

    Args:
        data: The path of its yaml.
    """
    file = Path(data or "")
    if file.name != unlabelled.YAML or not file.is_file():
        return None
    try:
        return OwnLabels(**read_yaml(file, str(file))[unlabelled.KEY])
    except (PruningError, KeyError, TypeError):
        return None


def agreement(data: str) -> str:
    """Returns a line that says what an accuracy on a data set means; empty where a person labelled it."""
    labels = own_labels(data)
    return f"Accuracy is agreement here: the labels are {labels}" if labels else ""


def label_images(
    source: str | Path,
    weights: Path,
    *,
    confidence: float = CONFIDENCE,
    imgsz: int = 640,
    device: str = "cpu",
    folder: Path | None = None,
) -> Path:
    """Returns the yaml of a data set of a user's images, labelled by a network; it is made if it is not there yet.

    Args:
        source: A folder of images, or a video; nothing is written to it.
        weights: The checkpoint.
        confidence: Above which a detection is a label, in 0..1.
        imgsz: Side of the images in pixels.
        device: Where the network runs.
        folder: Where data sets are kept; `datasets/` in the repository by default.

    Raises:
        PruningError: If there are no images, the folder is a data set already, or the network finds no boxes, masks or
            keypoints.
    """
    source, folder = Path(source), folder or sets.DATASETS
    model, _ = checkpoint.load(weights, trained_with_bn=False)
    if model.task not in LABELLED_BY_TEXT:
        raise PruningError(
            f"--data {source} is a folder of images or a video: only networks for {', '.join(LABELLED_BY_TEXT)} can "
            f"label them, this one is for {model.task}; name the yaml of a data set"
        )
    is_video = unlabelled.is_video(source)
    if not is_video:
        unlabelled.check_no_data_set(source)
    pictures = [source.resolve()] if is_video else unlabelled.find_pictures(source)

    how = {"sha256": sha256(weights), "confidence": confidence, "imgsz": imgsz}
    stem = f"{unlabelled.plain_name(source.resolve().stem)}-by-{unlabelled.plain_name(weights.stem)}"
    place = folder / f"{stem}-{unlabelled.digest_of(source, pictures, how)}"
    file = place / unlabelled.YAML
    if file.is_file():
        return file

    write_folder(folder)
    with naming_the_disk(folder), temporary_folder(folder, place.name) as temporary:
        (copies := temporary / "copies").mkdir()
        if is_video:
            pictures = unlabelled.frames_of(pictures[0], copies)
        good = unlabelled.usable(pictures, copies)
        found = labels_by(weights, good, confidence=confidence, imgsz=imgsz, device=device, report=_progress)
        if len(found) < LEAST:
            raise PruningError(
                f"--data {source}: {counted(len(found), 'image')} of {len(pictures)} can be read; it takes at least "
                f"{LEAST}, to look at and to measure on"
            )
        _write(temporary, model, found, {"network": weights.name, **how}, len(pictures) - len(found), is_video)
        shutil.rmtree(copies)
        put_unless_there(temporary, place, unlabelled.YAML)
    return file


def _write(
    folder: Path,
    model: Any,
    found: list[tuple[Path, list[str]]],
    how: dict[str, Any],
    left_out: int,
    in_a_row: bool,
) -> None:
    """Writes the data set (see `unlabelled.lay_out`), with what the network says of itself in the yaml."""
    splits = unlabelled.splits(len(found), in_a_row=in_a_row)
    counts: dict[str, Any] = {
        split: sum(len(rows) for (_, rows), s in zip(found, splits, strict=True) if s == split) for split in splits
    }
    names = known_names(model)
    if len({name.strip() for name in names}) < len(names) or not all(name.strip() for name in names):
        names = [str(number) for number in range(len(names))]  # a data set's differ
    labels = OwnLabels(**how, **counts, images=len(found), left_out=left_out)
    content: dict[str, Any] = {"names": dict(enumerate(names)), "channels": model.yaml.get("channels") or 3}
    if model.task == "pose":
        content["kpt_shape"] = list(model.yaml.get("kpt_shape") or model.model[-1].kpt_shape)
    unlabelled.lay_out(folder, found, {**content, unlabelled.KEY: asdict(labels)}, in_a_row=in_a_row)


def _progress(pictures: Iterable[Path]) -> Iterable[Path]:
    """Shows a bar while images go by."""
    from ultralytics.utils import TQDM

    return TQDM(pictures, desc="labelling", total=len(list(pictures)), unit="image", disable=False)
