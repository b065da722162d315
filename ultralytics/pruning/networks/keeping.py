"""What `finetune=True` does in the place of the release's `get_model`, which rebuilds a network from its yaml.

What the release does for a user there, and in `load()` and `setup_model()`, and where it is done here:

- builds for the classes of the data set: `fit_classes`, by name; other classes only if `classes_from=data` says so;
- moves the rows of the class layers to the names' places (`cls_remap`): `fit_classes`; `cls_remap=False` keeps places;
- gives a class branch the width of the loaded weights: the loaded one is kept as it is;
- takes the data set's channels (`load()` fills the first convolution) and keypoints: an error, as it would be
  another network;
- names, `nc` and keypoint names: by `set_model_attributes`, which still runs;
- no criterion and no class weights of an earlier training, all parameters trained, dropout: `kept_network`;
- warns of a fused network: here an error, as it has no batch norm left to train;
- YOLO-World: the class count of its texts, and the callback that embeds the data set's names: `_follow_texts`;
- YOLOE's linear probing builds another head: an error.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..errors import PruningError
from .classes import NEW, class_layers, reads_text, reorder
from .rebuild import is_fused

TEXTS = 80  # most classes that a YOLO-World is trained with at once, as in the release


def kept_network(trainer: Any, weights: nn.Module | None) -> Any:
    """Returns a copy of a loaded network that is ready to be trained as it is.

    Args:
        trainer: A trainer of the release, with its arguments and its data set.
        weights: The loaded network.

    Raises:
        PruningError: If there is none, or it does not fit the data set.
    """
    if weights is None:
        raise PruningError(f"finetune=True trains the network of a .pt, and '{trainer.args.model}' gave none")
    _refuse_another_network(trainer, weights)

    model: Any = copy.deepcopy(weights).float()
    model.criterion = None
    model.__dict__.pop("class_weights", None)  # of another training; this one sets its own
    args = trainer.args
    fit_classes(
        model, trainer.data["names"], adopt=args.classes_from == "data", by_name=args.cls_remap is not False,
        single=bool(args.single_cls),
    )  # fmt: skip

    for parameter in model.parameters():  # a finished checkpoint is frozen; the trainer would warn for each parameter
        parameter.requires_grad_(parameter.is_floating_point())
    if args.dropout:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = args.dropout
    if reads_text(model.model[-1]):
        _follow_texts(trainer, model)
    return model


def _refuse_another_network(trainer: Any, loaded: Any) -> None:
    """Refuses what only another network could be trained for, or by.

    Raises:
        PruningError: If the data set has other channels or keypoints, the trainer builds another head, or the network
            is fused.
    """
    yaml = getattr(loaded, "yaml", None) or {}
    for name, kept in (("channels", yaml.get("channels", 3)), ("kpt_shape", yaml.get("kpt_shape"))):
        other = trainer.data.get(name, kept)
        if kept is not None and other != kept:
            raise PruningError(f"finetune=True keeps the network's {name} {kept}, but the data set has {other}")
    if any(kind.__name__ == "YOLOEPETrainer" for kind in type(trainer).__mro__):
        raise PruningError(
            "finetune=True keeps the network, linear probing gives it another head: leave out one of both"
        )
    if is_fused(loaded.model):
        raise PruningError("the loaded network is fused: it has no batch norm left to train; take the .pt before that")


def _follow_texts(trainer: Any, model: Any) -> None:
    """Lets a YOLO-World compare with the names of the data set, as its trainer does with the network it builds."""
    from ultralytics.models.yolo.world.train import WorldTrainer, on_pretrain_routine_end

    if not isinstance(trainer, WorldTrainer):
        return
    model.nc = model.yaml["nc"] = model.model[-1].nc = min(trainer.data["nc"], TEXTS)
    if on_pretrain_routine_end not in trainer.callbacks["on_pretrain_routine_end"]:
        trainer.add_callback("on_pretrain_routine_end", on_pretrain_routine_end)


def fit_classes(
    model: Any,
    names: Mapping[int, str] | Sequence[str],
    *,
    adopt: bool = False,
    by_name: bool = True,
    single: bool = False,
) -> None:
    """Brings the rows of a network's class layers to the order of a data set's classes, in place.

    Args:
        model: The network.
        names: The data set's classes.
        adopt: Whether classes that the network does not know begin anew, and those that the data set lacks go.
        by_name: False: as many classes as the network has are the same in the same order, whatever their names.
        single: Whether all classes of the data set count as one.

    Raises:
        PruningError: If the data set has other classes and `adopt` is not set, or they cannot be moved.
    """
    head = model.model[-1]
    layers = {id(layer): layer for _, layer in class_layers(head)}  # once each: levels may share one
    if type(head).__name__ == "Depth" or (reads_text(head) and not layers):
        return
    order = class_order(model, names, by_name=by_name, single=single)
    if order == list(range(len(order))) and len(order) == len(known_names(model)):
        return
    if not adopt and (NEW in order or len(order) != len(known_names(model))):
        raise PruningError(_other_classes(known_names(model), _listed(names)))
    if not layers:
        raise PruningError(
            f"a {type(head).__name__} has no class layer that is known here: list the classes of the data set in the "
            f"network's order, {', '.join(known_names(model))}"
        )
    reorder(model, order, _listed(names))
    if adopt:
        model.__dict__.pop("kept_classes", None)  # see `keep_classes`: they are others now


def check_classes(model: Any, names: Mapping[int, str] | Sequence[str], **how: bool) -> None:
    """Raises the error of `fit_classes` for a network that is not to be changed yet; `how` are its options."""
    fit_classes(copy.deepcopy(model), names, **how)


def check_order(model: Any, names: Mapping[int, str] | Sequence[str], data: str) -> None:
    """Refuses to measure, or to score, where labels would be counted as other classes.

    Args:
        model: The network, or its classes.
        names: The data set's classes.
        data: How the user named the data set.

    Raises:
        PruningError: If the classes are the network's, in another order.
    """
    present = list(model) if isinstance(model, Sequence) else known_names(model)
    order = order_of(present, _listed(names))
    if sorted(order) == list(range(len(present))) and order != sorted(order):
        place = next(i for i, row in enumerate(order) if i != row)
        raise PruningError(
            f"--data {data} lists the network's classes in another order: its class {place} is "
            f"'{_listed(names)[place]}', the network's is '{present[place]}'. Fine-tune the network on it "
            f"first, which moves them, or bring names and labels to the network's order"
        )


def class_order(
    model: Any, names: Mapping[int, str] | Sequence[str], *, by_name: bool = True, single: bool = False
) -> list[int]:
    """Returns for each class of a data set its row in the network, `NEW` where that has none.

    Names are compared as the release does, without case and outer blanks. Where one side has none but numbers, as a
    yaml with `nc` alone gives, and both have as many, the places say which is which.
    """
    return order_of(known_names(model), _listed(names), by_name=by_name, single=single)


def order_of(present: list[str], wanted: list[str], *, by_name: bool = True, single: bool = False) -> list[int]:
    """Returns for each wanted name its place among those present (see `class_order`)."""
    in_place = list(range(len(wanted)))
    unnamed = [all(name in {str(i), f"class_{i}"} for i, name in enumerate(some)) for some in (present, wanted)]
    if len(present) == len(wanted) and (not by_name or any(unnamed) or (single and len(present) == 1)):
        return in_place
    for key in (str, lambda name: str(name).strip().lower()):  # as written, if that tells more of them apart
        keys, others = [key(name) for name in present], [key(name) for name in wanted]
        if keys == others:
            return in_place
        exact = len(set(keys)) == len(keys) and len(set(others)) == len(others)
        if exact and (key is not str or set(keys) == set(others)):
            return [keys.index(name) if name in keys else NEW for name in others]
    places = {name: place for place, name in reversed(list(enumerate(present)))}  # names that occur twice: as written
    return [places.get(name, NEW) for name in wanted]


def known_names(model: Any) -> list[str]:
    """Returns the names of a network's classes by row; numbers where it does not name each of its rows."""
    names = _listed(getattr(model, "names", None) or [])
    rows = [layer.weight.shape[0] for _, layer in class_layers(model.model[-1])]
    return names if not rows or rows[0] == len(names) else [str(i) for i in range(rows[0])]


def _listed(names: Mapping[int, str] | Sequence[str]) -> list[str]:
    """Returns names by their number."""
    return [str(names[i]) for i in sorted(names)] if isinstance(names, Mapping) else [str(name) for name in names]


def _other_classes(present: list[str], wanted: list[str]) -> str:
    """Says how the classes of a network and a data set differ, and what to do."""
    more = [name for name in wanted if name.strip().lower() not in {other.strip().lower() for other in present}]
    less = [name for name in present if name.strip().lower() not in {other.strip().lower() for other in wanted}]

    def some(names: list[str]) -> str:
        return ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")

    sides = (("only it", more), ("only the network", less))
    differ = "; ".join(f"{who} has {some(names)}" for who, names in sides if names) or "a name occurs twice"
    if len(present) != len(wanted):
        found = (
            f"finetune=True keeps the network's {len(present)} classes, but the data set has {len(wanted)} ({differ})"
        )
        same = ""
    else:
        found = f"finetune=True keeps the network's classes, but the data set has others ({differ})"
        same = "; if they are the same in the same order, say cls_remap=False"
    return (
        f"{found}. To train it on them, say classes_from=data (finetune.py --classes-from data): rows of known names "
        f"are kept, the others begin anew{same}"
    )
