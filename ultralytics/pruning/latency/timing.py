"""Timings of single layers and of networks, in ONNX Runtime or PyTorch. Of several runs the best counts: whatever else
a machine does can only make a run slower."""

from __future__ import annotations

import contextlib
import copy
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..checkpoints import checkpoint
from ..errors import PruningError
from ..passes.isolation import plain_arithmetic
from ..tracing.trace import image_shape
from .shapes import Shape, sides

Key = TypeVar("Key")
RUNTIMES = ("onnxruntime", "torch")
OPSET, IR = 17, 8  # of ONNX: what any runtime of the last years reads
WARM_UP = 2
LEAST_ROUNDS = 3  # of timings in turns that end with the clock
PAUSE = 0.05  # seconds before a network's turn, in which the threads of the one before come to rest
BURST, WARM = 5, 0.02  # runs in a turn at most, and seconds: what counts is the last, when nothing is cold any more


@dataclass(frozen=True)
class Runtime:
    """What runs networks, and where.

    Attributes:
        name: One of `RUNTIMES`.
        threads: How many threads of the CPU.
        device: `cpu`, or the number of a GPU.

    Raises:
        PruningError: If the name is unknown, or this machine cannot run it on the device.
    """

    name: str = "onnxruntime"
    threads: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.name not in RUNTIMES:
            raise PruningError(f"unknown runtime '{self.name}'; there are {', '.join(RUNTIMES)}")
        if self.device != "cpu" and not self.device.isdigit():
            raise PruningError(f"nothing is timed on '{self.device}': use --device cpu, or the number of a GPU")
        if self.name == "onnxruntime" and self.device != "cpu" and not runs_on_gpus():
            raise PruningError("this onnxruntime does not run on a GPU: use --runtime torch, or --device cpu")

    def about(self) -> dict[str, str]:
        """Returns in words what timings depend on, besides the layer."""
        version = torch.__version__
        if self.name == "onnxruntime":
            import onnxruntime

            version = onnxruntime.__version__
        on_cpu = self.device == "cpu"
        machine = processor() if on_cpu else torch.cuda.get_device_name(int(self.device))
        threads = str(self.threads) if on_cpu else "-"
        return {"machine": machine, "runtime": f"{self.name} {version}", "threads": threads}

    @contextlib.contextmanager
    def threading(self) -> Iterator[None]:
        """Gives PyTorch the threads for a while, and the arithmetic of a fresh process, whatever ran before."""
        with plain_arithmetic():
            torch.set_num_threads(self.threads)
            yield

    @property
    def _place(self) -> str:
        """The device in PyTorch's words."""
        return "cpu" if self.device == "cpu" else f"cuda:{self.device}"

    def _session(self, model: bytes | str) -> Callable[[Any], Any]:
        """Opens an ONNX file or its bytes; returns a function that runs it."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        gpu = ("CUDAExecutionProvider", {"device_id": self.device})
        providers: list[Any] = ["CPUExecutionProvider"] if self.device == "cpu" else [gpu]
        session = onnxruntime.InferenceSession(model, options, providers=providers)
        if self.device != "cpu" and session.get_providers()[0] != gpu[0]:
            raise PruningError(f"onnxruntime did not open GPU {self.device}: use --runtime torch")
        name = session.get_inputs()[0].name
        return lambda image: session.run(None, {name: image})

    def layer(self, shape: Shape, inputs: int, outputs: int) -> Callable[[], Any]:
        """Returns a function that runs a layer at the given widths."""
        image = np.random.default_rng(0).random((1, inputs, *shape.cells), dtype=np.float32)
        if self.name == "onnxruntime":
            run = self._session(layer_onnx(shape, inputs, outputs))
            return lambda: run(image)
        groups = shape.groups or inputs
        kind: Any = getattr(nn, shape.kind)
        where = self._place
        conv = kind(inputs, outputs, shape.kernel, shape.stride, shape.padding, groups=groups, dilation=shape.dilation)
        conv, tensor = conv.to(where).eval(), torch.from_numpy(image).to(where)

        @torch.inference_mode()
        def run_layer() -> None:
            result = conv(tensor)
            if shape.activation:
                functional.silu(result, inplace=True)
            if where != "cpu":
                torch.cuda.synchronize(where)

        return run_layer

    def network(self, model: nn.Module, imgsz: int | Sequence[int], onnx: Path | None = None) -> Callable[[], Any]:
        """Returns a function that runs a network as it would be deployed: exported, or with its batch norms fused.

        Args:
            model: The network.
            imgsz: Side of the image in pixels, or height and width.
            onnx: The network as it was exported at that size, which spares an export; for ONNX Runtime.
        """
        from ..deploy.exporting import export_by_release
        from ..release import quiet_release

        _, channels, _, _ = image_shape(model, 1)
        image = np.random.default_rng(0).random((1, channels, *sides(imgsz)), dtype=np.float32)
        if self.name == "onnxruntime" and onnx:
            run = self._session(str(onnx))
            return lambda: run(image)
        if self.name == "onnxruntime":
            with tempfile.TemporaryDirectory(prefix="latency-") as folder, quiet_release():
                file = Path(folder) / "network.pt"
                checkpoint.save(copy.deepcopy(model), file)
                run = self._session(str(export_by_release(file, {"format": "onnx", "imgsz": imgsz, "device": "cpu"})))
            return lambda: run(image)
        where = self._place
        with quiet_release():
            fused: Any = copy.deepcopy(model).float().eval().to(where)
            fused = fused.fuse(verbose=False)
        tensor = torch.from_numpy(image).to(where)

        @torch.inference_mode()
        def run_network() -> None:
            fused(tensor)
            if where != "cpu":
                torch.cuda.synchronize(where)

        return run_network


def runs_on_gpus() -> bool:
    """Whether this machine's ONNX Runtime knows CUDA."""
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def processor() -> str:
    """Returns the name of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def layer_onnx(shape: Shape, inputs: int, outputs: int) -> bytes:
    """Returns the bytes of an ONNX file with one layer at the given widths, and its activation."""
    from onnx import TensorProto, helper, numpy_helper

    groups = shape.groups or inputs
    pair = (outputs, inputs // groups) if shape.kind == "Conv2d" else (inputs, outputs // groups)
    random = np.random.default_rng(0)
    weight = random.standard_normal((*pair, *shape.kernel), dtype=np.float32)
    weights = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(outputs, np.float32), "b")]

    how: dict[str, Any] = {
        "kernel_shape": shape.kernel,
        "strides": shape.stride,
        "pads": shape.padding * 2,
        "dilations": shape.dilation,
        "group": groups,
    }
    nodes = [helper.make_node(shape.kind.removesuffix("2d"), ["x", "w", "b"], ["c"], **how)]
    if shape.activation:
        nodes += [helper.make_node("Sigmoid", ["c"], ["s"]), helper.make_node("Mul", ["c", "s"], ["y"])]

    result = helper.make_tensor_value_info("y" if shape.activation else "c", TensorProto.FLOAT, None)
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, inputs, *shape.cells))
    graph = helper.make_graph(nodes, "layer", [image], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    return model.SerializeToString()


def milliseconds(run: Callable[[], Any], *, least: int = 5, seconds: float = 0.02) -> float:
    """Returns the time of the best run in ms, of at least `least` runs and as many as fit in `seconds`."""
    for _ in range(WARM_UP):
        run()
    best, end, count = np.inf, time.perf_counter() + seconds, 0
    while count < least or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        best, count = min(best, time.perf_counter() - begin), count + 1
    return float(best * 1e3)


def in_turns(runs: dict[Key, Callable[[], Any]], *, rounds: int = 30) -> dict[Key, float]:
    """Times networks in turns, so that a busy moment of the machine hits all alike; returns each one's best, in ms."""
    return {name: min(found).ms for name, found in rounds_in_turns(runs, rounds).items()}


