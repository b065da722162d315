"""How channels are scored: a criterion, what makes layers comparable, and what the score is divided by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..channels import ChannelMap
from ..errors import PruningError, hint
from ..gammas import all_gammas
from ..networks.wrappers import unwrapped
from . import CRITERIA, NORMALIZERS

PER = ("multiply-add",)


@dataclass(frozen=True)
class Scoring:
    """A way to score channels.

    Attributes:
        criterion: A key of `CRITERIA`.
        normalize: A key of `NORMALIZERS`; None for that of the criterion.
        per: `multiply-add`: the score is divided by what a group costs; None: it is not.
        gradients: From a network to the gradients of its loss on batches of training images, for criteria that need
            images (see `images.gradients`).
        outputs: From a network and its channels to what the outputs on images say to each group, for criteria that need
            outputs (see `gates.gate_gradients`).

    Raises:
        PruningError: If a name is unknown, or images are needed and there are none.
    """

    criterion: str = "slim"
    normalize: str | None = None
    per: str | None = None
    gradients: Callable[[nn.Module], Iterable[Mapping[str, Tensor]]] | None = None
    outputs: Callable[[nn.Module, ChannelMap], Iterable[np.ndarray]] | None = None

    def __post_init__(self) -> None:
        for what, name, known in (
            ("criterion", self.criterion, CRITERIA),
            ("normalizer", self.normalize, (*NORMALIZERS, None)),
            ("unit to score per", self.per, (*PER, None)),
        ):
            if name not in known:
                raise PruningError(f"unknown {what} '{name}'; {hint(str(name), filter(None, known))}")
        if self.per and (self.normalize or CRITERIA[self.criterion].normalize) == "gaussian":
            raise PruningError("gaussian scores may be negative: they cannot be divided by a cost")
        passes = {"images": self.gradients, "outputs": self.outputs}
        if passes.get(CRITERIA[self.criterion].needs, True) is None:
            raise PruningError(f"the criterion {self.criterion} needs training images: name them with --data")

    def __call__(self, channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
        """Returns the score of each group, float64 of shape (G,); NaN where the criterion cannot tell.

        Raises:
            PruningError: If the criterion reads batch-norm scales and the network has none.
        """
        model = unwrapped(model)
        criterion = CRITERIA[self.criterion]
        if criterion.needs == "scales" and not all_gammas(channel_map, model):
            others = ", ".join(name for name, other in CRITERIA.items() if other.needs != "scales")
            raise PruningError(
                f"the criterion {self.criterion} scores channels by their batch-norm scales, and this network has no "
                f"batch norm with scales; these need none: {others}"
            )
        gradients: Iterable[Any] | None = None
        if criterion.needs == "images" and self.gradients:
            gradients = self.gradients(model)
        elif criterion.needs == "outputs" and self.outputs:
            gradients = self.outputs(model, channel_map)
        return criterion(
            channel_map, model, gradients, normalize=self.normalize, per_multiply_add=self.per == "multiply-add"
        )

    def settings(self) -> dict[str, Any]:
        """Returns what a plan records of it."""
        chosen = {"normalize": self.normalize or CRITERIA[self.criterion].normalize, "per": self.per}
        return {"criterion": self.criterion, **chosen}
