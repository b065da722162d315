"""Images without labels, in a folder or a video: found, checked, and laid out as a data set beside labels for them.

The user's folder is only read: a data set holds links to its images, or copies where a link will not do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import PruningError
from ..inputs.documents import read_yaml
from ..release import quiet_release
from .images import images_in, link
from .samples import check_image, labels_of

VAL_EVERY = 4  # one image in so many is for validation
MOST_FRAMES = 240  # of a video
NEAR = 64  # frames that are read on to rather than sought
KEY = "labelled_by"  # of a data set's yaml: which network made the labels, and how
YAML = "data.yaml"
LAYOUT = 1  # counts up when the same images would get other labels or places


def is_unlabelled(data: Any) -> bool:
    """Whether `--data` names a folder, or a video."""
    return Path(data).is_dir() or is_video(Path(data))


def is_video(path: Path) -> bool:
    """Whether a path is that of a video that is there."""
    from ultralytics.data.utils import VID_FORMATS

    return path.suffix.lower().removeprefix(".") in VID_FORMATS and path.is_file()


def check_no_data_set(folder: Path) -> None:
    """Refuses a folder that is a data set of labelled images.

    Raises:
        PruningError: If it is; it names the yaml.
    """
    if found := _yaml_in(folder):
        raise PruningError(f"--data {folder} is the folder of a data set: name its yaml, {found}")


def _yaml_in(folder: Path) -> Path | None:
    """Returns the yaml of a data set that lies in a folder."""
    for file in sorted(folder.glob("*.y*ml")):
        with contextlib.suppress(PruningError):
            content = read_yaml(file, str(file))
            if isinstance(content, dict) and "train" in content and content.keys() & {"names", "nc"}:
                return file
    return None


def find_pictures(folder: Path) -> list[Path]:
    """Returns the images of a folder, whole paths in the order of their names.

    Raises:
        PruningError: If there are none.
    """
    if found := sorted(set(images_in(folder.resolve()))):
        return found
    videos = sorted(path for path in folder.glob("*") if is_video(path)) if folder.is_dir() else []
    instead = f"name one of its videos, e.g. {videos[0]}" if videos else "name a folder of images, or a video"
    raise PruningError(f"--data {folder}: no images in it; {instead}")


def unused_labels(pictures: Sequence[Path]) -> str | None:
    """Returns, in words, how many images have labels where a data set has them; None if none has."""
    count = sum(labels_of(picture).is_file() for picture in pictures)
    if not count:
        return None
    above = next((found for place in pictures[0].parents[:3] if (found := _yaml_in(place))), None)
    return f"{count} of the images have labels beside them, which are not used: name {above or 'a yaml'} to use them"


def usable(pictures: Iterable[Path], folder: Path) -> list[Path]:
    """Returns the images that the release takes: a JPEG with something behind its end as a repaired copy.

    The release would repair it in place, in the user's folder.

    Args:
        pictures: The images.
        folder: Where copies go.
    """
    from ultralytics.data import utils

    found = []
    for number, picture in enumerate(pictures):
        with (
            contextlib.suppress(ValueError, OSError, AssertionError),
            quiet_release(logging.ERROR),
        ):  # it would say what might read others
            check_image(picture)
            if _would_be_repaired(picture):
                picture = Path(shutil.copyfile(picture, folder / f"{number}-{plain_name(picture.stem)}.jpg"))
                utils.check_image(str(picture))
            found.append(picture)
    return found


def digest_of(source: Path, pictures: Sequence[Path], how: Mapping[str, Any]) -> str:
    """Returns what tells a data set from others: where its images lie, their states, and how they are labelled.

    Args:
        source: The folder or the video.
        pictures: The images of it, or the video.
        how: What else tells it, as plain data.

    Returns:
        The first characters of a SHA-256, in hex.
    """
    found = [picture for picture in pictures if picture.is_file()]  # a link may lead nowhere
    states = [(str(picture), (state := picture.stat()).st_size, state.st_mtime_ns) for picture in found]
    content = json.dumps([LAYOUT, str(source.resolve()), dict(how), states], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def plain_name(text: str) -> str:
    """Returns a name as any program reads it: letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII).strip("._")[:60] or "image"


