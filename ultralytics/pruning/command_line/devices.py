"""Where a stage runs: the device that is wanted, else the best that is there, and how many cores a CPU may use."""

from __future__ import annotations

import argparse
import os

from ..errors import PruningError, counted
from . import kinds


def cores() -> int:
    """Returns how many cores of the CPU this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(wanted: str) -> str:
    """Returns the device to use: the wanted one, else the first GPU, else the CPU, on which all cores then work.

    Raises:
        PruningError: If this machine does not have the wanted one.
    """
    import torch

    from ultralytics.utils import LOGGER

    wanted = checked_device(wanted)
    if wanted and wanted != "cpu":
        return wanted
    if not wanted and torch.cuda.is_available():
        return "0"
    use_all_cores()
    if not wanted:
        LOGGER.info(
            f"No CUDA device found: running on the CPU with {counted(cores(), 'thread')} (--device decides otherwise)"
        )
    return "cpu"


def checked_device(wanted: str) -> str:
    """Returns a device as the release names it; empty if none is wanted.

    Raises:
        PruningError: If it is none, or this machine does not have it.
    """
    import torch

    try:
        wanted = kinds.as_device(wanted)
    except argparse.ArgumentTypeError as error:
        raise PruningError(f"--device {error}") from error
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise PruningError("--device mps: this machine has none; use --device cpu")
    if wanted and wanted not in {"cpu", "mps"}:
        count = torch.cuda.device_count()
        if not all(int(index) < count for index in wanted.split(",")):
            raise PruningError(
                f"--device {wanted}: this machine has {counted(count, 'CUDA device')}; use --device cpu, or numbers "
                f"such as 0 or 0,1"
            )
    return wanted


def use_all_cores() -> None:
    """Lets PyTorch work on all cores of the CPU, at full speed also where channels have faded."""
    import torch

    from ultralytics.utils import torch_utils

    # Fading channels end in denormal numbers, on which a CPU is several times slower; before any thread is started.
    torch.set_flush_denormal(True)
    torch_utils.NUM_THREADS = cores()  # the release's select_device would give PyTorch one core less
    torch.set_num_threads(cores())
