"""Whether two runtimes found the same: which differences are rounding, and which are not."""

import numpy as np
import pytest

from ultralytics.pruning.deploy import matching
from ultralytics.pruning.deploy.matching import ANGLE_TOLERANCE, MASK_TOLERANCE, Agreement, Found, match, same_outputs
from ultralytics.pruning.deploy.outputs import raw_difference, share_that_differs

BOXES = np.array(  # x0, y0, x1, y1, score, class
    [[10, 10, 30, 40, 0.9, 1], [60, 20, 90, 50, 0.7, 2], [61, 20, 90, 51, 0.6, 1], [100, 5, 140, 25, 0.4, 0]], float
)


CONFIDENCE = 0.25


def compare(ours: np.ndarray, theirs: np.ndarray, *how, **known) -> Agreement:
    """Compares boxes alone."""
    return matching.compare(Found(ours), Found(theirs), *how, **known)


def changed(row: int, column: int, by: float) -> np.ndarray:
    """Returns the boxes with one number changed."""
    boxes = BOXES.copy()
    boxes[row, column] += by
    return boxes


def test_equal_detections_agree_in_any_order():
    found = compare(BOXES, BOXES[::-1], CONFIDENCE)
    assert found == Agreement(images=1, pairs=4) and found.holds
    assert match(Found(BOXES), Found(BOXES[::-1])).tolist() == [[i, 3 - i] for i in range(4)]


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize(("by", "holds"), [(0.4, True), (-0.4, True), (0.6, False), (-0.6, False)])
def test_boxes_may_differ_by_half_a_pixel(column, by, holds):
    found = compare(changed(1, column, by), BOXES, CONFIDENCE)
    assert (found.pairs, found.alone) == (4, 0)
    assert found.box == pytest.approx(abs(by)) and found.score == 0
    assert found.holds is holds


@pytest.mark.parametrize(("by", "holds"), [(0.005, True), (-0.02, False)])
def test_scores_may_differ_by_a_hundredth(by, holds):
    found = compare(BOXES, changed(0, 4, by), CONFIDENCE)
    assert found.pairs == 4 and found.score == pytest.approx(abs(by)) and found.holds is holds


def test_another_class_is_another_detection():
    found = compare(BOXES, changed(0, 5, 1), CONFIDENCE)
    assert (found.pairs, found.alone, found.holds) == (3, 2, False)


@pytest.mark.parametrize("turn", [1, -1])
def test_a_missing_detection_counts_unless_it_lies_at_the_threshold(turn):
    assert compare(*[BOXES, BOXES[:3]][::turn], CONFIDENCE) == Agreement(1, 3, alone=1)
    found = compare(*[BOXES, BOXES[:3]][::turn], 0.395)
    assert found == Agreement(1, 3, marginal=1) and found.holds
    assert not compare(*[BOXES, BOXES[:3]][::turn], 0.38).holds


def test_a_side_may_be_empty():
    nothing = np.empty((0, 6))
    assert compare(nothing, nothing, CONFIDENCE) == Agreement(1)
    assert compare(nothing, BOXES, CONFIDENCE) == compare(BOXES, nothing, CONFIDENCE) == Agreement(1, alone=4)


def test_a_tie_is_excused_only_where_the_networks_agree_before_it():
    other_box_of_the_same_object = changed(1, 1, 3)
    for boxes in (BOXES[:3], other_box_of_the_same_object):
        assert not compare(BOXES, boxes, CONFIDENCE, lambda: False).holds
        assert compare(BOXES, boxes, CONFIDENCE, lambda: True).holds
    assert compare(BOXES, other_box_of_the_same_object, CONFIDENCE, lambda: True).marginal == 2


def test_networks_that_agree_on_the_detections_are_not_asked_further():
    compare(BOXES, changed(0, 0, 0.4), CONFIDENCE, computes_the_same=lambda: pytest.fail("asked"))


def test_a_box_without_an_area_has_a_partner():
    thin = np.array([[0, 0, 20, 0, 0.9, 0]], float)
    assert compare(thin, thin, CONFIDENCE) == Agreement(1, 1)