def splits(count: int, *, in_a_row: bool = False) -> list[str]:
    """Returns the split of each of some images: every fourth is for validation.

    Args:
        count: How many there are, at least two.
        in_a_row: Whether one hardly differs from the next, as in a video: then the last fourth is.
    """
    last = max(count // VAL_EVERY, 1)
    held_out = {*range(count - last, count)} if in_a_row or count < VAL_EVERY else {*range(3, count, VAL_EVERY)}
    return ["val" if number in held_out else "train" for number in range(count)]


def lay_out(
    folder: Path, labelled: Sequence[tuple[Path, Sequence[str]]], content: Mapping[str, Any], *, in_a_row: bool = False
) -> None:
    """Writes a data set: its yaml, images and labels, where nothing is yet.

    Args:
        folder: Its own. Images that lie in it are moved to their place, all others are linked to, or copied.
        labelled: The images, each with the rows of its label file.
        content: Of the yaml, but for the splits.
        in_a_row: As in `splits`.
    """
    import yaml

    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
    for number, ((picture, rows), split) in enumerate(
        zip(labelled, splits(len(labelled), in_a_row=in_a_row), strict=True)
    ):
        name = f"{number:06d}-{plain_name(picture.stem)}"
        _put(picture, folder / "images" / split / f"{name}{picture.suffix.lower()}", folder)
        text = "".join(f"{row}\n" for row in rows)
        (folder / "labels" / split / f"{name}.txt").write_text(text, encoding="ascii")
    places = {"train": "images/train", "val": "images/val"}
    (folder / YAML).write_text(yaml.safe_dump({**places, **content}, sort_keys=False), encoding="utf-8")


def _put(picture: Path, place: Path, folder: Path) -> None:
    """Puts an image into its place in a data set (see `lay_out`)."""
    if picture.is_relative_to(folder):
        os.replace(picture, place)
    else:
        link(picture, place)


def _would_be_repaired(picture: Path) -> bool:
    """Whether the release would write to an image: it repairs a JPEG that does not end with the mark of the end."""
    with picture.open("rb") as file:
        is_jpeg = file.read(2) == b"\xff\xd8"
        file.seek(-2, os.SEEK_END)
        return is_jpeg and file.read() != b"\xff\xd9"


def frames_of(video: Path, folder: Path, most: int = MOST_FRAMES) -> list[Path]:
    """Writes frames of a video as JPEGs, evenly spaced over its length.

    Args:
        video: The video.
        folder: Where they go.
        most: How many at most; shorter videos give all that they have.

    Returns:
        The files, in the order of the video.

    Raises:
        PruningError: If no frame of it can be read.
    """
    import cv2

    files = []
    capture = cv2.VideoCapture(str(video))
    try:
        count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0) or _count(capture, video)
        wanted = sorted({int((i + 0.5) * count / most) for i in range(most)} if count > most else range(count))
        position = 0
        for number in wanted:
            if number - position > NEAR:
                capture.set(cv2.CAP_PROP_POS_FRAMES, number)
                position = number
            while position < number and capture.grab():
                position += 1
            good, frame = capture.read()
            position = number + 1
            if good and cv2.imwrite(str(file := folder / f"frame-{number:08d}.jpg"), frame):
                files.append(file)
    finally:
        capture.release()
    if not files:
        raise PruningError(f"--data {video}: no frame of this video can be read")
    return files


def _count(capture: Any, video: Path) -> int:
    """Returns how many frames a video has that does not say so, by going through it; it begins anew behind that."""
    count = 0
    while capture.grab():
        count += 1
    capture.open(str(video))
    return count
