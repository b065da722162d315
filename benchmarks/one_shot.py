"""Compares ways to cut without any training, on a trained checkpoint that nobody here made.

The checkpoint is the YOLOv8n-obb of the package tau-fibrils-yolo (COCO, then DOTA, then electron microscopy). Its
sample image is 16 bits deep; it is made 8 bits linearly and cut into tiles of 640 pixels, whose labels are the
checkpoint's detections above 0.25, clipped to the tile. Every fourth tile is for validation, the others are for what
looks at images. So accuracy here means agreement with the original.

`python benchmarks/one_shot.py` measures what `docs/results/one-shot.md` shows and writes it; a cell at a time, which is
kept, so that the benchmark can be interrupted. An hour on one core. With `--weights` and `--data` it measures another
trained network, on a data set whose labels are a person's (see `benchmarks/recipes.py` for how ours were trained).
"""

import argparse
import functools
import json
import platform
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

import numpy as np
import torch
import yaml

from ultralytics.pruning import Limits, Scoring, load, prune_network, save
from ultralytics.pruning.checkpoints.checkpoint import whole_file
from ultralytics.pruning.files import places
from ultralytics.pruning.passes.gates import passes_over
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.passes.validating import validate
from ultralytics.pruning.release import quiet_release
from ultralytics.pruning.report import say

RUNS = places.RUNS / "one-shot-benchmark"
FOUND = RUNS / "found.json"
PAGE = places.ROOT / "docs" / "results" / "one-shot.md"
SIDE, CONFIDENCE, SPEED_UPS = 640, 0.25, (1.5, 2.0)
BY_ITSELF = "by itself"  # as prune.py does it where nobody says how
WAYS = [  # words of prune.py
    BY_ITSELF,
    "random",
    "slim",
    "lamp",
    "l1",
    "group_norm",
    "group_taylor",
    "group_hessian",
    "group_hessian --per multiply-add",
    "group_hessian --rounds 4",
    "group_hessian --per multiply-add --rounds 4 --refit",
    "group_fisher",
    "group_fisher --per multiply-add",
    "group_fisher --per multiply-add --rounds 4",
    "group_fisher --per multiply-add --refit",
    "group_fisher --rounds 4 --refit",
    "group_fisher --per multiply-add --rounds 4 --refit",
    "group_fisher --per multiply-add --rounds 8 --refit",
    "group_fisher --per multiply-add --rounds 4 --refit --round-to 8",
]


def package() -> Path:
    """Returns the folder of the package that has the checkpoint."""
    spec = find_spec("tau_fibrils_yolo")
    if not spec or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps -r requirements-checkpoints.txt")
    return Path(next(iter(spec.submodule_search_locations)))


def data_set() -> Path:
    """Returns the yaml of the tiles, which are made once."""
    import cv2
    from PIL import Image

    from ultralytics import YOLO

    file = RUNS / "tiles" / "tiles.yaml"
    if file.is_file():
        return file
    Image.MAX_IMAGE_PIXELS = None
    pixels = np.asarray(Image.open(package() / "sample" / "sample.tif"))
    pixels = (pixels / 65535 * 255).astype(np.uint8)
    model = YOLO(package() / "model" / "100ep.pt")
    corners = [
        (row, column)
        for row in range(0, pixels.shape[0] - SIDE + 1, SIDE)
        for column in range(0, pixels.shape[1] - SIDE + 1, SIDE)
    ]
    for number, (row, column) in enumerate(corners):
        split = "val" if number % 4 == 3 else "train"
        for kind in ("images", "labels"):
            (file.parent / kind / split).mkdir(parents=True, exist_ok=True)
        tile = cv2.cvtColor(pixels[row : row + SIDE, column : column + SIDE], cv2.COLOR_GRAY2BGR)
        cv2.imwrite(str(file.parent / "images" / split / f"{number:02d}.png"), tile)
        found = model.predict(tile, conf=CONFIDENCE, imgsz=SIDE, verbose=False, device="cpu")[0]
        boxes = found.obb.xyxyxyxyn.cpu().numpy().reshape(-1, 8).clip(0, 1)
        lines = ["0 " + " ".join(f"{value:.6f}" for value in box) for box in boxes]
        (file.parent / "labels" / split / f"{number:02d}.txt").write_text("\n".join(lines) + "\n")
    names = {0: model.names[0]}
    file.write_text(
        yaml.safe_dump({"path": str(file.parent), "train": "images/train", "val": "images/val", "names": names})
    )
    return file


@dataclass(frozen=True)
class Ground:
    """What is cut, and what it is measured on.

    Attributes:
        name: How the page calls it.
        weights: The trained checkpoint.
        data: The yaml of the data set.
        imgsz: Side of the images in pixels.
    """

    name: str
    weights: Path
    data: Path
    imgsz: int = SIDE


def accuracy(weights: Path, ground: Ground) -> dict[str, float]:
    """Measures a checkpoint: mAP50-95, and the share of the objects that it finds with confidence."""
    run = {"project": str(RUNS), "name": "val", "exist_ok": True, "plots": False, "verbose": False, "workers": 0}
    asked = {"data": str(ground.data), "imgsz": ground.imgsz, "batch": 4, "device": "cpu"}
    with quiet_release():
        metrics, _, _ = validate(weights, {**asked, **run})
        confident, _, _ = validate(weights, {**asked, **run, "conf": CONFIDENCE})
    return {"map": float(metrics.box.map), "recall": float(confident.box.mr)}


