"""Integers that remember which widths they were computed from, so that a view or a split can be followed through a cut.

While a network is traced, `x.shape[1]` and the integer attributes of its modules are `Size`s: plain ints for all who
use them, but with the linear expression that they stand for, e.g. `2 * key_dim + head_dim`. Where one is used as a
size of channels, it becomes an equation (see `equations.py`). Where it is used for anything else, such as scaling
values by `head_dim ** -0.5`, the widths in it must not change, and they are noted as used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from torch import nn


@dataclass(frozen=True)
class Attribute:
    """An integer that a module stores.

    Attributes:
        module: Its name in `model.named_modules()`.
        name: Name of the attribute.
        value: What it holds.
        index: Place in a list or tuple of integers; None for a single one.
    """

    module: str
    name: str
    value: int
    index: int | None = None

    @property
    def place(self) -> str:
        """Name of the attribute, with the place in a list behind a dot: `c`, `sizes.1`."""
        return self.name if self.index is None else f"{self.name}.{self.index}"


@dataclass(frozen=True, eq=False)
class Extent:
    """The number of channels along a tensor's labelled dimension.

    Attributes:
        labels: Their labels, int64 of shape (C,).
    """

    labels: np.ndarray


LAYER_WIDTHS = ("in_channels", "out_channels", "in_features", "out_features", "num_features")
Symbol = Attribute | Extent
Terms = dict[Symbol, Fraction]


class Size(int):
    """An integer with the linear expression that it stands for: a sum of factor * symbol, plus a constant.

    Attributes:
        terms: Factor of each symbol.
        constant: What is added.
        used: Called with the symbols when the number is used for anything but a linear expression.
    """

    terms: Terms
    constant: Fraction
    used: Callable[[Any], None]

    @classmethod
    def of(cls, symbol: Symbol, value: int, used: Callable[[Any], None]) -> Size:
        """Returns the size that stands for one symbol."""
        return cls._make(value, {symbol: Fraction(1)}, Fraction(0), used)

    @classmethod
    def _make(cls, value: int, terms: Terms, constant: Fraction, used: Callable[[Any], None]) -> Any:
        terms = {symbol: factor for symbol, factor in terms.items() if factor}
        if not terms:
            return int.__index__(value)
        size = cls(value)
        size.terms, size.constant, size.used = terms, constant, used
        return size

    def plain(self) -> int:
        """Returns the number alone, and notes that it was used."""
        self.used(self.terms)
        return int.__index__(self)

    def _plus(self, other: Any, sign: int, own_sign: int = 1) -> Any:
        if isinstance(other, float):
            return own_sign * self.plain() + sign * other
        if not isinstance(other, int):
            return NotImplemented
        terms = {symbol: own_sign * factor for symbol, factor in self.terms.items()}
        constant = own_sign * self.constant
        if isinstance(other, Size):
            for symbol, factor in other.terms.items():
                terms[symbol] = terms.get(symbol, Fraction(0)) + sign * factor
            constant += sign * other.constant
        else:
            constant += sign * other
        value = own_sign * int.__index__(self) + sign * int.__index__(other)
        return self._make(value, terms, constant, self.used)

    def __add__(self, other: Any) -> Any:
        return self._plus(other, 1)

    def __sub__(self, other: Any) -> Any:
        return self._plus(other, -1)

    def __rsub__(self, other: Any) -> Any:
        return self._plus(other, 1, -1)

    def __neg__(self) -> Any:
        return self._times(Fraction(-1))

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Size):  # a product of widths is not linear: the smaller one stays as it is
            small, large = sorted((self, other), key=int.__index__)
            return large._times(Fraction(small.plain()))
        if isinstance(other, int):
            return self._times(Fraction(other))
        return self.plain() * other if isinstance(other, float) else NotImplemented

    def __floordiv__(self, other: Any) -> Any:
        divisor = other.plain() if isinstance(other, Size) else other
        if isinstance(divisor, int) and divisor and int.__index__(self) % divisor == 0:
            return self._times(Fraction(1, divisor))
        return self.plain() // divisor

    def _times(self, factor: Fraction) -> Any:
        terms = {symbol: share * factor for symbol, share in self.terms.items()}
        return self._make(int(int.__index__(self) * factor), terms, self.constant * factor, self.used)

    __radd__, __rmul__ = __add__, __mul__


def _using(name: str) -> Callable[..., Any]:
    """Returns an int's method that notes the use of the widths."""

    def method(self: Size, *others: Any) -> Any:
        others = tuple(other.plain() if isinstance(other, Size) else other for other in others)
        return getattr(self.plain(), name)(*others)

    return method


_OTHER_USES = "truediv rtruediv rfloordiv mod rmod divmod rdivmod pow rpow float int round abs and or lshift rshift"
for _name in (*_OTHER_USES.split(), "eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Size, f"__{_name}__", _using(f"__{_name}__"))
Size.__hash__ = int.__hash__  # type: ignore[method-assign]


def sizes_in(value: Any) -> Iterator[Size]:
    """Yields the sizes in nested lists, tuples, slices and dicts."""
    if isinstance(value, Size):
        yield value
    elif isinstance(value, slice):
        yield from sizes_in((value.start, value.stop, value.step))
    elif isinstance(value, dict):
        yield from sizes_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from sizes_in(item)


def _is_numbers(value: Any) -> bool:
    """Whether an attribute holds an integer, or a list of integers."""
    if type(value) in (list, tuple):
        return bool(value) and all(type(item) is int for item in value)
    return type(value) is int


@contextlib.contextmanager
def attributes_as_sizes(
    names: dict[nn.Module, str], layers: tuple[type, ...], used: Callable[[Any], None]
) -> Iterator[None]:
    """Turns the integer attributes of modules, and lists of integers, into sizes; gives them back at the end.

    Args:
        names: The modules, with their names.
        layers: Types of modules that are cut themselves: of these only the widths.
        used: Called with the symbols of a size that is used for anything but a size.
    """

    def as_size(name: str, key: str, value: Any) -> Any:
        if type(value) is int:
            return Size.of(Attribute(name, key, value), value, used)
        return type(value)(Size.of(Attribute(name, key, item, i), item, used) for i, item in enumerate(value))

    saved: list[tuple[nn.Module, str, Any]] = []
    try:
        for module, name in names.items():
            for key, value in list(vars(module).items()):
                if _is_numbers(value) and (key in LAYER_WIDTHS or not isinstance(module, layers)):
                    saved.append((module, key, value))
                    vars(module)[key] = as_size(name, key, value)
        yield
    finally:
        for module, key, value in saved:
            vars(module)[key] = value
