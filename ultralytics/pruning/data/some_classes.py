"""A data set of some classes, for a network that kept these: made beside, once, from one that has more.

The release finds the labels of an image by the image's path, so a set with other labels needs other paths: links to the
images, beside them the labels that are left, with the numbers that the network gives the classes. The user's files stay
as they are, and what is made is a data set like any other, for every stage, worker and stock release.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PruningError, counted, first_line
from ..files.places import shown
from ..files.whole import naming_the_disk, put_unless_there, temporary_folder
from ..inputs.documents import read_yaml
from ..networks.classes import NEW
from ..networks.keep_classes import keeps_some
from ..networks.keeping import check_order, known_names, order_of
from ..report import say
from . import sets
from .images import images_in, link
from .samples import LABELLED_BY_TEXT

WHOLE, LABELLED = "data.yaml", "labelled.yaml"  # the second trains on the images with labels alone
SPLITS = ("train", "val", "test")
OF_ALL = ("path", "train", "val", "validation", "test", "minival", "nc", "names", "download", "masks_dir")


@dataclass(frozen=True)
class Source:
    """The data set that has more classes.

    Attributes:
        file: Its yaml.
        images: The images of each split that it has.
        rows: For each of its classes the number in the network; `NEW` for one that goes.
    """

    file: Path
    images: dict[str, list[Path]]
    rows: tuple[int, ...]

    def digest(self) -> str:
        """Returns what changes with its yaml, images, labels or classes, in hex."""
        from ultralytics.data.utils import img2label_paths

        found: list[Any] = [self.file.read_text(encoding="utf-8"), self.rows]
        for images in self.images.values():
            found.append([str(image) for image in images])
            for label in img2label_paths([str(image) for image in images]):
                state = os.stat(label) if os.path.isfile(label) else None
                found.append((state.st_size, state.st_mtime_ns) if state else None)
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:10]


def resolve_for(model: Any, data: str, *, classes: int | None, to_train: bool = False, labelled: bool = False) -> str:
    """Returns what `resolve_data` does; for a network that kept some of its classes, a set with the labels of these.

    Args:
        model: The network, with its task.
        data: The data set, as the user names it.
        classes: How many classes it must have; any number, and all of its labels, if None.
        to_train: Whether there must be training images.
        labelled: Whether only training images count that have labels.

    Raises:
        PruningError: For what `resolve_data` and `with_classes_of` raise.
    """
    fewer = classes is not None and keeps_some(model) and model.task in LABELLED_BY_TEXT
    found = sets.resolve_data(data, classes=None if fewer else classes, to_train=to_train, task=model.task)
    if not fewer:
        return found
    made = with_classes_of(found, known_names(model), labelled=labelled or to_train)
    made = made if labelled else measured_on(found, known_names(model))
    return sets.resolve_data(made, classes=classes, to_train=to_train, task=model.task)


def data_for(model: Any, data: str, *, classes: int | None, splits: Sequence[str] = SPLITS[:2], **how: bool) -> str:
    """Returns what `resolve_for` does, where a network can be run on it unchanged.

    Args:
        model: The network, with its task.
        data: The data set, as the user names it.
        classes: As in `resolve_for`; None: all count as one, whatever their order.
        splits: That are read.
        **how: As in `resolve_for`.

    Raises:
        PruningError: For what `resolve_for` raises, or if the data set is not of this network.
    """
    found = resolve_for(model, data, classes=classes, **how)
    sets.check_usable(found, splits, model.task, model.yaml)
    if classes:
        check_order(model, sets.names_in(found, model.task), data)
    return found


def measured_on(data: str, names: Sequence[str]) -> str:
    """Returns what `with_classes_of` does, with all images, and says so where it is another set."""
    made = with_classes_of(data, names)
    if made != data:
        say(f"Of {shown(Path(data))} only the labels of {', '.join(names)}, in {shown(Path(made))}")
    return made


def images_with_labels(data: str) -> str:
    """Returns the yaml beside one that was made here that trains on the images with labels; any other as it is."""
    file = Path(data)
    made = file.name == WHOLE and file.parent.parent == sets.DATASETS and file.with_name(LABELLED).is_file()
    return str(file.with_name(LABELLED)) if made else data


def with_classes_of(data: str, names: Sequence[str], *, labelled: bool = False) -> str:
    """Returns a data set whose classes are those of a network that has fewer.

    Args:
        data: The path of its yaml, as `resolve_data` returns it, of a task with a text file of labels for each image.
        names: The network's classes.
        labelled: Whether only training images count that have labels of these classes.

    Returns:
        The path of a yaml: of the set that was made, under `datasets/`, or `data` where it has no more classes than the
        network, or not all of the network's.

    Raises:
        PruningError: If its labels cannot be read, none are of these classes, or there is no place for the new ones.
    """
    of_data = sets.names_in(data)
    rows = order_of(list(names), [str(of_data[i]) for i in sorted(of_data)])
    if len(rows) <= len(names) or sorted(row for row in rows if row != NEW) != list(range(len(names))):
        return data
    source = Source(Path(data), _images_of(data), tuple(rows))
    name = source.file.parent.name if source.file.stem == "data" else source.file.stem
    of = counted(len(names), "class", "classes").replace(" ", "-")
    folder = sets.DATASETS / f"{name}-{of}-{source.digest()}"
    if not (folder / WHOLE).is_file():
        try:
            sets.DATASETS.mkdir(parents=True, exist_ok=True)
            with naming_the_disk(sets.DATASETS):
                _make(source, folder, names)
        except OSError as error:
            raise PruningError(f"--data {data}: its labels of {len(names)} classes: {first_line(error)}") from error
    if labelled and not (folder / LABELLED).is_file():
        raise PruningError(f"--data {data}: no training image has a label of {', '.join(names)}")
    return str(folder / (LABELLED if labelled else WHOLE))


def _images_of(data: str) -> dict[str, list[Path]]:
    """Returns the images of each split, in the order in which the release takes them."""
    from ultralytics.data.utils import check_det_dataset

    found = check_det_dataset(data, autodownload=False)
    places = {split: sets.places_of(found.get(split)) for split in SPLITS}
    return {
        split: sorted((image for place in of for image in images_in(place)), key=str)
        for split, of in places.items()
        if of
    }


def _make(source: Source, folder: Path, names: Sequence[str]) -> None:
    """Writes the data set: in a temporary folder, which is renamed when all is there."""
    with temporary_folder(folder.parent, folder.name) as work:
        labelled: list[str] = []
        for split, images in source.images.items():
            for made, has_labels in _write_split(images, work, split, source.rows):
                if has_labels and split == "train":
                    labelled.append(f"./{made}\n")

        kept = {key: value for key, value in read_yaml(source.file, str(source.file)).items() if key not in OF_ALL}
        entries: dict[str, Any] = {split: f"images/{split}" for split in source.images}
        entries |= {**kept, "names": dict(enumerate(names))}
        if labelled:
            (work / "labelled.txt").write_text("".join(labelled), encoding="utf-8")
            _write_yaml(work / LABELLED, {**entries, "train": "labelled.txt"})
        _write_yaml(work / WHOLE, entries)
        put_unless_there(work, folder, WHOLE)


def _write_split(images: list[Path], work: Path, split: str, rows: Sequence[int]) -> Iterator[tuple[str, bool]]:
    """Links the images of a split and writes their labels; yields each image's new path and whether it has labels.

    An image with labels that are none of the data set's is left out, as the release does.
    """
    from ultralytics.data.utils import img2label_paths

    places = {kind: work / kind / split for kind in ("images", "labels")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    labels = img2label_paths([str(image) for image in images])
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        try:
            text = _renumbered(Path(label), rows)
        except ValueError:
            continue
        name = f"{number:07d}-{image.stem}"  # two folders may have images of one name
        link(image.absolute(), places["images"] / f"{name}{image.suffix}")
        if text:
            (places["labels"] / f"{name}.txt").write_text(text, encoding="utf-8")
        yield f"images/{split}/{name}{image.suffix}", bool(text)


def _renumbered(label: Path, rows: Sequence[int]) -> str:
    """Returns the lines of a file of labels whose classes are kept, with their new numbers.

    Raises:
        ValueError: If a line is of no class of the data set.
    """
    if not label.is_file():
        return ""
    kept = []
    for line in label.read_text(encoding="utf-8").splitlines():
        words = line.split(maxsplit=1)
        if not words:
            continue
        number = float(words[0])
        if number % 1 or not 0 <= number < len(rows):
            raise ValueError(f"class {words[0]}")
        if rows[int(number)] != NEW:
            kept.append(" ".join((str(rows[int(number)]), *words[1:])) + "\n")
    return "".join(kept)


def _write_yaml(file: Path, entries: dict[str, Any]) -> None:
    """Writes the description of a data set that lies beside it."""
    import yaml

    file.write_text(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True), encoding="utf-8")
