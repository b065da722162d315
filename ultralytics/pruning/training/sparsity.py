"""A sparsity training beside the release's: a pull or a fade at each step, on the gammas that can be pruned."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from ultralytics.cfg import get_cfg
from ultralytics.utils import LOGGER, RANK, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from ..errors import PruningError
from ..selection.wording import all_said
from ..sparsity import Settings, SparsityRun


def with_its_precision(cfg: Any, overrides: dict[str, Any] | None) -> dict[str, Any] | None:
    """Returns the overrides of a training, with `amp` off where the pull goes through the gradients.

    Autocast and the gradient scaler go with it.

    Raises:
        PruningError: If what is asked for contradicts itself.
    """
    asked = Settings.of(get_cfg(cfg, overrides))
    return {**(overrides or {}), "amp": False} if asked and asked.traits.in_gradients else overrides


def chooses_the_optimizer(trainer: Any) -> bool:
    """Whether the release is to choose the optimizer; once it has, its choice stands in the place of the word."""
    return str(trainer.args.optimizer).lower() == "auto"


def start_sparsity(trainer: Any, *, automatic: bool) -> None:
    """Gives a trainer that is set up its sparsity training as `sparsity`; None if none is asked for.

    Args:
        trainer: A trainer of the release.
        automatic: Whether the release has chosen the optimizer.

    Raises:
        PruningError: If the training cannot end well.
    """
    trainer.sparsity, settings = None, Settings.of(trainer.args)
    if not settings:
        return
    if trainer.args.time and settings.target:
        raise PruningError(f"time={trainer.args.time} and a target: it is met in a number of epochs; leave out time")

    trainer.sparsity = SparsityRun(_network(trainer.model), settings, trainer.args.imgsz)
    trainer.sparsity.attach(trainer.optimizer)
    if not trainer.resume:
        trainer.sparsity.check(trainer.optimizer, len(trainer.train_loader) / trainer.accumulate, trainer.epochs)

    trainer.add_callback("on_train_epoch_start", _epoch_starts)
    trainer.add_callback("on_train_batch_start", _batch_starts)
    trainer.add_callback("on_train_epoch_end", _epoch_ends)
    trainer.stopper.patience = math.inf  # the accuracy falls on the way to a target: no reason to stop
    if RANK in {-1, 0}:
        _say_what_starts(trainer, settings, automatic)


def _network(model: Any) -> nn.Module:
    """Returns the network that is trained, without its wrappers; of a distillation, the student."""
    model = unwrap_model(model)
    return getattr(model, "student_model", model)


def _epoch_starts(trainer: Any) -> None:
    trainer.sparsity.epoch_starts(trainer.epoch, trainer.epochs)


def _batch_starts(trainer: Any) -> None:
    trainer.sparsity.batch_starts(len(trainer.train_loader))


def _epoch_ends(trainer: Any) -> None:
    trainer.sparsity.copy_zeros(_network(trainer.ema.ema))


def _say_what_starts(trainer: Any, settings: Settings, automatic: bool) -> None:
    """Says what is asked for, and warns of a target out of reach and of optimizers that spoil a pull."""
    LOGGER.info(f"{colorstr('sparsity:')} {trainer.sparsity}")
    for limit in all_said(trainer.sparsity.missed):
        LOGGER.warning(f"the target will be missed: {limit}")
    if settings.traits.in_gradients and trainer.sparsity.divides:
        LOGGER.warning(
            f"{type(trainer.optimizer).__name__} divides the pull of sr by its own running size, so that gammas move "
            f"by about lr per step whatever sr is. Use optimizer=SGD, or sparsity=proximal."
        )
    if settings.traits.in_gradients and automatic:
        LOGGER.warning("optimizer=auto ignores lr0, which the pull is multiplied by. Use optimizer=SGD.")


def goes_through_gradients(trainer: Any) -> bool:
    """Whether this is a sparsity training whose pull is a part of the gradients."""
    return bool(trainer.sparsity) and trainer.sparsity.settings.traits.in_gradients


def step_with_the_pull(trainer: Any) -> None:
    """Does an optimizer's step with the pull in the gradients; without clipping, which would rescale it."""
    trainer.sparsity.add_to_gradients(trainer.optimizer)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    if trainer.ema:
        trainer.ema.update(trainer.model)


def with_sparsity(trainer: Any, metrics: dict[str, Any]) -> dict[str, Any]:
    """Notes the gammas at the end of an epoch, and returns its metrics with the share of faded ones, in 0..1."""
    if not trainer.sparsity:
        return metrics
    run = trainer.sparsity
    run.history.epoch_ends(trainer.epoch, run.strength, run.scales, trainer.save_dir)
    return {**metrics, "metrics/sparsity": run.history.epochs[-1].sparsity}


def conclude_sparsity(trainer: Any) -> None:
    """Draws the gammas of all epochs, and says what a person should know at the end."""
    if trainer.sparsity and RANK in {-1, 0}:
        trainer.sparsity.history.ends(trainer.sparsity.scales, trainer.save_dir)
        for finding in trainer.sparsity.findings():
            LOGGER.warning(f"SPARSITY: {finding}.")
