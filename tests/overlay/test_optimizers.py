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
    named = {"optimizer": "auto", "lr0": 0.01, "warmup_bias_lr": 0.1, "finetune": True, "sparsity": None, **known}
    args = SimpleNamespace(**named)
    found = of_a_fine_tuning(SimpleNamespace(args=args), args.optimizer, args.lr0, iterations)
    assert found == chosen
    if chosen == CHOICE:
        assert (args.optimizer, args.lr0, args.warmup_bias_lr) == (*CHOICE, 0.0)  # for a run that goes on
    else:
        assert args.warmup_bias_lr == 0.1


def test_no_bias_moves_faster_than_the_rest(small_weights, quick, tmp_path):
    """The release warms biases up from 0.1, which tears a trained network apart in its first steps."""
    rates = []
    model = YOLO(small_weights)
    model.add_callback(
        "on_train_batch_end",
        lambda trainer: rates.extend(group["lr"] for group in trainer.optimizer.param_groups),
    )
    model.train(finetune=True, project=str(tmp_path), name="run", **{**quick, "optimizer": "auto", "epochs": 2})
    assert rates and max(rates) <= CHOICE[1]


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
