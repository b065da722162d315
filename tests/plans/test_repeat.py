"""A cut repeated by its plan, and networks that cannot be pruned: one line, exit code 2, nothing written."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.networks import Net, block, conv, set_weights
from helpers.repository import REPOSITORY
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import Limits, PruningError, PruningPlan, Scoring, load, prune_network, repeat_plan, save
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.stages import pruning


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """The stages let all cores work; the tests stay with one."""
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")


def checkpoint(file: Path, seed: int) -> Path:
    """A checkpoint of ten classes with weights of its own."""
    model = set_weights(DetectionModel("yolov8n.yaml", nc=10, verbose=False), seed)
    model.task, model.names = "detect", {i: str(i) for i in range(10)}
    save(model, file)
    return file


def prune(monkeypatch, *words: object) -> None:
    """Runs prune.py in this process."""
    monkeypatch.setattr(sys, "argv", ["prune.py", *map(str, words), "--no-onnx"])
    runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")


def refused(monkeypatch, capsys, *words: object) -> str:
    """Runs prune.py, which has to end with exit code 2; returns its one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        prune(monkeypatch, *words)
    error = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and len(error.splitlines()) == 1, error
    return error


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A folder with a checkpoint and what prune.py made of it."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")
        words = ("--speed-up", 2, "--round-to", 8, "--ignore", "model.0", "--ratio", "model.8=0.5", "--imgsz", 320)
        words += ("--criterion", "l1")
        prune(monkeypatch, "--weights", checkpoint(folder / "own.pt", 0), "--save-dir", folder, *words)
    return folder


def test_options_reach_the_plan(first: Path) -> None:
    settings = json.loads((first / "pruned.json").read_text())["settings"]
    assert settings == {
        "criterion": "l1",
        "normalize": "mean",
        "per": None,
        "recalibrate": 0,
        "imgsz": 320,
        "fold": True,
        "speed_up": 2.0,
        "floor": 0.1,
        "min_channels": 1,
        "max_ratio": 1.0,
        "round_to": 8,
        "ignore": ["model.0"],
        "ratios": [["model.8", 0.5]],
    }


def test_a_plan_repeats_the_cut(first: Path, tmp_path: Path, monkeypatch) -> None:
    prune(monkeypatch, "--weights", first / "own.pt", "--plan", first / "pruned.json", "--save-dir", tmp_path)
    ours, theirs = (load(folder / "pruned.pt")[0].state_dict() for folder in (tmp_path, first))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    plans = [json.loads((folder / "pruned.json").read_text()) for folder in (tmp_path, first)]
    assert all(plan.pop("seconds") for plan in plans) and plans[0] == plans[1]


