"""When memory ends, passes over images go on with fewer at once and find the same. Memory is emulated by a limit."""

import contextlib
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from helpers.repository import FADED_WEIGHTS
from helpers.task_data import MODELS, write_data
from ultralytics import YOLO
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.nn.tasks import BaseModel, DetectionModel
from ultralytics.pruning import PruningError, load
from ultralytics.pruning.compression.recipe import images_of
from ultralytics.pruning.data.sets import resolve_data
from ultralytics.pruning.passes.images import Images, gradients, recalibrate
from ultralytics.pruning.passes.memory import Shrinking, divisors, halves, leave_gpus, ran_out
from ultralytics.pruning.passes.parts import Way, loss_gradients, ways_of
from ultralytics.pruning.passes.reading import Reader, _precision
from ultralytics.pruning.passes.validating import validate

ENDS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    "numpy": MemoryError(),
}


@contextlib.contextmanager
def memory_for(images: int, owner: type = BaseModel, name: str = "forward", error: Exception = ENDS["cuda"]):
    """Lets a method of networks raise when it gets more images at once; yields how many it got each time."""
    original, seen = getattr(owner, name), []

    def limited(self, x, *args, **kwargs):
        count = len(x["img"] if isinstance(x, dict) else x)
        seen.append(count)
        if count > images:
            raise error
        return original(self, x, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, limited)
        yield seen


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A trained network."""
    return load(FADED_WEIGHTS)[0]


@pytest.fixture(scope="module")
def images(digits) -> Images:
    """Two batches, the second of which is not whole."""
    return Images(str(digits), batches=2, batch=9, imgsz=64)


@pytest.fixture(scope="module")
def undisturbed(network, images) -> list:
    """The gradients where memory is enough."""
    return list(gradients(network, images))


def difference(found: dict, wanted: dict) -> float:
    """The largest difference of two gradients, relative to each parameter's largest entry, if that is no rounding."""
    assert found.keys() == wanted.keys()
    least = max(float(value.abs().max()) for value in wanted.values()) * 1e-2
    return max(float((found[k] - wanted[k]).abs().max() / wanted[k].abs().max().clamp(min=least)) for k in wanted)


@pytest.mark.parametrize("error", ENDS.values(), ids=ENDS)
def test_the_end_of_memory_is_told_from_other_errors(error) -> None:
    """By its class, or by what libraries say."""
    assert ran_out(error)
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) and not ran_out(KeyError("img"))


def test_sizes_end_at_one_image() -> None:
    """Each at most half of the one before; as parts of a whole, its divisors."""
    assert halves(12) == [12, 6, 3, 1] and halves(1) == [1]
    assert divisors(12) == [12, 6, 3, 1] and divisors(10) == [10, 5, 1] and divisors(7) == [7, 1]
    assert ways_of(4) == [Way(4), Way(2), Way(1), Way(2, apart=True), Way(1, apart=True)]


