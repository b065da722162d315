"""Processes that end with the one that started them, however that ends: a killed run must not go on beside the next.

Run as a script, this starts the workers of a training on several GPUs: `workers.py torch.distributed.run WORDS`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
PARENT = "YOLO_PRUNING_PARENT"  # in the environment of a worker: the process that started it


def end_with_parent() -> None:
    """Lets the kernel kill this process when its parent ends."""
    with contextlib.suppress(OSError, AttributeError):  # not a Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with(parent: str | None) -> None:
    """Lets this process end with its parent; ends at once if that one is gone already."""
    if not parent:
        return
    end_with_parent()
    if os.getppid() != int(parent):
        os._exit(1)


def ending_with_this(command: Sequence[str]) -> list[str]:
    """Returns a command `python -m MODULE WORDS` in the form in which it, and all it starts, ends with this process."""
    python, option, module, *words = command
    assert option == "-m"
    return [python, os.path.abspath(__file__), str(os.getpid()), module, *words]


def main(parent: str, module: str, *words: str) -> None:
    """Runs a module as a script whose children end with it."""
    end_with(parent)
    os.environ[PARENT] = str(os.getpid())
    sys.path[0] = os.getcwd()  # as with `python -m`, in the place of the folder of this file
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
