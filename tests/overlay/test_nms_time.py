"""What NMS finds does not depend on how fast the machine is."""

import itertools

import pytest
import torch

from ultralytics import YOLO
from ultralytics.models.yolo.detect.predict import nms as of_predictor
from ultralytics.models.yolo.detect.val import nms as of_validator
from ultralytics.utils import nms


@pytest.fixture
def slow_clock(monkeypatch):
    """A machine on which ten seconds go by between two looks at the clock."""
    clock = itertools.count(0.0, 10.0)
    monkeypatch.setattr(nms.time, "time", lambda: next(clock))


def predictions(images: int, seed: int = 0) -> torch.Tensor:
    """Boxes and three scores of shape (B, 4 + 3, 50), all within 100 pixels."""
    boxes = torch.rand(images, 7, 50, generator=torch.Generator().manual_seed(seed))
    boxes[:, :4] *= 100
    return boxes


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("images", [1, 6])
def test_every_image_is_done(slow_clock, images, rotated) -> None:
    """All images of a batch, also those behind the time at which the release stops; an angle is one more channel."""
    assert of_predictor is of_validator is nms
    found = nms.non_max_suppression(predictions(images), nc=2 if rotated else 3, rotated=rotated)
    assert [len(boxes) > 0 for boxes in found] == [True] * images
    alone = [
        nms.non_max_suppression(one[None], nc=2 if rotated else 3, rotated=rotated)[0] for one in predictions(images)
    ]
    assert all(torch.equal(*pair) for pair in zip(found, alone, strict=True))


def test_a_limit_that_somebody_asks_for_holds(slow_clock, caplog) -> None:
    """By name and by place."""
    for found in (
        nms.non_max_suppression(predictions(3), max_time_img=0.05),
        nms.non_max_suppression(predictions(3), 0.25, 0.45, None, False, False, 300, 0, 0.05),
    ):
        assert [len(boxes) > 0 for boxes in found] == [True, False, False]


def test_the_measured_accuracy_is_that_of_the_network(digits, tmp_path, request) -> None:
    """`YOLO(...).val()` of a trained network finds the same by a slow clock."""
    from helpers.repository import FADED_WEIGHTS

    model = YOLO(FADED_WEIGHTS)
    settings = {"data": str(digits), "imgsz": 96, "batch": 8, "device": "cpu", "plots": False, "project": str(tmp_path)}
    before = model.val(**settings).results_dict
    request.getfixturevalue("slow_clock")
    assert model.val(**settings).results_dict == before
    assert before["metrics/mAP50(B)"] > 0.1
