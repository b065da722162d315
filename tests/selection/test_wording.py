"""Each finding in words; nothing else in the tests reads these."""

import pytest

from ultralytics.pruning.plans.findings import Finding, Kind, Reason, missed
from ultralytics.pruning.selection.wording import REASONS, said

STEP = (Reason("own_ratios"), Reason("step", 8))
SAID = {
    Finding(Kind.MISSED, "speed_up", 200.0, 9.5, reasons=(Reason("floor", 0.3), Reason("rounding", 8))): (
        "the speed-up is 9.50 instead of 200.00: the rest is kept by the floor of 30% per layer and rounding to "
        "multiples of 8"
    ),
    Finding(Kind.MISSED, "prune_ratio", 0.9, 0.61, reasons=(Reason("halves"),)): (
        "removed 61.0% of the prunable channels instead of 90.0%: the rest is kept by equal halves"
    ),
    Finding(Kind.BEYOND, "latency_speed_up", 1.1, 1.5, reasons=STEP): (
        "the speed-up by the timings of single layers is 1.50, beyond the 1.10 asked for: the own ratios of layers "
        "remove that much, or the next step of 8 channels is larger than the difference"
    ),
    Finding(Kind.BEYOND, "target_params", 1e6, 9e5, reasons=(Reason("tied"),)): (
        "900,000 parameters are left, beyond the 1,000,000 asked for: the next group of tied channels is larger than "
        "the difference"
    ),
    Finding(Kind.MISSED_AS_TIMED, "latency_speed_up", 2.0, 1.2, reasons=(Reason("trials", 8),)): (
        "1.20x faster as measured, instead of 2x, the nearest of 8 trials: widths move in steps, and layers stand at "
        "their floor"
    ),
    Finding(Kind.AT_LIMIT, "min_channels", 7, layers=("a", "b")): "2 layers stand at their least of 7 channels: a, b",
    Finding(Kind.IDLE_RATIO, "out"): "the ratio of 'out' does nothing: no channel of its layers can be removed",
    Finding(Kind.SHORT_RATIO, "a.*", 7, 4): "'a.*' keeps 3 of the 7 channels that its ratio removes",
    Finding(Kind.ZEROS_STAY, wanted=9, reached=6): (
        "3 channels at zero stay, so that layers are not empty, rounded, and parts equally wide"
    ),
}


@pytest.mark.parametrize("finding", SAID, ids=lambda finding: finding.kind)
def test_a_finding_in_words(finding) -> None:
    assert said(finding) == SAID[finding]


def test_every_kind_and_every_reason_has_words() -> None:
    assert {finding.kind for finding in SAID} == set(Kind)
    assert all(REASONS[name].format(0.5) for name in REASONS)


def test_what_counts_as_missed() -> None:
    assert {finding.kind for finding in SAID if missed((finding,))} == {Kind.MISSED, Kind.MISSED_AS_TIMED}
