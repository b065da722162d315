"""What an exported file says about itself, checked before the release relies on it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from ..accuracy import OTHERS
from ..data.yamls import MOST_CLASSES
from ..errors import PruningError
from ..inputs.checks import flag, listing, text, whole_number
from ..inputs.documents import brief, check_plain
from ..inputs.model_rows import check_keypoints

TASKS = ("detect", "segment", "pose", "obb", *OTHERS)
NEEDED = ("task", "names", "imgsz", "batch", "stride")
LITERALS = ("imgsz", "names", "kpt_shape", "kpt_names", "args", "end2end")  # entries that the release evaluates
KNOWN = {*NEEDED, *LITERALS, "description", "author", "date", "version", "license", "docs", "head", "channels", "dla"}
LARGEST_SIDE, MOST_IMAGES = 2**16, 2**16
LONGEST_ENTRY = 2**24  # characters of an entry
PRECISIONS = {None: "float32", 32: "float32", 16: "float16", 8: "int8"}


@dataclass(frozen=True)
class Exported:
    """What is known of a file that Ultralytics exported.

    Attributes:
        task: What the network does, in the release's words.
        names: Of its classes, in their order.
        parameters: How many parameters it holds; None where that is not known.
        sides: Height and width of the images in pixels, where these are fixed.
        batch: Images at once, where that is fixed.
        dynamic: Whether it takes images of any size, in any number.
        channels: Of an image.
        keypoints: How many, and how many numbers of each; None where it finds none.
        columns: Numbers for each object that it may find, or None where that is not known.
        chooses: Whether it chooses among its boxes itself, for a fixed number of images.
        precision: Its arithmetic: `float32`, `float16`, `int8`, or another of the release's.
    """

    task: str
    names: tuple[str, ...]
    parameters: int | None
    sides: tuple[int, int]
    batch: int
    dynamic: bool
    channels: int
    keypoints: list[int] | None
    columns: int | None
    chooses: bool = False
    precision: str = "float32"


def described(about: Mapping[Any, Any], parameters: int | None, backend: type, name: str) -> Exported:
    """Returns what the metadata of an export say.

    Args:
        about: Their entries: text, or values in formats that keep them.
        parameters: How many parameters it holds.
        backend: The class of the release that runs it, which gets each entry as an attribute.
        name: How the error names the file.

    Raises:
        PruningError: If it was not exported by Ultralytics, or the metadata are impossible.
    """
    if lacking := [key for key in NEEDED if key not in about]:
        raise PruningError(
            f"'{name}' was not exported by Ultralytics: it does not say what it detects (it lacks '{lacking[0]}')"
        )
    words = {str(key): value if isinstance(value, str) else repr(_numbered(value)) for key, value in about.items()}
    try:
        return _checked(words, parameters, backend)
    except ValueError as error:
        raise PruningError(
            f"'{name}' describes itself in a way that cannot be true: {error}; export it again"
        ) from error


def _checked(about: Mapping[str, str], parameters: int | None, backend: type) -> Exported:
    """Checks the metadata of an export.

    Raises:
        ValueError: If an entry is not what the release writes.
    """
    if long := [key for key, value in about.items() if len(value) > LONGEST_ENTRY]:
        raise ValueError(f"{brief(long[0])} has {len(about[long[0]]):,} characters")
    if odd := [key for key in about if key not in KNOWN and (key.startswith("_") or key in _taken_names(backend))]:
        raise ValueError(f"it has an entry {brief(odd[0])}, which the release would use as an attribute")
    values = {key: _literal(about[key], key) for key in LITERALS if key in about}
    numbers = {key: _number(about[key], key) for key in ("batch", "stride", "channels") if key in about}

    if about["task"] not in TASKS:
        raise ValueError(f"task is {brief(about['task'])}, not one of {', '.join(TASKS)}")
    names, arguments = values["names"], values.get("args", {})
    _check_names(names)
    if not isinstance(arguments, dict):
        raise ValueError(f"args is {brief(arguments)}, not a dict")
    sides = listing(values["imgsz"], "imgsz", lambda value, where: whole_number(value, where, 1, LARGEST_SIDE), 2)
    whole_number(numbers["batch"], "batch", 1, MOST_IMAGES)
    whole_number(numbers["stride"], "stride", 1, LARGEST_SIDE)
    whole_number(numbers.setdefault("channels", 3), "channels", 1, 4096)
    flag(values.get("end2end", False), "end2end")
    for key in ("dynamic", "nms"):
        flag(arguments.get(key) or False, f"args[{key!r}]")
    points = values.get("kpt_shape")
    if about["task"] == "pose" or points is not None:
        check_keypoints(points)

    chosen = values.get("end2end") or arguments.get("nms")  # the rows are detections already
    return Exported(
        task=about["task"],
        names=tuple(names[number] for number in range(len(names))),
        parameters=parameters,
        sides=(sides[0], sides[1]),
        batch=numbers["batch"],
        dynamic=arguments.get("dynamic") or False,
        channels=numbers["channels"],
        keypoints=list(points) if points is not None else None,
        columns=None if chosen else _columns(about["task"], len(names), points),
        chooses=bool(arguments.get("nms")),
        precision=_precision(arguments.get("quantize")),
    )


def _check_names(names: Any) -> None:
    """Raises a ValueError if the names of the classes are not a dict from their numbers to text."""
    if not isinstance(names, dict) or not 1 <= len(names) <= MOST_CLASSES or set(names) != set(range(len(names))):
        raise ValueError(f"names are {brief(names)}, not a dict from 0, 1, ... to names")
    for key, value in names.items():
        text(value, f"names[{key}]")


def _columns(task: str, classes: int, keypoints: Any) -> int | None:
    """Returns how many numbers a network puts out for each place, before any is chosen; None where that varies."""
    columns = {"detect": 4 + classes, "obb": 5 + classes, "classify": classes}
    if keypoints:
        columns["pose"] = 4 + classes + keypoints[0] * keypoints[1]
    return columns.get(task)


def _precision(quantize: Any) -> str:
    """Returns the arithmetic in words."""
    return PRECISIONS.get(quantize, str(quantize)) if quantize is None or isinstance(quantize, int) else str(quantize)


def _literal(written: str, key: str) -> Any:
    """Returns the value of an entry that is a Python literal."""
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{key} is {brief(written)}, which is not a value") from error
    check_plain(value, key)
    return value


def _number(written: str, key: str) -> int:
    """Returns the value of an entry that is a whole number."""
    if not (written.isascii() and written.isdecimal() and len(written) < 10):
        raise ValueError(f"{key} is {brief(written)}, not a whole number of at least 1")
    return int(written)


def _numbered(value: Any) -> Any:
    """Returns a value with numbers for the keys of a dict by numbers, such as the names of classes; JSON has text."""
    if isinstance(value, dict) and value and all(str(key).isdecimal() for key in value):
        return {int(key): entry for key, entry in value.items()}
    return value


def _taken_names(backend: type) -> set[str]:
    """Returns the names that a class of the release reads or sets on the object on which it sets all entries."""
    methods = [method for kind in backend.__mro__ for method in vars(kind).values() if isinstance(method, FunctionType)]
    return {*dir(backend), *(name for method in methods for name in method.__code__.co_names)}
