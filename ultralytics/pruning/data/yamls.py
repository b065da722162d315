"""What the yaml of a data set, or the folder of a classifier's images, must look like before the release reads it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from ..inputs.checks import listing, mapping, text, whole_number
from ..inputs.documents import brief
from ..inputs.model_rows import check_keypoints
from .images import images_in

MOST_CLASSES = 100_000
SPLITS = ("train", "val", "test", "minival")
VAL_FOLDERS = ("val", "validation", "valid", "test")  # the release takes the first that exists


def check_data_yaml(content: Any, task: str | None = None) -> int:
    """Checks the content of a data set's yaml.

    Args:
        content: The data.
        task: What the network does, as the release names it.

    Returns:
        How many classes it has.

    Raises:
        ValueError: If a key is missing, of a wrong type, or contradicts another one.
    """
    mapping(content, "it")
    if "train" not in content or not ("val" in content or "validation" in content):
        raise ValueError("it needs the keys train, val and names")
    for split in (*SPLITS, "validation"):
        places = content.get(split)
        if places is not None and not isinstance(places, str):
            listing(places, split, text)

    for key in ("path", "masks_dir", "download"):
        if content.get(key) is not None:
            text(content[key], key)
    if content.get("channels") is not None:
        whole_number(content["channels"], "channels", 1, 4096)

    points = content.get("kpt_shape")
    if points is not None:
        check_keypoints(points)
    elif task == "pose":
        raise ValueError("it lacks kpt_shape, the number of keypoints, e.g. [17, 3]")
    if points is not None and content.get("flip_idx"):
        listing(content["flip_idx"], "flip_idx", lambda i, where: whole_number(i, where, 0, points[0] - 1), points[0])
    return _classes(content.get("names"), content.get("nc"))


def _classes(names: Any, count: Any) -> int:
    """Returns how many classes `names` or `nc` say that there are.

    Raises:
        ValueError: If they contradict each other, or the names are not usable.
    """
    if isinstance(count, (str, float)):  # which the release takes where they are whole
        with contextlib.suppress(ValueError, OverflowError):
            count = int(float(count)) if float(count) == int(float(count)) else count
    if names is None:
        if count is None:
            raise ValueError("it needs the keys train, val and names")
        return whole_number(count, "nc", 1, MOST_CLASSES)
    _check_names(names)
    if count is not None and whole_number(count, "nc", 1, MOST_CLASSES) != len(names):
        raise ValueError(f"nc is {count}, but there are {len(names)} names")
    return len(names)


def _check_names(names: Any) -> None:
    """Raises a ValueError if class names are not a list of different texts, or a dict from 0, 1, ... to them."""
    if not isinstance(names, (list, dict)) or not names or len(names) > MOST_CLASSES:
        raise ValueError(f"names are {brief(names)}, not a list of 1 to {MOST_CLASSES:,} names")
    if isinstance(names, dict):
        numbers = {int(k) if isinstance(k, str) and k.isascii() and k.isdecimal() and len(k) < 9 else k for k in names}
        if any(type(key) is not int for key in numbers) or numbers != set(range(len(names))):
            raise ValueError(f"the numbers of its names are {brief(list(names))}, not 0 to {len(names) - 1}")

    first: dict[str, Any] = {}
    for key, name in names.items() if isinstance(names, dict) else enumerate(names):
        if isinstance(name, bool) or not isinstance(name, (str, int, float)) or not str(name).strip():
            raise ValueError(f"the name of class {key} is {brief(name)}, not text (quote it)")
        if str(name) in first:
            raise ValueError(f"classes {first[str(name)]} and {key} have the same name, {brief(name)}")
        first[str(name)] = key


def check_class_folders(folder: Path) -> None:
    """Checks a classifier's folder: the same classes, each with images, to train on and to validate.

    Without `train/` the release would split the images into a new data set beside it. If `val/` had other classes, it
    would number them anew, and so compare with the wrong ones.

    Raises:
        ValueError: If a split is missing, or has other classes.
    """
    val = next((name for name in VAL_FOLDERS if (folder / name).is_dir()), None)
    if not (folder / "train").is_dir() or val is None:
        raise ValueError("it needs the folders train and val, with a folder of images for each class in both")
    classes: dict[str, set[str]] = {}
    for split in ("train", val):
        found = {entry.name: any(images_in(entry)) for entry in (folder / split).iterdir() if entry.is_dir()}
        if not any(found.values()):
            raise ValueError(f"{split}: no {'training ' if split == 'train' else ''}images found")
        if empty := [name for name, has_images in found.items() if not has_images]:
            raise ValueError(f"{split}: no images of class {brief(sorted(empty)[0])}")
        classes[split] = set(found)
    if differing := sorted(classes["train"] ^ classes[val]):
        where = "train" if differing[0] in classes["train"] else val
        raise ValueError(f"train and {val} have other classes: {brief(differing[0])} is in {where} only")
