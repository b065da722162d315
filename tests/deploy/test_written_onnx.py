"""The ONNX that prune.py writes computes what the pruned checkpoint computes, or is not written."""

import runpy
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks.zoo_models import named
from helpers.networks import set_weights
from helpers.repository import REPOSITORY
from ultralytics.pruning import save
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.deploy import agreement, exporting
from ultralytics.pruning.deploy.outputs import RAW_TOLERANCE, chosen_difference, random_images, raw_difference
from ultralytics.pruning.stages import pruned_files


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")


def checkpoint(folder: Path, name: str, *, trained: bool, **train_args) -> Path:
    """A network of 3 classes as a checkpoint, with weights that let signals through or as the release makes it."""
    torch.manual_seed(0)
    model = named(name).build(classes=3)
    if trained:
        set_weights(model)
    model.task, model.names = named(name).task, {i: str(i) for i in range(3)}
    file = folder / f"{name}.pt"
    save(model, file, train_args={"task": model.task, "imgsz": 64, **train_args})
    return file


def prune(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    """Runs prune.py here; returns its exit code and what it said, on standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["prune.py", *map(str, words)])
    code = 0
    try:
        runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    ("name", "trained"),
    [("yolo11n", False), ("yolo26n-seg", True), ("yolov8n-rtdetr", True), ("yolo11n-obb", False)],
)
def test_the_onnx_is_compared_and_written(name: str, trained: bool, tmp_path, monkeypatch, capsys) -> None:
    file = checkpoint(tmp_path, name, trained=trained)
    how = ("--criterion", "group_norm", "--speed-up", 2, "--imgsz", 64)
    code, out, err = prune(monkeypatch, capsys, "--weights", file, "--save-dir", tmp_path / "out", *how)
    assert code == 0, err
    assert "Raw outputs of ONNX Runtime and PyTorch" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pruned.json", "pruned.onnx", "pruned.pt"]


def one_weight_off(model: onnx.ModelProto) -> None:
    """Gives the filters of the last convolution in each of the box branches those of another channel."""
    found = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] == 3]
    assert found, "no layer of three classes"
    for tensor in found:
        values = np.array(onnx.numpy_helper.to_array(tensor))
        values[0] = values[1] + 0.5
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


@pytest.mark.parametrize("images", [True, False])
def test_an_onnx_that_computes_something_else_is_not_written(images, digits, tmp_path, monkeypatch, capsys) -> None:
    export = exporting.export_by_release

    def wrong(weights: Path, settings: dict) -> Path:
        product = export(weights, settings)
        model = onnx.load(product)
        one_weight_off(model)
        onnx.save(model, product)
        return product

    more = {"data": str(digits)} if images else {}
    file = checkpoint(tmp_path, "yolov8n", trained=True, **more)
    folder = tmp_path / "out"
    words = ("--weights", file, "--save-dir", folder, "--imgsz", 64, "--criterion", "l1", "--prune-ratio")
    assert prune(monkeypatch, capsys, *words, 0.3)[0] == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before.keys() == {"pruned.pt", "pruned.json", "pruned.onnx"}
    monkeypatch.setattr(pruned_files, "export_by_release", wrong)
    code, _, err = prune(monkeypatch, capsys, *words, 0.5)
    assert code == 2
    assert len(err.strip().splitlines()) == 1 and "ONNX" in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_images_of_the_data_or_of_the_training_are_compared_if_they_are_here(digits, tmp_path) -> None:
    assert len(pruned_files.images_for(str(digits), {}, "detect")) == pruned_files.COMPARED
    assert len(pruned_files.images_for(None, {"data": str(digits)}, "detect")) == pruned_files.COMPARED
    assert pruned_files.images_for(None, {"data": str(tmp_path / "gone.yaml")}, "detect") == []
    assert pruned_files.images_for(None, {}, "detect") == []


# How raw outputs are compared


def test_chosen_places_may_swap_and_may_not_differ() -> None:
    rows = np.random.default_rng(0).uniform(size=(1, 100, 6))
    assert chosen_difference(rows, rows[:, ::-1]) == 0
    other = rows.copy()
    other[0, :, 0] += 0.1
    assert chosen_difference(rows, other) == float("inf")
    other = rows.copy()
    other[0, :, 4] *= 1.01
    assert chosen_difference(rows, other) > RAW_TOLERANCE
    tie = rows.copy()
    tie[0, 7, :4] = 0.5
    assert chosen_difference(rows, tie) < RAW_TOLERANCE
    assert chosen_difference(rows, rows[:, 1:]) == float("inf")


def test_what_a_runtime_rounds_of_a_tiny_score_is_no_difference() -> None:
    scores = np.full((1, 3, 5), 7.7e-5)
    assert raw_difference(scores + 1.1e-7, scores) < RAW_TOLERANCE  # as ONNX Runtime on an AMD EPYC
    assert raw_difference(scores + 1e-6, scores) > RAW_TOLERANCE


@pytest.mark.parametrize(("sides", "shape"), [(96, (96, 96, 3)), ([64, 96], (64, 96, 3))])
def test_random_images_differ(sides, shape) -> None:
    first, second = random_images(sides)
    assert first.shape == second.shape == shape and first.dtype == np.uint8
    assert not np.array_equal(first, second) and np.ptp(first) > 200


def test_empty_products_would_be_seen() -> None:
    """What ONNX Runtime returned for a product over no channels: not finite, or far off."""
    expected = np.ones((1, 8, 4))
    for wrong in (np.full_like(expected, np.nan), expected + 0.04, np.full_like(expected, 7e10)):
        assert not raw_difference(wrong, expected) <= agreement.RAW_TOLERANCE
