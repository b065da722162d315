"""A network of some of its classes: the rows of the others go out of the class layers, and nothing else changes.

That is exact where each class has a score of its own: a sigmoid of its row. Heads in which classes compete, or choose
what is looked at, give other numbers without the others, and are refused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import PruningError, closest, counted
from .classes import class_layers, reads_text, reorder
from .keeping import known_names

NOTE = "kept_classes"  # attribute of a network of some of its classes: plain data of `KeptClasses`
SHOWN = 10  # names in an error
COMPETE = {  # class name of a head -> why it is another one without some of its classes
    "Classify": "its scores are a softmax over all classes, which rise where others are gone",
    "SemanticSegment": "each pixel has the best of all classes, and gets another one where that is gone",
    "RTDETRDecoder": "it looks for objects where any of all classes scores best, and so elsewhere without some",
    "Depth": "it has no classes",
}


@dataclass(frozen=True)
class KeptClasses:
    """Which classes of a network are kept.

    Attributes:
        numbers: Their rows in the network as it came, ascending.
        names: Their names.
        of: How many classes it had.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    of: int

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain data, for a plan."""
        return {"kept": list(self.numbers), "names": list(self.names), "of": self.of}


def keep_classes(model: Any, wanted: str | Sequence[str | int]) -> tuple[Any, KeptClasses]:
    """Returns a copy of a network without the rows of all classes but some.

    Args:
        model: The network; it is left as it is.
        wanted: Names or numbers of the classes to keep, or a text of them with commas; they keep the network's order.

    Returns:
        The copy, whose `names`, `nc` and `yaml` follow, and which classes it has.

    Raises:
        PruningError: If a class is unknown or named twice, none or all are kept, or the scores of the kept classes
            would be others than before.
    """
    _refuse_competing(model)
    names = known_names(model)
    numbers = sorted(_numbers(names, wanted))
    if len(numbers) == len(names):
        raise PruningError(f"these are all {counted(len(names), 'class', 'classes')} of the network: nothing would go")
    kept = KeptClasses(tuple(numbers), tuple(names[i] for i in numbers), len(names))
    smaller = copy.deepcopy(model)
    smaller.criterion = None  # was made for all classes
    smaller.__dict__.pop("class_weights", None)
    reorder(smaller, numbers, kept.names)
    setattr(smaller, NOTE, kept.to_dict())
    return smaller, kept


def keeps_some(model: Any) -> bool:
    """Whether a network is one of some of its classes, which a data set with more of them still serves."""
    return bool(getattr(model, NOTE, None))


def check_kept(model: Any, noted: Mapping[str, Any]) -> None:
    """Refuses classes that a plan notes as kept where they are none of this network.

    Args:
        model: The network as it came.
        noted: Plain data of `KeptClasses`.

    Raises:
        PruningError: If the network has another number of classes, or others in their places.
    """
    names = known_names(model)
    if len(names) != noted["of"] or [names[i] for i in noted["kept"]] != list(noted["names"]):
        raise PruningError(
            f"the plan keeps {', '.join(noted['names'][:SHOWN])} of {counted(noted['of'], 'class', 'classes')}, this "
            f"network has {', '.join(names[:SHOWN])}"
        )


def _refuse_competing(model: Any) -> None:
    """Raises a PruningError for a network whose kept scores would not stay the same."""
    head = getattr(model, "model", [model])[-1]
    kind = type(head).__name__
    for parent in type(head).__mro__:
        if why := COMPETE.get(parent.__name__):
            raise PruningError(f"a {kind} cannot lose single classes exactly: {why}")
    if reads_text(head):
        raise PruningError(
            f"a {kind} takes its classes as texts, it has no rows for them: model.set_classes([...]) of the release "
            f"gives it others, prune it behind that"
        )
    if not any(True for _ in class_layers(head)):
        raise PruningError(f"a {kind} has no class layer that is known here")


def _numbers(names: list[str], wanted: str | Sequence[str | int]) -> list[int]:
    """Returns the rows of classes that are named, or given by their numbers."""
    words = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    numbers: list[int] = []
    for word in words:
        number = _number(names, word.strip() if isinstance(word, str) else word)
        if number in numbers:
            raise PruningError(f"class {number} '{names[number]}' is named twice among those to keep")
        numbers.append(number)
    if not numbers:
        raise PruningError("no class is named that would be kept")
    return numbers


def _number(names: list[str], word: Any) -> int:
    """Returns the row of one class. A name comes first: networks of digits have numbers as names."""
    if isinstance(word, str):
        for key in (str, lambda name: str(name).strip().lower()):  # as written, if there is one
            places = [i for i, name in enumerate(names) if key(name) == key(word)]
            if len(places) > 1:
                raise PruningError(f"the network has {len(places)} classes of the name '{word}': give their numbers")
            if places:
                return places[0]
        if not (word.isascii() and word.removeprefix("-").isdecimal() and len(word) < 9):
            raise PruningError(f"'{word}' is no class of the network; {_known(names, word)}")
        word = int(word)
    if type(word) is not int or not 0 <= word < len(names):
        raise PruningError(f"there is no class {word!r:.60}: the numbers of the network's are 0 to {len(names) - 1}")
    return word


def _known(names: list[str], word: str) -> str:
    """Returns which class may have been meant, or the first ones that there are."""
    if close := closest(word, names):
        return f"did you mean '{close[0]}'?"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"there are {', '.join(names[:SHOWN])}{more}"
