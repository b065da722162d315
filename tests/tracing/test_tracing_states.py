"""A network is traced the same in whatever state it is, and left in that state, also when its forward pass fails."""

import copy
import math
import pickle
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from helpers.networks import difference, image, raw_outputs, set_weights, yolo
from ultralytics.pruning import ChannelMap, cut, make_plan, trace

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


class Block(nn.Module):
    """A block with sizes in attributes of all kinds, and state that a forward pass could touch."""

    kind = "block"

    def __init__(self, c: int) -> None:
        super().__init__()
        self.c, self.sizes, self.options = c, [c, c], {"parts": 2, "c": c}
        self.number = np.int64(c)
        self.calls: list[int] = []
        self.first = nn.Sequential(nn.Conv2d(2 * c, 2 * c, 3, padding=1, bias=False), nn.BatchNorm2d(2 * c), nn.SiLU())
        self.inner = nn.Conv2d(c, c, 3, padding=1, groups=2)
        self.scale = nn.Parameter(torch.ones(c))
        self.register_buffer("mask", torch.ones(1, 2 * c, 1, 1))
        self.drop = nn.Dropout(0.3)
        self.breaks: type[BaseException] | None = None

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.first(x).split(self.sizes, 1)
        second = self.inner(second) * self.scale.view(1, -1, 1, 1)
        y = torch.cat([first[:, : self.c], self.drop(second)], 1) * self.mask
        if self.breaks:
            raise self.breaks("half-way")
        return x + F.dropout(y, 0.1, training=self.training)


class Small(nn.Module):
    """A network of two blocks; can be copied and pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.dense = nn.Linear(8, 6)
        self.out = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.dense(self.blocks(self.stem(x)).mean((2, 3))).relu())


def small() -> Small:
    """With random weights, in eval mode."""
    return set_weights(Small()).eval()


def described(channel_map: ChannelMap) -> dict[str, Any]:
    """All that a map says, as plain data."""
    return {
        "layers": {
            name: (layer.kind, layer.inputs.tolist(), layer.outputs.tolist(), layer.norm, layer.cells, layer.bias)
            for name, layer in channel_map.layers.items()
        },
        "pinned": channel_map.pinned,
        "balances": [[part.tolist() for part in balance.parts] for balance in channel_map.balances],
        "widths": {key: np.asarray(groups).tolist() for key, groups in channel_map.widths.items()},
        "unknown": channel_map.unknown,
        "free": channel_map.free_share,
    }


# Traced the same


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """One process that talks to itself."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def mixed(model: nn.Module) -> nn.Module:
    for module in list(model.modules())[::2]:
        module.training = not module.training
    return model


