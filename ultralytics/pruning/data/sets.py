"""The data sets that a user names."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import packages
from ..errors import PruningError, counted, first_line
from ..files.places import ROOT, exists
from ..inputs.documents import brief, found_in, read_yaml
from ..release import quiet_release
from .images import images_in
from .samples import check_samples
from .yamls import check_class_folders, check_data_yaml

DATASETS = ROOT / "datasets"
DEFAULT = "coco.yaml"  # the release's


def resolve_data(
    data: str | Path,
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
    from ultralytics.data.utils import check_det_dataset

    if not isinstance(data, (str, Path)):
        raise PruningError(f"data={brief(data)}: name one yaml, or one folder of a classifier")
    data = str(data)
    what = f"--data {data}"
    if data == "digits":
        packages.need(("sklearn",), "--data digits")
        from ultralytics.data.digits import build

        data = str(build(DATASETS / "digits"))
    if "://" in data:
        raise PruningError(f"{what} is an address: download the data set, and name the yaml or the folder here")
    if task == "classify":
        return _classified(data, classes)

    file = _yaml_of(data, what)
    content = read_yaml(file, what)
    with found_in(what, "no data set"):
        found = check_data_yaml(content, task)
    if classes is not None and found != classes:
        has = counted(found, "class", "classes")
        raise PruningError(f"{what} has {has}, the network has {classes}; use the data it was trained on")

    if check_images:
        try:
            places = check_det_dataset(str(file))
        except Exception as error:  # whatever its checks or its download raise
            raise PruningError(f"{what}: {first_line(error)}") from error
        if to_train:
            _look_for_images(places["train"], f"{what}: no training images in")
        _look_for_images(places["val"], f"{what}: no val images in")
    return str(file.resolve())


def is_known(data: str) -> bool:
    """Whether a data set is here, or its name is one that the release knows."""
    from ultralytics.utils import DATASETS_DIR, checks

    if exists(data):
        return True
    if Path(data).name != data:  # which leaves out addresses, too
        return False
    return data == "digits" or exists(DATASETS_DIR / data) or bool(checks.check_file(glob.escape(data), hard=False))


def _yaml_of(data: str, what: str) -> Path:
    """Returns the file that the release takes for a data set's name.

    Raises:
        PruningError: If there is none, or it is not a yaml.
    """
    from ultralytics.utils import checks

    try:
        file = Path(checks.check_file(data, hard=False) or data)
    except Exception as error:  # whatever its search raises over odd names
        raise PruningError(f"{what}: {first_line(error)}") from error
    if file.is_dir():
        raise PruningError(f"{what} is a folder: name the yaml of the data set")
    if not file.is_file():
        raise PruningError(f"{what}: no such file, and no data set of that name")
    if file.suffix.lower() not in {".yaml", ".yml"}:
        raise PruningError(f"{what} is no data set: its description is a .yaml")
    return file


def _look_for_images(places: Any, what: str) -> None:
    """Raises a PruningError if there is no image in a place, or in one of several."""
    paths = places_of(places)
    try:
        if any(any(images_in(place)) for place in paths):
            return
    except PruningError as error:
        raise PruningError(f"{what} its list: {error}") from error
    raise PruningError(f"{what} {', '.join(map(str, paths)) or 'it'}")


def check_usable(data: str, splits: Iterable[str], task: str, network: Mapping[str, Any] | None = None) -> None:
    """Checks a data set by some of its images and labels (see `samples.py`).

    Args:
        data: What `resolve_data` returned.
        splits: E.g. `train` and `val`.
        task: What the network does, as the release names it.
        network: The `channels` and `kpt_shape`, where it has any, of a network that is to run on it unchanged.

    Raises:
        PruningError: If no image of a split can be used, or the network takes images or keypoints of another shape.
    """
    from ultralytics.data.utils import check_cls_dataset, check_det_dataset

    try:
        with quiet_release():
            found = check_cls_dataset(data) if task == "classify" else check_det_dataset(data, autodownload=False)
    except Exception as error:  # whatever its checks raise
        raise PruningError(f"--data {data}: {first_line(error)}") from error
    shapes = {"channels": 3, **({"kpt_shape": None} if task == "pose" else {})} if network is not None else {}
    for key, default in shapes.items():
        takes, has = ((of or {}).get(key) or default for of in (network, found))
        if takes != has:
            raise PruningError(f"--data {data} has {key} {brief(has)}, the network has {brief(takes)}")

    for split in splits:
        images = (image for place in places_of(found.get(split)) for image in images_in(place))
        check_samples(images, f"--data {data}: {split}", task, found["nc"], found.get("kpt_shape"))


def _classified(data: str, classes: int | None) -> str:
    """Returns the folder of a classifier's images, or a name that the release knows, e.g. `imagenet10`.

    Raises:
        PruningError: If the release finds no such data set, or it has another number of classes.
    """
    from ultralytics.data.utils import check_cls_dataset
    from ultralytics.utils import DATASETS_DIR

    what = f"--data {data}"
    folder = next((place for place in (Path(data), DATASETS_DIR / data) if place.is_dir()), None)
    if folder is None and Path(data).name != data and not Path(data).is_file():  # else an archive, or a name
        raise PruningError(f"{what}: no such folder of classes")
    if folder is not None and not (folder / ".ndjson.yaml").is_file():
        with found_in(what, "no data set of a classifier"):
            check_class_folders(folder)
    try:
        found = check_cls_dataset(data)
    except Exception as error:  # whatever its checks or its download raise
        raise PruningError(f"{what}: {first_line(error)}") from error
    if classes is not None and found["nc"] != classes:
        has = counted(found["nc"], "class", "classes")
        raise PruningError(f"{what} has {has}, the network has {classes}")
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


def places_of(split: Any) -> list[Path]:
    """Returns the folders and lists of a split, of which the release takes one, several or none."""
    return [Path(place) for place in (split if isinstance(split, list) else [split]) if place]


def data_set_digest(data: str, task: str | None = None) -> str:
    """Returns what tells a data set from others wherever it lies: its entries, and its images by name and size.

    Args:
        data: The path of its yaml, or a classifier's folder, as `resolve_data` returns them.
        task: What the network does, as the release names it.

    Returns:
        A SHA-256 in hex; empty for a data set that is known by its name alone.
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
        splits = {split: places_of(found.get(split)) for split in ("train", "val")}
        images = {
            split: sorted(image for place in places for image in images_in(place)) for split, places in splits.items()
        }
        entries |= {split: len(places) for split, places in splits.items()}
    else:
        return ""

    sizes = {
        split: [(file.name, file.stat().st_size) for file in files if file.is_file()] for split, files in images.items()
    }
    return hashlib.sha256(json.dumps([entries, sizes], sort_keys=True, default=str).encode()).hexdigest()
