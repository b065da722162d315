"""Who names no --imgsz gets that of the network's training, in every stage that has a network before it."""

from argparse import Namespace

import pytest

from ultralytics.pruning import PruningError, Scoring, Target, load, prune_network, save
from ultralytics.pruning.checkpoints.checkpoint import side_of_training
from ultralytics.pruning.stages import compress_options, compressing, measuring, training
from ultralytics.pruning.stages.weights import side_before


@pytest.mark.parametrize(
    ("known", "side"),
    [({"imgsz": 256}, 256), ({"imgsz": [192, 320]}, 320), ({}, 640), ({"imgsz": "x"}, 640), ({"imgsz": True}, 640)],
)
def test_the_side_of_a_training(known, side) -> None:
    assert side_of_training({"train_args": known}) == side


@pytest.fixture
def weights(small_weights, digits, tmp_path):
    file = tmp_path / "best.pt"
    save(load(small_weights)[0], file, train_args={"imgsz": 96, "data": str(digits), "task": "detect"})
    return file


def test_of_what_cannot_be_loaded(weights, tmp_path) -> None:
    assert side_before(str(weights)) == 96
    assert side_before(str(tmp_path / "none.pt")) == 640


def test_a_compression(weights, digits) -> None:
    words = ["--weights", str(weights), "--data", str(digits), "--speed-up", "2", "--device", "cpu"]
    for more, side in ([], 96), (["--imgsz", "64"], 64):
        options = compress_options.parser().parse_intermixed_args([*words, *more])
        options.settings = {}
        assert compressing.recipe_of(options).training["imgsz"] == side


def test_a_fine_tuning(weights, digits) -> None:
    stage = training.Stage("finetune", {"finetune": True}, ())
    parser = training.training_parser("Trains.", "python finetune.py", name="finetune", weights="x.pt", epochs=1)
    for more, side in ([], 96), (["--imgsz", "64"], 64):
        options = parser.parse_intermixed_args(["--weights", str(weights), "--data", str(digits), *more])
        options.settings, options.device = {}, "cpu"
        assert training.what_to_train(stage, options)[1]["imgsz"] == side
    new = training.training_parser("T.", "python t.py", name="n", weights="x.pt", epochs=1, from_yaml=True)
    assert new.parse_intermixed_args([]).imgsz == 640  # a new training begins with the release's


def test_a_measurement(weights, monkeypatch) -> None:
    seen: list[Namespace] = []

    def stop(settings) -> None:
        seen.append(settings)
        raise PruningError("enough")

    monkeypatch.setattr(measuring, "check_sizes", stop)
    options = Namespace(checkpoints=[str(weights)], imgsz=None, batch=4, device="cpu", settings={})
    with pytest.raises(PruningError, match="enough"):
        measuring.measure_stage(options)
    assert seen[0]["imgsz"] == 96


def test_milliseconds_without_timings(weights) -> None:
    with pytest.raises(PruningError, match="latency="):
        prune_network(load(weights)[0], target=Target("latency_speed_up", 2), scoring=Scoring("l1"))
