"""A small network with set gammas, and trainings of it without a trainer."""

import argparse

import torch
from torch import nn

from helpers.networks import Net, block, image
from ultralytics.pruning import trace
from ultralytics.pruning.sparsity import Scales, Settings, SparsityRun
from ultralytics.utils import DEFAULT_CFG_DICT


def residual() -> Net:
    """Two convolutions that a shortcut ties, and an inner one; the last norm is the output, so pinned."""
    return Net(
        lambda n, x: n.out(n.a(x) + n.c(n.b(n.a(x)))), a=block(3, 4), b=block(4, 6), c=block(6, 4), out=block(4, 2)
    )


def scales_of(net: nn.Module) -> Scales:
    return Scales.of(net, trace(net, image(net, 16)))


def set_gammas(net: nn.Module, **values: list[float]) -> None:
    for name, own in values.items():
        net.get_submodule(name)[1].weight.data = torch.tensor(own, dtype=next(net.parameters()).dtype)


def gammas(net: nn.Module, name: str) -> list[float]:
    return net.get_submodule(name)[1].weight.tolist()


A, B, C = [0.5, -0.2, 0.05, 0.0], [0.3, -0.3, 0.1, 1.0, -0.01, 0.2], [0.1, -0.4, 0.0, 0.0]


def set_all(net: nn.Module) -> nn.Module:
    set_gammas(net, a=A, b=B, c=C, out=[0.01, 0.02])
    return net


def arguments(**changes) -> argparse.Namespace:
    return argparse.Namespace(**{**DEFAULT_CFG_DICT, **changes})


def run_of(net: nn.Module, **changes) -> SparsityRun:
    changes.setdefault("round_to", 1)
    return SparsityRun(net, Settings.of(arguments(**changes)))


def train(net: nn.Module, run: SparsityRun, epochs: int, start: int = 0, end: int | None = None) -> None:
    """A training of `epochs` with random gradients, the same for each epoch's number; all of it, or a part."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    run.attach(optimizer)
    for epoch in range(start, epochs if end is None else end):
        run.epoch_starts(epoch, epochs)
        generator = torch.Generator().manual_seed(epoch)
        for _ in range(4):
            run.batch_starts(4)
            for parameter in net.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter)
            optimizer.step()
