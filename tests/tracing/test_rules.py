"""Tests of the tracer: what each operation does to channels, on tiny networks with maps written by hand.

A map is written in letters: "ABC>defg" is a layer that reads the channels A, B and C, which must stay, and makes d, e,
f and g, which can go. The same letter elsewhere is a channel that goes with it (see `helpers.networks.letters`).
"""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.networks import (
    Net,
    block,
    conv,
    csp_net,
    difference,
    image,
    letters,
    raw_outputs,
    removed_by,
    silence,
    without,
)
from ultralytics.pruning import cut, make_plan, trace
from ultralytics.pruning.plans.plan import plan_from


@dataclass
class Case:
    """A network and the map that tracing it must give.

    Attributes:
        run: Its forward pass.
        layers: Its layers, and `map`: by layer, "inputs>outputs" (see the top of this file).
        map: The expected text of each layer; layers that are not in here are not looked at.
        pinned: Number of pinned channels by reason, but for those that leave the network.
        unknown: Calls of operations without a rule.
        balances: Parts that must keep equally many, as letters.
        widths: The attributes that store a width, and the groups they count.
        remove: Letters that a real cut removes.
        side: Side of the image.
    """

    run: Callable
    layers: dict[str, object]
    map: dict[str, str]
    pinned: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    balances: list[tuple[str, ...]] = field(default_factory=list)
    widths: dict[tuple[str, str], str] = field(default_factory=dict)
    remove: str = ""
    side: int = 8

    def net(self) -> Net:
        """The network, in float64."""
        return Net(self.run, **copy.deepcopy(self.layers))


def after_one(run: Callable, width: int = 4, **settings) -> Case:
    """A case with one convolution `a` before and one `out` behind what is tested; `run` gets the network and a(x)."""
    layers = {"a": conv(3, 4), **settings.pop("layers", {}), "out": conv(width, 2)}
    return Case(lambda n, x: n.out(run(n, n.a(x))), layers, **settings)


def after_two(run: Callable, width: int = 4, widths: tuple[int, int] = (4, 4), **settings) -> Case:
    """A case with two convolutions `a` and `b` side by side; `run` gets a(x) and b(x)."""
    layers = {"a": conv(3, widths[0]), "b": conv(3, widths[1]), "out": conv(width, 2)}
    return Case(lambda n, x: n.out(run(n.a(x), n.b(x))), layers, **settings)


PASSED = {"a": "ABC>defg", "out": "defg>HI"}
UNITED = {"a": "ABC>defg", "b": "ABC>defg", "out": "defg>HI"}
LOUD = "read where a removed channel is not zero"
FIXED_SIZE = "a size fixed in the code"
PINNED = {"a": "ABC>DEFG"}  # what lies behind an operation without a rule is not looked at here


def unknown(name: str, channels: int = 4) -> dict:
    """What a case expects where `channels` channels meet one operation without a rule."""
    name = f"torch.{name}"
    return {"unknown": {name: 1}, "pinned": {f"operation without a rule: {name}": channels}}


def pinned(reason: str, channels: int = 4) -> dict:
    """What a case expects where `channels` channels are pinned for one reason."""
    return {"pinned": {reason: channels}}


