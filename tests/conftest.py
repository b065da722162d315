"""What the tests share. All of it is made on the spot, small, and without the network."""

import gc
import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

import ultralytics
from helpers import timings
from helpers.hostile import no_trust, tiny
from helpers.networks import SMALL
from helpers.repository import REPOSITORY
from ultralytics.data.digits import Recipe, build
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import plots, save
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.files import places
from ultralytics.pruning.latency import comparing, turns

assert Path(ultralytics.__file__).parent == REPOSITORY / "ultralytics", "the tests need the overlay, not the release"

if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))  # a core for each process: two that both use all wait for each other
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
torch.set_num_threads(1)  # the same sums in the same order, whatever the machine


LONGEST = (
    "test_zoo.py",
    "test_documented_trainings.py",
    "test_faults.py",
    "test_interruption.py",
    "test_compress.py",
    "test_trainer.py",
    "test_grammar.py",
    "test_sweep.py",
    "test_gpu_benchmark.py",
    "test_stages.py",
    "test_ddp.py",
    "test_cuda.py",
    "test_verification.py",
)


def pytest_collection_modifyitems(items) -> None:
    """The longest files come first, so that no process is left with one of them at the end (`make test` runs two)."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage, of which a training asks for some, looks at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def plain_arithmetic():
    """Undoes what a stage that runs in this process does to it: with denormals at zero, Hypothesis draws no floats."""
    yield
    torch.set_flush_denormal(False)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def small_pictures(request, monkeypatch) -> None:
    """Spares each training the second that its `gamma.png` takes, but for tests that are marked with `pictures`."""
    if "pictures" not in request.keywords:
        monkeypatch.setattr(plots, "history_figure", lambda *what: Figure(figsize=(1, 1)))


@pytest.fixture(autouse=True)
def planted_timings(request, monkeypatch) -> None:
    """Spares cuts and measurements the seconds in which they are timed, but for tests that are marked with `timed`."""
    if "timed" not in request.keywords:
        monkeypatch.setattr(comparing, "time_networks", lambda *networks: timings.PLANTED)
        monkeypatch.setattr(turns, "paces", timings.planted_paces)


@pytest.fixture
def one_thread(monkeypatch) -> None:
    """The stages let all cores work; the tests stay with one."""
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")


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


@pytest.fixture
def untrusted(monkeypatch) -> None:
    """No trust from outside, and the CPU."""
    no_trust(monkeypatch)


@pytest.fixture
def marker(tmp_path) -> Path:
    """What a payload makes."""
    return tmp_path / "it-ran"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A tiny checkpoint of ten classes."""
    return tiny(tmp_path_factory.mktemp("good") / "good.pt")


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
