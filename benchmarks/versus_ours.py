"""Ours, as methods of `versus.py`: `compress.py` as it comes, by multiply-adds and by milliseconds, and in integers."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from versus_ground import Job, Made, exported

from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.command_line import settling
from ultralytics.pruning.compression.run import Compression
from ultralytics.pruning.compression.work import milliseconds
from ultralytics.pruning.errors import PruningError
from ultralytics.pruning.latency import Runtime
from ultralytics.pruning.quantization import ground as judging
from ultralytics.pruning.quantization.int8 import DEFAULT_DROP, describe, in_integers
from ultralytics.pruning.sparsity.modes.steered import LEAST_EPOCHS
from ultralytics.pruning.stages import compress_options, compressing

OURS = "ours"
THREADS = 1


def compressed(job: Job, *words: str) -> Made:
    """What `compress.py` makes with some words of its command line, and the settings that all trainings here have."""
    ground, parser = job.ground, compress_options.parser()
    training = {key: value for key, value in ground.training().items() if key not in ("imgsz", "batch", "device")}
    size = ["--imgsz", str(ground.imgsz), "--batch", str(ground.batch), "--device", ground.device]
    given = ["--weights", str(ground.weights), "--data", ground.data, *size, *words]
    options = parser.parse_intermixed_args([*given, *(f"{key}={value}" for key, value in training.items())])
    settling.settle(options, parser._actions, options.words, parser.keys)
    options.device = ground.device
    folder = job.folder / "compress"
    folder.mkdir(exist_ok=True)
    kept = Compression(compressing.recipe_of(options), folder).run()
    if kept is None:
        raise PruningError(f"compress.py {shlex.join(words)} kept no state")
    said = shlex.join(["compress.py", *words])
    return Made(folder / "compressed.pt", ground.imgsz, {"command": said})


def by_multiply_adds(job: Job) -> Made:
    """`compress.py --speed-up`, as it comes: one cut by what the outputs need, and all epochs behind it."""
    return compressed(job, "--speed-up", f"{1 / job.level:g}", "--epochs", str(job.ground.epochs))


def steered(job: Job) -> Made:
    """`compress.py --scheme steered`: half of the epochs fade, the others fine-tune."""
    fading = max(LEAST_EPOCHS, job.ground.epochs // 2)
    rest = max(1, job.ground.epochs - fading)
    epochs = ["--steps", "1", "--epochs-per-step", str(fading), "--epochs", str(rest)]
    return compressed(job, "--scheme", "steered", "--speed-up", f"{1 / job.level:g}", *epochs)


def by_milliseconds(job: Job) -> Made:
    """`compress.py --latency-speed-up`, by the factor that the cut by multiply-adds has, timed in turns with the dense.

    So it is asked for equal milliseconds, and what differs is how the channels are chosen.
    """
    runtime = Runtime("onnxruntime", THREADS)
    before, after, _ = milliseconds(job.ground.weights, job.made[OURS], job.ground.imgsz, runtime)
    factor = max(round(before / after, 2), 1.05)
    timing = ["--runtime", "onnxruntime", "--threads", str(THREADS)]
    return compressed(job, "--latency-speed-up", f"{factor:g}", "--epochs", str(job.ground.epochs), *timing)


def integers(job: Job, of: str) -> Made:
    """Another method's network in 8-bit integers, as `export.py --int8 --force` makes it.

    Args:
        job: What is asked for.
        of: The name of the method.
    """
    network = job.made[of]
    model, content = checkpoint.load(network)
    found = judging.Ground.of(model, content, job.ground.data, job.ground.imgsz, THREADS, "--int8")
    start = Path(shutil.copy(exported(network, job.ground.imgsz), job.folder / "float.onnx"))
    before = found.accuracy(start)
    product = in_integers(start, found, before - DEFAULT_DROP)
    describe(product, before)
    file = Path(shutil.copy(product.file, job.folder / "int8.onnx"))
    floats = product.choice.begin + len(product.choice.floats)
    settings = {"max_map_drop": DEFAULT_DROP, "threads": THREADS, "convolutions in float": floats}
    return Made(file, job.ground.imgsz, settings, network)


METHODS: dict[str, Callable[[Job], Made]] = {
    OURS: by_multiply_adds,
    "ours, by milliseconds": by_milliseconds,
    "ours, steered": steered,
}
