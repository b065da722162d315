"""Modules of one's own in a model yaml are pruned without a line of code for them."""

import copy
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.custom_modules import PARTS, YAMLS, register
from helpers.networks import difference, image, raw_outputs, set_weights, silenced_by
from helpers.repository import REPOSITORY
from ultralytics.models import YOLO
from ultralytics.nn import tasks
from ultralytics.pruning import ChannelMap, cut, load, make_plan, plans_of, prune, save, trace

TOLERANCE = 1e-9
FREE = 0.95  # of the channels that no output is made of
# What these gate is pinned: they mix all channels of it by their number or their place. All the rest is free.
GATED = {"CBAM": ("model.12.", "model.13.", "model.16.", "model.17."), "ECA": ("model.12.", "model.16.")}


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch):
    """A function that registers the modules that a yaml names, until the end of the test."""

    def register_all(text: str) -> None:
        for module, like in PARTS.items():
            if f" {module.__name__}," in text:
                for name in filter(None, (module.__name__, like)):
                    monkeypatch.setattr(tasks, name, None, raising=False)  # so that it is put back
                register(module, like)

    return register_all


def built(name: str, folder: Path, register_all) -> torch.nn.Module:
    """The model of a yaml that lies in a folder, as `YOLO` builds it, with random weights, in float64."""
    path = folder / "yolov8n-own.yaml"
    path.write_text(YAMLS[name])
    register_all(YAMLS[name])
    model = set_weights(YOLO(path).model).double()
    assert name == "P2 head" or any(type(module) in PARTS for module in model.modules())
    return model


def free_share(channel_map: ChannelMap, *gated: str) -> float:
    """Share of the output channels that are free, but for the layers that make the outputs and those that are gated."""
    places = [
        layer.outputs
        for name, layer in channel_map.layers.items()
        if not (name.endswith(".2") and (".cv2." in name or ".cv3." in name)) and not name.startswith(gated)
    ]
    return float(channel_map.free[np.concatenate(places)].mean())


@pytest.mark.parametrize("name", YAMLS)
def test_modules_of_ones_own_are_pruned(name: str, tmp_path: Path, registered) -> None:
    model = built(name, tmp_path, registered)
    channel_map = trace(model)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    plan = make_plan(channel_map, scores, prune_ratio=0.5)
    pruned = copy.deepcopy(model)
    cut(pruned, plan)
    x = image(model, 96, 64)
    expected = raw_outputs(silenced_by(model, plan), x)
    assert difference(expected, raw_outputs(pruned, x)) < TOLERANCE
    assert difference(raw_outputs(model, x), expected) > 0.1, "the cut removed nothing that matters"
    assert plan.after.params == sum(p.numel() for p in pruned.parameters()) < 0.7 * plan.before.params

    outputs = pruned.train().requires_grad_(True)(x)
    (outputs["boxes"].square().mean() + outputs["scores"].square().mean()).backward()
    without = [n for n, p in pruned.named_parameters() if p.grad is None and ".dfl." not in n]
    assert not without
    assert all(torch.isfinite(p.grad).all() for p in pruned.parameters() if p.grad is not None)

    gated = GATED.get(name, ())
    share = free_share(channel_map, *gated)
    assert share >= FREE, channel_map.pinned_channels()
    assert gated or not channel_map.unknown, channel_map.unknown


@pytest.mark.parametrize("name", YAMLS)
def test_pruned_modules_of_ones_own_are_saved_and_loaded(name: str, tmp_path: Path, registered) -> None:
    model = built(name, tmp_path, registered).float()
    channel_map = trace(model)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    prune(model, make_plan(channel_map, scores, prune_ratio=0.5), channel_map)
    x = image(model, 64)
    expected = raw_outputs(model, x)
    save(model, tmp_path / "pruned.pt")
    loaded, _ = load(tmp_path / "pruned.pt")
    assert difference(expected, raw_outputs(loaded, x)) == 0
    assert plans_of(loaded) == plans_of(model) and len(plans_of(loaded)) == 1
    with torch.no_grad():
        boxes = YOLO(tmp_path / "pruned.pt").model.eval()(x)
    assert torch.isfinite(boxes[0] if isinstance(boxes, tuple) else boxes).all()


def test_the_documented_example_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of code in `docs/custom-modules.md`, as they stand."""
    text = (REPOSITORY / "docs" / "custom-modules.md").read_text()
    module, pruning, seeing = re.findall(r"```python\n(.*?)```", text, re.S)
    (rows,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    assert rows.strip().splitlines()[-1] in YAMLS["squeeze and excite"]
    (tmp_path / "own.py").write_text(module)
    (tmp_path / "weights").mkdir()
    (tmp_path / "yolov8n-own.yaml").write_text(YAMLS["squeeze and excite"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)
    monkeypatch.setattr(tasks, "SqueezeExcite", None, raising=False)
    names: dict = {}
    exec(pruning + seeing, names)
    kept = next(m for m in names["model"].modules() if type(m).__name__ == "SqueezeExcite").body[3].out_channels
    assert names["model"](torch.zeros(1, 3, 64, 64)) and kept < 128
    assert names["channel_map"].free_share > 0.7 and (tmp_path / "weights" / "pruned.pt").is_file()
