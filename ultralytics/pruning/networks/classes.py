"""The layers of a network that hold a row for each class, and how they follow the classes of another data set."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

NEW = -1  # in an order of classes: one that the network does not know
INITIALISERS = ("bias_init", "_reset_parameters")  # methods of the release's heads that start their class biases
ONE_TO_MANY, ONE_TO_ONE = "cv3", "one2one_cv3"  # class branches of a Detect head, a sequence for each level


def reads_text(head: nn.Module) -> bool:
    """Whether a head is built to compare what it sees with embeddings of text (YOLO-World, YOLOE)."""
    from ultralytics.nn.modules import WorldDetect, YOLOEDetect

    return isinstance(head, (WorldDetect, YOLOEDetect))


def class_layers(head: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yields each layer of a head that has a row of weights for each class, with its name in the head.

    Args:
        head: The last layer of a network.
    """
    from ultralytics.nn.modules import Classify, Detect, RTDETRDecoder, SemanticSegment

    if reads_text(head) and not getattr(head, "is_fused", False):  # no layer has a row for a class, but the text has
        return
    owner: Any = head

    if isinstance(head, Detect):
        for branch in (ONE_TO_MANY, ONE_TO_ONE):
            for level, layers in enumerate(getattr(head, branch, None) or ()):
                yield f"{branch}.{level}.{len(layers) - 1}", layers[-1]
        semantic = getattr(getattr(head, "proto", None), "semseg", None)  # of Segment26
        if semantic is not None:
            yield f"proto.semseg.{len(semantic) - 1}", semantic[-1]
    elif isinstance(head, SemanticSegment):
        for branch in ("classifier", "aux_head"):
            if (layers := getattr(head, branch)) is not None:
                yield f"{branch}.{len(layers) - 1}", layers[-1]
    elif isinstance(head, RTDETRDecoder):
        yield "denoising_class_embed", owner.denoising_class_embed
        yield "enc_score_head", owner.enc_score_head
        for number, layer in enumerate(owner.dec_score_head):
            yield f"dec_score_head.{number}", layer
    elif isinstance(head, Classify):
        yield "linear", owner.linear


def reorder(model: Any, order: Sequence[int], names: Sequence[str]) -> None:
    """Gives the class layers of a network the rows of an order, in place, and the network their names.

    Args:
        model: The network.
        order: For each class its row so far; `NEW` for one that starts as in a new head.
        names: Of these classes.
    """
    head = model.model[-1]
    _take_rows(head, list({id(layer): layer for _, layer in class_layers(head)}.values()), order)
    model.nc = len(order)
    if "nc" in (getattr(model, "yaml", None) or {}):
        model.yaml["nc"] = len(order)
    model.names = dict(enumerate(names))


def _take_rows(head: Any, layers: list[Any], order: Sequence[int]) -> None:
    """Gives class layers the rows of an order."""
    rows = torch.tensor(order)
    known = rows != NEW
    fresh = dict(zip(map(id, layers), _fresh_layers(head, len(order)), strict=True)) if not known.all() else {}
    for layer in layers:
        for name in ("weight", "bias"):
            old = getattr(layer, name, None)
            if old is None:
                continue
            values = old.detach().new_empty(len(order), *old.shape[1:])
            if fresh:
                values.copy_(getattr(fresh[id(layer)], name))
            values[known] = old.detach()[rows[known].to(old.device)]
            setattr(layer, name, nn.Parameter(values, old.requires_grad))
        _set_rows(layer, len(order))
    if hasattr(head, "no"):  # outputs for each place
        head.no += len(order) - head.nc
    if hasattr(head, "nc"):
        head.nc = len(order)


def _fresh_layers(head: Any, count: int) -> list[Any]:
    """Returns the class layers of a new head with `count` classes, of the widths of this one."""
    new = copy.deepcopy(head)
    layers = list({id(layer): layer for _, layer in class_layers(new)}.values())
    for layer in layers:
        for name in ("weight", "bias"):
            old = getattr(layer, name, None)
            if old is not None:
                setattr(layer, name, nn.Parameter(old.detach().new_zeros(count, *old.shape[1:])))
        _set_rows(layer, count)
        layer.reset_parameters()
    new.nc = count
    for name in INITIALISERS:
        if hasattr(new, name):
            getattr(new, name)()
    return layers


def _set_rows(layer: Any, count: int) -> None:
    """Notes how many rows a layer has."""
    for name in ("out_channels", "out_features", "num_embeddings"):
        if hasattr(layer, name):
            setattr(layer, name, count)
