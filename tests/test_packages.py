"""A package that is not installed is named before the work that needs it begins, with the line that installs it."""

import csv
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from helpers.processes.python import run_python
from helpers.repository import FADED_WEIGHTS, REPOSITORY
from helpers.scripts import refused
from ultralytics.pruning import packages
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.command_line import entry


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """The stages let all cores work; the tests stay with one."""
    monkeypatch.setattr(entry, "choose_device", lambda wanted: wanted or "cpu")


@pytest.fixture
def own(tmp_path) -> Path:
    """A checkpoint in a folder of its own."""
    return Path(shutil.copy(FADED_WEIGHTS, tmp_path / "net.pt"))


LATENCY = ("--latency-speed-up", "2")
NEEDS = [  # script, words, a module that is not there, what the line says to run
    ("prune.py", (), "onnx", "pip install onnx"),
    ("prune.py", (), "onnxruntime", "pip install onnxruntime"),
    ("prune.py", (), "onnxslim", "pip install onnxslim"),
    ("prune.py", ("--no-onnx", *LATENCY), "onnxruntime", "pip install onnxruntime"),
    ("prune.py", ("--val", "--data", "digits"), "sklearn", "pip install scikit-learn"),
    ("train-normal.py", ("--data", "digits", "finetune=True"), "sklearn", "pip install scikit-learn"),
    ("finetune.py", ("quantize=int8",), "modelopt", "pip install nvidia-modelopt huggingface_hub"),
    ("train_sparsity.py", ("--device", "0,1"), "cloudpickle", "pip install cloudpickle"),
    ("compress.py", LATENCY, "onnxruntime", "pip install onnxruntime"),
    ("compress.py", ("--speed-up", "2", "--data", "digits"), "sklearn", "pip install scikit-learn"),
    ("compress.py", ("--workers", "2", "--sweep", "ratio=0.2,0.3"), "ray", "pip install ray"),
    ("export.py", (), "onnx", "pip install onnx"),
    ("export.py", ("--format", "openvino"), "openvino", "pip install openvino"),
    ("export.py", ("--format", "openvino", "quantize=8"), "nncf", "openvino nncf"),
    ("export.py", ("--format", "ncnn"), "ncnn", "pip install ncnn pnnx"),
    ("export.py", ("--format", "engine", "quantize=int8"), "modelopt", "tensorrt nvidia-modelopt"),
    ("export.py", ("--format", "mnn"), "MNN", "pip install MNN"),
    ("export.py", ("--data", "digits"), "sklearn", "pip install scikit-learn"),
    ("latency_table.py", (), "onnxruntime", "pip install onnxruntime"),
    ("latency_table.py", (), "onnxslim", "pip install onnxslim"),
]


@pytest.mark.parametrize(("script", "words", "module", "said"), NEEDS)
def test_a_missing_package_is_named_before_the_work(script, words, module, said, own, runs, monkeypatch, capsys):
    for absent in (module, "openvino", "nncf", "ncnn", "pnnx"):  # whatever else is installed here
        monkeypatch.setitem(sys.modules, absent, None)
    places = {"prune.py": ("--save-dir", own.parent / "out"), "latency_table.py": ("--output", own.parent / "t.json")}
    data = ("--data", own) if script == "compress.py" and "digits" not in words else ()
    line = refused(monkeypatch, capsys, script, "--weights", own, *places.get(script, ()), *data, *words)
    assert "not installed" in line and said in line
    assert not runs.exists() and [file.name for file in own.parent.iterdir()] == ["net.pt"]


def test_onnx_files_are_not_measured_without_a_runtime(own, runs, monkeypatch, capsys):
    own.with_suffix(".onnx").write_bytes(b"onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    words = (own, own.with_suffix(".onnx"), "--data", "digits")
    assert "pip install onnxruntime" in refused(monkeypatch, capsys, "val.py", *words)
    assert not runs.exists()


def test_what_needs_no_package_runs_without(own, monkeypatch, capsys):
    for module in ("onnx", "onnxruntime", "onnxslim", "sklearn", "ray", "modelopt"):
        monkeypatch.setitem(sys.modules, module, None)
    words = ["--weights", str(own), "--prune-ratio", "0.3", "--no-onnx", "--save-dir", str(own.parent)]
    monkeypatch.setattr(sys, "argv", ["prune.py", *words])
    runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")
    assert (own.parent / "pruned.pt").is_file()


def test_a_package_that_nobody_looked_for_is_named_all_the_same(own, monkeypatch, capsys):
    def fails(*_, **__):
        raise ModuleNotFoundError("No module named 'clip.model'", name="clip.model")

    monkeypatch.setattr(checkpoint, "load", fails)
    line = refused(monkeypatch, capsys, "prune.py", "--weights", own, "--no-onnx", "--save-dir", own.parent / "out")
    assert "'clip'" in line and "pip install clip" in line
    ours = ModuleNotFoundError("No module named 'ultralytics.pruning.gone'", name="ultralytics.pruning.gone")
    assert packages.missing_by(ours) is None


def test_names_that_the_terminal_cannot_show_do_no_harm(tmp_path):
    """Not in what is printed, nor in an error, nor in what the release says."""
    folder = tmp_path / "Prüfung ✓"
    folder.mkdir()
    shutil.copy(FADED_WEIGHTS, folder / "größe.pt")
    words = ["vis-bn-weight.py", str(folder / "größe.pt"), "--save", str(folder / "ä.png")]
    code = f"import runpy, sys; sys.argv = {words!r}; runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "from ultralytics.utils import LOGGER; LOGGER.info('größe ✓')\n"
    code += "sys.argv[1] = 'größer.pt'; runpy.run_path(sys.argv[0], run_name='__main__')"
    seen = run_python("-c", code, PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONWARNINGS="ignore")
    assert seen.returncode == 2 and len(seen.stderr.splitlines()) == 1, seen.stderr
    assert "gr\\xf6\\xdfer.pt" in seen.stderr
    assert "gr\\xf6\\xdfe.pt" in seen.stdout and "gr\\xf6\\xdfe \\u2713" in seen.stdout
    assert (folder / "ä.png").is_file()


def test_a_table_of_a_file_whose_name_is_no_text(tmp_path):
    """A file system holds bytes."""
    from ultralytics.pruning.measuring.rows import Measurement
    from ultralytics.pruning.measuring.tables import write_csv

    row = Measurement("net\udcff.pt", "detect", 1, 1, None, 1.0, 64, 1, "cpu")
    write_csv([row], tmp_path / "val.csv")
    with (tmp_path / "val.csv").open(encoding="utf-8") as file:
        assert next(csv.DictReader(file))["checkpoint"] == "net\\udcff.pt"