CASES: dict[str, Case] = {
    # Layers
    "conv": after_one(lambda n, a: a, map=PASSED, remove="eg"),
    "conv strided and dilated": Case(
        lambda n, x: n.out(n.a(x)),
        {"a": conv(3, 4, stride=2), "out": conv(4, 2, dilation=2, bias=False)},
        PASSED,
        remove="de",
    ),
    "conv with reflected border": Case(
        lambda n, x: n.out(n.a(x)), {"a": conv(3, 4), "out": conv(4, 2, padding_mode="reflect")}, PASSED, remove="df"
    ),
    "grouped conv": after_one(
        lambda n, a: n.g(a),
        width=6,
        layers={"g": conv(4, 6, groups=2)},
        map={"a": "ABC>defg", "g": "defg>hijklm", "out": "hijklm>NO"},
        balances=[("de", "fg"), ("hij", "klm")],
        remove="dghlmi",
    ),
    "grouped conv, one filter for each group": after_one(
        lambda n, a: n.g(a),
        width=2,
        layers={"g": conv(4, 2, groups=2)},
        map={"a": "ABC>defg", "g": "defg>hi", "out": "hi>JK"},
        balances=[("de", "fg"), ("h", "i")],
        remove="ef",
    ),
    "depthwise conv": after_one(
        lambda n, a: n.d(a),
        layers={"d": conv(4, 4, groups=4)},
        map={"a": "ABC>defg", "d": "defg>defg", "out": "defg>HI"},
        remove="dg",
    ),
    "depthwise conv with two filters for each channel": after_one(
        lambda n, a: n.d(a),
        width=8,
        layers={"d": conv(4, 8, groups=4)},
        map={"a": "ABC>defg", "d": "defg>ddeeffgg", "out": "ddeeffgg>HI"},
        remove="dg",
    ),
    "transposed conv": after_one(
        lambda n, a: n.t(a),
        width=5,
        layers={"t": nn.ConvTranspose2d(4, 5, 2, 2)},
        map={"a": "ABC>defg", "t": "defg>hijkl", "out": "hijkl>MN"},
        remove="ehil",
    ),
    "transposed grouped conv": after_one(
        lambda n, a: n.t(a),
        width=6,
        layers={"t": nn.ConvTranspose2d(4, 6, 2, 2, groups=2)},
        map={"a": "ABC>defg", "t": "defg>hijklm", "out": "hijklm>NO"},
        balances=[("de", "fg"), ("hij", "klm")],
        remove="dgim",
    ),
    "transposed depthwise conv": after_one(
        lambda n, a: n.t(a),
        layers={"t": nn.ConvTranspose2d(4, 4, 3, 2, groups=4)},
        map={"a": "ABC>defg", "t": "defg>defg", "out": "defg>HI"},
        remove="ef",
    ),
    "linear behind flatten": Case(
        lambda n, x: n.out(n.a(x).flatten(1)),
        {"a": conv(3, 4), "out": nn.Linear(16, 2)},
        {"a": "ABC>defg", "out": "ddddeeeeffffgggg>HI"},
        remove="eg",
        side=2,
    ),
    "linear on the last dimension": Case(
        lambda n, x: n.out(n.l(n.a(x).permute(0, 2, 3, 1))),
        {"a": conv(3, 4), "l": nn.Linear(4, 5), "out": nn.Linear(5, 2)},
        {"a": "ABC>defg", "l": "defg>hijkl", "out": "hijkl>MN"},
        remove="fhil",
    ),
    "linear on another dimension": Case(
        lambda n, x: n.out(n.a(x)),
        {"a": conv(3, 4), "out": nn.Linear(8, 2)},
        PINNED,
        pinned={"read along another dimension": 4},
    ),
    "batch norm": after_one(
        lambda n, a: n.bn(a),
        layers={"bn": nn.BatchNorm2d(4)},
        map={"a": "ABC>defg", "bn": "defg>defg", "out": "defg>HI"},
        remove="de",
    ),
    "batch norm without gamma": after_one(
        lambda n, a: n.bn(a),
        layers={"bn": nn.BatchNorm2d(4, affine=False)},
        map={"a": "ABC>defg", "bn": "defg>defg", "out": "defg>HI"},
        remove="g",
    ),
    "a layer called twice in a row": after_one(
        lambda n, a: n.s(n.s(a)),
        layers={"s": conv(4, 4)},
        map={"a": "ABC>defg", "s": "defg>defg", "out": "defg>HI"},
        remove="dg",
    ),
    "a layer on two inputs": Case(
        lambda n, x: n.out(torch.cat([n.s(n.a(x)), n.s(n.b(x))], 1)),
        {"a": conv(3, 4), "b": conv(3, 4), "s": conv(4, 3), "out": conv(6, 2)},
        {"a": "ABC>defg", "s": "defg>hij", "b": "ABC>defg", "out": "hijhij>KL"},
        remove="eghj",
    ),
    "a batch norm on two inputs": Case(
        lambda n, x: n.out(torch.cat([n.s(n.a(x)), n.s(n.b(x))], 1)),
        {"a": conv(3, 4), "b": conv(3, 4), "s": nn.BatchNorm2d(4), "out": conv(8, 2)},
        {"a": "ABC>defg", "s": "defg>defg", "b": "ABC>defg", "out": "defgdefg>HI"},
        remove="eg",
    ),
    # One tensor
    "activation that keeps zero": after_one(lambda n, a: F.silu(a), map=PASSED, remove="ef"),
    "activation in place": after_one(lambda n, a: F.relu(a, inplace=True), map=PASSED, remove="ef"),
    "activation that does not keep zero": after_one(lambda n, a: a.sigmoid(), map=PINNED, **pinned(LOUD)),
    "pooling": after_one(lambda n, a: F.max_pool2d(a, 5, 1, 2), map=PASSED, remove="ef"),
    "upsampling": after_one(lambda n, a: F.interpolate(a, scale_factor=2), map=PASSED, remove="dg"),
    "padding with zeros": after_one(lambda n, a: F.pad(a, (0, 1, 2, 0)), map=PASSED, remove="dg"),
    "padding with copies": after_one(lambda n, a: F.pad(a, (0, 1, 2, 0), "replicate"), map=PASSED, remove="dg"),
    "padding with ones": after_one(lambda n, a: F.pad(a, (0, 1, 2, 0), value=1), map=PINNED, **pinned(LOUD)),
    "padding of channels": after_one(
        lambda n, a: F.pad(a, (0, 0, 0, 0, 1, 0)), width=5, map=PINNED, **unknown("nn.functional.pad")
    ),
    "mean over space": Case(
        lambda n, x: n.out(n.a(x).mean((2, 3))), {"a": conv(3, 4), "out": nn.Linear(4, 2)}, PASSED, remove="ef"
    ),
    "mean over space that keeps dimensions": after_one(
        lambda n, a: a.mean(dim=(-1, -2), keepdim=True), map=PASSED, remove="ef"
    ),
    "mean over channels": after_one(
        lambda n, a: a.mean(1, keepdim=True), width=1, map=PINNED, **unknown("Tensor.mean")
    ),
    "flatten of space": Case(
        lambda n, x: n.out(n.a(x).flatten(2).transpose(1, 2)),
        {"a": conv(3, 4), "out": nn.Linear(4, 2)},
        PASSED,
        remove="ef",
    ),
    "flatten before the channels": Case(
        lambda n, x: n.out(n.a(x).permute(0, 2, 3, 1).flatten(0, 2)),
        {"a": conv(3, 4), "out": nn.Linear(4, 2)},
        PASSED,
        remove="ef",
    ),
    "view with -1": Case(
        lambda n, x: n.out(n.a(x).view(len(x), -1, 64).transpose(1, 2)),
        {"a": conv(3, 4), "out": nn.Linear(4, 2)},
        PASSED,
        remove="eg",
    ),
    "view with a fixed size": Case(
        lambda n, x: n.out(n.a(x).view(len(x), 4, -1).transpose(1, 2)),
        {"a": conv(3, 4), "out": nn.Linear(4, 2)},
        {"a": "ABC>DEFG", "out": "DEFG>HI"},
        **pinned(FIXED_SIZE),
    ),
    "view that takes channels apart": after_one(
        lambda n, a: a.view(len(a), 2, 16, 8), width=2, map={"a": "ABC>DEDE"}, **pinned("read along another dimension")
    ),
    "view that takes channels apart, as many as there are": Case(
        lambda n, x: n.out(n.a(x).view(len(x), 2, -1, 8, 8)[:, 0]),
        {"a": conv(3, 6), "out": conv(3, 2)},
        {"a": "ABC>defdef", "out": "def>GH"},
        remove="e",
    ),
    "permute": Case(
        lambda n, x: n.out(n.a(x).permute([0, 3, 2, 1])),
        {"a": conv(3, 4), "out": nn.Linear(4, 2)},
        PASSED,
        remove="fg",
    ),
    "permute there and back": after_one(
        lambda n, a: a.permute([2, 0, 3, 1]).permute(dims=(1, -1, 0, 2)), map=PASSED, remove="eg"
    ),
    "transpose": after_one(lambda n, a: a.transpose(-1, 1).transpose(1, 3), map=PASSED, remove="eg"),
    "transpose of space": after_one(lambda n, a: a.transpose(2, 3), map=PASSED, remove="eg"),
    "slice of space": after_one(lambda n, a: a[:, :, ::2, 1:], map=PASSED, remove="ef"),
    "slice of all channels": after_one(lambda n, a: a[:, :], map=PASSED, remove="ef"),
    "slice of channels": after_one(
        lambda n, a: a[:, 1:3],
        width=2,
        map={"a": "ABC>DEFg", "out": "EF>HI"},
        **pinned(FIXED_SIZE, 3),
    ),
    "index of a channel": after_one(lambda n, a: a[:, [1, 2]], width=2, map=PINNED, **unknown("Tensor.__getitem__")),
    # One to several, several to one
    "chunk into halves": Case(
        lambda n, x: n.out(torch.cat([n.b(n.a(x).chunk(2, 1)[0]), n.c_(n.a(x).chunk(2, dim=1)[1])], 1)),
        {"a": conv(3, 4), "b": conv(2, 2), "c_": conv(2, 2), "c": 2, "out": conv(4, 2)},
        {"a": "ABC>defg", "b": "de>hi", "c_": "fg>jk", "out": "hijk>LM"},
        balances=[("de", "fg")] * 2,
        widths={("", "c"): "de"},
        remove="dg",
    ),
    "chunk into unequal parts": after_one(
        lambda n, a: n.w(a).chunk(3, 1)[2],
        width=2,
        layers={"w": conv(4, 8)},
        map={"a": "ABC>defg", "w": "defg>HIJKLMNO", "out": "NO>PQ"},
        **pinned("chunk into unequal parts", 8),
    ),
    "chunk of space": after_one(lambda n, a: a.chunk(2, 2)[1], map=PASSED, remove="ef"),
    "split": after_one(
        lambda n, a: a.split((1, 3), 1)[1],
        width=3,
        map={"a": "ABC>DEFG", "out": "EFG>HI"},
        **pinned(FIXED_SIZE),
    ),
    "split of space": after_one(lambda n, a: torch.split(a, 2, dim=3)[0], map=PASSED, remove="ef"),
    "cat of channels": after_two(
        lambda a, b: torch.cat([a, b], 1),
        width=8,
        map={"a": "ABC>defg", "b": "ABC>hijk", "out": "defghijk>LM"},
        remove="egh",
    ),
    "cat of space": after_two(lambda a, b: torch.cat((a, b), dim=-1), map=UNITED, remove="eg"),
    "cat with what no layer made": after_one(
        lambda n, a: torch.cat([torch.ones(len(a), 2, 8, 8, dtype=a.dtype), a], 1),
        width=6,
        map={"a": "ABC>defg", "out": "HHdefg>IJ"},
        remove="eg",
    ),
    "cat with the image": Case(
        lambda n, x: n.out(torch.cat([x, n.a(x)], 1)),
        {"a": conv(3, 4), "out": conv(7, 2)},
        {"a": "ABC>defg", "out": "ABCdefg>HI"},
        remove="df",
    ),
    "cat of space with what no layer made": after_one(
        lambda n, a: torch.cat([torch.ones(len(a), 4, 1, 8, dtype=a.dtype), a], 2),
        map={"a": "ABC>DEFG", "out": "HHHH>IJ"},
        **pinned("tied to what no layer makes"),
    ),
    "cat of the same twice": after_one(
        lambda n, a: torch.cat([a, a], 1), width=8, map={"a": "ABC>defg", "out": "defgdefg>HI"}, remove="eg"
    ),
    "cat where channels lie elsewhere": after_two(
        lambda a, b: torch.cat([a, b.transpose(1, 2)], 0),
        map={"a": "ABC>DEFG", "b": "ABC>HIJK"},
        side=4,
        **unknown("cat", 8),
    ),
    # Elementwise
    "add": after_two(lambda a, b: a + b, map=UNITED, remove="eg"),
    "add of three": Case(
        lambda n, x: n.out(n.a(x) + n.b(x) + n.c(x)),
        {"a": conv(3, 4), "b": conv(3, 4), "c": conv(3, 4), "out": conv(4, 2)},
        {**UNITED, "c": "ABC>defg"},
        remove="eg",
    ),
    "add in place": after_two(lambda a, b: a.add_(b), map=UNITED, remove="eg"),
    "subtract": after_two(lambda a, b: a - b, map=UNITED, remove="eg"),
    "add of a number": after_one(lambda n, a: a + 1, map=PINNED, **pinned(LOUD)),
    "add of a parameter": Case(
        lambda n, x: n.out(n.a(x) + n.p.view(1, 4, 1, 1)),
        {"a": conv(3, 4), "p": nn.Parameter(torch.ones(4)), "out": conv(4, 2)},
        PINNED,
        **pinned(FIXED_SIZE),
    ),
    "add of one channel to all": after_two(
        lambda a, b: a + b,
        widths=(4, 1),
        map={"a": "ABC>DEFG", "b": "ABC>H", "out": "DEFG>IJ"},
        pinned={"broadcast over channels": 1, LOUD: 4},
    ),
    "add of all channels to one": after_two(
        lambda a, b: b - a,
        widths=(4, 1),
        map={"a": "ABC>DEFG", "b": "ABC>H", "out": "DEFG>IJ"},
        pinned={"broadcast over channels": 1, LOUD: 4},
    ),
    "add of vectors to places": Case(
        lambda n, x: n.out(n.a(x) + n.l(n.b(x).mean((2, 3)))),
        {"a": conv(3, 4), "b": conv(3, 4), "l": nn.Linear(4, 4), "out": conv(4, 2)},
        {"a": "ABC>DEFG", "b": "ABC>hijk", "l": "hijk>LMNO"},
        side=4,
        **unknown("Tensor.add", 8),
    ),
    "gate": after_two(lambda a, b: a * b, map=UNITED, remove="eg"),
    "gate for each image": after_two(lambda a, b: a * b.mean((2, 3), keepdim=True), map=UNITED, remove="eg"),
    "gate of one channel": after_two(
        lambda a, b: b * a,
        widths=(4, 1),
        map={"a": "ABC>defg", "b": "ABC>H", "out": "defg>IJ"},
        remove="eg",
        **pinned("broadcast over channels", 1),
    ),
    "multiply by a number": after_one(lambda n, a: 2 * a, map=PASSED, remove="eg"),
    "multiply by one element": after_one(
        lambda n, a: a * torch.full((1, 1, 1), 3.0, dtype=a.dtype), map=PASSED, remove="eg"
    ),
    "multiply by a constant for each channel": after_one(
        lambda n, a: a * torch.ones(1, 4, 1, 1), map=PINNED, **unknown("Tensor.mul")
    ),
    "divide by a number": after_one(lambda n, a: a / 2, map=PASSED, remove="eg"),
    "divide by channels": after_two(lambda a, b: a / b, map={"a": "ABC>DEFG", "b": "ABC>DEFG"}, **pinned(LOUD, 8)),
    "divide a number": after_one(lambda n, a: 1 / a, map=PINNED, **pinned(LOUD)),
    # What leaves the network, and what nobody knows
    "several outputs": Case(
        lambda n, x: {"boxes": [n.out(n.a(x))], "feats": [n.a(x)], "more": (n.b(x),)},
        {"a": conv(3, 4), "b": conv(3, 4), "out": conv(4, 2)},
        {"a": "ABC>defg", "out": "defg>HI", "b": "ABC>JKLM"},
        remove="eg",
    ),
    "unknown beside known": Case(
        lambda n, x: n.out(n.a(x)) + torch.cumsum(n.b(x), 1).amax(1, keepdim=True),
        {"a": conv(3, 4), "b": conv(3, 4), "out": conv(4, 1)},
        {"a": "ABC>defg", "out": "defg>H", "b": "ABC>IJKL"},
        **unknown("cumsum"),
        remove="df",
    ),
    "numbers read from channels": Case(
        lambda n, x: n.out(n.a(x)) * n.b(x).amax((2, 3)).tolist()[0][0],
        {"a": conv(3, 4), "b": conv(3, 4), "out": conv(4, 2)},
        {"a": "ABC>defg", "out": "defg>HI", "b": "ABC>JKLM"},
        unknown={"torch.Tensor.tolist": 1},
        pinned={"operation without a rule: torch.Tensor.tolist": 4},
        remove="df",
    ),
}


