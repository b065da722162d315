"""Random small networks: a recipe of drawn steps, built into a module that runs them (operations: `grammar_all.py`).

A recipe is plain data, `Recipe(16, (("conv", 3), ("chunk equal", 0)), "conv", 7)`, so that a failing network can be
written down and built again: `build(Recipe(...))`. `print(network)` says what each step does.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from helpers.networks import LAYERS, set_weights

WIDTHS = (4, 6, 8, 12, 16)
LARGEST_WIDTH = 32
SIDES = (16, 32)
HEADS = ("conv", "conv", "two convs", "pooled linear", "gridded linear", "flattened linear")

Space = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Recipe:
    """What a network is built from.

    Attributes:
        side: Side of the image.
        steps: Name of each operation, and the seed of its settings.
        head: How the network ends.
        seed: Of the head's settings.
    """

    side: int
    steps: tuple[tuple[str, int], ...]
    head: str = "conv"
    seed: int = 0


class Step(nn.Module):
    """One operation: layers, parameters and plain attributes, with `run(step, *inputs)` as its forward pass."""

    def __init__(self, run: Callable, **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.run(self, *inputs)


class Network(nn.Module):
    """Runs its steps one after the other, each on results of earlier ones.

    Attributes:
        used: Names of the operations in it, those that a step needs as a preparation included.
        sizes: Image sizes (height, width) that it was built for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        self.wires: list[tuple[int, ...]] = []
        self.outputs: list[int] = []
        self.texts: list[str] = []
        self.used: set[str] = set()
        self.sizes: list[tuple[int, int]] = []

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        values = [x]
        for step, wires in zip(self.steps, self.wires, strict=True):
            result = step(*(values[i] for i in wires))
            values.extend(result if isinstance(result, (tuple, list)) else [result])
        return [values[i] for i in self.outputs]

    def __str__(self) -> str:
        return "\n".join(self.texts)


@dataclass(frozen=True)
class Node:
    """A tensor (N, C, H, W) in the network, with its values at each of the image sizes."""

    index: int
    values: tuple[torch.Tensor, ...]

    @property
    def width(self) -> int:
        """Its number of channels."""
        return self.values[0].shape[1]

    @property
    def space(self) -> Space:
        """Its height and width at each of the image sizes: what can be joined elementwise has the same."""
        return tuple(tuple(value.shape[2:]) for value in self.values)

    @property
    def side(self) -> int:
        """Its smallest side."""
        return min(side for size in self.space for side in size)

    def divides(self, number: int) -> bool:
        """Whether all its sides are multiples of a number."""
        return all(side % number == 0 for size in self.space for side in size)


