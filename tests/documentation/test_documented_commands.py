"""What README.md and --help print for prune.py without a training runs as printed, whatever the random weights are."""

import re
import runpy
import shlex
import sys

import pytest
import torch

from helpers.repository import REPOSITORY
from ultralytics.pruning.command_line import entry

PYTHON = re.compile(r"`python (prune\.py [^`]+ --dry-run)`")


def examples() -> list[str]:
    """The dry runs in README.md, docs and the scripts' own help, without those that time this machine."""
    found: dict[str, None] = {}
    for file in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))):
        found.update(dict.fromkeys(PYTHON.findall(" ".join(file.read_text().split()))))
    for script in REPOSITORY.glob("*.py"):
        found.update(dict.fromkeys(re.findall(r'"python (\w+\.py [^"]*--dry-run)"', script.read_text())))
    return [command for command in found if "--latency" not in command]


def test_there_are_commands_that_need_no_training() -> None:
    assert len(examples()) >= 3
    assert "prune.py --weights yolov8n.yaml --prune-ratio 0.5 --dry-run" in examples()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("command", examples())
def test_a_printed_command_runs(command: str, seed: int, monkeypatch, capsys) -> None:
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")
    script, *words = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [script, *words])
    torch.manual_seed(seed)
    code = 0
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    assert "Nothing was written (--dry-run)." in said.out
    difference = re.search(r"largest difference (\S+) \(relative\)", said.out)
    assert difference and float(difference[1]) < 1e-13
