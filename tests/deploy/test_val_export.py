"""Measuring and exporting: what is compared, what is written, and what is refused."""

import argparse
import csv
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from helpers.processes.python import run_python
from helpers.task_data import MODELS
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.deploy import agreement, exporting
from ultralytics.pruning.deploy.softmax import attribute
from ultralytics.pruning.errors import PruningError
from ultralytics.pruning.files import places
from ultralytics.pruning.stages import measuring
from ultralytics.utils import LOGGER


def network(path: Path, images: list[Path], *, seed: int = 0, classes: int = 10) -> Path:
    """Writes an untrained network that finds something: every layer is scaled to the images, as training would."""
    torch.manual_seed(seed)
    model = DetectionModel("yolov8n.yaml", nc=classes, verbose=False)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    pixels = np.stack([cv2.imread(str(image))[..., ::-1] for image in images]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.6, 1.4)
            norm.bias.uniform_(-0.3, 0.3)
            norm.momentum = 1.0
        model.train()(torch.from_numpy(pixels).float() / 255)
        for branch in model.model[-1].cv3:
            branch[-1].bias.fill_(-1.5)
    model.names = {i: str(i) for i in range(classes)}
    checkpoint.save(model.eval(), path, train_args={"task": "detect", "imgsz": 160, "data": "gone.yaml"})
    return path


@pytest.fixture(scope="module")
def images(digits) -> list[Path]:
    """Images of the same kind as those compared on."""
    return sorted((digits.parent / "images" / "train").glob("*.png"))[:8]


@pytest.fixture(scope="module")
def weights(images, tmp_path_factory) -> Path:
    return network(tmp_path_factory.mktemp("net") / "best.pt", images)


def choices(weights: Path, **changes) -> argparse.Namespace:
    """Returns the options of export.py."""
    defaults = {"format": "onnx", "imgsz": 160, "data": None, "images": 4, "device": "cpu", "settings": {}}
    return argparse.Namespace(weights=str(weights), **{**defaults, **changes})


@pytest.fixture(scope="module")
def exported(weights, digits) -> Path:
    """The ONNX file, beside its checkpoint."""
    exporting.export(choices(weights, data=str(digits)))
    return weights.with_suffix(".onnx")


def test_export_writes_the_onnx_beside_the_checkpoint_and_nothing_else(exported, weights):
    assert sorted(file.name for file in weights.parent.iterdir()) == ["best.onnx", "best.pt"]
    nodes = onnx.load(exported).graph.node
    assert [node.op_type for node in nodes].count("BatchNormalization") == 0
    assert [attribute(node, "axis") for node in nodes if node.op_type == "Softmax"] == [-1]  # the fast one


@pytest.fixture
def copy(weights, tmp_path) -> Path:
    """A copy of the checkpoint in a folder of its own."""
    return Path(shutil.copy(weights, tmp_path))


@pytest.fixture
def exporter_gives(exported, monkeypatch):
    """Lets the release export in no time: the ONNX file, or what the given function makes of it."""

    def install(edit=lambda model: model):
        def run(copied, settings):
            assert LOGGER.level == logging.WARNING  # the release names the temporary folder
            product = copied.with_suffix(".onnx")
            onnx.save(edit(onnx.load(exported)), product)
            return product

        monkeypatch.setattr(exporting, "export_by_release", run)

    return install


def test_the_comparison_says_what_it_compared(copy, digits, exporter_gives, capsys):
    exporter_gives()
    exporting.export(choices(copy, data=str(digits)))
    said = capsys.readouterr().out
    assert "on 4 images, from confidence 0.25 on" in said and "Wrote" in said and copy.with_suffix(".onnx").is_file()
    pairs = next(line.split()[-1] for line in said.splitlines() if line.startswith("detections that both find"))
    assert int(pairs) >= 4


