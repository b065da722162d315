"""The release's losses, where they keep a tensor on another device than the prediction's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def on_the_device_of_the_prediction(
    decode: Callable[..., Tensor], loss: Any, anchor_points: Tensor, pred_dist: Tensor, *more: Any, **named: Any
) -> Tensor:
    """Moves `proj`, which boxes are decoded with, to the prediction's device, and decodes them.

    Args:
        decode: The release's method.
        loss: The loss whose method it is; `proj` is 0, 1, ... `reg_max` - 1.
        anchor_points: As the method takes them, and what follows.
        pred_dist: The predicted distributions.
        more: Further arguments, of a subclass.
        named: Further arguments by name.
    """
    if loss.proj.device != pred_dist.device:  # made anew, not copied: a tensor on `meta` has no values to copy
        loss.proj = torch.arange(len(loss.proj), dtype=loss.proj.dtype, device=pred_dist.device)
    return decode(loss, anchor_points, pred_dist, *more, **named)
