"""Packages that only some tasks need: looked for before they start, and named with the command that installs them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from .errors import PruningError

# Module -> its name for pip, where that is another one.
PIP = {
    "sklearn": "scikit-learn",
    "modelopt": "nvidia-modelopt",
    "litert_torch": "litert-torch",
    "ai_edge_litert": "ai-edge-litert",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "paddle": "paddlepaddle",
    "coreai_torch": "coreai-torch",
    "model_compression_toolkit": "model-compression-toolkit",
    "edgemdt_cl": "edge-mdt-cl",
    "edgemdt_tpc": "edge-mdt-tpc",
    "rknn": "rknn-toolkit2",
    "onnxruntime_qnn": "onnxruntime-qnn",
    "quark": "amd-quark",
    "tflite_runtime": "tflite-runtime",
    "mct_quantizers": "mct-quantizers",
    "rknnlite": "rknn-toolkit-lite2",
}
ONNX = ("onnx", "onnxruntime", "onnxslim")
# The modules that make each format of the release; those for ONNX too, where it is made by way of ONNX.
FORMATS: dict[str, tuple[str, ...]] = {
    "onnx": ONNX,
    "openvino": ("openvino",),
    "engine": (*ONNX, "tensorrt"),
    "coreml": ("coremltools",),
    "coreai": ("coreai_torch",),
    "saved_model": (*ONNX, "tensorflow", "tf_keras", "onnx2tf"),
    "pb": (*ONNX, "tensorflow", "tf_keras", "onnx2tf"),
    "edgetpu": (*ONNX, "tensorflow", "tf_keras", "onnx2tf"),
    "litert": ("litert_torch", "ai_edge_litert"),
    "paddle": ("paddle", "x2paddle"),
    "mnn": (*ONNX, "MNN"),
    "ncnn": ("ncnn", "pnnx"),
    "imx": ("onnx", "model_compression_toolkit", "edgemdt_tpc", "edgemdt_cl"),
    "rknn": (*ONNX, "rknn"),
    "executorch": ("executorch",),
    "axelera": (*ONNX, "axelera"),
    "deepx": (*ONNX, "dx_com"),
    "qnn": (*ONNX, "onnxruntime_qnn"),
    "xilinx": (*ONNX, "quark"),
}
INTEGERS: dict[str, tuple[str, ...]] = {  # needed in addition for quantize=8
    "openvino": ("nncf",),
    "engine": ("modelopt",),
    "coreml": ("sklearn",),
    "litert": ("ai_edge_quantizer",),
}
RUNTIMES: dict[str, tuple[str, ...]] = {  # what runs each format; PyTorch runs the others
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "engine": ("tensorrt",),
    "coreml": ("coremltools",),
    "coreai": ("coreai",),
    "saved_model": ("tensorflow",),
    "pb": ("tensorflow",),
    "edgetpu": ("tflite_runtime",),
    "litert": ("ai_edge_litert",),
    "paddle": ("paddle",),
    "mnn": ("MNN",),
    "ncnn": ("ncnn",),
    "imx": ("onnx", "onnxruntime", "mct_quantizers", "edgemdt_cl"),
    "rknn": ("rknnlite",),
    "executorch": ("executorch",),
    "axelera": ("axelera",),
    "deepx": ("dx_engine",),
    "qnn": ("onnx", "onnxruntime", "onnxruntime_qnn"),
    "hailo": ("hailo_platform",),
    "ascend": ("ais_bench",),
    "xilinx": ("onnx", "onnxruntime"),
}
QUANTIZED_TRAINING = ("modelopt", "huggingface_hub")


def is_there(module: str) -> bool:
    """Whether a module can be imported, as far as one can tell without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a module that was put into sys.modules by hand has no spec
        return False


def need(modules: Iterable[str], what: str) -> None:
    """Checks that modules are installed.

    Args:
        modules: Their names.
        what: What needs them, as the user named it.

    Raises:
        PruningError: If one is not installed.
    """
    missing = [module for module in dict.fromkeys(modules) if not is_there(module)]
    if missing:
        raise PruningError(_sentence(what, missing))


def missing_by(error: ModuleNotFoundError) -> str | None:
    """Returns the sentence for a package that turned out to be missing; None if it is this repository's."""
    module = (error.name or "").split(".")[0]
    return _sentence("this", [module]) if module and module != "ultralytics" else None


def _sentence(what: str, modules: list[str]) -> str:
    """Says what is missing and how to install it."""
    names = [PIP.get(module, module) for module in modules]
    quoted = " and ".join(f"'{name}'" for name in names)
    packages, are = ("package", "is") if len(names) == 1 else ("packages", "are")
    return f"{what} needs the {packages} {quoted}, which {are} not installed; run: pip install {' '.join(names)}"
