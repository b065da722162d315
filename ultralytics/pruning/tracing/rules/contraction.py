"""Products of matrices: sums over a dimension, to which a removed channel adds nothing if it is zero."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..tape import Tape
from .call import Call, Rule
from .elementwise import variants


def contract(tape: Tape, operands: Sequence[tuple[Tensor, str]], result: Tensor, out: str) -> bool:
    """Labels a sum of products.

    Args:
        tape: The notes of the run.
        operands: Each tensor with a letter for each of its dimensions, as in `einsum`.
        result: The sum over all letters that are not in `out`.
        out: The letters of its dimensions.
    """
    letters: dict[str, list[np.ndarray]] = {}
    silent: set[str] = set()
    items = [(tensor, places, tape.labelled(tensor)) for tensor, places in operands]
    for _, places, item in items:
        if item is not None:
            letter = places[item.dim]
            letters.setdefault(letter, []).append(item.labels)
            silent |= {letter} if item.silent else set()

    put = None
    for letter, vectors in letters.items():
        width = max(len(labels) for labels in vectors)
        constant = any(
            tensor.shape[places.index(letter)] == width > 1 and (item is None or places[item.dim] != letter)
            for tensor, places, item in items
            if letter in places
        )

        equal = [labels for labels in vectors if len(labels) == width]
        tape.union.unite_all(equal)
        loud = letter not in out and letter not in silent
        constant |= letter in out and result.shape[out.index(letter)] != width
        if constant or loud or len(equal) < len(vectors) or (letter in out and put):
            for labels in vectors:
                tape.union.pin(labels, "tied to a constant" if constant else "several dimensions of channels")
        elif letter in out:
            put = letter

    if put:
        return tape.put(result, out.index(put), letters[put][0], silent=put in silent)
    return True


def matmul(tape: Tape, call: Call) -> bool:
    """(..., n, k) times (..., k, m)."""
    first, second = call.args[0], call.argument(1, "other", call.kwargs.get("mat2"))
    if call.short_name == "__rmatmul__":
        first, second = second, first
    if first.ndim < 2 or second.ndim < 2 or not isinstance(call.result, Tensor):
        return False
    batch = string.ascii_lowercase[: call.result.ndim - 2]
    places = [
        (first, batch[len(batch) - first.ndim + 2 :] + "NK"),
        (second, batch[len(batch) - second.ndim + 2 :] + "KM"),
    ]
    return contract(tape, places, call.result, batch + "NM")


def einsum(tape: Tape, call: Call) -> bool:
    """A sum of products with its letters spelled out."""
    equation, *given = call.args
    operands = given[0] if given and isinstance(given[0], (tuple, list)) else given
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return False
    places, out = equation.replace(" ", "").split("->")
    words = places.split(",")
    if any(len(set(word)) < len(word) for word in words):
        return False
    return contract(tape, list(zip(operands, words, strict=True)), call.result, out)


def attention(tape: Tape, call: Call) -> bool:
    """softmax(q k^T / sqrt(E)) v; the default scale depends on E, the width of q and k."""
    query, key, value = (call.argument(i, name) for i, name in enumerate(("query", "key", "value")))
    if query.ndim < 2 or not query.ndim == key.ndim == value.ndim or call.argument(3, "attn_mask") is not None:
        return False
    if call.argument(6, "scale") is None:
        for item in (tape.labelled(query), tape.labelled(key)):
            if item is not None and item.dim == query.ndim - 1:
                tape.union.pin(item.labels, "its number of channels enters the calculation")
    batch = string.ascii_lowercase[: query.ndim - 2]
    scores = torch.empty((*call.result.shape[:-1], key.shape[-2]))
    contract(tape, [(query, batch + "LE"), (key, batch + "SE")], scores, batch + "LS")
    if item := tape.labelled(scores):  # behind the softmax, over S, nothing is zero
        if item.dim == scores.ndim - 1:
            tape.union.pin(item.labels, "normalised together")
        tape.put(scores, item.dim, item.labels, silent=False)
    return contract(tape, [(scores, batch + "LS"), (value, batch + "SV")], call.result, batch + "LV")


CONTRACTIONS: dict[object, Rule] = {
    **dict.fromkeys([*variants("matmul", "bmm", "mm"), Tensor.__matmul__, Tensor.__rmatmul__], matmul),
    torch.einsum: einsum,
    F.scaled_dot_product_attention: attention,
}
