"""How a network is cut where nobody says how: in memory, and by `prune.py`."""

import json
import runpy
import shutil
import sys
from argparse import Namespace

import pytest
import torch
import yaml

from helpers.networks import block
from helpers.repository import REPOSITORY
from ultralytics import YOLO
from ultralytics.pruning import PruningError, Scoring, load, prune_network, save, trace
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.gammas import all_gammas
from ultralytics.pruning.one_shot.defaults import Reason, default_for, images_of_training
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.passes.photographs import Photographs, can_see_photographs
from ultralytics.pruning.sparsity import MODES
from ultralytics.pruning.stages.pruning import checked_data

SIDE = 64


@pytest.fixture(autouse=True)
def cpu(monkeypatch) -> None:
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")


@pytest.fixture
def network(small_weights):
    return load(small_weights)[0]


@pytest.fixture
def zeroed(network):
    """A network that holds a fifth of each layer's channels at exactly zero."""
    for gamma in all_gammas(trace(network, imgsz=SIDE), network).values():
        with torch.no_grad():
            gamma.parameter[: len(gamma.parameter) // 5] = 0
    return network


def asked(network, train_args=None, images=None, **target) -> tuple:
    default = default_for(network, trace(network, imgsz=SIDE), train_args or {}, images, **{"target": True, **target})
    return default.reason, default.criterion, default.per, default.rounds, default.refit, default.zeros


def test_zeros_decide_where_no_target_is_named(zeroed, digits) -> None:
    images = Images(str(digits), imgsz=SIDE)
    assert asked(zeroed, {"sr": 0.1}, images, target=False) == (Reason.ZEROS, "slim", None, 1, False, True)
    assert asked(zeroed, {"sr": 0.1}, images) == (Reason.ZEROS, "slim", None, 1, False, False)


@pytest.mark.parametrize("mode", MODES)
def test_a_sparsity_training_decides_by_its_mode(network, digits, mode) -> None:
    args = {"sparsity": mode, "sr": 0.0 if MODES[mode].needs_target else 0.1}
    expected = "group_norm" if mode == "group_sl" else "slim"
    images = Images(str(digits), imgsz=SIDE)
    assert asked(network, args, images) == (Reason.SPARSITY, expected, None, 1, False, False)


def test_images_decide_for_a_network_without_sparsity_training(network, digits) -> None:
    images = Images(str(digits), imgsz=SIDE)
    for args in ({}, {"sparsity": "subgradient", "sr": 0.0}, {"sr": None, "sparsity": "a mode of another program"}):
        by_images = (Reason.IMAGES, "group_fisher", "multiply-add", 4, True, False)
        assert asked(network, args, images) == by_images
        assert asked(network, args, images, in_time=True) == (Reason.IMAGES, "group_fisher", None, 1, True, False)
        assert asked(network, args)[0] is (Reason.NO_IMAGES if args else Reason.NOTHING)


def test_images_of_the_training_are_looked_for(network, digits, tmp_path) -> None:
    here = images_of_training(network, {"data": str(digits)}, SIDE)
    assert here and here.data == str(digits.resolve()) and here.batches * here.batch == 32
    (tmp_path / "other.yaml").write_text("train: images\nval: images\nnames: [one, two]\n")
    for data in (None, 5, "nowhere.yaml", str(tmp_path / "other.yaml"), str(tmp_path), "coco8.yaml"):
        assert images_of_training(network, {"data": data}, SIDE) is None
    assert images_of_training(torch.nn.Conv2d(3, 3, 1), {"data": str(digits)}, SIDE) is None


def test_prune_network_asks_the_network(network, zeroed, small_weights, digits) -> None:
    assert prune_network(zeroed, imgsz=SIDE).plan.settings["zeros"] is True
    dense = load(small_weights)[0]
    dense.args = {"data": str(digits)}
    result = prune_network(dense, speed_up=1.5, imgsz=SIDE)
    settings = result.plan.settings
    assert result.default.reason is Reason.IMAGES and result.difference < 1e-10
    assert (settings["criterion"], settings["rounds"], settings["refit"] > 0) == ("group_fisher", 4, True)
    asked = prune_network(dense, speed_up=1.5, imgsz=SIDE, scoring=Scoring("l1"))
    assert asked.default is None and asked.plan.settings["criterion"] == "l1"


@pytest.fixture
def prune(tmp_path, small_weights, capsys, monkeypatch):
    """Runs prune.py on a checkpoint with some training arguments; returns what the plan notes, and what was said."""

    def script(train_args, *words: object) -> tuple[dict, str]:
        file = tmp_path / "it.pt"
        save(load(small_weights)[0], file, train_args={"imgsz": SIDE, **train_args})
        where = ["--weights", file, "--save-dir", tmp_path / "out", "--no-onnx", "--round-to", 1]
        monkeypatch.setattr(sys, "argv", ["prune.py", *map(str, [*where, *words])])
        runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")
        return json.loads((tmp_path / "out" / "pruned.json").read_text())["settings"], capsys.readouterr().out

    return script


def test_prune_py_takes_the_images_of_the_training(prune, digits, tmp_path) -> None:
    settings, said = prune({"data": str(digits)}, "--speed-up", 1.3, "--val")
    assert "mAP50-95" in said
    assert (settings["criterion"], settings["per"], settings["rounds"]) == ("group_fisher", "multiply-add", 4)
    assert settings["refit"] > 0 and str(digits) in said.splitlines()[0] and "WARNING" not in said
    moved = shutil.copytree(digits.parent, tmp_path / "moved to here") / digits.name
    settings, said = prune({"data": "gone.yaml"}, "--speed-up", 1.3, "--data", moved, "--rounds", 2, "--no-refit")
    assert (settings["criterion"], settings["rounds"], settings["refit"]) == ("group_fisher", 2, 0)
    settings, said = prune({"data": str(digits)}, "--speed-up", 1.3, "--criterion", "l1")
    assert settings["criterion"] == "l1" and "rounds" not in settings


def test_val_names_the_data_of_the_training_where_that_does_not_fit(network, digits, tmp_path) -> None:
    network.names = dict(enumerate("abcdefghij"))
    content = {**yaml.safe_load(digits.read_text()), "path": str(digits.parent), "names": [*"jihgfedcba"]}
    other = tmp_path / "other order.yaml"
    other.write_text(yaml.safe_dump(content))
    options = Namespace(data=None, val=True, settings={})
    with pytest.raises(PruningError, match=f"--data {other} lists the network's classes in another order"):
        checked_data(options, network, {"data": str(other)})


def test_photographs_stand_in_for_missing_images(prune) -> None:
    settings, said = prune({"data": "gone.yaml"}, "--speed-up", 1.3)
    assert settings["criterion"] == "group_fisher" and settings["refit"] > 0 and "--data" in said
    again, _ = prune({"data": "gone.yaml"}, "--speed-up", 1.3)
    assert again == settings
    settings, said = prune({"data": "gone.yaml", "sr": 0.1})
    assert (settings["criterion"], settings["prune_ratio"]) == ("slim", 0.7) and "WARNING" not in said


@pytest.mark.parametrize("channels", [1, 3])
def test_crops_of_the_photographs(channels) -> None:
    model = block(channels, 4)
    crops = Photographs(model, 9, 4, 96, "cpu")
    batches = [crops.batch(samples)["img"] for samples in crops]
    assert [tuple(batch.shape) for batch in batches] == [(4, channels, 96, 96)] * 2 + [(1, channels, 96, 96)]
    assert can_see_photographs(model) and not can_see_photographs(block(4, 4))
    seen = torch.cat(batches)
    assert seen.min() >= 0 and seen.max() <= 1 and seen.std() > 0.1
    differences = (seen[:, None] - seen[None]).abs().mean((2, 3, 4))
    assert (differences + torch.eye(9) > 0.01).all()
    assert torch.equal(
        seen, torch.cat([crops.batch(samples)["img"] for samples in Photographs(model, 9, 4, 96, "cpu")])
    )


def test_what_a_sparsity_training_has_ordered_is_used_up_by_the_cut(prune, tmp_path) -> None:
    prune({"sr": 0.1, "sparsity": "subgradient", "epochs": 7})
    args = YOLO(tmp_path / "out" / "pruned.pt").ckpt["train_args"]
    assert "sr" not in args and "sparsity" not in args and args["epochs"] == 7


def test_a_network_is_looked_at_as_it_was_trained(small_weights) -> None:
    """At another size than that of its training a network finds other things, and the scores are those of that size."""
    model, _ = load(small_weights)
    assert prune_network(model, speed_up=1.2, scoring=Scoring("l1")).plan.settings["imgsz"] == 640
    model.args = {"imgsz": 64}
    assert prune_network(model, speed_up=1.2, scoring=Scoring("l1")).plan.settings["imgsz"] == 64
    assert prune_network(model, speed_up=1.2, scoring=Scoring("l1"), imgsz=96).plan.settings["imgsz"] == 96