def test_agreements_add_up():
    total = sum([Agreement(1, 2, 0.1, 0.002, 0, 1), Agreement(1, 3, 0.3, 0.001, 1, 2)], Agreement())
    assert total == Agreement(2, 5, 0.3, 0.002, 1, 3)


def test_outputs_before_nms_are_compared_by_boxes_and_scores():
    output = np.random.default_rng(0).uniform(size=(1, 4 + 3, 50))
    assert same_outputs(output, output, classes=3, gain=1.0)
    for row, gap, gain, same in ((0, 0.2, 1, True), (0, 0.3, 1, False), (0, 0.2, 0.25, False), (5, 0.02, 1, False)):
        other = output.copy()
        other[0, row, 17] += gap
        assert same_outputs(output, other, classes=3, gain=gain) is same
    for gap, same in ((5e-4, True), (5e-3, False)):  # of one class: what follows belongs to masks, keypoints or angles
        other = output.copy()
        other[0, 6, 17] += gap
        assert same_outputs(output, other, classes=1, gain=1.0) is same
    assert not same_outputs(output, output[..., :-1], classes=3, gain=1.0)
    assert not same_outputs(output.swapaxes(1, 2), output.swapaxes(1, 2), classes=3, gain=1.0)  # detections, after NMS


def test_raw_difference_is_relative_to_the_channel():
    output = np.stack([np.full((1, 5), 640.0), np.full((1, 5), 1e-3)], axis=1)
    other = output.copy()
    other[0, 1, 2] += 1e-4
    assert raw_difference(other, output) == pytest.approx(0.1)
    assert raw_difference(output, output[:, :1]) == np.inf


def test_maps_of_classes_differ_by_a_share_of_their_pixels():
    ours = np.zeros((1, 4, 5))
    theirs = ours.copy()
    theirs[0, 1, 2] = 7
    assert share_that_differs(ours, theirs) == 1 / 20
    assert share_that_differs(ours, theirs[:, :3]) == float("inf")


def test_keypoints_masks_and_angles_belong_to_their_detection():
    """In whatever order; each has a tolerance of its own."""
    random = np.random.default_rng(0)
    points, angles = random.uniform(0, 100, (4, 17, 2)), random.uniform(-1.5, 1.5, 4)
    masks = random.random((4, 20, 20)) < 0.5
    ours = Found(BOXES, points, masks, angles)
    theirs = Found(BOXES[::-1], points[::-1], masks[::-1], angles[::-1])
    assert matching.compare(ours, theirs, CONFIDENCE) == Agreement(1, 4)

    moved, turned, fuller = points.copy(), angles.copy(), masks.copy()
    moved[2, 3, 1] += 0.6
    turned[1] += 2 * ANGLE_TOLERANCE
    fuller[0] = True
    for other in (Found(BOXES, moved), Found(BOXES, masks=fuller), Found(BOXES, angles=turned)):
        assert not matching.compare(ours, other, CONFIDENCE).holds
    found = matching.compare(ours, Found(BOXES, masks=fuller), CONFIDENCE)
    assert found.mask == pytest.approx(1 - masks[0].mean()) and found.mask > MASK_TOLERANCE


def clipped(*keypoints: float) -> Found:
    """Detections whose boxes end at the image's border, all at the same place and of the same score, in an order."""
    boxes = np.array([[0, 0, 64, 64, 0.5, 0]] * len(keypoints), float)
    return Found(boxes, np.array(keypoints).reshape(-1, 1, 1).repeat(2, 2))


def test_equal_boxes_are_told_apart_by_what_belongs_to_them():
    assert matching.compare(clipped(3, 50, 20), clipped(20, 3, 50), CONFIDENCE) == Agreement(1, 3)


def test_of_equal_boxes_either_may_be_the_one_that_is_left():
    for same in (False, True):
        assert matching.compare(clipped(3, 20), clipped(3, 50), CONFIDENCE, lambda same=same: same).holds is same


def test_half_a_turn_leaves_a_box_as_it_is():
    ours, theirs = (Found(BOXES, angles=np.full(4, angle)) for angle in (1.57, 1.57 - np.pi))
    assert matching.compare(ours, theirs, CONFIDENCE).angle == pytest.approx(0, abs=1e-9)
