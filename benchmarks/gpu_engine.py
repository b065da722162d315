"""The checks of `benchmarks/gpu.py` that call the engine: exactness, criteria, the cost of a step, latency tables."""

from __future__ import annotations

import argparse
import copy
import functools
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.gpu_scale import MODES, Scale, folder, network
from ultralytics.cfg import get_cfg
from ultralytics.pruning import CRITERIA, Limits, PruningError, cut, prune_network, trace
from ultralytics.pruning.criteria import ON_IMAGES
from ultralytics.pruning.latency import Latency, Runtime
from ultralytics.pruning.latency.timing import in_turns
from ultralytics.pruning.selection.choose import make_plan
from ultralytics.pruning.sparsity import Settings, SparsityRun
from ultralytics.pruning.surgery.verification import largest_difference, silenced
from ultralytics.utils import DEFAULT_CFG_DICT

EXACT = 1e-10  # relative difference in float64
FOLDED = 1e-4  # of weights and statistics that were folded in float32: kernels add up in another order


def checks(scale: Scale) -> dict[str, Callable[[], str]]:
    """Returns the checks by name."""
    found = {}
    for name in scale.networks:
        found[f"cut of {short(name)}"] = functools.partial(exactness, scale, name)
    found["criteria"] = functools.partial(criteria, scale)
    for mode in scale.modes:
        found[f"step of {mode}"] = functools.partial(step, scale, mode)
    found["latency table"] = functools.partial(latency_table, scale)
    found["latency target"] = functools.partial(latency_target, scale)
    return found


def short(name: str) -> str:
    """Returns a yaml's name without folder and ending."""
    return name.rpartition("/")[2].removesuffix(".yaml")


def exactness(scale: Scale, name: str) -> str:
    """Cuts on the device: as the silenced original in float64, and by the plan and to the weights of the CPU."""
    cpu = network(name)
    gpu = copy.deepcopy(cpu).to(scale.place)
    expected, found = (prune_network(model, speed_up=2.0, limits=Limits(round_to=8)) for model in (cpu, gpu))
    if found.plan.layers != expected.plan.layers:
        raise PruningError("the plan is another one than on the CPU")
    bare = copy.deepcopy(gpu)
    cut(bare, found.plan)
    image = torch.rand(2, 3, 2 * scale.imgsz, 2 * scale.imgsz, dtype=torch.float64).to(scale.place)
    pruned = copy.deepcopy(bare).double()
    difference = largest_difference(silenced(gpu, found.plan).double(), pruned, image)
    if not difference <= EXACT:
        raise PruningError(f"the cut differs from the silenced original by {difference:.1e}")
    if not largest_difference(copy.deepcopy(gpu).double(), pruned, image) > 1e-6:
        raise PruningError("what was cut made no difference, so that nothing is shown")
    cut(cpu, expected.plan)
    for key, tensor in bare.state_dict().items():
        if not torch.equal(tensor.cpu(), cpu.state_dict()[key]):
            raise PruningError(f"{key} is not what the CPU cuts")
    folded = max(
        float((tensor.cpu() - expected.model.state_dict()[key]).abs().max() / tensor.abs().max().clamp_min(1e-12).cpu())
        for key, tensor in found.model.state_dict().items()
        if tensor.is_floating_point() and tensor.numel()
    )
    if not folded <= FOLDED:
        raise PruningError(f"folding differs from the CPU's by {folded:.1e}")
    return f"differs from the silenced original by {difference:.1e} (float64); folding from the CPU's by {folded:.1e}"


def criteria(scale: Scale) -> str:
    """Scores on the device are those of the CPU."""
    cpu = network(scale.networks[0])
    gpu = copy.deepcopy(cpu).to(scale.place)
    here, there = trace(cpu), trace(gpu)
    names = [name for name, criterion in CRITERIA.items() if criterion.needs not in ON_IMAGES]
    for name in names:
        if not np.allclose(CRITERIA[name](there, gpu), CRITERIA[name](here, cpu), rtol=1e-9, atol=0, equal_nan=True):
            raise PruningError(f"{name} gives other scores than on the CPU")
    return f"{len(names)} give the scores of the CPU"


