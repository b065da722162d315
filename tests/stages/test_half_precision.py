"""A finished checkpoint is in half precision, unless its network would lose by that: then it stays in float32."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.repository import FADED_WEIGHTS
from ultralytics import YOLO
from ultralytics.data.digits import Recipe, build
from ultralytics.nn.modules import Conv
from ultralytics.pruning import load, save
from ultralytics.pruning.accuracy import accuracy
from ultralytics.pruning.training.precision import TOLERANCE
from ultralytics.utils.patches import torch_load
from ultralytics.utils.torch_utils import strip_optimizer

SETTINGS = {
    "imgsz": 160,
    "batch": 8,
    "epochs": 1,
    "device": "cpu",
    "workers": 0,
    "plots": False,
    "optimizer": "SGD",
    "lr0": 1e-12,  # nothing is learned: the network is what was set by hand
    "warmup_epochs": 0,
    "finetune": True,
    "name": "run",
}
SCALE = 1e-6


def beyond_the_range(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """What goes into the norm, and what the norm takes out of it, is a thousand times as large."""
    for tensor, factor in ((conv.weight, 1e3), (norm.running_mean, 1e3), (norm.running_var, 1e6)):
        tensor.data.mul_(factor)


def below_its_resolution(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """What goes into the norm is so small that half precision has a few steps for it; no number is out of range."""
    assert norm.running_var is not None
    narrower = (norm.running_var + norm.eps).sqrt() / (norm.running_var * SCALE**2 + norm.eps).sqrt()
    factors = ((conv.weight, SCALE), (norm.running_mean, SCALE), (norm.running_var, SCALE**2))
    for tensor, factor in (*factors, (norm.weight, 1 / (SCALE * narrower))):
        tensor.data.mul_(factor)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return str(build(tmp_path_factory.mktemp("digits") / "digits", Recipe(train=8, val=24)))


def fine_tuned(change: Callable | None, data: str, folder: Path) -> YOLO:
    """A trained network after an epoch in which it learned nothing; a layer's numbers are changed, not what it does."""
    network = load(FADED_WEIGHTS)[0]
    if change:
        layer = next(layer for layer in network.model[2].modules() if isinstance(layer, Conv))
        change(layer.conv, layer.bn)
    save(network, folder / "start.pt")
    model = YOLO(folder / "start.pt")
    model.train(data=data, project=str(folder), **SETTINGS)
    return model


def precision_of(file: Path) -> set[torch.dtype]:
    return {parameter.dtype for parameter in torch_load(file)["model"].parameters()}


def measured(file: Path, data: str) -> float:
    settings = {"imgsz": 160, "device": "cpu", "workers": 0, "plots": False, "project": str(file.parent)}
    return YOLO(file).val(data=data, **settings).box.map


@pytest.mark.parametrize("change", [None, beyond_the_range, below_its_resolution])
def test_a_checkpoint_is_as_accurate_as_what_was_trained(change, data, tmp_path):
    model = fine_tuned(change, data, tmp_path)
    weights = tmp_path / "run" / "weights"
    assert sorted(file.name for file in weights.iterdir()) == ["best.pt", "last.pt"]
    for file in weights.iterdir():
        assert precision_of(file) == {torch.float32 if change else torch.float16}
    trained = accuracy(load(weights / "best.pt")[1]["train_metrics"], "detect")
    assert trained > 0.5
    found = measured(weights / "best.pt", data)
    assert found == pytest.approx(trained, abs=TOLERANCE)
    assert model.trainer.metrics["metrics/mAP50-95(B)"] == model.metrics.box.map == pytest.approx(found, abs=1e-6)

    network = load(weights / "best.pt")[0].half()  # the release's saving: what is out of range ends at its border
    for tensor in network.state_dict().values():
        tensor.nan_to_num_()
    save(network, tmp_path / "halved.pt")
    assert bool(change) == (abs(measured(tmp_path / "halved.pt", data) - trained) > TOLERANCE)


def test_numbers_that_are_not_finite_are_no_reason(tmp_path, small_weights):
    content = torch_load(small_weights)
    next(content["model"].parameters()).data[:] = float("nan")
    torch.save(content, tmp_path / "nan.pt")
    strip_optimizer(tmp_path / "nan.pt")
    assert precision_of(tmp_path / "nan.pt") == {torch.float16}
