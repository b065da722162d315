"""Which blocks of a network become integers: found by measurement, of time and of what the network says.

Integers are not faster everywhere. The first convolution reads three channels of a large image, which integers do
slower, and where floats become integers the larger tensor costs more: so some blocks from the first on stay in float,
as many as the clock says. Where accuracy is lost, the blocks go back to float that change the outputs most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import PruningError
from .integers import METHODS, Choice, Integers

MOST_BEGIN = 6  # blocks from the first on that may stay in float
GROWTH = 2  # of the number of sensitive blocks that stay in float, from one try to the next


@dataclass(frozen=True)
class Product:
    """A network in integers.

    Attributes:
        file: Its ONNX.
        choice: What of it is integers.
        before_ms: Milliseconds of the network in float, in turns with it.
        after_ms: Its own.
        accuracy: Of the network in integers, in 0..1.
    """

    file: Path
    choice: Choice
    before_ms: float
    after_ms: float
    accuracy: float

    @property
    def faster(self) -> float:
        """Milliseconds before over after."""
        return self.before_ms / self.after_ms


def fastest_within(
    integers: Integers,
    least: float,
    *,
    differs: Callable[[Path], float],
    timed: Callable[[Sequence[Path]], list[float]],
    measured: Callable[[Path], float],
    note: Callable[[str], None] = lambda text: None,
) -> Product:
    """Returns the fastest network in integers that was found with at least an accuracy, or the most accurate one.

    Args:
        integers: Writes them.
        least: The accuracy, in 0..1.
        differs: How much the outputs of a file differ from those of the network in float.
        timed: Milliseconds of the network in float, and of some files, in turns.
        measured: The accuracy of a file, in 0..1.
        note: Is told what is done.
    """
    note("calibrating")
    files = {METHODS[0]: integers.write(Choice(METHODS[0]))}
    for method in METHODS[1:]:
        with contextlib.suppress(PruningError):  # not for each network
            files[method] = integers.write(Choice(method))
    differences = {method: differs(file) for method, file in files.items()}
    method = min(differences, key=differences.__getitem__)

    note("timing")
    choices = [Choice(method, begin) for begin in range(min(MOST_BEGIN, len(integers.blocks) - 1) + 1)]
    begun = [files[method], *(integers.write(choice) for choice in choices[1:])]
    before, *after = timed(begun)
    best = min(range(len(choices)), key=after.__getitem__)
    found = [Product(begun[best], choices[best], before, after[best], measured(begun[best]))]
    if found[-1].accuracy >= least:
        return found[-1]

    note("looking for what costs accuracy")
    found.append(_tried(integers, replace(choices[best], reduced=True), timed, measured))
    if found[-1].accuracy >= least:
        return found[-1]
    start = max(found, key=lambda product: product.accuracy).choice
    order = sorted(
        range(start.begin, len(integers.blocks)),
        key=lambda number: -differs(integers.write(integers.alone(number, start))),
    )
    count = 1
    while count < len(order) and found[-1].accuracy < least:
        found.append(_tried(integers, replace(start, floats=frozenset(order[:count])), timed, measured))
        count *= GROWTH
    within = [product for product in found if product.accuracy >= least]
    return within[0] if within else max(found, key=lambda product: product.accuracy)


def _tried(
    integers: Integers,
    choice: Choice,
    timed: Callable[[Sequence[Path]], list[float]],
    measured: Callable[[Path], float],
) -> Product:
    """Writes, times and measures a choice."""
    file = integers.write(choice)
    before, after = timed([file])
    return Product(file, choice, before, after, measured(file))
