"""Operations of random networks that read one tensor and give one (see `base.py`).

They are written as users write them: sizes as numbers in the code, as attributes of the module, and taken from the
tensor's shape.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.grammar.base import Builder, Node, pinning, usual

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


@usual
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


@usual
def grouped_conv(b: Builder) -> None:
    groups = b.choice(2, 3, 4)
    x = b.node(groups, least=2 * groups)
    norm = b.choice(True, False)
    _conv(b, x, groups * b.choice(2, 3, 4), 3, norm=norm, padding=1, groups=groups, bias=not norm)


@usual
def depthwise(b: Builder) -> None:
    x, k, d = b.node(side=4), b.choice(3, 5), b.choice(1, 2)
    _conv(b, x, x.width, k, norm=b.choice(True, False), padding=d * (k // 2), dilation=d, groups=x.width)


@usual
def depthwise_multiplier(b: Builder) -> None:
    x, times = b.node(most=16), b.choice(2, 3)
    _conv(b, x, times * x.width, 3, norm=b.choice(True, False), padding=1, groups=x.width)


@usual
def transposed(b: Builder) -> None:
    x, width, groups = b.node(most=16), b.width(), 1
    k, s = b.choice((2, 2), (3, 1), (4, 2)) if x.side <= 16 else (3, 1)
    layer = nn.ConvTranspose2d(x.width, width, k, s, (k - s) // 2, groups=groups, bias=b.choice(True, False))
    norm = nn.BatchNorm2d(width) if b.choice(True, False) else nn.Identity()
    b.add(f"transposed convolution {k}/{s} to {width}", lambda m, x: m.norm(m.layer(x)), x, layer=layer, norm=norm)


@usual
def grouped_transposed(b: Builder) -> None:
    groups = b.choice(2, 3)
    x, s = b.node(groups, least=2 * groups, most=16), b.choice(1, 2)
    width, s = groups * b.choice(2, 3, 4), s if x.side <= 16 else 1
    layer = nn.ConvTranspose2d(x.width, width, s + 2, s, 1, groups=groups)
    b.add(f"transposed convolution with {groups} groups to {width}", lambda m, x: m.layer(x), x, layer=layer)


@usual
def norm(b: Builder) -> None:
    x = b.node()
    layer = nn.BatchNorm2d(x.width, affine=b.choice(True, True, False))
    b.add(f"batch norm, affine {layer.affine}", lambda m, x: m.layer(x), x, layer=layer)


@usual
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


@usual
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


@pinning
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


@usual
def glu(b: Builder) -> None:
    b.add("GLU", lambda m, x: m.act(x), b.node(2, least=4), act=nn.GLU(dim=1))


@pinning
def dropout(b: Builder) -> None:
    kind = b.choice(nn.Dropout, nn.Dropout2d)
    b.add(kind.__name__, lambda m, x: m.drop(x), b.node(), drop=kind(0.2))


@usual
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


@pinning
def layer_norm(b: Builder) -> None:
    x = b.node()
    last = lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()  # noqa: E731
    b.add("LayerNorm over channels", last, x, norm=nn.LayerNorm(x.width))


@pinning
def group_norm(b: Builder) -> None:
    x = b.node(2)
    b.add("GroupNorm", lambda m, x: m.norm(x), x, norm=nn.GroupNorm(b.choice(1, 2), x.width))


# One tensor, other places


@usual
def pooling(b: Builder) -> None:
    x = b.node(side=4)
    k, s = b.choice((2, 2), (3, 2), (3, 1), (5, 1)) if x.side >= 8 else (3, 1)
    pool = b.choice(nn.MaxPool2d(k, s, k // 2), nn.AvgPool2d(k, s, k // 2))
    b.add(str(pool), lambda m, x: m.pool(x), x, pool=pool)


@usual
def adaptive_pooling(b: Builder) -> None:
    pool = b.choice(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)(b.choice(2, 4, (3, 5)))
    b.add(str(pool), lambda m, x: m.pool(x), b.node(side=4), pool=pool)


@usual
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


@usual
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


@usual
def pixel_shuffle(b: Builder) -> None:
    x = b.node(4, least=8)
    shuffled = b.add("pixel_shuffle", lambda m, x: F.pixel_shuffle(x, 2), x)
    if x.side > 8:
        b.add("max_pool2d", lambda m, x: F.max_pool2d(x, 2), shuffled)


@usual
def pixel_unshuffle(b: Builder) -> None:
    x = b.pick(lambda node: node.divides(2) and node.side >= 4 and node.width <= 8)
    x = x or b.add("upsample", lambda m, x: F.interpolate(x, scale_factor=2), b.node(most=8))
    b.add("pixel_unshuffle", lambda m, x: m.fold(x), x, fold=nn.PixelUnshuffle(2))


@usual
def focus(b: Builder) -> None:
    x = b.pick(lambda node: node.divides(2) and node.side >= 4 and node.width <= 8)
    x = x or b.add("upsample", lambda m, x: F.interpolate(x, scale_factor=2), b.node(most=8))
    parts = lambda x: [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]  # noqa: E731
    b.add("focus slices", lambda m, x: torch.cat(parts(x), 1), x)


@usual
def pad(b: Builder) -> None:
    mode, value = b.choice(
        ("constant", 0), ("constant", 0.5), ("reflect", None), ("replicate", None), ("circular", None)
    )
    sides = b.choice((1, 1, 1, 1), (0, 1, 0, 1))
    run = lambda m, x: F.pad(x, sides, mode) if value is None else F.pad(x, sides, mode, value)  # noqa: E731
    b.add(f"pad {sides} {mode} {value}", run, b.node(side=2))


@usual
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
