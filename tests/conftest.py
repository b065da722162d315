"""What the tests share. All of it is made on the spot, small, and without the network."""

import atexit
import functools
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch

import ultralytics
from ultralytics.data.digits import Recipe, build
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import save
from ultralytics.pruning.files import places

REPOSITORY = Path(__file__).resolve().parents[1]
assert Path(ultralytics.__file__).parent == REPOSITORY / "ultralytics", "the tests need the overlay, not the release"

if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))  # a core for each process: two that both use all wait for each other
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
torch.set_num_threads(1)  # the same sums in the same order, whatever the machine


LONGEST = (
    "test_documented_trainings.py",
    "test_zoo.py",
    "test_grammar.py",
    "test_faults.py",
    "test_compress.py",
    "test_bad_input.py",
    "test_parts.py",
)


def pytest_collection_modifyitems(items) -> None:
    """The longest files come first, so that no process is left with one of them at the end (`make test` runs two)."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def plain_arithmetic():
    """Undoes what a stage that runs in this process does to it: with denormals at zero, Hypothesis draws no floats."""
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The yaml of a small digits data set: 16 images to train on, 8 to validate."""
    return build(tmp_path_factory.mktemp("data") / "digits", Recipe(train=16, val=8))


@pytest.fixture(scope="session")
def quick(digits) -> dict:
    """Training settings for a run of seconds on the CPU."""
    return {
        "data": str(digits),
        "imgsz": 64,
        "batch": 8,
        "epochs": 1,
        "device": "cpu",
        "plots": False,
        "workers": 0,
        "exist_ok": True,
        "optimizer": "SGD",
    }


SMALL = {  # a quarter of yolov8n's layers, and wide enough to be cut to a target within 5 %
    "nc": 10,
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "C2f", [32, True]]]
    + [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "C2f", [64, True]]],
    "head": [[[2, 4], 1, "Detect", ["nc"]]],
}


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The model yaml of a small detector, for tests of files and processes rather than of networks."""
    file = tmp_path_factory.mktemp("small") / "small.yaml"
    file.write_text(json.dumps(SMALL))  # which is YAML, too
    return file


@pytest.fixture(scope="session")
def small_weights(small) -> Path:
    """A checkpoint of the small detector for ten classes, whose gammas differ."""
    torch.manual_seed(0)
    model = DetectionModel(small, nc=10, verbose=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.2, 1)
    model.task, model.names = "detect", {number: str(number) for number in range(10)}
    file = small.with_name("weights.pt")
    save(model, file)
    return file


@pytest.fixture(scope="session")
def tau() -> Path:
    """A trained checkpoint that nobody here made: a YOLOv8n-obb of the package `tau-fibrils-yolo`."""
    package = importlib.util.find_spec("tau_fibrils_yolo")
    if package is None or package.origin is None:
        pytest.skip("needs tau-fibrils-yolo (make install)")
    return Path(package.origin).parent / "model" / "100ep.pt"


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Lets stages in this process write their runs into a temporary folder."""

    monkeypatch.setattr(places, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


def entries(folder: Path = REPOSITORY) -> set[Path]:
    """What lies in a folder, but for what pytest itself writes there, another one's included."""
    return {path for path in folder.iterdir() if path.name != ".pytest_cache"}


def copied_repository(root: Path) -> Path:
    """Copies what a person runs, so that stages write their runs elsewhere; returns the copy."""
    shutil.copytree(REPOSITORY / "ultralytics", root / "ultralytics", ignore=shutil.ignore_patterns("__pycache__"))
    for script in REPOSITORY.glob("*.py"):
        shutil.copy(script, root)
    return root


def stock_environment(folder: Path) -> dict[str, str]:
    """The environment of a process in `folder` that runs the stock release under its restricted loader."""
    return {
        **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ULTRALYTICS_SAFE_LOAD": "1",
        "YOLO_CONFIG_DIR": str(folder / "config"),
        "YOLO_AUTOINSTALL": "0",
    }


def run_python(*words: str | Path, cwd: Path = REPOSITORY, timeout: float = 300, **environment: str):
    """Runs Python in a process of its own, as a person would, and returns its output."""
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment}
    everything = {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **settings}
    line = [str(word) for word in words]
    script = Path(cwd, line[0])
    root = Path(environment.get("PYTHONPATH", script.parent))  # what the script imports is of this folder
    if environment.keys() <= {"PYTHONPATH"} and script.suffix == ".py" and (root / "ultralytics" / "pruning").is_dir():
        return zygote_of(root).run([str(script), *line[1:]], cwd, everything, timeout)
    return subprocess.run(
        [sys.executable, *line], cwd=cwd, env=everything, capture_output=True, text=True, timeout=timeout
    )


class Zygote:
    """A process that has imported the scripts of a repository and forks one for each run (see `zygote.py`)."""

    def __init__(self, repository: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            cwd=repository,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)

    def run(self, words: list[str], cwd: Path, environment: dict[str, str], timeout: float):
        """Runs a script in a fork; returns what `subprocess.run` does."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = (Path(folder, name) for name in ("stdout", "stderr"))
            files = {"stdout": str(out), "stderr": str(err)}
            request = {"words": words, "cwd": str(cwd), "environment": environment, **files}
            print(json.dumps(request), file=self._process.stdin, flush=True)
            child = int(self._process.stdout.readline())
            clock = threading.Timer(timeout, os.kill, (child, signal.SIGKILL))
            clock.start()
            code = int(self._process.stdout.readline())
            clock.cancel()
            clock.join()
            return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


@functools.cache
def zygote_of(repository: Path) -> Zygote:
    """The one zygote of a repository, or of a copy of it."""
    return Zygote(repository)
