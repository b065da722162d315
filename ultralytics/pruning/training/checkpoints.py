"""Checkpoints of a training appear whole, and a run that is resumed goes on exactly (see `runs/resuming.py`)."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER, RANK

from ..files import whole
from ..release import quiet_release
from ..runs import resuming
from . import precision


@contextlib.contextmanager
def written_whole(trainer: Any) -> Iterator[None]:
    """Saves an epoch's checkpoints within the block: beside their places, to which they are renamed afterwards.

    Raises:
        DiskFullError: If the disk is full; what was there before is there still.
    """
    folder, last, best = trainer.wdir, trainer.last, trainer.best
    shutil.rmtree(folder / ".writing", ignore_errors=True)  # half-written files that a run of long ago left
    with whole.naming_the_disk(folder), whole.temporary_folder(folder, "epoch") as temporary:
        try:
            trainer.wdir, trainer.last, trainer.best = temporary, temporary / last.name, temporary / best.name
            with precision.saved_in_float32(trainer):
                yield
        finally:
            trainer.wdir, trainer.last, trainer.best = folder, last, best

        # last.pt at the end: a run that is resumed from it finds all that belongs to its epoch
        resuming.save_state(trainer)
        for file in sorted(temporary.iterdir(), key=lambda file: file.name == last.name):
            os.replace(file, folder / file.name)
    resuming.remove_states(folder, but=trainer.epoch)


def go_on_exactly(trainer: Any) -> None:
    """Brings a resumed trainer, and its sparsity training, to where they were; says so if they cannot be.

    Raises:
        PruningError: If a file of the run is damaged, or the run cannot go on without one that is missing.
    """
    if not trainer.resume:
        return
    if RANK in {-1, 0}:
        resuming.forget_unsaved_epochs(trainer.csv, trainer.start_epoch)
    if trainer.sparsity:
        resuming.load_sparsity(trainer, trainer.start_epoch - 1)
    if RANK in {-1, 0} and (RANK == 0 or not resuming.load_state(trainer)):
        LOGGER.warning("there is no exact state of this epoch: going on from the averaged weights of last.pt")


def recover_sparsity(trainer: Any, epoch: int) -> None:
    """Brings a sparsity training back behind an epoch, counted from 0, in which the loss was no number."""
    if trainer.sparsity:
        resuming.load_sparsity(trainer, epoch - 1)


def forget_states(trainer: Any) -> None:
    """Removes, once all epochs are done, what the run would have gone on from."""
    if RANK in {-1, 0}:
        resuming.remove_states(trainer.wdir)


def stripped_whole(
    release: Callable[..., dict[str, Any]], checkpoint: str | Path, target: str | Path, updates: dict[str, Any] | None
) -> dict[str, Any]:
    """Takes out of a checkpoint what only a training needs, like the release, but never writing in place.

    Args:
        release: The release's `strip_optimizer`.
        checkpoint: The file.
        target: Where the result goes; empty for the same place.
        updates: What it holds besides.

    Returns:
        What it holds now; nothing if it was no checkpoint.
    """
    place = Path(target or checkpoint)
    whole.remove_leftovers(place.parent, place.stem)
    temporary = place.with_name(whole.temporary_name(place.stem) + place.suffix)
    try:
        with quiet_release(), whole.naming_the_disk(place.parent):  # it would name the temporary file
            stripped = release(checkpoint, temporary, updates)
            if temporary.exists():  # else it was no checkpoint, as the release has said
                precision.held_in_half(stripped, checkpoint, temporary)
                os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)

    if stripped:
        LOGGER.info(f"Optimizer stripped from {checkpoint}, {place.stat().st_size / 1e6:.1f}MB")
    return stripped
