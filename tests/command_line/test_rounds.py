"""`prune.py --rounds` and `--refit`: what they write, and what they refuse."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from helpers.repository import REPOSITORY
from helpers.scripts import refused
from ultralytics.pruning import load
from ultralytics.pruning.command_line import entry


@pytest.fixture(autouse=True)
def cpu(monkeypatch) -> None:
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")


@pytest.fixture
def words(small_weights, tmp_path) -> list[str]:
    return ["--weights", str(small_weights), "--save-dir", str(tmp_path / "out"), "--imgsz", "64", "--no-onnx"]


def test_a_cut_in_rounds_whose_layers_are_fitted(words, small_weights, digits, tmp_path, monkeypatch, capsys) -> None:
    more = ["--criterion", "group_fisher", "--per", "multiply-add", "--rounds", "2", "--refit", "--round-to", "1"]
    images = ["--data", str(digits), "--batches", "1", "batch=4"]
    monkeypatch.setattr(sys, "argv", ["prune.py", *words, "--speed-up", "1.5", *more, *images])
    runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")
    said = capsys.readouterr().out
    plan = json.loads((tmp_path / "out" / "pruned.json").read_text())
    settings, cost = plan["settings"], plan["cost"]
    assert (settings["criterion"], settings["rounds"], settings["refit"]) == ("group_fisher", 2, 4)
    assert cost["before"]["macs"] >= 1.5 * cost["after"]["macs"]
    network, _ = load(tmp_path / "out" / "pruned.pt")
    assert sum(p.numel() for p in network.parameters()) == cost["after"]["params"]
    assert "in 2 rounds" in said and "on 4 images" in said

    again = [*words[:4], "--plan", str(tmp_path / "out" / "pruned.json")]
    assert "--refit" in refused(monkeypatch, capsys, "prune.py", *again)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--refit"], "--data"),
        (["--rounds", "0"], "at least 1"),
        (["--rounds", "2", "--zeros"], "leave out --rounds"),
        (["--rounds", "2", "--latency-speed-up", "2"], "--rounds is for --prune-ratio"),
        (["--criterion", "group_fisher"], "--data"),
    ],
)
def test_what_makes_no_sense_is_refused(words, more, said, monkeypatch, capsys, tmp_path) -> None:
    assert said in refused(monkeypatch, capsys, "prune.py", *words, *more)
    assert not Path(tmp_path / "out").exists()
