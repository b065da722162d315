"""Types of option values: from a word of the command line to a value, or one line that says what it should be."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable

from ..errors import PruningError, quoted
from ..files import names
from ..release import LARGEST_SIDE

UNITS = {"k": 1e3, "m": 1e6, "g": 1e9}
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)  # narrower than float() reads
WHOLE = re.compile(r"\d{1,18}", re.ASCII)  # `isdigit` takes digits that int() does not
MOST_COUNT = 1_000_000  # of a count: more than anyone could want
MOST_CHANNELS = 65_536
MOST_THREADS = 1_024
SIDES = (32, LARGEST_SIDE)  # pixels; the first is the stride of the coarsest map
MOST_STRENGTH = 1e6


def _number(text: str) -> float:
    """Reads a number; anything else becomes NaN, which is outside every range."""
    return float(text) if DECIMAL.fullmatch(text) else math.nan


def as_ratio(text: str) -> float:
    """Reads a pruning ratio."""
    value = _number(text)
    if not 0 <= value < 1:
        raise ArgumentTypeError(f"{quoted(text)} is not a number of at least 0 and below 1")
    return value


def as_part(text: str) -> float:
    """Reads a share strictly between nothing and the whole."""
    value = _number(text)
    if not 0 < value < 1:
        raise ArgumentTypeError(f"{quoted(text)} is not a number above 0 and below 1")
    return value


def as_share(text: str) -> float:
    """Reads a share that may be the whole."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{quoted(text)} is not a number of at least 0 and at most 1")
    return value


def as_factor(text: str) -> float:
    """Reads how many times less."""
    value = _number(text)
    if not 1 <= value < math.inf:
        raise ArgumentTypeError(f"{quoted(text)} is not a number of at least 1")
    return value


def as_factor_above_one(text: str) -> float:
    """Reads how many times less, where 1, no change, makes no sense."""
    value = _number(text)
    if not 1 < value < math.inf:
        raise ArgumentTypeError(f"{quoted(text)} is not a number above 1")
    return value


def as_strength(text: str) -> float:
    """Reads the strength of a pull."""
    value = _number(text)
    if not 0 <= value <= MOST_STRENGTH:
        raise ArgumentTypeError(f"{quoted(text)} is not a number of at least 0 and at most {MOST_STRENGTH:g}")
    return value


def as_count(text: str) -> int:
    """Reads a large number: 1200000, 1.2M or 900k."""
    unit = UNITS.get(text[-1:].lower())
    value = _number(text[:-1]) * unit if unit else _number(text)
    if not 1 <= value < math.inf or (not unit and value != int(value)):
        raise ArgumentTypeError(f"{quoted(text)} is not a number such as 1200000, 1.2M or 900k")
    return round(value)


def several(read: Callable[[str], float]) -> Callable[[str], float | list[float]]:
    """Returns the type of one number, or of several with commas between them."""

    def read_all(text: str) -> float | list[float]:
        found = [read(word.strip()) for word in text.split(",")]
        if len(set(found)) < len(found):
            raise ArgumentTypeError(f"{quoted(text)} names a number twice")
        return found if len(found) > 1 else found[0]

    return read_all


def as_pattern_ratio(text: str) -> tuple[str, float]:
    """Reads PATTERN=R."""
    pattern, equals, value = text.rpartition("=")
    if not equals or not pattern.strip():
        raise ArgumentTypeError(f"{quoted(text)} is not of the form PATTERN=RATIO, such as 'model.2.*=0.3'")
    return pattern, as_ratio(value)


def as_whole(least: int, most: int) -> Callable[[str], int]:
    """Returns the type of whole numbers within a range."""

    def read(text: str) -> int:
        if not WHOLE.fullmatch(text) or not least <= int(text) <= most:
            above = "" if WHOLE.fullmatch(text) and int(text) < least else f" and at most {most:,}"
            raise ArgumentTypeError(f"{quoted(text)} is not a whole number of at least {least}{above}")
        return int(text)

    return read


as_positive = as_whole(1, MOST_COUNT)
as_channels = as_whole(1, MOST_CHANNELS)
as_threads = as_whole(1, MOST_THREADS)


def as_side(text: str) -> int:
    """Reads the side of an image; whether a network takes it depends on its stride."""
    least, most = SIDES
    if not WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise ArgumentTypeError(
            f"{quoted(text)} is no side of an image: a whole number of pixels of at least {least} and at most "
            f"{most:,}, for most networks a multiple of 32"
        )
    return int(text)


def as_sides(text: str) -> int | list[int]:
    """Reads the side of an image, or its height and width: 640, or 480,640."""
    words = [word.strip() for word in text.strip("[]()").split(",")]
    if len(words) > 2:
        raise ArgumentTypeError(f"{quoted(text)} has {len(words)} sides; an image has one, e.g. 640, or two: 480,640")
    read = [as_side(word) for word in words]
    return read if len(read) > 1 else read[0]


def as_device(text: str) -> str:
    """Reads a device: cpu, mps, or numbers of GPUs. Nothing, the default, leaves the choice."""
    word = text.lower()
    if word in {"", "cpu", "mps"}:
        return word
    word = "0" if word == "cuda" else word.removeprefix("cuda:")
    indices = word.split(",")
    if not all(re.fullmatch(r"\d{1,4}", index, re.ASCII) for index in indices):
        raise ArgumentTypeError(f"{quoted(text)} is no device: cpu, mps, or numbers of GPUs such as 0 or 0,1")
    if len({*map(int, indices)}) < len(indices):
        raise ArgumentTypeError(f"{quoted(text)} names a GPU twice")
    return ",".join(str(int(index)) for index in indices)


def as_run_name(text: str) -> str:
    """Reads the name of a run folder."""
    return _checked(names.run_name, text)


def as_path(text: str) -> str:
    """Reads a path: any that a file system can hold."""
    return _checked(names.path, text)


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except PruningError as error:
        raise ArgumentTypeError(str(error)) from error


# What a path is for decides where it leads (see `settling.LEADS`).
def as_source(text: str) -> str:
    """Reads the path of a file to read."""
    return as_path(text)


def as_network(text: str) -> str:
    """Reads the path of a checkpoint or of a model yaml, or the name of one of the release's."""
    return as_path(text)


def as_data_set(text: str) -> str:
    """Reads the path of a data set, or a name that the release knows, or `digits`."""
    return as_path(text)


def as_product(text: str) -> str:
    """Reads the path of a file or folder to write."""
    return as_path(text)


def as_pattern(text: str) -> str:
    """Reads a pattern of layer names."""
    return _checked(lambda word: names.printable(word, "a layer, e.g. model.22"), text)


def as_classes(text: str) -> list[str]:
    """Reads names or numbers of classes with commas between them; which there are is the network's to say."""
    words = [word.strip() for word in _checked(lambda line: names.printable(line, "a class"), text).split(",")]
    if not all(words):
        raise ArgumentTypeError(f"{quoted(text)} is not a list of classes such as person,car")
    return words


def as_word(text: str) -> str:
    """Reads any word that names something."""
    return _checked(lambda word: names.printable(word, "something"), text)
