"""Files of plain data that a user provides, JSON and YAML: read whole and safely, or refused in one line.

What comes back consists of dicts, lists, strings, booleans, None, dates, and numbers that print and compare: integers
of 64 bits, and floats other than NaN. So whoever checks such data only needs to think of its types and ranges.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import reprlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import PruningError, first_line

LARGEST = 64 * 2**20  # bytes; the plan of the release's largest network has less than one hundredth of it
DEEPEST = 64  # levels of dicts and lists in each other
LARGEST_YAML = 4 * 2**20  # bytes; YAML is read at a thousandth of the speed of JSON
MOST_VALUES = 1_000_000
MOST_OF_YAML = 200_000  # values, with all that aliases repeat
LARGEST_INTEGER = 2**63 - 1

_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 60
_brief.maxlist, _brief.maxdict, _brief.maxlevel = 4, 2, 2


def brief(value: Any) -> str:
    """Returns a value for an error message, shortened and in one line."""
    return " ".join(_brief.repr(value).split())


@contextlib.contextmanager
def found_in(what: str, kind: str) -> Iterator[None]:
    """Adds to a ValueError from a check in which file it was found.

    Args:
        what: The file, as the user named it, e.g. `--plan pruned.json`.
        kind: What the file is not, e.g. `no plan of a cut`.

    Raises:
        PruningError: In place of the ValueError.
    """
    try:
        yield
    except ValueError as error:
        raise PruningError(f"{what} is {kind}: {first_line(error)}") from error


def read_text(path: Path, what: str, largest: int = LARGEST) -> str:
    """Returns the text of a file.

    Args:
        path: The file.
        what: How the error names it.
        largest: How many bytes it may have.

    Raises:
        PruningError: If it is missing, not a file, larger, or not UTF-8.
    """
    if path.is_dir():
        raise PruningError(f"{what} is a folder, not a file")
    try:
        if not path.is_file():
            raise PruningError(f"{what} does not exist, or is not a regular file")
        if (size := path.stat().st_size) > largest:
            raise PruningError(f"{what} has {size / 1e6:,.0f} MB, more than any such file ({largest / 1e6:.0f} MB)")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PruningError(f"{what} cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise PruningError(f"{what} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    if "\0" in text:
        raise PruningError(f"{what} is not text: it holds NUL bytes")
    return text


def read_json(path: Path, what: str) -> Any:
    """Returns the content of a JSON file.

    Args:
        path: The file.
        what: How the error names it.

    Raises:
        PruningError: If it cannot be read, is not JSON, names a key twice, or is nested too deep.
    """
    return parse_json(read_text(path, what), what)


def parse_json(text: str, what: str) -> Any:
    """Returns the content of a JSON text (see `read_json`).

    Raises:
        PruningError: As `read_json`.
    """
    try:
        content = json.loads(text, object_pairs_hook=_once_each, parse_constant=_no_constant)
    except RecursionError as error:
        raise PruningError(f"{what} is nested more than {DEEPEST} levels deep") from error
    except ValueError as error:  # JSONDecodeError, or an integer of thousands of digits
        raise PruningError(f"{what} is not JSON ({first_line(error)})") from error
    check_plain(content, what)
    return content


def read_yaml(path: Path, what: str) -> Any:
    """Returns the content of a YAML file.

    Args:
        path: The file.
        what: How the error names it.

    Raises:
        PruningError: If it cannot be read, is not YAML, names a key twice, is nested too deep, or is too large with
            what its aliases repeat.
    """
    import yaml

    text, loader = read_text(path, what, LARGEST_YAML), _yaml_loader()
    try:
        _check_events(yaml.parse(text, Loader=loader), what)  # without recursion, unlike the loading
        content = yaml.load(text, Loader=loader)
    except PruningError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # of numbers, dates and keys as well
        said = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise PruningError(f"{what} is not YAML ({said[:160]})") from error
    check_plain(content, what)
    return content


def _check_events(events: Iterable[Any], what: str) -> None:
    """Checks how deep a YAML text is, and how much it holds with all that its aliases and merges repeat.

    Raises:
        PruningError: If it is too deep or too large.
    """
    import yaml

    sizes: dict[str, int] = {}  # values behind each anchor
    open_ones: list[tuple[str | None, int]] = [(None, 0)]  # anchor, and values so far, of each open collection
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            open_ones.append((event.anchor, 1))
            if len(open_ones) - 1 > DEEPEST:
                raise PruningError(f"{what} is nested more than {DEEPEST} levels deep")
            continue

        # A value that is complete counts towards the collection around it.
        if isinstance(event, yaml.ScalarEvent):
            size = 1
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_ones.pop()
            if anchor:
                sizes[anchor] = size
        else:
            continue
        anchor, before = open_ones[-1]
        if before + size > MOST_OF_YAML:
            raise PruningError(f"{what} holds more than {MOST_OF_YAML:,} values")
        open_ones[-1] = (anchor, before + size)


@functools.cache
def _yaml_loader() -> Any:
    """Returns the safe loader, in C where there is one, that refuses a key that occurs twice."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def construct_mapping(self, node, deep=False):
            """Makes a dict of a node; a key merged by `<<` may be overridden, but none may be written twice."""
            if isinstance(node, yaml.MappingNode):
                keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
                written: set[tuple[str, str]] = set()
                for key in keys:
                    if key.tag != "tag:yaml.org,2002:merge" and (key.tag, key.value) in written:
                        line = key.start_mark.line + 1
                        raise yaml.YAMLError(f"the key {brief(key.value)} occurs twice, at line {line}")
                    written.add((key.tag, key.value))
            return super().construct_mapping(node, deep=deep)

    return Loader


def check_plain(content: Any, what: str) -> None:
    """Checks that data holds only what prints and compares.

    Raises:
        PruningError: If it holds other types, NaN, integers of more than 64 bits, text that is not Unicode, or is too
            deep or too large.
    """
    todo, count = [(content, 1)], 0
    while todo:
        value, depth = todo.pop()
        count += 1
        if count > MOST_VALUES:
            raise PruningError(f"{what} holds more than {MOST_VALUES:,} values")
        if isinstance(value, (dict, list, tuple)):
            if depth > DEEPEST:
                raise PruningError(f"{what} is nested more than {DEEPEST} levels deep")
            parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            if len(parts) > MOST_VALUES:
                raise PruningError(f"{what} holds more than {MOST_VALUES:,} values")
            todo.extend((part, depth + 1) for part in parts)
        else:
            _check_scalar(value, what)


def _check_scalar(value: Any, what: str) -> None:
    """Checks a single value (see `check_plain`)."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise PruningError(f"{what} holds text that is not Unicode ({ascii(value)[:60]})") from error
    elif isinstance(value, float):
        if value != value:
            raise PruningError(f"{what} holds a value that is not a number (NaN)")
    elif isinstance(value, int):
        if abs(value) > LARGEST_INTEGER:
            raise PruningError(f"{what} holds a whole number of more than 64 bits")
    elif value is not None and not isinstance(value, datetime.date):
        raise PruningError(f"{what} holds a {type(value).__name__} ({brief(value)}), not text, number, list or dict")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes a dict of a JSON object; refuses a key with two values, of which either may be meant."""
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {brief(twice)} occurs twice")
    return content


def _no_constant(name: str) -> Any:
    """Refuses NaN and Infinity, which Python writes but JSON does not have."""
    raise ValueError(f"{name} is not a JSON number")
