"""What was made from a network goes, or is made anew, when the network is another one."""

import os
import sys
from runpy import run_path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.networks import small_yolo
from helpers.repository import REPOSITORY
from ultralytics import YOLO
from ultralytics.pruning import CRITERIA, load, make_plan, prune, save, trace
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.runs.stale import older_products
from ultralytics.pruning.selection.zeros import share_at_zero

PICTURE = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture
def model(tmp_path) -> YOLO:
    """A network with a predictor that has worked already."""
    network = small_yolo()
    network.task, network.names = "detect", {i: str(i) for i in range(10)}
    save(network, tmp_path / "start.pt")
    found = YOLO(tmp_path / "start.pt")
    found.predict(PICTURE, imgsz=64, verbose=False)
    return found


def cut(model: YOLO) -> None:
    channels = trace(model.model)
    prune(model.model, make_plan(channels, CRITERIA["slim"](channels, model.model), prune_ratio=0.5), channels)


def other_weights(model: YOLO) -> None:
    with torch.no_grad():
        model.model.model[0].bn.weight.mul_(0.5)


def other_layer(model: YOLO) -> None:
    model.model.model[1].act = nn.Identity()


@pytest.mark.parametrize("change", [cut, other_weights, other_layer])
def test_a_predictor_follows_the_network(model, small, change):
    old = model.predictor
    change(model)
    model.predict(PICTURE, imgsz=64, verbose=False)
    assert model.predictor is not old
    own = YOLO(small)
    own.model = model.model
    own.predict(PICTURE, imgsz=64, verbose=False)
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.predictor.model(x)[0], own.predictor.model(x)[0])


def test_a_predictor_stays_while_the_network_does(model):
    old = model.predictor
    model.predict(PICTURE, imgsz=64, verbose=False)
    list(model.predict(PICTURE, imgsz=64, verbose=False, stream=True))
    assert model.predictor is old


def test_a_loss_does_not_outlive_a_cut(model):
    model.model.criterion = model.model.init_criterion() if hasattr(model.model, "args") else object()
    cut(model)
    assert model.model.criterion is None


def test_after_a_sparsity_training_the_model_is_the_last_checkpoint(small, quick, tmp_path):
    """The most accurate epoch is mostly one in which nothing had faded yet."""
    model = YOLO(small)
    asked = {"sparsity": "steered", "target_speed_up": 1.5, "epochs": 3, "round_to": 4, "nbs": 8}
    model.train(project=str(tmp_path), name="run", **{**quick, **asked})
    last = tmp_path / "run" / "weights" / "last.pt"
    assert model.ckpt_path == model.overrides["model"] == model.model.pt_path == str(last)
    weights, saved = model.model.state_dict(), load(last)[0].state_dict()
    assert all(torch.equal(weights[name], saved[name]) for name in saved)
    assert share_at_zero(trace(model.model), model.model) > 0.1
    assert model.trainer.best.name == "best.pt" and model.metrics is not None


def pruned_by(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")
    monkeypatch.setattr(sys, "argv", ["prune.py", *map(str, words)])
    run_path(str(REPOSITORY / "prune.py"), run_name="__main__")


def test_an_onnx_of_another_network_does_not_stay(model, tmp_path, monkeypatch, capsys):
    words = ("--weights", tmp_path / "start.pt", "--imgsz", 64, "--save-dir", tmp_path / "out", "--prune-ratio")
    pruned_by(monkeypatch, *words, 0.3)
    assert (tmp_path / "out" / "pruned.onnx").is_file()
    (tmp_path / "out" / "pruned.engine").write_text("exported")
    os.utime(tmp_path / "out" / "pruned.engine", (0, 0))
    capsys.readouterr()
    pruned_by(monkeypatch, *words, 0.5, "--no-onnx")
    said = capsys.readouterr().out
    assert not (tmp_path / "out" / "pruned.onnx").exists() and "Removed" in said
    assert "pruned.engine was exported from another" in said
    (tmp_path / "out" / "pruned.onnx").write_bytes(b"somebody's own")
    pruned_by(monkeypatch, *words, 0.4, "--no-onnx")
    assert (tmp_path / "out" / "pruned.onnx").read_bytes() == b"somebody's own"
    assert "stays" in capsys.readouterr().out


def test_products_that_are_older_than_their_checkpoint(tmp_path):
    for age, name in enumerate(
        ("best.onnx", "best_openvino_model", "best.json", "other.onnx", "best.pt", "best.engine")
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (age, age))
    assert [file.name for file in older_products(tmp_path / "best.pt")] == ["best.onnx", "best_openvino_model"]
