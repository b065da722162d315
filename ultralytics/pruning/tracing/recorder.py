"""Runs a network and lets each operation's rule move the labels of channels; knows no operation (see `rules/`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .records import Labelled, stored_in, tensors_in
from .rules import LAYERS, RULES, ZEROS, Call
from .sizes import Size
from .tape import Tape

# Functions that return no tensor, but read or write the values of one.
VALUE_READERS = {"item", "tolist", "numpy", "__array__", "__bool__", "__float__", "__int__", "numel"}
VALUE_READERS |= {"__setitem__", "__set__"}
SHAPE, SIZE, LENGTH = torch.Tensor.shape.__get__, torch.Tensor.size, torch.Tensor.__len__  # type: ignore[attr-defined]


class Mistaken(Exception):
    """A rule has counted on a width of which the network's code then made a number."""


class Recorder(TorchFunctionMode):
    """Sees every torch function that a network calls, and notes on a tape what it does to channels.

    Attributes:
        tape: The notes.
    """

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self._known = {*tape.weights, *tape.paths, *map(id, stored_in(tape.names))}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Runs the function and its rule (see `torch.overrides.TorchFunctionMode`)."""
        if function in ZEROS and not kwargs:  # labels need no values, and the layers are what takes time
            result = ZEROS[function](*args).contiguous()
        else:
            result = function(*args, **(kwargs or {}))
        call = Call(function, args, kwargs or {}, result)
        if call.writes:
            self.tape.written.add(id(call.tensor))

        if function in (SHAPE, SIZE, LENGTH):
            if owner := self.tape.layer(args[0]):
                self.tape.touch(owner, "the shape of its weights is read")
            return self._as_sizes(call)
        if next(tensors_in(call.result), None) is None and call.short_name not in VALUE_READERS:
            return call.result  # devices, types and the like say nothing about a channel's content

        tensors = {id(tensor): tensor for tensor in tensors_in([args, kwargs])}
        self.tape.unseen |= not self._known.issuperset(tensors)
        self._known.update(map(id, tensors_in(call.result)))
        inputs = [item for tensor in tensors.values() if (item := self.tape.labelled(tensor))]
        owners = [owner for tensor in tensors if (owner := self.tape.weights.get(tensor))]
        if function not in LAYERS:
            for owner in owners:
                self.tape.touch(owner, f"its weights are read by {call.name}")

        rule = RULES.get(function)
        if not (inputs or owners) or not getattr(rule, "takes_sizes", False):
            self.tape.use_sizes([call.args, call.kwargs])
        if inputs or owners:
            self.tape.reads.update({id(item.tensor) for item in inputs})
            if rule is None or not rule(self.tape, call):
                self._give_up(call, inputs)
        return call.result

    def _as_sizes(self, call: Call) -> Any:
        """Returns a tensor's shape, or one number of it, with the number of channels as a `Size`."""
        shape = self.tape.shape(call.args[0])
        if not isinstance(call.result, int):
            return torch.Size(shape)
        if call.function == LENGTH:  # Python makes a plain number of it
            return shape[0].plain() if isinstance(shape[0], Size) else shape[0]
        return shape[call.argument(1, "dim")]

    def _give_up(self, call: Call, inputs: list[Labelled]) -> None:
        """Pins what goes into a call that no rule understands."""
        self.tape.use_sizes([call.args, call.kwargs])
        if any(self.tape.union.makes_channels(item.labels) for item in inputs):
            self.tape.unknown[call.name] += 1
        for item in inputs:
            self.tape.union.pin(item.labels, f"operation without a rule: {call.name}")

    def run(self, model: nn.Module, image: torch.Tensor) -> Any:
        """Runs the network on `image` of shape (N, C, H, W) and returns what it returns.

        Raises:
            Mistaken: As soon as there are `Tape.mistakes`.
        """

        def enter(module: nn.Module, inputs: tuple) -> None:
            self.tape.running.append(module)
            items = (self.tape.labelled(tensor) for tensor in tensors_in(inputs))
            self.tape.inputs_of.setdefault(module, []).extend(item.labels for item in items if item)

        def leave(module: nn.Module, inputs: Any, kwargs: Any, output: Any) -> None:
            self.tape.running.pop()
            self._note_passing(module, () if kwargs else inputs, output)
            if self.tape.mistakes():
                raise Mistaken

        channels = self.tape.union.new(image.shape[1], channel=False)
        self.tape.union.pin(channels, "image")
        self._known.add(id(image))
        self.tape.put(image, 1, channels)
        before = nn.modules.module.register_module_forward_pre_hook(enter)
        after = nn.modules.module.register_module_forward_hook(leave, with_kwargs=True)
        try:
            with self:
                return model(image)
        finally:
            before.remove()
            after.remove()
            nn.modules.module._global_forward_hooks_with_kwargs.pop(after.id, None)  # torch forgets this one

    def _note_passing(self, module: nn.Module, inputs: tuple, output: Any) -> None:
        """Notes a module that may return a tensor with the channels of its input, as a residual block does."""
        entered, left = (self.tape.labelled(tensor) for tensor in (inputs[0] if len(inputs) == 1 else None, output))
        if entered is None or left is None or not module._modules or len(entered.labels) != len(left.labels):
            return
        with torch._C.DisableTorchFunction():  # this is no shape that the network's code asks for
            same = entered.tensor.shape == left.tensor.shape and entered.dim == left.dim
        if same and entered.silent and left.silent and module in self.tape.names:
            self.tape.passed[self.tape.names[module]] = (module, entered, left)
