"""Passes outside of a training leave the process as it was, and call nobody."""

import logging
import os
import random
import sys
import types
import warnings
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch

from ultralytics import YOLO
from ultralytics.pruning import load
from ultralytics.pruning.compression import work
from ultralytics.pruning.compression.recipe import images_of
from ultralytics.pruning.deploy.agreement import check_agreement
from ultralytics.pruning.deploy.exporting import export_by_release
from ultralytics.pruning.latency import Runtime
from ultralytics.pruning.latency.timing import in_turns
from ultralytics.pruning.measuring.rows import Measurement
from ultralytics.pruning.passes.images import Images, batches_for, gradients, recalibrate
from ultralytics.pruning.passes.isolation import Reproducible, isolated
from ultralytics.pruning.stages.measuring import run_one
from ultralytics.pruning.stages.pruning import accuracy_table
from ultralytics.utils import SETTINGS, callbacks

TRACKERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
PACKAGES = ("clearml", "comet_ml", "dvclive", "mlflow", "ray", "wandb", "neptune")


def state() -> dict:
    """All that a pass could leave behind."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    return {
        "python": random.getstate(),
        "numpy": [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
        "torch": torch.get_rng_state().tolist(),
        "seed": torch.initial_seed(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "filled": torch.utils.deterministic.fill_uninitialized_memory,
        "cudnn": [getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")],
        "precision": torch.get_float32_matmul_precision(),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
        "environment": dict(os.environ),
        "levels": {own.name: (own.level, own.disabled) for own in loggers if isinstance(own, logging.Logger)},
        "logging": logging.root.manager.disable,
        "filters": list(warnings.filters),
        "backend": dict.__getitem__(matplotlib.rcParams, "backend"),
        "settings": dict(SETTINGS),
        "callbacks": {event: list(own) for event, own in callbacks.default_callbacks.items()},
        "integrations": callbacks.add_integration_callbacks,
        "folder": os.getcwd(),
        "path": list(sys.path),
        "gradients": torch.is_autocast_enabled("cpu"),
    }


def differences(before: dict, after: dict) -> list[str]:
    """What changed; loggers that are new are no change."""
    after = {**after, "levels": {name: after["levels"][name] for name in before["levels"]}}
    return [name for name, value in before.items() if after[name] != value]


@pytest.fixture(params=["fresh", "deterministic"])
def process(request, monkeypatch):
    """A process as it starts, or one whose owner has set everything otherwise, with callbacks and trackers."""
    called = []

    class Tracker(types.ModuleType):
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            called.append((self.__name__, name))
            return lambda *args, **kwargs: self

    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, Tracker(package))
    for tracker in TRACKERS:
        monkeypatch.setitem(SETTINGS, tracker, True)
    monkeypatch.setattr(callbacks, "add_integration_callbacks", called.append)
    for event, own in callbacks.default_callbacks.items():
        monkeypatch.setitem(
            callbacks.default_callbacks, event, [*own, lambda caller, event=event: called.append((event, caller))]
        )
    if request.param == "fresh":
        yield called
        return
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(5)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    yield called
    logging.getLogger("ultralytics").setLevel(logging.INFO)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def onnx(small_weights, tmp_path_factory):
    """The network as an ONNX file."""
    folder = tmp_path_factory.mktemp("onnx")
    (folder / "network.pt").write_bytes(small_weights.read_bytes())
    return export_by_release(folder / "network.pt", {"format": "onnx", "imgsz": 64, "device": "cpu"})


def passes(small_weights, digits, tmp_path, onnx) -> dict:
    """The passes, by name."""
    images = Images(str(digits), batches=1, batch=2, imgsz=64)
    training = {"imgsz": 64, "batch": 8, "device": "cpu"}
    recipe = SimpleNamespace(data=str(digits), images=images_of(training, str(digits)), training=training)
    validation = {
        "data": str(digits),
        "imgsz": 64,
        "plots": not torch.are_deterministic_algorithms_enabled(),
        "project": str(tmp_path),
        "name": "val",
    }
    options, plan = SimpleNamespace(device="cpu", settings={}), SimpleNamespace(settings={"imgsz": 64})
    row = Measurement("", "detect", 10, 0, None, 0.0, 64, 8, "cpu")
    picture = next((digits.parent / "images" / "val").glob("*.png"))

    def timing() -> None:
        runtime = Runtime("torch", threads=2)
        with runtime.threading():
            in_turns({"network": runtime.network(load(small_weights)[0], 64)}, rounds=1)

    def export() -> None:
        (tmp_path / "network.pt").write_bytes(small_weights.read_bytes())
        export_by_release(tmp_path / "network.pt", {"format": "torchscript", "imgsz": 64, "device": "cpu"})

    def interrupted() -> None:
        found = gradients(load(small_weights)[0], images)
        next(found)
        found.close()

    return {
        "gradients": lambda: list(gradients(load(small_weights)[0], images)),
        "interrupted": interrupted,
        "recalibrate": lambda: recalibrate(load(small_weights)[0], images),
        "accuracy": lambda: work.measured_accuracy(small_weights, recipe, tmp_path),
        "val.py": lambda: run_one(small_weights, row, validation),
        "prune.py --val": lambda: accuracy_table(small_weights, small_weights, str(digits), plan, options),
        "export": export,
        "agreement": lambda: check_agreement(onnx, small_weights, [picture], {"imgsz": 64}),
        "timing": timing,
    }


NAMES = ["gradients", "interrupted", "recalibrate", "accuracy", "val.py", "prune.py --val"]
NAMES += ["export", "agreement", "timing"]


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_changes_nothing_and_calls_nobody(name, process, small_weights, digits, tmp_path, onnx, runs) -> None:
    """Whatever the state of the process; the second time, too."""
    work = passes(small_weights, digits, tmp_path, onnx)[name]
    before = state()
    work()
    assert differences(before, state()) == []
    assert process == []
    folders = {path.name for path in tmp_path.iterdir()} - {"val", "runs", "network.pt", "network.torchscript"}
    assert not folders


def test_between_two_batches_the_process_is_as_it_was(small_weights, digits) -> None:
    """Whoever takes the gradients draws from the random state of the process, not from that of the pass."""
    images = Images(str(digits), batches=2, batch=2, imgsz=64)
    before = state()
    for _ in gradients(load(small_weights)[0], images):
        assert differences(before, state()) == []
    with batches_for(load(small_weights)[0], images) as batches:
        assert all(len(batch["img"]) == 2 and not differences(before, state()) for batch in batches)


def test_the_seed_decides_which_images_come_first(small_weights, digits) -> None:
    """And nothing else does: not the random state of the process, nor what somebody draws between two batches."""

    def order(seed: int, draws: int) -> list[str]:
        torch.manual_seed(draws)
        found: list[str] = []
        with batches_for(load(small_weights)[0], Images(str(digits), 4, 4, 64, settings=(("seed", seed),))) as batches:
            for batch in batches:
                found += batch["im_file"]
                torch.rand(draws), np.random.rand(draws), random.random()
        return found

    assert order(0, 1) == order(0, 7) != order(1, 1)
    assert len(set(order(0, 1))) == 16


def test_what_an_error_leaves_is_undone_too(small_weights) -> None:
    """Random states, switches, variables, callbacks, levels."""

    def disturb() -> None:
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.deterministic = True
        torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)
        torch.autograd.set_detect_anomaly(True)
        torch.set_grad_enabled(False)
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        del os.environ["PATH"]
        logging.getLogger("ultralytics").setLevel(logging.CRITICAL)
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("error")
        matplotlib.rcParams["font.size"] = 99
        dict.__setitem__(SETTINGS, "runs_dir", "elsewhere")
        callbacks.default_callbacks["on_val_end"].append(print)
        with isolated():
            assert YOLO(small_weights).callbacks["on_val_end"] == []
        raise KeyboardInterrupt

    before = state()
    with pytest.raises(KeyboardInterrupt):
        isolated()(disturb)()
    assert differences(before, state()) == [] and matplotlib.rcParams["font.size"] != 99


def test_a_random_state_of_its_own_goes_on_from_block_to_block() -> None:
    """As if there were only one block."""

    def draw() -> tuple:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    one, other = Reproducible(3), Reproducible(3)
    with one():
        wanted = [draw(), draw()]
        assert torch.are_deterministic_algorithms_enabled()
    found = []
    for _ in range(2):
        with other():
            found.append(draw())
        draw()
    assert found == wanted and wanted[0] != wanted[1]


def test_latencies_are_timed_in_the_mode_in_which_networks_are_deployed() -> None:
    """Also where the process is in another one, which it keeps."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    try:
        with Runtime("torch", threads=1).threading():
            assert not torch.are_deterministic_algorithms_enabled() and not torch.backends.cudnn.deterministic
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
