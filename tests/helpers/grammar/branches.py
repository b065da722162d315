"""Operations of random networks that part and join channels: chunks, splits, slices, sums, concatenations, gates."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.grammar.base import LARGEST_WIDTH, Builder, pinning, usual

# One tensor to several


@usual
def chunk_equal(b: Builder) -> None:
    parts = b.choice(2, 2, 3, 4)
    b.add(f"chunk {parts}", lambda m, x: x.chunk(parts, 1), b.node(parts, least=2 * parts))


@pinning
def chunk_unequal(b: Builder) -> None:
    width, parts = b.choice((9, 2), (8, 3), (15, 4))
    x = b.project(b.node(), width)
    b.add(f"chunk {width} into {parts}", lambda m, x: torch.chunk(x, parts, dim=1), x)


@usual
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


@usual
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


@usual
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


@usual
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


@usual
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


@usual
def residual(b: Builder) -> None:
    x = b.node()
    run = {"y = y + x": lambda m, x: m.body(x) + x, "add": lambda m, x: torch.add(x, m.body(x), alpha=0.5)}
    run |= {"+=": lambda m, x: m.body(x).add_(x), "difference": lambda m, x: x - m.body(x)}
    name = b.choice(*run)
    body = nn.Sequential(nn.Conv2d(x.width, x.width, 3, padding=1, bias=False), nn.BatchNorm2d(x.width))
    b.add(f"residual, {name}", run[name], x, body=body)


@usual
def long_residual(b: Builder) -> None:
    x = b.node()
    b.add("sum of two", lambda m, x, y: x + y, x, b.beside(x, x.width))


@usual
def sum_of_several(b: Builder) -> None:
    x = b.node()
    b.add("sum of three", lambda m, *xs: sum(xs), x, b.beside(x, x.width), b.beside(x, x.width))


@usual
def broadcast_channel(b: Builder) -> None:
    x, name = b.node(), b.choice("sum", "product")
    layer = nn.Conv2d(x.width, 1, 1)
    run = {"sum": lambda m, x: x + m.layer(x), "product": lambda m, x: m.layer(x).sigmoid() * x}
    b.add(f"{name} with one channel", run[name], x, layer=layer)


@usual
def broadcast_space(b: Builder) -> None:
    x = b.node()
    y = b.beside(x, x.width)
    b.add(
        "sum with one cell", lambda m, x, y: x + m.conv(y.mean((2, 3), True)), x, y, conv=nn.Conv2d(x.width, x.width, 1)
    )


@usual
def concat(b: Builder) -> None:
    nodes = [b.node(most=16)]
    for _ in range(b.choice(1, 1, 2, 3, 4)):
        nodes.append(b.beside(nodes[0]))
    nodes = [node for i, node in enumerate(nodes) if i < 2 or sum(n.width for n in nodes[: i + 1]) <= 2 * LARGEST_WIDTH]
    b.random.shuffle(nodes)
    dim = b.choice(1, -3)
    b.add(f"concat of {len(nodes)}", lambda m, *xs: torch.cat(xs, dim), *nodes)


@usual
def concat_same(b: Builder) -> None:
    x = b.node(most=12)
    y = b.beside(x)
    b.add("concat of the same twice", lambda m, x, y: torch.cat([x, y, x], 1), x, y)


@usual
def concat_space(b: Builder) -> None:
    x, dim = b.node(), b.choice(2, 3, -1)
    joined = b.add(f"concat along {dim}", lambda m, x, y: torch.cat((x, y), dim), x, b.beside(x, x.width))
    b.add("max_pool2d", lambda m, x: F.max_pool2d(x, 3, 2, 1), joined)


@usual
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


@usual
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


@usual
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


@usual
def squeeze_excite(b: Builder) -> None:
    x = b.node()
    r, act = max(x.width // 4, 2), b.choice(nn.Sigmoid, nn.Hardsigmoid)()
    body = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(x.width, r, 1), nn.ReLU(), nn.Conv2d(r, x.width, 1), act)
    b.add(f"squeeze and excite by {r}", lambda m, x: x * m.body(x), x, body=body)


@pinning
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


@pinning
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


@pinning
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


@pinning
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
