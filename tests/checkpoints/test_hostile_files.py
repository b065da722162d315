"""Checkpoints that would run code: none of it runs, and one line names it."""

import itertools
import pickle
import re
import shutil
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.hostile import EXEC, NAMES, PLACES, TRUST, Payload, hostile, raw, reading
from helpers.repository import SCRIPTS
from helpers.scripts import refused, run
from ultralytics import YOLO
from ultralytics.nn import tasks
from ultralytics.pruning import PruningError, load
from ultralytics.pruning.files import places

pytestmark = pytest.mark.usefixtures("untrusted")


EACH = [*((place, "prune.py") for place in PLACES), *zip(itertools.cycle(PLACES), SCRIPTS, strict=False)]


@pytest.mark.parametrize(("place", "script"), EACH)
def test_no_script_runs_what_a_checkpoint_holds(
    place, script, good, digits, tmp_path, runs, marker, monkeypatch, capsys
):
    file = hostile(good, place, Payload(marker), tmp_path / "evil.pt")
    before = file.read_bytes()
    line = refused(monkeypatch, capsys, script, *reading(script, file, digits, tmp_path))
    assert not marker.exists()
    assert all(word in line for word in ("builtins.exec", "--trust", f"{TRUST}=1", file.name))
    assert not runs.exists() and not (tmp_path / "out").exists()
    assert file.read_bytes() == before


def test_what_is_allowed_for_a_while_is_refused_before_and_after(tmp_path):
    """The list of what is allowed is not made anew at each step of a load, but whenever it has changed."""
    torch.save({"third": Fraction(1, 3)}, tmp_path / "file.pt")
    for _ in range(2):
        with pytest.raises(pickle.UnpicklingError, match=r"fractions\.Fraction"):
            torch.load(tmp_path / "file.pt", weights_only=True)
        with torch.serialization.safe_globals([Fraction]):
            assert torch.load(tmp_path / "file.pt", weights_only=True) == {"third": Fraction(1, 3)}


@pytest.mark.parametrize("call", NAMES)
@pytest.mark.parametrize("how", ["zip", "protocol 4", "before zip", "bare pickle"])
def test_the_line_names_the_code_in_every_format(how, call, good, tmp_path, marker):
    file = tmp_path / "evil.pt"
    if how == "bare pickle":
        file.write_bytes(pickle.dumps({"model": Payload(marker, call)}))
    else:
        format = {"protocol 4": {"pickle_protocol": 4}, "before zip": {"_use_new_zipfile_serialization": False}}
        hostile(good, "extra", Payload(marker, call), file, **format.get(how, {}))
    for reads in (load, YOLO):
        with pytest.raises(Exception, match=NAMES[call].replace(".", r"\.") if reads is load else None):
            reads(file)
        assert not marker.exists()


