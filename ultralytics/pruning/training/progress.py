"""One more column in the progress line, behind the losses: the share of faded gammas during a sparsity training.

The release makes a bar for each epoch and tells it nothing of its trainer, so the column is kept for the training that
runs: in its thread, from its begin to its end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

_column: ContextVar[str] = ContextVar("_column", default="")


@contextlib.contextmanager
def column_of_one_training() -> Iterator[None]:
    """Trains within the block; a training in another thread, inside of this one or after it does not see its column."""
    before = _column.set("")
    try:
        yield
    finally:
        _column.reset(before)


def column() -> str:
    """Returns what the training that runs shows behind the release's columns: nothing if it is not one for sparsity."""
    return _column.get()


def show_sparsity(trainer: Any) -> None:
    """Gives a sparsity training its column, and the heading of it; the share is computed once for each batch."""
    if not trainer.sparsity:
        return
    columns = trainer.progress_string
    trainer.progress_string = lambda: columns() + f"{'sparsity':>11}"
    trainer.add_callback("on_train_batch_start", _show_share)


def _show_share(trainer: Any) -> None:
    _column.set(f"{trainer.sparsity.scales.sparsity():11.4g}")