@pytest.mark.parametrize("limit", [4, 1])
def test_gradients_of_parts_are_those_of_the_whole(network, images, undisturbed, limit, capsys) -> None:
    """To rounding, with a line for each step down, which later batches do not climb again."""
    with memory_for(limit) as seen:
        found = list(gradients(network, images))
    assert len(found) == len(undisturbed) == 2
    assert max(map(difference, found, undisturbed)) < 1e-4
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Memory ended")]
    assert len(said) == (1 if limit == 4 else 3)
    assert max(seen[seen.index(limit) :]) == limit and not any(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("task", [task for task in MODELS if task != "detect"])
def test_parts_of_every_task(task, tmp_path) -> None:
    """Whatever the loss is divided by, and whatever the head returns."""
    data = resolve_data(write_data(task, tmp_path / "data"), task=task)
    torch.manual_seed(0)
    model = YOLO(MODELS[task]).model
    images = Images(data, batches=1, batch=3, imgsz=64)
    [whole] = gradients(model, images)
    with memory_for(1) as seen:
        [found] = gradients(model, images)
    assert seen[:4] == [3, 1, 1, 1]
    assert difference(found, whole) < 1e-3


def test_a_loss_that_does_not_fit_is_that_of_smaller_batches(network, digits, undisturbed) -> None:
    """As if the batch were smaller: each image counts once."""
    where = {"imgsz": 64, "data": str(digits)}
    single = list(gradients(network, Images(batches=4, batch=2, **where)))
    with memory_for(2, DetectionModel, "loss") as seen:
        pairs = list(gradients(network, Images(batches=2, batch=4, **where)))
    for found, parts in zip(pairs, (single[:2], single[2:]), strict=True):
        assert difference(found, {name: parts[0][name] + parts[1][name] for name in found}) < 1e-4
    assert seen == [4, 4, 4, 2, 2, 2, 2]


def test_memory_that_ends_once(network, images, undisturbed, monkeypatch) -> None:
    """In the middle of the second batch, on the way back: that batch begins again, the first is not counted twice."""
    original, calls = torch.Tensor.backward, []

    def backward(self, *args, **kwargs):
        original(self, *args, **kwargs)  # the gradients are there already
        calls.append(1)
        if len(calls) == 2:
            raise ENDS["cuda"]

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    found = list(gradients(network, images))
    assert len(found) == 2 and len(calls) == 3
    assert max(map(difference, found, undisturbed)) < 1e-4


@pytest.mark.parametrize("work", ["gradients", "statistics", "validation"])
def test_a_single_image_that_does_not_fit_is_one_line(network, digits, tmp_path, work) -> None:
    """After finitely many tries."""
    images = Images(str(digits), batches=1, batch=4, imgsz=64)
    passes = {
        "gradients": lambda: list(gradients(network, images)),
        "statistics": lambda: recalibrate(network, images),
        "validation": lambda: validate(
            FADED_WEIGHTS, {"data": str(digits), "imgsz": 64, "batch": 4, "project": str(tmp_path)}
        ),
    }
    with (
        memory_for(0) as seen,
        pytest.raises(PruningError, match=f"memory ends in .*{work}.* a single image ") as error,
    ):
        passes[work]()
    assert seen.count(4) and len(seen) <= 12 and "\n" not in str(error.value)


def test_a_network_that_does_not_fit_is_one_line(network, images, monkeypatch) -> None:
    """Before any image."""

    def to(self, *args, **kwargs):
        raise ENDS["cuda"]

    monkeypatch.setattr(nn.Module, "to", to)
    with pytest.raises(PruningError, match="memory ends with the network alone") as error:
        list(gradients(network, images))
    assert "\n" not in str(error.value)


def test_other_errors_are_not_tried_again() -> None:
    """They come out as they are."""
    calls = []

    def work(size: int) -> None:
        calls.append(size)
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Shrinking("a test", [4, 2, 1])(work)
    assert calls == [4]


def test_statistics_of_parts(digits) -> None:
    """Each image counts once: the mean of the first layer is that of all images, though a try failed half way."""
    images = Images(str(digits), batches=2, batch=8, imgsz=64)
    (whole, _), (parts, _) = load(FADED_WEIGHTS), load(FADED_WEIGHTS)
    assert recalibrate(whole, images) == 2
    with memory_for(5, nn.Conv2d) as seen:
        assert recalibrate(parts, images) == 2
    assert seen[0] == 8 and seen.count(8) == 1
    torch.testing.assert_close(parts.model[0].bn.running_mean, whole.model[0].bn.running_mean, rtol=1e-4, atol=1e-5)
    for name, value in whole.state_dict().items():
        if name.endswith("running_var"):
            assert 0.5 < float(parts.state_dict()[name].mean() / value.mean()) < 1.2, name


def test_a_batch_norm_that_does_not_run_keeps_its_statistics(digits) -> None:
    """Such as one that only a deployed network uses."""
    model, _ = load(FADED_WEIGHTS)
    model.idle = nn.BatchNorm2d(3)
    model.idle.running_mean.fill_(7.0)
    recalibrate(model, Images(str(digits), batches=1, batch=4, imgsz=64))
    assert model.idle.running_mean.tolist() == [7.0] * 3 and not model.model[0].bn.running_mean.eq(0).any()


@pytest.fixture(scope="module")
def oblong(digits, tmp_path_factory):
    """The digits, each image stretched to another shape."""
    import cv2
    import yaml

    from ultralytics.data.digits import Recipe, build

    file = build(tmp_path_factory.mktemp("oblong") / "digits", Recipe(train=4, val=8))
    for i, image in enumerate(sorted((file.parent / "images" / "val").glob("*.png"))):
        cv2.imwrite(str(image), cv2.resize(cv2.imread(str(image)), (160 + 40 * (i % 3), 320 - 50 * (i % 4))))
    assert yaml.safe_load(file.read_text())["val"]
    return file


def test_the_accuracy_does_not_depend_on_memory(oblong, tmp_path, capsys) -> None:
    """Also where images are padded to the shape of their batch: 8 or 2 at once are measured the same."""
    settings = {"data": str(oblong), "imgsz": 96, "batch": 8, "device": "cpu", "plots": False, "project": str(tmp_path)}
    whole, task, batch = validate(FADED_WEIGHTS, settings)
    assert (task, batch) == ("detect", 8) and whole.results_dict["metrics/mAP50(B)"] > 0.05
    with memory_for(2) as seen:
        found, _, batch = validate(FADED_WEIGHTS, settings)
    assert batch == 2 and max(seen[seen.index(2) :]) == 2
    assert "Memory ended in the validation of" in capsys.readouterr().out
    for name, value in whole.results_dict.items():
        assert found.results_dict[name] == pytest.approx(value, abs=1e-3), name


@pytest.mark.parametrize(
    ("batch", "device", "wanted"),
    [
        (48, "cpu", ("cpu", 16)),
        (48, "0,1", ("0", 16)),
        (24, "1,2,3", ("1", 8)),
        (4, "0", ("0", 4)),
        (1, "0,1", ("0", 1)),
        (64, "", ("", 16)),
        (64, [2, 3], ("2", 16)),
    ],
)
def test_a_pass_takes_at_most_what_a_gpu_trains_with(batch, device, wanted) -> None:
    """And no more than 16 images, on the first of the devices."""
    found = images_of({"imgsz": 64, "batch": batch, "device": device}, "d.yaml")
    assert (found.device, found.batch) == wanted


@pytest.mark.parametrize("batch", [0, -1, 0.6])
def test_a_batch_is_a_number_of_images(batch) -> None:
    """What the release would choose by itself is none."""
    with pytest.raises(PruningError, match="batch="):
        Images("data.yaml", batch=batch)


@pytest.mark.parametrize(
    ("device", "amp", "native", "wanted"),
    [
        ("cuda", True, True, torch.bfloat16),
        ("cuda", True, False, torch.float16),
        ("cuda", "bf16", True, torch.bfloat16),
        ("cuda", False, True, None),
        ("cpu", True, True, None),
        ("mps", True, True, None),
    ],
)
def test_the_precision_is_that_of_a_training(monkeypatch, device, amp, native, wanted) -> None:
    """Autocast on CUDA unless it is off."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    assert _precision(SimpleNamespace(amp=amp), torch.device(device)) is wanted


def test_gradients_in_half_precision(network, images, undisturbed) -> None:
    """They point where those in full precision do, are float32 themselves, and come from autocast."""
    import copy

    probe = copy.deepcopy(network)
    for parameter in probe.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    reader = Reader(probe, images)
    assert reader.precision is None
    reader.precision = torch.bfloat16
    found = loss_gradients(probe, reader, next(iter(reader)), Way(4))
    assert {value.dtype for value in found.values()} == {torch.float32}
    a, b = (torch.cat([values[name].flatten() for name in sorted(values)]) for values in (found, undisturbed[0]))
    assert not torch.equal(a, b) and float(torch.cosine_similarity(a, b, 0)) > 0.95


class Product(nn.Module):
    """A network whose loss is its weight times a number, which float16 may not hold."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.weight, self.factor, self.scales = nn.Parameter(torch.ones(1)), factor, []

    def loss(self, batch):
        loss = (
            self.weight.half() * torch.tensor(self.factor).half()
            if torch.is_autocast_enabled("cpu")
            else (self.weight * self.factor)
        )
        return loss, {}


@pytest.mark.parametrize("factor", [1e-7, 1.0, 3e3, 1e6])
def test_float16_neither_loses_small_gradients_nor_large_ones(factor) -> None:
    """The loss is scaled for the way back, less where that is too much; float32 is the last resort."""
    batches = SimpleNamespace(
        device=torch.device("cpu"),
        precision=torch.float16,
        reproducible=contextlib.nullcontext,
        batch=lambda samples: {"img": torch.zeros(len(samples), 1)},
    )
    found = loss_gradients(Product(factor), batches, [0, 0], Way(2))
    assert float(found["weight"]) == pytest.approx(factor, rel=0.2 if factor < 1e-6 else 1e-3)


class Network(nn.Module):
    """Notes that it was moved to the CPU."""

    def cpu(self):
        self.moved = True
        return self


def test_the_parent_of_workers_leaves_the_gpus(monkeypatch) -> None:
    """Before they start: its network goes to the CPU, PyTorch's cache is emptied."""
    happened = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: happened.append("emptied"))
    monkeypatch.setattr("ultralytics.engine.trainer.generate_ddp_command", lambda trainer: (["workers"], None))
    monkeypatch.setattr(
        "ultralytics.engine.trainer.subprocess.run",
        lambda command, check: happened.append((command, trainer.model.moved)),
    )
    trainer = BaseTrainer.__new__(BaseTrainer)
    trainer.ddp, trainer.model, trainer.callbacks = True, Network(), {}
    trainer.save_dir, trainer.leave_folder = pathlib.Path(), lambda: None
    trainer.args = SimpleNamespace(rect=False, batch=16)
    trainer.train()
    assert happened == ["emptied", (["workers"], True)]


def test_a_model_that_has_predicted_leaves_the_gpus() -> None:
    """Its predictor holds a copy of the network."""
    model = SimpleNamespace(model=Network(), predictor=object())
    leave_gpus(model)
    assert model.model.moved and model.predictor is None


def test_training_on_several_gpus_begins_by_leaving_them(monkeypatch) -> None:
    """However they are named."""
    model, left = YOLO(FADED_WEIGHTS), []
    monkeypatch.setattr("ultralytics.engine.model.leave_gpus", left.append)
    for device, count in (("0,1", 1), ([0, 1], 2), ("cpu", 2)):
        with pytest.raises((ValueError, RuntimeError, FileNotFoundError)):
            model.train(data="nowhere.yaml", device=device, finetune=True)
        assert len(left) == count
    assert np.all([one is model for one in left])
