"""Killed runs: checkpoints are whole, and a resumed run is the run that was not interrupted."""

import shutil
import signal
from pathlib import Path

import pytest
import torch

from helpers.processes.python import run_python
from helpers.repository import REPOSITORY
from ultralytics import YOLO
from ultralytics.pruning import PruningError, Scoring, load, plans_of, prune_network, save, trace
from ultralytics.pruning.checkpoints.checkpoint import is_finished
from ultralytics.pruning.selection.zeros import share_at_zero

# Kills its own process at a chosen moment: inside a checkpoint's bytes, between its renames, or within an epoch.
TRAIN_AND_DIE = """
import os, signal, sys
from pathlib import Path
start, data, project, die, settings, dies_in = sys.argv[1:7]
from ultralytics import YOLO
def kill(): os.kill(os.getpid(), signal.SIGKILL)
model = YOLO(start)
state = {"epoch": -1}
def begins(t): state["epoch"] = t.epoch
def batch(t):
    if die == "batch" and state["epoch"] == int(dies_in): kill()
model.add_callback("on_train_epoch_start", begins)
model.add_callback("on_train_batch_end", batch)
write, replace = Path.write_bytes, os.replace
def write_half(self, content):
    if die == "write" and state["epoch"] == 1:
        write(self, content[: len(content) // 2])
        kill()
    return write(self, content)
def never_arrives(a, b):
    if die == "rename" and state["epoch"] == 1 and str(b).endswith("last.pt"): kill()
    return replace(a, b)
Path.write_bytes, os.replace = write_half, never_arrives
model.train(data=data, project=project, name="run", **eval(settings))
"""
SETTINGS = {
    "imgsz": 64,
    "batch": 8,
    "nbs": 8,
    "epochs": 3,
    "device": "cpu",
    "plots": False,
    "workers": 0,
    "exist_ok": True,
    "optimizer": "AdamW",
    "close_mosaic": 1,
    "seed": 5,
}


@pytest.fixture(scope="module")
def start(small_weights, tmp_path_factory) -> Path:
    """A pruned network, so that every run here also has to keep its widths."""
    file = tmp_path_factory.mktemp("start") / "pruned.pt"
    save(prune_network(load(small_weights)[0], prune_ratio=0.6, scoring=Scoring()).model, file)
    return file


