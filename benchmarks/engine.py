"""Times the pruning engine: `python benchmarks/engine.py`, in the repository's root.

Traces, selects and cuts YOLOv8 of all sizes at a pruning ratio of 0.5 (or a speed-up, with rounded widths), and checks
the result against the original with silenced channels. The largest must take less than a second.
"""

import argparse
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import torch
from zoo_models import randomise

from ultralytics import YOLO
from ultralytics.pruning import Limits, prune_network
from ultralytics.pruning.report import say, table

REPEATS = 3


def measure(name: str, speed_up: float | None, round_to: int) -> tuple:
    """Returns a row of the table: the fastest of a few runs."""
    target = {"speed_up": speed_up} if speed_up else {"prune_ratio": 0.5}
    model = YOLO(f"{name}.yaml").model
    randomise(model)
    results = [prune_network(model, **target, limits=Limits(round_to=round_to), fold=False) for _ in range(REPEATS)]
    seconds = min((result.plan.seconds for result in results), key=lambda stages: sum(stages.values()))
    plan = results[0].plan
    return (
        name,
        f"{plan.before.params:,}",
        f"{plan.after.params:,}",
        *(f"{seconds[stage]:.3f}" for stage in ("trace", "select", "cut")),
        f"{sum(seconds.values()):.3f}",
        f"{results[0].difference:.1e}",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["yolov8n", "yolov8s", "yolov8m", "yolov8l", "yolov8x"])
    parser.add_argument("--speed-up", type=float, help="cut the multiply-adds by this instead")
    parser.add_argument("--round-to", type=int, default=1, help="keep multiples of this in each layer")
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    say(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    header = ("model", "parameters", "pruned", "trace s", "select s", "cut s", "together s", "difference")
    say(table(header, [measure(name, options.speed_up, options.round_to) for name in options.models]))
