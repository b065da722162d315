"""Who trusts a file loads it, own modules are allowed by name, and what is harmless needs no trust."""

import argparse
import os
import runpy
import sys
import types

import pytest
import torch
from torch import nn

from helpers.hostile import (
    EXEC,
    TRUST,
    Payload,
    hostile,
    raw,
)
from helpers.processes.python import run_python
from helpers.repository import REPOSITORY, SCRIPTS
from helpers.scripts import run
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.pruning import PruningError, Scoring, load, prune_network, save, trust

pytestmark = pytest.mark.usefixtures("untrusted")


def test_trust_is_for_the_command_that_says_so(good, tmp_path, marker, monkeypatch, capsys):
    file = hostile(good, "model", Payload(marker), tmp_path / "mine.pt")
    code, said = run(monkeypatch, capsys, "vis-bn-weight.py", file, "--save", tmp_path / "bn.png", "--trust")
    assert code == 0, said
    assert marker.is_dir()
    assert (tmp_path / "bn.png").is_file()
    assert TRUST not in os.environ
    with pytest.raises(PruningError, match=EXEC):
        load(file)


@pytest.mark.parametrize(("variable", "value"), [(TRUST, "1"), (TRUST, "True"), ("ULTRALYTICS_SAFE_LOAD", "0")])
def test_the_environment_trusts(variable, value, good, tmp_path, marker, monkeypatch):
    file = hostile(good, "extra", Payload(marker), tmp_path / "mine.pt")
    monkeypatch.setenv(variable, value)
    assert load(file)[0].names
    assert marker.is_dir()


def test_a_process_inherits_trust(good, tmp_path, marker):
    file = hostile(good, "extra", Payload(marker), tmp_path / "mine.pt")
    code = f"from ultralytics import YOLO; YOLO({str(file)!r})"
    with trust.trusting(True):
        done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert marker.is_dir()


@pytest.mark.parametrize("value", ["", "0", "false", "no", "somebody.Else"])
def test_other_values_of_the_variables_trust_nothing(value, good, tmp_path, marker, monkeypatch):
    monkeypatch.setenv(TRUST, value)
    monkeypatch.setenv("ULTRALYTICS_SAFE_LOAD", "1" if value else "")
    file = hostile(good, "extra", Payload(marker), tmp_path / "evil.pt")
    with pytest.raises(PruningError, match=EXEC):
        load(file)
    assert not marker.exists()


def test_old_formats_load_where_they_are_trusted(good, tmp_path, monkeypatch):
    torch.save(raw(good), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(PruningError, match=r"old\.pt"):
        load(tmp_path / "old.pt")
    monkeypatch.setenv(TRUST, "1")
    assert load(tmp_path / "old.pt")[0].names == load(good)[0].names


OWN = """
from torch import nn

class Gate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.scale = nn.Conv2d(c, c, 1)
    def forward(self, x):
        return x * self.scale(x).sigmoid()

class Other(Gate):
    pass
"""


@pytest.fixture
def own(good, tmp_path, monkeypatch):
    """A file of one's own, importable but not imported, and a checkpoint with a module of it."""
    (tmp_path / "own_layers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    model = load(good)[0]
    module = types.ModuleType("own_layers")
    exec(OWN, module.__dict__)
    for found in (module.Gate, module.Other):
        found.__module__ = "own_layers"
    monkeypatch.setitem(sys.modules, "own_layers", module)
    gate = module.Gate(32)
    model.model[1] = nn.Sequential(model.model[1], gate)
    for name in ("f", "i", "type", "np"):
        setattr(model.model[1], name, getattr(model.model[1][0], name))
    torch.save({**raw(good), "model": model}, tmp_path / "own.pt")
    monkeypatch.delitem(sys.modules, "own_layers")
    kept = torch.serialization.get_safe_globals()
    yield tmp_path / "own.pt"
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(kept)


def test_a_module_of_ones_own_is_refused_by_name_and_not_imported(own, monkeypatch):
    with pytest.raises(PruningError, match=r"own_layers\.Gate"):
        load(own)
    assert "own_layers" not in sys.modules
    import own_layers

    with pytest.raises(PruningError, match=r"own_layers\.Gate"):  # imported is not allowed
        load(own)
    monkeypatch.setattr(tasks, "Other", own_layers.Other, raising=False)  # the file registers a module
    assert type(load(own)[0].model[1][1]) is own_layers.Gate


@pytest.mark.parametrize("name", ["own_layers.Gate", "own_layers", "torch.nn.Tanh, own_layers.Gate"])
def test_a_module_of_ones_own_is_allowed_by_name(own, name, tmp_path, marker, monkeypatch):
    monkeypatch.setenv(TRUST, name)
    model, _ = load(own)
    assert type(model.model[1][1]).__name__ == "Gate"
    with pytest.raises(PruningError, match=EXEC):  # and nothing else
        load(hostile(own, "extra", Payload(marker), tmp_path / "evil.pt"))
    assert not marker.exists()


def test_a_module_of_ones_own_is_allowed_in_the_way_of_pytorch(own):
    import own_layers

    torch.serialization.add_safe_globals([own_layers.Gate])
    assert isinstance(load(own)[0].model[1][1], own_layers.Gate)


def test_checkpoints_of_others_need_no_trust(tau):
    model, content = load(tau)
    assert model.task == "obb" and content["train_args"]
    with open(tau, "rb") as opened:
        from ultralytics.utils.patches import torch_load

        assert "model" in torch_load(opened)


def test_a_pruned_and_a_taught_network_need_no_trust(good, quick, tmp_path):
    pruned = prune_network(load(good)[0], prune_ratio=0.3, scoring=Scoring()).model
    save(pruned, tmp_path / "pruned.pt", train_args={"task": "detect"})
    assert load(tmp_path / "pruned.pt")[0].pruning_plans
    seen = {}

    def look(trainer):  # an unfinished checkpoint, with the EMA, the optimizer, and the teacher beside the student
        seen["content"] = load(trainer.last)[1]
        seen["kind"] = type(seen["content"]["ema"]).__name__

    model = YOLO(tmp_path / "pruned.pt")
    model.add_callback("on_model_save", look)
    model.train(**{**quick, "finetune": True, "distill_model": str(good), "project": tmp_path, "name": "taught"})
    assert seen["kind"] == "DistillationModel"
    assert seen["content"]["optimizer"] is not None
    finished = raw(tmp_path / "taught" / "weights" / "last.pt")
    assert finished["optimizer"] is None and type(finished["model"]).__name__ == "DetectionModel"


def test_trust_is_an_option_of_every_script(monkeypatch, capsys):
    for script in SCRIPTS:
        monkeypatch.setattr(sys, "argv", [script, "--help"])
        with pytest.raises(SystemExit):
            runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        assert "--trust" in capsys.readouterr().out
    parser = argparse.ArgumentParser()
    trust.add_option(parser)
    assert not parser.parse_args([]).trust
