"""Traces a network: which channels it has, which are one, which must stay (see `tape.py` for how)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..channels import Balance, ChannelMap, Layer
from ..networks.wrappers import unwrapped
from .blocks import residual_blocks
from .counting import cells_at
from .deployed import Deployed, deployed
from .dormant import read_by_dormant
from .recorder import Mistaken, Recorder
from .records import LAYER_TYPES, Record, stored_in, tensors_in
from .sizes import Attribute, attributes_as_sizes
from .tape import Tape

# Outputs of which losses and decoders read the shape alone: the release's heads return their inputs under this key.
SHAPE_ONLY_OUTPUTS = {"feats"}


@contextlib.contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Sets a model so that a run leaves no trace in it: modes, statistics, attributes and the random state stay.

    Modules that hold others go to train mode, so that heads return their raw tensors; the others go to eval mode, so
    that batch norms keep their statistics and dropout does nothing.
    """
    before = {module: dict(vars(module)) for module in model.modules()}
    lists = [(value, list(value)) for state in before.values() for value in state.values() if type(value) is list]
    registered = [(module._buffers, dict(module._buffers)) for module in before]
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        for module in before:
            module.training = next(module.children(), None) is not None
            vars(module).pop("_compiled_call_impl", None)  # of model.compile(): the class has None
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            yield

    finally:
        for module, attributes in before.items():
            vars(module).clear()
            vars(module).update(attributes)
        for value, items in lists:
            value[:] = items
        for buffers, saved in registered:
            buffers.clear()
            buffers.update(saved)
        for buffer, numbers in values:
            buffer.data.copy_(numbers)


def image_shape(model: nn.Module, strides: int) -> tuple[int, int, int, int]:
    """Returns the shape (1, C, side, side) of an image whose side is `strides` times the network's largest stride."""
    side = strides * _stride(model)
    stem = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    return 1, getattr(model, "yaml", {}).get("channels", stem), side, side


def _stride(model: nn.Module) -> int:
    return max(int(max(torch.as_tensor(getattr(model, "stride", 32)).flatten().tolist())), 32)


