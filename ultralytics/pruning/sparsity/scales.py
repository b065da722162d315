"""The batch-norm scales (gamma) and shifts (beta) that a sparsity training works on, as one vector of K channels.

One vector takes a handful of operations per step, whatever the number of batch norms: a loop over the modules costs
more than a training step can afford.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..channels import ChannelMap
from ..errors import PruningError
from ..gammas import Gamma, gammas_of

FADED = 1e-3  # |gamma| below which a channel counts as faded: what it adds is noise, and folding absorbs the rest


@dataclass(frozen=True)
class Scales:
    """The gammas and betas of all batch norms with a prunable channel that are trained.

    Attributes:
        names: Names of the batch norms.
        gammas: Their gammas, (C_i,) each; K is the sum of the C_i.
        betas: Their betas, (C_i,) each.
        free: Which of the K channels can be pruned, bool of shape (K,).
        groups: The group of each channel, int64 of shape (K,).
        members: Number of gammas in each group, of shape (G,); at least 1.
        whole: Which groups can fade as a whole, since none of their gammas is frozen, bool of shape (G,).
    """

    names: tuple[str, ...]
    gammas: list[Tensor]
    betas: list[Tensor]
    free: Tensor
    groups: Tensor
    members: Tensor
    whole: np.ndarray

    @classmethod
    def of(cls, model: nn.Module, channel_map: ChannelMap) -> Scales:
        """Collects them.

        Raises:
            PruningError: If no gamma can be pruned, or all that can are frozen, but for the head.
        """
        norms = {name: gamma for name, gamma in gammas_of(channel_map, model).items() if gamma.free.any()}
        trained = {name: gamma for name, gamma in norms.items() if gamma.parameter.requires_grad}
        _check_trained(trained, norms, model)

        groups = np.concatenate([gamma.groups for gamma in trained.values()])
        members = np.bincount(groups, minlength=len(channel_map.channels)).clip(1)
        whole = channel_map.free & np.isin(np.arange(len(channel_map.channels)), groups)
        for gamma in norms.values():
            whole[gamma.groups] &= gamma.parameter.requires_grad

        gammas = [gamma.parameter for gamma in trained.values()]
        device = gammas[0].device
        return cls(
            names=tuple(trained),
            gammas=gammas,
            betas=[gamma.beta for gamma in trained.values()],
            free=torch.as_tensor(channel_map.free[groups], device=device),
            groups=torch.as_tensor(groups, device=device),
            members=torch.as_tensor(members, device=device),
            whole=whole,
        )

    @property
    def sizes(self) -> list[int]:
        """C_i of each batch norm."""
        return [len(gamma) for gamma in self.gammas]

    @functools.cached_property
    def masks(self) -> list[Tensor]:
        """1 where a channel can be pruned, 0 elsewhere, (C_i,) each."""
        return list(self.free.to(self.gammas[0].dtype).split(self.sizes))

    def values(self) -> Tensor:
        """Returns all gammas, of shape (K,)."""
        return torch.cat([gamma.detach() for gamma in self.gammas])

    def prunable(self) -> Tensor:
        """Returns |gamma| of the channels that can be pruned."""
        return self.values().abs()[self.free]

    def by_norm(self) -> dict[str, Tensor]:
        """Returns |gamma| of the channels that can be pruned, by batch norm."""
        parts = zip(self.names, self.gammas, self.free.split(self.sizes), strict=True)
        return {name: gamma.detach().abs()[free] for name, gamma, free in parts}

    def sparsity(self) -> float:
        """Returns the share of faded gammas among those that can be pruned."""
        return float((self.prunable() < FADED).float().mean())

    def per_group(self, values: Tensor) -> Tensor:
        """Adds up values (K,) over the members of each group, to shape (G,), in the same order on every device."""
        return torch.cat([values, values.new_zeros(1)])[self._places].sum(1)

    @functools.cached_property
    def _places(self) -> Tensor:
        """Where the members of each group are, int64 of shape (G, most members); K where there are no more."""
        groups = self.groups.cpu().numpy()
        order = np.argsort(groups, kind="stable")
        starts = np.searchsorted(groups[order], np.arange(len(self.members)))
        places = np.full((len(self.members), int(self.members.max())), len(groups))
        places[groups[order], np.arange(len(groups)) - starts[groups[order]]] = order
        return torch.as_tensor(places, device=self.groups.device)

    def write(self, tensors: list[Tensor], values: Tensor) -> None:
        """Writes values (K,) into the gammas or the betas."""
        torch._foreach_copy_([tensor.detach() for tensor in tensors], list(values.split(self.sizes)))


def _check_trained(trained: dict[str, Gamma], norms: dict[str, Gamma], model: nn.Module) -> None:
    """Raises a PruningError if all batch norms with prunable channels are frozen, but for those of the head."""
    count, of = (sum(int(gamma.free.sum()) for gamma in some.values()) for some in (trained, norms))
    body = getattr(model, "model", None)
    head = f"model.{len(body) - 1}." if isinstance(body, nn.Sequential) else None
    if not trained or (count < of and head and all(name.startswith(head) for name in trained)):
        raise PruningError(
            f"only {count:,} of {of:,} batch-norm scales that can be pruned are trained, the others are frozen and "
            f"cannot fade: train the backbone, too (freeze=...)"
        )
