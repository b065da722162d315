"""How important each group of channels is, by published criteria. Higher is kept.

A criterion is called with the channel map and the model and gives one score per group, float64 of shape (G,); NaN where
it cannot tell, and such a group is kept. The functions behind the names are in `magnitude.py` and `sensitivity.py`,
what makes the scores of different layers comparable in `normalizing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..channels import ChannelMap
from ..cost import macs_of_groups
from ..errors import PruningError
from ..networks.wrappers import unwrapped
from .magnitude import bn_norm, bn_scale, filter_l1, filter_l2, filter_l2_squared, geometric_median, group_norm, random
from .normalizing import NORMALIZERS, normalized
from .sensitivity import group_fisher, group_hessian, group_taylor

ON_IMAGES = ("images", "outputs")  # what criteria may need that takes images


@dataclass(frozen=True)
class Criterion:
    """A published criterion.

    Attributes:
        values: What it computes for each group, float64 of shape (G,).
        about: One line for a person.
        normalize: What makes layers comparable by default, a key of `NORMALIZERS`: as its paper does, and `mean` where
            that compares only channels of one layer (`l1`, `l2`, `fpgm`).
        needs: What it reads besides the structure: `scales` of batch norms, gradients of the loss on labelled `images`,
            what the network says of images (`outputs`), or nothing in particular.
    """

    values: Callable[..., np.ndarray]
    about: str
    normalize: str = "none"
    needs: str = ""

    def __call__(
        self,
        channel_map: ChannelMap,
        model: nn.Module,
        gradients: Iterable[Any] | None = None,
        *,
        normalize: str | None = None,
        per_multiply_add: bool = False,
    ) -> np.ndarray:
        """Scores the groups of a network.

        Args:
            channel_map: The traced network.
            model: The network.
            gradients: For criteria that need images, the gradients of the loss on batches of them, by parameter name
                (see `images.gradients`); for those that need outputs, what these say to the groups (see
                `gates.gate_gradients`).
            normalize: What makes layers comparable; by default what the criterion names.
            per_multiply_add: Whether a score is divided by the multiply-adds that its group costs.

        Returns:
            One score per group, float64 of shape (G,); NaN where the criterion cannot tell.

        Raises:
            PruningError: If the normalizer is unknown, gives scores that cannot be divided by a cost, or the criterion
                needs gradients and there are none.
        """
        model, how = unwrapped(model), normalize or self.normalize
        if how not in NORMALIZERS:
            raise PruningError(f"unknown normalizer '{how}'; there are {', '.join(NORMALIZERS)}")
        if per_multiply_add and how == "gaussian":
            raise PruningError("gaussian scores may be negative: they cannot be divided by a cost")
        if self.needs in ON_IMAGES:
            if gradients is None:
                raise PruningError("this criterion needs gradients on training images")
            scores = self.values(channel_map, model, gradients)
        else:
            scores = self.values(channel_map, model)
        scores = normalized(channel_map, scores, how)
        return scores / macs_of_groups(channel_map).clip(1) if per_multiply_add else scores


CRITERIA: dict[str, Criterion] = {
    "random": Criterion(random, "a fixed random order: what any other has to beat"),
    "l1": Criterion(filter_l1, "L1 norm of the filters", "mean"),
    "l2": Criterion(filter_l2, "L2 norm of the filters", "mean"),
    "slim": Criterion(bn_scale, "mean |gamma| of the batch norms", needs="scales"),
    "group_slim": Criterion(bn_norm, "L2 norm of a group's gammas", needs="scales"),
    "group_norm": Criterion(group_norm, "norm of all weights of a group", "mean"),
    "lamp": Criterion(filter_l2_squared, "squared filter norm over that of the larger ones in the layer", "lamp"),
    "fpgm": Criterion(geometric_median, "distance to the other filters of the layer", "mean"),
    "group_taylor": Criterion(group_taylor, "first-order change of the loss, on images", needs="images"),
    "group_hessian": Criterion(group_hessian, "second-order change of the loss, on images", needs="images"),
    "group_fisher": Criterion(group_fisher, "change of what the network says of images, no labels", needs="outputs"),
}

__all__ = ["CRITERIA", "NORMALIZERS", "ON_IMAGES", "Criterion", "bn_scale"]
