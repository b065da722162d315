"""Follows the channels of a network while it runs; knows no operation (see `rules/`).

Source: the approach is this project's own. Instead of guessing the dependencies between layers from the autograd
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
from torch.overrides import TorchFunctionMode

from .channels import FIXED, Labels
from .equations import Equations
from .records import LAYER_TYPES, Labelled, Record, owners_of, stored_in, tensors_in
from .rules import LAYERS, RULES, ZEROS, Call
from .sizes import LAYER_WIDTHS, Attribute, Extent, Size, sizes_in

# Functions that return no tensor, but read or write the values of one.
VALUE_READERS = {"item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "numel"}
VALUE_READERS |= {"__setitem__", "__set__"}
SHAPE, SIZE, LENGTH = torch.Tensor.shape.__get__, torch.Tensor.size, torch.Tensor.__len__  # type: ignore[attr-defined]


class Mistaken(Exception):
    """A rule has counted on a width of which the network's code then made a number."""


class Tracer(TorchFunctionMode):
    """Sees every torch function that the network calls, and lets that function's rule move the labels.

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
    """

    def __init__(self, model: nn.Module, fixed: frozenset[Attribute] = frozenset()) -> None:
        super().__init__()
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
        self._unseen = False  # whether a tensor came up that no function returned, e.g. out of a compiled function
        self._layers, self._own = owners_of(model)
        self._known = {*self._layers, *self._own, *map(id, stored_in(self.names))}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Runs the function and its rule (see `torch.overrides.TorchFunctionMode`)."""
        if function in ZEROS and not kwargs:  # labels need no values, and the layers are what takes time
            result = ZEROS[function](*args).contiguous()
        else:
            result = function(*args, **(kwargs or {}))
        call = Call(function, args, kwargs or {}, result)
        if call.writes:
            self.written.add(id(call.tensor))
        if function in (SHAPE, SIZE, LENGTH):
            if owner := self.layer(args[0]):
                self.touch(owner, "the shape of its weights is read")
            return self._as_sizes(call)
        if next(tensors_in(call.result), None) is None and call.short_name not in VALUE_READERS:
            return call.result  # devices, types and the like say nothing about a channel's content
        tensors = {id(tensor): tensor for tensor in tensors_in([args, kwargs])}
        self._unseen |= not self._known.issuperset(tensors)
        self._known.update(map(id, tensors_in(call.result)))
        inputs = [item for tensor in tensors.values() if (item := self.labelled(tensor))]
        owners = [owner for tensor in tensors if (owner := self._layers.get(tensor))]
        if function not in LAYERS:
            for owner in owners:
                self.touch(owner, f"its weights are read by {call.name}")
        rule = RULES.get(function)
        if not (inputs or owners) or not getattr(rule, "takes_sizes", False):
            self.use_sizes(call)
        if inputs or owners:
            self.reads.update({id(item.tensor) for item in inputs})
            if rule is None or not rule(self, call):
                self._give_up(call, inputs)
        return call.result

    def _as_sizes(self, call: Call) -> Any:
        """Returns a tensor's shape, or one number of it, with the number of channels as a `Size`."""
        shape = self.shape(call.args[0])
        if not isinstance(call.result, int):
            return torch.Size(shape)
        if call.function == LENGTH:  # Python makes a plain number of it
            return shape[0].plain() if isinstance(shape[0], Size) else shape[0]
        return shape[call.argument(1, "dim")]

    def shape(self, tensor: torch.Tensor) -> tuple[int, ...]:
        """Returns a tensor's shape, with the number of channels as a `Size`."""
        item = self.labelled(tensor)
        if item is None:
            return tuple(tensor.shape)
        size = Size.of(Extent(item.labels), len(item.labels), self.equations.use)
        return tuple(size if dim == item.dim else number for dim, number in enumerate(tensor.shape))

    def use_sizes(self, call: Call) -> None:
        """Notes widths that a call uses as numbers."""
        self.equations.use([symbol for size in sizes_in([call.args, call.kwargs]) for symbol in size.terms])

    def _give_up(self, call: Call, inputs: list[Labelled]) -> None:
        """Pins what goes into a call that no rule understands."""
        self.use_sizes(call)
        if any(self.union.makes_channels(item.labels) for item in inputs):
            self.unknown[call.name] += 1
        for item in inputs:
            self.union.pin(item.labels, f"operation without a rule: {call.name}")

    # What rules call.

    def labelled(self, tensor: Any) -> Labelled | None:
        """Returns a tensor's labels, or None if it carries none.

        A parameter or buffer with one dimension that is longer than 1, and that belongs to no layer, gets labels of its
        own when it is first asked for: it may hold a value for each channel.
        """
        item = self._labelled.get(id(tensor))
        name = self._own.get(id(tensor))
        if item is None and name is not None:
            self._own[id(tensor)] = None
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
        return self._layers.get(id(tensor))

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

    # The run.

    def run(self, model: nn.Module, image: torch.Tensor) -> Any:
        """Runs the network on `image` of shape (N, C, H, W) and returns what it returns.

        Raises:
            Mistaken: As soon as there are `mistakes`.
        """

        def enter(module: nn.Module, inputs: tuple) -> None:
            self.running.append(module)
            items = (self.labelled(tensor) for tensor in tensors_in(inputs))
            self.inputs_of.setdefault(module, []).extend(item.labels for item in items if item)

        def leave(module: nn.Module, inputs: Any, kwargs: Any, output: Any) -> None:
            self.running.pop()
            self._note_passing(module, () if kwargs else inputs, output)
            if self.mistakes():
                raise Mistaken

        channels = self.union.new(image.shape[1], channel=False)
        self.union.pin(channels, "image")
        self._known.add(id(image))
        self.put(image, 1, channels)
        before = nn.modules.module.register_module_forward_pre_hook(enter)
        after = nn.modules.module.register_module_forward_hook(leave, with_kwargs=True)
        try:
            with self:
                return model(image)
        finally:
            before.remove()
            after.remove()
            nn.modules.module._global_forward_hooks_with_kwargs.pop(after.id, None)  # torch forgets this one

    def mistakes(self) -> set[Attribute]:
        """Returns the attributes of which a rule supposed that they can change, and which turned out not to."""
        return (self.relied & self.equations.used) - self.fixed

    def _note_passing(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        """Notes a module that may return a tensor with the channels of its input, as a residual block does."""
        entered, left = (self.labelled(tensor) for tensor in (inputs[0] if len(inputs) == 1 else None, output))
        if entered is None or left is None or not module._modules or len(entered.labels) != len(left.labels):
            return
        with torch._C.DisableTorchFunction():  # this is no shape that the network's code asks for
            same = entered.tensor.shape == left.tensor.shape and entered.dim == left.dim
        if same and entered.silent and left.silent and module in self.names:
            self.passed[self.names[module]] = (module, entered, left)

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
            if self._unseen and not self.reads[key]:
                self.union.pin(item.labels, "may be read by a compiled function")
        for attribute in self.equations.valued:
            if attribute.name in LAYER_WIDTHS:
                self._touched[attribute.module] = "its width enters the calculation"
        for name, reason in self._touched.items():
            if record := self.records.get(name):
                self.union.pin(np.concatenate([record.inputs, record.outputs]), reason)
