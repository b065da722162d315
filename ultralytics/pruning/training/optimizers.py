"""The optimizer of a fine-tuning where nobody names one.

The release's `auto` takes, for short trainings, a learning rate that falls with the number of classes: 0.001 for 6,
0.0006 for 13. That is made for networks that begin with the weights of another data set; one that lost channels has
further to go. Measured on photographs, see docs/results/recipes.md.
"""

from __future__ import annotations

from typing import Any

SHORT = 10_000  # iterations; above, the release's `auto` takes another optimizer
CHOICE = ("AdamW", 0.002)


def of_a_fine_tuning(trainer: Any, name: str, lr: float, iterations: float) -> tuple[str, float]:
    """Returns the optimizer and the learning rate of a training.

    Args:
        trainer: Its arguments are set to what is chosen, so that a run that goes on does the same.
        name: What the arguments ask for.
        lr: What they ask for.
        iterations: How many steps there will be.
    """
    args = trainer.args
    if str(name).lower() != "auto" or not args.finetune or args.sparsity or iterations > SHORT:
        return name, lr
    args.optimizer, args.lr0 = CHOICE
    args.warmup_bias_lr = 0.0  # by the release's 0.1, AdamW moves each bias of a trained network by up to 0.1 a step
    return CHOICE
