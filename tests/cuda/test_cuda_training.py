"""Trainings and stages on an emulated GPU: each mode, resuming elsewhere, fine-tuning, gradients, statistics, scripts.

The release's own trainer and validator run, with `device=0`, and what they call of ours has to keep to one device. What
the emulation cannot show: AMP (it is off: no half precision, no gradient scaler within the trainer), worker processes,
pinned memory, memory that ends, DDP. `benchmarks/gpu.py` shows these on a machine with a GPU.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.emulated_cuda import emulated_cuda
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import Scoring, load, prune_network, save, trace
from ultralytics.pruning.passes.images import Images, gradients, recalibrate
from ultralytics.pruning.selection.zeros import share_at_zero

MODES: dict[str, dict[str, Any]] = {
    "subgradient": {"sr": 1e-3},
    "proximal": {"sparsity": "proximal", "target_sparsity": 0.5},
    "group": {"sparsity": "group", "sr": 1e-2},
    "steered": {"sparsity": "steered", "target_speed_up": 2.0},
    "group_sl": {"sparsity": "group_sl", "sr": 0.1},
    "group_reg": {"sparsity": "group_reg", "target_speed_up": 2.0},
}


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    with emulated_cuda() as device:
        yield device


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A small detector of ten classes."""
    layers = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "C2f", [16, True]]]
    layers += [[-1, 1, "Conv", [32, 3, 2]]]
    torch.manual_seed(0)
    model = DetectionModel({"nc": 10, "backbone": layers, "head": [[[2, 3], 1, "Detect", ["nc"]]]}, verbose=False)
    model.names, model.task = {number: str(number) for number in range(10)}, "detect"
    path = tmp_path_factory.mktemp("cuda") / "start.pt"
    save(model, path)
    return path


@pytest.fixture
def settings(quick) -> dict[str, Any]:
    return {**quick, "epochs": 3, "nbs": 8, "amp": False, "val": False, "verbose": False, "close_mosaic": 1}


def trained(start: Path, folder: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """Trains and returns the weights of last.pt, on the CPU."""
    YOLO(start).train(project=str(folder.parent), name=folder.name, **settings)
    return load(folder / "weights" / "last.pt")[0].state_dict()


@pytest.mark.parametrize("mode", MODES)
def test_a_training_of_each_mode_runs_on_the_gpu(mode, start, settings, tmp_path):
    own = {**settings, **MODES[mode], "round_to": 1, "val": mode == "steered", "device": "0"}
    with emulated_cuda():
        found = trained(start, tmp_path / "there", **own)
        assert not torch.zeros(1).is_cuda
    before = load(start)[0].state_dict()
    assert (
        all(torch.isfinite(tensor).all() for tensor in found.values()) and (tmp_path / "there" / "gamma.png").is_file()
    )
    assert not torch.equal(found["model.2.cv1.bn.weight"], before["model.2.cv1.bn.weight"])
    model, content = load(tmp_path / "there" / "weights" / "last.pt")
    assert content["train_args"]["device"] == "0" and content["epoch"] == -1
    if "target_speed_up" in MODES[mode] or "target_sparsity" in MODES[mode]:
        assert share_at_zero(trace(model), model) > 0.1


class Stop(Exception):
    """What ends a training here after its second epoch."""


@pytest.mark.parametrize(("first", "second"), [("0", "cpu"), ("cpu", "0")])
def test_a_run_goes_on_on_another_device(first, second, start, settings, tmp_path):
    def stop(trainer):
        if trainer.epoch == 1:
            raise Stop

    model = YOLO(start)
    model.add_callback("on_model_save", stop)
    own = {**settings, **MODES["steered"], "round_to": 1, "epochs": 4}
    with emulated_cuda(), pytest.raises(Stop):
        model.train(project=str(tmp_path), name="run", **{**own, "device": first})
    last = tmp_path / "run" / "weights" / "last.pt"
    assert (last.parent / "resume-1.pt").is_file()
    with emulated_cuda():
        YOLO(last).train(resume=True, device=second)
    network, content = load(last)
    assert content["epoch"] == -1 and share_at_zero(trace(network), network) > 0.1
    assert len((tmp_path / "run" / "results.csv").read_text().splitlines()) == 5


def test_gradients_and_statistics_are_those_of_the_cpu(cuda, start, digits):
    cpu, _ = load(start)
    there, here = (Images(str(digits), batches=1, batch=4, imgsz=64, device=device) for device in ("0", "cpu"))
    expected = list(gradients(cpu, here))
    for model in (cpu, copy.deepcopy(cpu).to(cuda)):
        found = list(gradients(model, there))
        device = next(model.parameters()).device
        assert {tensor.device for own in found for tensor in own.values()} == {device} and len(found) == 1
        for name, tensor in expected[0].items():
            torch.testing.assert_close(found[0][name].cpu(), tensor, rtol=1e-3, atol=1e-5)
    gpu = copy.deepcopy(cpu).to(cuda)
    assert recalibrate(gpu, there) == recalibrate(cpu, here) == 1
    for name, tensor in cpu.state_dict().items():
        torch.testing.assert_close(gpu.state_dict()[name].cpu(), tensor, rtol=1e-4, atol=1e-5)


def test_a_pruned_network_is_trained_on(start, settings, tmp_path):
    result = prune_network(load(start)[0], prune_ratio=0.5, scoring=Scoring())
    save(result.model, tmp_path / "pruned.pt")
    with emulated_cuda():
        own = {**settings, "finetune": True, "epochs": 1, "device": "0"}
        found = trained(tmp_path / "pruned.pt", tmp_path / "run", **own)
    widths = {name: tensor.shape for name, tensor in result.model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in found.items()} == widths