def shifted_boxes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Moves all boxes by 0.1 cells of their grid, 0.8 pixels or more: an error of a converter."""
    grid = [tensor for tensor in model.graph.initializer if list(tensor.dims) == [1, 2, 525]]
    assert grid, "the export holds its grid otherwise now"
    for tensor in grid:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + np.float32(0.1), tensor.name))
    return model


def test_a_wrong_onnx_is_not_kept(copy, digits, exporter_gives, capsys):
    exporter_gives(shifted_boxes)
    copy.with_suffix(".onnx").write_text("of an earlier export")
    with pytest.raises(PruningError, match="finds something other"):
        exporting.export(choices(copy, data=str(digits)))
    assert "largest difference of a box" in capsys.readouterr().out
    assert copy.with_suffix(".onnx").read_text() == "of an earlier export"
    assert sorted(file.name for file in copy.parent.iterdir()) == ["best.onnx", "best.pt"]


def test_the_onnx_of_another_network_disagrees(exported, images, tmp_path):
    other = network(tmp_path / "other.pt", images, seed=1)
    with pytest.raises(PruningError, match=r"finds something other than 'other\.pt'"):
        exporting.check_agreement(exported, other, images[:2], {"imgsz": 160})


def test_without_detections_the_raw_outputs_are_compared(exported, weights, images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(agreement, "CONFIDENCES", (1.0,))
    exporting.check_agreement(exported, weights, images[:2], {"imgsz": 160})
    assert "Raw outputs" in capsys.readouterr().out
    other = network(tmp_path / "other.pt", images, seed=1)
    with pytest.raises(PruningError, match="computes something other"):
        exporting.check_agreement(exported, other, images[:2], {"imgsz": 160})


@pytest.mark.parametrize("task", ["semantic", "depth"])
def test_maps_are_compared(task, images, tmp_path, capsys):
    """At the size of the image, as in the file; another network's maps differ."""
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = YOLO(MODELS[task]).model
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(norm.weight, 0.5, 3)
                torch.nn.init.uniform_(norm.bias, -1, 1)
        files.append(tmp_path / str(seed) / "best.pt")
        files[-1].parent.mkdir()
        checkpoint.save(model, files[-1], train_args={"task": task, "imgsz": 160, "data": "gone.yaml"})
    exporting.export(choices(files[0], images=2))
    what = {"semantic": "share of pixels that differ", "depth": "largest relative difference"}[task]
    assert what in capsys.readouterr().out and files[0].with_suffix(".onnx").is_file()
    with pytest.raises(PruningError, match="computes something other"):
        exporting.check_agreement(files[0].with_suffix(".onnx"), files[1], images[:2], {"imgsz": 160})


def test_images_are_spread_over_the_val_split_or_the_releases_own(digits):
    names = [image.name for image in exporting.comparison_images(str(digits), None, 3)]
    assert names == ["0000.png", "0004.png", "0007.png"]
    assert len(exporting.comparison_images(None, str(digits), 16)) == 8
    assert [image.name for image in exporting.comparison_images(None, "gone.yaml", 16)] == ["bus.jpg", "zidane.jpg"]


def test_images_of_a_list_file(digits, tmp_path):
    shutil.copytree(digits.parent / "images" / "val", tmp_path / "pictures")
    (tmp_path / "val.txt").write_text("./pictures/0001.png\n./pictures/0003.png\n")
    (tmp_path / "data.yaml").write_text(f"path: {tmp_path}\ntrain: val.txt\nval: val.txt\nnames: {{0: a}}\n")
    assert [image.name for image in exporting.val_images(str(tmp_path / "data.yaml"))] == ["0001.png", "0003.png"]


