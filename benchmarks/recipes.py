"""Compares the settings of compress.py on photographs: what wins is the default.

Each variant takes the same trained network to the same multiply-adds in equally many epochs, fading and fine-tuning
together, and is measured on the val split. The first one is the yardstick: the network itself, trained on for as long.

    python train-normal.py --weights yolov8n.yaml --data datasets/chess/data.yaml --imgsz 256 --batch 16 --epochs 100 \
--name dense-chess nbs=16 optimizer=AdamW lr0=0.001
    python benchmarks/recipes.py --data datasets/chess/data.yaml --weights runs/dense-chess/weights/best.pt --imgsz 256

A cell at a time, each of which is kept: interrupted, the same command goes on. `docs/results/recipes.md` is written
from all that was measured. A cell of 40 epochs takes a quarter of an hour on one core, with 300 images of 256 pixels.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import torch

from ultralytics import YOLO
from ultralytics.pruning import release
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.compression import work
from ultralytics.pruning.compression.recipe import Recipe, images_of
from ultralytics.pruning.compression.run import Compression
from ultralytics.pruning.cost import cost_of
from ultralytics.pruning.data.sets import resolve_data
from ultralytics.pruning.files import places
from ultralytics.pruning.files.whole import whole_file
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.pipeline import prune_network
from ultralytics.pruning.report import say
from ultralytics.pruning.selection.limits import DEFAULT_FLOOR, DEFAULT_ROUND_TO, Limits
from ultralytics.pruning.selection.targets import Target
from ultralytics.pruning.tracing.trace import trace
from ultralytics.pruning.training.fine_tuning import CHOICE, MOMENTUM

RUNS = places.RUNS / "recipes-benchmark"
FOUND = RUNS / "found.json"
PAGE = places.ROOT / "docs" / "results" / "recipes.md"
YARDSTICK = "the network itself, trained on"
FADING, TUNING = "steered", "fine-tuned"  # the trainings of a compression, by their folders
STEPPED = "(steps as the release's)"  # rows of fine-tunings before they averaged as training/fine_tuning.py says
ADAMW = "(AdamW)"  # and before they took MuSGD
STEPS = 4  # of which the epochs of the fading are made up


@dataclass(frozen=True)
class Variant:
    """A way to compress.

    Attributes:
        taught: The trainings in which the original teaches.
        fading: Part of the epochs that the fading takes.
        settings: Training arguments beside the common ones.
        cuts: In how many cuts, by what the outputs need, as prune.py does it; 0: one that is faded to.
        round_to: What widths are a multiple of.
        floor: Least share of each layer's channels that stays.
        behind: A variant and a speed-up, by which another compression of as many epochs comes before this one.
    """

    taught: tuple[str, ...] = ()
    fading: float = 0.5
    settings: dict[str, Any] = field(default_factory=dict)
    cuts: int = 0
    round_to: int = DEFAULT_ROUND_TO
    floor: float = DEFAULT_FLOOR
    behind: tuple[str, float] | None = None


def stepping(optimizer: str, lr0: float, mosaic_off: int) -> dict[str, Any]:
    """Returns the settings of a fine-tuning that differ from those of training/fine_tuning.py in what is named."""
    steps = {"optimizer": optimizer, "lr0": lr0, "momentum": MOMENTUM, "warmup_bias_lr": 0.0}
    return {**steps, "close_mosaic": mosaic_off}


VARIANTS: dict[str, Variant] = {
    "no teacher": Variant(),
    "taught": Variant((FADING, TUNING)),
    "taught, dis=2": Variant((FADING, TUNING), settings={"dis": 2.0}),
    "taught, dis=1": Variant((FADING, TUNING), settings={"dis": 1.0}),
    "taught, dis=0.5": Variant((FADING, TUNING), settings={"dis": 0.5}),
    "taught in the fading only": Variant((FADING,)),
    "taught in the fine-tuning only": Variant((TUNING,)),
    "no teacher, 3/4 of the epochs for the fading": Variant(fading=0.75),
    "no teacher, 1/4 of the epochs for the fading": Variant(fading=0.25),
    "no teacher, AdamW lr0=0.001": Variant(settings={"optimizer": "AdamW", "lr0": 0.001}),
    "no teacher, AdamW lr0=0.002": Variant(settings={"optimizer": "AdamW", "lr0": 0.002}),
    "no teacher, SGD lr0=0.01": Variant(settings={"optimizer": "SGD", "lr0": 0.01}),
    "no teacher, cosine": Variant(settings={"cos_lr": True}),
    "at once": Variant(cuts=1),
    "at once, AdamW lr0=0.001": Variant(cuts=1, settings={"optimizer": "AdamW", "lr0": 0.001}),
    "at once, widths in 8s": Variant(cuts=1, round_to=8),
    "at once, narrower": Variant(cuts=1, round_to=8, floor=0.02),
    "at once, narrower, widths in 4s": Variant(cuts=1, round_to=4, floor=0.02),
    "at once, floor 0.02": Variant(cuts=1, floor=0.02),
    "at once, floor 0.2": Variant(cuts=1, floor=0.2),
    "at once, floor 0.3": Variant(cuts=1, floor=0.3),
    "at once, floor 0.4": Variant(cuts=1, floor=0.4),
    "at once, floor 0.5": Variant(cuts=1, floor=0.5),
    "at once, widths in 8s, floor 0.2": Variant(cuts=1, round_to=8, floor=0.2),
    "at once, widths in 8s, floor 0.3": Variant(cuts=1, round_to=8, floor=0.3),
    "at once, widths in 8s, floor 0.2, cosine": Variant(
        cuts=1, round_to=8, floor=0.2, settings={**stepping(*CHOICE, 20), "cos_lr": True}
    ),
    **{
        f"at once, widths in 8s, floor 0.2, steps of {images} images": Variant(
            cuts=1, round_to=8, floor=0.2, settings={"nbs": images, "batch": min(images, 16)}
        )
        for images in (8, 64)
    },
    "at once, momentum=0.9": Variant(cuts=1, settings={"momentum": 0.9}),
    "at once, AdamW lr0=0.002": Variant(cuts=1, settings=stepping("AdamW", 0.002, 10)),
    "at once, AdamW lr0=0.004": Variant(cuts=1, settings=stepping("AdamW", 0.004, 10)),
    "at once, SGD lr0=0.01": Variant(cuts=1, settings=stepping("SGD", 0.01, 10)),
    **{
        f"at once, narrower, {optimizer} lr0={lr0}, mosaics off for the last {off}": Variant(
            cuts=1, round_to=8, floor=0.02, settings=stepping(optimizer, lr0, off)
        )
        for optimizer, lr0, off in (
            ("AdamW", 0.002, 10),
            ("AdamW", 0.002, 25),
            ("MuSGD", 0.01, 10),
            ("MuSGD", 0.02, 10),
            ("MuSGD", 0.03, 10),
            ("MuSGD", 0.02, 20),
            ("MuSGD", 0.02, 30),
        )
    },
    "at once, cosine": Variant(cuts=1, settings={"cos_lr": True}),
    "at once, taught, dis=1": Variant((TUNING,), cuts=1, settings={"dis": 1.0}),
    "in two cuts": Variant(cuts=2),
    "in two cuts, widths in 8s, floor 0.2": Variant(cuts=2, round_to=8, floor=0.2),
    "cut out of the network at 2.5x": Variant(cuts=1, round_to=8, floor=0.2, behind=("at once, floor 0.3", 2.5)),
}


class TaughtInPart(Compression):
    """A compression in which the original teaches in some of the trainings."""

    taught: tuple[str, ...] = ()

    def train(self, name: str, start: Path, settings: dict[str, Any], result: str = "last.pt") -> Path:
        whole = self.recipe
        self.recipe = replace(whole, teacher=name in self.taught)
        try:
            return super().train(name, start, settings, result)
        finally:
            self.recipe = whole


@dataclass(frozen=True)
class Ground:
    """What all variants share.

    Attributes:
        weights: The trained network.
        data: The yaml of the data set.
        imgsz: Side of the images in pixels.
        batch: Images per step.
        epochs: Of all trainings together.
        speed_up: Multiply-adds before over after.
        seed: Of all trainings.
    """

    weights: Path
    data: str
    imgsz: int
    batch: int
    epochs: int
    speed_up: float
    seed: int

    @property
    def name(self) -> str:
        """What tells it from others, in words."""
        places_ = f"{Path(self.data).parent.name}, {self.weights.parents[1].name}, {self.imgsz} px"
        return f"{places_}, {self.epochs} epochs, {self.speed_up:g}x, seed {self.seed}"

    def training(self) -> dict[str, Any]:
        """Returns the arguments of all trainings."""
        fixed = {"plots": False, "workers": 0, "device": "cpu", "nbs": self.batch, "seed": self.seed}
        return {"imgsz": self.imgsz, "batch": self.batch, **fixed}

    def recipe(self, variant: Variant) -> Recipe:
        """Returns what a variant is asked for."""
        training = {**self.training(), **variant.settings}
        each = round(self.epochs * variant.fading / STEPS)
        return Recipe(
            weights=str(self.weights),
            sha256=checkpoint.sha256(self.weights),
            images=images_of(training, self.data),
            target=Target("speed_up", self.speed_up),
            steps=STEPS,
            epochs_per_step=each,
            epochs=self.epochs - STEPS * each,
            limits=Limits(round_to=variant.round_to, floor=variant.floor),
            recalibrate=0,
            teacher=bool(variant.taught),
            training=training,
        )


def compressed(ground: Ground, name: str, folder: Path) -> dict[str, float]:
    """Compresses by a variant; returns its accuracy on the way and at the end."""
    run = TaughtInPart(ground.recipe(VARIANTS[name]), folder)
    run.taught = VARIANTS[name].taught
    kept = run.run()
    if kept is None:
        raise SystemExit(f"{name}: no state was kept")
    cut = next(step.cut for step in run.steps if step.step == FADING)
    left = kept.parameters / run.original.parameters
    seconds = sum(step.seconds for step in run.steps)  # of all runs, where it was interrupted
    return {"dense": run.original.accuracy, "cut": cut or 0.0, "map": kept.accuracy, "left": left, "seconds": seconds}


def trained_on(ground: Ground, folder: Path) -> dict[str, float]:
    """Trains the network on for as many epochs; returns its accuracy before and after."""
    recipe = ground.recipe(Variant())
    best = folder / "longer" / "weights" / "best.pt"
    work.train(
        "longer", ground.weights, {"epochs": ground.epochs, "finetune": True}, replace(recipe, teacher=False), folder
    )
    dense, after = (work.measured_accuracy(file, recipe, folder) for file in (ground.weights, best))
    return {"dense": dense, "map": after, "left": 1.0}


def cut_at_once(ground: Ground, name: str, folder: Path) -> dict[str, float]:
    """Cuts as prune.py does where nobody says how, and fine-tunes; returns the accuracy on the way and at the end.

    Of several cuts, the ones before the last are followed by a quarter of the epochs together. The first cut has
    nothing to do with the seed of the trainings, so it is made once for all of them.
    """
    variant = VARIANTS[name]
    recipe, start = replace(ground.recipe(variant), teacher=bool(variant.taught)), ground.weights
    if variant.behind:
        start = compressed_before(ground, *variant.behind)
    early = ground.epochs // 4 if variant.cuts > 1 else 0
    for number in range(1, variant.cuts + 1):
        last = number == variant.cuts
        rules = f"{variant.cuts}-{variant.round_to}" + (f"-{variant.floor}" if variant.floor != DEFAULT_FLOOR else "")
        shared = RUNS / f"cut-{folder_name(without_seed(ground.name))}-{rules}.pt"
        file = shared if number == 1 and not variant.behind else folder / f"cut-{number}.pt"
        if start != ground.weights:  # floors of layers count from the original
            recipe = replace(recipe, limits=replace(recipe.limits, widths=work.widths(ground.weights)))
        if not file.is_file():
            cut(start, file, ground, ground.speed_up ** (number / variant.cuts), recipe)
        epochs = ground.epochs - early if last else early // (variant.cuts - 1)
        work.train(f"tuned-{number}", file, {"epochs": epochs, "finetune": True}, recipe, folder)
        start = folder / f"tuned-{number}" / "weights" / "last.pt"
    files = (ground.weights, file, start.with_name("best.pt"))
    dense, after_cut, after = (work.measured_accuracy(each, recipe, folder) for each in files)
    before, macs = (macs_of(each, ground) for each in (files[0], files[-1]))
    return {"dense": dense, "cut": after_cut, "map": after, "left": share_left(files), "macs": macs / before}


def compressed_before(ground: Ground, name: str, speed_up: float) -> Path:
    """Returns the checkpoint of another cell, which is measured if it was not."""
    before = replace(ground, speed_up=speed_up)
    measured(before, name)
    return RUNS / folder_name(f"{before.name}: {name}") / "tuned-1" / "weights" / "best.pt"


def cut(start: Path, file: Path, ground: Ground, speed_up: float, recipe: Recipe) -> None:
    """Cuts a checkpoint to a speed-up that counts from the network before all cuts."""
    images = replace(recipe.images, batches=Images.batches)
    wanted = speed_up * macs_of(start, ground) / macs_of(ground.weights, ground)
    model, _ = checkpoint.load(start)
    found = prune_network(model, speed_up=wanted, limits=recipe.limits, images=images, imgsz=ground.imgsz)
    checkpoint.save(found.model, file)


def macs_of(file: Path, ground: Ground) -> int:
    """Returns the multiply-adds of a checkpoint."""
    return cost_of(trace(checkpoint.load(file)[0], imgsz=ground.imgsz)).macs


def share_left(files: Sequence[Path]) -> float:
    """Returns the parameters of the last checkpoint over those of the first."""
    first, last = (cost_of(trace(checkpoint.load(file)[0])).deployed for file in (files[0], files[-1]))
    return last / first


def measured(ground: Ground, name: str) -> dict[str, float]:
    """Returns what a cell gave, from the file if it is in there."""
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    key = f"{ground.name}: {name}"
    if name == YARDSTICK:  # the same training, whatever the others are to come to
        known = {key if without_speed_up(other) == without_speed_up(key) else other: known[other] for other in known}
    if key in known:
        keep(key, known[key])
        return known[key]
    folder = RUNS / folder_name(key)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"{key} ...")
    start = time.perf_counter()
    with release.quiet_release(), contextlib.redirect_stdout(io.StringIO()):
        if name == YARDSTICK:
            found = trained_on(ground, folder)
        else:
            found = (cut_at_once if VARIANTS[name].cuts else compressed)(ground, name, folder)
    found = {"seconds": time.perf_counter() - start, **found}
    keep(key, found)
    say(f"{key}: {found}")
    return found


def folder_name(words: str) -> str:
    """Returns words as the name of a folder."""
    return "".join(letter if letter.isalnum() else "-" for letter in words)


def without_speed_up(key: str) -> str:
    """Returns the key of a cell without the speed-up."""
    return re.sub(r", [\d.]+x, ", ", ", key)


def without_seed(words: str) -> str:
    """Returns the name of a ground, or the key of a cell, without the seed."""
    return re.sub(r", seed \d+", "", words)


def keep(key: str, found: dict[str, float]) -> None:
    """Adds a cell to the file, to which another process may have written."""
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    with whole_file(FOUND) as file:
        file.write_text(json.dumps({**known, key: found}, indent=1), encoding="utf-8")


def page(found: dict[str, dict[str, float]]) -> str:
    """Returns all that was measured as a page: a table for each ground, in it a row for each variant with all seeds."""
    tables: dict[str, dict[str, list[dict[str, float]]]] = {}
    for key in sorted(found, key=lambda key: (without_seed(key.split(": ")[0]), STEPPED in key, ADAMW in key)):
        ground, name = without_seed(key).split(": ", 1)
        tables.setdefault(f"{ground} (before: {found[key]['dense']:.3f})", {}).setdefault(name, []).append(found[key])
    lines = [
        "# Settings of `compress.py`, on photographs",
        "",
        "By `python benchmarks/recipes.py`, which says what is compared, and how the networks were trained. mAP50-95",
        "on the val split, right after the cut and at the end; `left` is the share of the parameters. All rows of a",
        "table had equally many epochs, but for `cut out of the network at 2.5x`: what `compress.py --speed-up 2.5,5`",
        "does, with as many for 2.5x before. Where a variant was trained with several seeds, the mean and all of them.",
        "Data: playing cards (EdjeElectronics' object-detection tutorial, Apache-2.0) and chess pieces (Roboflow's",
        "public chess set, public domain). `at once` is `--scheme one-shot`, `no teacher` and `taught` are",
        "`--scheme steered`.",
        "",
        f"Where a row says nothing else, it was fine-tuned by {CHOICE[0]} at {CHOICE[1]}, averaged over 100 steps,",
        "with mosaics in the first half of the epochs. Rows with `(AdamW)` are older: AdamW at 0.002, mosaics in all",
        f"but ten epochs. Those with `{STEPPED}` are older still: averaged as the release does, and,",
        "if they name no learning rate, at that of the release's `auto`: 0.001 for the 6 classes of cards, 0.0006 for",
        "the 13 of chess. `floor`: the least share of a layer that stays, 0.1 where a row names none. `narrower`: a",
        "floor of 0.02, and widths in multiples of 8 instead of 16. `compress.py` takes a floor of 0.3 at 2.5x, and",
        "one of 0.2 with widths in multiples of 8 at 5x.",
    ]
    for title, rows in tables.items():
        head = ["| variant | after the cut | at the end | left | seconds |", "|---|---:|---:|---:|---:|"]
        lines += ["", f"## {title}", "", *head, *(row(name, cells) for name, cells in rows.items())]
    return "\n".join(lines) + "\n"


def row(name: str, cells: list[dict[str, float]]) -> str:
    """Returns a row of the page."""
    cut_to = f"{cells[0]['cut']:.3f}" if "cut" in cells[0] else ""
    each = [cell["map"] for cell in cells]
    end = f"{each[0]:.3f}" if len(each) == 1 else f"{fmean(each):.3f} ({', '.join(f'{one:.3f}' for one in each)})"
    return f"| {name} | {cut_to} | {end} | {cells[0]['left']:.1%} | {fmean(cell['seconds'] for cell in cells):.0f} |"


def main() -> None:
    """Measures the cells that are asked for, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [YARDSTICK, *VARIANTS]
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--speed-up", type=float, default=2.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=names, default=names, metavar="VARIANT", help="; ".join(names))
    options = parser.parse_args()
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    data = resolve_data(options.data, classes=len(YOLO(options.weights).names))
    size = {"imgsz": options.imgsz, "batch": options.batch, "epochs": options.epochs, "speed_up": options.speed_up}
    ground = Ground(options.weights.resolve(), data, seed=options.seed, **size)
    for name in options.only:
        measured(ground, name)
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(json.loads(FOUND.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
