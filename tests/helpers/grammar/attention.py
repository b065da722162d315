"""Operations of random networks that move channels to other dimensions and back: attention of several kinds."""

from typing import Any

from torch import Tensor, nn

from helpers.grammar.base import Builder, pinning, usual


@usual
def squeeze_excite_linear(b: Builder) -> None:
    x = b.node()
    body = nn.Sequential(nn.Linear(x.width, 4), nn.ReLU(), nn.Linear(4, x.width, bias=False), nn.Sigmoid())

    def viewed(m: Any, x: Tensor) -> Tensor:
        batch, width, _, _ = x.size()
        return x * m.body(m.pool(x).view(batch, width)).view(batch, width, 1, 1).expand_as(x)

    def indexed(m: Any, x: Tensor) -> Tensor:
        return x * m.body(x.mean(dim=[2, 3]))[:, :, None, None]

    def flattened(m: Any, x: Tensor) -> Tensor:
        return m.body(m.pool(x).flatten(1)).unflatten(1, (-1, 1, 1)) * x

    run = {"viewed": viewed, "indexed": indexed, "flattened": flattened}
    name = b.choice(*run)
    b.add(f"squeeze and excite by linear layers, {name}", run[name], x, pool=nn.AdaptiveAvgPool2d(1), body=body)


@usual
def multi_head_attention(b: Builder) -> None:
    """Heads along the channels, as in YOLO11."""
    heads, key = b.choice(1, 2), b.choice(2, 3)
    x = b.small(b.node(heads, least=2 * heads))
    dim = x.width // heads

    def constant(m: Any, x: Tensor) -> Tensor:
        batch, width, height, breadth = x.shape
        qkv = m.qkv(x).view(batch, m.heads, 2 * m.key + m.dim, height * breadth)
        q, k, v = qkv.split([m.key, m.key, m.dim], dim=2)
        weights = ((q.transpose(-2, -1) @ k) * m.scale).softmax(dim=-1)
        y = (v @ weights.transpose(-2, -1)).view(batch, width, height, breadth)
        return m.proj(y + m.pe(v.reshape(batch, width, height, breadth)))

    def from_shape(m: Any, x: Tensor) -> Tensor:
        batch, _, height, breadth = x.shape
        qkv = m.qkv(x).view(batch, m.heads, -1, height * breadth)
        q, k, v = qkv.split([m.key, m.key, m.dim], dim=2)
        weights = (q.transpose(-2, -1) @ k * k.shape[2] ** -0.5).softmax(dim=-1)
        y = (v @ weights.transpose(-2, -1)).reshape(batch, -1, height, breadth)
        return x + m.proj(y)

    def separate(m: Any, x: Tensor) -> Tensor:
        batch, _, height, breadth = x.shape
        q, k, v = (layer(x).flatten(2).unflatten(1, (m.heads, -1)) for layer in (m.q, m.k, m.v))
        y = v @ (q.mT @ k * m.scale).softmax(-1).mT
        return m.proj(y.flatten(1, 2).view(batch, -1, height, breadth))

    run = {"constant scale": constant, "scale from the shape": from_shape, "separate": separate}
    name = b.choice(*run)
    total, width = heads * (2 * key + dim), x.width
    parts: dict[str, Any] = {"heads": heads, "key": key, "dim": dim, "scale": key**-0.5}
    parts["proj"] = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))
    if name == "separate":
        parts |= {"q": nn.Conv2d(width, heads * key, 1), "k": nn.Conv2d(width, heads * key, 1)}
        parts["v"] = nn.Conv2d(width, width, 1)
    else:
        parts["qkv"] = nn.Sequential(nn.Conv2d(width, total, 1, bias=False), nn.BatchNorm2d(total))
        if name == "constant scale":
            parts["pe"] = nn.Conv2d(width, width, 3, padding=1, groups=width)
    b.add(f"attention, {heads} heads of {key}, {name}", run[name], x, **parts)


@usual
def area_attention(b: Builder) -> None:
    """Attention within areas of the image, channels last, as in YOLO12."""
    heads, area = b.choice(1, 2), b.choice(1, 2)
    x = b.small(b.pick(lambda node: node.width % heads == 0 and node.divides(4)) or b.node(heads, least=4))
    area = area if x.divides(2) else 1
    width = x.width

    def run(m: Any, x: Tensor) -> Tensor:
        batch, width, height, breadth = x.shape
        cells = height * breadth
        qkv = m.qkv(x).flatten(2).transpose(1, 2)
        if m.area > 1:
            qkv = qkv.reshape(batch * m.area, cells // m.area, width * 3)
        groups, cells, _ = qkv.shape
        qkv = qkv.view(groups, cells, m.heads, m.dim * 3).permute(0, 2, 3, 1)
        q, k, v = qkv.split([m.dim, m.dim, m.dim], dim=2)
        weights = ((q.transpose(-2, -1) @ k) * m.dim**-0.5).softmax(dim=-1)
        y, v = (v @ weights.transpose(-2, -1)).permute(0, 3, 1, 2), v.permute(0, 3, 1, 2)
        if m.area > 1:
            y = y.reshape(groups // m.area, cells * m.area, width)
            v = v.reshape(groups // m.area, cells * m.area, width)
        y = y.reshape(batch, height, breadth, width).permute(0, 3, 1, 2).contiguous()
        v = v.reshape(batch, height, breadth, width).permute(0, 3, 1, 2).contiguous()
        return m.proj(y + m.pe(v))

    parts: dict[str, Any] = {"heads": heads, "area": area, "dim": width // heads}
    parts["qkv"] = nn.Sequential(nn.Conv2d(width, 3 * width, 1, bias=False), nn.BatchNorm2d(3 * width))
    parts["pe"] = nn.Conv2d(width, width, 3, padding=1, groups=width)
    parts["proj"] = nn.Conv2d(width, width, 1)
    b.add(f"area attention, {heads} heads, {area} areas", run, x, **parts)


@pinning
def global_context(b: Builder) -> None:
    """One weight for each cell, and the sum of all cells by it."""
    x = b.node()

    def run(m: Any, x: Tensor) -> Tensor:
        batch, width, height, breadth = x.shape
        weights = m.mask(x).view(batch, 1, height * breadth).softmax(dim=2).unsqueeze(-1)
        context = (x.contiguous().view(batch, width, height * breadth).unsqueeze(1) @ weights).view(batch, width, 1, 1)
        return x + m.transform(context)

    transform = nn.Sequential(nn.Conv2d(x.width, 4, 1), nn.ReLU(), nn.Conv2d(4, x.width, 1))
    b.add("global context", run, x, mask=nn.Conv2d(x.width, 1, 1), transform=transform)
