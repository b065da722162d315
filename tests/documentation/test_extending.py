"""The examples of docs/extending.md run as they stand, are short, and do what the text says."""

import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

from helpers.networks import yolo
from helpers.repository import REPOSITORY
from helpers.sparsity_runs import residual, run_of, set_gammas, train
from ultralytics import YOLO
from ultralytics.pruning import CRITERIA, PruningError, Scoring, Target, make_plan, prune, prune_network, save, trace
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.selection.targets import KINDS
from ultralytics.pruning.sparsity import MODES
from ultralytics.pruning.stages.sparsity import sparsity_settings
from ultralytics.pruning.tracing.rules import RULES

TEXT = (REPOSITORY / "docs" / "extending.md").read_text()
CRITERION, RULE, TARGET, MODE, STAGE = re.findall(r"```python\n(.+?)```", TEXT, re.DOTALL)


@pytest.fixture(autouse=True)
def tables():
    """Leaves the tables as they were."""
    before = [(table, dict(table)) for table in (CRITERIA, RULES, KINDS, MODES)]
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)


def run(example: str) -> None:
    exec(compile(example, "docs/extending.md", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("example", [CRITERION, RULE, TARGET, MODE, STAGE])
def test_an_example_is_short(example) -> None:
    lines = [line for line in example.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 10


def test_a_criterion() -> None:
    run(CRITERION)
    network = yolo("yolov8n")
    plan = prune_network(network, prune_ratio=0.1, scoring=Scoring("narrow_first"), imgsz=64).plan
    left = {layer.out_before: len(layer.kept_out) < layer.out_before for layer in plan.layers.values()}
    assert left[16] and not left[256]


class Odd(nn.Module):
    """A network with an operation of which nobody told the tracer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1, bias=False), nn.Conv2d(8, 4, 1)

    def forward(self, image):
        return self.last(torch.asinh(self.first(image)))


def test_a_rule() -> None:
    before = trace(Odd())
    assert before.unknown and not before.free.any()
    run(RULE)
    network = Odd().eval()
    channel_map = trace(network)
    assert not channel_map.unknown and channel_map.free.sum() == 8
    assert prune_network(network, prune_ratio=0.5, scoring=Scoring("l1")).difference < 1e-13


def test_a_kind_of_target() -> None:
    run(TARGET)
    plan = prune_network(yolo("yolov8n"), target=Target("halvings", 1), imgsz=64).plan
    assert 2 <= plan.before.macs / plan.after.macs <= 2.04


def test_a_mode_of_sparsity_training() -> None:
    run(MODE)
    network = residual()
    set_gammas(network, a=[1.0] * 4, b=[0.9, 0.8, 0.3, 0.2, 0.1, 0.05], c=[1.0] * 4)
    train(network, run_of(network, sparsity="cutoff", sr=0.25), epochs=4)
    assert (network.b[1].weight == 0).tolist() == [False, False, False, True, True, True]
    assert sparsity_settings({"sparsity": "cutoff", "epochs": 4}) == {"sr": 0.5}


def test_a_stage(small_weights, monkeypatch, capsys) -> None:
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")
    monkeypatch.setattr(sys, "argv", ["count.py", "--weights", str(small_weights)])
    run(STAGE)
    assert re.search(r"^[\d,]+ parameters are deployed$", capsys.readouterr().out, re.M)
    monkeypatch.setattr(sys, "argv", ["count.py", "--weights", "nowhere.pt"])
    with pytest.raises(SystemExit) as ended:
        run(STAGE)
    assert ended.value.code == 2


def test_a_yolo_is_taken_for_its_network(tmp_path) -> None:
    """Traced whole, it would be a network of another name for each layer."""
    torch.manual_seed(0)
    wrapped = YOLO("yolov8n.yaml")
    inside, outside = trace(wrapped.model), trace(wrapped)
    assert inside.layers.keys() == outside.layers.keys() and inside.free_share == outside.free_share > 0.5
    scores = CRITERIA["slim"](outside, wrapped)
    assert np.array_equal(scores, CRITERIA["slim"](inside, wrapped.model), equal_nan=True)
    assert np.array_equal(scores, Scoring("slim")(outside, wrapped), equal_nan=True)
    plan = make_plan(outside, scores, prune_ratio=0.5)
    result = prune_network(wrapped, prune_ratio=0.5, imgsz=64, scoring=Scoring("slim"))
    assert result.plan.layers == plan.layers and type(result.model) is type(wrapped.model)
    prune(wrapped, plan, outside)
    assert sum(p.numel() for p in wrapped.model.parameters()) == plan.after.params
    save(wrapped, tmp_path / "pruned.pt")
    assert sum(p.numel() for p in YOLO(tmp_path / "pruned.pt").model.parameters()) == plan.after.params


def test_a_yolo_without_a_network_is_refused(tmp_path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"")
    with pytest.raises(PruningError, match="holds no network of PyTorch"):
        trace(YOLO(tmp_path / "a.onnx", task="detect"))
