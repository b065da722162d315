"""Training images for a network outside of a training: gradients of its loss, statistics of its batch norms."""

from __future__ import annotations

import contextlib
import copy
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .errors import PruningError, first_line
from .stages import quiet_release
from .tracing import quiet

# The images as they are: what a training changes at random would only add noise.
UNCHANGED: dict[str, Any] = {
    **dict.fromkeys(("mosaic", "mixup", "cutmix", "copy_paste", "erasing", "multi_scale"), 0.0),
    **dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "fliplr", "flipud", "bgr"), 0.0),
    **dict.fromkeys(("degrees", "translate", "scale", "shear", "perspective"), 0.0),
    "auto_augment": None,
}


@dataclass(frozen=True)
class Images:
    """Which training images to take.

    Attributes:
        data: Path of the data set's yaml.
        batches: How many batches, at most once through the data set.
        batch: Images in a batch.
        imgsz: Side in pixels.
        device: As the release names it, e.g. `cpu` or `0`.
        settings: Other training arguments, e.g. `seed`, which decides what images come first.
    """

    data: str
    batches: int = 16
    batch: int = 16
    imgsz: int = 640
    device: str = "cpu"
    settings: tuple[tuple[str, Any], ...] = ()


def trainer_class(model: nn.Module) -> type:
    """Returns the release's trainer for a network.

    Raises:
        PruningError: If it has none for it.
    """
    from ultralytics.models import RTDETR, YOLO, YOLOE, YOLOWorld

    for family in (YOLO, RTDETR, YOLOWorld, YOLOE):
        for task in family.task_map.fget(None).values():  # type: ignore[union-attr]
            if task["model"] is type(model):
                return task["trainer"]
    raise PruningError(f"the release has no trainer for a {type(model).__name__}: take a criterion without images")


@contextlib.contextmanager
def batches_for(model: nn.Module, images: Images) -> Iterator[Iterator[dict[str, Any]]]:
    """Opens the training images of a data set, as the release's trainer would give them to a network.

    Args:
        model: The network; it gets the training arguments that its loss reads, and goes to the device.
        images: Which images.

    Yields:
        An iterator over batches: `img` of shape (B, C, H, W) in 0..1, and what the loss compares with.

    Raises:
        PruningError: If the data set cannot be read or has no training images.
    """
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        wanted = {"data": images.data, "imgsz": images.imgsz, "batch": images.batch, "device": images.device}
        own = {"project": folder, "name": "run", "plots": False, "workers": 0, "verbose": False, "model": "memory"}
        try:
            with quiet_release():
                trainer = trainer_class(model)(overrides={**UNCHANGED, **dict(images.settings), **wanted, **own})
                trainer.model = model.to(trainer.device)
                trainer.set_model_attributes()
                loader = trainer.get_dataloader(trainer.data["train"], batch_size=images.batch, rank=-1, mode="train")
        except PruningError:
            raise
        except Exception as error:  # whatever the release raises over a data set
            raise PruningError(f"the training images of {images.data} cannot be read: {first_line(error)}") from error
        yield (trainer.preprocess_batch(batch) for batch in itertools.islice(loader, images.batches))


def progress(steps: Iterator[Any], images: Images, what: str) -> Iterator[Any]:
    """Shows a bar while batches go by."""
    from ultralytics.utils import TQDM

    return iter(TQDM(steps, desc=what, total=images.batches, unit="batch", disable=False))


def gradients(model: nn.Module, images: Images) -> Iterator[dict[str, Tensor]]:
    """Yields the gradients of the training loss on batches of training images, with batch norms at their statistics.

    Args:
        model: The network; it is left as it is.
        images: Which images.

    Yields:
        For each batch the gradients by parameter name, on the device of the network; parameters that the loss does not
        reach are left out.

    Raises:
        PruningError: If the data set cannot be read.
    """
    device = next(model.parameters()).device
    probe: Any = copy.deepcopy(model).float()
    for parameter in probe.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with batches_for(probe, images) as batches:
        for batch in progress(batches, images, "gradients"):
            probe.zero_grad(set_to_none=True)
            with quiet(probe), torch.enable_grad():
                loss, _ = probe.loss(batch)
                loss.sum().backward()
            yield {name: p.grad.to(device) for name, p in probe.named_parameters() if p.grad is not None}


def recalibrate(model: nn.Module, images: Images) -> int:
    """Estimates the statistics of the batch norms anew: a cut network's channels have others than the original's.

    Args:
        model: The network; its running means and variances become those of the images, everything else stays.
        images: Which images.

    Returns:
        How many batches there were.

    Raises:
        PruningError: If the data set cannot be read.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    probe = copy.deepcopy(model).float()
    own = [m for m in probe.modules() if isinstance(m, nn.BatchNorm2d) and m.track_running_stats]
    count = 0
    with batches_for(probe, images) as batches, torch.no_grad():
        for module in probe.modules():  # heads that return raw tensors, no dropout
            module.training = next(module.children(), None) is not None
        for norm in own:
            norm.reset_running_stats()
            norm.train()
            norm.momentum = None  # a plain mean over the batches
        for batch in progress(batches, images, "statistics"):
            probe(batch["img"])
            count += 1
    for norm, estimated in zip(norms, own, strict=True):
        found = {"running_mean": estimated.running_mean, "running_var": estimated.running_var}
        norm.load_state_dict({**norm.state_dict(), **found})
    return count
