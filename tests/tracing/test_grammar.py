"""Networks that nobody wrote: each is cut by a random plan and compared with its silenced original, in float64.

The reference is made here, by hooks on the outputs of layers and zeros in parameters, and shares nothing with the
engine. What a network is made of: `helpers/grammar/`.
"""

import copy
import random
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn
from torch.utils.checkpoint import checkpoint

from helpers.grammar.all import ACTIVATIONS, DRAWN, NAMED
from helpers.grammar.base import HEADS, SIDES, Network, Recipe, build
from helpers.networks import Net, block, conv, difference, image, silenced_by
from ultralytics.pruning import ChannelMap, PruningPlan, cut, make_plan, trace

NETWORKS = 500
LARGEST = 12  # steps of a network
LEAST_OF_EACH = 20
LEAST_OF_EACH_ACTIVATION = 5
TOLERANCE = 1e-9


@dataclass
class Seen:
    """What was met in all networks together.

    Attributes:
        names: Networks with each operation.
        lost: Share of the channels that each network lost, in 0..1.
        free: Share of the channels that were free.
        moved: Networks whose outputs a cut changed, so that a comparison says something.
        whole: Networks that lost nothing although something could go.
    """

    names: Counter[str] = field(default_factory=Counter)
    lost: list[float] = field(default_factory=list)
    free: list[float] = field(default_factory=list)
    moved: int = 0
    whole: int = 0

    def table(self) -> str:
        """The counts, for a person."""
        lost, free = self.lost, self.free
        rows = [f"{'networks':32}{len(lost):8}", f"{'outputs changed by the cut':32}{self.moved:8}"]
        rows += [f"{'lost nothing, but could':32}{self.whole:8}"]
        rows += [f"{'lost 25 % of their channels':32}{sum(share >= 0.25 for share in lost):8}"]
        rows += [
            f"{'mean share of channels lost':32}{np.mean(lost):8.1%}",
            f"{'mean share free':32}{np.mean(free):8.1%}",
        ]
        return "\n".join([*rows, *(f"{name:32}{count:8}" for name, count in self.names.most_common())])


def recipe(deal: int) -> Recipe:
    """Deals steps by the numbers of a seed; each seed gives another network."""
    generator = random.Random(deal)
    side, head, seed = generator.choice(SIDES), generator.choice(HEADS), generator.randrange(100)
    steps = [(generator.choice(DRAWN), generator.randrange(10000)) for _ in range(generator.randint(1, LARGEST))]
    return Recipe(side, tuple(steps), head, seed)


