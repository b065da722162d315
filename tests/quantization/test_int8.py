"""`export.py --int8`: what is written, what it says about itself, and what is refused."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest

from helpers.scripts import refused, run
from ultralytics.pruning.deploy.onnx_files import read_onnx
from ultralytics.pruning.quantization import int8
from ultralytics.pruning.quantization.faster import Product
from ultralytics.pruning.quantization.integers import Choice


@pytest.fixture
def weights(tmp_path, small_weights):
    (tmp_path / "nets").mkdir()
    return shutil.copy(small_weights, tmp_path / "nets" / "best.pt")


@pytest.fixture
def words(weights, digits, one_thread) -> list:
    return ["--weights", weights, "--data", digits, "--imgsz", 64, "--images", 2, "--int8", "--threads", 1]


def test_it_is_written_and_runs(words, weights, monkeypatch, capsys):
    """An untrained network: there is nothing to lose, and nobody knows which is faster."""
    monkeypatch.setattr(int8, "CALIBRATION", 6)
    monkeypatch.setattr(int8, "COMPARED", 2)
    code, said = run(monkeypatch, capsys, "export.py", *words, "--force")
    assert code == 0, said
    file = weights.with_name("best-int8.onnx")
    assert sorted(entry.name for entry in weights.parent.iterdir()) == ["best-int8.onnx", "best.pt"]
    about = read_onnx(file, "it")
    assert about.task == "detect" and len(about.names) == 10 and about.sides == (64, 64)
    entries = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    choice = json.loads(entries["integers"])
    assert choice["method"] in ("minmax", "percentile") and choice["faster"] > 0
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in onnx.load(file).graph.node}
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": np.zeros((1, 3, 64, 64), np.float32)})
    assert np.isfinite(output).all() and output.shape[1] == 14


@pytest.mark.parametrize(("after", "score", "message"), [(12.0, 0.5, "slower"), (5.0, 0.4, "loses 0.1")])
def test_what_is_not_worth_having_is_not_written(words, weights, after, score, message, monkeypatch, capfd):
    product = Product(weights, Choice(), 10.0, after, score)
    monkeypatch.setattr(int8, "fastest_within", lambda *given, **known: product)
    monkeypatch.setattr(int8.Ground, "images", lambda ground: [np.zeros((1, 3, 64, 64), np.float32)] * 20)
    monkeypatch.setattr(int8.Ground, "accuracy", lambda ground, file: 0.5)
    monkeypatch.setattr(int8, "Integers", lambda *given: None)
    assert message in refused(monkeypatch, capfd, "export.py", *words)
    assert [entry.name for entry in weights.parent.iterdir()] == ["best.pt"]


REFUSED = [
    (["--format", "torchscript"], "--int8 makes an ONNX"),
    (["quantize=8"], "--int8 goes without quantize="),
    (["dynamic=True"], "--int8 goes without dynamic="),
    (["--imgsz", "64,96"], "one side"),
    (["--max-map-drop", "2"], "--max-map-drop"),
]


@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_mistakes_are_one_line(words, weights, more, message, monkeypatch, capfd):
    assert message in refused(monkeypatch, capfd, "export.py", *words, *more)
    assert [entry.name for entry in weights.parent.iterdir()] == ["best.pt"]


def test_its_options_need_it(weights, monkeypatch, capfd):
    assert "--int8 only" in refused(monkeypatch, capfd, "export.py", "--weights", weights, "--force")


def test_it_needs_images(weights, monkeypatch, capfd, one_thread):
    assert "--data" in refused(monkeypatch, capfd, "export.py", "--weights", weights, "--int8", "--imgsz", 64)
