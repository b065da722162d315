"""The folders of runs: what one holds, and how a new run takes the place of an old one.

An old run is set aside, not removed: it lies beside the new one as `.NAME.replaced` until that one has ended, and comes
back where the new one was refused or killed before it had anything worth keeping.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ..checkpoints import checkpoint
from ..data.sets import resolve_data
from ..errors import PruningError
from ..files.locks import LOCK, alone_in
from ..files.places import run_folder, shown, write_folder
from ..files.whole import naming_the_disk, temporary_folder
from ..report import say
from . import resuming
from .belongings import COMPRESSION, MEASURING, TRAINING, check_own, foreign
from .moved import relocated
from .resuming import check_results


def interrupted_run(folder: Path) -> Path:
    """Returns the checkpoint to go on from.

    Raises:
        PruningError: If there is none, or the run is finished, or its `results.csv` is damaged.
    """
    last = folder / "weights" / "last.pt"
    if not last.is_file():
        raise PruningError(f"nothing to resume: '{shown(last)}' is not there; start the run without --resume")
    network, content = checkpoint.load(last)
    if checkpoint.is_finished(content):
        raise PruningError(f"nothing to resume: the run in '{shown(folder)}' is finished; use --overwrite or --name")
    resuming.check_state(last.parent, content["epoch"])
    check_results(folder / "results.csv", content["epoch"] + 1)
    args = content["train_args"]
    resolve_data(relocated(args["data"], args.get("save_dir"), folder.resolve()), task=network.task)
    return last


def visible(folder: Path) -> list[str]:
    """Returns what a folder holds, but for hidden files: locks, and what a killed process had begun to write."""
    return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.is_dir() else []


def replaced_by(folder: Path) -> Path:
    """Returns where the run that a new one replaces is kept until the new one has ended."""
    return folder.with_name(f".{folder.name}.replaced")


def kept_runs(folder: Path) -> list[Path]:
    """Returns the runs that were set aside for a folder, the latest last: one for each new run that did not end."""
    first = replaced_by(folder)
    form = re.compile(re.escape(first.name) + r"(?:-(\d+))?")
    entries = first.parent.iterdir() if first.parent.is_dir() else ()
    found = {int(match[1] or 1): entry for entry in entries if (match := form.fullmatch(entry.name)) and entry.is_dir()}
    return [found[number] for number in sorted(found)]


def put_aside(folder: Path) -> Path:
    """Renames a folder, if it is there, so that a new run can take its place; returns where it is kept."""
    kept = kept_runs(folder)
    place = replaced_by(folder)
    if kept:
        number = int(kept[-1].name.rpartition("-")[2]) if kept[-1] != place else 1
        place = place.with_name(f"{place.name}-{number + 1}")
    if folder.is_dir():
        folder.rename(place)
    return place


def put_back(folder: Path, kept: Path) -> None:
    """Lets a run that was set aside come back in the place of a new one that has nothing worth keeping."""
    shutil.rmtree(folder, ignore_errors=True)
    if kept.is_dir():
        kept.rename(folder)


def forget_replaced(folder: Path) -> None:
    """Removes the runs that were set aside for a folder, once its own has ended."""
    for kept in kept_runs(folder):
        shutil.rmtree(kept, ignore_errors=True)


def recover(folder: Path, *, ended: Callable[[Path], bool]) -> None:
    """Tidies up behind a killed process that had set a run aside. The folder's lock must be held.

    Args:
        folder: Of the run.
        ended: Whether a folder holds a whole run.
    """
    kept = kept_runs(folder)
    if not kept:
        return
    if ended(folder):
        forget_replaced(folder)
    elif (
        has_epoch(folder)
        or has_table(folder)
        or has_state(folder)
        or foreign(folder, (*TRAINING, *MEASURING, *COMPRESSION))
    ):
        say(f"The run that '{shown(folder)}' replaces is kept in '{shown(kept[-1])}' until the new one has ended")
    else:
        put_back(folder, kept[-1])
        say(f"The run in '{shown(folder)}' is back: the one that was to replace it was killed before it had anything")


def has_epoch(folder: Path) -> bool:
    """Whether a training has finished an epoch."""
    return (folder / "weights" / "last.pt").is_file()


def has_state(folder: Path) -> bool:
    """Whether a folder holds a compression, which the same command continues."""
    return (folder / "state.json").is_file()


def is_whole(folder: Path) -> bool:
    """Whether a training has ended."""
    with contextlib.suppress(PruningError):
        content = checkpoint.load(folder / "weights" / "last.pt", trained_with_bn=False)[1]
        return content.get("epoch", -1) < 0 and content.get("optimizer") is None
    return False


def set_aside(folder: Path, *, overwrite: bool) -> Path:
    """Makes room for a new training.

    Returns:
        Where the run that was there, if any, is kept (see `put_aside`).

    Raises:
        PruningError: If the folder holds a run and `overwrite` is not set, or something other than a training.
    """
    if [name for name in _entries(folder) if name != LOCK] and not (folder / "args.yaml").is_file():
        raise PruningError(f"'{shown(folder)}' holds something other than a training; choose another --name")
    if has_epoch(folder) and not overwrite:
        state = "a run"
        with contextlib.suppress(PruningError):  # a checkpoint that cannot be read
            finished = checkpoint.is_finished(checkpoint.load(folder / "weights" / "last.pt", trained_with_bn=False)[1])
            state = "a finished run" if finished else "an interrupted run, which --resume continues"
        raise PruningError(
            f"'{shown(folder)}' holds {state}; --overwrite replaces it, --resume goes on with an interrupted one, "
            f"--name OTHER keeps it"
        )
    check_own(folder, TRAINING, "a training")
    return put_aside(folder)


def _entries(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


@contextlib.contextmanager
def room_for(name: str, *, overwrite: bool) -> Iterator[tuple[Path, Path]]:
    """Keeps a run folder for a measurement; an old one is replaced when the block has ended without an error.

    Yields:
        Where finished results belong, and where those of the release are made.

    Raises:
        PruningError: If the name is no plain one, another process works in the folder, or what it holds is not to be
            replaced.
    """
    folder = run_folder(name)
    with alone_in(folder):
        recover(folder, ended=has_table)
        check_room(folder, overwrite=overwrite)
        write_folder(folder.parent)
        replaces = bool(visible(folder))
        try:
            with naming_the_disk(folder), temporary_folder(folder.parent, name) as work:
                results = work / "results" if replaces else write_folder(folder)
                results.mkdir(exist_ok=True)
                yield results, work
                if replaces:
                    put_aside(folder)
                    results.rename(folder)
                    forget_replaced(folder)
        finally:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()  # nothing came out of it


def has_table(folder: Path) -> bool:
    """Whether a measurement has written its table."""
    return (folder / "val.csv").is_file()


def check_room(folder: Path, *, overwrite: bool) -> None:
    """Refuses a folder that holds what must not be replaced.

    Raises:
        PruningError: If it does.
    """
    if (folder / "weights").exists():
        raise PruningError(f"'{shown(folder)}' holds a training; choose another --name")
    if not visible(folder):
        return
    if not overwrite:
        raise PruningError(f"'{shown(folder)}' is there already; --overwrite replaces it, --name OTHER keeps it")
    if not has_table(folder):
        raise PruningError(f"'{shown(folder)}' holds something other than a measurement; choose another --name")
    check_own(folder, MEASURING, "val.py")
