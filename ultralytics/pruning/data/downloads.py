"""The `download:` line of a data yaml, which the release runs as a script where images are missing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UntrustedError, first_line
from ..trust import HOW, trusted


def check_images(release: Callable, dataset: str | Path, autodownload: bool = True, split: str = "") -> dict[str, Any]:
    """Looks for a data set like the release's `check_det_dataset`, and downloads it only where that is trusted.

    The yamls that the release ships are trusted: they are as much its code as the rest of it.

    Raises:
        UntrustedError: If images are missing and the yaml would run its `download:` script.
    """
    allowed = trusted() or _shipped(dataset)
    try:
        return release(dataset, autodownload and allowed, split)
    except FileNotFoundError as error:
        wanted = None if allowed or not autodownload else _download_of(dataset)
        if not wanted:
            raise
        raise UntrustedError(
            f"{first_line(error).strip()}; its 'download: {wanted}' is not run unasked: put the images there, or, {HOW}"
        ) from error


def _file_of(dataset: str | Path) -> Path | None:
    """Returns the yaml that a name stands for, or None where it would have to be fetched."""
    from ultralytics.data.utils import find_dataset_yaml
    from ultralytics.utils.checks import check_file

    if "://" in str(dataset):
        return None
    for name in (str(dataset), f"{dataset}.yaml", f"{dataset}.yml"):
        if Path(name).is_dir():
            with contextlib.suppress(FileNotFoundError, AssertionError):
                return find_dataset_yaml(Path(name)).resolve()
        elif found := check_file(name, hard=False):
            return Path(found).resolve()
    return None


def _shipped(dataset: str | Path) -> bool:
    """Whether a yaml came with the installed release."""
    from ultralytics import RELEASE_DIR

    file = _file_of(dataset)
    return file is not None and file.is_relative_to(Path(RELEASE_DIR).resolve())


def _download_of(dataset: str | Path) -> str | None:
    """Returns the beginning of the yaml's `download:`, in one line."""
    from ultralytics.utils import YAML

    file = _file_of(dataset)
    if file is None:
        return None
    words = " ".join(str(YAML.load(file).get("download") or "").split())
    return words if len(words) <= 60 else f"{words[:57]}..."