def test_a_plan_for_other_weights_is_refused(first: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    other = checkpoint(tmp_path / "other.pt", 1)
    out = tmp_path / "out"
    line = refused(monkeypatch, capsys, "--weights", other, "--plan", first / "pruned.json", "--save-dir", out)
    assert str(first / "own.pt") in line and str(other) in line
    assert all(len(word.strip("(),")) == 64 for word in line.split("sha256 ")[1:] for word in word.split()[:1])
    line = refused(monkeypatch, capsys, "--weights", "yolov8n.yaml", "--plan", first / "pruned.json", "--save-dir", out)
    assert "a model yaml" in line
    assert not out.exists()


def spoiled(plan: dict, how: str) -> str:
    """The text of a plan that is none any more."""
    layer = plan["layers"]["model.1.conv"]
    if how == "no JSON":
        return json.dumps(plan)[:-10]
    if how == "no plan":
        return "[1, 2]"
    if how == "no layers":
        del plan["layers"]
    elif how == "format":
        plan["format"] = 99
    elif how == "index":
        layer["out"][-1] = 999
    elif how == "empty":
        layer["out"] = []
    elif how == "inconsistent":
        layer["out"] = layer["out"][:-1]
    elif how == "layer":
        del plan["layers"]["model.1.conv"]
    elif how == "width":
        layer["out_before"] += 1
    elif how == "cost":
        plan["cost"]["after"]["params"] += 1
    return json.dumps(plan)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no JSON", "is not JSON"),
        ("no plan", "is no plan"),
        ("no layers", "is no plan"),
        ("format", "format 99"),
        ("index", "not among its"),
        ("empty", "not among its"),
        ("inconsistent", "does not run"),
        ("layer", "other layers"),
        ("width", "the plan was made for"),
        ("cost", "says that it leaves"),
    ],
)
def test_a_spoiled_plan_is_refused(how, said, first: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    file, out = tmp_path / "plan.json", tmp_path / "out"
    file.write_text(spoiled(json.loads((first / "pruned.json").read_text()), how))
    line = refused(monkeypatch, capsys, "--weights", first / "own.pt", "--plan", file, "--save-dir", out)
    assert said in line
    assert not out.exists()


def test_a_plan_that_is_not_there(first: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    line = refused(monkeypatch, capsys, "--weights", first / "own.pt", "--plan", tmp_path / "no.json")
    assert "no.json" in line


@pytest.mark.parametrize(
    "words",
    [
        ("--speed-up", 2),
        ("--percent", 0.5),
        ("--target-params", "1M"),
        ("--round-to", 8),
        ("--min-channels", 8),
        ("--max-ratio-per-layer", 0),
        ("--ignore", "model.0"),
        ("--ratio", "model.0=0.5"),
        ("--imgsz", 64),
        ("--no-fold",),
    ],
)
def test_a_plan_brings_its_own_settings(words, first: Path, monkeypatch, capsys) -> None:
    line = refused(monkeypatch, capsys, "--weights", first / "own.pt", "--plan", first / "pruned.json", *words)
    assert "--plan" in line and words[0] in line


def test_a_plan_is_repeated_in_memory() -> None:
    net = Net(lambda n, x: n.out(n.body(x)), body=nn.Sequential(block(3, 16), block(16, 12)), out=conv(12, 2, 1))
    result = prune_network(net, prune_ratio=0.5, limits=Limits(round_to=4), fold=False)
    again = repeat_plan(net, PruningPlan.from_json(result.plan.to_json()))
    weights = result.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.model.state_dict().items())


class Masked(nn.Module):
    """A network that needs more than an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = block(3, 8)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * mask


class Words(nn.Module):
    """A network of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(10, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.embedding(x))


@pytest.mark.parametrize(("net", "said"), [(Masked(), "TypeError"), (Words(), "RuntimeError")])
def test_a_network_of_other_inputs_is_refused(net, said, tmp_path: Path, monkeypatch, capsys) -> None:
    with pytest.raises(PruningError, match=said) as error:
        prune_network(net, prune_ratio=0.5)
    assert "does not run on an image (1, 3, 64, 64) alone" in str(error.value)
    net.names, net.yaml = {0: "a"}, {}
    source = {"file": "net.pt", "sha256": "0", "task": "detect", "release": "0"}
    monkeypatch.setattr(pruning, "load_source", lambda weights: (net, {}, source))
    assert said in refused(monkeypatch, capsys, "--save-dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_tracer_is_not_blamed_on_the_network(monkeypatch) -> None:
    from ultralytics.pruning import pipeline

    def broken(*args, **kwargs):
        raise KeyError("a bug")

    monkeypatch.setattr(pipeline, "trace", broken)
    with pytest.raises(KeyError, match="a bug"):
        prune_network(Net(lambda n, x: n.out(x), out=conv(3, 2)), prune_ratio=0.5)


def without_norms(model: nn.Module) -> nn.Module:
    """The network without its batch norms."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
    return model


def test_a_network_without_batch_norms_is_refused(tmp_path: Path, monkeypatch, capsys) -> None:
    model = without_norms(DetectionModel("yolov8n.yaml", nc=10, verbose=False))
    with pytest.raises(PruningError, match="criterion slim scores channels by their batch-norm scales"):
        prune_network(model, prune_ratio=0.5, scoring=Scoring())
    save(model, tmp_path / "plain.pt")
    line = refused(monkeypatch, capsys, "--weights", tmp_path / "plain.pt", "--save-dir", tmp_path / "out")
    assert "has no batch norm" in line and "or never had one" in line
    assert not (tmp_path / "out").exists()
