"""Whether a network in memory is still the one that something else was made from."""

from __future__ import annotations

from collections.abc import Hashable
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
