"""The uniform pulls on the gammas: as a subgradient of the loss, or as a proximal step behind the optimizer's.

All of them move only gammas that can be pruned. One call per optimizer step; nothing in here waits for a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .scales import Scales


def add_subgradient(scales: Scales, strength: float, bias_strength: float = 0.0) -> None:
    """Adds the subgradient of `strength * sum |gamma|`, which is `strength * sign(gamma)`, to the gradients.

    Call it after the backward pass and before the optimizer's step.

    Source: Network Slimming, arXiv 1708.06519, equation (1).

    Args:
        scales: The gammas.
        strength: s(e).
        bias_strength: The same for the betas.
    """
    for tensors, own in ((scales.gammas, strength), (scales.betas, bias_strength)):
        reached = [
            (tensor, mask) for tensor, mask in zip(tensors, scales.masks, strict=True) if tensor.grad is not None
        ]
        if not own or not reached:
            continue
        with torch.no_grad():
            pulls = torch._foreach_sign([tensor for tensor, _ in reached])
            torch._foreach_mul_(pulls, [mask for _, mask in reached])
            gradients: list[Any] = [tensor.grad for tensor, _ in reached]
            torch._foreach_add_(gradients, pulls, alpha=own)


def shrink(scales: Scales, step: float, bias_step: float = 0.0, where: Tensor | None = None) -> None:
    """Moves each prunable gamma towards zero by `step`, and to exactly zero what is nearer than that.

    The proximal step of `step * |gamma|`: gamma = sign(gamma) * max(|gamma| - step, 0).

    Source: iterative soft-thresholding, arXiv 1802.00124, section 4.

    Args:
        scales: The gammas.
        step: How far, at least 0.
        bias_step: The same for the betas.
        where: Which of the K channels, all that can be pruned by default.
    """
    where = scales.free if where is None else where
    for tensors, own in ((scales.gammas, step), (scales.betas, bias_step)):
        if own:
            values = torch.cat([tensor.detach() for tensor in tensors])
            scales.write(tensors, torch.where(where, torch.nn.functional.softshrink(values, own), values))


def shrink_groups(scales: Scales, step: float, bias_step: float = 0.0, where: Tensor | None = None) -> None:
    """Shrinks the norm of each coupled group of gammas, so that its members reach zero together.

    The proximal step of `step * sqrt(n) * |gammas of the group|_2`, n the group's size: the root mean square of a group
    moves by `step`, whatever its size.

    Source: group lasso, Yuan and Lin 2006; for channels, arXiv 1608.03665.

    Args:
        scales: The gammas.
        step: How far, at least 0.
        bias_step: How far each prunable beta moves towards zero, alone.
        where: Which of the K channels, all that can be pruned by default.
    """
    where = scales.free if where is None else where
    values = scales.values()
    root_mean_square = (scales.per_group(values.square()) / scales.members).sqrt()
    factors = (1 - step / root_mean_square.clamp_min(1e-12)).clamp_min(0)[scales.groups]
    scales.write(scales.gammas, torch.where(where, values * factors, values))
    shrink(scales, 0.0, bias_step, where)


PROXIMAL_STEPS = {"proximal": shrink, "group": shrink_groups}
