"""Runs a network once on a dummy image and follows its channels; knows no operation (see `rules.py`).

Source: the approach is this project's own. Instead of guessing the dependencies between layers from the autograd
graph, it lets every channel carry a label through the forward pass.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name

from .channels import Balance, ChannelMap, Labels, Layer
from .rules import RULES

# Functions that return no tensor, but read or write the values of one.
VALUE_READERS = {"item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "__setitem__"}
LAYER_TYPES = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)
# Outputs of which losses and decoders read the shape alone: the release's heads return their inputs under this key.
SHAPE_ONLY_OUTPUTS = {"feats"}


@dataclass(frozen=True)
class Labelled:
    """The labels of one tensor: `labels[i]` is that of channel i of dimension `dim`."""

    tensor: torch.Tensor  # kept alive, since tensors are known by their id
    dim: int
    labels: np.ndarray


@dataclass
class Record:
    """A layer while the network runs; becomes a `Layer`."""

    module: nn.Module
    inputs: np.ndarray
    outputs: np.ndarray
    cells: int = 0
    calls: int = 0
    grows: bool = True
    norm: str | None = None


def tensors_in(value: Any, skip: frozenset[str] | set[str] = frozenset()) -> Iterator[torch.Tensor]:
    """Yields the tensors in nested lists, tuples and dicts, but for dict entries with a key in `skip`."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key not in skip:
                yield from tensors_in(item, skip)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item, skip)


class Tracer(TorchFunctionMode):
    """Sees every torch function that the network calls, and lets that function's rule move the labels."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.union = Labels()
        self.records: dict[str, Record] = {}
        self.balances: list[tuple[np.ndarray, ...]] = []
        self.widths: dict[tuple[str, str], np.ndarray] = {}
        self.unknown: Counter[str] = Counter()
        self._labelled: dict[int, Labelled] = {}
        self._made_by: dict[int, str] = {}  # tensor id -> the layer that returned it
        self._reads: Counter[int] = Counter()
        self._running: list[nn.Module] = []
        self._names = {module: name for name, module in model.named_modules()}
        self._layers: dict[int, nn.Module | None] = {}
        for module in model.modules():
            if isinstance(module, LAYER_TYPES):
                for tensor in (module.weight, getattr(module, "running_mean", None)):
                    if tensor is not None:  # a weight that two layers share is nobody's, so that neither is cut
                        self._layers[id(tensor)] = None if id(tensor) in self._layers else module

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Runs the function and its rule (see `torch.overrides.TorchFunctionMode`)."""
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        tensors = {id(tensor) for tensor in tensors_in([args, kwargs])}
        inputs = [self._labelled[tensor] for tensor in tensors if tensor in self._labelled]
        concerns_channels = inputs or not tensors.isdisjoint(self._layers)
        if not concerns_channels or not self._depends_on_values(function, result):
            return result
        self._reads.update({id(item.tensor) for item in inputs})
        rule = RULES.get(function)
        if rule is None or not rule(self, args, kwargs, result):
            name = resolve_name(function) or getattr(function, "__name__", str(function))
            self.unknown[name] += 1
            for item in inputs:
                self.union.pin(item.labels, f"operation without a rule: {name}")
        return result

    @staticmethod
    def _depends_on_values(function, result: Any) -> bool:
        """Whether a result carries values: shapes, devices and the like say nothing about a channel's content."""
        has_tensor = next(tensors_in(result), None) is not None
        return has_tensor or getattr(function, "__name__", "") in VALUE_READERS

    # What rules call.

    def labelled(self, tensor: Any) -> Labelled | None:
        """Returns a tensor's labels, or None if it carries none."""
        return self._labelled.get(id(tensor))

    def put(self, tensor: torch.Tensor, dim: int, labels: np.ndarray) -> bool:
        """Gives a tensor of size `len(labels)` at `dim` its labels; True, so that a rule can end with it."""
        assert tensor.shape[dim] == len(labels), (tuple(tensor.shape), dim, len(labels))
        self._labelled[id(tensor)] = Labelled(tensor, dim, labels)
        return True

    def layer(self, tensor: Any) -> Any:
        """Returns the layer that owns a weight or running mean."""
        return self._layers.get(id(tensor))

    def inputs(self, tensor: torch.Tensor, dim: int) -> np.ndarray:
        """Returns the labels of a layer's input; pinned new ones where it carries none on its channel dimension."""
        item = self.labelled(tensor)
        if item is not None and item.dim == dim:
            return item.labels
        if item is not None:
            self.union.pin(item.labels, "read along another dimension")
        labels = self.union.new(tensor.shape[dim], channel=False)
        self.union.pin(labels, "not made by a layer")
        return labels

    def record(
        self,
        module: nn.Module,
        inputs: np.ndarray,
        result: torch.Tensor,
        *,
        passes: bool = False,
        used_on: torch.Tensor | None = None,
    ) -> np.ndarray:
        """Notes one run of a layer and returns the labels of its output channels.

        Args:
            module: The layer.
            inputs: Labels of its input channels.
            result: What it returned, (N, C, H, W), or (N, ..., C) of a linear layer.
            passes: Whether it passes its input's labels on, as a batch norm does, instead of making channels.
            used_on: The tensor with a cell for each use of a weight; `result` by default.
        """
        name = self._names[module]
        last = isinstance(module, nn.Linear)
        width = result.shape[-1 if last else result.ndim - 3]
        known = self.records.get(name)
        if known is None:
            known = Record(module, inputs, inputs if passes else self.union.new(width))
            self.records[name] = known
        else:  # a shared layer: one set of filters for all its inputs
            self.union.unite(known.inputs, inputs)
        cells_of = result if used_on is None else used_on
        cells = cells_of[0].numel() // cells_of.shape[-1] if last else int(np.prod(cells_of.shape[-2:]))
        known.cells += cells
        known.calls += 1
        known.grows = known.grows and cells > 1
        self._made_by[id(result)] = name
        return known.outputs

    def normalises(self, module: nn.Module, tensor: torch.Tensor) -> None:
        """Notes that a batch norm reads the output of a layer directly."""
        made_by = self._made_by.get(id(tensor))
        if made_by:
            self.records[made_by].norm = self._names[module]

    def stored_width(self, attribute: str, labels: np.ndarray) -> None:
        """Notes an attribute of the running module that holds the number of these channels."""
        module = self._running[-1] if self._running else None
        if module is not None and getattr(module, attribute, None) == len(labels):
            self.widths[self._names[module], attribute] = labels

    # The run.

    def run(self, model: nn.Module, image: torch.Tensor) -> None:
        """Runs the network on `image` of shape (N, C, H, W) and pins what goes in and comes out."""
        labels = self.union.new(image.shape[1], channel=False)
        self.union.pin(labels, "image")
        self.put(image, 1, labels)

        def leave(*_: Any) -> None:
            self._running.pop()

        before = nn.modules.module.register_module_forward_pre_hook(lambda module, _: self._running.append(module))
        after = nn.modules.module.register_module_forward_hook(leave)
        try:
            with self:
                output = model(image)
        finally:
            before.remove()
            after.remove()
        for tensor in tensors_in(output, SHAPE_ONLY_OUTPUTS):
            self._reads[id(tensor)] += 1
            if item := self.labelled(tensor):
                self.union.pin(item.labels, "output")

    def _alone(self, record: Record, output: int) -> bool:
        """Whether a layer's output goes to its batch norm and nowhere else, and nothing else goes to that norm."""
        norm = self.records.get(record.norm or "")
        return norm is not None and norm.calls == record.calls == self._reads[output] == 1

    def channel_map(self, model: nn.Module, image_scale: float) -> ChannelMap:
        """Turns what was noted into a `ChannelMap`."""
        group_of, channels, pinned = self.union.groups()
        output_tensor = {name: tensor_id for tensor_id, name in self._made_by.items()}
        layers = {}
        for name, record in self.records.items():
            module = record.module
            kernel = getattr(module, "kernel_size", (1, 1))
            layers[name] = Layer(
                name=name,
                kind=next(kind.__name__ for kind in LAYER_TYPES if isinstance(module, kind)),
                inputs=group_of[record.inputs],
                outputs=group_of[record.outputs],
                conv_groups=getattr(module, "groups", 1),
                kernel_cells=int(np.prod(kernel)),
                cells=record.cells,
                grows=record.grows,
                bias=module.bias is not None,
                norm=record.norm if self._alone(record, output_tensor[name]) else None,
            )
        in_layers = sum(p.numel() for r in self.records.values() for p in r.module.parameters(recurse=False))
        return ChannelMap(
            layers=layers,
            channels=channels,
            pinned=pinned,
            balances=tuple(Balance(tuple(group_of[part] for part in parts)) for parts in self.balances),
            widths={key: group_of[labels] for key, labels in self.widths.items()},
            unknown=dict(self.unknown),
            other_parameters=sum(p.numel() for p in model.parameters()) - in_layers,
            image_scale=image_scale,
        )


