"""Tests of what looks at training images outside of a training: gradients and batch-norm statistics."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from helpers.processes.python import run_python
from helpers.repository import FADED_WEIGHTS
from helpers.task_data import MODELS, write_data
from ultralytics import YOLO
from ultralytics.nn.tasks import ClassificationModel, DetectionModel
from ultralytics.pruning import CRITERIA, PruningError, load, plans_of, trace
from ultralytics.pruning.data.sets import resolve_data
from ultralytics.pruning.passes.images import Images, gradients, recalibrate, trainer_class


@pytest.fixture(scope="module")
def images(digits) -> Images:
    """Two batches of four images."""
    return Images(str(digits), batches=2, batch=4, imgsz=64)


@pytest.fixture
def network() -> nn.Module:
    """A trained network."""
    return load(FADED_WEIGHTS)[0]


def test_gradients_are_those_of_the_loss(network, images) -> None:
    """One mapping a batch, with each trained parameter; finite, not all zero; the network stays as it was."""
    before = copy.deepcopy(network.state_dict())
    found = list(gradients(network, images))
    assert len(found) == 2
    assert {name for name, _ in network.named_parameters()} - found[0].keys() <= {"model.22.dfl.conv.weight"}
    assert all(torch.isfinite(value).all() for value in found[0].values())
    assert sum(float(value.abs().sum()) for value in found[1].values()) > 0
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["group_taylor", "group_hessian"])
def test_the_same_seed_gives_the_same_ranking(network, images, name) -> None:
    """Also where the random state of the process is another one; another seed may take other images."""
    channel_map = trace(network)
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        scores.append(CRITERIA[name](channel_map, network, gradients(network, images)))
    assert np.array_equal(*scores, equal_nan=True)
    assert not np.isnan(scores[0][channel_map.free]).any()


def test_new_statistics_are_the_means_of_the_batches(network, images) -> None:
    """The first batch norm's mean is that of its convolution's output; nothing but statistics changes."""
    before = copy.deepcopy(network.state_dict())
    seen = []
    probe = copy.deepcopy(network)
    original = trainer_class(network).preprocess_batch

    def watch(self, batch):
        batch = original(self, batch)
        with torch.no_grad():
            seen.append(probe.model[0].conv(batch["img"]).mean((0, 2, 3)))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_class(network), "preprocess_batch", watch)
        assert recalibrate(network, images) == 2
    torch.testing.assert_close(network.model[0].bn.running_mean, torch.stack(seen).mean(0), rtol=1e-4, atol=1e-5)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(before[key], value)}
    assert {key.rpartition(".")[2] for key in changed} == {"running_mean", "running_var"}
    assert not network.training and network.model[0].bn.momentum == probe.model[0].bn.momentum


def test_each_network_has_its_trainer() -> None:
    """By its class; a network that is none of the release's has none."""
    assert trainer_class(DetectionModel("yolov8n.yaml", verbose=False)).__name__ == "DetectionTrainer"
    assert trainer_class(ClassificationModel("yolov8n-cls.yaml", verbose=False)).__name__ == "ClassificationTrainer"
    with pytest.raises(PruningError, match="no trainer for a Sequential"):
        trainer_class(nn.Sequential())


def test_a_data_set_without_images_is_one_line(network, digits, tmp_path) -> None:
    """What the release says of it, in one line."""
    yaml = tmp_path / "empty.yaml"
    (tmp_path / "images").mkdir()
    yaml.write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames: {[str(i) for i in range(10)]}\n")
    with pytest.raises(PruningError, match=r"the training images of .*empty\.yaml cannot be read"):
        list(gradients(network, Images(str(yaml), batches=1, batch=2, imgsz=64)))


def test_the_stage_scores_and_recalibrates(digits, tmp_path) -> None:
    """By the gradients, with new statistics; the plan says so, and repeats without images."""
    line = ("prune.py", "--weights", FADED_WEIGHTS, "--speed-up", "1.5", "--round-to", "1", "--imgsz", "64")
    more = ("--criterion", "group_taylor", "--batches", "1", "--recalibrate", "1", "--data", digits, "batch=4")
    result = run_python(*line, "--no-onnx", *more, "--device", "cpu", "--save-dir", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Scored by group_taylor\n" in result.stdout and "estimated anew, on at most 1 batches" in result.stdout
    [plan] = plans_of(load(tmp_path / "pruned.pt")[0])
    assert plan.settings["criterion"] == "group_taylor" and plan.settings["recalibrate"] == 1
    assert plan.before.macs / plan.after.macs == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--criterion", "group_taylor"), "the criterion group_taylor needs training images: name them with --data"),
        (("--recalibrate", "4"), "--recalibrate needs training images: name them with --data"),
        (("--criterion", "magnitude"), "invalid choice: 'magnitude'"),
        (("--normalize", "gaussian", "--per", "multiply-add"), "gaussian scores may be negative"),
        (("--zeros", "--criterion", "l1"), "--zeros removes what is at zero, whatever its score"),
    ],
)
def test_mistakes_are_one_line(tmp_path, words, message) -> None:
    """Exit code 2, one line, nothing written."""
    line = ("prune.py", "--weights", FADED_WEIGHTS, "--device", "cpu", "--save-dir", tmp_path / "out")
    result = run_python(*line, *(() if "--zeros" in words else ("--speed-up", "1.5")), *words)
    assert result.returncode == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", [task for task in MODELS if task != "detect"])
def test_every_task_has_gradients_and_statistics(task, tmp_path) -> None:
    """On a data set of its kind; a criterion on images then tells all groups that can be removed."""
    data = resolve_data(write_data(task, tmp_path / "data"), task=task)
    kind = type(YOLO(MODELS[task]).model)
    network = kind(MODELS[task], nc=1 if task in ("pose", "depth") else 2, verbose=False)
    images = Images(data, batches=1, batch=2, imgsz=64)
    channel_map = trace(network)
    scores = CRITERIA["group_taylor"](channel_map, network, gradients(network, images))
    assert not np.isnan(scores[channel_map.free]).any()
    assert recalibrate(network, images) == 1
