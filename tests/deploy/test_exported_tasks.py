"""Pruned networks of each family and task, in each format that runs here, find what their checkpoint finds."""

import re

import pytest

from benchmarks.exports import TASKS, compared, pruned
from ultralytics.pruning import save
from ultralytics.pruning.deploy.agreement import RUNTIMES, TASKS_WITH_BOXES
from ultralytics.pruning.deploy.exporting import runs_here

# Each family, task and format, and each task with parts of its own in several; `benchmarks/exports.py` runs them all.
CASES = [
    ("yolov8n", "segment", "ncnn"),
    ("yolov8n", "pose", "openvino"),
    ("yolov8n", "obb", "torchscript"),
    ("yolo11n", "detect", "onnx"),
    ("yolo11n", "segment", "torchscript"),
    ("yolo11n", "pose", "torchscript"),
    ("yolo26n", "detect", "torchscript"),
    ("yolo26n", "obb", "onnx"),
    ("yolo26n", "classify", "ncnn"),
]


@pytest.mark.parametrize(("family", "task", "name"), CASES)
def test_a_pruned_network_is_the_same_in_its_runtime(family, task, name, tmp_path):
    if not runs_here(name):
        pytest.skip(f"{name} does not run here: see requirements-{name}.txt")
    save(pruned(family + TASKS[task]), tmp_path / "net.pt")
    said = compared(tmp_path / "net.pt", name, imgsz=64)
    assert f"{RUNTIMES[name]} and PyTorch" in said
    if task in TASKS_WITH_BOXES:
        assert int(re.search(r"both find (\d+)", said)[1]) > 0
    assert len(list(tmp_path.iterdir())) == 2
