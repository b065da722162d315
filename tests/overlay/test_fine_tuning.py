"""How a short fine-tuning steps, its mosaics and its average; other trainings are the release's to decide."""

from types import SimpleNamespace

import pytest
import torch

from ultralytics import YOLO
from ultralytics.pruning import load
from ultralytics.pruning.training.fine_tuning import (
    CHOICE,
    ENOUGH,
    FEWER,
    IMAGES,
    MOMENTUM,
    SHORT,
    average_weights,
    decay_of,
    optimizer_of,
    rate_of,
    steps_of,
)
from ultralytics.utils.torch_utils import ModelEMA


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
    args = arguments(**known)
    found = optimizer_of(trainer_of(args), args.optimizer, args.lr0, args.momentum, iterations)
    assert found[:2] == chosen
    if chosen == CHOICE:
        assert (args.optimizer, args.lr0, args.momentum) == found == (*CHOICE, MOMENTUM)  # for a run that goes on
        assert (args.warmup_bias_lr, args.close_mosaic, args.nbs) == (0.0, 20, FEWER)
    else:
        assert found[2] == args.momentum == 0.937
        assert (args.warmup_bias_lr, args.close_mosaic, args.nbs) == (0.1, 10, IMAGES)


@pytest.mark.parametrize(("epochs", "said", "closes"), [(100, 10, 50), (12, 10, 10), (100, 0, 0), (100, 5, 5)])
def test_mosaics_end_in_the_middle_unless_somebody_says_when(epochs, said, closes):
    args = arguments(close_mosaic=said)
    optimizer_of(trainer_of(args, epochs=epochs), args.optimizer, args.lr0, args.momentum, SHORT)
    assert args.close_mosaic == closes


@pytest.mark.parametrize(
    ("images", "batch", "said", "nbs", "batches"),
    [
        (300, 16, 64, 16, 1),
        (300, 8, 64, 16, 2),
        (300, 24, 64, 24, 1),
        (300, 128, 64, 64, 1),
        (300, 16, 48, 48, 3),  # somebody named it
        (4000, 16, 64, 16, 1),
        (4001, 16, 64, 64, 4),  # of 16 images each, these would be more steps than a short training has
    ],
)
def test_steps_are_of_fewer_images_where_there_would_be_few(images, batch, said, nbs, batches):
    """At the release's 64 images a step, 300 images and 40 epochs came to 200 steps, and to 3 points less accuracy."""
    args = arguments(nbs=said)
    trainer = trainer_of(args, images=images, batch=batch)
    optimizer_of(trainer, args.optimizer, args.lr0, args.momentum, SHORT)
    assert (args.nbs, trainer.accumulate) == (nbs, batches)
    assert args.lr0 == rate_of(steps_of(trainer, nbs))


def trainer_of(args: SimpleNamespace, images: int = 300, batch: int = 16, epochs: int = 40) -> SimpleNamespace:
    """Returns what these functions look at of a trainer that is set up."""
    loader, accumulate = SimpleNamespace(dataset=range(images)), max(1, round(args.nbs / batch))
    return SimpleNamespace(args=args, train_loader=loader, batch_size=batch, epochs=epochs, accumulate=accumulate)


def arguments(**known) -> SimpleNamespace:
    """Returns the arguments of a fine-tuning, as the release has them where nobody says otherwise."""
    optimizer = {"optimizer": "auto", "lr0": 0.01, "momentum": 0.937, "warmup_bias_lr": 0.1}
    left = {"close_mosaic": 10, "nbs": 64, "finetune": True, "sparsity": None}
    return SimpleNamespace(**{**optimizer, **left, **known})


def test_no_bias_moves_faster_than_the_rest(small_weights, quick, tmp_path):
    """The release warms biases up from 0.1, which tears a trained network apart in its first steps."""
    rates = []
    model = YOLO(small_weights)
    model.add_callback(
        "on_train_batch_end",
        lambda trainer: rates.extend(group["lr"] for group in trainer.optimizer.param_groups),
    )
    model.train(finetune=True, project=str(tmp_path), name="run", **{**quick, "optimizer": "auto", "epochs": 2})
    assert rates and max(rates) <= 3 * CHOICE[1]  # the release's MuSGD moves the class layers by thrice the rate


def test_a_real_fine_tuning(small_weights, quick, tmp_path):
    """What the checkpoint says of its training, and what the steps were made by."""
    seen = []
    model = YOLO(small_weights)
    model.add_callback("on_train_start", lambda trainer: seen.append(trainer.optimizer))
    model.train(finetune=True, project=str(tmp_path), name="run", **{**quick, "optimizer": "auto"})
    args = load(tmp_path / "run" / "weights" / "last.pt")[1]["train_args"]
    steps = 1  # of one epoch of 16 images
    assert (args["optimizer"], args["lr0"], args["nbs"]) == (CHOICE[0], rate_of(steps), FEWER)
    rates = {group["initial_lr"] for group in seen[0].param_groups}
    assert type(seen[0]).__name__ == CHOICE[0] and min(rates) == rate_of(steps)


def test_few_steps_are_small():
    """Five steps of AdamW at its whole rate took a cut network from 0.83 to 0.09."""
    assert rate_of(ENOUGH / 20) == CHOICE[1] / 20 and rate_of(ENOUGH / 2) == CHOICE[1] / 2
    assert rate_of(ENOUGH) == rate_of(SHORT) == CHOICE[1]


def test_an_average_is_short_where_the_training_is():
    assert decay_of(760)(10**6) == pytest.approx(1 - 8 / 760)
    assert decay_of(8000)(10**6) == decay_of(10_000)(10**6) == pytest.approx(0.99)
    assert decay_of(5)(1) == 0  # nothing to average over: the last weights
    assert 0 < decay_of(760)(10) < decay_of(760)(100) < decay_of(760)(760)


@pytest.mark.parametrize(
    ("known", "images", "ours"),
    [({}, 160, True), ({"finetune": False}, 160, False), ({"sparsity": "steered"}, 160, False), ({}, 160_016, False)],
)
def test_what_is_averaged(known, images, ours):
    """The release averages over 100 steps once thousands are made; a short fine-tuning, once a few times 50 are."""
    trainer = trainer_of(arguments(nbs=16, **known), images, batch=8, epochs=1)
    trainer.ema = ModelEMA(torch.nn.Identity())
    average_weights(trainer)
    assert trainer.ema.decay(760) == pytest.approx(decay_of(10)(760) if ours else 0.316, abs=1e-3)


def test_a_process_that_measures_nothing_averages_nothing():
    trainer = trainer_of(arguments(nbs=16), images=8, batch=8, epochs=1)
    trainer.ema = None
    average_weights(trainer)
    assert trainer.ema is None


def test_a_resumed_fine_tuning_averages_on(small_weights, quick, tmp_path):
    """The average after a break is that of an uninterrupted run."""
    settings = {**quick, "optimizer": "auto", "epochs": 3, "nbs": 8, "finetune": True, "project": str(tmp_path)}

    def stop(trainer):
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    YOLO(small_weights).train(name="whole", **settings)
    broken = YOLO(small_weights)
    broken.add_callback("on_model_save", stop)
    with pytest.raises(KeyboardInterrupt):
        broken.train(name="broken", **settings)
    YOLO(tmp_path / "broken" / "weights" / "last.pt").train(resume=True)
    first, second = (load(tmp_path / name / "weights" / "last.pt")[0].state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)
