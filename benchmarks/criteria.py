"""Compares the criteria on the built-in digits: `python benchmarks/criteria.py > docs/results/criteria.md`.

Cuts one trained YOLOv8n by each criterion to a half and a third of its multiply-adds, and measures mAP50-95 right after
the cut, with batch-norm statistics estimated anew, and after an equal short fine-tuning, alone and taught by the
original. The two regularisers that go with a criterion train the network first, for longer than all others by that.
What is measured is kept, so that the benchmark can be interrupted: about four hours on one CPU core.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from digits_runs import ADAM, IMGSZ, accuracy, dense, note, silence, trained

from ultralytics.pruning import save
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.checkpoints.checkpoint import whole_file
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.criteria import CRITERIA
from ultralytics.pruning.criteria.scoring import Scoring
from ultralytics.pruning.data.sets import resolve_data
from ultralytics.pruning.files import places
from ultralytics.pruning.passes.images import Images, gradients, recalibrate
from ultralytics.pruning.pipeline import prune_network
from ultralytics.pruning.report import table

RUNS = places.RUNS / "criteria-benchmark"
FOUND = RUNS / "found.json"
SPEED_UPS = (2.0, 3.0)
BATCHES = 16
EPOCHS = 6
TUNING = {**ADAM, "epochs": EPOCHS, "close_mosaic": 3}
FADING = {**ADAM, "epochs": 10, "close_mosaic": 3, "round_to": 1}
BEST = "group_hessian"
REGULARISED = ("group_sl", "group_reg")


def measured(key: str, measure: Callable[..., float], *words: Any, **more: Any) -> float:
    """Returns a measured value, from the file if it is in there."""
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    if key not in known:
        known[key] = measure(*words, **more)
        note(f"{key}: {known[key]:.4g}")
        with whole_file(FOUND) as file:
            file.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return known[key]


def original(name: str, speed_up: float) -> Path:
    """Returns the network to cut: the dense one, or that a regulariser has trained on (one serves all targets)."""
    if name == "group_sl":
        return trained(name, dense(), {**FADING, "sparsity": name, "sr": 2 / FADING["epochs"]}, runs=RUNS)
    if name == "group_reg":
        target = {"sparsity": name, "target_speed_up": speed_up}
        return trained(f"{name} to {speed_up:g}x", dense(), {**FADING, **target}, runs=RUNS)
    return dense()


def cut(plain: Path, recalibrated: Path, name: str, speed_up: float, images: Images) -> float:
    """Cuts the network, writes it as it is and with new statistics; returns the seconds for all but these."""
    model, _ = checkpoint.load(original(name, speed_up))
    criterion = "group_norm" if name in REGULARISED else name
    target: dict[str, Any] = {"zeros": True} if name == "group_reg" else {"speed_up": speed_up}
    begin = time.perf_counter()
    with silence():
        scoring = Scoring(criterion, gradients=lambda network: gradients(network, images))
        pruned = prune_network(model, scoring=scoring, imgsz=IMGSZ, **target)
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
    before = f"{key} before" if criterion in REGULARISED else "dense"
    values = [
        measured(before, lambda: accuracy(original(criterion, speed_up))),
        measured(f"{key} cut", accuracy, plain),
        measured(f"{key} recalibrated", accuracy, recalibrated),
        measured(f"{key} tuned", tuned, key, recalibrated),
    ]
    taught = "-"
    if teacher:
        found = measured(f"{key} taught", tuned, f"{key} taught", recalibrated, distill_model=str(dense()))
        taught = f"{found:.3f}"
    return criterion, f"{seconds:.1f}", *(f"{value:.3f}" for value in values), taught


def light_teacher(criterion: str, speed_up: float) -> float:
    """Fine-tunes with a teacher whose loss weighs a sixth of what it does by default."""
    file = RUNS / f"{criterion}-{speed_up:g}-recalibrated.pt"
    return tuned(f"{criterion} {speed_up:g}x taught lightly", file, distill_model=str(dense()), dis=1.0)


PAGE = """\
# Criteria, one by one

Made by `python benchmarks/criteria.py {words}> docs/results/criteria.md` on one core of a
{machine} CPU: YOLOv8n, 45 epochs on the built-in digits at {imgsz} pixels, mAP50-95 {before:.3f}, and {after:.3f} after
{epochs} epochs more, cut by each criterion. `seconds`: trace, scores, choice, cut and check, with {batches} batches of
16 images where the criterion reads gradients. `before`, `cut`: mAP50-95 right before and after the cut, with folding.
`recalibrated`: after {batches} batches for the statistics of the batch norms. `fine-tuned`: from there, {epochs} epochs
with AdamW. `taught`: the same with the original as the teacher (`distill_model`), where it was measured.

`group_sl` and `group_reg` are sparsity trainings: the network was trained on in that mode for {fading} epochs first
(`group_sl` at its default strength, then cut by `group_norm`; `group_reg` to the target, then its zeros are cut). So,
fine-tuned, they have had {more} epochs more than the original; trained on for as long, that reaches {longer:.3f}.
"""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="criteria; all by default")
    taught = "which are fine-tuned with a teacher as well; all by default"
    parser.add_argument("--teach", nargs="*", default=[*CRITERIA, *REGULARISED], metavar="NAME", help=taught)
    options = parser.parse_args()
    entry.choose_device("cpu")
    RUNS.mkdir(parents=True, exist_ok=True)
    images = Images(resolve_data("digits"), BATCHES, imgsz=IMGSZ)
    names = options.names or [*CRITERIA, *REGULARISED]
    words = "" if options.teach == parser.get_default("teach") else f"{' '.join(['--teach', *options.teach])} "
    page: dict[str, Any] = {
        "words": words,
        "machine": platform.machine(),
        "imgsz": IMGSZ,
        "epochs": EPOCHS,
        "batches": BATCHES,
        "fading": FADING["epochs"],
        "more": FADING["epochs"] + EPOCHS,
    }
    page["before"] = measured("dense", lambda: accuracy(dense()))
    page["after"] = measured("dense tuned", lambda: accuracy(trained("dense tuned", dense(), TUNING, runs=RUNS)))
    longer = {**TUNING, "epochs": page["more"]}
    page["longer"] = measured("dense longer", lambda: accuracy(trained("dense longer", dense(), longer, runs=RUNS)))
    print(PAGE.format(**page))
    for speed_up in SPEED_UPS:
        header = ("criterion", "seconds", "before", "cut", "recalibrated", "fine-tuned", "taught")
        rows = [row(name, speed_up, images, teacher=name in options.teach) for name in names]
        print(f"## {speed_up:g}x fewer multiply-adds\n\n```\n{table(header, rows)}\n```\n", flush=True)
    if BEST in options.teach and BEST in names:
        light = measured(f"{BEST} 2x taught lightly", light_teacher, BEST, 2.0)
        print(f"With a sixth of the teacher's weight (`dis=1`, the release's default is 6), {BEST} at 2x: {light:.3f}.")
