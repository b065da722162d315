"""Where a name on the command line leads: seen from where the user stands, then from the repository.

That is decided once, when the words are read: what runs later, in other processes and other folders, gets paths from
the root of the file system.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import PruningError
from . import names

ROOT = Path(__file__).resolve().parents[3]
YAML = (".yaml", ".yml")
RUNS = ROOT / "runs"
NORMAL, SPARSITY, FINETUNE = "train-norm", "train-sparsity", "finetune"  # run folders, which later stages read
SCALE = re.compile(r"(\d+)[nslmx](?=.*\.ya?ml$)")  # the size in a model's name, which the release takes off: yolov8n


def here(name: str | Path) -> Path:
    """Returns a path from the root, seen from where the user stands.

    Raises:
        PruningError: If it begins with the home of a user whom nobody knows.
    """
    path = Path(name)
    if path.parts and path.parts[0].startswith("~") and not os.path.lexists(path):  # a quoted ~ reaches us as it is
        try:
            path = path.expanduser()
        except RuntimeError as error:
            raise PruningError(f"'{name}': there is no user of that name") from error
    return path if path.is_absolute() else Path.cwd() / path


def first_there(name: str | Path, is_there: Callable[[Path], bool] = Path.exists) -> Path | None:
    """Returns the first place of a name at which something is there: where the user stands, the repository; or None."""
    return next((place for place in (here(name), ROOT / name) if is_there(place)), None)


def source(name: str) -> str:
    """Returns the path of a file to read; of one that is nowhere, the path in the repository."""
    place = here(name)
    return str(first_there(name) or (place if name.startswith("~") else ROOT / name))


def network(name: str) -> str:
    """Returns the path of a checkpoint or a model yaml; a yaml that is nowhere may be one of the release's names."""
    if not name.endswith(YAML):
        return source(name)
    unsized = SCALE.sub(r"\1", name)
    place = first_there(name, lambda path: path.is_file() or path.with_name(Path(unsized).name).is_file())
    return str(place) if place else name


def data_set(name: str) -> str:
    """Returns the path of a data set's yaml or folder; what is nowhere may be one of the release's names."""
    if name == "digits" or "://" in name:
        return name
    place = first_there(name)
    return str(place) if place else name


def product(name: str) -> str:
    """Returns the path of a file or folder to write: where the user stands."""
    return str(here(name))


def located(name: str | Path) -> Path:
    """Returns a file's path from the root: where the user stands, or, where it is not there, in the repository."""
    return first_there(name, Path.is_file) or ROOT / name


def shown(path: Path) -> str:
    """Returns a path for a person: relative to the repository where it lies in it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def run_folder(name: str) -> Path:
    """Returns the folder of a run under `runs/`.

    Raises:
        PruningError: If the name would lead elsewhere.
    """
    try:
        return RUNS / names.run_name(name)
    except PruningError as error:
        raise PruningError(f"--name {error}") from error


def write_folder(folder: Path) -> Path:
    """Makes a folder and checks that files can be written into it.

    Raises:
        PruningError: If not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise PruningError(f"cannot write into '{folder}' ({error.strerror})") from error
    return folder
