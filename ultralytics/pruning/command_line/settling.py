"""What happens to the words of a command line once they are parsed: settings that name options, paths, encodings."""

from __future__ import annotations

import argparse
import os
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import PruningError, closest, hint
from ..files import places
from ..report import NEVER_FAIL
from . import kinds, settings

LONGEST_WORD = 1_000  # characters in an error; a path may have that many

LEADS = {  # type of an option -> where its value leads
    kinds.as_source: places.source,
    kinds.as_network: places.network,
    kinds.as_data_set: places.data_set,
    kinds.as_product: places.product,
}


def let_output_pass() -> None:
    """Lets this process, and those that it starts, print what the encoding of the terminal cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=NEVER_FAIL)
    if getattr(sys.stdout, "encoding", None):
        os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding}:{NEVER_FAIL}"


def in_one_line(text: str) -> str:
    """Returns what an error says in one line: no colours, no control characters, long words cut short."""
    words = re.sub(r"\x1b\[[0-9;]*m", "", text).split()  # what the release says may be coloured
    plain = (
        "".join(letter if letter >= " " and letter != "\x7f" else repr(letter)[1:-1] for letter in w) for w in words
    )
    return " ".join(
        w if len(w) <= LONGEST_WORD else f"{w[: LONGEST_WORD // 2]}...{w[-LONGEST_WORD // 4 :]}" for w in plain
    )


def first_empty(words: Sequence[str]) -> str | None:
    """Returns what is empty among some words: an option's value, or a word of its own; None if nothing is."""
    for before, word in zip(["", *words], words, strict=False):
        if not word.strip():
            return before if before.startswith("-") and "=" not in before else repr(word)
        name, equals, value = word.partition("=")
        if equals and not value.strip() and name.startswith("-"):
            return name
    return None


def named_options(actions: Iterable[argparse.Action], words: Sequence[str]) -> set[str]:
    """Returns the names of the options that are among some words."""
    names = {word.partition("=")[0] for word in words if word.startswith("-")}
    return {action.dest for action in actions if names & set(action.option_strings)}


def meant(words: Sequence[str], actions: Iterable[argparse.Action]) -> str:
    """Returns a hint at the option that the first of some unknown words may stand for; empty if none is close."""
    known = [name for action in actions for name in action.option_strings]
    close = closest(words[0].partition("=")[0], known)
    return f"; did you mean {close[0]}?" if words[0].startswith("-") and close else ""


def settle(
    options: argparse.Namespace,
    actions: Sequence[argparse.Action],
    words: Sequence[str],
    keys: frozenset[str],
) -> None:
    """Completes parsed options: settings become a dict, or the option of the same name, and file names become paths.

    Args:
        options: What was parsed; changed in place.
        actions: The parser's.
        words: The command line.
        keys: The settings of Ultralytics that the stage reads.

    Raises:
        PruningError: If a setting is unknown, not read, refused, or contradicts an option.
    """
    by_name = {action.dest: action for action in actions if action.option_strings}
    said = named_options(actions, words)
    pairs = settings.key_values(options.settings)
    file = None if "cfg" in by_name else pairs.pop("cfg", None)
    values: dict[str, Any] = settings.from_file(file) if file else {}
    values = {key: value for key, value in values.items() if key not in said} | pairs  # the command line decides

    options.settings = {}
    for key, value in values.items():
        if key not in keys:
            use = f"use --{key.replace('_', '-')}" if key in by_name else "this script does not read it; leave it out"
            raise PruningError(f"{key}= cannot be set here: {use}")
        if key in by_name:
            _set_option(options, by_name[key], value, said)
            said.add(key)
        elif value is not None:
            options.settings[key] = settings.read(key, value)

    settings.check_settings(options.settings)
    options.said = frozenset(said)
    for action in actions:
        _lead(options, action, action.dest in said or not action.option_strings)


def _set_option(options: argparse.Namespace, action: argparse.Action, value: Any, said: set[str]) -> None:
    """Sets the option of a setting's name to the setting's value.

    Raises:
        PruningError: If the option would refuse it, or was given another value.
    """
    key, read = action.dest, _as_option(action, value)
    if key in said and getattr(options, key) != read:
        raise PruningError(f"--{key.replace('_', '-')} and {key}={value}: one of both is enough")
    setattr(options, key, read)


def _as_option(action: argparse.Action, value: Any) -> Any:
    """Returns a setting's value as the option of that name would read it.

    Raises:
        PruningError: If the option would refuse it.
    """
    try:
        read = action.type(str(value)) if callable(action.type) else value
    except ArgumentTypeError as error:
        raise PruningError(f"{action.dest}={value}: {error}") from error
    if action.choices is not None and read not in action.choices:
        raise PruningError(f"{action.dest}={value}: unknown; {hint(str(value), map(str, action.choices))}")
    return read


def _lead(options: argparse.Namespace, action: argparse.Action, said: bool) -> None:
    """Replaces an option's value by the path that it leads to."""
    value, leads = getattr(options, action.dest, None), LEADS.get(action.type)  # type: ignore[arg-type]
    if not leads or not value:
        return
    if isinstance(value, list):
        setattr(options, action.dest, [leads(word) for word in value])
    elif said or leads in (places.data_set, places.product):
        setattr(options, action.dest, leads(str(value)))
    elif (place := places.ROOT / value).exists():  # what an earlier stage left in the repository
        setattr(options, action.dest, str(place))
