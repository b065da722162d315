"""How a short fine-tuning trains, where nobody names an optimizer, and what it averages.

The release's `auto` takes AdamW for short trainings, at a learning rate that falls with the number of classes: 0.001
for 6, 0.0006 for 13. That is made for networks that begin with the weights of another data set; one that lost channels
has further to go. Its average of the weights, which is what is measured and kept, needs thousands of steps before it
averages at all. And images are put together as mosaics for all but ten epochs, in which a small network learns what it
is never shown later. Its step of 64 images leaves few steps where there are few images. Measured on photographs, see
docs/results/recipes.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

SHORT = 10_000  # steps; above, the release's `auto` takes the same optimizer, and its average is as long as ours
CHOICE = ("MuSGD", 0.02)
MOMENTUM = 0.9  # as the release's `auto` has it
ENOUGH = 500  # steps for that rate; of fewer, each is as much smaller: what a large one breaks takes long to mend
REACH = 100  # steps that the average reaches over, an eighth of all at most
MOSAICS, IMAGES = 10, 64  # the release's defaults of `close_mosaic` and `nbs`: what nobody has changed
FEWER = 16  # images a step, where that leaves the training a short one


def is_short(trainer: Any, iterations: float) -> bool:
    """Whether a training is a fine-tuning of few steps, and no sparsity training."""
    return bool(trainer.args.finetune) and not trainer.args.sparsity and iterations <= SHORT


def optimizer_of(trainer: Any, name: str, lr: float, momentum: float, iterations: float) -> tuple[str, float, float]:
    """Returns the optimizer of a training, its learning rate and its momentum.

    Args:
        trainer: Its arguments are set to what is chosen, so that a run that goes on does the same.
        name: What the arguments ask for.
        lr: What they ask for.
        momentum: What they ask for.
        iterations: How many steps there will be.
    """
    if str(name).lower() != "auto" or not is_short(trainer, iterations):
        return name, lr, momentum
    args = trainer.args
    step_more_often(trainer)
    args.optimizer, args.lr0, args.momentum = CHOICE[0], rate_of(steps_of(trainer, args.nbs)), MOMENTUM
    args.warmup_bias_lr = 0.0  # by the release's 0.1, each bias of a trained network would move faster than the rest
    if args.close_mosaic == MOSAICS:
        args.close_mosaic = max(MOSAICS, trainer.epochs // 2)
    return args.optimizer, args.lr0, args.momentum


def step_more_often(trainer: Any) -> None:
    """Lets a short training make a step of fewer images, unless somebody said of how many."""
    args = trainer.args
    if args.nbs == IMAGES and steps_of(trainer, FEWER) <= SHORT:
        args.nbs = min(IMAGES, max(FEWER, trainer.batch_size))
        trainer.accumulate = max(1, round(args.nbs / trainer.batch_size))


def steps_of(trainer: Any, images: int) -> int:
    """Returns how many steps a training makes, of so many images each, or of a batch where that is more."""
    return math.ceil(len(trainer.train_loader.dataset) / max(trainer.batch_size, images)) * trainer.epochs


def rate_of(steps: float) -> float:
    """Returns the learning rate of a fine-tuning of so many steps."""
    return round(CHOICE[1] * min(1.0, steps / ENOUGH), 6)


def average_weights(trainer: Any) -> None:
    """Lets a short fine-tuning average its weights from its first epochs on; for a resumed one it is the same.

    Args:
        trainer: Set up, with its loader and, on the process that measures, its average.
    """
    steps = steps_of(trainer, trainer.args.nbs)
    if trainer.ema and is_short(trainer, steps):
        trainer.ema.decay = decay_of(steps)


def decay_of(steps: int) -> Callable[[int], float]:
    """Returns how much of an average stays at each step, by how many steps were made, for a training of `steps`."""
    reach = max(1.0, min(REACH, steps / 8))
    return lambda made: (1 - 1 / reach) * (1 - math.exp(-2 * made / reach))
