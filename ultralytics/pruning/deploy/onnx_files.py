"""ONNX files: what they say about themselves (see `metadata.py`), how large they are, and whether they run at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PruningError, first_line
from ..inputs.documents import brief
from .metadata import Exported, described

# The nodes of a graph that read weights; all other initializers are shapes and the grid of the boxes.
WEIGHTED_NODES = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "DequantizeLinear"}


def read_onnx(path: Path, name: str) -> Exported:
    """Reads what an ONNX file says about itself; nothing is run.

    Args:
        path: The file.
        name: How the error names it.

    Raises:
        PruningError: If it is damaged, was not exported by Ultralytics, or its metadata are impossible.
    """
    import onnx

    from ultralytics.nn.backends.onnx import ONNXBackend

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # whatever its parser raises
        raise PruningError(f"'{name}' is damaged, or not an ONNX file at all") from error
    about = {entry.key: entry.value for entry in model.metadata_props}
    weights = {name for node in model.graph.node if node.op_type in WEIGHTED_NODES for name in node.input}
    parameters = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.name in weights)
    return described(about, parameters, ONNXBackend, name)


def try_out(path: Path, name: str, file: Exported, batch: int, sides: tuple[int, int]) -> None:
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
    session = session_of(path, name)
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


def session_of(path: Path, name: str) -> Any:
    """Returns ONNX Runtime's session of a file, in silence."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print comes as an error
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of another operator set, without its external data, ...
        raise PruningError(f"'{name}' cannot be loaded by ONNX Runtime: {_short(error)}") from error


def _short(error: Exception) -> str:
    """Returns the beginning of what ONNX Runtime says."""
    return " ".join(first_line(error).split())[:200]
