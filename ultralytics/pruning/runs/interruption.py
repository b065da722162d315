"""An orderly end on SIGTERM, as on Ctrl-C: what is saved, and how to go on."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..errors import PruningError

BY_SIGNAL = 128  # exit codes of processes that a signal ended begin here


class Terminated(KeyboardInterrupt):
    """A SIGTERM, which unwinds as Ctrl-C does: past everything that catches errors."""


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Turns SIGTERM into `Terminated` within the block; elsewhere, and in children, it ends a process as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can be told
        return
    owner = os.getpid()

    def end(number: int, _: Any) -> None:
        if os.getpid() != owner:  # a forked child, e.g. one that loads images
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def exit_code(error: KeyboardInterrupt) -> int:
    """Returns the exit code of a process that was interrupted."""
    return BY_SIGNAL + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def again(program: str, words: Sequence[str]) -> str:
    """Returns a command line as it was typed, but for `--overwrite`, which would begin anew what can go on.

    Args:
        program: The script, as seen from where the user stands.
        words: What was typed behind it.
    """
    return shlex.join(["python", program, *(word for word in words if word != "--overwrite")])


def saved_training(folder: Path, since: float, command: str, resume: str) -> str:
    """Returns what an interrupted training has saved, and how to go on.

    Args:
        folder: Of the run.
        since: When it began, in seconds since the epoch of the clock: what is older is not of this run.
        command: What was typed.
        resume: The command that goes on.
    """
    from ..files.places import shown

    last = folder / "weights" / "last.pt"
    with contextlib.suppress(PruningError, OSError):
        if last.stat().st_mtime >= since:
            content = checkpoint.load(last, trained_with_bn=False)[1]
            if checkpoint.is_finished(content):
                return f"all epochs are done, {shown(last)} holds the last"
            epochs = (content.get("train_args") or {}).get("epochs", "?")
            return f"{shown(last)} holds epoch {content['epoch'] + 1} of {epochs}; go on with: {resume}"
    return f"no epoch was finished, nothing is saved; begin anew with: {command}"
