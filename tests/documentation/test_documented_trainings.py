"""Every command that README.md, the docs and --help print runs as printed, in their order, in a folder with a space.

The words are those that are printed. What they ask for is made short after it is read: few epochs at 64 pixels, where
nothing is timed, no pictures of a training, few rounds of a timing.
"""

import argparse
import contextlib
import inspect
import io
import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from helpers.repository import REPOSITORY
from helpers.seeing import write_seeing
from ultralytics.data import digits as built_in
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.data import sets
from ultralytics.pruning.deploy import viewer
from ultralytics.pruning.files import places
from ultralytics.pruning.latency import timing
from ultralytics.pruning.quantization import ground
from ultralytics.pruning.stages import compress_options, sweep

SHOWN = re.compile(r"`(python [\w-]+\.py [^`]+|python [\w-]+\.py)`")
PAGES = ("pruning", "compress", "int8", "latency", "choosing", "sparsity-training", "troubleshooting")


def shown(page: str) -> list[str]:
    """The commands in a page, but for the dry runs of test_documented_commands.py and the options of any stage."""
    lines = SHOWN.findall(" ".join((REPOSITORY / page).read_text().split()))
    return [line for line in lines if "--help" not in line and ("--dry-run" not in line or "--latency" in line)]


README = shown("README.md")
README_VAL = next(line for line in README if "val.py" in line)
DOCS = [line for page in PAGES for line in shown(f"docs/{page}.md") if line not in README]
DOCS = list(dict.fromkeys(DOCS))
HELP = {
    script.name: command
    for script in sorted(REPOSITORY.glob("*.py"))
    for command in re.findall(r'"(python [\w-]+\.py [^"]*)"', script.read_text())
}
HELP["compress.py"] = re.search(r'"(python compress\.py [^"]*)"', inspect.getsource(compress_options))[1]
ORDER = ("train-normal.py", "train_sparsity.py", "vis-bn-weight.py", "finetune.py", "val.py", "export.py")
ORDER += (
    "compress.py",
    "report.py",
    "latency_table.py",
)  # and prune.py, whose example is in test_documented_commands.py
LONGEST = {"epochs": 1, "steps": 1, "epochs_per_step": 3, "imgsz": 64}  # a fading takes three epochs
TIMED = 160  # pixels; on smaller images nothing is left to time
WRITES = {"train_sparsity.py": "train-sparsity", "finetune.py": "finetune", "compress.py": "compress", "val.py": "val"}