def with_gradients(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


STATES = {
    "train": lambda model: model.train(),
    "eval": lambda model: model.eval(),
    "mixed": mixed,
    "float64": lambda model: model.double(),
    "half": lambda model: model.half(),
    "bfloat16": lambda model: model.bfloat16(),
    "frozen": lambda model: model.requires_grad_(False),
    "gradients": with_gradients,
    "channels last": lambda model: model.to(memory_format=torch.channels_last),
    "copied": copy.deepcopy,
    "compiled": torch.compile,
    "compiled in place": lambda model: (model.compile(), model)[1],
    "data parallel": nn.DataParallel,
}


def networks() -> dict[str, nn.Module]:
    return {"small": small(), "yolov8n": yolo("yolov8n")}


@pytest.mark.parametrize("name", ["small", "yolov8n"])
@pytest.mark.parametrize("state", STATES)
def test_any_state_is_traced_the_same(state: str, name: str) -> None:
    expected = described(trace(networks()[name]))
    model = STATES[state](networks()[name])
    before = state_of(model)
    assert described(trace(model)) == expected
    assert state_of(model) == before
    assert expected["free"] > (0.5 if name == "yolov8n" else 0)


@pytest.mark.parametrize("name", ["small", "yolov8n"])
def test_a_distributed_model_is_traced_the_same(name: str, process_group) -> None:
    expected = described(trace(networks()[name]))
    wrapped = nn.parallel.DistributedDataParallel(networks()[name])
    before = state_of(wrapped)
    assert described(trace(wrapped)) == expected
    assert state_of(wrapped) == before
    assert described(trace(torch.compile(wrapped))) == expected


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_the_plan_of_a_wrapped_model_is_that_of_the_model(wrap) -> None:
    """So the model that is within can be cut by it."""
    model, other = yolo("yolov8n"), yolo("yolov8n")
    wrapped = wrap(model)
    channel_map = trace(wrapped)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    plan = make_plan(channel_map, scores, prune_ratio=0.5)
    cut(model, plan)
    cut(other, make_plan(trace(other), scores, prune_ratio=0.5))
    x = image(model, 64)
    assert difference(raw_outputs(model, x), raw_outputs(other, x)) == 0


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_autocast_and_inference_mode_change_nothing(autocast: torch.dtype) -> None:
    model = small()
    expected = described(trace(model))
    with torch.autocast("cpu", dtype=autocast):
        assert described(trace(model)) == expected
        assert torch.is_autocast_enabled("cpu")
    with torch.inference_mode():
        assert described(trace(model)) == expected
    with torch.no_grad():
        assert described(trace(model)) == expected
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


@needs_cuda
@pytest.mark.parametrize("state", ["train", "eval", "half", "bfloat16"])
@pytest.mark.parametrize("name", ["small", "yolov8n"])
def test_cuda_is_traced_the_same(state: str, name: str) -> None:
    expected = described(trace(networks()[name]))
    model = STATES[state](networks()[name].cuda())
    torch.cuda.manual_seed(5)
    before, random_state = state_of(model), torch.cuda.get_rng_state()
    assert described(trace(model)) == expected
    assert state_of(model) == before
    assert torch.cuda.get_rng_state().equal(random_state)


# Left as it was


def content(tensor: Tensor | None) -> tuple | None:
    """A tensor's type, shape and a checksum of its numbers."""
    if tensor is None:
        return None
    numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return type(tensor), tensor.dtype, tensor.device, tuple(tensor.shape), zlib.crc32(numbers.tobytes())


def plain(value: Any) -> Any:
    """A value in a form that can be compared: tensors by content and identity, containers by their items."""
    if isinstance(value, Tensor):
        return id(value), value.requires_grad, id(value.grad), content(value), content(value.grad)
    if isinstance(value, dict):
        return type(value), [(plain(key), plain(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple, set)):
        return type(value), [plain(item) for item in value]
    if isinstance(value, (int, float, str, bool, type(None), np.generic)):
        return type(value), repr(value)
    return type(value), id(value)


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that tracing must leave alone: every attribute of every module, hooks, gradients and random states."""
    state = {f"{name}.{key}": plain(value) for name, m in model.named_modules() for key, value in vars(m).items()}
    state["classes"] = [type(module) for module in model.modules()]
    state["class attributes"] = [list(vars(kind)) for kind in {type(module): 0 for module in model.modules()}]
    state["global hooks"] = {
        name: list(value)
        for name, value in vars(hooks).items()
        if name.startswith("_global_") and isinstance(value, dict)
    }
    state["module calls"] = (nn.Module.__call__, nn.Module.__getattr__, nn.Module.__setattr__, F.conv2d, Tensor.split)
    state["random"] = (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state()))
    state["modes"] = (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads())
    state["functions"] = torch.overrides._get_current_function_mode_stack()
    return state


BREAKS = {"whole": None, "error": RuntimeError, "interrupt": KeyboardInterrupt, "stop": StopIteration}


@pytest.mark.parametrize("breaks", BREAKS)
@pytest.mark.parametrize("mode", ["train", "eval", "mixed", "half", "gradients"])
def test_tracing_leaves_everything_as_it_was(mode: str, breaks: str) -> None:
    model = STATES[mode](small())
    model.stem[0].weight.requires_grad_(False)
    model.blocks[0].register_forward_hook(lambda *_: None)
    model.out.register_full_backward_hook(lambda *_: None)
    model.blocks[1].breaks = BREAKS[breaks]
    kept = hooks.register_module_forward_hook(lambda *_: None)
    try:
        torch.manual_seed(3)
        before = state_of(model)
        if model.blocks[1].breaks:
            with pytest.raises(BREAKS[breaks], match="half-way"):
                trace(model, image(model, 16))
        else:
            trace(model, image(model, 16))
        assert state_of(model) == before
    finally:
        kept.remove()
    model.blocks[1].breaks = None
    assert described(trace(model))["layers"], "it can be traced again"


def test_the_release_s_model_is_left_as_it_was() -> None:
    model = yolo("yolov8n").train()
    before = state_of(model)
    trace(model)
    assert state_of(model) == before


def test_the_image_is_left_as_it_was() -> None:
    model = small()
    model.stem = nn.Sequential(nn.ReLU(), model.stem)
    x = image(model, 16)
    before = x.clone()
    trace(model, x)
    assert type(x) is Tensor and x.equal(before) and x.grad_fn is None and not vars(x)


def values(model: nn.Module, x: Tensor) -> Tensor:
    """What a network gives in use."""
    with torch.no_grad():
        output = model.eval()(x)
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("name", ["small", "yolov8n"])
@pytest.mark.parametrize("breaks", [False, True])
def test_a_traced_model_can_be_copied_pickled_and_trained(name: str, breaks: bool) -> None:
    model = networks()[name]
    x = image(model, 64)
    expected = values(model, x)
    if breaks:
        late = model.out if name == "small" else model.model[9]
        handle = late.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trace(model)
        handle.remove()
    else:
        trace(model)
    assert values(copy.deepcopy(model), x).equal(expected)
    assert values(pickle.loads(pickle.dumps(model)), x).equal(expected)
    assert model.state_dict().keys() == networks()[name].state_dict().keys()
    outputs = model.train().requires_grad_(True)(x)
    (outputs if name == "small" else outputs["boxes"]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


# While it runs


class Curious(nn.Module):
    """Reads sizes in all the ways that code does."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.c, self.table = c, {c: "known"}
        self.conv = nn.Conv2d(c, c, 3, padding=1)
        self.seen: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        assert isinstance(x.shape, torch.Size) and isinstance(x.shape[1], int) and isinstance(self.c, int)
        batch, width, *sides = x.shape
        assert width == self.c == x.size(1) == x.size()[1] == int(width) == len(x[0]) and sides == list(x.shape[2:])
        assert self.table[self.c] == self.table[width] == "known" and hash(width) == hash(self.c)
        assert f"{width}" == str(self.c) and f"{self.c:3d}" == f"{width:3d}" and repr(width) == f"{self.c!r}"
        assert len(range(width)) == len([0] * self.c) == width and [*range(width)][width - 1] == self.c - 1
        assert math.gcd(width, 4) and math.sqrt(width) and width**-0.5 and divmod(width, 3) and round(width / 2)
        assert width % 2 == 0 and width // 2 * 2 == width and -width < 0 < width and abs(-width) == max(width, 1)
        assert torch.zeros(width).shape == (self.c,) and torch.arange(self.c).numel() == width
        assert np.zeros(width).shape == (self.c,) and np.int64(width) == self.c and bool(width)
        assert torch.tensor(width).item() == self.c and x.shape.numel() == math.prod(x.shape) == x.numel()
        assert pickle.loads(pickle.dumps(int(width))) == self.c and copy.copy(width) == width
        assert tuple(x.shape) == (batch, width, *sides) and x.shape == torch.Size((batch, self.c, *sides))
        return x


def test_sizes_are_numbers_to_the_network() -> None:
    model = set_weights(nn.Sequential(nn.Conv2d(3, 8, 3), Curious(8), nn.Conv2d(8, 2, 1)))
    expected = model(image(model, 16))
    trace(model, image(model, 16))
    assert model(image(model, 16)).equal(expected)


def test_what_a_forward_pass_notes_is_gone_after_tracing() -> None:
    """RT-DETR's head keeps the anchors of the last image size, and would use them for a batch of that size."""

    class Notes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Conv2d(3, 4, 1)
            self.shapes: list[int] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.shapes = list(x.shape)
            self.new = x
            return self.out(x)

    net = nn.Sequential(Notes())
    before = dict(vars(net[0]))
    trace(net)
    assert vars(net[0]) == before