class Builder:
    """Adds steps to a network, runs them at once, and hands out settings for them."""

    def __init__(self, recipe: Recipe) -> None:
        self.network = Network()
        self.random = random.Random(recipe.seed)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.network.sizes = [(recipe.side, recipe.side)]
        if recipe.head != "flattened linear":
            self.network.sizes.append((recipe.side * 3 // 2, recipe.side))
        images = (torch.randn(2, 3, *size, generator=self.generator).double() for size in self.network.sizes)
        self.nodes = [Node(0, tuple(images))]
        self.read: set[int] = set()

    # Settings

    def begin(self, name: str, seed: int) -> None:
        """Notes the operation to come; its settings follow from the seed."""
        self.network.used.add(name)
        self.random = random.Random(seed)
        self.generator.manual_seed(seed)

    def choice(self, *values: Any) -> Any:
        """One of the values."""
        return self.random.choice(values)

    def width(self) -> int:
        """A number of channels."""
        return self.choice(*WIDTHS)

    def normal(self, *shape: int, mean: float = 0.0) -> torch.Tensor:
        """Random numbers in float64."""
        return mean + torch.randn(shape, generator=self.generator).double()

    def parameter(self, *shape: int, mean: float = 0.0) -> nn.Parameter:
        """A random parameter."""
        return nn.Parameter(self.normal(*shape, mean=mean))

    # Choosing inputs

    def pick(self, allowed: Callable[[Node], bool] = lambda node: True) -> Node | None:
        """A node that is allowed, more likely a recent one; never the image."""
        nodes = [node for node in self.nodes[1:] if allowed(node)]
        return self.random.choice(nodes[-3:]) if nodes else None

    def node(self, multiple: int = 1, *, least: int = 2, most: int = LARGEST_WIDTH, side: int = 1) -> Node:
        """A node whose width is a multiple of a number within bounds; if there is none, it is made by a convolution."""

        def fits(node: Node) -> bool:
            return node.width % multiple == 0 and least <= node.width <= most and node.side >= side

        found = self.pick(fits)
        if found is not None and found.index:
            return found
        source = self.pick(lambda node: node.side >= side) or self.nodes[0]
        widths = [width for width in (*WIDTHS, 9, 15) if width % multiple == 0 and least <= width <= most]
        return self.project(source, self.random.choice(widths))

    def small(self, node: Node) -> Node:
        """A node of at most 400 cells, for what takes a product for each pair of cells."""
        while max(height * width for height, width in node.space) > 400:
            node = self.add("max_pool2d", lambda m, x: nn.functional.max_pool2d(x, 2), node)
        return node

    def beside(self, node: Node, width: int | None = None) -> Node:
        """Another node of the same height and width, and of the wanted number of channels if one is given."""

        def fits(other: Node) -> bool:
            return other.space == node.space and other.index != node.index and width in (None, other.width)

        found = self.pick(fits)
        return found if found is not None and self.random.random() < 0.8 else self.project(node, width or self.width())

    def project(self, node: Node, width: int) -> Node:
        """A 1 x 1 or 3 x 3 convolution with a batch norm (or a bias) and an activation, to get a wanted width."""
        k, norm = self.choice(1, 3), self.choice(True, True, False)
        layers = [nn.Conv2d(node.width, width, k, padding=k // 2, bias=not norm)]
        layers += [nn.BatchNorm2d(width)] if norm else []
        layers += [self.choice(nn.SiLU, nn.ReLU, nn.Identity)()]
        return self.add(f"project to {width}", lambda m, x: m.body(x), node, body=nn.Sequential(*layers))

    # Adding

    def add(self, text: str, run: Callable, *inputs: Node, **parts: Any) -> Any:
        """Adds a step, and returns its node, or the list of its nodes where it gives several tensors.

        Args:
            text: What it does, for a person.
            run: The forward pass; gets the step and the inputs' tensors.
            inputs: What it reads.
            parts: Its layers, parameters, buffers (tensors) and plain attributes.
        """
        step = Step(run, **parts)
        self._randomise(step)
        with torch.no_grad():
            self._balance(step, [node.values[0] for node in inputs])
            step.eval()
            results = [step(*(node.values[i] for node in inputs)) for i in range(len(self.network.sizes))]
        several = isinstance(results[0], (tuple, list))
        columns = list(zip(*results, strict=True)) if several else [tuple(results)]
        made = [Node(len(self.nodes) + i, column) for i, column in enumerate(columns)]
        self.nodes += made
        self.network.steps.append(step)
        self.network.wires.append(tuple(node.index for node in inputs))
        names = ", ".join(f"t{node.index} {tuple(node.values[0].shape[1:])}" for node in made)
        self.network.texts.append(f"{names} = {text} of " + ", ".join(f"t{node.index}" for node in inputs))
        self.read |= {node.index for node in inputs}
        return made if several else made[0]

    def _randomise(self, step: nn.Module) -> None:
        """Random weights, batch norm statistics and slopes."""
        set_weights(step.double(), seed=self.random.randrange(1 << 30))
        for module in step.modules():
            if isinstance(module, (nn.LayerNorm, nn.GroupNorm)):
                module.weight.data, module.bias.data = (
                    self.normal(*module.weight.shape),
                    self.normal(*module.bias.shape),
                )
            elif isinstance(module, nn.PReLU):
                module.weight.data = self.normal(*module.weight.shape).abs()

    @staticmethod
    def _balance(step: nn.Module, inputs: list[torch.Tensor]) -> None:
        """Scales filters so that signals neither die nor explode, whatever came before."""

        def scale(module: Any, arguments: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
            module.weight /= (output - output.mean()).square().mean().sqrt().clamp_min(1e-3)
            return module.forward(*arguments)

        layers = [m for m in step.modules() if isinstance(m, LAYERS) and not isinstance(m, nn.BatchNorm2d)]
        hooks = [layer.register_forward_hook(scale) for layer in layers]
        step.eval()
        step(*inputs)
        for hook in hooks:
            hook.remove()


# What pins by its nature is drawn less often, so that most networks keep channels to remove.
USUAL: dict[str, Callable[[Builder], None]] = {}
PINNING: dict[str, Callable[[Builder], None]] = {}


def usual(operation: Callable[[Builder], None]) -> Callable[[Builder], None]:
    """Makes a function that adds a step, or a few, an operation of the grammar, under its name."""
    USUAL[operation.__name__.replace("_", " ")] = operation
    return operation


def pinning(operation: Callable[[Builder], None]) -> Callable[[Builder], None]:
    """The same for an operation that needs all channels that it reads, in most of its forms."""
    PINNING[operation.__name__.replace("_", " ")] = operation
    return operation


def build(recipe: Recipe) -> Network:
    """Builds the network of a recipe, in float64, with the same weights each time."""
    from helpers.grammar.all import OPERATIONS

    builder = Builder(recipe)
    builder.begin("project", recipe.seed)
    builder.project(builder.nodes[0], builder.width())
    for name, seed in recipe.steps:
        builder.begin(name, seed)
        OPERATIONS[name](builder)
    builder.begin(recipe.head, recipe.seed)
    _finish(builder, recipe.head)
    return builder.network


def _finish(builder: Builder, head: str) -> None:
    """Adds the outputs: of the last node, and of another that nothing has read yet if there is one."""
    last = builder.nodes[-1]
    ends = [last]
    if head == "two convs":
        unread = [node for node in builder.nodes[1:-1] if node.index not in builder.read]
        ends.append(unread[-1] if unread else builder.pick() or last)
    for node in ends:
        if head.endswith("linear"):
            node = _linear(builder, node, head)
        else:
            layer = nn.Conv2d(node.width, 3, builder.choice(1, 3), padding="same")
            node = builder.add("output convolution", lambda m, x: m.layer(x), node, layer=layer)
        builder.network.outputs.append(node.index)


def _linear(builder: Builder, node: Node, head: str) -> Node:
    """A classifier: pooled to one cell or to a grid of 2 x 2, or with a feature for each cell of each channel."""
    if head == "flattened linear" and node.side > 4:
        node = builder.add("max_pool2d to 4 cells", lambda m, x: m.pool(x), node, pool=nn.AdaptiveMaxPool2d(4))
    cells = {"pooled linear": 1, "gridded linear": 4}.get(head, node.values[0][0, 0].numel())
    side = {"pooled linear": 1, "gridded linear": 2}.get(head)
    pool = nn.AdaptiveAvgPool2d(side) if side else nn.Identity()
    viewed, reshaped = lambda x: x.contiguous().view(x.size(0), -1), lambda x: x.reshape(x.shape[0], -1)
    flatten = builder.choice(lambda x: x.flatten(1), viewed, reshaped, nn.Flatten())
    hidden = builder.choice(None, 8)
    layers = [nn.Linear(node.width * cells, hidden or 4)]
    layers += [nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, 4)] if hidden else []
    layers = nn.Sequential(*layers)
    return builder.add(head, lambda m, x: m.layers(flatten(m.pool(x))), node, pool=pool, layers=layers)
