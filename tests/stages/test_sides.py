"""Who names no --imgsz or --data gets those of the network's training, in every stage with a network before it."""

import json
from argparse import Namespace

import pytest

from ultralytics.pruning import PruningError, Scoring, Target, load, prune_network, save
from ultralytics.pruning.checkpoints.checkpoint import side_of_training
from ultralytics.pruning.stages import compress_options, compressing, measuring, training
from ultralytics.pruning.stages.weights import follow_training
from ultralytics.pruning.trust import trusting


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


@pytest.mark.parametrize(
    ("known", "data"),
    [
        ({}, "coco.yaml"),
        ({"data": ""}, "coco.yaml"),
        ({"data": "digits"}, "digits"),
        ({"data": "coco8.yaml"}, "coco8.yaml"),
        ({"data": "/elsewhere/datasets/coco8.yaml"}, "coco8.yaml"),  # one of the release, wherever it lay
        ({"data": None}, "coco.yaml"),
    ],
)
def test_the_data_of_a_training(known, data, monkeypatch) -> None:
    monkeypatch.setattr("ultralytics.data.utils.check_det_dataset", lambda *_, **__: {})  # as if the images were here
    options = Namespace(imgsz=None, data=None, settings={})
    follow_training(options, {"train_args": known}, "detect")
    assert (options.imgsz, options.data) == (640, data)


def test_data_that_is_not_here_is_asked_for(tmp_path, monkeypatch) -> None:
    content = {"train_args": {"data": str(tmp_path / "elsewhere" / "data.yaml")}}
    (tmp_path / "data.yaml").touch()
    monkeypatch.chdir(tmp_path)  # where another data set has that name
    with pytest.raises(PruningError, match=r"--data is needed.*elsewhere"):
        follow_training(Namespace(imgsz=64, data=None, settings={}), content, "detect")
    for named in ({"data": "mine.yaml", "settings": {}}, {"data": None, "settings": {"data": "mine.yaml"}}):
        options = Namespace(imgsz=64, **named)
        follow_training(options, content, "detect")
        assert options.data == named["data"]


@pytest.mark.parametrize(
    ("data", "task"),
    [
        ("coco.yaml", "detect"),  # of the release, whose images are not here
        ("VisDrone.yaml", "obb"),
        ("own.yaml", "detect"),
        (None, "segment"),
        (".", "detect"),  # a folder of images, which nobody asked to label
        ("clip.mp4", "pose"),
        ("*.yaml", "detect"),
        ("x" * 5000, "detect"),
        ("a\0b", "detect"),
        ("/" + "x" * 300 + ".yaml", "classify"),
        ("imagenet", "classify"),
        ("own.yaml", "classify"),
        ("digits", "classify"),
        ("http://127.0.0.1:9/x.yaml", "detect"),
    ],
)
def test_nothing_is_fetched_or_labelled_because_a_checkpoint_names_it(data, task, tmp_path, monkeypatch) -> None:
    def begun(*what, **_) -> None:
        raise AssertionError(what)

    for fetcher in ("safe_download", "download", "subprocess.run"):
        monkeypatch.setattr(f"ultralytics.data.utils.{fetcher}", begun)
    (tmp_path / "clip.mp4").touch()
    mark = tmp_path / "ran"
    script = f"import pathlib; pathlib.Path({str(mark)!r}).touch()"
    own = {"path": "nowhere", "train": "t", "val": "v", "names": ["a"], "kpt_shape": [2, 3], "download": script}
    (tmp_path / "own.yaml").write_text(json.dumps(own))
    monkeypatch.chdir(tmp_path)
    with trusting(True), pytest.raises(PruningError, match="--data is needed"):
        follow_training(Namespace(imgsz=64, data=None, settings={}), {"train_args": {"data": data}}, task)
    assert not mark.exists() and not (tmp_path / "datasets").exists()


def test_a_classifier_follows_its_folder(tmp_path) -> None:
    options = Namespace(imgsz=64, data=None, settings={})
    follow_training(options, {"train_args": {"data": str(tmp_path)}}, "classify")
    assert options.data == str(tmp_path)


def test_a_compression(weights, digits) -> None:
    words = ["--weights", str(weights), "--speed-up", "2", "--device", "cpu"]
    for more, side in ([], 96), (["--imgsz", "64"], 64):
        options = compress_options.parser().parse_intermixed_args([*words, *more])
        options.settings = {}
        recipe = compressing.recipe_of(options)
        assert (recipe.training["imgsz"], recipe.images.data) == (side, str(digits))


def test_a_fine_tuning(weights, digits) -> None:
    stage = training.Stage("finetune", {"finetune": True}, ())
    parser = training.training_parser("Trains.", "python finetune.py", name="finetune", weights="x.pt", epochs=1)
    for more, side in ([], 96), (["--imgsz", "64"], 64):
        options = parser.parse_intermixed_args(["--weights", str(weights), *more])
        options.settings, options.device = {}, "cpu"
        settings = training.what_to_train(stage, options)[1]
        assert (settings["imgsz"], settings["data"]) == (side, str(digits))
    new = training.training_parser("T.", "python t.py", name="n", weights="x.pt", epochs=1, from_yaml=True)
    assert new.parse_intermixed_args([]).imgsz == 640  # a new training begins with the release's


def test_a_measurement(weights, digits, monkeypatch) -> None:
    seen: list[Namespace] = []

    def stop(settings) -> None:
        seen.append(settings)
        raise PruningError("enough")

    monkeypatch.setattr(measuring, "check_sizes", stop)
    options = Namespace(checkpoints=[str(weights)], imgsz=None, data=None, batch=4, device="cpu", settings={})
    with pytest.raises(PruningError, match="enough"):
        measuring.measure_stage(options)
    assert (seen[0]["imgsz"], options.data) == (96, str(digits))


def test_milliseconds_without_timings(weights) -> None:
    with pytest.raises(PruningError, match="latency="):
        prune_network(load(weights)[0], target=Target("latency_speed_up", 2), scoring=Scoring("l1"))
