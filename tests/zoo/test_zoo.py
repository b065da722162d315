"""Every model file: traced, cut by half of its channels, compared, trained, saved, loaded in a stock one.

Compared are the raw outputs of the heads, in float64, with those of the network in which hooks silence the removed
channels. RT-DETR chooses its queries by a top-k over the scores of all places; in float64 both networks give the same
scores to 1e-10, so they choose the same places, and what is compared behind the choice is equal as well. The image has
more places than it has queries, so that there is something to choose.
"""

import gc
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.zoo_models import BY_HEAD, CONFIGS, IMPOSSIBLE, ZooModel, named, zoo
from helpers.networks import LAYERS, difference, image, layers_run, raw_outputs, removed_by, set_weights, silenced
from helpers.processes.python import stock_environment
from ultralytics.cfg import get_cfg
from ultralytics.pruning import ChannelMap, PruningPlan, cost_of, cut, make_plan, save, trace

ZOO = zoo()
RATIO = 0.5
FLOAT32, FLOAT64 = 1e-5, 1e-10
FREE = 0.75  # of a detection model without a text branch
REFUSED = {"yolo11-cls-resnet18": "the restricted loader refuses classes of torchvision"}  # also when not pruned
NARROW = re.compile(r"(yolov5x|yolov6x|yolov8x|yolov10[mblx]|yolo11x|yolo12x|yolo26x|yolov3)(-p6|-spp)?")
COUNTED = (  # files whose multiply-adds are counted: one of each kind of block and head
    "yolov8n-worldv2",
    "yolov8n-cls",
    "yolov8n-rtdetr",
    "yolov9t",
    "yolov10n",
    "yolo11n-seg",
    "yolo12n",
    "yolo26n-depth",
    "yolo26n-p6",
    "yolo26n-sem",
)

STOCK = """
import sys
from pathlib import Path
import torch, ultralytics
from ultralytics import YOLO
assert "site-packages" in ultralytics.__file__, ultralytics.__file__
torch.set_num_threads(1)
def run(path, height, width):
    model = YOLO(path).model.float().eval()
    x = torch.zeros(1, 3, int(height), int(width))
    params = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        model(x)
        model.fuse(verbose=False)(x)
    return f"ok {params}"
print("started", flush=True)
for line in sys.stdin:
    try:
        print(run(*line.split()), flush=True)
    except Exception as error:
        print(type(error).__name__, str(error).replace("\\n", " "), flush=True)
"""


def ids(entry: ZooModel) -> str:
    return entry.name


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> Iterator[Callable[..., str]]:
    """A stock release under its restricted loader, in one process for all: it loads a file, runs, fuses, runs again."""
    folder = tmp_path_factory.mktemp("stock")
    (folder / "stock.py").write_text(STOCK)
    process = subprocess.Popen(
        [sys.executable, "stock.py"],
        cwd=folder,
        env=stock_environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(folder / "errors.txt").open("w"),
        text=True,
    )

    def ask(path: Path, *sides: int) -> str:
        print(path, *sides, file=process.stdin, flush=True)
        for line in process.stdout:
            if line.startswith("ok ") or "Error" in line:
                return line.strip()
        return (folder / "errors.txt").read_text()[-2000:] or "it ended"

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait(60)


def built(entry: ZooModel) -> nn.Module:
    """The network in float64, with random weights and batch norm statistics.

    Large scales are as deep as they are and have the layers that only they have, at the width of the smallest one.
    """
    return set_weights(entry.build(classes=10, width=0.25 if NARROW.fullmatch(entry.name) else None)).double()


def sides(entry: ZooModel, model: nn.Module) -> tuple[int, int]:
    """Height and width of an image, not square and not of the size that the tracer sees."""
    stride = max(32, int(max(model.stride)))
    return (96, 160) if entry.head == "RTDETRDecoder" else (3 * stride, 2 * stride)


def planned(channel_map: ChannelMap) -> PruningPlan:
    """A plan by random scores."""
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    return make_plan(channel_map, scores, prune_ratio=RATIO)


def test_every_file_of_the_release_is_listed() -> None:
    files = {str(file.relative_to(CONFIGS)) for file in CONFIGS.rglob("*.yaml")}
    assert {entry.file for entry in ZOO} == files - {f"{name}.yaml" for name in IMPOSSIBLE}
    assert len(ZOO) > len(files) >= 66 and len({entry.name for entry in ZOO}) == len(ZOO)
    assert {entry.task for entry in ZOO} == {task for task, _ in BY_HEAD.values()}


