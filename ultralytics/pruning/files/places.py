"""Where a name on the command line leads: seen from where the user stands, then from the repository.

That is decided once, when the command line is read: what runs later, in other processes and other folders, gets
absolute paths.
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
SCALE = re.compile(r"(\d+)[nslmx](?=.*\.ya?ml$)")  # the size in a model's name, which the release strips: yolov8n


def here(name: str | Path) -> Path:
    """Returns an absolute path, seen from where the user stands.

    Raises:
        PruningError: If it begins with the home of an unknown user.
    """
    path = Path(name)
    if path.parts and path.parts[0].startswith("~") and not os.path.lexists(path):  # the shell leaves a quoted ~
        try:
            path = path.expanduser()
        except RuntimeError as error:
            raise PruningError(f"'{name}': there is no user of that name") from error
    return path if path.is_absolute() else Path.cwd() / path


def first_there(name: str | Path, is_there: Callable[[Path], bool] = Path.exists) -> Path | None:
    """Returns the first place where something of a name exists: where the user stands, the repository; or None."""
    return next((place for place in (here(name), ROOT / name) if is_there(place)), None)


def exists(path: str | Path, is_there: Callable[[Path], bool] = Path.exists) -> bool:
    """Whether something lies at a path that a file names: perhaps one that no file system can hold, or may be seen."""
    try:
        return is_there(Path(path))
    except (OSError, ValueError):
        return False


def source(name: str) -> str:
    """Returns the path of a file to read; if it is in neither place, the path in the repository."""
    place = here(name)
    return str(first_there(name) or (place if name.startswith("~") else ROOT / name))


def network(name: str) -> str:
    """Returns the path of a checkpoint or a model yaml; a yaml in neither place may be a name of the release."""
    if not name.endswith(YAML):
        return source(name)
    unsized = SCALE.sub(r"\1", name)
    place = first_there(name, lambda path: path.is_file() or path.with_name(Path(unsized).name).is_file())
    return str(place) if place else name


def data_set(name: str) -> str:
    """Returns the path of a data set's yaml or folder; what is in neither place may be a name of the release."""
    if name == "digits" or "://" in name:
        return name
    place = first_there(name)
    return str(place) if place else name


def product(name: str) -> str:
    """Returns the path of a file or folder to write: where the user stands."""
    return str(here(name))


def located(name: str | Path) -> Path:
    """Returns the absolute path of a file: where the user stands, or, if it is not there, in the repository."""
    return first_there(name, Path.is_file) or ROOT / name


def shown(path: Path) -> str:
    """Returns a path as it is printed: relative to the repository where it lies in it."""
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
        PruningError: If they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise PruningError(f"cannot write into '{folder}' ({error.strerror})") from error
    return folder