def traced(case: Case):
    """The network of a case, an image for it, and its channel map."""
    net = case.net()
    x = image(net, case.side, batch=1)
    return net, x, trace(net, x)


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def test_map_is_the_one_written_by_hand(case: Case) -> None:
    _, _, channel_map = traced(case)
    text, group_of = letters(channel_map)
    assert {name: text.get(name) for name in case.map} == case.map
    assert {k: v for k, v in channel_map.pinned_channels().items() if k != "output"} == case.pinned
    assert channel_map.unknown == case.unknown
    letter_of = {group: letter for letter, group in group_of.items()}

    def spelled(groups: np.ndarray) -> str:
        return "".join(letter_of[group] for group in groups.tolist())

    assert [tuple(map(spelled, balance.parts)) for balance in channel_map.balances] == case.balances
    assert {key: spelled(groups) for key, groups in channel_map.widths.items()} == case.widths


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.remove],
                         ids=[name for name, c in CASES.items() if c.remove])  # fmt: skip
def test_cut_equals_silence(case: Case) -> None:
    """The channels to silence are read off the map written by hand, not off the one that the tracer made."""
    net, _, channel_map = traced(case)
    outputs = {name: text.split(">")[1] for name, text in case.map.items()}
    removed = {name: [i for i, c in enumerate(text) if c in case.remove] for name, text in outputs.items()}
    plan = plan_from(channel_map, without(channel_map, case.remove), {})
    pruned = copy.deepcopy(net)
    cut(pruned, plan)

    for name, channels in removed.items():
        weight = pruned.get_submodule(name).weight
        if weight is not None:
            dim = 1 if isinstance(pruned.get_submodule(name), nn.ConvTranspose2d) else 0
            groups = pruned.get_submodule(name).groups if dim else 1
            assert weight.shape[dim] * groups == len(outputs[name]) - len(channels), name
    x = image(net, case.side)
    expected = raw_outputs(silence(net, removed), x)
    assert difference(expected, raw_outputs(pruned, x)) < 1e-10
    assert difference(expected, raw_outputs(net, x)) > 1e-3, "the cut removed nothing that matters"


