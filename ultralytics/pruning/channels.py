"""What tracing finds out about a network: which channels exist, which are one, which must stay.

Every channel that a layer produces carries a *label* while the network runs (see `tracing/tape.py`). Labels that an
elementwise operation ties together form a *group*: a set of channels, often of several layers, that is kept or
removed as a whole. A `ChannelMap` describes a network by groups alone, so that scores, plans and costs are array
arithmetic and need neither the network nor a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FIXED = 0  # the label of what no layer makes, such as the image's channels or padding: always there


@dataclass(frozen=True)
class Layer:
    """One layer that the network ran, with the group of each of its input and output channels.

    Attributes:
        name: Its name in `model.named_modules()`; for a parameter of a module, e.g. a layer scale, the parameter's.
        kind: `Conv2d`, `ConvTranspose2d`, `Linear` or `BatchNorm2d`; `Parameter` or `Buffer` for a tensor of a module
            with a value for each channel.
        inputs: Group of each input channel, int64 of shape (C_in,).
        outputs: Group of each output channel, int64 of shape (C_out,).
        conv_groups: The `groups` of a convolution, else 1.
        kernel_cells: kH * kW of a convolution, else 1.
        cells: How often each weight is used for one image, summed over all calls of the layer: output cells
            (H_out * W_out), for a transposed convolution input cells.
        bias: Whether the layer adds a bias.
        norm: Name of the batch norm that alone reads this layer's output, or None.
        deployed: Whether it is a part of the deployed network (see `deployed.py`).
    """

    name: str
    kind: str
    inputs: np.ndarray
    outputs: np.ndarray
    conv_groups: int = 1
    kernel_cells: int = 1
    cells: int = 1
    bias: bool = False
    norm: str | None = None
    deployed: bool = True

    @property
    def is_norm(self) -> bool:
        """Whether the layer is a batch norm, which has gammas, not filters."""
        return self.kind == "BatchNorm2d"

    @property
    def has_filters(self) -> bool:
        """Whether the layer makes channels: a convolution or a linear layer."""
        return self.kind in ("Conv2d", "ConvTranspose2d", "Linear")

    @property
    def is_depthwise(self) -> bool:
        """Whether each filter of a convolution reads one channel."""
        return self.conv_groups == len(self.inputs) > 1


@dataclass(frozen=True)
class Balance:
    """Parts of one tensor's channels that must keep equally many, e.g. the halves of `chunk(2)`.

    Attributes:
        parts: Group of each channel, one int64 array per part.
    """

    parts: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Block:
    """A residual block that can be taken out whole (see `blocks.py`).

    Attributes:
        name: Its name in `model.named_modules()`.
        inner: The groups that only it has, int64 of shape (n,).
        layers: Names of its layers.
    """

    name: str
    inner: np.ndarray
    layers: tuple[str, ...]


@dataclass(frozen=True)
class ChannelMap:
    """The channels of a network and what ties them.

    Attributes:
        layers: The layers by name, in the order of their first run.
        channels: Number of channels (labels) in each group, int64 of shape (G,).
        pinned: Why a group must be kept, by group; a group that is not in here is free.
        balances: Constraints on equally many kept channels.
        widths: Groups whose kept number a module stores, by (module name, attribute name), e.g. `("model.2", "c")`;
            `("model.9", "sizes.1")` is the second number of a list.
        unknown: How often each operation without a rule met labelled channels; these are pinned.
        other_parameters: Parameters of the network outside of `layers`.
        blocks: Residual blocks that go when all of their inner groups go, outer ones before those inside of them.
        training_only: Those among `other_parameters` that are not deployed.
        parts: Group of each channel of the tensors that are neither the input nor the output of a layer, such as the
            parts of a split. None may end empty: a product of matrices, a softmax or a runtime that reads it would have
            nothing to read.
    """

    layers: dict[str, Layer]
    channels: np.ndarray
    pinned: dict[int, str]
    balances: tuple[Balance, ...]
    widths: dict[tuple[str, str], np.ndarray]
    unknown: dict[str, int]
    other_parameters: int
    blocks: tuple[Block, ...] = ()
    training_only: int = 0
    parts: tuple[np.ndarray, ...] = ()

    @property
    def free(self) -> np.ndarray:
        """Which groups may be removed, bool of shape (G,)."""
        mask = self.channels > 0
        mask[list(self.pinned)] = False
        return mask

    @property
    def free_share(self) -> float:
        """Share of all channels that may be removed, in 0..1."""
        return float(self.channels[self.free].sum() / self.channels.sum())

    def pinned_channels(self) -> dict[str, int]:
        """Number of pinned channels by reason."""
        counts: dict[str, int] = {}
        for group, reason in self.pinned.items():
            if self.channels[group]:
                counts[reason] = counts.get(reason, 0) + int(self.channels[group])
        return counts

    def taken_out(self, kept: np.ndarray) -> list[Block]:
        """Returns the blocks of which no inner channel is kept, without those inside of another one of them.

        Args:
            kept: Which groups stay, bool of shape (G,).
        """
        out: list[Block] = []
        for block in self.blocks:
            inside = any(block.name.startswith(f"{other.name}.") for other in out)
            if not inside and not kept[block.inner].any():
                out.append(block)
        return out

    def norms(self) -> list[Layer]:
        """The batch norms, in the order of their first run."""
        return [layer for layer in self.layers.values() if layer.is_norm]


class Labels:
    """Hands out labels and remembers which are one and which are pinned."""

    def __init__(self) -> None:
        self._channel: list[bool] = [False]
        self._one: list[tuple[np.ndarray, np.ndarray]] = []
        self._reason: dict[int, str] = {FIXED: "not made by a layer"}

    def new(self, count: int, *, channel: bool = True) -> np.ndarray:
        """Returns `count` new labels, int64 of shape (count,); `channel=False` for what makes no channel of its own."""
        start = len(self._channel)
        self._channel.extend([channel] * count)
        return np.arange(start, start + count)

    def makes_channels(self, labels: np.ndarray) -> bool:
        """Whether any of these labels was made by a layer."""
        return any(self._channel[label] for label in labels.tolist())

    def roots(self) -> np.ndarray:
        """Returns the smallest label of each label's group, int64 of shape (L,)."""
        roots = np.arange(len(self._channel))
        if not self._one:
            return roots
        first, second = (np.concatenate(part) for part in zip(*self._one, strict=True))
        while True:  # each round ties every group to the smallest of its neighbours
            first, second = roots[first], roots[second]
            apart = first != second
            if not apart.any():
                return roots
            first, second = first[apart], second[apart]
            np.minimum.at(roots, np.maximum(first, second), np.minimum(first, second))
            while (roots != (further := roots[roots])).any():
                roots = further

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Makes the channels at the same place one: they are kept or removed together."""
        assert len(first) == len(second), (len(first), len(second))
        apart = first != second
        fixed = apart & ((first == FIXED) | (second == FIXED))
        for label in np.maximum(first, second)[fixed].tolist():
            self._reason.setdefault(label, "tied to what no layer makes")
        tied = apart & ~fixed
        if tied.any():
            self._one.append((first[tied], second[tied]))

    def unite_all(self, vectors: Sequence[np.ndarray] | np.ndarray) -> None:
        """Makes the channels at the same place of all vectors, or rows of an array, one."""
        for vector in vectors[1:]:
            self.unite(vectors[0], vector)

    def pin(self, labels: np.ndarray, reason: str) -> None:
        """Marks channels that must be kept; the last reason stands."""
        self._reason.update(dict.fromkeys(labels.tolist(), reason))

    def groups(self) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """Numbers the groups.

        Returns:
            The group of each label (L,), the number of channels in each group (G,), and the reason by pinned group.
        """
        _, group_of = np.unique(self.roots(), return_inverse=True)
        channels = np.bincount(group_of, weights=np.array(self._channel, dtype=np.int64)).astype(np.int64)
        pinned: dict[int, str] = {}
        for label, reason in self._reason.items():
            pinned.setdefault(int(group_of[label]), reason)
        return group_of, channels, pinned