def outputs(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What a network returns in eval mode."""
    with torch.no_grad():
        return model.eval()(x)


def removed_share(plan: PruningPlan) -> float:
    """Share of all layers' output channels that a plan removes."""
    before = sum(layer.out_before for layer in plan.layers.values())
    return 1 - sum(len(layer.kept_out) for layer in plan.layers.values()) / before


def stuck(channel_map: ChannelMap) -> bool:
    """Whether no free group can go: those that must be equally many, and the last one of each layer, allow none."""
    count = len(channel_map.channels)

    def row(part: np.ndarray) -> np.ndarray:
        return np.bincount(part, minlength=count)

    equal = [row(part) - row(balance.parts[0]) for balance in channel_map.balances for part in balance.parts[1:]]
    layers = [row(part) for layer in channel_map.layers.values() for part in (layer.inputs, layer.outputs)]
    rules = [LinearConstraint(np.array(layers), lb=1)] + ([LinearConstraint(np.array(equal), 0, 0)] if equal else [])
    bounds = Bounds(np.where(channel_map.free, 0, 1), 1)
    fewest = milp(np.ones(count), integrality=np.ones(count), bounds=bounds, constraints=rules)
    return bool(round(fewest.fun) == count)


def learns(model: nn.Module, x: torch.Tensor) -> bool:
    """Whether one step backwards in train mode gives finite gradients, and at least some that are not zero."""
    torch.manual_seed(0)
    model = copy.deepcopy(model).train()
    sum(output.square().mean() for output in model(x)).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    return any(gradient.abs().max() > 0 for gradient in gradients)


def check(network: Network, seed: int, seen: Seen) -> None:
    """Cuts a network by a random plan, compares it with its silenced original, and notes what it lost."""
    images = [torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed)) for size in network.sizes]
    images = [image.double() for image in images]
    channel_map = trace(network, images[0])
    lost, free = 0.0, channel_map.free_share
    if channel_map.free.any():
        generator = np.random.default_rng(seed)
        scores, ratio = generator.random(len(channel_map.channels)), generator.uniform(0.3, 0.8)
        plan = make_plan(channel_map, scores, prune_ratio=ratio)
        pruned = copy.deepcopy(network)
        cut(pruned, plan)
        reference = silenced_by(network, plan)
        for image in images:
            expected, found = outputs(reference, image), outputs(pruned, image)
            for a, b in zip(expected, found, strict=True):
                assert a.shape == b.shape
                assert torch.isfinite(a).all(), "the test's own network overflows"
                assert float((a - b).abs().max()) <= TOLERANCE * max(1.0, float(a.abs().max()))
        assert learns(pruned, images[-1])
        lost = removed_share(plan)
        wanted = round(ratio * channel_map.channels[channel_map.free].sum())
        if not lost and wanted and not stuck(channel_map):
            assert plan.limits, f"{free:.1%} of the channels are free, and none was removed without a word"
            seen.whole += 1
        parameters = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in pruned.parameters())
        assert plan.before.params - plan.after.params == parameters, "the plan's costs are not those of the cut"
        seen.moved += difference(outputs(network, images[-1]), expected) > 1e-3
    seen.lost.append(lost)
    seen.free.append(free)


def failure(drawn: Recipe, seen: Seen) -> Exception | None:
    """What is wrong with the cut of a network, with the network in its notes."""
    network = build(drawn)
    try:
        check(network, drawn.seed, seen)
    except Exception as error:
        error.add_note(f"build({drawn}):\n{network}")
        return error
    seen.names.update(network.used)
    return None


def smallest(drawn: Recipe, error: Exception) -> Exception:
    """The failure of the network that is left when no step can be taken out without it passing."""
    for place in range(len(drawn.steps)):
        fewer = replace(drawn, steps=drawn.steps[:place] + drawn.steps[place + 1 :])
        if fewer.steps and (found := failure(fewer, Seen())):
            return smallest(fewer, found)
    return error


def test_any_network_equals_its_silenced_original() -> None:
    """And the networks are many, of all operations, and really lose channels."""
    seen = Seen()
    for deal in range(NETWORKS):
        drawn = recipe(deal)
        if error := failure(drawn, seen):
            raise smallest(drawn, error)
    rare = {name for name in NAMED if seen.names[name] < LEAST_OF_EACH}
    rare |= {name for name in ACTIVATIONS if seen.names[name] < LEAST_OF_EACH_ACTIVATION}
    assert not rare, f"too few networks with {sorted(rare)}\n{seen.table()}"
    assert len(seen.lost) == NETWORKS, seen.table()
    assert sum(share >= 0.25 for share in seen.lost) >= len(seen.lost) / 2, seen.table()
    assert seen.whole <= 0.01 * len(seen.lost), seen.table()
    assert seen.moved >= 0.8 * sum(share > 0 for share in seen.lost), seen.table()


class Cube(torch.autograd.Function):
    """An operation that nobody can know."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3 + x.roll(1, 1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient + gradient.roll(-1, 1)


class Double(torch.autograd.Function):
    """Known operations within one that is not."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * gradient


