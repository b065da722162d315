"""What goes wrong through no fault of the code: said in one line; the stages then exit with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_QUOTE = 60  # characters of a wrong value that an error repeats


class PruningError(ValueError):
    """What was wrong, what was found and what to do, in one line."""


class NothingToRemoveError(PruningError):
    """A cut that would leave the network as it is."""


class UntrustedError(PruningError):
    """A file that would run code without the user's leave (see `trust`)."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def typed_line(error: BaseException) -> str:
    """Returns the type of an error and the first line of its message."""
    return f"{type(error).__name__}: {first_line(error) if str(error).strip() else 'no message'}"


def hint(word: str, known: Iterable[str]) -> str:
    """Returns which known word may have been meant by an unknown one, or all that are known."""
    known = list(known)
    close = closest(word, known)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"


def closest(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Returns what of the known somebody may have meant by a word, the most similar first; often nothing."""
    return difflib.get_close_matches(word, list(known), most)


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Returns a number and what it counts: 1 class, 10 classes."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def quoted(text: str) -> str:
    """Returns a value for an error: in quotes, in one line, shortened if it is long."""
    return repr(text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "...")
