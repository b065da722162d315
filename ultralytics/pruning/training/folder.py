"""One process at a time works in the folder of a training; a full disk there is one line."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ultralytics.cfg import get_save_dir
from ultralytics.utils import RANK

from ..files import locks, whole


@contextlib.contextmanager
def left_if_it_fails(trainer: Any) -> Iterator[None]:
    """Sets up a trainer within the block, which may lock the folder; if that fails, lets others in.

    Args:
        trainer: A trainer of the release; it gets `leave_folder`, which lets others in.
    """
    trainer.leave_folder = lambda: None
    try:
        yield
    except BaseException:
        trainer.leave_folder()
        with whole.naming_the_disk(Path(getattr(trainer, "save_dir", Path.cwd()))):
            raise


def lock_folder(trainer: Any) -> None:
    """Keeps other processes out of the folder that a trainer is about to write to; of several workers, the first does.

    Raises:
        PruningError: If another process works in it.
    """
    if RANK not in {-1, 0}:
        return
    trainer.args.save_dir = str(get_save_dir(trainer.args))
    if lock := locks.join(trainer.args.save_dir, worker=RANK != -1):
        trainer.leave_folder = weakref.finalize(trainer, lock.release)  # at the latest when nobody has the trainer


@contextlib.contextmanager
def left_at_the_end(trainer: Any) -> Iterator[None]:
    """Trains within the block; lets others into the folder afterwards, however that ends."""
    try:
        with whole.naming_the_disk(trainer.save_dir):
            yield
    finally:
        trainer.leave_folder()
