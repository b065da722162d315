"""Only some classes: the rows of the others go, and what the network says of the kept ones is what it said before."""

import json

import pytest
import torch

from helpers.networks import image, raw_outputs, small_yolo, tensors, yolo
from ultralytics.pruning import PruningError, PruningPlan, Target, plans_of, prune_network, repeat_plan
from ultralytics.pruning.networks.keep_classes import keep_classes

NAMES = ["person", "bicycle", "car", "bus", "train", "boat", "bird", "cat", "traffic light", "horse"]
KEPT = [0, 2, 8]
FAMILIES = ["yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n"]
TASKS = ["yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolo26n-seg", "yolo26n-pose", "yolo26n-obb"]
OTHERS = {  # network -> a word of why its scores would not stay the same
    "yolov8n-cls": "softmax",
    "yolo26n-sem": "pixel",
    "yolov8n-rtdetr": "looks for objects",
    "yolo26n-depth": "no classes",
    "yolov8s-worldv2": "set_classes",
    "yoloe-11s-seg": "set_classes",
}


def with_names(model):
    """A network of ten classes that have names."""
    model = model.double().eval()
    model.names = dict(enumerate(NAMES))
    return model


def rows_of(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The kept rows of an output where the other one has them alone."""
    for dim, (size, left) in enumerate(zip(tensor.shape, like.shape, strict=True)):
        if size != left:
            assert (size, left) == (len(NAMES), len(KEPT))
            return tensor[(slice(None),) * dim + (KEPT,)]
    return tensor


@pytest.mark.parametrize("name", [*FAMILIES, *TASKS])
def test_the_kept_classes_score_as_before(name):
    model = with_names(yolo(name))
    x = image(model, 64)
    smaller, kept = keep_classes(model, ["person", "traffic light", 2])
    head = smaller.model[-1]

    assert kept.numbers == tuple(KEPT) and kept.of == 10
    assert list(smaller.names.values()) == [NAMES[i] for i in KEPT]
    assert smaller.nc == smaller.yaml["nc"] == head.nc == 3 and head.no == model.model[-1].no - 7
    before, after = raw_outputs(model, x), raw_outputs(smaller, x)
    scores = 0
    for old, new in zip(before, after, strict=True):
        scores += old.shape != new.shape
        torch.testing.assert_close(new, rows_of(old, new), atol=1e-10, rtol=1e-12)
    assert scores == sum(old.shape.count(10) > 0 for old in before) > 0
    assert len(model.names) == 10 and model.model[-1].nc == 10


def test_without_a_target_nothing_but_rows_goes():
    model = with_names(yolo("yolo26n-seg"))
    result = prune_network(model, keep_classes=KEPT, imgsz=64)
    smaller, plan = result.model, result.plan
    expected = keep_classes(model, KEPT)[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in smaller.state_dict().items())
    assert plan.after == plan.before and plan.original.params == sum(p.numel() for p in model.parameters())
    assert plan.after.params == sum(p.numel() for p in smaller.parameters()) < plan.original.params
    assert plan.after.macs < plan.original.macs


@pytest.mark.parametrize("name", ["yolov8n", "yolov8n-obb", "yolo11n-seg"])
def test_decoded_boxes_and_scores_are_those_of_before(name):
    model = with_names(yolo(name))
    smaller = keep_classes(model, KEPT)[0].eval()
    x = image(model, 64)
    with torch.no_grad():
        old, new = (next(tensors(network(x))) for network in (model, smaller))
    rows = [*range(4), *(4 + i for i in KEPT), *range(14, old.shape[1])]
    torch.testing.assert_close(new, old[:, rows], atol=1e-9, rtol=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_networks_whose_classes_compete_are_refused(name):
    model = yolo(name)
    with pytest.raises(PruningError, match=OTHERS[name]) as error:
        prune_network(model, keep_classes=[0])
    assert len(str(error.value).splitlines()) == 1


def test_a_head_that_mixes_its_classes_is_found_out():
    model = with_names(small_yolo())
    head = type(model.model[-1])
    model.model[-1].__class__ = type("Softened", (head,), {
        "forward": lambda self, x: {**head.forward(self, x), "scores": head.forward(self, x)["scores"].softmax(1)}
    })  # fmt: skip
    with pytest.raises(PruningError, match="Softened cannot lose"):
        prune_network(model, keep_classes=[0, 1], imgsz=64)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["persn"], "did you mean 'person'"),
        (["dog"], "there are person, bicycle"),
        (["person", 0], "named twice"),
        (["car", " CAR"], "named twice"),
        ([], "no class is named"),
        ("", "is no class"),
        ([10], "0 to 9"),
        (["-1"], "0 to 9"),
        ([True], "0 to 9"),
        ([1.5], "0 to 9"),
        ([None], "0 to 9"),
        (range(10), "all 10 classes"),
    ],
)
def test_classes_that_cannot_be_kept(wanted, said):
    model = with_names(small_yolo())
    with pytest.raises(PruningError, match=said) as error:
        prune_network(model, keep_classes=wanted, imgsz=64)
    assert len(str(error.value).splitlines()) == 1


def test_names_come_before_numbers():
    model = small_yolo()
    model.names = dict(enumerate(["one", "0", "a", "A", *"bcdefg"]))
    assert keep_classes(model, "0")[1].numbers == (1,)
    assert keep_classes(model, ["0", 0, "A"])[1].numbers == (0, 1, 3)
    model.names[3] = "a"
    with pytest.raises(PruningError, match="give their numbers"):
        keep_classes(model, "a")


def test_rows_go_ahead_of_a_cut():
    model = with_names(small_yolo())
    result = prune_network(model, keep_classes="car, person", target=Target("speed_up", 2), scoring=None, imgsz=64)
    plan = result.plan
    assert result.difference < 1e-13 and plan.after.macs * 2 <= plan.before.macs < plan.original.macs
    assert plan.settings["classes"]["kept"] == [0, 2] and plan.settings["classes"]["names"] == ["person", "car"]
    assert plans_of(result.model) == [plan]
    assert result.model.model[-1].cv3[0][-1].out_channels == 2


def test_a_plan_repeats_rows_and_cut():
    model = with_names(small_yolo())
    for how in ({"prune_ratio": 0.4}, {}):
        first = prune_network(model, keep_classes=["car", "bus"], imgsz=64, **how)
        again = repeat_plan(model, PruningPlan.from_json(first.plan.to_json()))
        weights = first.model.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in again.model.state_dict().items())
        assert again.plan.original == first.plan.original and again.plan.settings == first.plan.settings
        other = with_names(small_yolo())
        other.names[2] = "lorry"
        with pytest.raises(PruningError, match="the plan keeps car, bus"):
            repeat_plan(other, first.plan)
        with pytest.raises(PruningError, match="this network has"):
            repeat_plan(first.model, first.plan)


@pytest.mark.parametrize(
    "change",
    [
        {"kept": []},
        {"kept": [3, 2]},
        {"kept": [2, 10]},
        {"kept": ["2", "3"]},
        {"names": ["car"]},
        {"names": ["car", 3]},
        {"of": 2},
        {"before": {}},
    ],
)
def test_a_spoiled_plan_is_refused(change):
    plan = json.loads(prune_network(with_names(small_yolo()), keep_classes=[2, 3], imgsz=64).plan.to_json())
    plan["settings"]["classes"] |= change
    with pytest.raises(PruningError, match="classes"):
        PruningPlan.from_dict(plan)


def test_what_would_do_nothing_is_refused():
    with pytest.raises(PruningError, match="only takes rows out"):
        prune_network(with_names(small_yolo()), keep_classes=[0], rounds=2, imgsz=64)
