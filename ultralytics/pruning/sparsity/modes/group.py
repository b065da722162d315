"""The group mode: proximal, but gammas that a shortcut ties shrink as one and reach zero together."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..scales import Scales
from .base import BY_EPOCHS, Traits, by_epochs
from .proximal import Proximal, shrink


def shrink_groups(scales: Scales, step: float, bias_step: float = 0.0, where: Tensor | None = None) -> None:
    """Shrinks the norm of each coupled group of gammas, so that its members reach zero together.

    The proximal step of `step * sqrt(n) * |gammas of the group|_2`, n the group's size: the root mean square of a group
    moves by `step`, whatever its size.

    Source: group lasso, Yuan and Lin 2006; for channels, arXiv 1608.03665.

    Args:
        scales: The gammas.
        step: How far, at least 0.
        bias_step: How far each prunable beta moves towards zero, by itself.
        where: Which of the K channels; by default all that can be pruned.
    """
    where = scales.free if where is None else where
    values = scales.values()
    root_mean_square = (scales.per_group(values.square()) / scales.members).sqrt()
    factors = (1 - step / root_mean_square.clamp_min(1e-12)).clamp_min(0)[scales.groups]
    scales.write(scales.gammas, torch.where(where, values * factors, values))
    shrink(scales, 0.0, bias_step, where)


GROUP = Traits(
    partial(Proximal, step=shrink_groups),
    "shrinks coupled groups of gammas as one, to exact zeros",
    default_strength=by_epochs,
    default_said=BY_EPOCHS,
)
