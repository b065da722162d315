"""What layers may read that do not run in the trace: pinned where they may, not where they were seen to read others."""

import pytest
import torch
from torch import nn

from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import trace

SIXTEEN = {  # a detector whose head reads as many channels as its expected values of boxes have bins
    "nc": 3,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]],
    "head": [[[1, 2], 1, "Detect", ["nc"]]],
}


class Twofold(nn.Module):
    """A module with a branch for images that are looked at alone, not in a training, where the trace runs."""

    def __init__(self, *, reads_input: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.branch = nn.Conv2d(6, 2, 1)
        self.reads_input = reads_input

    def forward(self, x):
        made = self.first(x)
        if not self.training:
            self.branch(x if self.reads_input else made)
        return made


class Net(nn.Module):
    def __init__(self, **how) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.twofold = Twofold(**how)

    def forward(self, x):
        return self.twofold(self.stem(x)).mean((2, 3))


def pinned(model, layer: str) -> bool:
    found = trace(model, imgsz=64)
    outputs = found.layers[layer].outputs
    return any(int(label) in found.pinned for label in outputs)


def test_a_head_with_as_many_inputs_as_bins_is_free():
    """It was pinned: DFL's convolution has 16 inputs, and does not run in the trace."""
    torch.manual_seed(0)
    model = DetectionModel(SIXTEEN, verbose=False)
    assert not pinned(model, "model.1.conv") and not pinned(model, "model.2.conv")


@pytest.mark.parametrize("reads_input", [True, False])
def test_a_branch_pins_what_it_reads_of_the_input(reads_input):
    found = trace(model := Net(reads_input=reads_input), imgsz=64)
    assert "twofold.branch" not in found.layers
    assert pinned(model, "stem.0") is reads_input
