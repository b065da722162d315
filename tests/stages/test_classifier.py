"""A classifier through all stages, whose data set is a folder and whose accuracy is no mAP."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.networks import SMALL
from helpers.processes.python import run_python
from helpers.repository import copied_repository
from ultralytics.pruning.accuracy import accuracies, accuracy, titles_of, what_counts

DRAWN = ("--imgsz", "64", "--batch", "4", "--device", "cpu", "workers=0", "nbs=4")
QUICK = (*DRAWN, "plots=False")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Bright and dark images of noise."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 4)):
        for name, low in (("dark", 0), ("light", 160)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(low, low + 90, (64, 64, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, data):
    """Runs a script in a copy of the repository."""
    root = copied_repository(tmp_path_factory.mktemp("copy") / "repository")

    def script(name: str, *words: str, code: int = 0):
        done = run_python(root / name, *words, cwd=root)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done

    script.root = root
    return script


def test_all_stages(run, data, small_weights, tmp_path):
    small = tmp_path / "small-cls.yaml"
    small.write_text(json.dumps({**SMALL, "head": [[-1, 1, "Classify", ["nc"]]]}))
    normal, sparse, tuned = (f"runs/{name}/weights/best.pt" for name in ("train-norm", "train-sparsity", "finetune"))
    where = ("--data", str(data))
    done = run("train-normal.py", "--weights", str(small), *where, "--epochs", "1", *QUICK)
    assert "accuracy_top1" in done.stdout and "mAP" not in done.stdout.splitlines()[-5]
    steered = ("--sparsity", "steered", "--target-speed-up", "2", "round_to=1")
    run("train_sparsity.py", *where, "--epochs", "3", *steered, *DRAWN)
    run("prune.py", *where, "--weights", sparse.replace("best", "last"), "--val", "--device", "cpu", "--imgsz", "64")
    run("finetune.py", *where, "--epochs", "1", *QUICK)

    done = run("export.py", "--weights", tuned, "--imgsz", "64", "--device", "cpu", "--images", "3")
    assert "on 3 images" in done.stdout and "the release's own pictures" not in done.stdout
    onnx = tuned.replace(".pt", ".onnx")
    done = run("val.py", normal, tuned, onnx, *where, "--imgsz", "64", "--device", "cpu", "plots=False")
    with (run.root / "runs/val/val.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == ["classify"] * 3 and "map50" not in rows[0]
    assert float(rows[1]["gflops"]) == pytest.approx(float(rows[0]["gflops"]) / 2, rel=0.03)
    assert rows[1]["top1"] == rows[2]["top1"] and 0.5 <= float(rows[1]["top1"]) <= 1
    detector = str(small_weights)
    done = run("val.py", normal, detector, *where, "--overwrite", code=2)
    assert "no data set serves all of these checkpoints" in done.stderr

    words = ("--scheme", "stepwise", "--steps", "1", "--epochs-per-step", "1", "--epochs", "1", "--round-to", "1")
    done = run("compress.py", "--weights", normal, *where, "--speed-up", "2", *words, "--batches", "2", *QUICK)
    assert re.search(r"2\.0\dx fewer multiply-adds", done.stdout)
    assert (run.root / "runs/compress/compressed.pt").is_file()


def test_what_counts_by_task():
    """Masks for segmentation, keypoints for poses; for the rest what the release takes to be the fitness."""
    boxes = {"metrics/mAP50-95(B)": 0.5, "metrics/mAP50-95(M)": 0.4, "metrics/mAP50-95(P)": 0.3}
    assert [accuracy(boxes, task) for task in ("detect", "obb", "segment", "pose", None)] == [0.5, 0.5, 0.4, 0.3, 0.5]
    assert accuracies({"metrics/accuracy_top1": 0.75}, "classify") == {"top5": None, "top1": 0.75}
    assert [what_counts(task) for task in ("classify", "semantic", "depth")] == ["top1", "miou", "delta1"]
    assert titles_of("detect") == {
        "precision": "precision",
        "recall": "recall",
        "map50": "mAP50",
        "map50_95": "mAP50-95",
    }
