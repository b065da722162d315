"""What to do when memory ends: the same work in smaller parts, and GPUs left to those who need them."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from ..errors import PruningError
from ..report import say

AnyWay = TypeVar("AnyWay")
Result = TypeVar("Result")
# As CUDA's libraries, MPS, PyTorch on a CPU, OpenCV and ONNX Runtime say it, where it is no OutOfMemoryError
WORDS = re.compile(
    r"out of memory|can't allocate memory|not enough memory|insufficient memory|failed to allocate memory"
    r"|_alloc_failed|unable to find an engine to execute",
    re.IGNORECASE,
)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory has ended, of a GPU or of the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, Exception) and WORDS.search(str(error)) is not None
    )


def free_gpu_memory() -> None:
    """Gives the memory of dead tensors back to the GPU: of cycles that hold them, and what PyTorch keeps."""
    apple = torch.backends.mps.is_available()
    if torch.cuda.is_initialized() or apple:
        gc.collect()
    torch.cuda.empty_cache()
    if apple:
        torch.mps.empty_cache()


def leave_gpus(owner: Any) -> None:
    """Moves a network to the CPU, so that other processes have the GPUs.

    Args:
        owner: A trainer, or a model of the release, with the network as `model`. A predictor of it, which holds a copy,
            is made anew when it is needed.
    """
    if isinstance(owner.model, nn.Module):
        owner.model.cpu()
    if getattr(owner, "predictor", None) is not None:
        owner.predictor = None
    free_gpu_memory()


def halves(whole: int) -> list[int]:
    """Returns a number of images and its halves, down to 1: 12, 6, 3, 1."""
    found = [max(whole, 1)]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


def divisors(whole: int) -> list[int]:
    """Returns a number of images and, each at most half of the one before, its divisors, down to 1: 12, 6, 3, 1."""
    found = [max(whole, 1)]
    while found[-1] > 1:
        found.append(next(part for part in range(found[-1] // 2, 0, -1) if found[-1] % part == 0))
    return found


class Shrinking(Generic[AnyWay]):
    """Does pieces of work, each again in the next way when memory ends; the way stays for the pieces that follow.

    Args:
        what: The work, in words.
        ways: How it can be done, from the one that takes the most memory to the one that takes the least, which has one
            image at once; as text, each says how many.
    """

    def __init__(self, what: str, ways: Sequence[AnyWay]) -> None:
        self._what, self._ways = what, list(ways)

    @property
    def way(self) -> AnyWay:
        """How work is done now."""
        return self._ways[0]

    def __call__(self, work: Callable[[AnyWay], Result]) -> Result:
        """Does a piece of work, from its begin in each way: nothing of a try that failed may be left.

        Raises:
            PruningError: If memory ends in the last way, too.
        """
        while True:
            try:
                return work(self.way)
            except Exception as error:
                if not ran_out(error):
                    raise
            gc.collect()  # here: the error and, with it, the tensors of its frames are gone
            free_gpu_memory()
            if len(self._ways) == 1:
                raise PruningError(
                    f"memory ends in {self._what}, even with a single image at once: take smaller images (--imgsz), "
                    f"another --device, or end what else uses its memory"
                )
            before = self._ways.pop(0)
            say(f"Memory ended in {self._what} with {before} images at once: again with {self.way}")
