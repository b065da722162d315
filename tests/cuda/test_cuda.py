"""The engine on an emulated GPU (see `emulated_cuda.py` for what that can and cannot show).

Whatever reads weights, cuts, checks, fades or times runs here on `cuda:0`, where an operation that mixes devices
raises, and has to give what it gives on the CPU, bit for bit: both compute with the same kernels. Trainings and stages
are in `test_cuda_training.py`.
"""

import copy
from argparse import Namespace
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.emulated_cuda import emulated_cuda
from helpers.networks import Net, block, chain, conv, csp_net, image, letters, set_weights, yolo
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel
from ultralytics.pruning import CRITERIA, Limits, Scoring, cost_of, load, prune_network, save, trace
from ultralytics.pruning.criteria import ON_IMAGES
from ultralytics.pruning.gammas import prunable_values
from ultralytics.pruning.latency import Latency, Runtime
from ultralytics.pruning.passes.gates import gate_gradients
from ultralytics.pruning.passes.photographs import PHOTOGRAPHS
from ultralytics.pruning.passes.reading import Images
from ultralytics.pruning.pipeline import repeat_plan
from ultralytics.pruning.selection.ratios import ratio_cuts
from ultralytics.pruning.selection.zeros import share_at_zero, zero_groups
from ultralytics.pruning.sparsity import Settings, SparsityRun
from ultralytics.utils import DEFAULT_CFG_DICT


@pytest.fixture
def cuda() -> Iterator[torch.device]:
    with emulated_cuda() as device:
        yield device


def rtdetr() -> nn.Module:
    """A small network with a transformer in its neck and in its head."""
    layers = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "C2f", [32, True]]]
    layers += [[-1, 1, "Conv", [32, 3, 2]]]
    head = [[-1, 1, "AIFI", [64, 4]], [[2, 4], 1, "RTDETRDecoder", ["nc", 32, 10, 2, 4, 1]]]
    return set_weights(RTDETRDetectionModel({"nc": 4, "backbone": layers, "head": head}, verbose=False))


NETWORKS = {"yolov8n": lambda: yolo("yolov8n"), "yolo26n": lambda: yolo("yolo26n"), "rtdetr": rtdetr}


def on_gpu(model: nn.Module, device: torch.device) -> nn.Module:
    return copy.deepcopy(model).to(device)