def test_formats_that_do_not_run_here_are_exported_without_a_comparison(copy, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "runs_here", lambda name: False)
    exporting.export(choices(copy, format="torchscript"))
    assert "No comparison was run" in capsys.readouterr().out
    assert torch.jit.load(copy.with_suffix(".torchscript"))(torch.zeros(1, 3, 160, 160)).shape == (1, 14, 525)


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for place, content in ((tmp_path / "best_openvino_model", "old"), (tmp_path / ".new/best_openvino_model", "new")):
        place.mkdir(parents=True)
        (place / content).touch()
    (tmp_path / ".new" / "best.onnx").touch()  # on the way there
    (tmp_path / ".new" / "best.pt").touch()
    product = tmp_path / ".new" / "best_openvino_model"
    assert exporting.keep(tmp_path / ".new", tmp_path / ".new" / "best.pt", product, tmp_path) == [
        tmp_path / "best_openvino_model"
    ]
    assert [file.name for file in (tmp_path / "best_openvino_model").iterdir()] == ["new"]
    assert not (tmp_path / "best.onnx").exists()


def test_data_reach_the_exporter_only_where_they_set_ranges(copy, digits, exported, monkeypatch):
    asked = []

    def run(copied, settings):
        asked.append(settings.get("data"))
        return Path(shutil.copy(exported, copied.with_suffix(".onnx")))

    monkeypatch.setattr(exporting, "export_by_release", run)
    monkeypatch.setattr(exporting.packages, "need", lambda modules, what: None)
    exporting.export(choices(copy, data=str(digits)))  # a path of this machine would stand in the ONNX
    exporting.export(choices(copy, settings={"data": str(digits), "quantize": "int8"}))
    exporting.export(choices(copy, data=str(digits), format="imx"))
    exporting.export(choices(copy, data=str(digits), format="torchscript"))
    assert asked == [None, str(digits), str(digits), None]


def test_a_missing_package_is_named(copy, monkeypatch):
    def fails(self, **settings):
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino.frontend")

    monkeypatch.setattr("ultralytics.engine.model.Model.export", fails)
    with pytest.raises(PruningError, match="format openvino needs the package 'openvino', which is not installed"):
        exporting.export(choices(copy, format="openvino"))
    assert [file.name for file in copy.parent.iterdir()] == ["best.pt"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weights": "gone.pt"}, "gone.pt' is not there"),
        ({"format": "onxx"}, "did you mean 'onnx'"),
        ({"imgsz": 0}, "at least 32"),
        ({"images": 0}, "--images 0"),
        ({"data": "gone.yaml"}, "--data gone.yaml"),
        ({"settings": {"quantize": 8}, "format": "torchscript"}, "quantize=8"),
    ],
)
def test_bad_choices_for_export_are_refused(copy, changes, says):
    options = choices(copy)
    vars(options).update(changes)
    with pytest.raises(PruningError, match=says):
        exporting.export(options)
    assert [file.name for file in copy.parent.iterdir()] == ["best.pt"]


def test_export_script_ends_with_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"no checkpoint")
    ended = run_python("export.py", "--weights", tmp_path / "best.pt", "--device", "cpu")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("export.py: error: ") and ended.stderr.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["best.pt"]


def wishes(*checkpoints: Path, **changes) -> argparse.Namespace:
    """Returns the options of val.py."""
    defaults = {"imgsz": 160, "batch": 4, "name": "val", "overwrite": False, "device": "cpu", "settings": {}}
    defaults |= {"threads": None, "timing": True, "video": None, "per_class": False}
    return argparse.Namespace(checkpoints=[str(path) for path in checkpoints], **{**defaults, **changes})


