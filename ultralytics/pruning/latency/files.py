"""Networks in files of any format, opened as the release opens them to measure their accuracy, and run to be timed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..release import quiet_release

OPENING = ("quantize", "dnn", "channels_last", "nms")  # settings that decide what runs, and in which precision


def place_of(device: str) -> torch.device:
    """Returns PyTorch's device for the name of the release's: the first one of several GPUs."""
    first = device.split(",")[0]
    return torch.device(f"cuda:{first}" if first.isdigit() else first)


def half(settings: Mapping[str, Any]) -> bool:
    """Whether settings ask for half precision where the file leaves the choice."""
    from ultralytics.cfg import QUANTIZE_ALIASES

    return QUANTIZE_ALIASES.get(str(settings.get("quantize")).lower()) == 16


@contextlib.contextmanager
def without_notice() -> Iterator[None]:
    """Opens TorchScript without PyTorch's notice that it will not be developed further."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.load", category=FutureWarning)
        yield


def open_file(path: Path, device: str, threads: int, settings: Mapping[str, Any]) -> Any:
    """Opens a network as the release's validator does.

    Args:
        path: Of any format that runs here.
        device: Where it runs.
        threads: Of the CPU, for ONNX Runtime; PyTorch has its own switch, all others take the cores they see.
        settings: Of the validation (see `OPENING`).

    Returns:
        The release's `AutoBackend`.
    """
    from ultralytics.nn.autobackend import AutoBackend

    with quiet_release(), without_notice():
        network = AutoBackend(
            model=str(path),
            device=place_of(device),
            dnn=bool(settings.get("dnn")),
            fp16=half(settings),
            verbose=False,
            channels_last=settings.get("channels_last"),
            end2end=settings.get("nms") is False,
        )
    network.eval()
    fix_threads(network, path, threads)
    return network


def arithmetic_of(network: Any) -> str | None:
    """Returns the arithmetic that an opened network's runtime chose by itself; None if it does as the file says."""
    if network.format != "openvino":
        return None
    chosen = network.ov_compiled_model.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(chosen)


def fix_threads(network: Any, path: Path, threads: int) -> None:
    """Gives an opened ONNX file on the CPU its number of threads; the release leaves that to ONNX Runtime."""
    if network.format != "onnx" or network.device.type != "cpu":
        return
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    network.backend.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_of(network: Any, shape: tuple[int, int, int, int], *, augment: bool = False) -> Callable[[], Any]:
    """Returns a function that runs an opened network.

    Args:
        network: What `open_file` returned.
        shape: (B, C, H, W) of the images; what is in them is random.
        augment: Whether it looks at them in several sizes, as the setting of that name wants.
    """
    place = network.device
    image = torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32)).to(place)
    images = image.half() if network.fp16 else image

    @torch.inference_mode()
    def run() -> None:
        network(images, augment=augment)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        elif place.type == "mps":
            torch.mps.synchronize()

    return run
