"""Repairs a choice of channels until every rule holds. Channels are only ever given back, the best first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..channels import ChannelMap
from ..cost import KeptCounts
from .limits import Limits, filters, least_of_parts


@dataclass(frozen=True)
class BlockRules:
    """The rules about the inside of one block: none of them holds once the block is taken out whole.

    Attributes:
        inner: The block's inner groups, int of shape (N,).
        parts: The numbers of the parts that lie in it, int.
        balances: The numbers of the balances that lie in it, int.
        inputs: The numbers of the layers' inputs that lie in it, int.
    """

    inner: np.ndarray
    parts: np.ndarray
    balances: np.ndarray
    inputs: np.ndarray


class Repair:
    """Gives back channels where a layer falls below its least, is not rounded, or parts of a tensor differ.

    Each rule is about the places of one tensor's channels (a *part*): how many of them stay at least, and in which
    steps. A *balance* makes several parts equal. What depends on the network alone is computed once, so that a repair
    takes well below a millisecond per pass.

    Args:
        channel_map: The traced network.
        limits: The rules of the layers.
        ranks: Place of each group in the order of importance, of shape (G,); the highest come back first.
    """

    def __init__(self, channel_map: ChannelMap, limits: Limits, ranks: np.ndarray) -> None:
        self._ranks = ranks
        self._index: dict[bytes, int] = {}
        self._parts: list[np.ndarray] = []
        self._least: list[int] = []
        self._step: list[int] = []

        for name, outputs in filters(channel_map).items():
            self._add(outputs, least=max(limits.least(name, len(outputs)).values()), step=limits.round_to)
        for part, least in least_of_parts(channel_map, limits):
            self._add(part, least=least)
        self._balances = [self._add_balance(balance.parts) for balance in channel_map.balances]

        self._inputs = list({layer.inputs.tobytes(): layer.inputs for layer in channel_map.layers.values()}.values())
        self._input_counts = KeptCounts(self._inputs)
        layers_may_go = limits.min_channels == 1 and limits.max_ratio == 1
        blocks = channel_map.blocks if layers_may_go else ()
        self._blocks = [self._rules_inside(channel_map, block.inner) for block in blocks]

        self._counts = KeptCounts(self._parts)
        self._least_of, self._step_of = np.array(self._least), np.array(self._step)
        self._width = np.array([len(part) for part in self._parts])
        self._best_first = [self._sorted(part) for part in self._parts]

    def _add(self, part: np.ndarray, least: int = 0, step: int = 1) -> int:
        """Notes a rule, joined with those on the same places; returns its number."""
        index = self._index.setdefault(part.tobytes(), len(self._parts))
        if index == len(self._parts):
            self._parts.append(part)
            self._least.append(0)
            self._step.append(1)
        self._least[index] = max(self._least[index], least)
        self._step[index] = math.lcm(self._step[index], step)
        return index

    def _add_balance(self, parts: tuple[np.ndarray, ...]) -> np.ndarray:
        """Notes equal parts; returns their numbers.

        The rule of a layer whose output they are goes over to them: the layer's own rule would restore channels of one
        part, which then lifts the others, and so on. Each part keeps whole steps, as hardware reads the parts alone.
        """
        least, step = 0, 1
        whole = self._index.get(np.concatenate(parts).tobytes())
        if whole is not None and len(parts) > 1:
            least = -(-self._least[whole] // len(parts))
            step = self._step[whole]
            self._least[whole], self._step[whole] = 0, 1
        return np.array([self._add(part, least, step) for part in parts])

    def _rules_inside(self, channel_map: ChannelMap, inner: np.ndarray) -> BlockRules:
        """Returns the rules about a block's inner groups."""
        inside = np.zeros(len(channel_map.channels), dtype=bool)
        inside[inner] = True
        parts = [index for index, part in enumerate(self._parts) if inside[part].all()]
        balances = [i for i, balance in enumerate(channel_map.balances) if inside[np.concatenate(balance.parts)].any()]
        inputs = [index for index, part in enumerate(self._inputs) if inside[part].all()]
        return BlockRules(inner, *(np.array(numbers, dtype=int) for numbers in (parts, balances, inputs)))

    def _sorted(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns a part's groups, the best first, and how many of its places each of them has."""
        groups, places = np.unique(part, return_counts=True)
        best = np.argsort(-self._ranks[groups], kind="stable")
        return groups[best], places[best]

    def __call__(self, kept: np.ndarray) -> np.ndarray:
        """Returns the choice with what the rules give back, bool of shape (G,); `kept` is left as it is."""
        kept = kept.copy()
        while True:
            taken_out = [block for block in self._blocks if not kept[block.inner].any()]
            counts = self._counts(kept)
            wanted = self._wanted(counts, taken_out)
            short = np.flatnonzero(counts < wanted)
            for index in short:
                self._restore(kept, int(index), int(wanted[index]))

            may_be_empty = {int(index) for block in taken_out for index in block.inputs}
            if not len(short) and not self._fill_inputs(kept, may_be_empty):
                return kept

    def _wanted(self, counts: np.ndarray, taken_out: list[BlockRules]) -> np.ndarray:
        """Returns how many places each part must keep, where it keeps `counts` now; both int, one for each part."""
        least = self._least_of.copy()
        for block in taken_out:
            least[block.parts] = 0
        wanted = -(-np.maximum(counts, least) // self._step_of) * self._step_of
        wanted = np.minimum(wanted, self._width)

        suspended = {int(index) for block in taken_out for index in block.balances}
        for number, parts in enumerate(self._balances):
            if number not in suspended:
                wanted[parts] = wanted[parts].max()
        return wanted

    def _restore(self, kept: np.ndarray, index: int, wanted: int) -> None:
        """Gives back the best groups of a part until `wanted` of its places are kept."""
        groups, places = self._best_first[index]
        gone = ~kept[groups]
        missing = wanted - int(self._width[index]) + int(places[gone].sum())
        if missing > 0:
            count = int(np.searchsorted(np.cumsum(places[gone]), missing)) + 1
            kept[groups[gone][:count]] = True

    def _fill_inputs(self, kept: np.ndarray, may_be_empty: set[int]) -> bool:
        """Gives back the best group of each layer's input that is empty, e.g. one part of a split; whether any is."""
        empty = [index for index in np.flatnonzero(self._input_counts(kept) == 0) if index not in may_be_empty]
        for index in empty:
            inputs = self._inputs[index]
            if not kept[inputs].any():
                kept[inputs[np.argmax(self._ranks[inputs])]] = True
        return len(empty) > 0
