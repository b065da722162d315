"""The operations that random networks are made of (see `grammar.py`): each adds one step, or a few, to a builder.

They are written as users write them: sizes as numbers in the code, as attributes of the module, and taken from the
tensor's shape.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from grammar import LARGEST_WIDTH, Builder, Node
from grammar_attention import area_attention, global_context, multi_head_attention, squeeze_excite_linear
from torch import Tensor, nn

MODULES: dict[str, Callable[[int], nn.Module]] = {
    **{
        kind.__name__: lambda width, kind=kind: kind()
        for kind in (nn.ELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardtanh, nn.Hardswish, nn.LeakyReLU, nn.LogSigmoid)
        + (nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.CELU, nn.GELU, nn.Sigmoid, nn.SiLU, nn.Mish, nn.Softplus)
        + (nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Softmax2d, nn.PReLU, nn.Identity)
    },
    "ReLU in place": lambda width: nn.ReLU(inplace=True),
    "Threshold": lambda width: nn.Threshold(0.1, 0.0),
    "Threshold to 1": lambda width: nn.Threshold(0.1, 1.0),
    "Hardtanh above 0": lambda width: nn.Hardtanh(0.2, 2.0),
    "PReLU(C)": lambda width: nn.PReLU(width),
    "Softmax(1)": lambda width: nn.Softmax(dim=1),
    "LogSoftmax(1)": lambda width: nn.LogSoftmax(dim=1),
    "Softmax(3)": lambda width: nn.Softmax(dim=3),
}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.sigmoid": torch.sigmoid,
    "sigmoid": lambda x: x.sigmoid(),
    "F.relu": F.relu,
    "relu": lambda x: x.relu(),
    "tanh": lambda x: x.tanh(),
    "clamp": lambda x: x.clamp(-1, 1),
    "clamp above 0.1": lambda x: x.clamp(min=0.1),
    "torch.clamp": lambda x: torch.clamp(x, min=0),
    "square": lambda x: x.square(),
    "power": lambda x: x**2,
    "abs": lambda x: x.abs(),
    "exp": lambda x: torch.exp(-x.abs()),
    "cos": lambda x: x.cos(),
    "x sigmoid(x)": lambda x: x * x.sigmoid(),
    "half sum": lambda x: 0.5 * x + x / 2,
    "one minus": lambda x: 1 - x,
    "divided by its width": lambda x: x / x.shape[1],
    "space softmax": lambda x: x.flatten(2).softmax(-1).reshape(x.shape),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
}


# One tensor, filters


def conv(b: Builder) -> None:
    x = b.node()
    k, dilation, norm = b.choice(1, 2, 3, 5, (1, 3), (3, 1)), b.choice(1, 1, 2), b.choice(True, True, False)
    sides = (k, k) if isinstance(k, int) else k
    stride = b.choice(1, 2) if x.side >= 8 else 1
    padding = b.choice(0, 1, 1, 1) if x.side >= 12 else 1
    settings = {"stride": stride, "dilation": dilation, "bias": not norm or b.choice(True, False)}
    settings["padding"] = tuple(padding * (dilation * (side - 1) // 2) for side in sides)
    if x.side <= dilation * (max(sides) - 1):
        settings |= {"dilation": 1, "padding": tuple(side // 2 for side in sides)}
    _conv(b, x, b.width(), k, norm=norm, **settings)


def _conv(b: Builder, x: Node, width: int, k: Any, *, norm: bool, **settings: Any) -> Node:
    """A convolution with or without batch norm and activation."""
    act = b.choice(*MODULES) if b.random.random() < 0.3 else b.choice("SiLU", "ReLU", "Identity")
    body = nn.Sequential(nn.Conv2d(x.width, width, k, **settings))
    if norm:
        body.append(nn.BatchNorm2d(width))
    body.append(MODULES[act](width))
    b.network.used.add(f"act: {act}")
    text = f"conv {k} to {width} {settings} {'BN ' if norm else ''}{act}"
    return b.add(text, lambda m, x: m.body(x), x, body=body)


def grouped_conv(b: Builder) -> None:
    groups = b.choice(2, 3, 4)
    x = b.node(groups, least=2 * groups)
    norm = b.choice(True, False)
    _conv(b, x, groups * b.choice(2, 3, 4), 3, norm=norm, padding=1, groups=groups, bias=not norm)


def depthwise(b: Builder) -> None:
    x, k, d = b.node(side=4), b.choice(3, 5), b.choice(1, 2)
    _conv(b, x, x.width, k, norm=b.choice(True, False), padding=d * (k // 2), dilation=d, groups=x.width)


def depthwise_multiplier(b: Builder) -> None:
    x, times = b.node(most=16), b.choice(2, 3)
    _conv(b, x, times * x.width, 3, norm=b.choice(True, False), padding=1, groups=x.width)


def transposed(b: Builder) -> None:
    x, width, groups = b.node(most=16), b.width(), 1
    k, s = b.choice((2, 2), (3, 1), (4, 2)) if x.side <= 16 else (3, 1)
    layer = nn.ConvTranspose2d(x.width, width, k, s, (k - s) // 2, groups=groups, bias=b.choice(True, False))
    norm = nn.BatchNorm2d(width) if b.choice(True, False) else nn.Identity()
    b.add(f"transposed convolution {k}/{s} to {width}", lambda m, x: m.norm(m.layer(x)), x, layer=layer, norm=norm)


def grouped_transposed(b: Builder) -> None:
    groups = b.choice(2, 3)
    x, s = b.node(groups, least=2 * groups, most=16), b.choice(1, 2)
    width, s = groups * b.choice(2, 3, 4), s if x.side <= 16 else 1
    layer = nn.ConvTranspose2d(x.width, width, s + 2, s, 1, groups=groups)
    b.add(f"transposed convolution with {groups} groups to {width}", lambda m, x: m.layer(x), x, layer=layer)


def norm(b: Builder) -> None:
    x = b.node()
    layer = nn.BatchNorm2d(x.width, affine=b.choice(True, True, False))
    b.add(f"batch norm, affine {layer.affine}", lambda m, x: m.layer(x), x, layer=layer)


def channels_last_linear(b: Builder) -> None:
    x, width, act = b.node(), b.width(), b.choice(nn.GELU, nn.ReLU, nn.Identity)()
    body = nn.Sequential(nn.Linear(x.width, width, bias=b.choice(True, False)), act)
    if b.choice(True, False):
        body.append(nn.Linear(width, b.width()))
    there, back = b.choice(
        (lambda x: x.permute(0, 2, 3, 1), lambda x: x.permute(0, 3, 1, 2)),
        (lambda x: x.permute((0, -2, -1, 1)), lambda x: x.movedim(-1, 1)),
        (lambda x: x.transpose(1, 2).transpose(2, 3), lambda x: x.transpose(3, 2).transpose(1, 2)),
    )
    b.add(f"linear in channels-last to {body[-1]}", lambda m, x: back(m.body(there(x))).contiguous(), x, body=body)


def shared(b: Builder) -> None:
    x = b.node()
    width = b.choice(x.width, b.width())
    norm = nn.BatchNorm2d(width) if b.choice(True, False) else nn.Identity()
    body = nn.Sequential(nn.Conv2d(x.width, width, 3, padding=1), norm, nn.SiLU())
    if width == x.width and b.choice(True, False):
        b.add("a convolution twice in sequence", lambda m, x: m.body(m.body(x)), x, body=body)
    elif b.choice(True, False):
        b.add(
            "one convolution on two inputs", lambda m, x, y: [m.body(x), m.body(y)], x, b.beside(x, x.width), body=body
        )
    else:
        both = lambda m, x: [m.body(x), m.body(F.max_pool2d(x, 3, 1, 1))]  # noqa: E731
        b.add("one convolution on two scales", both, x, body=body)


def functional_conv(b: Builder) -> None:
    x, width = b.node(), b.width()
    weight = nn.Parameter(b.normal(width, x.width, 1, 1) / x.width**0.5)
    b.add(f"F.conv2d with a parameter to {width}", lambda m, x: F.conv2d(x, m.weight), x, weight=weight)


# One tensor, cell by cell


def activate(b: Builder, name: str) -> None:
    x = b.node()
    if name in MODULES:
        b.add(name, lambda m, x: m.act(x), x, act=MODULES[name](x.width))
    else:
        b.add(name, lambda m, x: FUNCTIONS[name](x), x)


def glu(b: Builder) -> None:
    b.add("GLU", lambda m, x: m.act(x), b.node(2, least=4), act=nn.GLU(dim=1))


def dropout(b: Builder) -> None:
    kind = b.choice(nn.Dropout, nn.Dropout2d)
    b.add(kind.__name__, lambda m, x: m.drop(x), b.node(), drop=kind(0.2))


def layer_scale(b: Builder) -> None:
    x, name = b.node(), b.choice("viewed", "full", "buffer", "buffer viewed", "added", "scalar", "own conv")
    w, hidden = x.width, nn.Conv2d(x.width, x.width, 1) if b.choice(True, False) else nn.Identity()
    runs: dict[str, tuple[Tensor, Callable]] = {
        "viewed": (b.parameter(w), lambda m, x: m.body(x) * m.gamma.view(1, -1, 1, 1)),
        "full": (b.parameter(1, w, 1, 1), lambda m, x: m.gamma * m.body(x)),
        "buffer": (b.normal(1, w, 1, 1), lambda m, x: m.body(x) * m.gamma),
        "buffer viewed": (b.normal(w), lambda m, x: m.body(x).mul(m.gamma[None, :, None, None])),
        "added": (b.parameter(1, w, 1, 1), lambda m, x: m.body(x) + m.gamma),
        "scalar": (b.parameter(1), lambda m, x: x + m.gamma * m.body(x)),
        "own conv": (b.parameter(w, 1, 1), lambda m, x: x + m.body(x) * m.gamma),
    }
    gamma, run = runs[name]
    b.add(f"layer scale, {name}", run, x, gamma=gamma, body=hidden)


def layer_norm(b: Builder) -> None:
    x = b.node()
    last = lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()  # noqa: E731
    b.add("LayerNorm over channels", last, x, norm=nn.LayerNorm(x.width))


def group_norm(b: Builder) -> None:
    x = b.node(2)
    b.add("GroupNorm", lambda m, x: m.norm(x), x, norm=nn.GroupNorm(b.choice(1, 2), x.width))


# One tensor, other places


def pooling(b: Builder) -> None:
    x = b.node(side=4)
    k, s = b.choice((2, 2), (3, 2), (3, 1), (5, 1)) if x.side >= 8 else (3, 1)
    pool = b.choice(nn.MaxPool2d(k, s, k // 2), nn.AvgPool2d(k, s, k // 2))
    b.add(str(pool), lambda m, x: m.pool(x), x, pool=pool)


def adaptive_pooling(b: Builder) -> None:
    pool = b.choice(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)(b.choice(2, 4, (3, 5)))
    b.add(str(pool), lambda m, x: m.pool(x), b.node(side=4), pool=pool)


def global_mean(b: Builder) -> None:
    x, name = b.node(), b.choice("mean", "adaptive", "max", "flat")
    runs = {
        "mean": lambda m, x: x.mean((2, 3), keepdim=True),
        "adaptive": lambda m, x: F.adaptive_avg_pool2d(x, 1),
        "max": lambda m, x: x.amax(dim=(-2, -1), keepdim=True),
        "flat": lambda m, x: x.flatten(2).mean(2)[:, :, None, None],
    }
    pooled = b.add(f"global {name}", runs[name], x)
    wide = b.add("a convolution of what is pooled", lambda m, x: m.conv(x), pooled, conv=nn.Conv2d(x.width, x.width, 1))
    b.add("a gate by what is pooled", lambda m, x, g: x * g.sigmoid() + g, x, wide)


def upsample(b: Builder) -> None:
    x, mode = b.node(), b.choice("nearest", "bilinear")
    factor = 2 if x.side <= 16 else 1
    if b.choice(True, False):
        up = nn.Upsample(scale_factor=factor, mode=mode)
        b.add(f"upsample {mode}", lambda m, x: m.up(x), x, up=up)
    else:
        b.add(
            f"interpolate {mode} to a size", lambda m, x, y: F.interpolate(x, size=y.shape[2:], mode=mode), x, b.node()
        )


def pixel_shuffle(b: Builder) -> None:
    x = b.node(4, least=8)
    shuffled = b.add("pixel_shuffle", lambda m, x: F.pixel_shuffle(x, 2), x)
    if x.side > 8:
        b.add("max_pool2d", lambda m, x: F.max_pool2d(x, 2), shuffled)


def pixel_unshuffle(b: Builder) -> None:
    x = b.pick(lambda node: node.divides(2) and node.side >= 4 and node.width <= 8)
    x = x or b.add("upsample", lambda m, x: F.interpolate(x, scale_factor=2), b.node(most=8))
    b.add("pixel_unshuffle", lambda m, x: m.fold(x), x, fold=nn.PixelUnshuffle(2))


def focus(b: Builder) -> None:
    x = b.pick(lambda node: node.divides(2) and node.side >= 4 and node.width <= 8)
    x = x or b.add("upsample", lambda m, x: F.interpolate(x, scale_factor=2), b.node(most=8))
    parts = lambda x: [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]  # noqa: E731
    b.add("focus slices", lambda m, x: torch.cat(parts(x), 1), x)


def pad(b: Builder) -> None:
    mode, value = b.choice(
        ("constant", 0), ("constant", 0.5), ("reflect", None), ("replicate", None), ("circular", None)
    )
    sides = b.choice((1, 1, 1, 1), (0, 1, 0, 1))
    run = lambda m, x: F.pad(x, sides, mode) if value is None else F.pad(x, sides, mode, value)  # noqa: E731
    b.add(f"pad {sides} {mode} {value}", run, b.node(side=2))


def channel_shuffle(b: Builder) -> None:
    g = b.choice(2, 3, 4)
    x = b.node(g, least=2 * g)
    runs = {
        "from the shape": lambda m, x: (
            x.reshape(x.shape[0], g, x.shape[1] // g, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        ),
        "with -1": lambda m, x: x.reshape(x.size(0), g, -1, x.size(2), x.size(3)).transpose(1, 2).flatten(1, 2),
        "attribute": lambda m, x: (
            x.contiguous().view(len(x), g, m.c, *x.shape[-2:]).transpose(1, 2).contiguous().view(x.shape)
        ),
    }
    name = b.choice(*runs, "module")
    if name == "module":
        b.add(f"ChannelShuffle({g})", lambda m, x: m.shuffle(x), x, shuffle=nn.ChannelShuffle(g))
    else:
        b.add(f"channel shuffle {g} {name}", runs[name], x, c=x.width // g)


# One tensor to several


def chunk_equal(b: Builder) -> None:
    parts = b.choice(2, 2, 3, 4)
    b.add(f"chunk {parts}", lambda m, x: x.chunk(parts, 1), b.node(parts, least=2 * parts))


def chunk_unequal(b: Builder) -> None:
    width, parts = b.choice((9, 2), (8, 3), (15, 4))
    x = b.project(b.node(), width)
    b.add(f"chunk {width} into {parts}", lambda m, x: torch.chunk(x, parts, dim=1), x)


def split_equal(b: Builder) -> None:
    parts = b.choice(2, 3)
    x = b.node(parts, least=2 * parts)
    c = x.width // parts
    runs = {
        "number": lambda m, x: x.split(c, 1),
        "numbers": lambda m, x: torch.split(x, [c] * parts, dim=1),
        "attribute": lambda m, x: x.split(m.c, dim=1),
        "attributes": lambda m, x: x.split((m.c,) * parts, 1),
        "shape": lambda m, x: x.split(x.shape[1] // parts, 1),
        "size": lambda m, x: x.split([x.size(1) // parts] * parts, dim=-3),
        "tensor_split": lambda m, x: x.tensor_split(parts, dim=1),
    }
    name = b.choice(*runs)
    b.add(f"split into {parts} by {name}", runs[name], x, c=c)


def split_unequal(b: Builder) -> None:
    x = b.node(least=4)
    c = b.choice(1, x.width // 4, x.width // 2 + 1)
    rest = x.width - c
    runs = {
        "numbers": lambda m, x: x.split([c, rest], 1),
        "attributes": lambda m, x: x.split((m.c, m.rest), dim=1),
        "shape": lambda m, x: torch.split(x, [x.shape[1] // 4, x.shape[1] - x.shape[1] // 4], dim=1),
        "mixed": lambda m, x: x.split([m.c, x.shape[1] - m.c], 1),
    }
    name = b.choice(*runs)
    b.add(f"split {c}, {rest} by {name}", runs[name], x, c=c, rest=rest)


def slices(b: Builder) -> None:
    x = b.node(least=4)
    c = b.choice(1, x.width // 4, x.width // 2, x.width // 2 + 1)
    runs = {
        "number": lambda m, x: [x[:, :c], x[:, c:]],
        "attribute": lambda m, x: [x[:, : m.c], x[:, m.c :, ...]],
        "shape": lambda m, x: [x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]],
        "middle": lambda m, x: [x[:, 1:-1, :, :], x[:, -1:]],
        "overlap": lambda m, x: [x[:, : m.c + 1], x[:, m.c :]],
        "every other": lambda m, x: [x[:, ::2], x[:, 1::2]],
        "narrow": lambda m, x: [x.narrow(1, 0, m.c), x.narrow(1, m.c, x.shape[1] - m.c)],
        "one": lambda m, x: [x[:, 0].unsqueeze(1), x[:, 1:]],
    }
    name = b.choice(*runs)
    b.add(f"slices at {c} by {name}", runs[name], x, c=c)


def partial_conv(b: Builder) -> None:
    x = b.node(4, least=8)
    c = x.width // 4

    def written(m: Any, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, : m.c] = m.conv(x[:, : m.c])
        return y

    def split(m: Any, x: Tensor) -> Tensor:
        first, rest = torch.split(x, [m.c, m.rest], dim=1)
        return torch.cat((m.conv(first), rest), 1)

    runs = {"split": split, "sliced": lambda m, x: torch.cat([m.conv(x[:, : m.c]), x[:, m.c :]], 1), "written": written}
    name = b.choice(*runs)
    conv = nn.Conv2d(c, c, 3, padding=1, bias=False)
    b.add(f"partial convolution, {name}", runs[name], x, conv=conv, c=c, rest=x.width - c)


def c2f(b: Builder) -> None:
    x, c = b.node(), b.choice(3, 4, 6)

    def run(m: Any, x: Tensor) -> Tensor:
        y = list(m.first(x).chunk(2, 1)) if m.chunks else list(m.first(x).split((m.c, m.c), 1))
        y.extend(inner(y[-1]) + y[-1] if m.shortcut else inner(y[-1]) for inner in m.inner)
        return m.last(torch.cat(y, 1))

    def block(a: int, c: int, k: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(a, c, k, padding=k // 2, bias=False), nn.BatchNorm2d(c), nn.SiLU())

    parts: dict[str, Any] = {"first": block(x.width, 2 * c, 1), "last": block(3 * c, b.width(), 1), "c": c}
    parts |= {"inner": nn.ModuleList([block(c, c, 3)]), "shortcut": b.choice(True, False), "chunks": b.choice(0, 1)}
    b.add(f"C2f with {c}, shortcut {parts['shortcut']}, chunk {parts['chunks']}", run, x, **parts)


# Several tensors


def residual(b: Builder) -> None:
    x = b.node()
    run = {"y = y + x": lambda m, x: m.body(x) + x, "add": lambda m, x: torch.add(x, m.body(x), alpha=0.5)}
    run |= {"+=": lambda m, x: m.body(x).add_(x), "difference": lambda m, x: x - m.body(x)}
    name = b.choice(*run)
    body = nn.Sequential(nn.Conv2d(x.width, x.width, 3, padding=1, bias=False), nn.BatchNorm2d(x.width))
    b.add(f"residual, {name}", run[name], x, body=body)


def long_residual(b: Builder) -> None:
    x = b.node()
    b.add("sum of two", lambda m, x, y: x + y, x, b.beside(x, x.width))


def sum_of_several(b: Builder) -> None:
    x = b.node()
    b.add("sum of three", lambda m, *xs: sum(xs), x, b.beside(x, x.width), b.beside(x, x.width))


def broadcast_channel(b: Builder) -> None:
    x, name = b.node(), b.choice("sum", "product")
    layer = nn.Conv2d(x.width, 1, 1)
    run = {"sum": lambda m, x: x + m.layer(x), "product": lambda m, x: m.layer(x).sigmoid() * x}
    b.add(f"{name} with one channel", run[name], x, layer=layer)


def broadcast_space(b: Builder) -> None:
    x = b.node()
    y = b.beside(x, x.width)
    b.add(
        "sum with one cell", lambda m, x, y: x + m.conv(y.mean((2, 3), True)), x, y, conv=nn.Conv2d(x.width, x.width, 1)
    )


def concat(b: Builder) -> None:
    nodes = [b.node(most=16)]
    for _ in range(b.choice(1, 1, 2, 3, 4)):
        nodes.append(b.beside(nodes[0]))
    nodes = [node for i, node in enumerate(nodes) if i < 2 or sum(n.width for n in nodes[: i + 1]) <= 2 * LARGEST_WIDTH]
    b.random.shuffle(nodes)
    dim = b.choice(1, -3)
    b.add(f"concat of {len(nodes)}", lambda m, *xs: torch.cat(xs, dim), *nodes)


def concat_same(b: Builder) -> None:
    x = b.node(most=12)
    y = b.beside(x)
    b.add("concat of the same twice", lambda m, x, y: torch.cat([x, y, x], 1), x, y)


def concat_space(b: Builder) -> None:
    x, dim = b.node(), b.choice(2, 3, -1)
    joined = b.add(f"concat along {dim}", lambda m, x, y: torch.cat((x, y), dim), x, b.beside(x, x.width))
    b.add("max_pool2d", lambda m, x: F.max_pool2d(x, 3, 2, 1), joined)


def stack_sum(b: Builder) -> None:
    x = b.node()
    run = {
        "stack dim 0": lambda m, x, y: torch.stack([x, y]).sum(0),
        "stack dim 1": lambda m, x, y: torch.stack((x, y), 1).sum(1),
        "stack dim 2": lambda m, x, y: torch.stack((x, y), dim=2).mean(dim=2),
        "stack dim -1": lambda m, x, y: torch.stack([x, y], -1).amax(-1),
        "cat and sum": lambda m, x, y: torch.cat([x[None], y[None]]).sum(dim=0),
    }
    name = b.choice(*run)
    b.add(name, run[name], x, b.beside(x, x.width))


def fusion(b: Builder) -> None:
    x = b.node()
    y, z = b.beside(x, x.width), b.beside(x, x.width)

    def fast(m: Any, *xs: Tensor) -> Tensor:
        w = F.relu(m.w) / (F.relu(m.w).sum() + 1e-4)
        return sum(w[i] * x for i, x in enumerate(xs))

    def soft(m: Any, *xs: Tensor) -> Tensor:
        return (torch.stack(xs, dim=0) * m.w.softmax(0).view(-1, 1, 1, 1, 1)).sum(dim=0)

    def joined(m: Any, *xs: Tensor) -> Tensor:
        w = torch.sigmoid(m.w)
        return torch.cat([w[i] * x for i, x in enumerate(xs)], 1)

    run = {"fast": fast, "soft": soft, "joined": joined}
    name = b.choice(*run)
    b.add(f"fusion, {name}", run[name], x, y, z, w=nn.Parameter(b.normal(3).abs()))


def gate(b: Builder) -> None:
    x = b.node()
    y = b.beside(x, x.width)
    layer = nn.Conv2d(x.width, x.width, 1)
    run = {
        "sigmoid": lambda m, x, y: x * torch.sigmoid(m.layer(y)),
        "tanh sigmoid": lambda m, x, y: torch.tanh(x) * m.layer(y).sigmoid(),
        "product": lambda m, x, y: x * m.layer(y),
        "blend": lambda m, x, y: (g := m.layer(x).sigmoid()) * x + (1 - g) * y,
        "maximum": lambda m, x, y: torch.maximum(x, m.layer(y)),
        "quotient": lambda m, x, y: m.layer(x) / (1 + y.abs()),
    }
    name = b.choice(*run)
    b.add(f"gate, {name}", run[name], x, y, layer=layer)


def squeeze_excite(b: Builder) -> None:
    x = b.node()
    r, act = max(x.width // 4, 2), b.choice(nn.Sigmoid, nn.Hardsigmoid)()
    body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(x.width, r, 1), nn.ReLU(), nn.Conv2d(r, x.width, 1), act)
    b.add(f"squeeze and excite by {r}", lambda m, x: x * m.body(x), x, body=body)


def squeeze_unsqueeze(b: Builder) -> None:
    x = b.node()

    def eca(m: Any, x: Tensor) -> Tensor:
        y = m.conv(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2))
        return x * y.transpose(-1, -2).unsqueeze(-1).sigmoid()

    def dims(m: Any, x: Tensor) -> Tensor:
        return x * m.linear(x.mean((2, 3), keepdim=True).squeeze(3).squeeze(2)).unsqueeze(2).unsqueeze(3).tanh()

    if b.choice(True, False):
        b.add("efficient channel attention", eca, x, conv=nn.Conv1d(1, 1, 3, padding=1, bias=False))
    else:
        b.add("squeeze, linear, unsqueeze", dims, x, linear=nn.Linear(x.width, x.width))


def spatial_attention(b: Builder) -> None:
    x = b.node()
    run = {
        "mean and max": lambda m, x: torch.cat([x.mean(1, keepdim=True), x.amax(1, True)], 1),
        "max": lambda m, x: torch.cat([torch.max(x, dim=1, keepdim=True)[0], torch.mean(x, 1, keepdim=True)], dim=1),
        "sum over width": lambda m, x: torch.cat([x.sum(1, True) / x.shape[1], x.norm(dim=1, keepdim=True)], 1),
    }
    name = b.choice(*run)
    stats = run[name]
    b.add(
        f"spatial attention, {name}", lambda m, x: x * m.conv(stats(m, x)).sigmoid(), x, conv=nn.Conv2d(2, 1, 3, 1, 1)
    )


def constants(b: Builder) -> None:
    x = b.node(most=16)
    run = {
        "zeros_like": lambda m, x: torch.cat([x, torch.zeros_like(x)], 1),
        "new_zeros": lambda m, x: torch.cat([x.new_zeros(x.shape), x], 1),
        "ones": lambda m, x: torch.cat([x, x.new_ones(x.shape[0], 2, *x.shape[2:])], 1),
        "add ones": lambda m, x: x + torch.ones_like(x),
        "times ones": lambda m, x: x * torch.ones_like(x),
        "expand": lambda m, x: x + x.mean((2, 3), keepdim=True).expand_as(x),
        "repeat": lambda m, x: x.repeat(1, 2, 1, 1),
        "coordinates": lambda m, x: torch.cat([x, torch.linspace(0, 1, x.shape[3]).to(x).expand_as(x[:, :1])], 1),
    }
    name = b.choice(*run)
    b.add(name, run[name], x)


def einsum(b: Builder) -> None:
    x = b.node()
    y = b.beside(x, x.width)
    run = {
        "scale": lambda m, x, y: torch.einsum("bchw,bc->bchw", x, y.mean((2, 3))),
        "mix": lambda m, x, y: torch.einsum("bchw,oc->bohw", x, m.mix) + y,
        "similar": lambda m, x, y: y * torch.einsum("bchw,bchw->bhw", x, y).unsqueeze(1).sigmoid(),
        "affinity": lambda m, x, y: torch.einsum("bchw,bdhw->bcd", x, y).softmax(-1).mean(-1)[..., None, None] * x,
    }
    name = b.choice(*run)
    b.add(f"einsum, {name}", run[name], x, y, mix=nn.Parameter(b.normal(x.width, x.width) / x.width**0.5))


USUAL = (
    grouped_conv,
    depthwise,
    depthwise_multiplier,
    transposed,
    grouped_transposed,
    norm,
    channels_last_linear,
    shared,
)
USUAL += (
    glu,
    layer_scale,
    pooling,
    adaptive_pooling,
    global_mean,
    upsample,
    pixel_shuffle,
    pixel_unshuffle,
    focus,
    pad,
)
USUAL += (channel_shuffle, chunk_equal, split_equal, split_unequal, slices, partial_conv, c2f, residual, long_residual)
USUAL += (
    sum_of_several,
    broadcast_channel,
    broadcast_space,
    concat,
    concat_same,
    concat_space,
    stack_sum,
    fusion,
    gate,
)
USUAL += (squeeze_excite, squeeze_excite_linear, multi_head_attention, area_attention)
# What pins by its nature comes less often than the others, so that most networks keep channels to remove.
PINNING = (functional_conv, dropout, layer_norm, group_norm, chunk_unequal, squeeze_unsqueeze, spatial_attention)
PINNING += (constants, einsum, global_context)


ACTIVATIONS = {
    f"act: {name}": functools.partial(activate, name=name)
    for name in (*MODULES, *FUNCTIONS)
    if name != "ReLU in place"  # only behind a convolution: others read its input too
}
NAMED = {operation.__name__.replace("_", " "): operation for operation in (conv, *USUAL, *PINNING)}
OPERATIONS: dict[str, Callable[[Builder], None]] = {**NAMED, **ACTIVATIONS}
DRAWN = ("conv",) * 10 + tuple(NAMED) * 3 + tuple(NAMED)[: len(USUAL) + 1] * 2 + tuple(ACTIVATIONS) * 2
