"""The structure of a model yaml: its keys, and its rows `[from, repeats, module, arguments]`.

The release builds whatever a yaml says: widths of 10^9 until memory runs out, modules by any name in its namespace, the
text of `activation:` as code.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from torch import nn

from ..trust import restricted
from .checks import flag, listing, mapping, number, optional, whole_number
from .documents import brief

ROW = ("from", "repeats", "module", "arguments")
LONGEST_ARGUMENT = 200  # characters of an argument
LARGEST_NUMBER = 100_000  # of any number in a row: widths, classes, kernels
MOST_REPEATS = 1_000
MOST_ROWS = 10_000


def check_rows(content: Any) -> None:
    """Checks the structure of a model yaml.

    Raises:
        ValueError: If a key or a row is missing, of a wrong type, or out of range.
    """
    mapping(content, "it", needs=("backbone", "head"))
    _check_settings(content)
    rows = listing(content["backbone"], "backbone") + listing(content["head"], "head")
    if not content["backbone"] or not content["head"] or len(rows) > MOST_ROWS:
        raise ValueError(f"backbone and head have {len(rows)} rows; each needs one, both have at most {MOST_ROWS:,}")
    for i, row in enumerate(rows):
        _check_row(row, i)

    if content.get("nc") is None and any("nc" in row[3] for row in rows):
        raise ValueError("it lacks nc, the number of classes")
    if content.get("kpt_shape") is None and any("kpt_shape" in row[3] for row in rows):
        raise ValueError("it lacks kpt_shape, the number of keypoints")
    _check_head(rows[-1][2])


def _check_settings(content: dict[str, Any]) -> None:
    """Checks the keys of a model yaml beside its rows."""
    for key in ("nc", "channels", "reg_max"):
        if content.get(key) is not None:
            whole_number(content[key], key, 1, LARGEST_NUMBER)
    for key in ("depth_multiple", "width_multiple"):
        if key in content:
            number(content[key], key, above=0, most=100)
    if content.get("scales") is not None:
        _check_scales(content["scales"])
    optional(flag)(content.get("end2end"), "end2end")
    _check_activation(content.get("activation"))
    if content.get("kpt_shape") is not None:
        check_keypoints(content["kpt_shape"])


def _check_head(name: str) -> None:
    """Raises a ValueError if the release does not know a task by the module of the last row."""
    from ultralytics.nn.tasks import guess_model_task

    known = guess_model_task({"head": [[-1, 1, name, []]]}) if _names_a_task(name) else None
    if known is None and not issubclass(module_of(name), _heads()):
        raise ValueError(f"its last row is {brief(name)}, which is not a head such as Detect, Segment or Classify")


def check_keypoints(shape: Any) -> None:
    """Checks `kpt_shape`: how many keypoints, and 2 or 3 numbers for each.

    Raises:
        ValueError: If it is not of that form.
    """
    points, numbers = listing(shape, "kpt_shape", count=2)
    whole_number(points, "kpt_shape[0]", 1, 10_000)
    whole_number(numbers, "kpt_shape[1]", 2, 3)


def module_of(name: Any) -> type[nn.Module]:
    """Returns the module that a row names: of `nn`, of TorchVision's operations, or of the release's namespace.

    Raises:
        ValueError: If there is no such module.
    """
    from ultralytics.nn import tasks

    found: Any = None
    if isinstance(name, str):
        owner: Any = nn if name.startswith("nn.") else tasks
        if name.startswith("torchvision.ops."):
            import torchvision

            owner = torchvision.ops
        found = getattr(owner, name.removeprefix("nn.").removeprefix("torchvision.ops."), None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"{brief(name)} is not a module that is known here; put your modules into ultralytics.nn.tasks"
        )
    return found


def _heads() -> tuple[type, ...]:
    from ultralytics.nn import tasks

    return tuple(getattr(tasks, name) for name in ("Detect", "RTDETRDecoder", "Classify", "SemanticSegment", "Depth"))


def _names_a_task(name: str) -> bool:
    """Whether the release reads a task off the name of a head."""
    return any(part in name.lower() for part in ("detect", "segment", "pose", "obb", "classif", "depth"))


def _check_row(row: Any, i: int) -> None:
    """Checks row `i` of backbone and head together: from, repeats, module, arguments."""
    where = f"row {i} ({brief(row)})"
    if not isinstance(row, list) or len(row) != len(ROW):
        raise ValueError(f"{where} is not [{', '.join(ROW)}]")
    sources, repeats, name, arguments = row
    for source in sources if isinstance(sources, list) and sources else [sources]:
        before = i if i else 1  # the first row reads the image
        if type(source) is not int or not -before <= source < i or (i == 0 and source != -1):
            raise ValueError(f"{where} reads from {brief(source)}, not from one of the {i} rows before it, or -1")
    whole_number(repeats, f"the repeats of {where}", 1, MOST_REPEATS)
    try:
        module_of(name)
    except ValueError as error:
        raise ValueError(f"row {i}: {error}") from error
    _check_arguments(arguments, f"the arguments of {where}")
    if not isinstance(arguments, list):
        raise ValueError(f"the arguments of {where} are not a list")


def _check_arguments(value: Any, where: str) -> None:
    """Checks arguments: lists, text and numbers within bounds."""
    if isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            _check_arguments(part, where)
    elif type(value) in {int, float}:
        number(value, f"a number in {where}", least=-LARGEST_NUMBER, most=LARGEST_NUMBER)
    elif isinstance(value, str):
        if len(value) > LONGEST_ARGUMENT:
            raise ValueError(f"{brief(value)} is too long for an argument ({where})")
        if type(found := _evaluated(value)) in {int, float}:
            number(found, f"{brief(value)} in {where}", least=-LARGEST_NUMBER, most=LARGEST_NUMBER)
    elif not (value is None or isinstance(value, bool)):
        raise ValueError(f"{brief(value)} is not an argument ({where})")


def _evaluated(text: str) -> Any:
    """Returns the value that the release reads from a text among arguments, or None where it keeps the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _check_scales(scales: Any) -> None:
    """Checks `scales`: by letter, a factor of the depth, one of the width, and the most channels."""
    for name, scale in mapping(scales, "scales").items():
        depth, width, most = listing(scale, f"scales[{brief(name)}]", count=3)
        number(depth, f"the depth of scale {brief(name)}", above=0, most=100)
        number(width, f"the width of scale {brief(name)}", above=0, most=100)
        if most != float("inf"):
            number(most, f"the most channels of scale {brief(name)}", least=1)
    if not scales:
        raise ValueError("scales are empty")


def _check_activation(activation: Any) -> None:
    """Refuses an activation other than a call of a class of `nn` with plain numbers: the release runs it."""
    if activation is None or not restricted():
        return
    called = re.fullmatch(r"(?:torch\.)?nn\.([A-Z]\w*)\(([\w\s=.,+-]*)\)", str(activation).strip())
    kind = getattr(nn, called[1], None) if called else None
    words = re.findall(r"[A-Za-z_]\w*", re.sub(r"\w+\s*=(?!=)", "", called[2])) if called else []
    if not isinstance(kind, type) or not issubclass(kind, nn.Module) or set(words) - {"True", "False", "None"}:
        raise ValueError(f"activation is {brief(activation)}, not a call such as nn.SiLU() or nn.LeakyReLU(0.1)")
