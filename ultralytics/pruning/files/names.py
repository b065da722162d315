"""Names of files and folders that a user gives: only those that a file system can hold."""

from __future__ import annotations

import os

from ..errors import PruningError, quoted

NAME_BYTES = 200  # file systems allow 255; the names of replaced runs, and of runs in a sweep, grow longer
PART_BYTES, PATH_BYTES = 255, 4_095


def printable(text: str, what: str) -> str:
    """Returns a word unchanged.

    Raises:
        PruningError: If it is blank, or holds control characters such as a line break.
    """
    if not text.strip():
        raise PruningError(f"{quoted(text)} is empty; name {what}, or leave out the option")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise PruningError(f"{quoted(text)} holds a control character; name {what} without one")
    return text


def run_name(text: str) -> str:
    """Returns the name of a run folder."""
    printable(text, "a folder")
    if "/" in text or "\\" in text or text in {".", ".."}:
        raise PruningError(f"{quoted(text)}: the name of a folder under runs/, without slashes")
    if text.startswith((".", "-", "~")) or text != text.strip():
        raise PruningError(f"{quoted(text)}: the name of a run begins with neither '.', '-' nor '~'")
    if text == "model":
        raise PruningError("'model' is a name that the release replaces by another; choose a different one")
    if len(os.fsencode(text)) > NAME_BYTES:
        raise PruningError(f"{quoted(text)} is longer than the {NAME_BYTES} bytes that a run's name may have")
    return text


def path(text: str) -> str:
    """Returns a path: any that a file system can hold."""
    printable(text, "a file or folder")
    encoded = os.fsencode(text)
    if len(encoded) > PATH_BYTES or any(len(part) > PART_BYTES for part in encoded.split(b"/")):
        raise PruningError(f"{quoted(text)} is longer than a file system allows ({PART_BYTES} bytes for a name)")
    return text