# What the tracer does not understand may cost compression, but never a wrong cut


def fill_buffer(net: Net, x: Tensor) -> Tensor:
    """Writes channels into a tensor that no layer made."""
    buffer = torch.zeros(len(x), 6, *x.shape[2:], dtype=x.dtype)
    buffer[:, :4] = net.a(x)
    return net.out(buffer)


def overwrite(net: Net, x: Tensor) -> Tensor:
    """Writes a constant into channels."""
    a = net.a(x)
    a[:, :, 0] = 5.0
    return net.out(a)


def half_known(net: Net, x: Tensor) -> Tensor:
    """Calls one layer on channels that are known and on channels that are not."""
    return net.out(torch.cat([net.s(net.a(x)), net.s(net.b(x).sigmoid())], 1))


def squeeze_and_excite(net: Net, x: Tensor) -> Tensor:
    """A gate behind a sigmoid."""
    a = net.a(x)
    return net.out(a * net.excite(F.silu(net.squeeze(a.mean((2, 3), keepdim=True)))).sigmoid())


def tied() -> Net:
    """Two convolutions that share their weight."""
    net = Net(lambda n, x: n.out(torch.cat([n.a(x), n.b(x)], 1)), a=conv(3, 4), b=conv(3, 4), out=conv(8, 2))
    net.b.weight = net.a.weight
    return net


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(Net(fill_buffer, a=conv(3, 4), out=conv(6, 2)), id="fill a buffer"),
        pytest.param(Net(overwrite, a=conv(3, 4), out=conv(4, 2)), id="overwrite"),
        pytest.param(
            Net(half_known, a=conv(3, 4), b=conv(3, 4), s=conv(4, 4), out=conv(8, 2)),
            id="shared layer, half known",
        ),
        pytest.param(tied(), id="tied weights"),
        pytest.param(
            Net(squeeze_and_excite, a=conv(3, 4), squeeze=conv(4, 6, 1), excite=conv(6, 4, 1), out=conv(4, 2)),
            id="squeeze and excite",
        ),
    ],
)
def test_odd_networks_are_cut_right(net: Net) -> None:
    net = Net(
        lambda n, x: n.odd(n.first(x)), first=nn.Sequential(conv(3, 4), conv(4, 3)), odd=net
    )  # so that something is free in any case
    x = image(net, 8)
    channel_map = trace(net, x)
    for seed in range(3):
        scores = np.random.default_rng(seed).random(len(channel_map.channels))
        plan = make_plan(channel_map, scores, prune_ratio=0.5)
        pruned = copy.deepcopy(net)
        cut(pruned, plan)
        assert difference(raw_outputs(silence(net, removed_by(plan)), x), raw_outputs(pruned, x)) < 1e-10


