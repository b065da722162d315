"""`export.py --int8`: what is written, what it says about itself, and what is refused."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml

from helpers.scripts import refused, run
from ultralytics.pruning import load, save
from ultralytics.pruning.deploy.onnx_files import read_onnx
from ultralytics.pruning.quantization import fastest, ground, int8
from ultralytics.pruning.quantization.faster import Product
from ultralytics.pruning.quantization.integers import Choice


@pytest.fixture
def weights(tmp_path, small_weights):
    (tmp_path / "nets").mkdir()
    return shutil.copy(small_weights, tmp_path / "nets" / "best.pt")


@pytest.fixture
def words(weights, digits, one_thread) -> list:
    return ["--weights", weights, "--data", digits, "--imgsz", 64, "--images", 2, "--int8", "--threads", 1]


def test_it_is_written_and_runs(words, weights, monkeypatch, capsys):
    """An untrained network: there is nothing to lose, and nobody knows which is faster."""
    monkeypatch.setattr(ground, "CALIBRATION", 6)
    code, said = run(monkeypatch, capsys, "export.py", *words, "--force")
    assert code == 0, said
    file = weights.with_name("best-int8.onnx")
    assert sorted(entry.name for entry in weights.parent.iterdir()) == ["best-int8.onnx", "best.pt"]
    about = read_onnx(file, "it")
    assert about.task == "detect" and len(about.names) == 10 and about.sides == (64, 64)
    entries = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    choice = json.loads(entries["integers"])
    assert choice["method"] in ("minmax", "percentile") and choice["faster"] > 0
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in onnx.load(file).graph.node}
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": np.zeros((1, 3, 64, 64), np.float32)})
    assert np.isfinite(output).all() and output.shape[1] == 14


def plant(monkeypatch, weights, after: float, score: float) -> None:
    """Makes what the search finds: an ONNX that takes `after` milliseconds instead of 10, and has this accuracy."""
    product = Product(weights, Choice(), 10.0, after, score)
    monkeypatch.setattr(int8, "fastest_within", lambda *given, **known: product)
    monkeypatch.setattr(ground.Ground, "images", lambda ground: [np.zeros((1, 3, 64, 64), np.float32)] * 20)
    monkeypatch.setattr(ground.Ground, "accuracy", lambda ground, file: 0.5)
    monkeypatch.setattr(int8, "Integers", lambda *given: None)


@pytest.mark.parametrize(("after", "score", "message"), [(12.0, 0.5, "slower"), (5.0, 0.4, "loses 0.1")])
def test_what_is_not_worth_having_is_not_written(words, weights, after, score, message, monkeypatch, capfd):
    plant(monkeypatch, weights, after, score)
    assert message in refused(monkeypatch, capfd, "export.py", *words)
    assert [entry.name for entry in weights.parent.iterdir()] == ["best.pt"]


@pytest.mark.parametrize("named", [True, False])
def test_images_have_the_size_of_the_training(weights, digits, named, one_thread, monkeypatch, capfd):
    """Also where the checkpoint names the data set."""
    save(load(weights)[0], weights, train_args={"imgsz": 96, "data": str(digits)})
    plant(monkeypatch, weights, 12.0, 0.5)
    seen: list[int] = []
    monkeypatch.setattr(
        ground.Ground, "images", lambda ground: seen.append(ground.imgsz) or [np.zeros((1, 3, 96, 96), np.float32)] * 20
    )
    words = ["--weights", weights, *(["--data", digits] if named else []), "--images", 2, "--int8", "--threads", 1]
    assert "slower" in refused(monkeypatch, capfd, "export.py", *words)
    assert set(seen) == {96}


@pytest.mark.parametrize("option", ["--int8", "--fastest"])
def test_a_data_set_that_a_checkpoint_names_is_not_downloaded(weights, option, one_thread, monkeypatch, capfd):
    save(load(weights)[0], weights, train_args={"imgsz": 64, "data": "VisDrone.yaml"})
    for fetcher in ("safe_download", "download"):
        monkeypatch.setattr(f"ultralytics.utils.downloads.{fetcher}", lambda *_, **__: pytest.fail("downloads"))
    assert "--data is needed" in refused(monkeypatch, capfd, "export.py", "--weights", weights, option)


@pytest.mark.parametrize("option", ["--int8", "--fastest"])
def test_without_labels_nothing_can_be_judged(weights, digits, option, one_thread, tmp_path, monkeypatch, capfd):
    data = tmp_path / "unlabelled"
    shutil.copytree(digits.parent, data, ignore=shutil.ignore_patterns("labels", "*.cache"))
    content = {**yaml.safe_load(digits.read_text()), "path": str(data)}
    (data / digits.name).write_text(yaml.safe_dump(content))
    words = ["--weights", weights, "--data", data / digits.name, "--imgsz", 64, "--images", 2]
    said = refused(monkeypatch, capfd, "export.py", *words, option)
    assert option in said and "labels" in said
    assert [entry.name for entry in weights.parent.iterdir()] == ["best.pt"]


REFUSED = [
    (["--format", "torchscript"], "--int8 makes an ONNX"),
    (["quantize=8"], "--int8 goes without quantize="),
    (["dynamic=True"], "--int8 goes without dynamic="),
    (["--imgsz", "64,96"], "one side"),
    (["--max-map-drop", "2"], "--max-map-drop"),
]


@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_mistakes_are_one_line(words, weights, more, message, monkeypatch, capfd):
    assert message in refused(monkeypatch, capfd, "export.py", *words, *more)
    assert [entry.name for entry in weights.parent.iterdir()] == ["best.pt"]


def test_its_options_need_it(weights, monkeypatch, capfd):
    assert "--int8 and --fastest only" in refused(monkeypatch, capfd, "export.py", "--weights", weights, "--force")


def test_a_folder_of_images_is_labelled_by_the_network(weights, digits, one_thread, runs, monkeypatch, capfd):
    """This one is not trained, and finds nothing."""
    monkeypatch.setattr("ultralytics.pruning.data.sets.DATASETS", runs / "datasets")
    words = ["--weights", weights, "--data", digits.parent / "images" / "train", "--imgsz", 64, "--int8"]
    assert "finds nothing above a confidence of 0.9" in refused(
        monkeypatch, capfd, "export.py", *words, "--confidence", 0.9
    )
    assert [entry.name for entry in weights.parent.iterdir()] == ["best.pt"]


def test_it_needs_images(weights, monkeypatch, capfd, one_thread):
    assert "--data" in refused(monkeypatch, capfd, "export.py", "--weights", weights, "--int8", "--imgsz", 64)


def test_the_fastest_within_the_drop_is_kept(weights, digits, one_thread, monkeypatch, capsys):
    """Torchscript is twice as fast, and NCNN thrice, but that finds too little; what fails is left out."""
    monkeypatch.setattr(fastest.exporting, "runs_here", lambda name: name != "openvino")
    monkeypatch.setattr(fastest.packages, "is_there", lambda name: True)
    release = fastest.exporting.export_by_release
    scores = {"onnx": 0.5, "torchscript": 0.495, "ncnn": 0.48, "onnx int8": 0.5}

    def export_by_release(copy, settings):
        if settings["format"] == "ncnn":
            (copy.parent / "network_ncnn_model").mkdir()
            return copy.parent / "network_ncnn_model"
        return release(copy, settings)

    def in_integers(*given):
        raise ValueError("no ranges")

    kinds = {".onnx": "onnx", ".torchscript": "torchscript", "": "ncnn"}
    monkeypatch.setattr(fastest.exporting, "export_by_release", export_by_release)
    monkeypatch.setattr(fastest, "in_integers", in_integers)
    monkeypatch.setattr(ground.Ground, "accuracy", lambda ground, file: scores[kinds[file.suffix]])
    ms = {"onnx": 6.0, "torchscript": 3.0, "ncnn": 2.0}
    monkeypatch.setattr(
        fastest, "timed", lambda files, ground: ({name: ms[name] for name in files}, dict.fromkeys(files, ""))
    )
    words = ["--weights", weights, "--data", digits, "--imgsz", 64, "--images", 2, "--fastest"]
    code, said = run(monkeypatch, capsys, "export.py", *words)
    assert code == 0, said
    assert sorted(entry.name for entry in weights.parent.iterdir()) == ["best.pt", "best.torchscript"]


def test_fastest_for_real(weights, digits, one_thread, monkeypatch, capsys):
    """Whatever runs here; an untrained network loses nothing, so the clock alone decides."""
    monkeypatch.setattr(ground, "CALIBRATION", 6)
    words = ["--weights", weights, "--data", digits, "--imgsz", 64, "--images", 2, "--fastest", "--threads", 1]
    code, said = run(monkeypatch, capsys, "export.py", *words)
    assert code == 0, said
    (product,) = [entry for entry in weights.parent.iterdir() if entry.name != "best.pt"]
    assert product.name.startswith("best")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--int8"], "leave out --int8"),
        (["--format", "ncnn"], "leave out --format"),
        (["quantize=8"], "leave out --format"),
        (["--force"], "--force is read for --int8 only"),
        (["--imgsz", "64,96"], "one side"),
    ],
)
def test_what_fastest_decides_itself_is_refused(weights, digits, one_thread, more, message, monkeypatch, capfd):
    words = ["--weights", weights, "--data", digits, "--imgsz", 64, "--fastest"]
    assert message in refused(monkeypatch, capfd, "export.py", *words, *more)
