"""What a checkpoint must hold besides weights for a stage to work with it: checked once, where it is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import PruningError, first_line
from ..inputs.layer_names import check_layers
from ..networks.rebuild import PLANS_ATTRIBUTE
from ..release import LARGEST_SIDE
from ..trust import restricted

RESAVE = "save it again, with ultralytics.pruning.save or by training"
# Arguments of the training that stages read, by type.
TEXT_ARGUMENTS = ("data", "task", "sparsity", "optimizer", "latency_table")
NUMBER_ARGUMENTS = ("epochs", "imgsz", "batch")


def check_arguments(content: Any, path: Any) -> None:
    """Checks the form of the arguments of the training, before anything reads them.

    Args:
        content: What the `.pt` holds.
        path: The checkpoint, for the error.

    Raises:
        PruningError: If they are not a dictionary with text as keys.
    """
    found = content.get("train_args", {}) if isinstance(content, dict) else {}
    if not isinstance(found, dict):
        raise PruningError(f"'{path}': its train_args are not a dictionary but a {type(found).__name__}; {RESAVE}")
    if odd := [key for key in found if not isinstance(key, str)]:
        raise PruningError(f"'{path}': its train_args have a key that is not text, {odd[0]!r:.40}; {RESAVE}")


def check_content(model: Any, content: dict[str, Any], path: Path) -> None:
    """Checks what a network of Ultralytics and its checkpoint say about themselves.

    Args:
        model: The network.
        content: What the `.pt` holds; its `train_args` are a dictionary.
        path: The checkpoint, for the error.

    Raises:
        PruningError: If something is missing, or of a wrong type.
    """
    for problem in (*_of_network(model), *_of_training(content)):
        raise PruningError(f"'{path}': {problem}; {RESAVE}")
    if restricted():
        check_layers(model.yaml, f"'{path}': ")


def _of_network(model: Any) -> Iterator[str]:
    """Yields what is wrong with a network, besides its weights."""
    from ultralytics.cfg import TASKS

    if not isinstance(getattr(model, "model", None), nn.Sequential) or not len(model.model):
        yield "its network has no layers"

    names = getattr(model, "names", None)
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        names = list(names.values())
    if not isinstance(names, (list, tuple)) or not names:
        yield "its network does not say what its classes are called (names)"
    elif not all(isinstance(name, str) for name in names):
        yield f"the name of a class is not text ({next(n for n in names if not isinstance(n, str))!r:.40})"

    yaml = getattr(model, "yaml", None)
    if not isinstance(yaml, dict):
        yield "its network does not say which layers it was built from (yaml)"
    elif not all(_rows(yaml.get(part)) for part in ("backbone", "head")):
        yield "the yaml in its network has no rows of layers (backbone, head)"

    stride = getattr(model, "stride", None)
    if not isinstance(stride, torch.Tensor) or not stride.numel() or not (stride.isfinite() & (stride > 0)).all():
        yield f"the strides of its network are not positive numbers ({' '.join(str(stride).split()):.40})"
    if getattr(model, "task", None) not in TASKS:
        yield f"its task is {getattr(model, 'task', None)!r:.40}, and there are {', '.join(sorted(TASKS))}"
    plans = getattr(model, PLANS_ATTRIBUTE, [])
    if not isinstance(plans, list) or not all(isinstance(plan, dict) for plan in plans):
        yield f"its pruning plans are not a list of plans but a {type(plans).__name__}"


def _rows(part: Any) -> bool:
    """Whether a part of a model yaml is a list of rows `[from, repeats, module, arguments]`."""
    return isinstance(part, (list, tuple)) and all(isinstance(row, (list, tuple)) and len(row) == 4 for row in part)


def _of_training(content: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with what a checkpoint says about its training."""
    args = content.get("train_args") or {}
    for key, value in args.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{key}={value} in its train_args is not finite"
    for key in TEXT_ARGUMENTS:
        if not isinstance(args.get(key), (str, Path, type(None), *(() if key == "data" else (list,)))):
            yield f"{key}={args[key]!r:.40} in its train_args is not text"
    for key in NUMBER_ARGUMENTS:
        value = args.get(key)
        values = value if isinstance(value, (list, tuple)) else [value]
        if not all(one is None or _is_number(one) for one in values):
            yield f"{key}={args[key]!r:.40} in its train_args is not a number"
        elif key == "imgsz" and not all(one is None or _is_side(one) for one in values):
            yield f"imgsz={value!r:.40} in its train_args is no side of an image"

    if not isinstance(content.get("train_metrics") or {}, dict):
        yield f"its train_metrics are not a dictionary but a {type(content['train_metrics']).__name__}"
    epoch = content.get("epoch", -1)
    if not isinstance(epoch, int):
        yield f"its epoch is not a whole number but {epoch!r:.40}"
    if content.get("optimizer") is not None:  # a run that can be resumed, with these arguments
        yield from _of_interrupted(content["optimizer"], args)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_side(value: float) -> bool:
    """Whether a number can be the side of an image in pixels; classifiers take any."""
    return 1 <= value <= LARGEST_SIDE and value == int(value)


def _of_interrupted(optimizer: Any, args: dict[str, Any]) -> Iterator[str]:
    """Yields what keeps an interrupted run from going on."""
    from ultralytics.cfg import get_cfg
    from ultralytics.utils import DEFAULT_CFG_DICT

    if not isinstance(optimizer, dict) or not {"state", "param_groups"} <= optimizer.keys():
        yield "the state of its optimizer is not one of PyTorch"
    if missing := [key for key in ("data", "imgsz", "epochs") if args.get(key) is None]:
        yield f"its train_args lack {missing[0]}, which an interrupted run needs to go on"
    try:
        get_cfg(overrides={key: value for key, value in args.items() if key in DEFAULT_CFG_DICT})
    except Exception as error:  # whatever the release's checks raise
        yield f"the release refuses its train_args: {first_line(error)}"


def bare(found: Any) -> str | None:
    """Says what an object is that was saved alone instead of in a checkpoint; None if it is a dictionary."""
    if isinstance(found, dict):
        return None
    kind = type(found)
    if not isinstance(found, nn.Module):
        return f"holds a {kind.__name__}, which is not a checkpoint of Ultralytics; name the .pt that a training wrote"
    name = f"nn.{kind.__name__}" if kind.__module__.startswith("torch.nn") else kind.__name__
    whose = "ultralytics.pruning.save(model, path)" if kind.__module__.startswith("ultralytics.") else "YOLO.save"
    return (
        f"holds a bare {name}, as torch.save(model, path) writes it, and not a checkpoint of Ultralytics, which says "
        f"what layers and classes it has; save it with {whose}, from a network that was built by YOLO"
    )
