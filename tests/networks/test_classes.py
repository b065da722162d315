"""Classes of another data set: the rows of a network's class layers follow the names."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from helpers.networks import image, raw_outputs, yolo
from ultralytics import YOLO
from ultralytics.pruning import PruningError, load, prune_network, save
from ultralytics.pruning.networks.classes import NEW, class_layers
from ultralytics.pruning.networks.keeping import check_order, class_order, fit_classes

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ORDER = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
HEADS = ["yolov8n", "yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolov8n-cls", "yolov10n", "yolo26n-seg",
         "yolo26n-pose", "yolo26n-sem", "yolov8n-rtdetr"]  # fmt: skip


def named(name: str):
    """A network of ten classes that have names."""
    model = yolo(name).double().eval()
    model.names = dict(enumerate(NAMES))
    return model


def rows(model: nn.Module) -> list[torch.Tensor]:
    """The weights and biases of the class layers."""
    layers = [layer for _, layer in class_layers(model.model[-1])]
    return [p for layer in layers for p in (layer.weight, getattr(layer, "bias", None)) if p is not None]


@pytest.mark.parametrize("name", HEADS)
def test_predictions_by_name_are_unchanged(name):
    model = named(name)
    x = image(model, 64)
    before = [tensor.clone() for tensor in raw_outputs(model, x)]
    fit_classes(model, [NAMES[i] for i in ORDER])
    after = raw_outputs(model, x)
    moved = 0
    for old, new in zip(before, after, strict=True):
        dims = [dim for dim, size in enumerate(old.shape) if size == len(NAMES)]
        if not torch.equal(old, new):
            assert any(torch.allclose(new, old.index_select(dim, torch.tensor(ORDER)), atol=1e-9) for dim in dims)
            moved += 1
    assert moved
    assert [model.names[i] for i in range(10)] == [NAMES[i] for i in ORDER]


@pytest.mark.parametrize("name", HEADS)
def test_known_rows_are_kept_and_others_begin_anew(name):
    model = named(name)
    old = [row.detach().clone() for row in rows(model)]
    wanted = [" Three", "ten", "ZERO", "eleven", *NAMES[4:], "twelve"]
    fit_classes(model, wanted, adopt=True)
    for before, after in zip(old, rows(model), strict=True):
        assert len(after) == len(wanted) and after.requires_grad
        assert torch.equal(after[[0, 2, 4, -2]], before[[3, 0, 4, 9]])
        assert torch.isfinite(after).all() and not torch.equal(after[1], before[1])
    head = model.model[-1]
    assert model.nc == model.yaml["nc"] == len(wanted) == len(model.names) and getattr(head, "nc", 11) == len(wanted)
    raw_outputs(model, image(model, 64))  # runs


def test_new_classes_begin_as_rare_as_in_a_new_head():
    model = named("yolov8n")
    fit_classes(model, ["two", "new"], adopt=True)
    new = copy.deepcopy(model.model[-1])
    new.bias_init()
    for own, fresh in zip(model.model[-1].cv3, new.cv3, strict=True):
        assert own[-1].bias[1] == fresh[-1].bias[1] < -4
    assert not torch.equal(model.model[-1].cv2[0][-1].bias, new.cv2[0][-1].bias)  # boxes stay as they were


def test_a_layer_that_levels_share_is_moved_once():
    model = named("yolov8n")
    shared = model.model[-1].cv3[0][-1]
    for level in model.model[-1].cv3:
        level[-1] = shared
    before = shared.weight.detach().clone()
    fit_classes(model, [NAMES[i] for i in ORDER])
    assert torch.equal(shared.weight, before[ORDER])


@pytest.mark.parametrize(
    ("own", "wanted", "order"),
    [
        (["a", "b"], ["b", "a"], [1, 0]),
        (["a", "b"], [" B", "A "], [1, 0]),
        (["a", "A"], ["A", "a"], [1, 0]),
        (["a", "a"], ["a", "a"], [0, 1]),
        (["a", "b"], ["a", "c"], [0, NEW]),
        (["a", "b"], ["b"], [1]),
        (["0", "1"], ["a", "b"], [0, 1]),
        (["a", "b"], ["class_0", "class_1"], [0, 1]),
        (["1", "0"], ["0", "1"], [0, 1]),
        (["0", "1"], ["a", "b", "c"], [NEW, NEW, NEW]),
    ],
)
def test_order(own, wanted, order):
    model = nn.Module()
    model.model, model.names = nn.Sequential(nn.Identity()), dict(enumerate(own))
    assert class_order(model, wanted) == order


def test_others_are_named_and_so_is_the_way():
    model = named("yolov8n")
    with pytest.raises(PruningError, match=r"only it has 'ten'; only the network has 'zero'.*classes_from=data"):
        fit_classes(model, ["ten", *NAMES[1:]])
    fit_classes(model, ["ten", *NAMES[1:]], by_name=False)  # the same under other names
    assert model.names[0] == "zero"


def test_measuring_in_another_order_is_refused():
    model = named("yolov8n")
    check_order(model, NAMES, "a.yaml")
    check_order(model, ["ten", *NAMES[1:]], "a.yaml")
    with pytest.raises(PruningError, match=r"its class 0 is 'three', the network's is 'zero'"):
        check_order(model, [NAMES[i] for i in ORDER], "a.yaml")


@pytest.fixture(scope="module")
def pruned(tmp_path_factory) -> Path:
    """A pruned network of ten classes with names."""
    model = prune_network(named("yolov8n").float(), prune_ratio=0.5).model
    model.task, model.class_weights = "detect", torch.arange(10.0)
    file = tmp_path_factory.mktemp("classes") / "pruned.pt"
    save(model, file)
    return file


def data_of(quick: dict, names: list[str], folder: Path) -> str:
    """Writes the digits with other names."""
    content = {**yaml.safe_load(Path(quick["data"]).read_text()), "names": dict(enumerate(names))}
    content["path"] = str(Path(quick["data"]).parent)
    content.pop("nc", None)
    (folder / "other.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "other.yaml")


def test_fine_tuning_follows_the_names(pruned, quick, tmp_path):
    before = rows(load(pruned)[0])[0]
    model = YOLO(pruned)
    data = data_of(quick, [NAMES[i] for i in ORDER], tmp_path)
    frozen = {"lr0": 0.0, "warmup_epochs": 0, "weight_decay": 0.0}
    model.train(finetune=True, project=str(tmp_path), name="run", **{**quick, **frozen, "data": data})
    after = rows(load(tmp_path / "run" / "weights" / "last.pt")[0])[0]
    torch.testing.assert_close(after, before[ORDER], atol=1e-3, rtol=1e-2)  # saved in half precision
    assert list(model.names.values()) == [NAMES[i] for i in ORDER]
    assert not hasattr(model.model, "class_weights")


def test_fine_tuning_takes_the_classes_of_the_data_if_told(pruned, quick, tmp_path):
    names = [*NAMES[:9], "new", "newer", "newest"]
    data = data_of(quick, names, tmp_path)
    with pytest.raises(PruningError, match="10 classes, but the data set has 12"):
        YOLO(pruned).train(finetune=True, project=str(tmp_path), name="run", **{**quick, "data": data})
    YOLO(pruned).train(finetune=True, classes_from="data", project=str(tmp_path), name="run", **{**quick, "data": data})
    network = load(tmp_path / "run" / "weights" / "last.pt")[0]
    assert len(network.names) == 12 and rows(network)[0].shape[0] == 12
    assert network.model[0].conv.out_channels == load(pruned)[0].model[0].conv.out_channels
    assert network.model[-1].cv3[0][0].conv.out_channels == load(pruned)[0].model[-1].cv3[0][0].conv.out_channels