PICKLES = {  # what a pickle can ask for without a class of its own
    "a function of a module that is known": (
        b"cultralytics.nn.tasks\ntorch_safe_load\n",
        "ultralytics.nn.tasks.torch_safe_load",
    ),
    "a function of PyTorch": (b"ctorch.hub\nload\n", "torch.hub.load"),
    "an import behind a module that is known": (
        b"cultralytics.nn.modules.block\ntorch\n",
        "ultralytics.nn.modules.block.torch",
    ),
    "an attribute of a class that is known": (
        b"c__builtin__\ngetattr\nctorch.nn.modules.module\nModule\nX\x0e\x00\x00\x00__subclasses__\x86R",
        "__subclasses__",
    ),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_what_is_no_layer_of_a_module_that_is_known_is_refused(kind, good, tmp_path):
    code, named = PICKLES[kind]
    file = tmp_path / "evil.pt"
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(file, "w") as evil:
        for name in archive.namelist():
            evil.writestr(name, b"\x80\x02" + code + b"." if name.endswith("data.pkl") else archive.read(name))
    with pytest.raises(PruningError, match=re.escape(named) + ".*--trust"):
        load(file)


def interrupted(good: Path, run: Path, digits: Path, quick: dict) -> Path:
    """A run that was stopped in its second epoch; returns its last checkpoint."""

    class Stopped(Exception):
        """Out of a training."""

    def stop(trainer):
        if trainer.epoch == 1:
            raise Stopped

    model = YOLO(good)
    model.add_callback("on_train_epoch_start", stop)
    with pytest.raises(Stopped):
        model.train(
            **{**quick, "epochs": 2, "sparsity": "proximal", "sr": 0.1, "project": run.parent, "name": run.name}
        )
    return run / "weights" / "last.pt"


@pytest.fixture(scope="module")
def kept(good, digits, quick, tmp_path_factory) -> tuple[Path, Path]:
    """The folder of a run that was interrupted, and a copy of it."""
    folder = tmp_path_factory.mktemp("stopped") / "runs" / "train-sparsity"
    interrupted(good, folder, digits, quick)
    return folder, Path(shutil.copytree(folder, folder.parents[1] / "kept"))


@pytest.fixture
def stopped(kept, monkeypatch) -> Path:
    """The folder of that run, as it was when it was interrupted."""
    folder, copy = kept
    monkeypatch.setattr(places, "RUNS", folder.parent)
    shutil.rmtree(folder)
    return Path(shutil.copytree(copy, folder))


@pytest.mark.parametrize("kind", ["checkpoint", "state", "state, at the top", "no state"])
def test_resuming_runs_nothing(kind, stopped, marker, monkeypatch, capsys):
    weights = stopped / "weights"
    state = weights / "resume-0.pt"
    assert state.is_file()
    plain = torch.load(state, weights_only=True)  # nothing but data
    if kind == "checkpoint":
        torch.save({**raw(weights / "last.pt"), "note": Payload(marker)}, weights / "last.pt")
    elif kind == "no state":
        state.write_bytes(b"no state")
    else:
        torch.save({**plain, "note": Payload(marker)} if kind == "state" else Payload(marker), state)
    before = {file: file.read_bytes() for file in stopped.rglob("*") if file.is_file()}
    line = refused(monkeypatch, capsys, "train_sparsity.py", "--resume")
    assert not marker.exists()
    assert ("builtins.exec" in line) == (kind != "no state")
    assert (weights / "last.pt" if kind == "checkpoint" else state).name in line
    assert {file: file.read_bytes() for file in stopped.rglob("*") if file.is_file()} == before


def test_a_state_with_an_array_of_numpy_is_data(stopped, monkeypatch, capsys):
    """As they were written before: the random state of NumPy as NumPy gives it."""
    weights = stopped / "weights"
    state = torch.load(weights / "resume-0.pt", weights_only=True)
    state["random"]["numpy"] = np.random.get_state()
    torch.save(state, weights / "resume-0.pt")
    code, said = run(monkeypatch, capsys, "train_sparsity.py", "--resume")
    assert code == 0, said
    assert "no exact state" not in said
    assert len((stopped / "results.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("script", "setting"),
    [("train-normal.py", "pretrained"), ("finetune.py", "distill_model"), ("compress.py", "pretrained")],
)
def test_other_checkpoints_run_nothing(script, setting, good, digits, tmp_path, runs, marker, monkeypatch, capsys):
    file = hostile(good, "extra", Payload(marker, "system"), tmp_path / "evil.pt")
    words = (*reading(script, good, digits, tmp_path), f"{setting}={file}")
    assert "posix.system" in refused(monkeypatch, capsys, script, *words)
    assert not marker.exists()
    assert not runs.exists()


def test_every_loader_of_the_release_is_restricted(good, tmp_path, marker, monkeypatch):
    from ultralytics.nn.autobackend import AutoBackend
    from ultralytics.nn.distill_model import load_checkpoint
    from ultralytics.utils import torch_utils
    from ultralytics.utils.patches import torch_load

    file = hostile(good, "extra", Payload(marker), tmp_path / "evil.pt")
    for reads in (torch_load, tasks.load_checkpoint, tasks.torch_safe_load, load_checkpoint, AutoBackend, YOLO):
        with pytest.raises(PruningError, match=EXEC):
            reads(file)
    with pytest.raises(PruningError, match=EXEC):
        YOLO(good).load(file)
    with open(file, "rb") as opened, pytest.raises(PruningError, match=EXEC):
        torch_load(opened)
    assert torch_utils.strip_optimizer(file) == {}
    assert not marker.exists()
    with open(good, "rb") as opened:
        assert torch_load(opened)["train_args"]["imgsz"] == 64
