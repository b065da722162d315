"""README.md is short and true: its Python example runs, its files, links and options exist."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from helpers.repository import REPOSITORY, SCRIPTS
from ultralytics.pruning import load, save

README = (REPOSITORY / "README.md").read_text()
PACKAGE = REPOSITORY / "ultralytics" / "pruning"


def test_it_is_read_in_a_few_minutes():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 120] == []


def test_the_python_example_runs(tmp_path, monkeypatch, capsys, small_weights, digits):
    (code,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 8
    monkeypatch.chdir(tmp_path)
    save(load(small_weights)[0], "best.pt", train_args={"data": str(digits), "imgsz": 64, "task": "detect"})
    exec(compile(code, "README.md", "exec"), {})
    left, before = (int(number.replace(",", "")) for number in re.findall(r"[\d,]{5,}", capsys.readouterr().out))
    network, _ = load(tmp_path / "pruned.pt")
    assert sum(weights.numel() for weights in network.parameters()) == left < before


def test_files_exist():
    for file in re.findall(r"`(ultralytics/[\w/]+\.py|benchmarks/\w+\.py)`", README):
        assert (REPOSITORY / file).is_file(), file
    for file in re.findall(r"`(\w+\.py)`", README):
        assert (REPOSITORY / file).is_file() or (PACKAGE / file).is_file(), file


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_thin_guarded_and_help(script, monkeypatch, capsys):
    text = Path(REPOSITORY / script).read_text()
    assert len(text.splitlines()) <= 60
    assert 'if __name__ == "__main__":' in text
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"python {script}" in said.split("example:")[1]