class Run(NamedTuple):
    """A run of a network.

    Attributes:
        ms: Milliseconds by the clock.
        waited: Share of them in which the thread that called it did not run: others had the core, or a GPU worked.
    """

    ms: float
    waited: float


def rounds_in_turns(
    runs: dict[Key, Callable[[], Any]], rounds: int, seconds: float = np.inf
) -> dict[Key, tuple[Run, ...]]:
    """Times networks in turns; returns a run of each round, in which a network ran just before.

    Args:
        runs: What runs each network.
        rounds: How many rounds, besides those in which the networks warm up.
        seconds: After which no further round begins, once there are `LEAST_ROUNDS`.
    """
    found: dict[Key, list[Run]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    for number in range(WARM_UP + rounds):
        if number >= WARM_UP + LEAST_ROUNDS and time.perf_counter() > end:
            break
        for name, run in runs.items():
            time.sleep(PAUSE)
            last = _burst(run)
            if number >= WARM_UP:
                found[name].append(last)
    return {name: tuple(each) for name, each in found.items()}


def _burst(run: Callable[[], Any]) -> Run:
    """Runs a network until it is warm; returns the last run. One that takes long is warm by itself."""
    start = time.perf_counter()
    for _ in range(BURST):
        worked, begin = time.thread_time(), time.perf_counter()
        run()
        end = time.perf_counter()
        took, worked = end - begin, time.thread_time() - worked
        if end - start >= WARM:
            break
    return Run(took * 1e3, max(0.0, 1 - worked / took))
