"""All operations of random networks by name, and how often each is drawn."""

import functools
from collections.abc import Callable

import grammar_attention
import grammar_branches
import grammar_steps
from grammar import PINNING, USUAL, Builder

PARTS = (grammar_attention, grammar_branches, grammar_steps)  # importing them fills the two tables
ACTIVATIONS = {
    f"act: {name}": functools.partial(grammar_steps.activate, name=name)
    for name in (*grammar_steps.MODULES, *grammar_steps.FUNCTIONS)
    if name != "ReLU in place"  # only behind a convolution: others read its input too
}
NAMED: dict[str, Callable[[Builder], None]] = {**USUAL, **PINNING}
OPERATIONS: dict[str, Callable[[Builder], None]] = {**NAMED, **ACTIVATIONS}
DRAWN = ("conv",) * 10 + tuple(USUAL) * 5 + tuple(PINNING) * 3 + tuple(ACTIVATIONS) * 2
