"""Tests of `compress.py --sweep`: what it reads, which command lines come out, a small grid, in turns and by Ray."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.processes.python import run_python
from helpers.repository import FADED_WEIGHTS, REPOSITORY
from ultralytics.pruning import PruningError
from ultralytics.pruning.stages.sweep import Combination, combinations_of, read_grid, row, without


def test_a_grid_is_read_by_key() -> None:
    """Values in their order, each once."""
    assert read_grid(["ratio=0.2,0.4,0.2", "criterion=slim"]) == {"ratio": ["0.2", "0.4"], "criterion": ["slim"]}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("rate=0.2", r"knows no 'rate'; did you mean 'ratio'"),
        ("lr0=0.1", r"knows no 'lr0'; .*go before --sweep"),
        ("ratio", "values are missing"),
        ("ratio=0.2,", "values are missing"),
    ],
)
def test_what_is_no_grid_is_refused(word, message) -> None:
    """In one line."""
    with pytest.raises(PruningError, match=message):
        read_grid([word])


def test_an_option_is_taken_out_of_a_command_line() -> None:
    """With its value, with all values, and in one word."""
    line = ["--weights", "w.pt", "--sweep", "a=1", "b=2", "--name", "n", "lr0=0.1"]
    assert without(line, "--sweep", many=True) == ["--weights", "w.pt", "--name", "n", "lr0=0.1"]
    assert without(line, "--name") == ["--weights", "w.pt", "--sweep", "a=1", "b=2", "lr0=0.1"]
    assert without(["--name=n", "x"], "--name") == ["x"]
    assert without(["--sweep", "a=1"], "--sweep", many=True) == []


def test_each_combination_has_a_command_line_and_a_folder() -> None:
    """Two by two; the options of the sweep itself are gone."""
    line = ["--data", "d", "--sweep", "ratio=0.2,0.4", "criterion=slim,lamp", "--name", "s", "--workers", "2", "lr0=1"]
    trials = combinations_of({"ratio": ["0.2", "0.4"], "criterion": ["slim", "lamp"]}, line, Path("runs/s"))
    assert [trial.name for trial in trials][:2] == ["ratio=0.2, criterion=slim", "ratio=0.2, criterion=lamp"]
    assert len(trials) == 4 and trials[3].folder == Path("runs/s-ratio=0.4-criterion=lamp")
    chosen = ("--prune-ratio", "0.4", "--criterion", "lamp", "--name", "s-ratio=0.4-criterion=lamp")
    assert trials[3].words == ("--data", "d", "lr0=1", *chosen)


@pytest.fixture
def name():
    """The name of a sweep, whose folders are removed afterwards."""
    own = f"test-sweep-{os.getpid()}"
    yield own
    for folder in (REPOSITORY / "runs").glob(f"{own}*"):
        shutil.rmtree(folder)


def test_a_grid_runs_in_turns_and_by_ray(digits, small_weights, name) -> None:
    """Both are done in turns; two workers of Ray find them done, and time nothing beside each other."""
    pytest.importorskip("ray")
    line = ["compress.py", "--weights", str(small_weights), "--data", str(digits), "--imgsz", "64", "--batch", "8"]
    line += ["--device", "cpu", "--epochs", "1", "--steps", "1", "--epochs-per-step", "1", "--round-to", "1"]
    line += ["nbs=8", "plots=False", "--name", name, "--max-map-drop", "0.99"]
    grid = ("--sweep", "ratio=0.2", "criterion=slim,random")
    result = run_python(*line, "--no-timing", *grid)
    assert result.returncode == 0, result.stderr
    folder = REPOSITORY / "runs" / name
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        first = list(csv.DictReader(file))
    assert [row["criterion"] for row in first] == ["slim", "random"]
    assert all(float(row["accuracy"]) >= 0 and int(row["parameters"]) > 0 for row in first)
    assert (folder / "sweep.png").stat().st_size > 10_000

    again = run_python(*line, "--workers", "2", *grid)
    assert again.returncode == 0, again.stderr
    assert "2 compressions, 2 at once" in again.stdout and again.stdout.count(": done") == 2
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == first
    logs = [file.read_text() for file in folder.glob("*.log")]
    assert all("Going on with" in log and "imed at" not in log and "Not timed" not in log for log in logs)


def test_the_table_shows_the_network_that_was_kept(tmp_path) -> None:
    """Not that of the last row, which a fine-tuning may have made worse."""
    lines = ["step,macs,parameters,cut,recovered,seconds,kept", "original,100,10,,0.5,1,"]
    lines += ["1,50,5,0.2,0.4,2,yes", "fine-tuned,50,5,,0.3,3,"]
    (tmp_path / "compress.csv").write_text("\n".join(lines))
    found = row(Combination({"ratio": "0.2"}, tmp_path, ()), 0, tmp_path / "log")
    assert (found["accuracy"], found["change"], found["left"]) == ("0.4000", "-0.1000", "50.0%")


def test_a_compression_ends_with_its_sweep(tmp_path) -> None:
    """However that is ended: else the same command would meet the old one at work in the folder."""
    code = "import subprocess, sys; from ultralytics.pruning.runs.workers import end_with_parent as end; "
    code += (
        "subprocess.Popen([sys.executable, '-c', 'import time; print(0, flush=True); time.sleep(60)'], preexec_fn=end)"
    )
    code += "; import time; time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert parent.stdout.read(1) == b"0"  # the child is there
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == b"\n"  # returns when the child, too, has closed it


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sweep", "rate=0.2"), "--sweep knows no 'rate'"),
        (("--sweep", "ratio=0.2,1.4"), "'1.4' is not a number of at least 0 and below 1"),
        (("--sweep", "criterion=slim"), "one target is needed"),
        (("--speed-up", "2", "--sweep", "ratio=0.2"), "not allowed with argument"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(digits, name, words, message) -> None:
    """Exit code 2, nothing written."""
    line = ("compress.py", "--weights", FADED_WEIGHTS, "--data", digits, "--device", "cpu", "--name", name)
    result = run_python(*line, *words)
    assert result.returncode == 2 and message in result.stderr, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list((REPOSITORY / "runs").glob(f"{name}*"))