def step(scale: Scale, mode: str) -> str:
    """Times a training step with a mode of sparsity training and without, in turns."""
    words = {key.lstrip("-").replace("-", "_"): value for key, value in zip(*[iter(MODES[mode])] * 2, strict=True)}
    asked = {key: value if key == "sparsity" else float(value) for key, value in words.items()}
    runs = {}
    for name in ("plain", mode):
        model = network(scale.networks[0]).to(scale.place).train()
        model.args = get_cfg()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        sparsity = None
        if name == mode:
            settings = argparse.Namespace(**{**DEFAULT_CFG_DICT, "sr": 1e-3 if "sr" not in asked else 0.0, **asked})
            if "target_sparsity" in asked or "target_speed_up" in asked:
                settings.sr = DEFAULT_CFG_DICT["sr"]
            sparsity = SparsityRun(model, Settings.of(settings))
            sparsity.attach(optimizer)
            sparsity.epoch_starts(1, 10)
        runs[name] = functools.partial(_train, scale, model, optimizer, sparsity, _batch(scale))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(3 + scale.rounds):
        for name, run in runs.items():
            scale.wait()
            start = time.perf_counter()
            run()
            scale.wait()
            if number >= 3:
                seconds[name].append(time.perf_counter() - start)
    plain, with_mode = (1e3 * statistics.median(seconds[name]) for name in ("plain", mode))
    return f"{with_mode:.1f} ms a step, {plain:.1f} ms without ({with_mode / plain - 1:+.1%})"


def _train(scale: Scale, model, optimizer, sparsity: SparsityRun | None, batch: dict[str, torch.Tensor]) -> None:
    """Trains on a batch, under autocast as a training does."""
    with torch.autocast(scale.place.type, enabled=scale.device != "cpu"):
        loss = model.loss(batch)[0].sum()
    loss.backward()
    if sparsity:
        sparsity.batch_starts(100)
        if sparsity.settings.traits.in_gradients:
            sparsity.add_to_gradients(optimizer)
    optimizer.step()
    optimizer.zero_grad()


def _batch(scale: Scale) -> dict[str, torch.Tensor]:
    """Returns random images with two objects each."""
    count = scale.batch
    boxes = torch.rand(2 * count, 4) * 0.3 + 0.3
    images = torch.rand(count, 3, scale.imgsz, scale.imgsz)
    objects = {"batch_idx": torch.arange(2 * count) // 2, "cls": torch.zeros(2 * count, 1), "bboxes": boxes}
    return {key: tensor.to(scale.place) for key, tensor in {"img": images, **objects}.items()}


def _latency(scale: Scale) -> Latency:
    runtime = Runtime("torch", device=scale.device)
    return Latency(1.5, runtime, 64 if scale.device == "cpu" else 640, folder=folder() / "latency")


def latency_table(scale: Scale) -> str:
    """Compares the sum of the layers' timings with the time of whole networks: the original, and cuts of it."""
    latency, model = _latency(scale), network(scale.networks[0])
    channel_map, limits = trace(model), Limits(round_to=8)
    scores = CRITERIA["slim"](channel_map, model)
    predict = latency.model(model, channel_map, 16)
    networks, sums = {}, {}
    for factor in (1.0, 1.5, 2.0, 3.0):
        pruned = copy.deepcopy(model)
        kept = np.ones(len(channel_map.channels), dtype=bool)
        sums[factor] = predict(kept)
        if factor > 1:
            plan = make_plan(channel_map, scores, speed_up=factor, limits=limits)
            cut(pruned, plan)
            sums[factor] = predict.of(plan)
        networks[factor] = latency.runtime.network(pruned, latency.imgsz)
    with latency.runtime.threading():
        found = in_turns(networks, rounds=scale.rounds)
    if not all(np.isfinite(value) and value > 0 for value in (*found.values(), *sums.values())):
        raise PruningError(f"no milliseconds: {sums} by the table, {found} as timed")
    cells = [f"{factor:g}x: {sums[factor]:.2f} / {found[factor]:.2f}" for factor in networks]
    return "ms by the table / as timed, by the factor of multiply-adds: " + ", ".join(cells)


def latency_target(scale: Scale) -> str:
    """Asks for 1.5 times fewer milliseconds; what is reached, or what the plan says is in the way."""
    result = prune_network(network(scale.networks[0]), latency=_latency(scale), limits=Limits(round_to=8))
    noted = result.plan.settings["latency"]
    reached = f"{noted['speed_up']:.2f}x of 1.5x, {noted['ms']['before']} to {noted['ms']['after']} ms"
    return reached + (f" ({result.plan.limits[0]})" if result.plan.limits else "")