def asked(way: str, images: Images) -> tuple[dict[str, Any], Limits]:
    """Returns how a way cuts, as `prune_network` takes it."""
    if way == BY_ITSELF:
        return {"images": images}, Limits(round_to=1)
    parser = argparse.ArgumentParser()
    parser.add_argument("criterion")
    parser.add_argument("--per")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--refit", action="store_true")
    parser.add_argument("--round-to", type=int, default=1)
    words = parser.parse_args(way.split())
    scoring = Scoring(words.criterion, None, words.per, **passes_over(images))
    how = {"scoring": scoring, "rounds": words.rounds, "refit": images if words.refit else None}
    return how, Limits(round_to=words.round_to)


def cut(way: str, speed_up: float, ground: Ground) -> dict[str, float]:
    """Cuts the checkpoint in a way, and measures what is left."""
    model, _ = load(ground.weights)
    how, limits = asked(way, Images(str(ground.data), batches=9, batch=4, imgsz=ground.imgsz))
    start = time.process_time()
    result = prune_network(model, speed_up=speed_up, limits=limits, imgsz=ground.imgsz, **how)
    seconds = time.process_time() - start
    save(result.model, RUNS / "pruned.pt")
    plan = result.plan
    size = {"left": plan.after.params / plan.before.params, "factor": plan.before.macs / plan.after.macs}
    return {**accuracy(RUNS / "pruned.pt", ground), **size, "seconds": seconds}


def once(key: str, measure: Any) -> dict[str, float]:
    """Returns what was measured, from the file if it is in there."""
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    if key not in known:
        known[key] = measure()
        say(f"{key}: {known[key]}")
        with whole_file(FOUND) as file:
            file.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return known[key]


def rows_of(cells: dict[str, dict[str, float]], ground: str) -> list[str]:
    """Returns the rows of a ground's table."""
    rows = []
    for name in WAYS:
        found = [cells.get(f"{ground}: {name} at {speed_up:g}x") for speed_up in SPEED_UPS]
        if all(found):
            numbers = [f"{cell[key]:.3f}" for cell in found for key in ("map", "recall") if cell]
            seconds = (found[-1] or {}).get("seconds")
            shown = name if name == BY_ITSELF else f"`{name}`"
            rows.append([shown, *numbers, "" if seconds is None else f"{seconds:.0f}"])
    return ["| " + " | ".join(row) + " |" for row in rows]


def page(cells: dict[str, dict[str, float]]) -> str:
    """Returns all that was measured as a page, a table for each ground."""
    head = [
        "way to cut",
        *(f"{what} {x:g}x" for x in SPEED_UPS for what in ("mAP50-95", "recall")),
        "CPU seconds at 2x",
    ]
    lines = [
        "# A cut without training",
        "",
        "By `python benchmarks/one_shot.py`, which says what is measured. In short: a trained checkpoint, the accuracy",
        "right after a cut to 1.5 and 2 times fewer multiply-adds, nothing trained; recall counts what is found above",
        "a confidence of 0.25. Widths are not rounded but where it says so; `by itself` is what `prune.py` does where",
        "nobody says how. Fibrils: a network that nobody here trained, its own detections as labels. Cards and chess:",
        "photographs (EdjeElectronics' object-detection tutorial, Apache-2.0; Roboflow's public chess set, public",
        "domain), networks of `train-normal.py`, a person's labels. Rows of one table may come from different",
        "machines, whose rounding moves a cut by about 0.01; those with `--refit` are older than today's four draws an",
        "image for the scores and 9,000 places for the fit, which `by itself` has.",
    ]
    for ground in dict.fromkeys(key.split(": ")[0] for key in cells):
        dense = cells[f"{ground}: dense"]
        lines += ["", f"## {ground}: mAP50-95 {dense['map']:.3f}, recall {dense['recall']:.3f} before", ""]
        lines += ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1), *rows_of(cells, ground)]
    threads = f"Measured with {torch.get_num_threads()} thread of {platform.processor() or platform.machine()}"
    return "\n".join([*lines, "", f"{threads}, torch {torch.__version__.split('+')[0]}.", ""])


def main() -> None:
    """Measures all cells, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=WAYS, help="just these ways")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weights", type=Path, help="another trained network")
    parser.add_argument("--data", type=Path, help="its data set")
    parser.add_argument("--imgsz", type=int, default=SIDE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    RUNS.mkdir(parents=True, exist_ok=True)
    if options.weights:
        name = f"{options.data.resolve().parent.name} at {options.imgsz} px"
        ground = Ground(name, options.weights, options.data.resolve(), options.imgsz)
    else:
        ground = Ground("fibrils", package() / "model" / "100ep.pt", data_set())
    once(f"{ground.name}: dense", lambda: accuracy(ground.weights, ground))
    for name in options.only or WAYS:
        for speed_up in SPEED_UPS:
            once(f"{ground.name}: {name} at {speed_up:g}x", functools.partial(cut, name, speed_up, ground))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(json.loads(FOUND.read_text(encoding="utf-8"))), encoding="utf-8")
    say(PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
