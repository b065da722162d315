"""HTML and SVG elements, in which every text is escaped: names and paths in a checkpoint may be anybody's."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

VOID = {"meta", "br"}


class Markup(str):
    """Text that is markup already, and goes into an element as it is."""

    __slots__ = ()


Child = Any  # Markup as it is, anything else as its escaped text; None is left out, an iterable is all that is in it


def escaped(value: Any) -> Markup:
    """Returns the text of a value as markup that shows just that text."""
    if isinstance(value, Markup):
        return value
    shown = "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in str(value)
    )
    return Markup(html.escape(shown))


def joined(*children: Child) -> Markup:
    """Returns children, one after the other."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Iterable) and not isinstance(child, str):
            parts.append(joined(*child))
        else:
            parts.append(escaped(child))
    return Markup("".join(parts))


def tag(name: str, /, *children: Child, **attributes: Any) -> Markup:
    """Returns an element.

    Args:
        name: Its name; one of this code's own, never one that was read.
        children: What is in it.
        attributes: By name; `class_` is `class`, other underscores are hyphens. None is left out, numbers are rounded
            to two places.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{said}>" if name in VOID else f"<{name}{said}>{joined(*children)}</{name}>")


def number(value: Any) -> str:
    """Returns a value as an attribute: numbers in at most two places, so that a picture is not mostly digits."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def table(
    titles: Iterable[Child], rows: Iterable[Iterable[Child]], *, numbers: Iterable[int] = (), **attributes: Any
) -> Markup:
    """Returns a table that scrolls sideways where it is wider than the screen.

    Args:
        titles: Of the columns.
        rows: Their cells.
        numbers: Which columns hold numbers, counted from 0: these are right-aligned.
        attributes: Of the table.
    """
    right = set(numbers)

    titles = list(titles)

    def line(cells: Iterable[Child], kind: str) -> Markup:
        """Returns a row; each cell of it knows its title, which stands beside it on a narrow screen."""
        drawn = []
        for place, one in enumerate(cells):
            title = titles[place] if kind == "td" else None
            drawn.append(tag(kind, one, class_="n" if place in right else None, data_title=title))
        return tag("tr", drawn)

    body = [line(row, "td") for row in rows]
    inside = joined(tag("thead", line(titles, "th")), tag("tbody", body))
    return tag("div", tag("table", inside, **attributes), class_="wide")


def section(title: str, said: str, *children: Child) -> Markup:
    """Returns a part of a page, with its title and a line about it."""
    return tag("section", tag("h2", title), tag("p", said, class_="faint") if said else None, children)


def cell(value: str, change: str = "") -> Markup:
    """Returns a value and, smaller, how it stands to that of the first network."""
    return joined(value, tag("small", change, class_="rel") if change else None)


def plain(text: Any) -> str:
    """Returns a text for a cell of a Markdown table: no cell ends in it, and nothing in it is markup."""
    words = " ".join(str(text).split())
    for letter in "\\`*_[]|~":
        words = words.replace(letter, f"\\{letter}")
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
