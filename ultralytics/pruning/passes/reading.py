"""Training images of a data set as the release's trainer would give them, read without a training."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import PruningError, first_line
from ..release import quiet_release
from .isolation import Reproducible
from .memory import ran_out
from .photographs import PHOTOGRAPHS, Photographs

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
        data: Path of the data set's yaml; or `PHOTOGRAPHS`, for passes that need no labels.
        batches: How many batches, at most once through the data set.
        batch: Images in a batch; fewer go through the network at once when memory ends.
        imgsz: Side in pixels.
        device: As the release names it, e.g. `cpu` or `0`.
        settings: Other training arguments, e.g. `seed`, which decides what images come first, or `amp`.

    Raises:
        PruningError: If a number of images is none.
    """

    data: str
    batches: int = 16
    batch: int = 16
    imgsz: int = 640
    device: str = "cpu"
    settings: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.batch, int) or self.batch < 1:
            raise PruningError(f"batch={self.batch}: a pass over images takes a whole number of at least 1")


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


def frozen_copy(model: nn.Module) -> Any:
    """Returns a copy of a network in float32 whose parameters take no gradients, to be run on images."""
    copied = copy.deepcopy(model).float()
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    return copied


def reader_of(model: nn.Module, images: Images) -> Reader | Photographs:
    """Returns what reads images for passes that need no labels.

    Args:
        model: The network; it goes to the device.
        images: Which images.

    Raises:
        PruningError: If the data set cannot be read or has no training images.
    """
    if images.data == PHOTOGRAPHS:
        return Photographs(model, images.batches * images.batch, images.batch, images.imgsz, images.device)
    return Reader(model, images)


class Reader:
    """The training images of a data set, as the release's trainer would give them to a network.

    Args:
        model: The network; it gets the training arguments that its loss reads, and goes to the device.
        images: Which images.

    Attributes:
        device: Where batches are.
        precision: The type of autocast that a training would use there, None for none.

    Raises:
        PruningError: If the data set cannot be read or has no training images.
    """

    def __init__(self, model: nn.Module, images: Images) -> None:
        wanted = {"data": images.data, "imgsz": images.imgsz, "batch": images.batch, "device": images.device}
        fixed = {"plots": False, "workers": 0, "verbose": False, "model": "memory"}
        overrides = {**UNCHANGED, **dict(images.settings), **wanted, **fixed}
        self.reproducible = Reproducible(int(overrides.get("seed") or 0))
        self._count = images.batches

        try:
            with quiet_release(), self.reproducible():
                self._trainer = _reading(trainer_class(model))(overrides=overrides)
                self.device: torch.device = self._trainer.device
                self._trainer.model = model.to(self.device)
                self._trainer.set_model_attributes()
                self._loader = self._trainer.get_dataloader(
                    self._trainer.data["train"], batch_size=images.batch, rank=-1, mode="train"
                )
        except PruningError:
            raise
        except Exception as error:  # whatever the release raises over a data set
            what = f"the training images of {images.data} cannot be read"
            if ran_out(error):
                what = "memory ends with the network alone, before the first image; take another --device"
            raise PruningError(f"{what}: {first_line(error)}") from error

        self.precision = _precision(self._trainer.args, self.device)

    def __iter__(self) -> Iterator[list[Any]]:
        """Yields the images of each batch one by one, as the data set gives them."""
        batches = iter(self._loader)
        for _ in range(min(self._count, len(self._loader))):
            with self.reproducible():
                samples = next(batches)
            yield samples

    def batch(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Returns images as a batch: `img` of shape (B, C, H, W) in 0..1, and what the loss compares with."""
        with self.reproducible():  # copies: what joins them counts up their indices in place
            return self._trainer.preprocess_batch(self._trainer.join(copy.deepcopy(list(samples))))


def _reading(trainer: type) -> Any:
    """Returns a trainer of the release which does nothing but read: no run folder, callbacks, seeds, global modes."""
    from torch.utils.data import default_collate

    from ultralytics.cfg import get_cfg
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.utils import DEFAULT_CFG
    from ultralytics.utils.torch_utils import select_device

    class ReadingTrainer(BaseTrainer):
        """Stands between the release's trainers and what they build upon."""

        def __init__(self, cfg: Any = DEFAULT_CFG, overrides: Any = None, _callbacks: Any = None) -> None:
            self.args = get_cfg(cfg, overrides)
            self.device = select_device(self.args.device, verbose=False)
            self.callbacks = defaultdict(list)
            self.batch_size, self.world_size, self.resume = self.args.batch, 0, False
            self.model: Any = None
            self.data = self.get_dataset()

    def build_dataset(self: Any, *args: Any, **kwargs: Any) -> Any:
        dataset = trainer.build_dataset(self, *args, **kwargs)  # type: ignore[attr-defined]
        self.join = getattr(dataset, "collate_fn", None) or default_collate
        dataset.collate_fn = list  # so that a batch can be joined in parts
        return dataset

    return type(trainer.__name__, (trainer, ReadingTrainer), {"build_dataset": build_dataset})


def _precision(args: Any, device: torch.device) -> torch.dtype | None:
    """Returns the type of autocast: on CUDA unless `amp` says no, as in a training; bfloat16 where the GPU has it.

    bfloat16 has the range of float32: no gradient underflows, whereas float16 needs a scaled loss.
    """
    if device.type != "cuda" or args.amp in {False, "fp32"}:
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
