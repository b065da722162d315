"""Three ways to a measured speed on the digits: `python benchmarks/latency_choice.py > docs/results/latency-choice.md`.

One trained YOLOv8n is cut to the same milliseconds in ONNX Runtime, with one thread: by multiply-adds with any widths,
by multiply-adds with widths in multiples of 8, by the latency model with any widths and with multiples of 8. Then all
are fine-tuned alike. Timings need a machine that does nothing else; about fifteen minutes on one CPU core.
"""

import argparse
import json
from pathlib import Path

from digits_runs import ADAM, IMGSZ, accuracy, dense, note, silence, trained

from ultralytics.pruning import Limits, PruningPlan, make_plan, prune, save, trace
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.criteria.scoring import Scoring
from ultralytics.pruning.data.sets import resolve_data
from ultralytics.pruning.files import places
from ultralytics.pruning.latency import Latency, LatencyModel, Runtime
from ultralytics.pruning.latency.search import plan_for_latency
from ultralytics.pruning.passes.images import Images, gradients
from ultralytics.pruning.report import table

RUNS = places.RUNS / "latency-benchmark"
SPEED_UP = 2.5
TUNING = {**ADAM, "epochs": 6, "close_mosaic": 3, "finetune": True}
WAYS = {  # name -> whether the latency model chooses, and the multiple that widths are rounded to
    "multiply-adds": (False, 1),
    "multiply-adds, rounded to 8": (False, 8),
    "latency model": (True, 1),
    "latency model, rounded to 8": (True, 8),
}


PAGE = """\
# Three ways to a measured speed

Made by `python benchmarks/latency_choice.py > docs/results/latency-choice.md`: YOLOv8n, 45 epochs on the built-in
digits at {imgsz} pixels, cut by `group_taylor` until ONNX Runtime, with one thread, takes {speed_up:g} times fewer
milliseconds as timed, then fine-tuned for {epochs} epochs. mAP50-95.

```
{table}
```"""


def cut(name: str, file: Path) -> dict:
    """Cuts by one of the ways, and writes the network; returns what to show of it."""
    by_time, step = WAYS[name]
    model, _ = checkpoint.load(dense())
    channel_map, limits = trace(model, imgsz=IMGSZ), Limits(round_to=step)
    images = Images(resolve_data("digits"), imgsz=IMGSZ)
    with silence():
        scores = Scoring("group_taylor", gradients=lambda network: gradients(network, images))(channel_map, model)

        def make(factor: float, latency: LatencyModel) -> PruningPlan:
            target = {"latency_speed_up": factor, "latency": latency} if by_time else {"speed_up": factor}
            return make_plan(channel_map, scores, limits=limits, **target)

        latency = Latency(SPEED_UP, Runtime("onnxruntime", 1), IMGSZ, places.RUNS / "latency")
        plan = plan_for_latency(latency, model, channel_map, limits, make)
        prune(model, plan, channel_map)
        save(model, file)
    return {"timed": plan.settings["latency"], "macs": plan.after.macs / plan.before.macs, "params": plan.after.params}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    entry.choose_device("cpu")
    RUNS.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in WAYS:
        file = RUNS / f"{name.replace(', ', '-').replace(' ', '-')}.pt"
        known = file.with_suffix(".json")
        if not known.is_file():
            note(name)
            known.write_text(json.dumps(cut(name, file)), encoding="utf-8")
        found = json.loads(known.read_text(encoding="utf-8"))
        after = accuracy(trained(file.stem, file, TUNING, runs=RUNS))
        timed = found["timed"]
        macs, params = f"{found['macs']:.1%}", f"{found['params']:,}"
        rows.append((name, f"{timed['speed_up']:.2f}x", macs, params, f"{accuracy(file):.3f}", f"{after:.3f}"))
    header = ("way", "measured", "multiply-adds", "parameters", "mAP50-95 after the cut", "fine-tuned")
    print(PAGE.format(imgsz=IMGSZ, speed_up=SPEED_UP, epochs=TUNING["epochs"], table=table(header, rows)))