def same_weights(gpu: nn.Module, cpu: nn.Module) -> bool:
    states = gpu.state_dict(), cpu.state_dict()
    assert all(tensor.is_cuda for tensor in states[0].values())
    return states[0].keys() == states[1].keys() and all(
        torch.equal(tensor.cpu(), states[1][name]) for name, tensor in states[0].items()
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_trace_criteria_cut_and_check_give_what_they_give_on_the_cpu(cuda, name):
    cpu = NETWORKS[name]()
    gpu = on_gpu(cpu, cuda)
    here, there = trace(cpu), trace(gpu)
    assert letters_of(there) == letters_of(here) and there.pinned == here.pinned and cost_of(there) == cost_of(here)
    for key, criterion in CRITERIA.items():
        if criterion.needs not in ON_IMAGES:
            assert np.array_equal(criterion(there, gpu), criterion(here, cpu), equal_nan=True), key
    expected = prune_network(cpu, speed_up=1.5, limits=Limits(round_to=4))
    found = prune_network(gpu, speed_up=1.5, limits=Limits(round_to=4))
    assert found.plan.layers == expected.plan.layers and found.unfolded == expected.unfolded
    assert found.difference <= 1e-10 and found.plan.after.params < found.plan.before.params
    assert same_weights(found.model, expected.model)
    if name == "rtdetr":  # the smallest
        assert same_weights(repeat_plan(gpu, expected.plan).model, expected.model)


def test_a_cut_in_rounds_with_a_fit_gives_what_it_gives_on_the_cpu(cuda, small_weights):
    """Wherever the network and its images are; `prune.py --device 0` has the first on the CPU."""

    def cut(network: nn.Module, where: str) -> nn.Module:
        images = Images(PHOTOGRAPHS, batches=1, batch=4, imgsz=64, device=where)
        scoring = Scoring("group_fisher", per="multiply-add", outputs=partial(gate_gradients, images=images))
        how = {"limits": Limits(round_to=1), "imgsz": 64}
        return prune_network(network, speed_up=1.5, scoring=scoring, rounds=2, refit=images, **how).model

    cpu = load(small_weights)[0]
    expected = cut(cpu, "cpu")
    for network, where in ((cpu, "0"), (on_gpu(cpu, cuda), "0"), (on_gpu(cpu, cuda), "cpu")):
        found = cut(network, where)
        home = next(network.parameters()).device
        assert all(tensor.device == home for tensor in found.state_dict().values())
        for name, tensor in expected.state_dict().items():
            assert torch.allclose(found.state_dict()[name].cpu(), tensor, atol=1e-5), name


def test_by_default_a_network_is_scored_where_it_is(cuda, small_weights):
    network = on_gpu(load(small_weights)[0], cuda)
    network.args = {"data": "gone.yaml", "imgsz": 64}
    result = prune_network(network, speed_up=1.2, limits=Limits(round_to=1), imgsz=64)
    assert result.default.images.device == "0" and next(result.model.parameters()).is_cuda


def letters_of(channel_map):
    return {name: (own.inputs.tolist(), own.outputs.tolist(), own.cells) for name, own in channel_map.layers.items()}


def odd() -> Net:
    """Numbers and indices that stay on the CPU, as CUDA allows: a temperature, a mask of channels, a list."""

    def run(net: Net, x: torch.Tensor) -> torch.Tensor:
        y = net.a(x)
        y = torch.maximum(net.scale * y, y) + (y * torch.tensor(0.5)).clamp_min(torch.tensor(-1.0, dtype=y.dtype))
        y = y[torch.arange(len(y))][:, :, torch.ones(y.shape[2], dtype=torch.bool)]
        return net.out(nn.functional.adaptive_avg_pool2d(net.b(y), 2))

    net = Net(run, a=block(3, 8), b=block(8, 8), out=conv(8, 2))
    net.scale = torch.tensor(0.7, dtype=torch.float64)  # no buffer: it stays where it is
    return net


def test_numbers_of_the_cpu_in_a_network_on_the_gpu_change_nothing(cuda):
    cpu = odd()
    gpu = on_gpu(cpu, cuda)
    assert not gpu.scale.is_cuda
    assert letters(trace(gpu))[0] == letters(trace(cpu))[0]  # the whole map, in letters
    assert cost_of(trace(gpu)) == cost_of(trace(cpu))  # `out` runs on 2 x 2 cells at any size
    assert same_weights(prune_network(gpu, prune_ratio=0.4).model, prune_network(cpu, prune_ratio=0.4).model)


def test_a_default_device_changes_nothing(cuda):
    """`torch.set_default_device("cuda")`, as notebooks have it, also makes the engine's own tensors there."""
    cpu = csp_net()
    expected = prune_network(cpu, prune_ratio=0.4)
    with torch.device("cuda"):
        found = prune_network(on_gpu(cpu, cuda), prune_ratio=0.4)
        assert letters(trace(cpu))[0] == letters(trace(cpu.to("cpu")))[0]
    assert found.plan.layers == expected.plan.layers and same_weights(found.model, expected.model)


def test_a_wrong_cut_is_still_seen(cuda, monkeypatch):
    from ultralytics.pruning import PruningError, pipeline

    def cut_wrong(model, plan):
        cut(model, plan)
        model.out.weight.data[0, 0] += 1e-3

    cut = pipeline.cut
    monkeypatch.setattr(pipeline, "cut", cut_wrong)
    with pytest.raises(PruningError, match="differs"):
        prune_network(on_gpu(csp_net(), cuda), prune_ratio=0.4)


def test_zeros_ratios_and_gammas_are_read(cuda):
    cpu = csp_net()
    for norm in (cpu.stem[1], cpu.cv2[1], cpu.dw[1]):  # one group: they are added
        norm.weight.data[:3] = 0
        norm.bias.data[:3] = 0
    gpu = on_gpu(cpu, cuda)
    here, there = trace(cpu), trace(gpu)
    assert np.array_equal(zero_groups(there, gpu), zero_groups(here, cpu)) and share_at_zero(there, gpu) > 0
    assert ratio_cuts(there, gpu) == ratio_cuts(here, cpu)
    assert np.array_equal(prunable_values(there, gpu), prunable_values(here, cpu))
    cpu = chain(8, 8)
    cpu.body[0][1].weight.data[:3] = 0
    found = prune_network(on_gpu(cpu, cuda), zeros=True)
    assert found.model.body[0][0].out_channels == 5 and same_weights(found.model, prune_network(cpu, zeros=True).model)


def test_a_network_of_the_gpu_is_saved_for_anybody(cuda, tmp_path):
    """Also straight out of `torch.save`, as a training writes it."""
    gpu = yolo("yolov8n").to(cuda)
    torch.save({"model": copy.deepcopy(gpu)}, tmp_path / "there.pt")
    save(gpu, tmp_path / "saved.pt")
    for name in ("there.pt", "saved.pt"):
        model, _ = load(tmp_path / name)
        assert {type(tensor) for tensor in model.parameters()} == {nn.Parameter}
        assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
        assert prunable_values(trace(model), model).size
        assert same_weights(model.to(cuda), yolo("yolov8n"))


def test_latencies_are_timed_in_pytorch(cuda, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    runtime = Runtime("torch", device="0")
    assert runtime.about()["machine"] == "an emulated GPU" and runtime.about()["threads"] == "-"
    latency = Latency(1.3, runtime, 32, folder=tmp_path)
    layers = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]]
    cpu = DetectionModel({"nc": 4, "backbone": layers, "head": [[[1], 1, "Detect", ["nc"]]]}, verbose=False)
    for model in (cpu, on_gpu(cpu, cuda)):
        result = prune_network(model, latency=latency)
        assert result.plan.settings["latency"]["machine"] == "an emulated GPU"
        assert result.plan.settings["latency"]["ms"]["before"] > 0 and len(list(tmp_path.glob("torch-*.json"))) == 1
    assert waits and set(waits) == {"cuda:0"}