@pytest.fixture(scope="module")
def uninterrupted(start, digits, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    YOLO(start).train(finetune=True, data=str(digits), project=str(folder), name="run", **SETTINGS)
    return folder / "run"


def rows(folder: Path) -> list[list[str]]:
    """The results of each epoch, without the time."""
    return [line.split(",")[:1] + line.split(",")[2:] for line in (folder / "results.csv").read_text().splitlines()]


def killed_run(start: Path, digits: Path, folder: Path, die: str, *, epoch: str = "1", **more) -> Path:
    script = folder / "train.py"
    script.write_text(TRAIN_AND_DIE)
    settings = repr({**SETTINGS, "finetune": True, **more})
    done = run_python(script, start, digits, folder, die, settings, epoch, cwd=folder, PYTHONPATH=str(REPOSITORY))
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    return folder / "run"


@pytest.mark.parametrize("die", ["batch", "write", "rename"])
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(die, start, digits, tmp_path, uninterrupted):
    run = killed_run(start, digits, tmp_path, die)
    last = run / "weights" / "last.pt"
    content = load(last)[1]
    assert content["epoch"] == 0  # the old checkpoint, whole
    assert not is_finished(content)
    YOLO(last).train(resume=True)
    resumed, content = load(last)
    expected, _ = load(uninterrupted / "weights" / "last.pt")
    assert content["epoch"] == -1
    assert {n: p.shape for n, p in resumed.named_parameters()} == {
        n: p.shape for n, p in load(start)[0].named_parameters()
    }
    assert all(
        torch.equal(a, b) for a, b in zip(resumed.state_dict().values(), expected.state_dict().values(), strict=True)
    )
    assert rows(run) == rows(uninterrupted)
    assert sorted(file.name for file in (run / "weights").iterdir()) == ["best.pt", "last.pt"]


def same_networks(first: Path, second: Path) -> bool:
    states = [load(run / "weights" / "last.pt")[0].state_dict().values() for run in (first, second)]
    return all(torch.equal(a, b) for a, b in zip(*states, strict=True))


STEERED = {"epochs": 5, "sparsity": "steered", "target_sparsity": 0.5, "round_to": 4}


@pytest.mark.parametrize("asked", [STEERED, {**STEERED, "sparsity": "group"}], ids=["steered", "group"])
def test_a_killed_sparsity_training_keeps_its_choice(asked, start, digits, tmp_path):
    whole = {**SETTINGS, **asked, "finetune": True, "project": str(tmp_path), "name": "whole"}
    YOLO(start).train(data=str(digits), **whole)
    run = killed_run(start, digits, tmp_path, "batch", epoch="3", **asked)
    assert load(run / "weights" / "last.pt")[1]["epoch"] == 2
    YOLO(run / "weights" / "last.pt").train(resume=True)
    assert same_networks(run, tmp_path / "whole")
    assert rows(run) == rows(tmp_path / "whole")
    network = load(run / "weights" / "last.pt")[0]
    assert share_at_zero(trace(network), network) == pytest.approx(0.5, abs=0.03)
    assert (run / "gamma.png").is_file()


@pytest.fixture(scope="module")
def taught(start, small_weights, digits, tmp_path_factory) -> tuple[Path, dict, Path]:
    """A twice pruned network, what trains it on with a teacher while channels fade, and the run without a kill."""
    folder = tmp_path_factory.mktemp("taught")
    again = prune_network(load(start)[0], prune_ratio=0.3, scoring=Scoring())
    save(again.model, folder / "twice.pt")
    asked = {**STEERED, "epochs": 3, "distill_model": str(small_weights), "finetune": True}
    whole = {**SETTINGS, **asked, "project": str(folder), "name": "whole"}
    YOLO(folder / "twice.pt").train(data=str(digits), **whole)
    return folder / "twice.pt", asked, folder / "whole"


@pytest.mark.parametrize("die", ["batch", "write", "rename"])
def test_a_twice_pruned_network_with_a_teacher_goes_on_after_a_kill(die, taught, digits, tmp_path):
    twice, asked, whole = taught
    run = killed_run(twice, digits, tmp_path, die, **asked)
    last = run / "weights" / "last.pt"
    assert load(last)[1]["epoch"] == 0
    YOLO(last).train(resume=True)
    resumed, content = load(last)
    assert content["epoch"] == -1 and len(plans_of(resumed)) == 2 and not hasattr(resumed, "teacher_model")
    widths = [{name: p.shape for name, p in network.named_parameters()} for network in (resumed, load(twice)[0])]
    assert widths[0] == widths[1]
    assert rows(run) == rows(whole) and len(rows(run)) == 1 + asked["epochs"]
    assert "train/dis_loss" in rows(run)[0]
    zeros = [share_at_zero(trace(network), network) for network in (resumed, load(whole / "weights" / "last.pt")[0])]
    assert zeros[0] == zeros[1] > 0.4
    assert same_networks(run, whole)
    assert sorted(file.name for file in (run / "weights").iterdir()) == ["best.pt", "last.pt"]


def test_a_steered_training_does_not_go_on_without_its_choice(start, digits, tmp_path):
    run = killed_run(start, digits, tmp_path, "batch", epoch="2", **STEERED)
    for file in (run / "weights").glob("resume-*.pt"):
        file.unlink()
    with pytest.raises(PruningError, match="start anew"):
        YOLO(run / "weights" / "last.pt").train(resume=True)


def test_the_recovery_from_nan_goes_back_to_the_choice_of_the_checkpoint(start, digits, tmp_path):
    seen = []

    def ends(trainer):
        steering = trainer.sparsity.mode
        seen.append((trainer.epoch, steering.removed.copy(), len(trainer.sparsity.history.epochs)))
        if len(seen) == 3:  # in the third epoch: the choice was made, and is lost with the epoch
            trainer.loss = torch.tensor(float("nan"))
            steering.removed[:] = True
            steering.importance.fill_(float("nan"))

    model = YOLO(start)
    model.add_callback("on_train_epoch_end", ends)
    whole = {**SETTINGS, **STEERED, "finetune": True, "project": str(tmp_path), "name": "run"}
    model.train(data=str(digits), **whole)
    assert [epoch for epoch, _, _ in seen] == [0, 1, 2, 2, 3, 4]
    assert (seen[2][1] == seen[3][1]).mean() > 0.9 and seen[2][2] == seen[3][2] == 2
    network = load(tmp_path / "run" / "weights" / "last.pt")[0]
    assert share_at_zero(trace(network), network) == pytest.approx(0.5, abs=0.03)


def test_without_the_exact_state_it_still_goes_on(start, digits, tmp_path, caplog):
    run = killed_run(start, digits, tmp_path, "batch")
    for file in (run / "weights").glob("resume-*.pt"):
        file.unlink()
    YOLO(run / "weights" / "last.pt").train(resume=True)
    assert is_finished(load(run / "weights" / "last.pt")[1])
    assert len(rows(run)) == 1 + SETTINGS["epochs"]


def test_stripping_never_leaves_half_a_file(uninterrupted, tmp_path, monkeypatch):
    from ultralytics.engine import trainer

    file = tmp_path / "last.pt"
    shutil.copy(uninterrupted / "weights" / "last.pt", file)
    before = file.read_bytes()

    def half(content, target, *args, **kwargs):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        trainer.strip_optimizer(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_half_written_best_checkpoint_is_never_taken_for_a_whole_one(start, digits, tmp_path):
    """What a killed run left behind does not replace a good best.pt in an epoch that is not the best."""
    model = YOLO(start)

    def leave_garbage(trainer):
        trainer.best_fitness = 2.0  # no epoch is the best any more
        (trainer.wdir / ".writing").mkdir()
        (trainer.wdir / ".writing" / "best.pt").write_bytes(b"half")
        (trainer.wdir / "best.pt").write_bytes(b"good")

    model.add_callback("on_train_start", leave_garbage)
    with pytest.raises(TypeError):  # the final validation reads best.pt, which is no network here
        model.train(finetune=True, data=str(digits), project=str(tmp_path), name="run", **{**SETTINGS, "epochs": 1})
    assert (tmp_path / "run" / "weights" / "best.pt").read_bytes() == b"good"
