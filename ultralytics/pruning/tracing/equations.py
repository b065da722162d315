"""Which widths a network's code names, and what that means for a cut.

While a network runs, each size that its code names for a labelled dimension, in `view(B, heads, 2 * key_dim +
head_dim, N)` or `split([c, c], 1)`, becomes an equation: this expression is the number of channels here. Solving them
says which module attributes the surgery has to bring up to date, and which parts of the network must keep equally many
channels. What cannot be solved is pinned.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..channels import FIXED, Labels
from .sizes import Attribute, Extent, Size, Symbol, Terms

FIXED_SIZE = "a size fixed in the code"


@dataclass(frozen=True)
class Equation:
    """An expression that must equal the number of kept channels among `labels`, int64 of shape (C,)."""

    terms: Terms
    constant: Fraction
    labels: np.ndarray


class Equations:
    """Collects equations while a network runs, and solves them at the end.

    Attributes:
        used: Attributes that must not change.
        valued: Those of them whose values matter for more than sizes.
    """

    def __init__(self, union: Labels) -> None:
        self._union = union
        self._equations: list[Equation] = []
        self._root_of = np.zeros(0, dtype=np.int64)
        self.used: set[Attribute] = set()
        self.valued: set[Attribute] = set()

    def use(self, symbols: Any) -> None:
        """Notes that numbers were used for something other than a size: the widths in them must not change."""
        symbols = list(symbols)
        self.valued.update(symbol for symbol in symbols if isinstance(symbol, Attribute))
        self.hold(symbols)

    def hold(self, symbols: Any) -> None:
        """Notes that sizes which no channel decides were given by these numbers: they must not change."""
        for symbol in symbols:
            if isinstance(symbol, Attribute):
                self.used.add(symbol)
            else:
                self._union.pin(symbol.labels, "its number of channels enters the calculation")

    def equate(self, size: Any, labels: np.ndarray) -> None:
        """Notes that a size which the code names is the number of channels with these labels."""
        if isinstance(size, Size):
            self._equations.append(Equation(size.terms, size.constant, labels))
        else:
            self._union.pin(labels, FIXED_SIZE)

    def solve(self) -> tuple[list[tuple[np.ndarray, np.ndarray]], dict[Attribute, np.ndarray]]:
        """Finds the attributes that follow the channels, pins what cannot be solved.

        Returns:
            Pairs of label vectors of which equally many must be kept, and the labels that each attribute counts.
        """
        self._root_of = self._union.roots()
        widths: dict[Attribute, np.ndarray] = {}
        attributes = {s for e in self._equations for s in e.terms if isinstance(s, Attribute)} - self.used
        for attribute in sorted(attributes, key=lambda a: (a.module, a.name, a.index or 0)):
            counted = [labels for e in self._equations if (labels := self._counts(attribute, e)) is not None]
            if counted:
                widths[attribute] = counted[0]
            else:
                self.used.add(attribute)
        pairs = []
        for equation in self._equations:
            if not any(isinstance(symbol, Extent) or symbol in widths for symbol in equation.terms):
                self._union.pin(equation.labels, FIXED_SIZE)
                continue
            left, right = map(self._roots, self._sides(equation, widths))
            if left != right:  # what stands on both sides says nothing
                pairs.append((_labels(left - right), _labels(right - left)))
        return pairs, widths

    def _counts(self, attribute: Attribute, equation: Equation) -> np.ndarray | None:
        """Returns the labels that an attribute counts by an equation `factor * attribute = labels`, or None."""
        if set(equation.terms) != {attribute} or equation.constant:
            return None
        factor = equation.terms[attribute]
        if factor.numerator == 1:
            return np.tile(equation.labels, factor.denominator)
        if factor.denominator != 1 or factor < 0:
            return None
        counts = self._roots(equation.labels)  # e.g. 3 * head_dim: each label must be there three times
        if any(count % factor.numerator for count in counts.values()):
            return None
        return np.repeat(list(counts), [count // factor.numerator for count in counts.values()])

    def _sides(self, equation: Equation, widths: dict[Attribute, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Writes an equation as two label vectors of which equally many must be kept."""
        scale = math.lcm(*(factor.denominator for factor in equation.terms.values()), equation.constant.denominator)
        left: list[np.ndarray] = []
        right: list[np.ndarray] = [np.tile(equation.labels, scale)]
        constant = equation.constant
        for symbol, factor in equation.terms.items():
            if isinstance(symbol, Attribute) and symbol not in widths:
                constant += factor * symbol.value
                continue
            labels = symbol.labels if isinstance(symbol, Extent) else widths[symbol]
            (left if factor > 0 else right).append(np.tile(labels, abs(int(factor * scale))))
        (left if constant > 0 else right).append(np.full(abs(int(constant * scale)), FIXED))
        return np.concatenate(left), np.concatenate(right)

    def _roots(self, labels: np.ndarray) -> Counter[int]:
        return Counter(self._root_of[labels].tolist())


def _labels(counts: Counter[int]) -> np.ndarray:
    """Returns each label as often as it is counted."""
    return np.array(list(counts.elements()), dtype=np.int64)


def free(size: Any, fixed: frozenset[Attribute]) -> bool:
    """Whether a size that code names may change: it is left open (-1), or made of widths that may."""
    if isinstance(size, Size):
        return not any(symbol in fixed for symbol in size.terms)
    return size == -1


def symbols_of(size: Any) -> tuple[Symbol, ...]:
    """Returns the symbols of a size, none for a plain number."""
    return tuple(size.terms) if isinstance(size, Size) else ()