@pytest.mark.parametrize(
    "call",
    [
        lambda a: torch.flatten(input=a, start_dim=2),
        lambda a: torch.relu(input=a),
        lambda a: torch.add(input=a, other=a),
        lambda a: torch.transpose(input=a, dim0=2, dim1=3),
        lambda a: a.mean(dim=()),
    ],
    ids=["flatten", "relu", "add", "transpose", "mean over all"],
)
def test_calls_in_unusual_form_do_not_stop_the_tracer(call: Callable) -> None:
    net = after_one(lambda n, a: (call(a), a)[1], map={}).net()
    trace(net, image(net, 8, batch=1))


def test_layers_behind_an_unknown_operation_are_known_and_free() -> None:
    """DESIGN section 3: each output channel of a convolution is new, whatever it reads."""
    net = after_one(lambda n, a: n.b(a.sigmoid()), layers={"b": conv(4, 4)}, map={}).net()
    text, _ = letters(trace(net, image(net, 8, batch=1)))
    assert list(text) == ["a", "b", "out"]
    assert text["b"].split(">")[1].islower()


def test_a_layer_called_twice_has_its_channels_once() -> None:
    _, _, channel_map = traced(CASES["a layer on two inputs"])
    assert channel_map.channels.sum() == 4 + 4 + 3 + 2


