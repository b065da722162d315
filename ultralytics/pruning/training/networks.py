"""Which network a trainer trains: with `finetune=True` the loaded one; a pruned one is never rebuilt from its yaml."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER, colorstr

from ..errors import PruningError
from ..networks.keeping import kept_network
from ..networks.rebuild import is_pruned, refusal


def keep_network(trainer: Any) -> None:
    """Replaces `get_model` of a trainer, on the instance, since it belongs to the task trainers.

    All of its callers meet there: Model.train, setup_model (also on resume and for a distillation student) and
    MultiTrainer.
    """
    trainer.get_model = functools.partial(_get_model, trainer, trainer.get_model)


def _get_model(
    trainer: Any,
    release: Callable[..., nn.Module],
    cfg: Any = None,
    weights: nn.Module | None = None,
    verbose: bool = True,
) -> nn.Module:
    """Returns the loaded network itself with finetune=True, else the release's rebuilt one.

    Raises:
        PruningError: If the network would be pruned no more, or does not fit the data set.
    """
    if not trainer.args.finetune:
        if weights is not None and is_pruned(weights):
            raise PruningError(f"the loaded network {refusal(weights)}; train it with finetune=True")
        return release(cfg=cfg, weights=weights, verbose=verbose)
    model = kept_network(trainer, weights)
    if verbose:
        LOGGER.info(f"{colorstr('finetune:')} training the loaded network as it is, its yaml is not read")
    return model


def refuse_replacement(trainer: Any) -> None:
    """Looks at a network that pretrained=False or pretrained=other.pt would replace by its yaml.

    Raises:
        PruningError: If it is pruned.
    """
    replaced = trainer.args.pretrained is False or isinstance(trainer.args.pretrained, (str, Path))
    if not str(trainer.model).endswith(".pt") or not replaced or trainer.resume:
        return
    network = load_checkpoint(trainer.model)[0]
    if is_pruned(network):
        raise PruningError(
            f"'{trainer.model}' {refusal(network)} by pretrained={trainer.args.pretrained}; train it with "
            f"finetune=True and without pretrained"
        )
