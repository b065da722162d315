"""What the stages ask of the release beside a network: silence, and which sizes of images it takes as they are."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from .errors import PruningError

LARGEST_SIDE = 8_192  # of an image, in pixels: what one can need of a machine's memory


@contextlib.contextmanager
def quiet_release(least: int = logging.WARNING) -> Iterator[None]:
    """Leaves only what the release says at this level, or above, on the screen: its warnings by default."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(least)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def check_side(imgsz: int | Sequence[int], model: Any) -> None:
    """Refuses a size of images that a network does not take as it is.

    Raises:
        PruningError: If a side is no multiple of the network's stride; classifiers take any.
    """
    import torch

    if model.task == "classify":
        return
    stride = max(int(torch.as_tensor(getattr(model, "stride", 32)).max()), 32)
    for side in [imgsz] if isinstance(imgsz, int) else imgsz:
        if side % stride:
            raise PruningError(
                f"imgsz {side}: this network takes multiples of {stride}, e.g. {side + stride - side % stride}"
            )
