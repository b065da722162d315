"""What an ONNX file says about itself, checked before the release relies on it, and whether it runs at all."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..accuracy import OTHERS
from ..data.yamls import MOST_CLASSES
from ..errors import PruningError, first_line
from ..inputs.checks import flag, listing, text, whole_number
from ..inputs.documents import brief, check_plain
from ..inputs.model_rows import check_keypoints

TASKS = ("detect", "segment", "pose", "obb", *OTHERS)
NEEDED = ("task", "names", "imgsz", "batch", "stride")
LITERALS = ("imgsz", "names", "kpt_shape", "kpt_names", "args", "end2end")  # entries that the release evaluates
KNOWN = {*NEEDED, *LITERALS, "description", "author", "date", "version", "license", "docs", "head", "channels", "dla"}
LARGEST_SIDE, MOST_IMAGES = 2**16, 2**16
LONGEST_ENTRY = 2**24  # characters of an entry
# The nodes of a graph that read weights; all other initializers are shapes and the grid of the boxes.
WEIGHTED_NODES = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "DequantizeLinear"}


@dataclass(frozen=True)
class OnnxFile:
    """What is known of an ONNX file that Ultralytics exported.

    Attributes:
        task: What the network does, in the release's words.
        names: Of its classes, in their order.
        parameters: How many parameters it holds.
        sides: Height and width of the images in pixels, where these are fixed.
        batch: Images at once, where that is fixed.
        dynamic: Whether it takes images of any size, in any number.
        channels: Of an image.
        keypoints: How many, and how many numbers of each; None where it finds none.
        columns: Numbers for each object that it may find, or None where that is not known.
    """

    task: str
    names: tuple[str, ...]
    parameters: int
    sides: tuple[int, int]
    batch: int
    dynamic: bool
    channels: int
    keypoints: list[int] | None
    columns: int | None


def read_onnx(path: Path, name: str) -> OnnxFile:
    """Reads what an ONNX file says about itself; nothing is run.

    Args:
        path: The file.
        name: How the error names it.

    Raises:
        PruningError: If it is damaged, was not exported by Ultralytics, or its metadata are impossible.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # whatever its parser raises
        raise PruningError(f"'{name}' is damaged, or not an ONNX file at all") from error
    about = {entry.key: entry.value for entry in model.metadata_props}
    if lacking := [key for key in NEEDED if key not in about]:
        raise PruningError(
            f"'{name}' was not exported by Ultralytics: it does not say what it detects (it lacks '{lacking[0]}')"
        )
    weights = {name for node in model.graph.node if node.op_type in WEIGHTED_NODES for name in node.input}
    parameters = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.name in weights)
    try:
        return _described(about, parameters)
    except ValueError as error:
        raise PruningError(
            f"'{name}' describes itself in a way that cannot be true: {error}; export it again"
        ) from error


def _described(about: Mapping[str, str], parameters: int) -> OnnxFile:
    """Checks the metadata of an export.

    Raises:
        ValueError: If an entry is not what the release writes.
    """
    if long := [key for key, value in about.items() if len(value) > LONGEST_ENTRY]:
        raise ValueError(f"{brief(long[0])} has {len(about[long[0]]):,} characters")
    if odd := [key for key in about if key not in KNOWN and (key.startswith("_") or key in _taken_names())]:
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
    return OnnxFile(
        task=about["task"],
        names=tuple(names[number] for number in range(len(names))),
        parameters=parameters,
        sides=(sides[0], sides[1]),
        batch=numbers["batch"],
        dynamic=arguments.get("dynamic") or False,
        channels=numbers["channels"],
        keypoints=list(points) if points is not None else None,
        columns=None if chosen else _columns(about["task"], len(names), points),
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


def try_out(path: Path, name: str, file: OnnxFile, batch: int, sides: tuple[int, int]) -> None:
    """Runs an ONNX file once, on a black image, as ONNX Runtime will.

    Args:
        path: The file.
        name: How the error names it.
        file: What it says about itself.
        batch: Images at once.
        sides: Height and width of the images.

    Raises:
        PruningError: If ONNX Runtime does not load or run it, or it takes or gives something other than it says.
    """
    session = _session(path, name)
    wanted, inputs = (batch, file.channels, *sides), session.get_inputs()
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    if len(inputs) != 1 or inputs[0].type not in types or not session.get_outputs():
        found = ", ".join(f"{entry.name} of {entry.type}" for entry in inputs)
        raise PruningError(f"'{name}' is not an export of Ultralytics: its inputs are {found or 'none'}")
    shape = inputs[0].shape
    if len(shape) != 4 or any(isinstance(side, int) and side != size for side, size in zip(shape, wanted, strict=True)):
        raise PruningError(f"'{name}' takes images of shape {brief(shape)}, but says that it takes {brief(wanted)}")

    wanted = (batch if isinstance(shape[0], int) else 1, *wanted[1:])  # one image is enough where their number is free
    try:
        outputs = session.run(None, {inputs[0].name: np.zeros(wanted, dtype=types[inputs[0].type])})
    except Exception as error:
        raise PruningError(f"'{name}' does not run in ONNX Runtime: {_short(error)}") from error
    if file.columns and file.columns not in np.shape(outputs[0])[1:]:
        raise PruningError(
            f"'{name}' gives {brief(np.shape(outputs[0]))}, where {len(file.names)} classes and task {file.task} take "
            f"{file.columns} columns: it describes itself in a way that cannot be true"
        )


def _session(path: Path, name: str) -> Any:
    """Returns ONNX Runtime's session of a file, in silence."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print comes as an error
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of another operator set, without its external data, ...
        raise PruningError(f"'{name}' cannot be loaded by ONNX Runtime: {_short(error)}") from error


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


def _taken_names() -> set[str]:
    """Returns the names of attributes that the release needs on the object on which it sets all entries."""
    from ultralytics.nn.backends.onnx import ONNXBackend

    of_any = {"device", "fp16", "nhwc", "base_model", "metadata", "model", "format", "net", "dynamic"}
    of_onnx = {"session", "session_options", "io", "bindings", "output_names", "input_name", "use_io_binding"}
    return of_any | of_onnx | {*dir(ONNXBackend)}


def _short(error: Exception) -> str:
    """Returns the beginning of what ONNX Runtime says."""
    return " ".join(first_line(error).split())[:200]