def trace(model: nn.Module, image: torch.Tensor | None = None, *, imgsz: int | Sequence[int] = 640) -> ChannelMap:
    """Finds the channels of a network, the groups that they form, and which of them can be removed.

    Args:
        model: A network that takes images, alone or inside of a `YOLO`, DistributedDataParallel or `torch.compile`; it
            is left as it was.
        image: An image batch (N, C, H, W) to run it on. By default zeros, as small as the network's stride allows.
        imgsz: Side of the square image, or height and width, in pixels, for which costs will be given; that of `image`
            if there is one.

    Returns:
        The channels and what ties them.
    """
    model = unwrapped(model)
    parameter = next(model.parameters())
    wanted: tuple[int, ...] = image_shape(model, 1) if image is None else tuple(image.shape)
    if image is None:
        given = (imgsz, imgsz) if isinstance(imgsz, int) else (imgsz[0], imgsz[-1])
        wanted = (*wanted[:2], *(math.ceil(side / wanted[-1]) * wanted[-1] for side in given))
        image = torch.zeros(image_shape(model, 2), device=parameter.device, dtype=parameter.dtype)

    one = image.new_zeros(()).expand(1, *wanted[1:])
    found = deployed(model, one)
    with quiet(model):
        tape = _follow(model, image, found.inner if found else frozenset())
        cells = {name: record.cells // len(image) for name, record in tape.records.items() if record.cells}
        if one.shape[2:] != image.shape[2:]:
            known = found is not None and found.cells.keys() >= cells.keys() & found.names
            cells = (None if known else cells_at(model, cells, one)) or _scaled(cells, image, one)
        channel_map = _channel_map(model, tape, cells)
        channel_map = replace(channel_map, blocks=residual_blocks(model, tape, channel_map))
    return _as_deployed(model, channel_map, found) if found else channel_map


def _scaled(cells: dict[str, int], image: torch.Tensor, wanted: torch.Tensor) -> dict[str, int]:
    """Returns how often weights are used on an image of another size, as if all uses grew with its area."""
    growth = math.prod(wanted.shape[2:]) / math.prod(image.shape[2:])
    return {name: round(count * growth) if count > 1 else 1 for name, count in cells.items()}


def _as_deployed(model: nn.Module, channel_map: ChannelMap, found: Deployed) -> ChannelMap:
    """Notes which layers and other parameters are deployed, and how often these are used for an image."""
    layers = {
        name: replace(layer, deployed=name in found.names, cells=found.cells.get(name, layer.cells))
        if layer.kind != "Buffer"
        else layer
        for name, layer in channel_map.layers.items()
    }
    others = {name: tensor.numel() for name, tensor in model.named_parameters()}
    gone = [
        count
        for name, count in others.items()
        if name not in found.names and name not in layers and name.rpartition(".")[0] not in layers
    ]
    return replace(channel_map, layers=layers, training_only=sum(gone))


def _follow(model: nn.Module, image: torch.Tensor, inner: frozenset[str]) -> Tape:
    """Runs the network until no rule has counted on a width that turns out not to change.

    Args:
        model: The network.
        image: An image batch.
        inner: As `read_by_dormant` takes it.
    """
    fixed: frozenset[Attribute] = frozenset()
    while True:
        tape = Tape(model, fixed)
        try:
            with attributes_as_sizes(tape.names, LAYER_TYPES, tape.equations.use):
                output = Recorder(tape).run(model, image)
        except Mistaken:
            fixed |= _alike(model, tape.mistakes()) | tape.equations.valued
            continue

        for tensor in stored_in(tape.names):
            if item := tape.labelled(tensor):
                tape.union.pin(item.labels, "kept in an attribute")
        pairs, widths = tape.equations.solve()
        for labels in read_by_dormant(model, tape.inputs_of, inner):
            tape.union.pin(labels, "may be read by a layer that did not run")
        tape.finish(tensors_in(output, SHAPE_ONLY_OUTPUTS), tensors_in(output))

        if not tape.mistakes():
            tape.balances += pairs
            stored = {key: value for key, value in tape.widths.items() if key not in tape.equations.used}
            tape.widths = {**stored, **widths}
            return tape
        fixed |= tape.mistakes() | tape.equations.valued


def _alike(model: nn.Module, attributes: set[Attribute]) -> set[Attribute]:
    """Returns these attributes and their like in modules of the same class, whose code does the same with them."""
    modules = dict(model.named_modules())
    found = set(attributes)
    for attribute in attributes:
        for name, module in modules.items():
            if type(module) is type(modules[attribute.module]) and not isinstance(module, LAYER_TYPES):
                value, index = vars(module).get(attribute.name), attribute.index
                if index is not None:
                    value = value[index] if isinstance(value, (list, tuple)) and len(value) > index else None
                if isinstance(value, int):
                    found.add(replace(attribute, module=name, value=int.__index__(value)))
    return found


def _channel_map(model: nn.Module, tape: Tape, cells: dict[str, int]) -> ChannelMap:
    """Turns what a run noted into a `ChannelMap`."""
    group_of, channels, pinned = tape.union.groups()
    output_tensor = {name: tensor_id for tensor_id, name in tape.made_by.items()}
    layers = {
        name: _layer(tape, name, group_of, cells.get(name, 1), output_tensor.get(name))
        for name, record in tape.records.items()
        if record.module is not None or any(g not in pinned and channels[g] for g in group_of[record.outputs])
    }  # all others are parameters that stay as they are

    counted = sum(parameter.numel() for name in layers for parameter in _parameters(model, name))
    known = {part.tobytes() for layer in layers.values() for part in (layer.inputs, layer.outputs)}
    parts = {part.tobytes(): part for labels in tape.parts.values() if (part := group_of[labels]).size}
    return ChannelMap(
        layers=layers,
        channels=channels,
        pinned=pinned,
        balances=tuple(Balance(tuple(group_of[part] for part in parts)) for parts in tape.balances),
        widths={(key.module, key.place): group_of[labels] for key, labels in tape.widths.items()},
        unknown=dict(tape.unknown),
        other_parameters=sum(parameter.numel() for parameter in model.parameters()) - counted,
        parts=tuple(  # a pinned channel is there in any case
            part for key, part in parts.items() if key not in known and pinned.keys().isdisjoint(part.tolist())
        ),
    )


def _layer(tape: Tape, name: str, group_of: np.ndarray, cells: int, output: int | None) -> Layer:
    """Returns a layer that a run noted, with the groups of its labels.

    Args:
        tape: The notes of the run.
        name: The layer's name.
        group_of: The group of each label, of shape (labels,).
        cells: How often its weights are used for one image.
        output: The id of the tensor that it returned last.
    """
    record = tape.records[name]
    return Layer(
        name=name,
        kind=record.kind,
        inputs=group_of[record.inputs],
        outputs=group_of[record.outputs],
        conv_groups=getattr(record.module, "groups", 1),
        kernel_cells=math.prod(getattr(record.module, "kernel_size", (1,))),
        cells=cells,
        bias=getattr(record.module, "bias", None) is not None,
        norm=record.norm if _alone(tape, record, output) else None,
    )


def _parameters(model: nn.Module, name: str) -> list[nn.Parameter]:
    """Returns the parameters of the layer with this name, or the parameter itself."""
    owner, _, last = name.rpartition(".")
    found = getattr(model.get_submodule(owner), last)
    if isinstance(found, nn.Module):
        return list(found.parameters(recurse=False))
    return [found] if isinstance(found, nn.Parameter) else []


def _alone(tape: Tape, record: Record, output: int | None) -> bool:
    """Whether a layer's output goes to its batch norm and nowhere else, and nothing else goes to that norm."""
    norm = tape.records.get(record.norm or "")
    return norm is not None and output is not None and norm.calls == record.calls == tape.reads[output] == 1
