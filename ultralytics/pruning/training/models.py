"""What a call of `YOLO(...).train(...)` does before and after the training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import RANK, YAML, checks

from ..data.some_classes import resolve_for
from ..errors import PruningError
from ..networks.keep_classes import keeps_some
from ..networks.rebuild import is_pruned, refusal
from ..sparsity import Settings


def with_its_yaml(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a call, over those of the yaml that it names as `cfg`."""
    file = settings.get("cfg")
    return {**(YAML.load(checks.check_yaml(file)) if file else {}), **settings}


def refuse_lost_network(model: Any, settings: Mapping[str, Any]) -> None:
    """Refuses a training that could not keep the network of a model, before anything is written.

    Args:
        model: A `YOLO` or another model of the release, with a network of PyTorch.
        settings: Of the training.

    Raises:
        PruningError: If finetune=True has no network to keep, or a pruned one would be rebuilt from its yaml.
    """
    finetune, pretrained = settings.get("finetune", False), settings.get("pretrained", True)
    if finetune and not model.ckpt:
        raise PruningError(f"finetune=True trains the network of a .pt; '{model.model_name}' is not one")
    if finetune and pretrained is not True:
        raise PruningError(f"finetune=True keeps the loaded network, pretrained={pretrained} would replace it")
    resumes = bool(settings.get("resume"))  # then the checkpoint says how it was trained
    if not finetune and not resumes and isinstance(model.model, torch.nn.Module) and is_pruned(model.model):
        raise PruningError(
            f"'{model.model_name}' {refusal(model.model)}. Use finetune=True"
            + ("" if model.ckpt else ", on the network saved with ultralytics.pruning.save")
        )


def with_data_of_its_classes(model: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns, as `data`, the set with the labels of the classes that a network kept, where a call trains it on more.

    Args:
        model: A `YOLO` or another model of the release.
        settings: Of the training.

    Raises:
        PruningError: If the data set is not one of the network's classes, nor has them among others.
    """
    network, data = model.model, settings.get("data")
    others = settings.get("single_cls") or settings.get("classes_from") == "data" or settings.get("resume")
    if not settings.get("finetune") or others or not isinstance(data, (str, Path)) or not keeps_some(network):
        return {}
    return {"data": resolve_for(network, str(data), classes=len(network.names), to_train=True)}


def on_several_data_sets(settings: Mapping[str, Any]) -> bool:
    """Whether a training is one after the other on several data sets."""
    return isinstance(settings.get("data"), (list, tuple))


def on_several_gpus(settings: Mapping[str, Any]) -> bool:
    """Whether processes of their own will train, one for each GPU."""
    return "," in str(settings.get("device") or "")


def take_faded(model: Any) -> None:
    """Gives a model the last state of its sparsity training, in which channels have faded.

    The release goes on with the most accurate checkpoint, which is mostly one from before the fading. After trainings
    on several data sets the model is untouched.
    """
    trainer = model.trainer
    if not hasattr(trainer, "best") or not Settings.of(trainer.args):
        return
    if RANK in {-1, 0} and trainer.last.exists():
        model.model, model.ckpt = load_checkpoint(trainer.last)
        model.ckpt_path = model.overrides["model"] = str(trainer.last)
        model.predictor = None