# Sparsity training, without a trainer

MODES = {
    "subgradient": {"sr": 1e-3, "sr_bias": 1e-3},
    "proximal": {"sparsity": "proximal", "sr": 1e-3, "sr_bias": 1e-3},
    "proximal to a target": {"sparsity": "proximal", "target_sparsity": 0.5},
    "group": {"sparsity": "group", "sr": 1e-3, "sr_bias": 1e-3},
    "group to a target": {"sparsity": "group", "target_speed_up": 2.0},
    "steered": {"sparsity": "steered", "target_speed_up": 2.0},
    "group_sl": {"sparsity": "group_sl", "sr": 0.1},
    "group_reg": {"sparsity": "group_reg", "target_speed_up": 2.0},
}
OPTIMIZERS = {
    "SGD, foreach": lambda p: torch.optim.SGD(p, lr=0.001, momentum=0.9, foreach=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=0.001, fused=True),
}
EPOCHS, BATCHES = 4, 2


class Half:
    """A sparsity training of a small network that can be put down after an epoch and taken up on another device."""

    def __init__(self, model: nn.Module, mode: str, optimizer: str) -> None:
        self.model, self.averaged = model, copy.deepcopy(model)
        settings = Namespace(**{**DEFAULT_CFG_DICT, "round_to": 1, **MODES[mode]})
        self.run = SparsityRun(model, Settings.of(settings))
        self.optimizer = OPTIMIZERS[optimizer](model.parameters())
        self.run.attach(self.optimizer)

    def train(self, epochs: range, scaler: torch.amp.GradScaler | None = None) -> "Half":
        self.run.check(self.optimizer, BATCHES, EPOCHS)
        device = next(self.model.parameters()).device
        for epoch in epochs:
            self.run.epoch_starts(epoch, EPOCHS)
            for batch in range(BATCHES):
                self.run.batch_starts(BATCHES)
                loss = self.model(image(csp_net(), 8, seed=batch).to(device)).square().mean()
                (scaler.scale(loss) if scaler else loss).backward()
                if self.run.settings.mode == "subgradient":
                    self.run.add_to_gradients(self.optimizer)
                if scaler:
                    scaler.step(self.optimizer)
                    scaler.update()
                else:
                    self.optimizer.step()
                self.optimizer.zero_grad()
            self.run.copy_zeros(self.averaged)
        return self

    def put_down(self, file) -> None:
        torch.save({"run": self.run.state(), "optimizer": self.optimizer.state_dict()}, file)

    def take_up(self, file) -> "Half":
        state = torch.load(file, map_location="cpu")  # as `resuming` reads it; by the restricted loader: plain data
        self.run.load(state["run"])
        for saved, group in zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
            saved["fused"] = group.get("fused")
        self.optimizer.load_state_dict(state["optimizer"])
        return self


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_s_steps_are_those_of_the_cpu_also_when_it_moves_on_the_way(cuda, mode, tmp_path):
    optimizer = "SGD, foreach" if len(mode) % 2 else "AdamW, fused"
    whole = Half(csp_net(), mode, optimizer).train(range(EPOCHS))
    for first, second in (("cuda", "cuda"), ("cuda", "cpu"), ("cpu", "cuda")):
        half = Half(csp_net().to(first), mode, optimizer).train(range(2))
        half.put_down(tmp_path / "state.pt")
        half.model.to(second)
        other = Half(half.model, mode, optimizer).take_up(tmp_path / "state.pt")
        other.averaged = half.averaged.to(second)
        other.train(range(2, EPOCHS))
        for found, expected in ((other.model, whole.model), (other.averaged, whole.averaged)):
            assert same_weights(found.to(cuda), expected), (first, second)
    assert other.run.findings() == whole.run.findings() and other.run.missed == whole.run.missed