@pytest.fixture
def folder(tmp_path, monkeypatch, small_weights, digits) -> Path:
    """Where a person stands: the repository's scripts, a pretrained network, a data set, and no run."""
    root = tmp_path / "a new user"
    (root / "weights").mkdir(parents=True)
    for script in HELP:
        shutil.copy(REPOSITORY / script, root)
    for name in ("weights/yolov8s.pt", "best.pt", "before.pt", "after.pt"):
        shutil.copy(small_weights, root / name)
    shutil.copytree(digits.parent / "images" / "train", root / "photos")
    (root / "my.yaml").write_text(yaml.safe_dump({**yaml.safe_load(digits.read_text()), "path": str(digits.parent)}))
    monkeypatch.setattr(places, "ROOT", root)
    monkeypatch.setattr(places, "RUNS", root / "runs")
    monkeypatch.setattr(sets, "DATASETS", root / "datasets")
    monkeypatch.setattr(built_in.build, "__defaults__", (built_in.Recipe(train=16, val=8),))
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def person(folder, monkeypatch, capfd):
    """Runs a printed command, with its words as they are."""
    run = entry.run

    def shortened(stage):
        def of(options: argparse.Namespace) -> None:
            most = LONGEST | ({"epochs_per_step": 1} if getattr(options, "criterion", None) else {})
            if isinstance(getattr(options, "speed_up", None), list):
                most["steps"] = len(options.speed_up)  # three epochs to each target
            most |= {"epochs": 3} if "train_sparsity.py" in options.command else {}
            if "latency" in options.command:
                most["imgsz"] = options.imgsz = TIMED
            for name in most.keys() & vars(options).keys():
                setattr(options, name, options.__dict__[name] and min(options.__dict__[name], most[name]))
            if hasattr(options, "imgsz") and not options.imgsz and not getattr(options, "plan", None):
                options.imgsz = most["imgsz"]  # else that of the training, which these checkpoints do not know
            if hasattr(options, "epochs") or "val.py" in options.command:
                options.settings |= {"plots": False}
            stage(options)

        return of

    monkeypatch.setattr(entry, "run", lambda parser, stage, words=None: run(parser, shortened(stage), words))
    monkeypatch.setattr(timing.in_turns, "__kwdefaults__", {"rounds": 6})
    monkeypatch.setattr(timing.milliseconds, "__kwdefaults__", {"least": 1, "seconds": 0})
    monkeypatch.setattr(viewer, "show", lambda onnx: None)  # nobody looks
    monkeypatch.setattr(viewer, "wait", lambda: None)
    monkeypatch.setattr(ground.Ground, "ms", lambda ground, files: [2.0, *[1.0] * (len(files) - 1)])
    monkeypatch.setattr(compress_options, "DEFAULT_ROUND_TO", 1)  # by 16, the network cannot lose 80 % of its width

    def type_in(command: str) -> None:
        _, script, *words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", [script, *words])
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as ended:
            raise AssertionError(f"{command}: {ended.code}: {capfd.readouterr()}") from ended

    logs: list[str] = []

    def trial(words: list[str], log: str) -> int:
        """Runs one trial of a sweep; its log stands for those of the others (test_sweep.py runs them all)."""
        if not logs:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                type_in(shlex.join(["python", "compress.py", *words]))
            logs.append(out.getvalue())
        Path(log).write_text(logs[0])
        return 0

    monkeypatch.setattr(sweep, "run_combination", trial)
    return type_in


def follow(lines: list[str], person, folder: Path) -> None:
    """Types in one line after the other; a finished run is not replaced without being asked, so it is put away."""
    for line in lines:
        name = WRITES.get(line.split()[1])
        if name and "--name" not in line:
            shutil.rmtree(folder / "runs" / name, ignore_errors=True)
        if "compress.py" in line and "--data photos" in line:
            write_seeing("detect", folder / "best.pt")  # a network that finds something to label
        person(line)
        shutil.copy(folder / "before.pt", folder / "best.pt")


def test_the_readme_from_its_first_line_to_its_last(folder, person):
    assert len(README) >= 10
    follow(README, person, folder)
    made = ["weights/pruned.onnx", "runs/bn-weights.png", "runs/val/val.csv", "runs/compress/compressed.pt"]
    made += ["runs/compress/report.html", "runs/finetune/weights/best.onnx"]
    assert [name for name in made if not (folder / name).is_file()] == []


def test_the_docs_from_their_first_line_to_their_last(folder, person, small_weights):
    """They begin where the README ends: with the runs that its stages make."""
    assert len(DOCS) >= 15
    for run in ("train-norm", "finetune"):
        (folder / "runs" / run / "weights").mkdir(parents=True)
        shutil.copy(small_weights, folder / "runs" / run / "weights" / "best.pt")
    follow(["python prune.py --weights best.pt --data my.yaml --speed-up 1.5", README_VAL], person, folder)
    follow(DOCS, person, folder)
    made = ["board.json", "report.html", "report.md", "runs/formats/val.csv", "runs/sweep/sweep.csv"]
    made += ["runs/ladder/ladder.csv", "runs/labelled/compressed.pt", "runs/unlabelled/compressed.pt"]
    assert [name for name in made if not (folder / name).is_file()] == []


def test_the_examples_of_all_helps_in_the_order_of_the_stages(folder, person):
    for script in ORDER:
        if script == "finetune.py":
            person("python prune.py")
        person(HELP[script])
    made = [
        "runs/finetune/weights/best.onnx",
        "runs/val/val.csv",
        "runs/compress/compressed.pt",
        "bn.png",
        "report.html",
        "board.json",
    ]
    assert [name for name in made if not (folder / name).is_file()] == []
    assert sorted([*ORDER, "prune.py"]) == sorted(HELP)
