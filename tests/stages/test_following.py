"""What a stage prints as the next command is run as it is printed, stage by stage."""

import csv
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from helpers.repository import REPOSITORY
from ultralytics.pruning import load
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.files import places
from ultralytics.pruning.runs.following import Origin, _name, run_name_of, say_next, seen
from ultralytics.pruning.runs.moved import relocated

QUICK = {"--epochs": "1", "workers=0": None, "plots=False": None, "nbs=8": None, "val=False": None}
COMPRESS = ("--speed-up", "1.5", "--scheme", "stepwise", "--steps", "1", "--epochs-per-step", "1", "--no-distill",
            "--criterion", "l1", "--recalibrate", "1")  # fmt: skip


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """Scripts in a folder with a space in its name, which is the current one."""
    root = tmp_path / "my repository"
    root.mkdir()
    for script in REPOSITORY.glob("*.py"):
        shutil.copy(script, root)
    monkeypatch.setattr(places, "ROOT", root)
    monkeypatch.setattr(places, "RUNS", root / "runs")
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def follow(repository, monkeypatch, capfd):
    """Runs a command and what it prints as the next ones; returns the names of the scripts."""

    def run(line: str) -> list[str]:
        python, script, *words = shlex.split(line)
        assert python == "python" and Path(script).is_file()
        if Path(script).name in ("train-normal.py", "train_sparsity.py", "finetune.py"):
            words += [word for pair in QUICK.items() for word in pair if word]
        words += ["plots=False"] if Path(script).name == "val.py" else []
        monkeypatch.setattr(sys, "argv", [script, *words])
        capfd.readouterr()
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as error:
            raise AssertionError(f"{line}: {capfd.readouterr().err[-500:]}") from error
        nexts = re.findall(r"^Next: (.*)$", capfd.readouterr().out, re.MULTILINE)
        return [Path(script).name, *(name for other in nexts for name in run(other))]

    return run


def test_every_next_command_runs(repository, follow, small, digits):
    """Data elsewhere, one class, a name, and a size of images that are not the defaults."""
    shutil.copytree(digits.parent, repository / "my data")
    content = {**yaml.safe_load(digits.read_text()), "path": str(repository / "my data")}
    (repository / "my data" / "own.yaml").write_text(yaml.safe_dump(content))
    words = ["--data", "my data/own.yaml", "--imgsz", "64", "--batch", "8", "--name", "first try", "single_cls=True"]
    ran = follow(shlex.join(["python", "train-normal.py", "--weights", str(small), *words]))
    chain = [
        "train-normal.py",
        "train_sparsity.py",
        "vis-bn-weight.py",
        "prune.py",
        "finetune.py",
        "val.py",
        "export.py",
    ]
    assert ran == chain
    runs = repository / "runs"
    tuned = runs / "first try-finetune"
    args = yaml.safe_load((tuned / "args.yaml").read_text())
    assert (args["single_cls"], args["imgsz"], args["batch"]) == (True, 64, 8)
    assert Path(args["data"]) == repository / "my data" / "own.yaml"
    assert load(tuned / "weights" / "best.pt")[0].names == {0: "item"}
    assert (tuned / "weights" / "best.onnx").is_file()
    assert (runs / "first try-train-sparsity" / "bn-weights.png").is_file()
    (row,) = csv.DictReader((runs / "first try-val" / "val.csv").open())
    assert row["classes"] == "1" and row["map50_95"] and "names" not in row

    best = "runs/first try/weights/best.pt"  # without single_cls: the checkpoint says so
    words = ["--data", "my data/own.yaml", "--imgsz", "64", "--batch", "8", "--epochs", "1", *COMPRESS]
    ran = follow(shlex.join(["python", "compress.py", "--weights", best, *words, "workers=0", "plots=False"]))
    assert ran == ["compress.py", "val.py", "export.py"]
    compressed, original = (repository / path for path in ("runs/compress/compressed.onnx", best))
    measured = shlex.join(["python", "val.py", seen(compressed), seen(original), *words[:4], "--name", "both"])
    assert follow(measured) == ["val.py"]
    assert [row["classes"] for row in csv.DictReader((runs / "both" / "val.csv").open())] == ["1", "1"]


@pytest.mark.parametrize(
    ("name", "default", "words"),
    [
        ("train-norm", "train-sparsity", []),
        ("cards", "train-sparsity", ["--name", "cards-train-sparsity"]),
        ("cards-train-sparsity", "finetune", ["--name", "cards-finetune"]),
        ("cards-finetune-2", "val", ["--name", "cards-val"]),
        ("train-sparsity-2", "finetune", ["--name", "finetune-2"]),
        ("", "finetune", ["--name", "finetune-2"]),
    ],
)
def test_names_follow_and_are_free(repository, name, default, words):
    (repository / "runs" / "finetune" / "weights").mkdir(parents=True)
    assert _name(Origin(Path("x.pt"), name=name), default) == words


def test_paths_are_seen_from_where_the_user_stands(repository, monkeypatch):
    file = repository / "runs" / "a" / "weights" / "best.pt"
    assert seen(file) == "runs/a/weights/best.pt" and run_name_of(file) == "a"
    monkeypatch.chdir(repository.parent.parent)
    assert seen(file) == f"{repository.parent.name}/my repository/runs/a/weights/best.pt"
    monkeypatch.chdir(REPOSITORY)
    assert seen(file) == str(file) and run_name_of(repository / "weights" / "pruned.pt") == ""


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("./data/gone.yaml", "my.yaml"),
        ("coco8.yaml", "coco8.yaml"),
        ("x" * 5000, "my.yaml"),
        ("a\x1b\0", "my.yaml"),
    ],
)
def test_data_of_another_machine_is_not_printed_as_if_it_were_here(repository, capfd, data, word):
    say_next(("finetune.py",), Origin(repository / "best.pt", data=data))
    said = capfd.readouterr().out
    assert f"--data {word}" in said.splitlines()[-1]
    assert ("is not on this machine" in said) == (word == "my.yaml")
    assert "\x1b" not in said and len(said) < 600


def test_what_no_file_system_can_hold_is_not_looked_for(repository) -> None:
    for name in ("/" + "x" * 5000 + ".pt", "/a\0b.pt"):
        assert Origin.of(repository / "best.pt", {"model": name}).before is None
        assert relocated(name) == name
