"""YOLO modules as users write them, registered as users do, and model yamls that name them.

The release resolves the names of a yaml in the namespace of `ultralytics.nn.tasks`, so `register` puts them there. What
`parse_model` does with a row's arguments hangs on the class: a module takes the part of a stock one (`like`), or gets
its arguments as they stand; `c2` among them is the width of the row before.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv, Detect


class SqueezeExcite(nn.Module):
    """Scales each channel by what a small network makes of all channels' means."""

    def __init__(self, c: int, ratio: int = 4) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(c, c // ratio, 1)
        self.expand = nn.Conv2d(c // ratio, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(F.silu(self.reduce(self.pool(x)))).sigmoid()


class LinearSqueezeExcite(nn.Module):
    """The same with linear layers and views."""

    def __init__(self, c: int, ratio: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(c, c // ratio), nn.ReLU(inplace=True), nn.Linear(c // ratio, c), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = F.adaptive_avg_pool2d(x, 1).view(b, c)
        return x * self.body(y).view(b, c, 1, 1).expand_as(x)


class WeightedFusion(nn.Module):
    """Adds maps by learned weights that are not negative and sum to one, as a BiFPN does."""

    def __init__(self, inputs: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(inputs) + 0.5)

    def forward(self, maps: list[Tensor]) -> Tensor:
        weight = F.relu(self.weight)
        weight = weight / (weight.sum() + 1e-4)
        return sum(weight[i] * x for i, x in enumerate(maps))


class StackedFusion(WeightedFusion):
    """The same over a stack of the maps."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        return (torch.stack(maps, dim=0) * self.weight.softmax(0).view(-1, 1, 1, 1, 1)).sum(dim=0)


class PartialConv(nn.Module):
    """Convolves the first channels and passes the others on."""

    def __init__(self, c: int, parts: int = 4, split: bool = True) -> None:
        super().__init__()
        self.dim, self.rest, self.split = c // parts, c - c // parts, split
        self.conv = nn.Conv2d(self.dim, self.dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.split:
            first, second = torch.split(x, [self.dim, self.rest], dim=1)
            return torch.cat((self.conv(first), second), 1)
        return torch.cat((self.conv(x[:, : self.dim, :, :]), x[:, self.dim :]), 1)


class FasterBlock(nn.Module):
    """A partial convolution and two of 1 x 1, with a shortcut, as in FasterNet."""

    def __init__(self, c: int, split: bool = True) -> None:
        super().__init__()
        self.partial = PartialConv(c, split=split)
        self.mlp = nn.Sequential(Conv(c, 2 * c, 1), nn.Conv2d(2 * c, c, 1, bias=False))
        self.scale = nn.Parameter(torch.ones(c))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale.view(1, -1, 1, 1) * self.mlp(self.partial(x))


class FusionStage(nn.Module):
    """Two paths, one of them through several convolutions with shortcuts, all of which are joined at the end."""

    def __init__(self, c1: int, c2: int, n: int = 1) -> None:
        super().__init__()
        c = c2 // 2
        self.first, self.second = Conv(c1, c, 1), Conv(c1, c, 1)
        self.body = nn.ModuleList(nn.Sequential(Conv(c, c, 3), Conv(c, c, 3)) for _ in range(n))
        self.last = Conv((n + 2) * c, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept, y = self.first(x), self.second(x)
        joined = [kept, y]
        for block in self.body:
            y = y + block(y)
            joined.append(y)
        return self.last(torch.cat(joined, 1))


class BlockAttention(nn.Module):
    """CBAM: a gate by channel, then a gate by place from the mean and the maximum over channels."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(c, c // 4, 1, bias=False), nn.ReLU(), nn.Conv2d(c // 4, c, 1, bias=False))
        self.place = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x * (self.mlp(F.adaptive_avg_pool2d(x, 1)) + self.mlp(F.adaptive_max_pool2d(x, 1))).sigmoid()
        return x * self.place(torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], dim=1)).sigmoid()


class EfficientAttention(nn.Module):
    """ECA: each channel's gate comes from its neighbours' means."""

    def __init__(self, c: int, k: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        return x * self.conv(y).transpose(-1, -2).unsqueeze(-1).sigmoid().expand_as(x)


class CoordinateAttention(nn.Module):
    """Gates by row and by column."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.joint = Conv(c, max(8, c // 4), 1, act=nn.Hardswish())
        self.rows, self.columns = (nn.Conv2d(max(8, c // 4), c, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        rows = x.mean(dim=3, keepdim=True)
        columns = x.mean(dim=2, keepdim=True).permute(0, 1, 3, 2)
        rows, columns = self.joint(torch.cat([rows, columns], dim=2)).split([height, width], dim=2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.permute(0, 1, 3, 2)).sigmoid()


class SharedDetect(Detect):
    """A head that runs one stack of convolutions on all levels; each level has a 1 x 1 convolution before it."""

    def __init__(self, nc: int = 80, reg_max: int = 16, end2end: bool = False, ch: tuple[int, ...] = ()) -> None:
        super().__init__(nc, reg_max, False, ch)
        c = max(ch[0], 32)
        shared = nn.Sequential(Conv(c, c, 3), Conv(c, c, 3))
        box, scores = nn.Conv2d(c, 4 * reg_max, 1), nn.Conv2d(c, nc, 1)
        stems = [Conv(width, c, 1) for width in ch]
        self.cv2 = nn.ModuleList(nn.Sequential(stem, shared, box) for stem in stems)
        self.cv3 = nn.ModuleList(nn.Sequential(stem, shared, scores) for stem in stems)


def register(module: type[nn.Module], like: str | None = None) -> None:
    """Lets a model yaml name a module.

    Args:
        module: Its class; the yaml calls it by its name.
        like: Stock class whose part in `parse_model` it takes (in this process, so take one that the yaml does not
            use): "C1" to be given (c1, c2, n), with the width scaled; "CBFuse" for several inputs of one width;
            "Detect" for a head. Without it the module gets the row's arguments and keeps its input's width.
    """
    for name in filter(None, (module.__name__, like)):
        setattr(tasks, name, module)


def backbone(block: str = "C2f", args: str = "[{c}, True]", extra: str = "") -> str:
    """Rows of a small backbone: P2 in row 2, P3 in 4, P4 in 6, P5 in 9 (+ the extra rows)."""
    rows = ["[-1, 1, Conv, [64, 3, 2]]"]
    for c in (128, 256, 512, 1024):
        rows += [f"[-1, 1, Conv, [{c}, 3, 2]]", f"[-1, 1, {block}, {args.format(c=c)}]"]
    rows += [extra or "[-1, 1, SPPF, [1024, 5]]"]
    return "\n".join(f"  - {row}" for row in rows)


def model(head: list[str], body: str = "") -> str:
    """The text of a model yaml: the backbone has rows 0 to 9, the head starts at 10."""
    rows = "\n".join(f"  - {row}" for row in head)
    return f"nc: 4\nscales:\n  n: [0.33, 0.25, 1024]\nbackbone:\n{body or backbone()}\nhead:\n{rows}\n"


def levels(extra: str = "[-1, 1, nn.Identity, []]", head: str = "Detect") -> list[str]:
    """A feature pyramid with a block of one's own behind each level."""
    return [
        "[-1, 1, nn.Upsample, [None, 2, nearest]]",  # 10
        "[[-1, 6], 1, Concat, [1]]",
        "[-1, 1, C2f, [512]]",  # 12
        extra,  # 13
        "[-1, 1, nn.Upsample, [None, 2, nearest]]",
        "[[-1, 4], 1, Concat, [1]]",
        "[-1, 1, C2f, [256]]",  # 16
        extra,  # 17
        "[-1, 1, Conv, [256, 3, 2]]",
        "[[-1, 13], 1, Concat, [1]]",
        "[-1, 1, C2f, [512]]",  # 20
        f"[[17, 20, 9], 1, {head}, [nc]]",
    ]


def fusion_levels(name: str) -> list[str]:
    """A small BiFPN: all levels of one width, added by learned weights, downwards and upwards."""
    return [
        "[4, 1, Conv, [256, 1]]",  # 10, P3
        "[6, 1, Conv, [256, 1]]",  # 11, P4
        "[9, 1, Conv, [256, 1]]",  # 12, P5
        "[-1, 1, nn.Upsample, [None, 2, nearest]]",
        f"[[-1, 11], 1, {name}, [2]]",
        "[-1, 1, Conv, [256, 3]]",  # 15
        "[-1, 1, nn.Upsample, [None, 2, nearest]]",
        f"[[-1, 10], 1, {name}, [2]]",
        "[-1, 1, Conv, [256, 3]]",  # 18, P3
        "[-1, 1, Conv, [256, 3, 2]]",
        f"[[-1, 11, 15], 1, {name}, [3]]",
        "[-1, 1, Conv, [256, 3]]",  # 21, P4
        "[-1, 1, Conv, [256, 3, 2]]",
        f"[[-1, 12], 1, {name}, [2]]",
        "[-1, 1, Conv, [256, 3]]",  # 24, P5
        "[[18, 21, 24], 1, Detect, [nc]]",
    ]


def four_levels() -> list[str]:
    """A pyramid that goes down to P2, and detects there too."""
    rows = []
    for level, c in ((6, 512), (4, 256), (2, 128)):
        rows += ["[-1, 1, nn.Upsample, [None, 2, nearest]]", f"[[-1, {level}], 1, Concat, [1]]", f"[-1, 1, C2f, [{c}]]"]
    rows += ["[-1, 1, Conv, [128, 3, 2]]", "[[-1, 15], 1, Concat, [1]]", "[-1, 1, C2f, [256]]"]  # 12, 15, 18; 21
    rows += ["[-1, 1, Conv, [256, 3, 2]]", "[[-1, 12], 1, Concat, [1]]", "[-1, 1, C2f, [512]]"]  # 24
    return [*rows, "[[18, 21, 24, 9], 1, Detect, [nc]]"]


def many_concats() -> list[str]:
    """A neck as in GFPN: each level joins its neighbours above and below and its own past."""
    return [
        "[4, 1, Conv, [128, 3, 2]]",  # 10, P3 -> P4
        "[9, 1, nn.Upsample, [None, 2, nearest]]",
        "[[-1, 6, 10], 1, Concat, [1]]",
        "[-1, 1, FusionStage, [512]]",  # 13, P4
        "[2, 1, Conv, [128, 3, 2]]",
        "[13, 1, nn.Upsample, [None, 2, nearest]]",
        "[[-1, 4, 14], 1, Concat, [1]]",
        "[-1, 3, FusionStage, [256]]",  # 17, P3
        "[-1, 1, Conv, [256, 3, 2]]",
        "[9, 1, nn.Upsample, [None, 2, nearest]]",
        "[[18, 6, 13, 19], 1, Concat, [1]]",
        "[-1, 1, FusionStage, [512]]",  # 21, P4
        "[13, 1, Conv, [512, 3, 2]]",
        "[21, 1, Conv, [512, 3, 2]]",
        "[[-1, 9, 22], 1, Concat, [1]]",
        "[-1, 1, FusionStage, [1024]]",  # 25, P5
        "[[17, 21, 25], 1, Detect, [nc]]",
    ]


FASTER = "\n".join(
    f"  - {row}"
    for row in (
        "[-1, 1, Conv, [64, 3, 2]]",
        "[-1, 1, Conv, [128, 3, 2]]",
        "[-1, 1, FasterBlock, [c2, {split}]]",
        "[-1, 1, Conv, [256, 3, 2]]",
        "[-1, 6, FasterBlock, [c2, {split}]]",
        "[-1, 1, Conv, [512, 3, 2]]",
        "[-1, 3, FasterBlock, [c2, {split}]]",
        "[-1, 1, Conv, [1024, 3, 2]]",
        "[-1, 1, FasterBlock, [c2, {split}]]",
        "[-1, 1, SPPF, [1024, 5]]",
    )
)
YAMLS: dict[str, str] = {
    "squeeze and excite": model(levels("[-1, 1, SqueezeExcite, [c2]]")),
    "squeeze and excite, linear": model(levels("[-1, 1, LinearSqueezeExcite, [c2]]")),
    "weighted fusion": model(fusion_levels("WeightedFusion")),
    "weighted fusion of a stack": model(fusion_levels("StackedFusion")),
    "P2 head": model(four_levels()),
    "partial convolution, split": model(levels(), FASTER.format(split=True)),
    "partial convolution, slices": model(levels(), FASTER.format(split=False)),
    "many concats": model(many_concats()),
    "shared head": model(levels(head="SharedDetect")),
    "CBAM": model(levels("[-1, 1, BlockAttention, [c2]]")),
    "ECA": model(levels("[-1, 1, EfficientAttention, [c2]]")),
    "coordinate attention": model(levels("[-1, 1, CoordinateAttention, [c2]]")),
}
PARTS: dict[type[nn.Module], str | None] = {
    SqueezeExcite: None,
    LinearSqueezeExcite: None,
    FasterBlock: None,
    BlockAttention: None,
    EfficientAttention: None,
    CoordinateAttention: None,
    WeightedFusion: "CBFuse",
    StackedFusion: "CBFuse",
    FusionStage: "C1",
    SharedDetect: "Detect",
}
