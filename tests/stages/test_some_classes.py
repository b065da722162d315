"""prune.py for some classes, and what goes on with their network."""

import json
import re
from pathlib import Path

import pytest
import torch

from helpers.processes.python import run_python, stock_environment
from helpers.scripts import refused, run
from ultralytics.pruning import load

NAMES = ["person", "bicycle", "car", "bus", "train", "boat", "bird", "cat", "dog", "horse"]
STOCK = """
import sys
import torch
from ultralytics import YOLO
model = YOLO(sys.argv[1])
result = model.predict(torch.zeros(1, 3, 64, 64), conf=1e-9, verbose=False)[0]
print(list(result.names.values()), {int(c) for c in result.boxes.cls} <= {0, 1} and len(result.boxes) > 0, model.export(format="torchscript", imgsz=64))
"""


@pytest.fixture
def weights(small_weights, tmp_path) -> Path:
    """A checkpoint of ten classes that have names."""
    from ultralytics.pruning import save

    model = load(small_weights)[0]
    model.names = dict(enumerate(NAMES))
    save(model, tmp_path / "ten.pt")
    return tmp_path / "ten.pt"


def test_rows_alone(weights, one_thread, monkeypatch, capsys, tmp_path):
    words = ("--weights", weights, "--save-dir", tmp_path / "out", "--imgsz", 64, "--no-onnx")
    assert run(monkeypatch, capsys, "prune.py", *words, "--keep-classes", "car, 0") == (0, "")
    before, after = load(weights)[0], load(tmp_path / "out" / "pruned.pt")[0]
    assert list(after.names.values()) == ["person", "car"]
    ours, theirs = after.model[-1].cv3[0][-1].weight, before.model[-1].cv3[0][-1].weight
    assert torch.equal(ours, theirs[[0, 2]])
    assert torch.equal(after.model[0].conv.weight, before.model[0].conv.weight)

    plan = json.loads((tmp_path / "out" / "pruned.json").read_text())
    assert plan["settings"]["classes"]["kept"] == [0, 2]
    again = (
        "--weights",
        weights,
        "--save-dir",
        tmp_path / "again",
        "--no-onnx",
        "--plan",
        tmp_path / "out/pruned.json",
    )
    assert run(monkeypatch, capsys, "prune.py", *again) == (0, "")
    repeated = load(tmp_path / "again" / "pruned.pt")[0].state_dict()
    assert all(torch.equal(value, repeated[name]) for name, value in after.state_dict().items())


def test_a_stock_release_predicts_and_exports(weights, one_thread, monkeypatch, capsys, tmp_path):
    words = ("--weights", weights, "--save-dir", tmp_path, "--imgsz", 64, "--criterion", "slim", "--speed-up", 2)
    assert run(monkeypatch, capsys, "prune.py", *words, "--keep-classes", "bus,dog", "--round-to", 4, "--no-onnx") == (
        0,
        "",
    )
    (tmp_path / "stock.py").write_text(STOCK)
    done = run_python("stock.py", "pruned.pt", cwd=tmp_path, **stock_environment(tmp_path))
    assert "['bus', 'dog'] True" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "pruned.torchscript").is_file()


def test_the_table_counts_from_the_network_as_it_came(weights, one_thread, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["prune.py", "--weights", str(weights), "--keep-classes", "car", "--dry-run"])
    __import__("runpy").run_path("prune.py", run_name="__main__")
    said = capsys.readouterr().out
    parameters = re.search(r"parameters +([\d,]+) +([\d,]+)", said)
    whole = load(weights)[0]
    row = sum(p[0].numel() for layers in whole.model[-1].cv3 for p in layers[-1].parameters())
    before, after = (int(number.replace(",", "")) for number in parameters.groups())
    assert before == sum(p.numel() for p in whole.parameters()) and before - after == 9 * row


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--keep-classes", "persn"), "did you mean 'person'"),
        (("--keep-classes", "person,,car"), "person,car"),
        (("--keep-classes", ""), "is empty"),
        (("--keep-classes", "0,person"), "named twice"),
        (("--keep-classes", "10"), "0 to 9"),
        (("--keep-classes", "0,1,2,3,4,5,6,7,8,9"), "all 10 classes"),
        (("--keep-classes", "car", "--criterion", "l1"), "leave out --criterion"),
        (("--keep-classes", "car", "--round-to", "8"), "leave out --round-to"),
        (("--keep-classes", "car", "--rounds", "2"), "leave out --rounds"),
        (("--keep-classes", "car", "--plan", "pruned.json"), "leave out --keep-classes"),
        (("--keep-classes", "car", "mosaic=0.5"), "does nothing here"),
    ],
)
def test_what_is_refused(words, said, weights, one_thread, monkeypatch, capsys, tmp_path):
    line = refused(monkeypatch, capsys, "prune.py", "--weights", weights, "--save-dir", tmp_path / "out", *words)
    assert said in line
    assert not (tmp_path / "out").exists()