def test_two_files_give_one_table_and_one_csv(weights, exported, digits, runs, capsys):
    measuring.measure_stage(wishes(weights, exported, data=str(digits)))
    rows = list(csv.DictReader((runs / "val" / "val.csv").open()))
    assert [Path(row["checkpoint"]).name for row in rows] == ["best.pt", "best.onnx"]
    of_pt, of_onnx = rows
    assert float(of_pt["gflops"]) == pytest.approx(8.1 / 16, rel=0.02) and of_onnx["gflops"] == ""
    assert int(of_pt["parameters"]) == sum(p.numel() for p in checkpoint.load(weights)[0].parameters())
    assert 0.99 < int(of_onnx["parameters"]) / int(of_pt["parameters"]) < 1
    assert float(of_onnx["megabytes"]) == exported.stat().st_size / 1e6
    assert (of_pt["batch"], of_onnx["batch"]) == ("4", "1") and float(of_onnx["milliseconds"]) > 0
    for key in ("precision", "recall", "map50", "map50_95"):
        assert float(of_pt[key]) == pytest.approx(float(of_onnx[key]), abs=1e-3)
    for folder in ("best", "best-onnx"):
        assert (runs / "val" / f"{weights.parent.name}-{folder}" / "confusion_matrix.png").is_file()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith(str(weights.parent))]
    assert [line.split()[0] for line in table] == [str(weights), str(exported)]
    assert table[1].split()[3:5] == ["%", "-"]  # its share of the parameters is known, its multiply-adds are not

    with pytest.raises(PruningError, match="--overwrite"):
        measuring.measure_stage(wishes(weights, data=str(digits)))
    measuring.measure_stage(wishes(weights, data=str(digits), overwrite=True, settings={"plots": False}))
    assert len((runs / "val" / "val.csv").read_text().splitlines()) == 2


def test_words_are_checkpoints_or_settings():
    parser = measuring.CheckpointParser("", "")
    options = parser.parse_intermixed_args(["a.pt", "conf=0.1", "--device", "cpu", "b.onnx", "iou=0.6"])
    assert (options.checkpoints, options.settings) == (["a.pt", "b.onnx"], ["conf=0.1", "iou=0.6"])
    with pytest.raises(SystemExit, match="2"):
        parser.parse_intermixed_args(["conf=0.1"])


def test_folder_names_differ():
    runs = places.RUNS
    paths = [runs / "a/weights/best.pt", runs / "a/weights/best.onnx", places.ROOT / "weights/pruned.pt"]
    assert measuring.folder_names([*paths, paths[0]]) == ["a-best", "a-best-onnx", "weights-pruned", "a-best-2"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"imgsz": 150}, "takes multiples of 32, e.g. 160"),
        ({"imgsz": 192}, "takes images of 160 x 160 pixels only"),
        ({"batch": 0}, "batch 0"),
        ({"name": ".."}, "--name"),
        ({"name": "a/b"}, "--name"),
        ({"name": "train-norm"}, "holds a training"),
        ({"settings": {"split": "test"}}, "'test:' images not found"),
        ({"data": "gone.yaml"}, "--data gone.yaml"),
        ({"checkpoints": ["best.torchscript"]}, "'best.torchscript' is not there"),
    ],
)
def test_bad_wishes_for_val_are_refused(weights, exported, digits, runs, changes, says):
    (runs / "train-norm" / "weights").mkdir(parents=True)
    options = wishes(weights, exported, data=str(digits))
    vars(options).update(changes)
    with pytest.raises(PruningError, match=says):
        measuring.measure_stage(options)
    assert [folder.name for folder in runs.iterdir()] == ["train-norm"]


def test_files_that_cannot_be_measured_are_refused(weights, digits, images, runs, tmp_path):
    other = network(tmp_path / "other.pt", images, classes=3)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no ONNX")
    foreign = tmp_path / "foreign.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), foreign)
    for file, says in (
        (other, "has 3 classes, --data .* has 10"),
        (damaged, "damaged"),
        (foreign, "was not exported by Ultralytics"),
        (digits, "of no known format"),
    ):
        with pytest.raises(PruningError, match=says):
            measuring.measure_stage(wishes(weights, file, data=str(digits)))
    assert not runs.exists()


def test_val_script_ends_with_one_line_and_exit_code_2():
    ended = run_python("val.py", "gone.pt", "--data", "digits", "--device", "cpu")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("val.py: error: 'gone.pt' is not there") and ended.stderr.count("\n") == 1
