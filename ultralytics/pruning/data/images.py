"""The image files of a folder, or of a list, and links to them."""

from __future__ import annotations

import glob
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..inputs.documents import read_text


def link(image: Path, place: Path) -> None:
    """Puts a link to an image, or a copy on a file system without links, where nothing is yet."""
    try:
        place.symlink_to(image)
    except (OSError, NotImplementedError):
        shutil.copyfile(image, place)


def images_in(place: Path) -> Iterator[Path]:
    """Yields the images of a folder, or those that a text file lists, in which ./ is the folder of the list.

    Raises:
        PruningError: If the list is not a text file.
    """
    from ultralytics.data.utils import IMG_FORMATS

    if place.is_dir():  # unlike rglob, glob follows links, as the release does
        names: Iterable[str] = glob.iglob(f"{glob.escape(str(place))}/**", recursive=True)
    else:
        lines = read_text(place, f"'{place}'").splitlines() if place.is_file() else []
        names = (str(place.parent / line) if line.startswith("./") else line for line in map(str.strip, lines))
    return (Path(name) for name in names if Path(name).suffix.lower().removeprefix(".") in IMG_FORMATS)
