"""A report says why each layer kept what it kept: by scores, ratios, what a training left, in one cut or two."""

from dataclasses import replace

import pytest
from torch import nn

from helpers.reports import Page
from ultralytics.pruning import Limits, Scoring, load, prune_network, save
from ultralytics.pruning.files.whole import sha256
from ultralytics.pruning.reports import writing
from ultralytics.pruning.reports.contents import collected
from ultralytics.pruning.reports.layers import Width, widths_of
from ultralytics.pruning.reports.sources import Compression

SCORING = Scoring("l1")
OUTPUTS = {f"model.5.cv{branch}.{level}.2" for branch in (2, 3) for level in (0, 1)}


def reasons(network, folder, **asked) -> dict[str, Width]:
    """Cuts a network and returns the layers of its report, which has a reason for each, in both forms."""
    save(prune_network(network, imgsz=64, **asked).model, folder / "pruned.pt")
    report = collected([folder / "pruned.pt"], images=False)
    widths = {width.name: width for width in widths_of(report.networks[0])}
    assert widths and all(width.why for width in widths.values())
    shown = {row[0]: row[-1] for row in Page.of(writing.page(report)).tables["layers"][1:]}
    assert shown == {name: width.why for name, width in widths.items()}
    assert {name for name, width in widths.items() if width.held.startswith("pinned")} == OUTPUTS
    return widths


def test_of_scores_and_limits(small_weights, tmp_path):
    limits = Limits(floor=0.5, round_to=16)
    widths = reasons(load(small_weights)[0], tmp_path, speed_up=1.8, scoring=SCORING, limits=limits)
    free = {name: width for name, width in widths.items() if not width.held and not width.tied}
    assert free and all(width.why == "its scores" for width in free.values())
    assert all(width.kept % 16 == 0 or width.kept == width.before for width in widths.values())
    narrow = [width for name, width in widths.items() if width.before == 16 and width.kept]
    assert narrow and all(width.held == "whole: no multiple of 16 is narrower" for width in narrow)
    at_floor = [width for width in widths.values() if width.held == "floor of 50%"]
    assert at_floor and all(width.kept == width.before / 2 for width in at_floor)


def test_of_a_floor_beyond_the_last_step(small_weights, tmp_path):
    limits = Limits(floor=0.6, round_to=16)
    widths = reasons(load(small_weights)[0], tmp_path, speed_up=1.5, scoring=SCORING, limits=limits)
    beyond = [width for width in widths.values() if "above its floor of 60%" in width.held]
    assert beyond and {(width.before, width.kept) for width in beyond} == {(32, 32)}


def test_of_own_ratios_and_ignored_layers(small_weights, tmp_path):
    limits = Limits(ratios=(("model.3", 0.25), ("model.2.cv2", 0.2)), ignore=("model.4",), round_to=16)
    widths = reasons(load(small_weights)[0], tmp_path, prune_ratio=0.3, scoring=SCORING, limits=limits)
    assert (widths["model.3.conv"].kept, widths["model.3.conv"].held) == (48, "its own ratio: model.3 loses 25%")
    assert widths["model.2.cv2.conv"].held == "its own ratio: model.2.cv2 loses 20%, rounded up to 32"
    ignored = [width for name, width in widths.items() if name.startswith("model.4.")]
    assert all(width.held == "ignored: model.4" and width.kept == width.before for width in ignored)


@pytest.mark.parametrize("there", [True, False])
def test_of_what_a_training_left_at_zero(there, small_weights, tmp_path):
    """Its limits are those of the training, as long as its checkpoint is there."""
    network = load(small_weights)[0]
    trained = tmp_path / "last.pt"
    for name in ("model.1", "model.3"):
        norm: nn.BatchNorm2d = network.get_submodule(name).bn
        gone = slice(16, None) if name == "model.1" else slice(32, None)
        norm.weight.data[gone] = norm.bias.data[gone] = 0
    save(network, trained, train_args={"target_sparsity": 0.5, "round_to": 16})
    source = {"file": str(trained), "sha256": sha256(trained) if there else "0" * 64}
    widths = reasons(load(trained)[0], tmp_path, zeros=True, source=source)
    assert (widths["model.1.conv"].kept, widths["model.3.conv"].kept) == (16, 32)
    assert widths["model.3.conv"].why == "not at zero after the training"
    held = "floor of 10%, rounded up to 16" if there else ""
    assert widths["model.1.conv"].held == held and widths["model.1.conv"].why


def test_of_two_cuts(small_weights, tmp_path):
    """Widths are those before the first, limits those of the last."""
    first = prune_network(load(small_weights)[0], prune_ratio=0.3, scoring=SCORING, imgsz=64).model
    widths = reasons(first, tmp_path, prune_ratio=0.4, scoring=SCORING, limits=Limits(floor=0.5))
    before = {name: module for name, module in load(small_weights)[0].named_modules() if name in widths}
    assert all(width.before == before[name].out_channels for name, width in widths.items())
    assert any(width.held.startswith("floor of 50%") for width in widths.values())


@pytest.mark.parametrize(("scheme", "of_the_original"), [("one-shot", True), ("stepwise", True), ("steered", False)])
def test_of_a_network_on_the_way(scheme, of_the_original, small_weights, tmp_path):
    """Where a compression cuts what it has cut before, shares are those of its original, or of what has faded."""
    whole = load(small_weights)[0]
    before = {name: module.out_channels for name, module in whole.named_modules() if isinstance(module, nn.Conv2d)}
    first = prune_network(whole, prune_ratio=0.3, scoring=SCORING, imgsz=64).model
    limits = Limits(floor=0.5, widths=before if of_the_original else {})
    save(prune_network(first, prune_ratio=0.6, scoring=SCORING, limits=limits, imgsz=64).model, tmp_path / "pruned.pt")
    (found,) = collected([tmp_path / "pruned.pt"], images=False).networks
    recipe = {"scheme": scheme, "milder": [1.5] if scheme != "stepwise" else []}
    compression = Compression(tmp_path, recipe, [], None)
    widths = widths_of(replace(found, source=replace(found.source, compression=compression)))
    at_floor = [width for width in widths if width.held.startswith("floor of 50%")]
    halved = [width for width in at_floor if width.kept == round(width.before / 2)]
    assert at_floor and (len(halved) == len(at_floor)) == of_the_original
