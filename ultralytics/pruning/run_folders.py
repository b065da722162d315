"""The folders of trainings: what one holds, and how a new run takes its place."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from . import checkpoint
from .data_sets import resolve_data
from .errors import PruningError
from .stages import shown


def interrupted_run(folder: Path) -> Path:
    """Returns the checkpoint to go on from.

    Raises:
        PruningError: If there is none, or the run is finished.
    """
    last = folder / "weights" / "last.pt"
    if not last.is_file():
        raise PruningError(f"nothing to resume: '{shown(last)}' is not there; start the run without --resume")
    network, content = checkpoint.load(last)
    if checkpoint.is_finished(content):
        raise PruningError(f"nothing to resume: the run in '{shown(folder)}' is finished; use --overwrite or --name")
    resolve_data(content["train_args"]["data"], task=network.task)
    return last


def replaced_by(folder: Path) -> Path:
    """Returns where the run that a new one replaces is kept until the new one has ended."""
    return folder.with_name(f".{folder.name}.replaced")


def set_aside(folder: Path, *, overwrite: bool) -> Path:
    """Makes room for a new run.

    Returns:
        Where the run that was there, if any, is kept (see `replaced_by`).

    Raises:
        PruningError: If the folder holds a run and `overwrite` is not set.
    """
    last = folder / "weights" / "last.pt"
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "args.yaml").is_file():
        raise PruningError(f"'{shown(folder)}' holds something else than a training; choose another --name")
    if last.is_file() and not overwrite:
        state = "a run"
        with contextlib.suppress(PruningError):  # a checkpoint that cannot be read
            finished = checkpoint.is_finished(checkpoint.load(last, trained_with_bn=False)[1])
            state = "a finished run" if finished else "an interrupted run, which --resume continues"
        raise PruningError(
            f"'{shown(folder)}' holds {state}; --overwrite replaces it, --resume goes on with an interrupted one, "
            f"--name OTHER keeps it"
        )
    replaced = replaced_by(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.is_dir():
        folder.rename(replaced)
    return replaced
