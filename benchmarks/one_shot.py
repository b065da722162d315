"""Compares ways to cut without any training, on a trained checkpoint that nobody here made.

The checkpoint is the YOLOv8n-obb of the package tau-fibrils-yolo (COCO, then DOTA, then electron microscopy). Its
sample image is 16 bits deep; it is made 8 bits linearly and cut into tiles of 640 pixels, whose labels are the
checkpoint's detections above 0.25, clipped to the tile. Every fourth tile is for validation, the others are for what
looks at images. So accuracy here means agreement with the original.

`python benchmarks/one_shot.py` measures what `docs/results/one-shot.md` shows and writes it; a cell at a time, which is
kept, so that the benchmark can be interrupted. An hour on one core.
"""

import argparse
import functools
import json
import platform
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ultralytics.pruning import Limits, Scoring, load, prune_network, save
from ultralytics.pruning.checkpoints.checkpoint import whole_file
from ultralytics.pruning.files import places
from ultralytics.pruning.passes.gates import gate_gradients
from ultralytics.pruning.passes.images import Images, gradients
from ultralytics.pruning.passes.validating import validate
from ultralytics.pruning.release import quiet_release
from ultralytics.pruning.report import say, table

RUNS = places.RUNS / "one-shot-benchmark"
FOUND = RUNS / "found.json"
PAGE = places.ROOT / "docs" / "results" / "one-shot.md"
SIDE, CONFIDENCE, SPEED_UPS = 640, 0.25, (1.5, 2.0)
PER = "multiply-add"
WAYS: dict[str, dict[str, Any]] = {
    "random": {"criterion": "random"},
    "slim": {"criterion": "slim"},
    "lamp": {"criterion": "lamp"},
    "l1": {"criterion": "l1"},
    "group_norm": {"criterion": "group_norm"},
    "group_taylor": {"criterion": "group_taylor"},
    "group_hessian": {"criterion": "group_hessian"},
    "group_hessian --per multiply-add": {"criterion": "group_hessian", "per": PER},
    "group_hessian --rounds 4": {"criterion": "group_hessian", "rounds": 4},
    "group_hessian --per multiply-add --rounds 4 --refit": {
        "criterion": "group_hessian",
        "per": PER,
        "rounds": 4,
        "refit": True,
    },
    "group_fisher": {"criterion": "group_fisher"},
    "group_fisher --per multiply-add": {"criterion": "group_fisher", "per": PER},
    "group_fisher --per multiply-add --rounds 4": {"criterion": "group_fisher", "per": PER, "rounds": 4},
    "group_fisher --per multiply-add --refit": {"criterion": "group_fisher", "per": PER, "refit": True},
    "group_fisher --rounds 4 --refit": {"criterion": "group_fisher", "rounds": 4, "refit": True},
    "group_fisher --per multiply-add --rounds 4 --refit": {
        "criterion": "group_fisher",
        "per": PER,
        "rounds": 4,
        "refit": True,
    },
    "group_fisher --per multiply-add --rounds 8 --refit": {
        "criterion": "group_fisher",
        "per": PER,
        "rounds": 8,
        "refit": True,
    },
    "group_fisher --per multiply-add --rounds 4 --refit --round-to 8": {
        "criterion": "group_fisher",
        "per": PER,
        "rounds": 4,
        "refit": True,
        "round_to": 8,
    },
}


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


def agreement(weights: Path, data: Path) -> dict[str, float]:
    """Measures a checkpoint: mAP50-95, and the share of the original's detections that it makes as confidently."""
    run = {"project": str(RUNS), "name": "val", "exist_ok": True, "plots": False, "verbose": False, "workers": 0}
    asked = {"data": str(data), "imgsz": SIDE, "batch": 4, "device": "cpu"}
    with quiet_release():
        metrics, _, _ = validate(weights, {**asked, **run})
        confident, _, _ = validate(weights, {**asked, **run, "conf": CONFIDENCE})
    return {"map": float(metrics.box.map), "recall": float(confident.box.mr)}


def cut(way: dict[str, Any], speed_up: float, data: Path) -> dict[str, float]:
    """Cuts the checkpoint in a way, and measures what is left."""
    model, _ = load(package() / "model" / "100ep.pt")
    images = Images(str(data), batches=9, batch=4, imgsz=SIDE)
    passes = functools.partial(gradients, images=images), functools.partial(gate_gradients, images=images)
    rounds = {"rounds": way.get("rounds", 1), "refit": images if way.get("refit") else None}
    limits = Limits(round_to=way.get("round_to", 1))
    start = time.perf_counter()
    scoring = Scoring(way["criterion"], None, way.get("per"), *passes)
    result = prune_network(model, speed_up=speed_up, scoring=scoring, limits=limits, **rounds)
    seconds = time.perf_counter() - start
    save(result.model, RUNS / "pruned.pt")
    plan = result.plan
    size = {"left": plan.after.params / plan.before.params, "factor": plan.before.macs / plan.after.macs}
    return {**agreement(RUNS / "pruned.pt", data), **size, "seconds": seconds}


def once(key: str, measure: Any) -> dict[str, float]:
    """Returns what was measured, from the file if it is in there."""
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    if key not in known:
        known[key] = measure()
        say(f"{key}: {known[key]}")
        with whole_file(FOUND) as file:
            file.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return known[key]


def page(cells: dict[str, dict[str, float]], dense: dict[str, float]) -> str:
    """Returns the table as a page."""
    rows = []
    for name in WAYS:
        found = [cells.get(f"{name} at {speed_up:g}x") for speed_up in SPEED_UPS]
        if all(found):
            numbers = [f"{cell[key]:.3f}" for cell in found for key in ("map", "recall") if cell]
            rows.append([f"`{name}`", *numbers, f"{found[-1]['seconds']:.0f}" if found[-1] else ""])
    head = ["way to cut", *(f"{what} {x:g}x" for x in SPEED_UPS for what in ("mAP50-95", "recall")), "seconds at 2x"]
    lines = [
        "# A cut without training",
        "",
        "By `python benchmarks/one_shot.py`, which says what is measured. In short: a trained checkpoint, its own",
        "detections as labels, the accuracy right after a cut to 1.5 and 2 times fewer multiply-adds, nothing trained;",
        "recall counts what is found above a confidence of 0.25. Widths are not rounded but where it says so.",
        "",
        f"The dense network: mAP50-95 {dense['map']:.3f}, recall {dense['recall']:.3f}.",
        "",
        "| " + " | ".join(head) + " |",
        "|---|" + "---:|" * (len(head) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"Measured with {torch.get_num_threads()} thread of {platform.processor() or platform.machine()}, "
        f"torch {torch.__version__.split('+')[0]}; other work ran beside it.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measures all cells, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(WAYS), help="just these ways")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    RUNS.mkdir(parents=True, exist_ok=True)
    data = data_set()
    dense = once("dense", lambda: agreement(package() / "model" / "100ep.pt", data))
    cells = {}
    for name in options.only or WAYS:
        for speed_up in SPEED_UPS:
            key = f"{name} at {speed_up:g}x"
            cells[key] = once(key, functools.partial(cut, WAYS[name], speed_up, data))
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    everything = json.loads(FOUND.read_text(encoding="utf-8"))
    PAGE.write_text(page(everything, dense), encoding="utf-8")
    say(
        table(
            ["cell", "mAP50-95", "recall"], [[key, f"{c['map']:.3f}", f"{c['recall']:.3f}"] for key, c in cells.items()]
        )
    )


if __name__ == "__main__":
    main()