# Tracing leaves the network as it was


def state_of(net: nn.Module) -> tuple:
    """All that tracing could disturb, in a form that compares."""
    modules = list(net.modules())
    return (
        {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()},
        [module.training for module in modules],
        [sorted(vars(module)) for module in modules],
        [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules],
        [(p.requires_grad, p.grad is None) for p in net.parameters()],
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        len(nn.modules.module._global_forward_hooks),
        len(nn.modules.module._global_forward_pre_hooks),
        torch._C._len_torch_function_stack(),
        torch.is_grad_enabled(),
    )


class Raises(nn.Module):
    """A module that fails."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("half-way")


@pytest.mark.parametrize("breaks", [False, True], ids=["whole", "raises half-way"])
@pytest.mark.parametrize("training", [False, True, None], ids=["eval", "train", "mixed"])
def test_tracing_leaves_the_network_as_it_was(training: bool | None, breaks: bool) -> None:
    net = Net(
        lambda n, x: n.end(F.dropout(n.drop(n.csp(n.body(x))), training=n.training)),
        body=block(3, 3),
        csp=csp_net(),
        drop=nn.Dropout(0.5),
        end=Raises() if breaks else nn.Identity(),
    )
    net.train(training is not False)
    if training is None:
        for module in list(net.modules())[::2]:
            module.training = False
    net.body[0].weight.requires_grad_(False)
    before = state_of(net)
    x = image(net, 16, batch=1)
    if breaks:
        with pytest.raises(RuntimeError, match="half-way"):
            trace(net, x)
    else:
        trace(net, x)
    assert state_of(net) == before
