"""Whether a network in memory is still the one that something else was made from."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from typing import Any

from torch import Tensor, nn


def fingerprint(network: Any) -> Hashable:
    """Returns a value that another cut, another layer or other weights make another one; no weight is read.

    Args:
        network: A network; of anything else, such as the path of an export, the value says nothing.
    """
    if not isinstance(network, nn.Module):
        return None
    tensors = (*network.parameters(), *network.buffers())
    return (*map(type, network.modules()), *((t.data_ptr(), _version(t), tuple(t.shape)) for t in tensors))


def _version(tensor: Tensor) -> int:
    """Returns how often a tensor was written to in place; it is not counted for those made to predict only."""
    return 0 if tensor.is_inference() else tensor._version


@contextlib.contextmanager
def predictor_of_this_network(model: Any) -> Iterator[None]:
    """Predicts within the block, not with the copy of a network that has changed since.

    Args:
        model: A model of the release, which keeps its predictor from call to call.
    """
    now = fingerprint(model.model)
    if model.predictor and getattr(model.predictor, "copied_from", now) != now:
        model.predictor = None
    yield
    if model.predictor and not hasattr(model.predictor, "copied_from"):
        model.predictor.copied_from = now
