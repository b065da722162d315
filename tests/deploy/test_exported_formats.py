"""Exports to the formats that run here are compared with their checkpoint; a wrong one is not kept."""

import argparse
import shutil
from pathlib import Path

import pytest
import torch

from ultralytics import YOLO
from ultralytics.pruning import PruningError, save
from ultralytics.pruning.deploy import equal_accuracy, exporting
from ultralytics.pruning.deploy.agreement import RUNTIMES

NEEDED = {"openvino": "openvino", "ncnn": "ncnn", "onnx": "onnxruntime", "torchscript": "torch"}


def choices(weights: Path, **changes) -> argparse.Namespace:
    """Returns the options of export.py."""
    defaults = {"format": "onnx", "imgsz": 64, "data": None, "images": 2, "device": "cpu", "settings": {}}
    return argparse.Namespace(weights=str(weights), **{**defaults, **changes})


@pytest.mark.parametrize("name", RUNTIMES)
def test_each_format_is_compared(name, small_weights, digits, tmp_path, capsys):
    pytest.importorskip(NEEDED[name], reason=f"{NEEDED[name]} is not installed: see requirements-{name}.txt")
    if name == "ncnn":
        pytest.importorskip("pnnx", reason="pnnx is not installed: see requirements-ncnn.txt")
    weights = Path(shutil.copy(small_weights, tmp_path))
    exporting.export(choices(weights, format=name, data=str(digits), said=("data",)))
    said = capsys.readouterr().out
    assert f"{RUNTIMES[name]} and PyTorch" in said and "of the checkpoint 0.0000, of the product 0.0000" in said
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_the_product_of_another_network_is_not_kept(name, small_weights, digits, tmp_path, monkeypatch):
    torch.manual_seed(1)
    other = YOLO(small_weights)
    for parameter in other.model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    save(other.model, tmp_path / "other.pt")
    wrong = Path(YOLO(tmp_path / "other.pt").export(format=name, imgsz=64, device="cpu"))
    (tmp_path / "nets").mkdir()
    weights = Path(shutil.copy(small_weights, tmp_path / "nets"))
    monkeypatch.setattr(
        exporting, "export_by_release", lambda copy, settings: Path(shutil.copy(wrong, copy.with_suffix(wrong.suffix)))
    )
    with pytest.raises(PruningError, match="something other"):
        exporting.export(choices(weights, format=name, data=str(digits)))
    assert [file.name for file in weights.parent.iterdir()] == [weights.name]


def test_a_product_that_is_less_accurate_is_refused(small_weights, digits, monkeypatch):
    found = iter([0.5, 0.4975])
    monkeypatch.setattr(equal_accuracy, "accuracy_of", lambda *_: (next(found), "detect"))
    with pytest.raises(PruningError, match=r"0\.4975 for 0\.5"):
        equal_accuracy.check_accuracy(small_weights, small_weights, str(digits), {"imgsz": 64})


def test_formats_that_do_not_run_here_are_not_compared(small_weights, digits):
    with pytest.raises(PruningError, match="--images does nothing"):
        exporting.export(choices(small_weights, format="paddle", said=("images",)))
