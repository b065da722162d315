"""Images for a network of which nobody has any: crops of the two photographs that come with the release.

Whatever a network was trained for, photographs tell its channels apart better than their weights do, and layers fitted
on photographs repair most of a cut: docs/results/one-shot.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..tracing.trace import image_shape
from .isolation import Reproducible

PHOTOGRAPHS = "the photographs of the release"  # in the place of a data set
NAMES = ("bus.jpg", "zidane.jpg")
SMALLEST = 0.35  # part of the shorter side that a crop has at least


class Photographs:
    """Crops, with the interface of a `Reader`; they have no labels.

    Args:
        model: The network; it goes to the device.
        count: How many crops.
        batch: Of these in a batch.
        imgsz: Side in pixels.
        device: As the release names it.

    Attributes:
        device: Where batches are.
        precision: The type of autocast; None, as nothing is trained.
    """

    precision = None

    def __init__(self, model: nn.Module, count: int, batch: int, imgsz: int, device: str) -> None:
        from ultralytics.utils.torch_utils import select_device

        self.reproducible = Reproducible(0)
        self.device: torch.device = select_device(device, verbose=False)
        model.to(self.device)
        self._crops = _crops(count, imgsz, image_shape(model, 1)[1])
        self._batch = batch

    def __iter__(self) -> Iterator[list[Any]]:
        """Yields the crops of each batch one by one, uint8 of shape (C, H, W)."""
        for begin in range(0, len(self._crops), self._batch):
            yield self._crops[begin : begin + self._batch]

    def batch(self, samples: Sequence[Any]) -> dict[str, Any]:
        """Returns crops as a batch: `img` of shape (B, C, H, W) in 0..1."""
        return {"img": torch.stack(list(samples)).to(self.device).float() / 255}


def _crops(count: int, side: int, channels: int) -> list[Tensor]:
    """Returns square parts of the photographs, every second one mirrored: the same at each call."""
    from PIL import Image

    from ultralytics.utils import ASSETS

    random, found = np.random.default_rng(0), []
    photographs = [Image.open(ASSETS / name).convert("RGB" if channels == 3 else "L") for name in NAMES]
    for number in range(count):
        photograph = photographs[number % len(NAMES)]
        size = int(min(photograph.size) * random.uniform(SMALLEST, 1))
        left, top = (int(random.integers(0, whole - size + 1)) for whole in photograph.size)
        crop = photograph.crop((left, top, left + size, top + size)).resize((side, side))
        pixels = np.asarray(crop).reshape(side, side, -1)
        mirrored = pixels[:, ::-1] if number // len(NAMES) % 2 else pixels
        found.append(torch.from_numpy(np.ascontiguousarray(mirrored.transpose(2, 0, 1))))
    return found


def can_see_photographs(model: nn.Module) -> bool:
    """Whether a network takes images in colour or in grey, and the release's photographs are there."""
    from ultralytics.utils import ASSETS

    return image_shape(model, 1)[1] in (1, 3) and all((ASSETS / name).is_file() for name in NAMES)
