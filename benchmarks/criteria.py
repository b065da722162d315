"""Compares the criteria on the built-in digits: `python benchmarks/criteria.py > docs/criteria.md`.

Cuts one trained YOLOv8n by each criterion to a half and a third of its multiply-adds, and measures mAP50-95 right after
the cut, with batch-norm statistics estimated anew, and after an equal short fine-tuning, alone and taught by the
original. What is measured is kept, so that the benchmark can be interrupted: about two hours on one CPU core.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from digits_runs import ADAM, IMGSZ, accuracy, dense, note, silence, trained

from ultralytics.pruning import checkpoint, save, stages
from ultralytics.pruning.checkpoint import whole_file
from ultralytics.pruning.criteria import CRITERIA
from ultralytics.pruning.images import Images, gradients, recalibrate
from ultralytics.pruning.pipeline import prune_network
from ultralytics.pruning.report import table
from ultralytics.pruning.scoring import Scoring

RUNS = stages.RUNS / "criteria-benchmark"
FOUND = RUNS / "found.json"
SPEED_UPS = (2.0, 3.0)
BATCHES = 16
EPOCHS = 6
TUNING = {**ADAM, "epochs": EPOCHS, "close_mosaic": 3}


def measured(key: str, measure: Callable[..., float], *words: Any, **more: Any) -> float:
    """Returns a measured value, from the file if it is in there."""
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    if key not in known:
        known[key] = measure(*words, **more)
        note(f"{key}: {known[key]:.4g}")
        with whole_file(FOUND) as file:
            file.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return known[key]


def cut(plain: Path, recalibrated: Path, criterion: str, speed_up: float, images: Images) -> float:
    """Cuts the network, writes it as it is and with new statistics; returns the seconds for all but these."""
    model, _ = checkpoint.load(dense())
    begin = time.perf_counter()
    with silence():
        scoring = Scoring(criterion, gradients=lambda network: gradients(network, images))
        pruned = prune_network(model, speed_up=speed_up, scoring=scoring, imgsz=IMGSZ)
        seconds = time.perf_counter() - begin
        save(pruned.model, plain)
        recalibrate(pruned.model, images)
        save(pruned.model, recalibrated)
    return seconds


def tuned(name: str, file: Path, **more: Any) -> float:
    """Fine-tunes; returns the accuracy of the end."""
    return accuracy(trained(name, file, {**TUNING, "finetune": True, **more}, runs=RUNS))


def row(criterion: str, speed_up: float, images: Images, *, teacher: bool) -> tuple:
    """Measures a criterion at a speed-up."""
    key = f"{criterion} {speed_up:g}x"
    plain, recalibrated = (RUNS / f"{criterion}-{speed_up:g}{suffix}.pt" for suffix in ("", "-recalibrated"))
    seconds = measured(f"{key} seconds", cut, plain, recalibrated, criterion, speed_up, images)
    values = [
        measured(f"{key} cut", accuracy, plain),
        measured(f"{key} recalibrated", accuracy, recalibrated),
        measured(f"{key} tuned", tuned, key, recalibrated),
    ]
    taught = "-"
    if teacher:
        found = measured(f"{key} taught", tuned, f"{key} taught", recalibrated, distill_model=str(dense()))
        taught = f"{found:.3f}"
    return criterion, f"{seconds:.1f}", *(f"{value:.3f}" for value in values), taught


PAGE = """\
# Criteria, one by one

Made by `python benchmarks/criteria.py {words}> docs/criteria.md` on one core of a
{machine} CPU: YOLOv8n, 45 epochs on the built-in digits at {imgsz} pixels, mAP50-95 {before:.3f}, and {after:.3f} after
{epochs} epochs more, cut by each criterion. `seconds`: trace, scores, choice, cut and check, with {batches} batches of
16 images where the criterion reads gradients. `cut`: mAP50-95 right after the cut, with folding. `recalibrated`: after
{batches} batches for the statistics of the batch norms. `fine-tuned`: from there, {epochs} epochs with AdamW.
`taught`: the same with the original as the teacher (`distill_model`), where it was measured.
"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="criteria; all by default")
    taught = "which are fine-tuned with a teacher as well; all by default"
    parser.add_argument("--teach", nargs="*", default=list(CRITERIA), metavar="NAME", help=taught)
    options = parser.parse_args()
    stages.choose_device("cpu")
    RUNS.mkdir(parents=True, exist_ok=True)
    images = Images(stages.resolve_data("digits"), BATCHES, imgsz=IMGSZ)
    names = options.names or list(CRITERIA)
    words = "" if options.teach == list(CRITERIA) else f"{' '.join(['--teach', *options.teach])} "
    page: dict[str, Any] = {
        "words": words,
        "machine": platform.machine(),
        "imgsz": IMGSZ,
        "epochs": EPOCHS,
        "batches": BATCHES,
    }
    page["before"] = measured("dense", lambda: accuracy(dense()))
    page["after"] = measured("dense tuned", lambda: accuracy(trained("dense tuned", dense(), TUNING, runs=RUNS)))
    print(PAGE.format(**page))
    for speed_up in SPEED_UPS:
        header = ("criterion", "seconds", "cut", "recalibrated", "fine-tuned", "taught")
        rows = [row(name, speed_up, images, teacher=name in options.teach) for name in names]
        print(f"## {speed_up:g}x fewer multiply-adds\n\n```\n{table(header, rows)}\n```\n", flush=True)
