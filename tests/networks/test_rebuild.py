"""Whether a network is what its yaml says: any difference counts, and nothing is built with weights or fetched."""

import copy

import pytest
import torch
from torch import nn

from benchmarks.zoo_models import zoo
from helpers.networks import yolo
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv, Detect
from ultralytics.pruning import PruningError, prune_network
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.networks.rebuild import _build, differing_layer, is_pruned


class Own(nn.Module):
    """A block that can be imported, and that no yaml finds unless it is registered."""

    def __init__(self, *_):
        super().__init__()
        self.body = nn.Identity()

    def forward(self, x):
        return self.body(x)


def replace(model, name, module):
    """Puts a module in the place of another one."""
    owner, _, last = name.rpartition(".")
    setattr(model.get_submodule(owner), last, module)


def other_activation(model):
    model.model[1].act = nn.ReLU()


def other_kernel(model):
    model.model[1].conv = nn.Conv2d(16, 32, 1, 2, bias=False)


def other_stride(model):
    model.model[1].conv.stride = (1, 1)


def other_padding(model):
    model.model[1].conv.padding = (0, 0)


def bias(model):
    model.model[1].conv.bias = nn.Parameter(torch.zeros(32))


def no_batch_norm(model):
    model.model[1].bn = nn.Identity()


def other_norm(model):
    model.model[1].bn = nn.BatchNorm2d(32, affine=False)


def block_taken_out(model):
    model.model[2].m[0] = nn.Identity()


def layer_removed(model):
    del model.model[2].m[0]


def layer_added(model):
    model.model[2].m.append(Conv(16, 16, 1))


def shortcut(model):
    model.model[2].m[0].add = False


def other_route(model):
    model.model[11].f = [-1, 4]


def width(model):
    model.model[0].conv = nn.Conv2d(3, 8, 3, 2, 1, bias=False)


def class_branch(model):
    """Cut within, so that the release would not copy it: the width that it looks at is as it was."""
    branch = model.model[-1].cv3[1]
    branch[0].conv, branch[1].conv = nn.Conv2d(128, 40, 3, 1, 1, bias=False), nn.Conv2d(40, 64, 3, 1, 1, bias=False)
    branch[0].bn = nn.BatchNorm2d(40)


EDITS = [other_activation, other_kernel, other_stride, other_padding, bias, no_batch_norm, other_norm,
         block_taken_out, layer_removed, layer_added, shortcut, other_route, width, class_branch]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_any_difference_counts(edit):
    model = yolo("yolov8n")
    assert differing_layer(model) is None
    edit(model)
    assert differing_layer(model).startswith("model.")
    assert is_pruned(model)


def test_a_block_without_parameters_counts_in_a_fused_network_too():
    model = yolo("yolov8n").eval().fuse(verbose=False)
    assert not is_pruned(model)
    block_taken_out(model)
    assert "model.2.m.0 is a Identity" in differing_layer(model)


def test_no_model_file_is_taken_for_pruned():
    """On the meta device, the first of each kind of head, with other classes than the file says."""
    entries = zoo()
    assert len(entries) >= 70
    for entry in {entry.head: entry for entry in reversed(entries)}.values():
        own = nn.Module()
        own.yaml = {**tasks.yaml_model_load(f"{entry.name}.yaml"), "nc": 3}
        own.model = _build(own.yaml)
        assert differing_layer(own) is None, entry.name


@pytest.mark.parametrize("name", ["yolov10n", "yolo11n-seg", "yolo26n-pose", "yolov8n-rtdetr", "yolov8n-worldv2"])
def test_networks_with_weights_of_other_classes_are_what_their_yaml_says(name):
    model = yolo(name)
    assert differing_layer(model) is None
    other = type(model)(copy.deepcopy(model.yaml), nc=90, verbose=False)
    other.load(model)
    assert differing_layer(other) is None
    assert differing_layer(model.eval().fuse(verbose=False)) is None


def test_a_checkpoint_of_an_older_release_is_what_its_yaml_says(tau):
    assert not is_pruned(checkpoint.load(tau)[0])


def test_a_pretrained_backbone_is_not_fetched(monkeypatch):
    def fetch(*args, **kwargs):
        raise AssertionError("fetched")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    entry = next(entry for entry in zoo() if entry.name == "yolo11-cls-resnet18")
    model = entry.build(classes=3)
    model.yaml["backbone"][0][3][2] = "DEFAULT"  # as its file says
    assert not is_pruned(model)
    model.model[0].m[0] = nn.Conv2d(3, 32, 7, 2, 3, bias=False)
    assert is_pruned(model)


def test_nothing_in_a_yaml_is_evaluated_and_the_process_stays_as_it_was(tmp_path):
    model = yolo("yolov8n")
    activation, legacy, state = Conv.default_act, Detect.legacy, torch.random.get_rng_state()
    model.yaml["activation"] = f"open({str(tmp_path / 'made')!r}, 'w')"
    assert is_pruned(model)
    assert not (tmp_path / "made").exists()
    assert Conv.default_act is activation and Detect.legacy is legacy
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_module_that_is_not_registered_is_named(monkeypatch, tmp_path, quick):
    monkeypatch.setattr(tasks, "Own", Own, raising=False)
    yaml = tasks.yaml_model_load("yolov8n.yaml")
    yaml["backbone"][1][2], yaml["backbone"][1][3] = "nn.Conv2d", [16, 32, 3, 2, 1]
    yaml["backbone"].insert(1, [-1, 1, "Own", []])
    yaml["head"] = [[-1, 1, "Classify", ["nc"]]]
    yaml["backbone"] = yaml["backbone"][:2]
    model = tasks.ClassificationModel(yaml, nc=2, verbose=False)
    model.task, model.names = "classify", {0: "a", 1: "b"}
    assert not is_pruned(model)
    checkpoint.save(model, tmp_path / "own.pt")
    monkeypatch.delattr(tasks, "Own")
    assert "Own, which is not registered" in differing_layer(model)
    allowed = torch.serialization.safe_globals([Own])  # importable, and known to be harmless
    with allowed, pytest.raises(PruningError, match="Own, which is not registered"):
        YOLO(tmp_path / "own.pt").train(**quick, project=str(tmp_path), name="run")


def test_a_network_whose_blocks_went_is_not_trained_dense(tmp_path, quick):
    """Without a plan in it, the class of a block is all that tells."""
    model = yolo("yolov8n")
    block_taken_out(model)
    model.task, model.names = "detect", {i: str(i) for i in range(10)}
    checkpoint.save(model, tmp_path / "start.pt")
    with pytest.raises(PruningError, match="Identity"):
        YOLO(tmp_path / "start.pt").train(**quick, project=str(tmp_path), name="run")
    trained = YOLO(tmp_path / "start.pt")
    trained.train(**quick, project=str(tmp_path), name="run", finetune=True)
    assert isinstance(trained.model.model[2].m[0], nn.Identity)


def test_a_cut_network_is_pruned_also_without_its_plan():
    pruned = prune_network(yolo("yolo11n"), prune_ratio=0.3).model
    pruned.pruning_plans = []
    assert is_pruned(pruned)
