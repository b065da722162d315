"""Cutting what is zero loses nothing, on a network that was trained on real images.

`data/faded.pt` was trained as in `make demo`, but by `--sr 0.035`, cut to the half that is left after
`prune.py --prune-ratio 0.5`, and saved in half precision; many of its scales are still close to zero.
"""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.repository import FADED_WEIGHTS
from ultralytics import YOLO
from ultralytics.data.digits import Recipe, build
from ultralytics.pruning import CRITERIA, load, make_plan, prune, save, trace
from ultralytics.pruning.plans.plan import plan_from
from ultralytics.pruning.surgery.verification import raw_outputs


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return str(build(tmp_path_factory.mktemp("digits") / "digits", Recipe(train=8, val=200)))


@pytest.fixture(scope="module")
def network():
    return load(FADED_WEIGHTS)[0]


@pytest.fixture(scope="module")
def plan(network):
    """Removes a fifth of the prunable channels."""
    channel_map = trace(network)
    plan = make_plan(channel_map, CRITERIA["slim"](channel_map, network), prune_ratio=0.2)
    assert plan.after.params < 0.9 * plan.before.params
    return plan


def zeroed(network, plan, *, beta: bool):
    """A copy in which the channels to be removed have gamma = 0, and beta = 0 on request."""
    copied = copy.deepcopy(network)
    modules = dict(copied.named_modules())
    for name, layer in plan.layers.items():
        if layer.type == "BatchNorm2d":
            removed = np.setdiff1d(np.arange(layer.out_before), layer.kept_out)
            modules[name].weight.data[removed] = 0
            if beta:
                modules[name].bias.data[removed] = 0
    return copied


def accuracy(network, data: str, folder: Path) -> float:
    save(copy.deepcopy(network), folder / "network.pt")
    settings = {"imgsz": 160, "device": "cpu", "plots": False, "verbose": False, "project": str(folder)}
    return YOLO(folder / "network.pt").val(data=data, **settings).box.map


def test_channels_with_gamma_and_beta_zero_can_go_without_a_trace(network, plan):
    original = zeroed(network, plan, beta=True)
    pruned = copy.deepcopy(original)
    prune(pruned, plan)
    image = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    for expected, found in zip(raw_outputs(original, image), raw_outputs(pruned, image), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_channels_with_gamma_zero_go_without_a_loss_of_accuracy(network, plan, data, tmp_path):
    original = zeroed(network, plan, beta=False)
    folded, dropped = copy.deepcopy(original), copy.deepcopy(original)
    assert prune(folded, plan, trace(original)) == []
    prune(dropped, plan)
    before, after, without = (accuracy(model, data, tmp_path) for model in (original, folded, dropped))
    assert before > 0.5
    assert abs(after - before) <= 0.002
    assert without < before - 0.002, "the test shows nothing if dropping the constants costs nothing either"


def test_nothing_removed_changes_nothing(network):
    channel_map = trace(network)
    kept = np.ones(len(channel_map.channels), dtype=bool)
    same = copy.deepcopy(network)
    prune(same, plan_from(channel_map, kept, {}), channel_map)
    assert all(
        torch.equal(a, b) for a, b in zip(same.state_dict().values(), network.state_dict().values(), strict=True)
    )