class NumpyRoll(torch.autograd.Function):
    """Leaves PyTorch altogether."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.roll(x.detach().numpy(), 1, 1))

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.roll(-1, 1)


def scripted_roll(x: torch.Tensor) -> torch.Tensor:
    """Runs outside of Python."""
    return torch.roll(x, [1], [1])


ORDER = torch.tensor([2, 0, 1, 3, 5, 4, 7, 6])
UNKNOWN: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "cumsum": ("cumsum", lambda x: torch.cumsum(x, 1)),
    "cumsum of a tensor": ("cumsum", lambda x: x.cumsum(dim=1)),
    "fft": ("fft", lambda x: torch.fft.fft(x, dim=1).real),
    "fft over space": ("fft", lambda x: torch.fft.rfft2(x).abs().repeat(1, 1, 2, 1)),
    "sort": ("sort", lambda x: torch.sort(x, dim=1)[0]),
    "sort descending": ("sort", lambda x: x.sort(1, descending=True).values),
    "topk": ("topk", lambda x: x.topk(8, dim=1).values),
    "index_select": ("index_select", lambda x: torch.index_select(x, 1, ORDER)),
    "fancy index": ("getitem", lambda x: x[:, ORDER]),
    "gather": ("gather", lambda x: x.gather(1, ORDER.view(1, 8, 1, 1).expand(x.shape))),
    "roll": ("roll", lambda x: torch.roll(x, 1, dims=1)),
    "flip": ("flip", lambda x: x.flip(1)),
    "autograd function": ("roll", Cube.apply),  # what happens within is seen
    "autograd function of known operations": ("", Double.apply),
    "autograd function that rolls in numpy": ("numpy", NumpyRoll.apply),
    "torch.ops": ("", lambda x: torch.ops.aten.roll(x, [1], [1])),
    "scripted": ("", lambda x: torch.jit.script(scripted_roll)(x)),
    "checkpoint": ("", lambda x: checkpoint(lambda y: y.roll(1, 1), x, use_reentrant=False)),
    "vmap": ("", lambda x: torch.vmap(lambda y: y.roll(1, 0))(x)),
    "out": ("", lambda x: torch.cumsum(x.detach(), 1, out=torch.empty_like(x))),
    "copy": ("", lambda x: torch.empty_like(x).copy_(x.roll(1, 1))),
    "unbind": ("", lambda x: torch.stack(x.unbind(1)[::-1], 1)),
    "iterate": ("", lambda x: torch.stack(list(x.transpose(0, 1))[::-1], 1)),
    "dlpack": ("", lambda x: torch.from_dlpack(x.detach()).roll(1, 1)),
    "data": ("", lambda x: x.data.roll(1, 1)),
    "functional_call": ("", lambda x: torch.func.functional_call(nn.PReLU().double(), {}, (x,)).roll(1, 1)),
    "grid_sample": ("", lambda x: F.grid_sample(x, torch.zeros(len(x), *x.shape[2:], 2).to(x), align_corners=False)),
    "width by len": ("", lambda x: x / len(x[0])),
    "width by numel": ("", lambda x: x * (8 / x[0, :, 0, 0].numel())),
    "python loop": ("", lambda x: x * sum(x[:, i : i + 1] * (i + 1) for i in range(x.shape[1]))),
    "mask": ("", lambda x: x * (torch.arange(8) % 2).view(1, 8, 1, 1)),
    "numpy": ("numpy", lambda x: torch.from_numpy(x.detach().numpy() + 1)),
    "as_strided": ("as_strided", lambda x: x.as_strided(x.shape, x.stride())),
    "unfold": ("unfold", lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1)),
    "batch statistics": ("", lambda x: (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)),
    "local response": ("", lambda x: F.local_response_norm(x, 3)),
    "normalize": ("", lambda x: F.normalize(x, dim=1)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_the_tracer_does_not_know_is_pinned_and_named(name: str) -> None:
    """The network keeps what goes in, if the operation needs all of it, and loses channels elsewhere."""
    word, operation = UNKNOWN[name]
    before, after = block(8, 8), block(8, 8)
    network = Net(
        lambda net, x: [net.out(net.after(operation(net.before(net.stem(x)))))],
        stem=block(3, 8),
        before=before,
        after=after,
        out=conv(8, 3),
    )
    network.sizes = [(16, 16), (16, 24)]
    seen = Seen()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(network, 0, seen)
        channel_map = trace(network, image(network, 16))
    assert seen.lost[0] > 0 and seen.moved
    if word and channel_map.pinned_channels().keys() - {"output", "image"}:
        assert any(word in operation for operation in channel_map.unknown), channel_map.unknown
        assert not channel_map.free[channel_map.layers["before.0"].outputs].any()
