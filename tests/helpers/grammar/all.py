"""All operations of random networks by name, and how often each is drawn."""

import functools
from collections.abc import Callable

from helpers.grammar import attention, branches, steps
from helpers.grammar.base import PINNING, USUAL, Builder

PARTS = (attention, branches, steps)  # importing them fills the two tables
ACTIVATIONS = {
    f"act: {name}": functools.partial(steps.activate, name=name)
    for name in (*steps.MODULES, *steps.FUNCTIONS)
    if name != "ReLU in place"  # only behind a convolution: others read its input too
}
NAMED: dict[str, Callable[[Builder], None]] = {**USUAL, **PINNING}
OPERATIONS: dict[str, Callable[[Builder], None]] = {**NAMED, **ACTIVATIONS}
DRAWN = ("conv",) * 10 + tuple(USUAL) * 5 + tuple(PINNING) * 3 + tuple(ACTIVATIONS) * 2
