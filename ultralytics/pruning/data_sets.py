"""The data sets that a user names."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import PruningError, first_line
from .stages import ROOT

DATASETS = ROOT / "datasets"


def resolve_data(
    data: str,
    *,
    classes: int | None = None,
    check_images: bool = True,
    to_train: bool = False,
    task: str | None = None,
) -> str:
    """Returns the path of a data set's yaml, or a classifier's folder of images; `digits` is made on first use.

    Args:
        data: `digits`, a path, or a name that the release knows, e.g. `coco.yaml`.
        classes: How many classes the network has; any number by default.
        check_images: Whether the release looks for the images too, and downloads them where the yaml says how.
        to_train: Whether there must be training images; they are not read.
        task: What the network does, as the release names it.

    Raises:
        PruningError: If the yaml is missing, is not YAML, lacks keys, or has another number of classes, or images are
            missing.
    """
    import yaml

    from ultralytics.data.utils import check_det_dataset
    from ultralytics.utils import checks

    if data == "digits":
        from ultralytics.data.digits import build

        data = str(build(DATASETS / "digits"))
    if task == "classify":
        return _classified(data, classes)
    file = Path(checks.check_file(data, hard=False) or data)
    if not file.is_file():
        raise PruningError(f"--data {data}: no such file, and no data set of that name")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PruningError(f"--data {data} is not YAML ({str(error).splitlines()[0]})") from error
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(content, dict) or "train" not in content or not (names or content.get("nc")):
        raise PruningError(f"--data {data} is no data set: it needs the keys train, val and names")
    found = len(names) if names else content["nc"]
    if classes is not None and found != classes:
        raise PruningError(
            f"--data {data} has {found} classes, the network has {classes}; use the data it was trained on"
        )
    if check_images:
        try:
            places = check_det_dataset(str(file))["train"]
        except Exception as error:  # whatever its checks or its download raise
            raise PruningError(f"--data {data}: {str(error).splitlines()[0]}") from error
        places = [Path(place) for place in (places if isinstance(places, list) else [places]) if place]
        if to_train and not any(any(images_in(place)) for place in places):
            raise PruningError(f"--data {data}: no training images in {', '.join(map(str, places)) or 'it'}")
    return str(file.resolve())


def _classified(data: str, classes: int | None) -> str:
    """Returns the folder of a classifier's images, or a name that the release knows, e.g. `imagenet10`.

    Raises:
        PruningError: If the release finds no such data set, or it has another number of classes.
    """
    from ultralytics.data.utils import check_cls_dataset

    try:
        found = check_cls_dataset(data)
    except Exception as error:  # whatever its checks or its download raise
        raise PruningError(f"--data {data}: {str(error).splitlines()[0]}") from error
    if classes is not None and found["nc"] != classes:
        raise PruningError(f"--data {data} has {found['nc']} classes, the network has {classes}")
    return str(Path(data).resolve()) if Path(data).is_dir() else data


def names_in(data: str, task: str | None = None) -> dict[int, str]:
    """Returns the classes of a data set, by their number.

    Args:
        data: What `resolve_data` returned.
        task: What the network does, as the release names it.

    Raises:
        PruningError: If the release's checks fail.
    """
    from ultralytics.data.utils import check_cls_dataset, check_det_dataset

    try:
        found = check_cls_dataset(data) if task == "classify" else check_det_dataset(data, autodownload=False)
    except Exception as error:  # whatever its checks raise
        raise PruningError(f"--data {data}: {first_line(error)}") from error
    return found["names"]


def images_in(place: Path) -> Iterator[Path]:
    """Yields the images of a folder, or those that a text file lists, in which ./ is the folder of the list."""
    from ultralytics.data.utils import IMG_FORMATS

    if place.is_dir():  # unlike rglob, glob follows links, as the release does
        names: Iterable[str] = glob.iglob(f"{glob.escape(str(place))}/**", recursive=True)
    else:
        lines = place.read_text(encoding="utf-8-sig").splitlines() if place.is_file() else []
        names = (str(place.parent / line) if line.startswith("./") else line for line in map(str.strip, lines))
    return (Path(name) for name in names if Path(name).suffix.lower().removeprefix(".") in IMG_FORMATS)


def digest(data: str, task: str | None = None) -> str:
    """Returns what tells a data set from others wherever it lies: its entries, and its images by name and size.

    Args:
        data: The path of its yaml, or a classifier's folder, as `resolve_data` returns them.
        task: What the network does, as the release names it.

    Returns:
        A SHA-256 in hex; empty for a data set that is known by a name alone.
    """
    import yaml

    from ultralytics.data.utils import check_det_dataset

    path = Path(data)
    if path.is_dir():
        entries: dict[str, object] = {"task": task}
        images = {"all": sorted(images_in(path))}
    elif path.is_file():
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = {key: value for key, value in entries.items() if key not in {"path", "download"}}
        found = check_det_dataset(data, autodownload=False)
        splits = {split: found.get(split) or [] for split in ("train", "val")}
        images = {
            split: sorted(
                image
                for place in (places if isinstance(places, list) else [places])
                for image in images_in(Path(place))
            )
            for split, places in splits.items()
        }
        entries |= {split: len(splits[split]) if isinstance(splits[split], list) else 1 for split in splits}
    else:
        return ""
    sizes = {
        split: [(file.name, file.stat().st_size) for file in own if file.is_file()] for split, own in images.items()
    }
    return hashlib.sha256(json.dumps([entries, sizes], sort_keys=True, default=str).encode()).hexdigest()
