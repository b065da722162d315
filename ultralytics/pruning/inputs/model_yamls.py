"""Model yamls that a user provides: read, checked row by row (`model_rows.py`), built without memory, then built."""

from __future__ import annotations

import contextlib
import copy
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import PruningError, first_line, typed_line
from ..files.places import YAML
from ..release import quiet_release
from ..trust import restricted
from .documents import brief, found_in, read_yaml
from .layer_names import check_layers
from .model_rows import check_rows

MOST_MODULES = 100_000
MOST_PARAMETERS_BUILT = 10**9  # seven times the release's largest
LARGEST_TENSOR = 2**29  # values that an image of `BUILD_SIDE` may make of itself in one layer: 2 GB
BUILD_SIDE = 256  # pixels of the image that the release runs once as it builds a network


def is_model_yaml(name: str) -> bool:
    """Whether a name is that of a yaml rather than a checkpoint."""
    return name.endswith(YAML)


def model_yaml(name: str, option: str) -> dict[str, Any]:
    """Returns the content of a model yaml: a path, or a name of the release such as `yolov8n.yaml`.

    Args:
        name: The yaml; the scale (n, s, m, l, x) may stand in its name.
        option: The option that named it, for the error.

    Raises:
        PruningError: If there is no yaml of that name, or it does not describe a network that can be built.
    """
    from ultralytics.nn.tasks import yaml_model_load

    what = f"{option} {name}"
    file = _file_of(name, what)
    content = read_yaml(file, what)
    if restricted() and isinstance(content, dict):  # first: the line says how to trust it
        check_layers(content, f"{what}: ")
    with found_in(what, "no model yaml"):
        check_rows(content)

    try:
        config = yaml_model_load(name)
    except Exception as error:  # the file changed meanwhile, or the release took another one of that name
        raise PruningError(f"{what}: {first_line(error)}") from error
    if {**config, "scale": None, "yaml_file": None} != {**content, "scale": None, "yaml_file": None}:
        raise PruningError(f"{what}: several files have this name; give the path of one")
    with found_in(what, "no model yaml"):
        if config.get("scales") and config["scale"] and config["scale"] not in config["scales"]:
            scales = ", ".join(map(brief, config["scales"]))
            raise ValueError(f"its name says scale '{config['scale']}', there are {scales}")
    if not file.resolve().is_relative_to(_release()):  # the release's yamls are known to build
        _build_without_memory(config, what)
    return config


def build(name: str, option: str) -> Any:
    """Builds the network of a model yaml, with random weights.

    Raises:
        PruningError: As `model_yaml`, or if the release fails to build it.
    """
    from ultralytics.models import RTDETR, YOLO

    config = model_yaml(name, option)
    try:
        with _activation_kept():
            return (RTDETR if config["head"][-1][2] == "RTDETRDecoder" else YOLO)(name).model
    except OSError as error:  # e.g. weights of a torchvision backbone
        raise PruningError(f"{option} {name} cannot be built: {error}; give a checkpoint instead") from error
    except Exception as error:  # whatever the release raises
        raise PruningError(f"{option} {name} cannot be built: {typed_line(error)}") from error


def _file_of(name: str, what: str) -> Path:
    """Returns the file that the release takes for a name: the name as written, else without the letter of its scale."""
    from ultralytics.utils.checks import check_yaml

    if not is_model_yaml(name) or "://" in name:
        raise PruningError(f"{what} is not a model yaml: name a .yaml file, or one of the release, e.g. yolov8n.yaml")
    p6 = re.sub(r"^(yolov[58][nsmlx])6$", r"\1-p6", Path(name).stem)
    path = Path(name).with_name(p6 + Path(name).suffix)
    unscaled = path.with_name(re.sub(r"^(.*?\d)[nslmx](?!\d)", r"\1", path.stem) + path.suffix)
    for candidate in (path, unscaled):
        if Path(candidate).is_dir():
            raise PruningError(f"{what} is a folder, not a model yaml")
        with contextlib.suppress(Exception):
            if found := check_yaml(str(candidate), hard=False):
                return Path(found)
    raise PruningError(f"{what}: no such model yaml, neither a file nor one of the release")


