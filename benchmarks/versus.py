"""Ours against what people use, on any data set: from one trained network, in equally many epochs, by one recipe.

    python train-normal.py --weights yolov8n.yaml --data datasets/cards/data.yaml --imgsz 256 --batch 16 --epochs 100 \
--name dense-cards nbs=16 optimizer=AdamW lr0=0.001
    python benchmarks/versus.py --weights runs/dense-cards/weights/best.pt --data datasets/cards/data.yaml --imgsz 256
    python benchmarks/versus.py --weights runs/dense-cards/weights/best.pt --data datasets/cards/data.yaml --imgsz 256 \
--time

The first command is the user's own; the second one trains, a cell at a time: a method, at a share of the multiply-adds,
by a seed. Each is kept, with its log, in `runs/versus-benchmark`; interrupted, the same command goes on, and several at
once share the work. The third one, on a machine that rests, makes the networks in integers and times all there are, in
turns. `--quick` does both in some twenty minutes, with fewer epochs and the methods that matter most; `--tiny` shows in
a few minutes that all runs, and takes a model yaml for the network. A cell of 40 epochs takes some fifteen minutes on
one core, with 300 images of 256 pixels; one from scratch, an hour. `docs/results/versus.md` is written from all that
was measured. `--sizes` compares sizes with those that a source reports.

On a GPU, DeepPCB in the setting of a public study (0.785 dense, 0.767 at 1.58x and 0.750 at 2.08x by Torch-Pruning):

    python train-normal.py --weights weights/yolov8n.pt --data datasets/pcb/data.yaml --imgsz 640 --epochs 50 \
--batch 16 --name dense-pcb --device 0 nbs=16 optimizer=AdamW lr0=0.001
    python benchmarks/versus.py --weights runs/dense-pcb/weights/best.pt --data datasets/pcb/data.yaml --imgsz 640 \
--epochs 50 --dense-epochs 50 --levels 0.633 0.481 --device 0
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import versus_page
import versus_sizes
from versus_cells import HEADLINES, METHODS, Cell, cells_done, keep, known, timed
from versus_ground import Ground, tiny, untrained

from ultralytics.pruning import trust
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.command_line.devices import cores
from ultralytics.pruning.data.sets import resolve_data
from ultralytics.pruning.errors import PruningError
from ultralytics.pruning.files import places
from ultralytics.pruning.runs.workers import end_with_parent

RUNS = places.RUNS / "versus-benchmark"
OWN_MODULE = "zoo_torch_pruning.SplitC2f"  # in the checkpoints of networks that Torch-Pruning can cut
QUICK = 16  # epochs
ROUNDS = 3  # of the timing in turns, of which the best counts


def in_processes(count: int, words: Sequence[str]) -> None:
    """Runs this script with the same words in several processes of a core each, which share the cells."""
    free = sorted(os.sched_getaffinity(0))

    def on_core(core: int) -> None:
        end_with_parent()
        os.sched_setaffinity(0, {core})

    command = [sys.executable, str(Path(__file__).resolve()), *words, "--worker"]
    started = [subprocess.Popen(command, preexec_fn=lambda core=core: on_core(core)) for core in free[:count]]
    codes = [process.wait() for process in started]
    if any(codes):
        raise SystemExit("a process ended early: see above, and start again to go on")


def parser() -> argparse.ArgumentParser:
    """Returns the options."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = found.add_argument
    add("--weights", type=Path, help="the trained dense network; of --tiny also a model yaml")
    add("--data", help="its data set")
    add("--imgsz", type=int, default=320)
    add("--batch", type=int, default=16)
    add("--epochs", type=int, default=40, help="of each method, all its trainings together")
    add("--dense-epochs", type=int, default=100, help="that the dense network has had")
    add("--levels", type=float, nargs="+", default=[0.5, 0.25], help="shares of the multiply-adds to leave")
    add("--seed", type=int, nargs="+", default=[0])
    add("--device", default="cpu", help="of the trainings; networks are timed on the CPU")
    add("--only", nargs="+", choices=METHODS, metavar="METHOD", help="; ".join(METHODS))
    add("--headline", action="store_true", help=f"only: {'; '.join(HEADLINES)}")
    add("--quick", action="store_true", help=f"{QUICK} epochs, the first level, those of --headline, and timed")
    add("--tiny", action="store_true", help="64 pixels, a few images, one epoch, and timed")
    add("--time", action="store_true", help="make the networks in integers, and time all there are")
    add("--threads", type=int, default=1, help="of the timing")
    add("--sizes", action="store_true", help="compare the sizes of a cut YOLOv8s with those of a source")
    add("--processes", type=int, help="at once, a core each (default: 2 on a CPU of several cores)")
    add("--worker", action="store_true", help=argparse.SUPPRESS)
    add("--runs", type=Path, help="folder of the runs; in another one the page lies there, too")
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Measures what is asked for, and writes the page."""
    words = sys.argv[1:] if words is None else list(words)
    options = parser().parse_args(words)
    os.environ.setdefault(trust.VARIABLE, OWN_MODULE)
    runs = (options.runs or (RUNS / "tiny" if options.tiny else RUNS)).resolve()
    runs.mkdir(parents=True, exist_ok=True)
    docs = runs == RUNS

    def publish() -> None:
        versus_page.write(known(runs), runs if not docs else None)

    if options.sizes:
        for name, row in versus_sizes.sizes(known(runs)["sizes"], tiny=options.tiny):
            keep(runs, "sizes", name, row)
            publish()
        return
    if not options.weights or not options.data:
        raise SystemExit("versus.py: --weights and --data are needed")
    names = options.only or (HEADLINES if options.headline or options.quick else METHODS)
    levels = options.levels[:1] if options.quick or options.tiny else options.levels
    grounds = [grounded(options, seed, runs) for seed in options.seed]
    asked = [
        Cell(ground, name, level)
        for ground in grounds
        for name in METHODS
        if name in names
        for level in (levels if METHODS[name].at_levels else (None,))
    ]
    at_once = options.processes or (1 if options.tiny or options.device != "cpu" else min(2, cores()))
    times = options.time or options.quick or options.tiny
    if not options.time:
        if at_once > 1 and not options.worker:
            in_processes(at_once, words)
        else:
            cells_done([cell for cell in asked if not METHODS[cell.method].alone], runs, publish)
    if times and not options.worker:
        cells_done([cell for cell in asked if METHODS[cell.method].alone], runs, publish)
        timed(grounds[0], runs, options.threads, 1 if options.tiny else ROUNDS)
    publish()


def grounded(options: argparse.Namespace, seed: int, runs: Path) -> Ground:
    """Returns what all methods share.

    Raises:
        PruningError: If the network or the data set cannot be read, or do not fit.
    """
    untrained_one = options.tiny and options.weights.suffix in places.YAML
    data = resolve_data(options.data)
    weights = options.weights if not untrained_one else runs / "data" / f"{options.weights.stem}.pt"
    if untrained_one and not weights.is_file():
        untrained(options.weights, data, weights)
    resolve_data(data, classes=len(checkpoint.load(weights)[0].names))
    epochs = QUICK if options.quick else options.epochs
    size = {"imgsz": options.imgsz, "batch": options.batch, "epochs": epochs, "dense_epochs": options.dense_epochs}
    ground = Ground(weights.resolve(), data, Path(data).parent.name, seed=seed, device=options.device, **size)
    return tiny(ground, runs / "data") if options.tiny else ground


if __name__ == "__main__":
    try:
        main()
    except PruningError as mistake:
        sys.exit(f"versus.py: error: {mistake}")
