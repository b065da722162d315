"""Which format a file is of, what must be there to run it, and what it says about itself."""

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from ultralytics.nn.autobackend import AutoBackend
from ultralytics.pruning import PruningError, packages
from ultralytics.pruning.deploy.metadata import described
from ultralytics.pruning.measuring import formats
from ultralytics.pruning.runs.stale import older_products

ABOUT = {
    "task": "detect",
    "names": {0: "a", 1: "b"},
    "imgsz": [64, 64],
    "batch": 1,
    "stride": 32,
    "args": {"quantize": 8, "dynamic": False},
    "channels": 3,
}
SETTINGS = {"imgsz": 64, "batch": 4, "device": "cpu"}


@pytest.mark.parametrize(
    ("name", "kind", "checkpoint"),
    [
        ("best.pt", "pt", "best.pt"),
        ("best.onnx", "onnx", "best.pt"),
        ("best_qnn.onnx", "qnn", "best.pt"),
        ("best_openvino_model", "openvino", "best.pt"),
        ("a.pt_ncnn_model", "ncnn", "a.pt.pt"),
        ("best_edgetpu.tflite", "edgetpu", "best.pt"),
        ("best.engine", "engine", "best.pt"),
    ],
)
def test_the_end_of_a_name_tells_the_format(name, kind, checkpoint):
    path = Path("folder") / name
    assert formats.suffixes()[formats.suffix_of(path)] == kind == AutoBackend._model_type(str(path))
    assert formats.checkpoint_of(path) == Path("folder") / checkpoint


def test_all_formats_of_the_release_are_known():
    assert set(formats.suffixes().values()) - {"pt", "torchscript"} == packages.RUNTIMES.keys()
    assert set(formats.PROGRAMS) | set(formats.ON_GPUS) | set(formats.ANY_BATCH) <= set(formats.suffixes().values())
    assert formats.suffix_of(Path("best.onnx.txt")) is None


def test_a_folder_or_file_of_no_format_is_refused(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "photo.png").touch()
    for name, says in (("folder.onnx", "a folder"), ("photo.png", "of no known format"), ("no.pt", "is not there")):
        with pytest.raises(PruningError, match=says):
            formats.find(str(tmp_path / name))
    (tmp_path / "net_openvino_model").mkdir()
    assert formats.find(str(tmp_path / "net_openvino_model")) == tmp_path / "net_openvino_model"


@pytest.mark.parametrize(("kind", "module"), [("openvino", "openvino"), ("ncnn", "ncnn"), ("engine", "tensorrt")])
def test_a_missing_package_is_named(kind, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(PruningError, match=f"needs the package '{module}', which is not installed; run: pip install"):
        formats.check_runs(kind, "net", "0")


def test_an_engine_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(packages, "is_there", lambda module: True)
    with pytest.raises(PruningError, match="--device 0"):
        formats.check_runs("engine", "net.engine", "cpu")


def test_programs_need_trust(monkeypatch):
    monkeypatch.setenv("YOLO_PRUNING_TRUST", "0")
    with pytest.raises(PruningError, match="--trust"):
        formats.check_runs("torchscript", "net.torchscript", "cpu")
    formats.check_runs("onnx", "net.onnx", "cpu")
    monkeypatch.setenv("YOLO_PRUNING_TRUST", "1")
    formats.check_runs("torchscript", "net.torchscript", "cpu")


def as_text(about: dict) -> dict[str, str]:
    """As an ONNX file keeps them."""
    return {key: str(value) for key, value in about.items()}


def as_json(about: dict) -> dict:
    """As TorchScript keeps them."""
    return json.loads(json.dumps(about))


@pytest.mark.parametrize("form", [dict, as_json, as_text])
def test_metadata_of_yaml_json_and_text_say_the_same(form):
    file = described(form(ABOUT), None, AutoBackend._BACKEND_MAP["ncnn"], "net")
    assert (file.task, file.names, file.sides, file.batch, file.precision) == (
        "detect",
        ("a", "b"),
        (64, 64),
        1,
        "int8",
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"names": {0: "a", 2: "b"}}, "names"),
        ({"imgsz": 64}, "imgsz"),
        ({"batch": 0}, "batch"),
        ({"task": "fly"}, "task"),
        ({"args": []}, "args"),
        ({"args": {"quantize": [8]}}, None),
        ({"ov_compiled_model": "own"}, "attribute"),
        ({"forward": "own"}, "attribute"),
        ({"_private": "own"}, "attribute"),
        ({1: 2}, None),
        ({"of_somebody": "else"}, None),
    ],
)
def test_impossible_metadata_are_refused(change, says):
    backend = AutoBackend._BACKEND_MAP["openvino"]
    if says is None:
        assert described({**ABOUT, **change}, None, backend, "net").task == "detect"
        return
    with pytest.raises(PruningError, match=f"'net' describes itself in a way that cannot be true: .*{says}"):
        described({**ABOUT, **change}, None, backend, "net")


def test_a_file_that_says_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_PRUNING_TRUST", "1")
    file = tmp_path / "net.torchscript"
    file.write_bytes(b"nothing")
    with pytest.raises(PruningError, match="does not say what it detects"):
        formats.describe(file, SETTINGS)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/extra/config.txt", json.dumps(ABOUT))
    with pytest.raises(PruningError, match="does not run by torch"):
        formats.describe(file, SETTINGS)
    with pytest.raises(PruningError, match="64 x 64 pixels only"):
        formats.describe(file, {**SETTINGS, "imgsz": 96})


def test_older_exports_are_found_by_the_name_of_their_checkpoint(tmp_path):
    (tmp_path / "net_ncnn_model").mkdir()
    os.utime(tmp_path / "net_ncnn_model", (1, 1))
    (tmp_path / "net.pt").touch()
    export = tmp_path / "net_ncnn_model"
    assert older_products(formats.checkpoint_of(export)) == [export]
