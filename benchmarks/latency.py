"""Times pruned networks in ONNX Runtime: `python benchmarks/latency.py > docs/results/latency.md`, in the root.

Each model is cut to several speed-ups (multiply-adds before over after) with widths in multiples of several steps, by
random scores. All networks of one model run in turns, so that a busy moment of the machine hits all alike, with a
pause before each, in which the threads of the one before come to rest. What counts is each one's best round: whatever
else the machine does only ever adds.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import numpy as np
import onnxruntime
import torch
from zoo_models import randomise

from ultralytics import YOLO
from ultralytics.pruning import Limits, PruningPlan, make_plan, prune, trace
from ultralytics.pruning.latency import Runtime
from ultralytics.pruning.latency.timing import in_turns, processor

SPEED_UPS = (1.5, 2.0, 3.0)
STEPS = (1, 4, 8, 16, 32)
IMGSZ = 640


def note(text: str) -> None:
    """Shows progress beside the table."""
    print(text, file=sys.stderr, flush=True)


def networks(name: str, runtime: Runtime) -> dict[tuple[float, int], tuple[float, Callable]]:
    """Returns the multiply-adds before over after, and a run, by speed-up and step; (1, 0) is the dense one."""
    model = YOLO(f"{name}.yaml").model
    randomise(model)
    channel_map = trace(model, imgsz=IMGSZ)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    found: dict[tuple[float, int], tuple[float, Callable]] = {(1.0, 0): (1.0, runtime.network(model, IMGSZ))}
    for speed_up in SPEED_UPS:
        for step in STEPS:
            note(f"{name}: speed-up {speed_up}, multiples of {step}")
            plan: PruningPlan = make_plan(channel_map, scores, speed_up=speed_up, limits=Limits(round_to=step))
            pruned = YOLO(f"{name}.yaml").model
            pruned.load_state_dict(model.state_dict())
            prune(pruned, plan)
            found[speed_up, step] = plan.before.macs / plan.after.macs, runtime.network(pruned, IMGSZ)
    return found


def rows(name: str, rounds: int, runtime: Runtime) -> list[str]:
    """Measures one model; returns rows of the table."""
    found = networks(name, runtime)
    note(f"{name}: {rounds} rounds of {len(found)} networks")
    best = in_turns({key: run for key, (_, run) in found.items()}, rounds=rounds)
    dense = best[1.0, 0]
    lines = [f"| {name} | dense | | | {dense:.1f} | |"]
    for (speed_up, step), (macs, _) in list(found.items())[1:]:
        ms = best[speed_up, step]
        lines.append(f"| {name} | {speed_up:g} | {step} | {macs:.2f}x | {ms:.1f} | {dense / ms:.2f}x |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["yolov8n", "yolov8s"])
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    measured = [line for name in options.models for line in rows(name, options.rounds, Runtime("onnxruntime", cores))]
    print("# Fewer multiply-adds, and how much faster\n")
    print("Made by `python benchmarks/latency.py > docs/results/latency.md`: ONNX Runtime on the CPU, one image of")
    print(
        f"{IMGSZ} x {IMGSZ}, channels chosen at random, all networks of a model in turns, the best of {options.rounds}"
    )
    print("rounds.\n")
    print(f"{processor()}, {cores} threads, onnxruntime {onnxruntime.__version__}, torch {torch.__version__}.\n")
    print("| model | `--speed-up` | `--round-to` | multiply-adds, before / after | ms | faster |")
    print("|---|---:|---:|---:|---:|---:|")
    print("\n".join(measured))