@pytest.mark.parametrize("entry", ZOO, ids=ids)
def test_a_file_is_cut_exactly_trains_and_loads_in_a_stock_release(
    entry: ZooModel, stock: Callable[..., str], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    model = built(entry)
    names = {name: type(module) for name, module in model.named_modules()}
    channel_map = trace(model)
    with subtests.test("share of channels that can be removed"):
        assert entry.task != "detect" or entry.reads_text or channel_map.free_share > FREE, (
            channel_map.pinned_channels()
        )
    plan = planned(channel_map)
    assert sum(p.numel() for p in model.parameters()) == plan.before.params
    x = image(model, *sides(entry, model), batch=1)
    dense = raw_outputs(model, x)
    with silenced(model, removed_by(plan)):
        expected = raw_outputs(model, x)
    assert all(output.isfinite().all() for output in expected)
    assert difference(dense, expected) > 0.1, "the cut removed nothing that matters"

    cut(model, plan)
    assert difference(expected, raw_outputs(model, x)) < FLOAT64
    params = sum(p.numel() for p in model.parameters())
    assert params == plan.after.params < plan.before.params
    assert {name: type(module) for name, module in model.named_modules()} == names

    del dense, expected
    model.float()
    train_once(entry, model, plan)
    save(model, tmp_path / "pruned.pt")
    del model
    gc.collect()
    answer = stock(tmp_path / "pruned.pt", *x.shape[2:])
    if reason := REFUSED.get(entry.name):
        assert "references types outside the supported" in answer, f"loads now, although {reason}"
    else:
        assert answer == f"ok {params}"
    (tmp_path / "pruned.pt").unlink()


def train_once(entry: ZooModel, model: Any, plan: PruningPlan) -> None:
    """One step through the release's own loss: every layer that was cut learns."""
    model.args, model.nc = get_cfg(), model.yaml["nc"]  # as trainers do
    model.train().requires_grad_(True)
    loss, items = model.loss(labels(entry, model, image(model, *sides(entry, model))))
    assert torch.isfinite(loss).all() and items
    loss.sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.shape == parameter.shape and parameter.grad.isfinite().all(), name
    parameters = dict(model.named_parameters())
    for name in plan.layers:
        parameter = parameters.get(f"{name}.weight", parameters.get(name))
        assert parameter is None or parameter.grad is not None, f"{name} does not learn"


def labels(entry: ZooModel, model: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Two objects on each image, in the form that the task's loss reads."""
    count, (height, width) = 2 * len(x), x.shape[2:]
    generator = torch.Generator().manual_seed(2)
    boxes = torch.tensor([[0.3, 0.4, 0.4, 0.5], [0.7, 0.6, 0.3, 0.6]]).repeat(len(x), 1)
    batch = {
        "img": x,
        "cls": torch.arange(float(count)) % 3,
        "batch_idx": torch.arange(float(len(x))).repeat_interleave(2),
        "bboxes": boxes,
    }
    places = torch.zeros(len(x), height // 4, width // 4)
    places[:, 4:12, 2:8] = 1
    if entry.task == "classify":
        return {"img": x, "cls": torch.arange(len(x))}
    if entry.task == "semantic":
        return {"img": x, "semantic_mask": torch.randint(0, 10, (len(x), height, width), generator=generator)}
    if entry.task == "depth":
        return {"img": x, "depth": torch.rand(len(x), height, width, generator=generator) + 0.5}
    if entry.task == "segment":
        batch |= {"masks": places + places.roll(6, -1) * 2, "sem_masks": places.long()}
    elif entry.task == "pose":
        batch |= {"keypoints": torch.rand(count, 17, 3, generator=generator).ceil_().mul_(0.5)}
    elif entry.task == "obb":
        batch |= {"bboxes": torch.cat([boxes, torch.full((count, 1), 0.3)], 1)}
    if entry.reads_text:
        batch |= {"txt_feats": torch.randn(len(x), model.model[-1].nc, 512, generator=generator)}
    return batch


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("strides", [2, 0], ids=["small", "640"])
def test_costs_are_those_that_a_run_counts(name: str, strides: int) -> None:
    """Before and after the cut, at the size that the tracer sees and at 640 pixels; RT-DETR has 300 queries at any."""
    model = set_weights(named(name).build(classes=10))
    side = strides * max(32, int(max(model.stride))) or 640
    channel_map = trace(model, imgsz=side)
    plan = planned(channel_map)
    assert cost_of(channel_map) == plan.before
    for cost in (plan.before, plan.after):
        x = image(model, side, batch=1)
        counts = layers_run(model, x, deployed=True)
        assert cost.macs == sum(counts.values())
        cut(model, plan) if cost is plan.before else None


@pytest.mark.parametrize("name", ["yoloe-v8n", "yoloe-11n-seg", "yoloe-26n"])
def test_visual_prompts_still_work(name: str) -> None:
    """A YOLOE reads boxes drawn by a person with layers that run only then; they read channels that the cut removes."""
    model: Any = set_weights(named(name).build(classes=10))  # in float32: the release's mask overflows in float64
    plan = planned(trace(model))
    x = image(model, 128)
    prompts = torch.zeros(2, 3, 16, 16)
    prompts[:, :, 4:9, 3:12] = 1
    with silenced(model, removed_by(plan)):
        expected = model.eval().get_visual_pe(x, prompts)
    cut(model, plan)
    assert difference([expected], [model.eval().get_visual_pe(x, prompts)]) < FLOAT32


def test_no_layer_is_forgotten() -> None:
    """What runs only in another mode than the traced one is cut or left alone with all that it reads."""
    for entry in (named("yolov8n"), named("yolo26n-seg"), named("yolov10n")):
        model = entry.build(classes=10)
        forgotten = {name for name, module in model.named_modules() if isinstance(module, LAYERS)} - set(
            trace(model).layers
        )
        assert all(name.endswith("dfl.conv") for name in forgotten)
