"""The table of a fine-tuning begins with the checkpoint that it started from: a few epochs can leave it worse."""

from pathlib import Path

import pytest
import torch

from ultralytics.pruning import Scoring, load, prune_network, save
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.stages import summary


def save_trained(model, file: Path, args: dict, score: float) -> None:
    """Writes a checkpoint as a training does, which knows its accuracy."""
    save(model, file, train_args=args)
    content = torch.load(file, weights_only=False)
    torch.save({**content, "train_metrics": {"metrics/mAP50-95(B)": score}}, file)


@pytest.fixture
def run(small_weights, digits, tmp_path, monkeypatch):
    """A run folder, whose best network has an accuracy of 0.4, and the checkpoint that it started from, of 0.5."""
    model, start, folder = load(small_weights)[0], tmp_path / "pruned.pt", tmp_path / "finetune"
    save(model, start)
    args = {"model": str(start), "data": str(digits), "imgsz": 64, "batch": 8, "device": "cpu", "single_cls": False}
    for name, score in (("best", 0.4), ("last", 0.3)):
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        save_trained(model, folder / "weights" / f"{name}.pt", args, score)
    asked = []
    monkeypatch.setattr(summary, "accuracy_of", lambda *words: asked.append(words) or (0.5, "detect"))
    return folder, start, asked


def test_the_start_is_measured_as_the_training_measures(run, digits) -> None:
    folder, start, asked = run
    text, _ = summary.training_summary(folder, with_start=True)
    ((file, settings, _),) = asked
    assert file == start
    assert settings == {"data": str(digits), "imgsz": 64, "device": "cpu", "batch": 16, "single_cls": False}
    scores = [line.split()[3] for line in text.splitlines() if ".pt " in line and "0." in line]
    assert scores[:3] == ["0.5000", "0.4000", "0.3000"]


@pytest.mark.parametrize(("score", "said"), [(0.5, True), (0.4, False), (0.2, False)])
def test_a_loss_is_said(run, monkeypatch, score, said) -> None:
    monkeypatch.setattr(summary, "accuracy_of", lambda *_: (score, "detect"))
    text, _ = summary.training_summary(run[0], with_start=True)
    assert ("0.1000 below" in text) == said
    assert (" below " in text) == said


def test_other_stages_do_not_measure_it(run) -> None:
    summary.training_summary(run[0])
    assert run[2] == []


def gone(folder: Path, start: Path) -> None:
    start.unlink()


def replaced(folder: Path, start: Path) -> None:
    model, _ = load(start)
    save(prune_network(model, prune_ratio=0.5, scoring=Scoring(), imgsz=64).model, start)


def of_other_classes(folder: Path, start: Path) -> None:
    model, _ = load(start)
    model.names = {number: f"other {number}" for number in model.names}
    save(model, start)


def resumed(folder: Path, start: Path) -> None:
    for name in ("best", "last"):
        file = folder / "weights" / f"{name}.pt"
        model, content = checkpoint.load(file)
        save_trained(model, file, {**content["train_args"], "model": str(folder / "weights" / "last.pt")}, 0.4)


def hostile(folder: Path, start: Path) -> None:
    start.write_bytes(b"no checkpoint")


@pytest.mark.parametrize("change", [gone, replaced, of_other_classes, resumed, hostile])
def test_what_is_not_the_start_is_not_taken_for_it(run, change) -> None:
    folder, start, asked = run
    change(folder, start)
    text, _ = summary.training_summary(folder, with_start=True)
    assert asked == []
    assert "best.pt" in text