def _release() -> Path:
    """Returns the folder of the installed release."""
    from ultralytics.utils import ROOT

    return Path(ROOT).resolve()


@contextlib.contextmanager
def _activation_kept() -> Iterator[None]:
    """Restores the release's default activation, which stays changed where building fails."""
    from ultralytics.nn.modules import Conv

    before = Conv.default_act
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors without elements: an error follows
            yield
    finally:
        Conv.default_act = before


class _TooLargeError(Exception):
    """A network that is too large to be built here."""


@contextlib.contextmanager
def _counted() -> Iterator[None]:
    """Stops a network that grows beyond the bounds while it is built, or whose tensors do while it runs."""
    from torch.nn.modules import module as hooks

    count = {"modules": 0, "parameters": 0}

    def add(name: str, amount: int, most: int) -> None:
        count[name] += amount
        if count[name] > most:
            raise _TooLargeError(f"more than {most:,} {name}")

    def on_parameter(owner: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        add("parameters", parameter.numel() if parameter is not None else 0, MOST_PARAMETERS_BUILT)

    def on_output(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.numel() > LARGEST_TENSOR:
            raise _TooLargeError(f"a tensor of shape {tuple(output.shape)} for an image of {BUILD_SIDE} pixels")

    handles = [
        hooks.register_module_module_registration_hook(lambda *_: add("modules", 1, MOST_MODULES)),
        hooks.register_module_parameter_registration_hook(on_parameter),
        hooks.register_module_forward_hook(on_output),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _build_without_memory(config: dict[str, Any], what: str) -> None:
    """Builds a network on the meta device, and runs it there as far as its modules allow.

    Raises:
        PruningError: If it cannot be built, or is too large.
    """
    from ultralytics.nn.tasks import parse_model

    config = copy.deepcopy(config)
    for row in config["backbone"] + config["head"]:
        if row[2] == "TorchVision":  # the third argument names weights, which it would fetch
            row[3][2:3] = [None]
    channels = config.get("channels") or 3
    try:  # what the release warns of is said again by the build that follows
        with quiet_release(logging.ERROR), _counted(), _activation_kept(), torch.device("meta"):
            layers, _ = parse_model(config, ch=channels, verbose=False)
            try:
                _run(layers, torch.zeros(1, channels, BUILD_SIDE, BUILD_SIDE))
                return
            except (NotImplementedError, TypeError, AttributeError, RuntimeError) as error:
                # What cannot run without memory, or on an image alone, is left to the release's build.
                if isinstance(error, RuntimeError) and not _lacks_memory(error):
                    raise
    except _TooLargeError as error:
        raise PruningError(f"{what} describes a network that is too large to be built here: {error}") from error
    except Exception as error:  # whatever modules raise over their arguments
        raise PruningError(f"{what} does not describe a network that can be built: {typed_line(error)}") from error


def _lacks_memory(error: RuntimeError) -> bool:
    """Whether PyTorch raised an error only because tensors on the meta device hold no values.

    It has no type of its own for that: `Tensor.item()` and a constant on the CPU beside the image raise a plain
    RuntimeError, as wrong shapes do, and an operation that the device lacks a NotImplementedError, as a module without
    `forward` does. Only the text tells them apart, which names the device (as of PyTorch 2.14).
    """
    return "meta" in str(error).lower()


def _run(layers: nn.Sequential, image: torch.Tensor) -> None:
    """Runs the rows of a network as the release does when it builds one; the head of a detector does not decode."""
    from ultralytics.nn.modules import Detect

    layers.eval()
    layers[-1].training = isinstance(layers[-1], Detect)
    outputs: list[Any] = []
    for layer in layers:
        sources: Any = layer.f
        last = outputs[-1] if outputs else image
        picked = [last if j == -1 else outputs[j] for j in (sources if isinstance(sources, list) else [sources])]
        try:
            outputs.append(layer(picked if isinstance(sources, list) else picked[0]))
        except Exception as error:  # some heads need more than the image
            if layer is not layers[-1] or isinstance(error, _TooLargeError):
                raise
