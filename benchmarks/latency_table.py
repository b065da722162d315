"""Writes the timings that `prune.py --latency-table` reads, on the machine that a network is compressed for.

Times each layer of a network at several widths, and the network whole and cut by random scores, to learn what the sum
of the layers leaves out: `python benchmarks/latency_table.py --weights yolov8n.yaml --imgsz 640 --output board.json`.
With `--device 0` on a CUDA GPU.
"""

import argparse
import copy
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import numpy as np

from ultralytics.pruning import Limits, PruningError, cut, trace
from ultralytics.pruning.cutting import load_source
from ultralytics.pruning.latency import RUNTIMES, LatencyModel, LatencyTable, Runtime, measure
from ultralytics.pruning.latency.shapes import shapes_of
from ultralytics.pruning.latency.timing import in_turns
from ultralytics.pruning.plan import plan_from
from ultralytics.pruning.report import table as drawn
from ultralytics.pruning.selection import choose
from ultralytics.pruning.stages import say
from ultralytics.pruning.targets import Target

SPEED_UPS = (1.5, 2.0, 3.0)


def write(weights: str, imgsz: int, runtime: Runtime, step: int, output: Path) -> str:
    """Measures and writes the table; returns what it says of whole networks, for a person."""
    model, _, _ = load_source(weights)
    channel_map = trace(model, imgsz=imgsz)
    shapes = shapes_of(model, channel_map, imgsz)
    timings = LatencyTable(runtime.about())
    measure((shape for calls in shapes.values() for shape in calls), runtime, step, timings)
    sums = LatencyModel(channel_map, shapes, timings, step)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    runs, predicted = {"dense": runtime.network(model, imgsz)}, {"dense": sums(np.ones(len(scores), dtype=bool))}
    for speed_up in SPEED_UPS:
        kept, _ = choose(channel_map, scores, Target("latency_speed_up", speed_up), Limits(round_to=step), sums)
        pruned, name = copy.deepcopy(model), f"{speed_up:g}x"
        cut(pruned, plan_from(channel_map, kept, {}))
        predicted[name] = sums(kept)
        runs[name] = runtime.network(pruned, imgsz)
    with runtime.threading():
        timed = in_turns(runs)
    names = list(runs)
    factor, constant = np.polyfit([predicted[name] for name in names], [timed[name] for name in names], 1)
    if factor <= 0:
        raise PruningError("narrower networks were not faster: the machine is too busy to be timed")
    timings.fit = (float(constant), float(factor))
    timings.save(output)
    rows = [
        (name, f"{timed[name]:.2f}", f"{predicted[name]:.2f}", f"{constant + factor * predicted[name]:.2f}")
        for name in names
    ]
    return drawn(("network", "ms", "sum of its layers", "by the table"), rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="yolov8n.yaml", help="checkpoint, or a model yaml")
    parser.add_argument("--imgsz", type=int, default=640, help="side of the image in pixels")
    parser.add_argument("--runtime", choices=RUNTIMES, default=RUNTIMES[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the CPU")
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    parser.add_argument("--round-to", type=int, default=16, help="the multiple that widths will be rounded to")
    parser.add_argument("--output", type=Path, default=Path("latency-table.json"))
    options = parser.parse_args()
    try:
        runtime = Runtime(options.runtime, options.threads, options.device)
        say(write(options.weights, options.imgsz, runtime, options.round_to, options.output))
        say(f"\nWritten: {options.output}")
    except PruningError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
