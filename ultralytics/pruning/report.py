"""What a stage prints while it runs: lines, and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

NEVER_FAIL = "backslashreplace"  # what an encoding cannot show is shown as \xfc, and nothing is lost
NUMBER = re.compile(r"[-+]?\d.*|-?")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a plain-text table; columns of numbers are right-aligned.

    Args:
        header: Column titles.
        rows: Cells; anything that has a `str`.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    right = [all(NUMBER.fullmatch(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        aligned = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(row, widths, right, strict=True))
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, cells)])


def pixels(imgsz: Any) -> str:
    """Returns an image size in words: 640, or 480x640."""
    return "x".join(map(str, imgsz)) if isinstance(imgsz, (list, tuple)) else str(imgsz)


def threads_said(count: str) -> str:
    """Returns how many threads something was timed by, in words; a GPU has none, `-`."""
    return f"{count} thread" if count == "1" else f"{count} threads"


def say(text: str = "") -> None:
    """Prints a text at once, also where the output is buffered."""
    print(text, flush=True)
