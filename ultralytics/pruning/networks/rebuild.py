"""Whether a network would survive being built anew from its yaml, as the release does before it trains.

The release builds what the yaml says and copies over what fits by name and shape. Whatever else the network holds, a
width, a block that was taken out, another activation, would be gone without a word. So the network and its yaml are
compared in both directions: modules, their classes, their shapes, and the settings that decide what they compute.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..errors import first_line
from .classes import ONE_TO_MANY, ONE_TO_ONE, class_layers, reads_text

PLANS_ATTRIBUTE = "pruning_plans"
# Settings of a module that its yaml does not decide: set while training, predicting or exporting, or bookkeeping.
NOT_OF_THE_YAML = {"training", "inplace", "eps", "momentum", "p", "np", "type", "export", "format", "dynamic"}
# Of a layer with a row for each class: `load()` of the release copies the rows by name, whatever their number.
OF_THE_CLASSES = {"out_channels", "out_features", "num_embeddings"}
# Backbones of torchvision that are built with auxiliary classifiers, and lose them when weights are loaded.
WITH_AUXILIARIES = ("googlenet", "inception")


def is_pruned(model: nn.Module) -> bool:
    """Whether a rebuild from the yaml would lose something of a network: widths, blocks, layers, their settings."""
    return bool(getattr(model, PLANS_ATTRIBUTE, None)) or differing_layer(model) is not None


def refusal(model: nn.Module) -> str:
    """Returns, in words, why a network is not to be rebuilt (see `is_pruned`)."""
    why = differing_layer(model)
    if getattr(model, PLANS_ATTRIBUTE, None):
        return f"is pruned ({why or 'it carries a pruning plan'}), and would be rebuilt dense from its yaml"
    return f"is not what its yaml says ({why}), and would be rebuilt from that"


def differing_layer(model: nn.Module) -> str | None:
    """Returns the first difference between a network and its yaml, in words, or None.

    Nothing is fetched, no weights are made, and no code in the yaml is evaluated: its network is built without memory.
    """
    model = getattr(model, "student_model", model)  # of a training with a teacher
    yaml, trained = getattr(model, "yaml", None), getattr(model, "model", None)
    if not yaml or not isinstance(trained, nn.Sequential):
        return None
    try:
        if unknown := _unregistered(yaml):
            return (
                f"its yaml names {unknown}, which is not registered in this process: set "
                f"ultralytics.nn.tasks.{unknown}, see docs/custom-modules.md"
            )
        expected = _built_like(trained, yaml)
    except Exception as error:  # whatever constructors raise
        return f"its yaml cannot be built ({first_line(error)})"
    return _difference(trained, expected)


def _unregistered(yaml: dict[str, Any]) -> str | None:
    """Returns the first module name that the release would not find, or None."""
    import torchvision

    from ultralytics.nn import tasks

    for _, _, name, _ in (*yaml["backbone"], *yaml["head"]):
        owner, _, last = str(name).rpartition(".")
        place = {"nn": nn, "torchvision.ops": torchvision.ops}.get(owner, tasks)
        if not hasattr(place, last if place is not tasks else str(name)):
            return str(name)
    return None


def _built_like(trained: nn.Sequential, yaml: dict[str, Any]) -> nn.Sequential:
    """Returns the yaml's network, with the class branch of the class count that `trained` was first trained for.

    That width follows the number of classes, and `load()` of the release gives it to a new network.
    """
    classes = yaml.get("nc") or getattr(trained[-1], "nc", None)
    expected = _build({**yaml, "nc": classes})
    width, wanted = _class_width(trained[-1]), _class_width(expected[-1])
    adapts = width and wanted and width != wanted and not reads_text(trained[-1])
    return _build({**yaml, "nc": width}) if adapts else expected


def _class_width(head: Any) -> int | None:
    """Returns how many channels the class layer of a Detect head reads, or None."""
    from ultralytics.nn.modules import Detect

    if not isinstance(head, Detect):
        return None
    for branch in (ONE_TO_MANY, ONE_TO_ONE):
        if layers := getattr(head, branch, None):
            return getattr(layers[0][-1], "in_channels", None)
    return None


def _build(yaml: dict[str, Any]) -> nn.Sequential:
    """Builds a yaml's layers on the meta device, or, where a constructor needs numbers, on the CPU."""
    from ultralytics.nn.tasks import parse_model

    content = copy.deepcopy(yaml)
    for _, _, name, args in (*content["backbone"], *content["head"]):
        if name == "TorchVision" and len(args) > 2:
            args[2] = None  # pretrained weights, which would be downloaded
    channels = content.get("channels") or content.get("ch") or 3
    with _as_it_was():
        try:
            with torch.device("meta"):
                return parse_model(copy.deepcopy(content), ch=channels, verbose=False)[0]
        except Exception:
            with torch.random.fork_rng(devices=[]):
                return parse_model(content, ch=channels, verbose=False)[0]


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Lets the release build a network without evaluating code, and restores what that leaves behind in the process."""
    import warnings

    from ultralytics.nn import modules, tasks

    heads = [kind for kind in vars(modules).values() if isinstance(kind, type) and "legacy" in vars(kind)]
    legacy = [(kind, kind.legacy) for kind in heads]  # type: ignore[attr-defined]
    before = {kind for kind, _ in legacy}
    activation, thread = modules.Conv.default_act, tasks._SafeLoad._local
    restricted = getattr(thread, "active", False)
    thread.active = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        thread.active, modules.Conv.default_act = restricted, activation
        for kind in vars(modules).values():  # set on the class that the yaml names, a subclass perhaps
            if isinstance(kind, type) and "legacy" in vars(kind) and kind not in before:
                del kind.legacy  # type: ignore[attr-defined]
        for kind, value in legacy:
            kind.legacy = value  # type: ignore[attr-defined]


def _difference(trained: nn.Sequential, expected: nn.Sequential) -> str | None:
    """Compares two networks, in both directions."""
    last = len(trained) - 1
    fused = is_fused(trained)
    by_text = last >= 0 and reads_text(trained[-1])
    rows = {f"{last}.{name}" for name, _ in class_layers(trained[-1])} if last >= 0 else set()
    skipped = tuple(f"{i}." for i, layer in enumerate(expected) if _has_auxiliaries(layer, trained))
    skipped += (f"{last}.",) if by_text or (fused and last >= 0) else ()  # a head for text is changed as it is used
    found, wanted = (dict(network.named_modules(remove_duplicate=False)) for network in (trained, expected))
    for name in dict.fromkeys((*wanted, *found)):
        if not name or name.startswith(skipped) or (fused and (name not in found or name not in wanted)):
            continue
        if name not in found:
            return f"model.{name}, a {type(wanted[name]).__name__} of its yaml, is not there"
        if name not in wanted:
            return f"model.{name}, a {type(found[name]).__name__}, is not in its yaml"
        ignored = OF_THE_CLASSES if name in rows else set()
        if words := _of_module(found[name], wanted[name], fused, ignored, is_head=name == str(last)):
            return f"model.{name}{words}"
    return _of_weights(trained, expected, skipped) if skipped else None


def _of_module(found: nn.Module, wanted: nn.Module, fused: bool, ignored: set[str], *, is_head: bool) -> str | None:
    """Compares two modules without their children."""
    if fused and type(wanted).__name__ == "Conv" and isinstance(found, nn.Conv2d):
        return None  # a Conv with its batch norm, of a RepVGGDW
    if type(found).__name__ != type(wanted).__name__:
        return f" is a {type(found).__name__}, its yaml says {type(wanted).__name__}"
    if words := _of_shapes(found, wanted, fused, rows=1 if ignored else 0):
        return words

    if is_head:  # holds what is set at run time; its layers tell the rest
        ignored = ignored | (vars(found).keys() - {"f", "nl"})
    for name, value in _settings(wanted).items():
        other = _settings(found).get(name, value)
        if name not in ignored and other != value and not (fused and name == "bias"):
            return f".{name} is {other}, its yaml says {value}"
    return None


def _of_shapes(found: nn.Module, wanted: nn.Module, fused: bool, *, rows: int) -> str | None:
    """Compares the shapes of two modules' tensors, but for their first `rows` dimensions."""
    tensors = [
        {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        for module in (found, wanted)
    ]
    for name in dict.fromkeys((*tensors[1], *tensors[0])):
        one, other = (of_module.get(name) for of_module in tensors)
        if one is None or other is None:
            if fused or name not in {"weight", "bias", *found._parameters, *wanted._parameters}:
                continue  # a convolution has absorbed its batch norm; a buffer that another release lacks
            return f".{name} is {'not there' if one is None else 'not in its yaml'}"
        if one.shape[rows:] != other.shape[rows:]:
            return f".{name} is {tuple(one.shape)}, its yaml says {tuple(other.shape)}"
    return None


def _settings(module: nn.Module) -> dict[str, Any]:
    """Returns the plain attributes of a module, lists as tuples; none of those that the yaml does not decide."""
    found = {}
    for name, value in vars(module).items():
        value = tuple(value) if isinstance(value, list) else value
        parts = value if isinstance(value, tuple) else (value,)
        if name[0] != "_" and name not in NOT_OF_THE_YAML and all(isinstance(v, (int, float, str)) for v in parts):
            found[name] = value
    return found


def is_fused(network: nn.Module) -> bool:
    """Whether batch norms were absorbed by the convolutions before them, as the release does to predict."""
    from ultralytics.nn.modules import Conv

    convs = [module for module in network.modules() if isinstance(module, Conv)]
    return bool(convs) and not any(hasattr(module, "bn") for module in convs)


def _has_auxiliaries(layer: nn.Module, trained: nn.Sequential) -> bool:
    """Whether a layer is a backbone that is built otherwise without its weights; both are then of one class."""
    network = getattr(layer, "m", None)
    kind = type(network).__name__.lower()
    children = {type(child).__name__.lower() for child in network.children()} if network is not None else set()
    return type(layer).__name__ == "TorchVision" and any(
        word in name for word in WITH_AUXILIARIES for name in (kind, *children)
    )


def _of_weights(trained: nn.Sequential, expected: nn.Sequential, names: tuple[str, ...]) -> str | None:
    """Compares the shapes of weights that both networks have, in layers that are not compared otherwise."""
    wanted = dict(expected.named_parameters())
    survives = tuple(f"{len(trained) - 1}.{branch}." for branch in (ONE_TO_MANY, ONE_TO_ONE))
    for name, parameter in trained.named_parameters():
        if not name.startswith(names) or name.startswith(survives) or parameter.ndim < 2 or name not in wanted:
            continue
        if (shape := tuple(wanted[name].shape)) != tuple(parameter.shape):
            return f"model.{name} is {tuple(parameter.shape)}, its yaml says {shape}"
    return None
