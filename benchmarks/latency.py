"""Times pruned networks in ONNX Runtime: `python benchmarks/latency.py > docs/latency.md`, in the repository's root.

Each model is cut to several speed-ups (multiply-adds before over after) with widths in multiples of several steps, by
random scores. All networks of one model run in turns, so that a busy moment of the machine hits all alike, with a
pause before each, in which the threads of the one before come to rest. What counts is each one's best round: whatever
else the machine does only ever adds.
"""

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import numpy as np
import onnxruntime
import torch
from zoo_models import randomise

from ultralytics import YOLO
from ultralytics.pruning import Limits, PruningPlan, make_plan, prune, save, trace
from ultralytics.pruning.exporting import run_release
from ultralytics.pruning.stages import quiet_release

SPEED_UPS = (1.5, 2.0, 3.0)
STEPS = (1, 4, 8, 16, 32)
IMGSZ = 640
WARM_UP = 3
PAUSE = 0.05  # seconds


def note(text: str) -> None:
    """Shows progress beside the table."""
    print(text, file=sys.stderr, flush=True)


def processor() -> str:
    """Returns the name of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def session(model: torch.nn.Module, folder: Path, threads: int) -> onnxruntime.InferenceSession:
    """Exports a network as a user would, and opens its ONNX."""
    file = folder / "network.pt"
    save(model, file)
    with quiet_release():
        onnx = run_release(file, {"format": "onnx", "imgsz": IMGSZ, "device": "cpu"})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def networks(name: str, folder: Path, threads: int) -> dict[tuple[float, int], tuple[float, object]]:
    """Returns the multiply-adds before over after, and a session, by speed-up and step; (1, 0) is the dense one."""
    model = YOLO(f"{name}.yaml").model
    randomise(model)
    channel_map = trace(model, imgsz=IMGSZ)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    found: dict[tuple[float, int], tuple[float, object]] = {(1.0, 0): (1.0, session(model, folder, threads))}
    for speed_up in SPEED_UPS:
        for step in STEPS:
            note(f"{name}: speed-up {speed_up}, multiples of {step}")
            plan: PruningPlan = make_plan(channel_map, scores, speed_up=speed_up, limits=Limits(round_to=step))
            pruned = YOLO(f"{name}.yaml").model
            pruned.load_state_dict(model.state_dict())
            prune(pruned, plan)
            found[speed_up, step] = plan.before.macs / plan.after.macs, session(pruned, folder, threads)
    return found


def times(sessions: dict[tuple[float, int], tuple[float, object]], rounds: int) -> dict[tuple[float, int], list[float]]:
    """Returns the milliseconds of each network in each round."""
    image = np.random.default_rng(0).random((1, 3, IMGSZ, IMGSZ), dtype=np.float32)
    taken: dict[tuple[float, int], list[float]] = {key: [] for key in sessions}
    for number in range(WARM_UP + rounds):
        for key, (_, own) in sessions.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            own.run(None, {own.get_inputs()[0].name: image})
            if number >= WARM_UP:
                taken[key].append((time.perf_counter() - start) * 1e3)
    return taken


def rows(name: str, rounds: int, threads: int) -> list[str]:
    """Measures one model; returns rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = networks(name, Path(folder), threads)
        note(f"{name}: {rounds} rounds of {len(sessions)} networks")
        taken = times(sessions, rounds)
    dense = taken[1.0, 0]
    lines = [f"| {name} | dense | | | {min(dense):.1f} | |"]
    for (speed_up, step), (macs, _) in list(sessions.items())[1:]:
        best = min(taken[speed_up, step])
        lines.append(f"| {name} | {speed_up:g} | {step} | {macs:.2f}x | {best:.1f} | {min(dense) / best:.2f}x |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["yolov8n", "yolov8s"])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    measured = [line for name in options.models for line in rows(name, options.rounds, cores)]
    print("# Fewer multiply-adds, and how much faster\n")
    print("Made by `python benchmarks/latency.py > docs/latency.md`: ONNX Runtime on the CPU, one image of")
    print(
        f"{IMGSZ} x {IMGSZ}, channels chosen at random, all networks of a model in turns, the best of {options.rounds}"
    )
    print("rounds.\n")
    print(f"{processor()}, {cores} threads, onnxruntime {onnxruntime.__version__}, torch {torch.__version__}.\n")
    print("| model | `--speed-up` | `--round-to` | multiply-adds, before / after | ms | faster |")
    print("|---|---:|---:|---:|---:|---:|")
    print("\n".join(measured))
