"""What is noted of a network while it runs: the labels of its tensors, its layers, what ties them. Rules write here.

Source: none but this project. Instead of guessing the dependencies between layers from the autograd
graph, it lets every channel carry a label through the forward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..channels import FIXED, Labels
from .equations import Equations
from .records import LAYER_TYPES, Labelled, Record, owners_of
from .sizes import LAYER_WIDTHS, Attribute, Extent, Size, sizes_in


class Tape:
    """The notes of one run.

    Attributes:
        union: The labels.
        equations: What sizes that the code names say of the labels.
        records: The layers by name, in the order of their first run.
        balances: Parts of the channels that must keep equally many.
        widths: Attributes that hold a width but take part in no size.
        parts: The label vectors of all tensors, each once, by their bytes.
        unknown: How often each operation without a rule met channels.
        fixed: Attributes of which an earlier run found that they cannot change.
        relied: Attributes of which a rule supposed that they can.
        running: The modules that are running, the innermost last.
        made_by: The layer that returned a tensor, by the tensor's id.
        reads: How often a tensor was read, by its id.
        inputs_of: Labels of the tensors that went into each module that ran.
        passed: Modules that returned a tensor of their input's shape, with the input, and the result.
        written: Ids of tensors that were changed in place.
        names: The modules' names.
        weights: The layer that owns each weight, by id; None for one that two modules share.
        paths: The path of each other parameter and buffer, by id; None once it has labels.
        unseen: Whether a tensor came up that no function returned, e.g. out of a compiled function.
    """

    def __init__(self, model: nn.Module, fixed: frozenset[Attribute] = frozenset()) -> None:
        self.union = Labels()
        self.equations = Equations(self.union)
        self.records: dict[str, Record] = {}
        self.balances: list[tuple[np.ndarray, ...]] = []
        self.widths: dict[Attribute, np.ndarray] = {}
        self.parts: dict[bytes, np.ndarray] = {}
        self.unknown: Counter[str] = Counter()
        self.fixed = fixed
        self.relied: set[Attribute] = set()

        self.running: list[nn.Module] = []
        self.made_by: dict[int, str] = {}
        self.reads: Counter[int] = Counter()
        self.inputs_of: dict[nn.Module, list[np.ndarray]] = {}
        self.passed: dict[str, tuple[nn.Module, Labelled, Labelled]] = {}
        self.written: set[int] = set()
        self.names = {module: name for name, module in model.named_modules()}
        self._labelled: dict[int, Labelled] = {}
        self._touched: dict[str, str] = {}
        self.unseen = False
        self.weights, self.paths = owners_of(model)

    def labelled(self, tensor: Any) -> Labelled | None:
        """Returns a tensor's labels, or None if it carries none.

        A parameter or buffer with one dimension that is longer than 1, and that belongs to no layer, gets labels of its
        own when it is first asked for: it may hold a value for each channel.
        """
        item = self._labelled.get(id(tensor))
        name = self.paths.get(id(tensor))
        if item is None and name is not None:
            self.paths[id(tensor)] = None
            dims = [dim for dim, size in enumerate(tensor.shape) if size > 1]
            if len(dims) == 1:
                kind = "Parameter" if isinstance(tensor, nn.Parameter) else "Buffer"
                labels = self.union.new(tensor.shape[dims[0]], channel=False)
                self.records[name] = Record(kind, labels, labels)
                item = self._labelled[id(tensor)] = Labelled(tensor, dims[0], labels)
        return item

    def put(self, tensor: torch.Tensor, dim: int, labels: np.ndarray, *, silent: bool = True) -> bool:
        """Gives a tensor of size `len(labels)` at `dim` its labels; True, so that a rule can end with it."""
        assert tensor.shape[dim] == len(labels), (tuple(tensor.shape), dim, len(labels))
        self._labelled[id(tensor)] = Labelled(tensor, dim % tensor.ndim, labels, silent)
        self.parts.setdefault(labels.tobytes(), labels)
        return True

    def sound(self, tensor: torch.Tensor) -> None:
        """Notes that a tensor was changed in place, so that all its views are no longer zero at removed channels."""
        memory = tensor.untyped_storage().data_ptr()
        for key, item in self._labelled.items():
            if item.silent and item.tensor.untyped_storage().data_ptr() == memory:
                self._labelled[key] = replace(item, silent=False)

    def forget(self, tensor: torch.Tensor) -> None:
        """Drops the labels of a tensor."""
        self._labelled.pop(id(tensor), None)

    def touch(self, layer: nn.Module, reason: str) -> None:
        """Notes that a layer must keep its widths."""
        self._touched[self.names[layer]] = reason

    def layer(self, tensor: Any) -> Any:
        """Returns the layer that owns a weight or running mean."""
        return self.weights.get(id(tensor))

    def inputs(self, tensor: torch.Tensor, dim: int, *, silent: bool = True) -> np.ndarray:
        """Returns the labels of a layer's input, fixed ones where it carries none on its channel dimension.

        Args:
            tensor: The input.
            dim: Its channel dimension.
            silent: Whether the layer needs it to be zero where a channel is removed, as it mixes channels.
        """
        item = self.labelled(tensor)
        if item is None:
            return np.full(tensor.shape[dim], FIXED)
        if item.dim != dim:
            self.union.pin(item.labels, "read along another dimension")
            return np.full(tensor.shape[dim], FIXED)
        if silent and not item.silent:
            self.union.pin(item.labels, "read where a removed channel is not zero")
        return item.labels

    def record(self, module: Any, inputs: np.ndarray, width: int, outputs: np.ndarray | None = None) -> Record:
        """Notes one run of a layer.

        Args:
            module: The layer.
            inputs: Labels of its input channels.
            width: Number of its output channels.
            outputs: Their labels if it passes labels on, as a batch norm does, instead of making channels.
        """
        name = self.names[module]
        known = self.records.get(name)
        if known is None:
            kind = next(kind.__name__ for kind in LAYER_TYPES if isinstance(module, kind))
            known = Record(kind, inputs, self.union.new(width) if outputs is None else outputs, module)
            self.records[name] = known
        else:  # a shared layer: one set of filters for all its inputs
            self.union.unite(known.inputs, inputs)
            if outputs is not None:
                self.union.unite(known.outputs, outputs)
        known.calls += 1
        return known

    def stored_width(self, attribute: str, labels: np.ndarray) -> None:
        """Notes an attribute of the running module that holds the number of these channels, if it has that value."""
        module = self.running[-1] if self.running else None
        value = vars(module).get(attribute) if module is not None else None
        if module in self.names and isinstance(value, int) and int.__index__(value) == len(labels):
            self.widths[Attribute(self.names[module], attribute, len(labels))] = labels

    def shape(self, tensor: torch.Tensor) -> tuple[int, ...]:
        """Returns a tensor's shape, with the number of channels as a `Size`."""
        item = self.labelled(tensor)
        if item is None:
            return tuple(tensor.shape)
        size = Size.of(Extent(item.labels), len(item.labels), self.equations.use)
        return tuple(size if dim == item.dim else number for dim, number in enumerate(tensor.shape))

    def use_sizes(self, values: Any) -> None:
        """Notes widths that a call uses as numbers."""
        self.equations.use([symbol for size in sizes_in(values) for symbol in size.terms])

    def mistakes(self) -> set[Attribute]:
        """Returns the attributes of which a rule supposed that they can change, and which turned out not to."""
        return (self.relied & self.equations.used) - self.fixed

    def finish(self, outputs: Iterator[torch.Tensor], others: Iterator[torch.Tensor]) -> None:
        """Pins what goes out, and what a layer gave to others than its rule.

        Args:
            outputs: What the network returns.
            others: What it returns for its shape alone.
        """
        self.reads.update(map(id, others))
        for tensor in outputs:
            self.reads[id(tensor)] += 1
            if item := self.labelled(tensor):
                self.union.pin(item.labels, "output")
        for key, item in self._labelled.items():
            if self.unseen and not self.reads[key]:
                self.union.pin(item.labels, "may be read by a compiled function")
        for attribute in self.equations.valued:
            if attribute.name in LAYER_WIDTHS:
                self._touched[attribute.module] = "its width enters the calculation"
        for name, reason in self._touched.items():
            if record := self.records.get(name):
                self.union.pin(np.concatenate([record.inputs, record.outputs]), reason)
