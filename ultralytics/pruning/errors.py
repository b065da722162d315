"""What goes wrong through no fault of the code: said in one line, by the stages with exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_QUOTE = 60  # characters of a wrong value that an error repeats


class PruningError(ValueError):
    """Says what was found and what to do, in one line."""


class NothingToRemoveError(PruningError):
    """A cut that would leave the network as it is."""


class UntrustedError(PruningError):
    """A file that would run code, which nobody said it may (see `trust`)."""


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def typed_line(error: BaseException) -> str:
    """Returns the type of an error and the first line of what it says."""
    return f"{type(error).__name__}: {first_line(error) if str(error).strip() else 'no message'}"


def hint(word: str, known: Iterable[str]) -> str:
    """Returns what somebody may have meant by an unknown word, or all that is known."""
    known = list(known)
    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Returns a number of things in words: 1 class, 10 classes."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def quoted(text: str) -> str:
    """Returns a value for an error: in quotes, in one line, the beginning of a long one."""
    return repr(text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "...")