@contextlib.contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Sets a model so that a run leaves no trace in it: modes, statistics and the random state stay as they were.

    Modules that hold others go to train mode, so that heads return their raw tensors; the others go to eval mode, so
    that batch norms keep their statistics and dropout does nothing.
    """
    modes = {module: module.training for module in model.modules()}
    random_state = torch.get_rng_state()
    try:
        for module in modes:
            module.training = next(module.children(), None) is not None
        with torch.no_grad():
            yield
    finally:
        torch.set_rng_state(random_state)
        for module, mode in modes.items():
            module.training = mode


def image_shape(model: nn.Module, strides: int) -> tuple[int, int, int, int]:
    """Returns the shape (1, C, side, side) of an image whose side is `strides` times the network's largest stride."""
    stride = int(max(torch.as_tensor(getattr(model, "stride", 32)).flatten().tolist()))
    side = strides * max(stride, 32)
    return 1, getattr(model, "yaml", {}).get("channels", 3), side, side


def trace(model: nn.Module, image: torch.Tensor | None = None, *, imgsz: int = 640) -> ChannelMap:
    """Finds the channels of a network, the groups that they form, and which of them can be removed.

    Args:
        model: A network that takes images; it is left as it was.
        image: An image batch (N, C, H, W) to run it on. By default zeros, as small as the network's stride allows.
        imgsz: Side of the square image, in pixels, for which costs will be given.

    Returns:
        The channels and what ties them.
    """
    parameter = next(model.parameters())
    traced_cells = 0
    if image is None:
        image = torch.zeros(image_shape(model, 2), device=parameter.device, dtype=parameter.dtype)
        traced_cells = image.shape[-2] * image.shape[-1]
    tracer = Tracer(model)
    with quiet(model):
        tracer.run(model, image)
    return tracer.channel_map(model, image_scale=imgsz * imgsz / traced_cells if traced_cells else 1.0)
