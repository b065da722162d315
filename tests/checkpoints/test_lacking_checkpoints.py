"""Checkpoints that hold no code, and lack what a stage works with: one line says what."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.hostile import TINY, raw, reading
from helpers.repository import SCRIPTS
from helpers.scripts import refused
from ultralytics.pruning import PruningError, load

pytestmark = pytest.mark.usefixtures("untrusted")


def without(attribute: str):
    def change(content: dict) -> None:
        content["model"].__dict__.pop(attribute, None)

    return change


def with_value(attribute: str, value: object):
    return lambda content: setattr(content["model"], attribute, value)


def with_args(**changes):
    return lambda content: content["train_args"].update(changes)


LACKING = {
    "no names": (without("names"), "names"),
    "names are a number": (with_value("names", 5), "names"),
    "no name": (with_value("names", {}), "names"),
    "a name is a list": (with_value("names", {0: ["a"]}), "not text"),
    "names by text": (with_value("names", {"a": "b"}), "names"),
    "no yaml": (without("yaml"), "yaml"),
    "yaml is a text": (with_value("yaml", "yolov8n.yaml"), "yaml"),
    "yaml without rows": (with_value("yaml", {"nc": 10}), "rows"),
    "broken rows": (with_value("yaml", {**TINY, "head": [5]}), "rows"),
    "stride is a text": (with_value("stride", "32"), "stride"),
    "stride of zero": (with_value("stride", torch.zeros(3)), "stride"),
    "another task": (with_value("task", "fly"), "fly"),
    "plans are a number": (with_value("pruning_plans", 3), "plans"),
    "train_args are a list": (lambda content: content.update(train_args=["a"]), "train_args"),
    "train_args are a number": (lambda content: content.update(train_args=3), "train_args"),
    "train_args are None": (lambda content: content.update(train_args=None), "train_args"),
    "a key is a number": (lambda content: content["train_args"].update({3: 4}), "train_args"),
    "imgsz is a text": (with_args(imgsz="large"), "imgsz"),
    "imgsz is negative": (with_args(imgsz=-64), "imgsz"),
    "imgsz has a fraction": (with_args(imgsz=64.5), "imgsz"),
    "imgsz is huge": (with_args(imgsz=[64, 10**25]), "imgsz"),
    "data is a list": (with_args(data=["a.yaml"]), "data"),
    "imgsz is NaN": (with_args(imgsz=float("nan")), "imgsz"),
    "epochs is a list of texts": (with_args(epochs=["a"]), "epochs"),
    "data is a number": (with_args(data=5), "data"),
    "a rate is infinite": (with_args(lr0=float("inf")), "lr0"),
    "epoch is a text": (lambda content: content.update(epoch="last"), "epoch"),
    "metrics are a list": (lambda content: content.update(train_metrics=[1]), "train_metrics"),
    "optimizer is a number": (lambda content: content.update(optimizer=5), "optimizer"),
    "an interrupted run of nothing": (
        lambda content: content.update(optimizer={"state": {}, "param_groups": []}, train_args={}),
        "lack data",
    ),
    "an interrupted run with a refused value": (
        lambda content: content.update(
            optimizer={"state": {}, "param_groups": []}, train_args={**content["train_args"], "mosaic": "much"}
        ),
        "mosaic",
    ),
}


def lacking(kind: str, good: Path, folder: Path) -> Path:
    """Writes a checkpoint that lacks something."""
    content = raw(good)
    LACKING[kind][0](content)
    torch.save(content, folder / "lacking.pt")
    return folder / "lacking.pt"


@pytest.mark.parametrize("kind", LACKING)
def test_what_a_checkpoint_lacks_is_said(kind, good, tmp_path):
    with pytest.raises(PruningError, match="lacking.pt.*" + re.escape(LACKING[kind][1])) as caught:
        load(lacking(kind, good, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_works_with_what_lacks_something(script, good, digits, tmp_path, runs, monkeypatch, capsys):
    kind = list(LACKING)[SCRIPTS.index(script) * 3 % len(LACKING)]
    file = lacking(kind, good, tmp_path)
    line = refused(monkeypatch, capsys, script, *reading(script, file, digits, tmp_path))
    assert LACKING[kind][1] in line.partition("lacking.pt")[2]
    assert not runs.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["nn.Sequential", "nn.Linear", "DetectionModel", "list", "Tensor"])
def test_what_is_no_checkpoint_is_named(kind, good, digits, tmp_path, monkeypatch, capsys):
    bare = {
        "nn.Sequential": nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        "nn.Linear": nn.Linear(2, 2),
        "DetectionModel": raw(good)["model"],
        "list": [1, 2],
        "Tensor": torch.zeros(2),
    }[kind]
    torch.save(bare, tmp_path / "bare.pt")
    line = refused(monkeypatch, capsys, "prune.py", *reading("prune.py", tmp_path / "bare.pt", digits, tmp_path))
    assert f"a {'bare ' if isinstance(bare, nn.Module) else ''}{kind}" in line
    assert ("save it" in line) == isinstance(bare, nn.Module)
