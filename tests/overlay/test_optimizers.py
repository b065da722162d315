"""The optimizer of a fine-tuning where nobody names one; all other trainings are the release's to decide."""

from types import SimpleNamespace

import pytest

from ultralytics import YOLO
from ultralytics.pruning import load
from ultralytics.pruning.training.optimizers import CHOICE, SHORT, of_a_fine_tuning


@pytest.mark.parametrize(
    ("known", "iterations", "chosen"),
    [
        ({}, SHORT, CHOICE),
        ({"finetune": False}, SHORT, ("auto", 0.01)),
        ({"sparsity": "steered"}, SHORT, ("auto", 0.01)),
        ({}, SHORT + 1, ("auto", 0.01)),
        ({"optimizer": "SGD"}, SHORT, ("SGD", 0.01)),
    ],
)
def test_what_nobody_named(known, iterations, chosen):
    args = SimpleNamespace(**{"optimizer": "auto", "lr0": 0.01, "finetune": True, "sparsity": None, **known})
    found = of_a_fine_tuning(SimpleNamespace(args=args), args.optimizer, args.lr0, iterations)
    assert found == chosen
    if chosen == CHOICE:
        assert (args.optimizer, args.lr0) == CHOICE  # for a run that goes on


def test_a_real_fine_tuning(small_weights, quick, tmp_path):
    """What the checkpoint says of its training, and what the steps were made by."""
    seen = []
    model = YOLO(small_weights)
    model.add_callback("on_train_start", lambda trainer: seen.append(trainer.optimizer))
    model.train(finetune=True, project=str(tmp_path), name="run", **{**quick, "optimizer": "auto"})
    args = load(tmp_path / "run" / "weights" / "last.pt")[1]["train_args"]
    assert (args["optimizer"], args["lr0"]) == CHOICE
    assert type(seen[0]).__name__ == CHOICE[0] and {group["initial_lr"] for group in seen[0].param_groups} == {
        CHOICE[1]
    }