@pytest.mark.parametrize("mode", ["proximal", "steered", "group_reg"])
def test_a_step_that_the_gradient_scaler_skips_moves_nothing(cuda, mode):
    """A fused optimizer with a scaler is beyond the emulation: C++ tells it the device of its gradients."""
    half = Half(csp_net().to(cuda), mode, "SGD, foreach")
    half.train(range(3), torch.amp.GradScaler("cuda", init_scale=4.0))
    before = copy.deepcopy(half.model.state_dict())
    scaler = torch.amp.GradScaler("cuda", init_scale=float("inf"))
    half.run.epoch_starts(2, EPOCHS)
    half.run.batch_starts(1)
    scaler.scale(half.model(image(csp_net(), 8).to(cuda)).sum()).backward()
    scaler.step(half.optimizer)
    after = half.model.state_dict()
    assert all(torch.equal(before[n], after[n]) for n, _ in half.model.named_parameters())


class Waits(TorchDispatchMode):
    """Notes the operations that on CUDA wait for the GPU: they read a value, or make a shape of values."""

    seen: tuple[str, ...] = ()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name
        indices = args[1] if name.startswith("aten::index") and isinstance(args[1], (list, tuple)) else ()
        by_mask = any(own is not None and own.dtype is torch.bool for own in indices)
        if by_mask or name in {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"}:
            self.seen += (name,)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_waits_for_the_gpu_in_a_step(cuda, mode):
    half = Half(csp_net().to(cuda), mode, "SGD, foreach").train(range(2))
    half.model(image(csp_net(), 8).to(cuda)).square().sum().backward()
    half.run.batch_starts(BATCHES)
    with Waits() as waits:
        if half.run.settings.mode == "subgradient":
            half.run.add_to_gradients(half.optimizer)
        half.optimizer.step()
    assert waits.seen == ()
    with Waits() as waits:
        half.run.scales.sparsity()
    assert waits.seen  # what a person sees does


def test_histograms_and_pictures_are_drawn(cuda, tmp_path):
    half = Half(csp_net().to(cuda), "steered", "SGD, foreach").train(range(3))
    half.run.history.epoch_ends(2, half.run.strength, half.run.scales, tmp_path)
    half.run.history.ends(half.run.scales, tmp_path)
    assert (tmp_path / "gamma.png").stat().st_size and half.run.history.epochs[0].sparsity > 0
