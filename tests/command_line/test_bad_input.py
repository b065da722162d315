"""A user's mistake: one line that says what was found and what to do, exit code 2, nothing written."""

import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from helpers.repository import REPOSITORY, entries
from helpers.scripts import refused
from ultralytics import YOLO
from ultralytics.pruning import errors, load, save
from ultralytics.pruning.command_line import entry

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def good(small_weights) -> Path:
    """A checkpoint of ten classes."""
    return small_weights


def make_checkpoint(kind: str, good: Path, folder: Path) -> Path:
    """Writes a file that is no checkpoint to prune."""
    file = folder / f"{kind}.pt"
    content = good.read_bytes()
    if kind == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        file.touch()
    elif kind == "text":
        file.write_text("no checkpoint")
    elif kind == "state_dict":
        torch.save({"weight": torch.zeros(3)}, file)
    elif kind == "module":
        torch.save({"model": nn.Linear(2, 2)}, file)
    elif kind == "yolov5":
        torch.save({"model": {"a": 1}}, file)
        with zipfile.ZipFile(file) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        pickled = b"\x80\x02cmodels.yolo\nDetectionModel\nq\x00."  # a class that is not there
        with zipfile.ZipFile(file, "w") as archive:
            for name, part in parts.items():
                archive.writestr(name, pickled if name.endswith("data.pkl") else part)
    elif kind == "torchscript":
        torch.jit.trace(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 8, 8)).save(str(file))
    elif kind == "onnx":
        file = folder / "model.onnx"
        file.write_bytes(b"onnx")
    elif kind == "nan":
        model = load(good)[0]
        model.model[3].conv.weight.data[0] = float("nan")
        save(model, file)
    elif kind == "fused":
        model = load(good)[0]
        save(model.fuse(verbose=False), file)
    return file


BAD_CHECKPOINTS = {
    "missing": "is not there",
    "truncated": "truncated",
    "empty": "is empty",
    "text": "truncated, or not a checkpoint",
    "state_dict": "not a checkpoint of Ultralytics",
    "module": "holds a Linear",
    "yolov5": "old yolov5 repository",
    "torchscript": "TorchScript",
    "onnx": "needs a .pt",
    "nan": "not finite",
    "fused": "fused",
}


@pytest.mark.parametrize("trusted", ["", "1"])
def test_an_old_yolov5_is_told_by_its_modules_not_by_its_name(trusted, good, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_PRUNING_TRUST", trusted)
    with pytest.raises(errors.PruningError, match="old yolov5 repository"):
        load(make_checkpoint("yolov5", good, tmp_path))
    damaged = tmp_path / "yolov5nu.pt"
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("yolov5nu/version", "3")
    with pytest.raises(errors.PruningError, match="yolov5nu") as error:
        load(damaged)
    assert "old yolov5" not in str(error.value)


@pytest.mark.parametrize("kind", BAD_CHECKPOINTS)
@pytest.mark.parametrize("script", ["prune.py", "train_sparsity.py", "finetune.py"])
def test_bad_checkpoints(kind, script, good, digits, tmp_path, runs, monkeypatch, capsys):
    file = make_checkpoint(kind, good, tmp_path)
    out = tmp_path / "out"
    words = ("--save-dir", out) if script == "prune.py" else ("--data", digits)
    line = refused(monkeypatch, capsys, script, "--weights", file, *words)
    assert BAD_CHECKPOINTS[kind] in line
    assert file.name in line
    assert not out.exists()
    assert not runs.exists()


def bad_data(kind: str, good: Path, folder: Path) -> Path:
    file = folder / "data.yaml"
    content = {"path": str(folder), "train": "images", "val": "images", "names": {i: str(i) for i in range(10)}}
    if kind == "not_yaml":
        file.write_text("names: [a, b\n}: {")
    elif kind == "no_dict":
        file.write_text("just words")
    elif kind == "no_names":
        file.write_text(yaml.safe_dump({"train": "images"}))
    elif kind == "classes":
        file.write_text(yaml.safe_dump({**content, "names": {0: "a", 1: "b"}}))
    elif kind == "no_images":
        file.write_text(yaml.safe_dump(content))
    return file


BAD_DATA = {
    "missing": "no such file",
    "not_yaml": "is not YAML",
    "no_dict": "is no data set",
    "no_names": "is no data set",
    "classes": "has 2 classes, the network has 10",
    "no_images": "images not found",
}


@pytest.mark.parametrize("kind", BAD_DATA)
@pytest.mark.parametrize("script", ["finetune.py", "train_sparsity.py", "prune.py"])
def test_bad_data(kind, script, good, tmp_path, runs, monkeypatch, capsys):
    out = tmp_path / "out"
    extra = ("--val", "--save-dir", out) if script == "prune.py" else ()
    words = ("--weights", good, "--data", bad_data(kind, good, tmp_path), *extra)
    line = refused(monkeypatch, capsys, script, *words)
    assert BAD_DATA[kind] in line
    assert not out.exists()
    assert not runs.exists()


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("prune.py", ("--prune-ratio", "1"), "at least 0 and below 1"),
        ("prune.py", ("--prune-ratio", "-0.1"), "at least 0 and below 1"),
        ("prune.py", ("--percent", "half"), "at least 0 and below 1"),
        ("prune.py", ("--prune-ratio", "nan"), "at least 0 and below 1"),
        ("prune.py", ("--prune-ratio", "0.5", "--speed-up", "2"), "not allowed with"),
        ("prune.py", ("--speed-up", "2", "--target-params", "1M"), "not allowed with"),
        ("prune.py", ("--speed-up", "0.5"), "not a number of at least 1"),
        ("prune.py", ("--speed-up", "fast"), "not a number of at least 1"),
        ("prune.py", ("--target-params", "12.5"), "not a number such as 1200000, 1.2M or 900k"),
        ("prune.py", ("--target-params", "M"), "not a number such as 1200000, 1.2M or 900k"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--target-params", "99M"), "the network has only 3,157,200"),
        ("prune.py", ("--round-to", "0"), "at least 1"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--round-to", "512"), "the widest that can be pruned, model.7.conv"),
        ("prune.py", ("--min-channels", "-1"), "at least 1"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--min-channels", "999"), "nothing would be removed"),
        ("prune.py", ("--max-ratio-per-layer", "1.5"), "at least 0 and at most 1"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--ignore", "model.99"), "'model.99' matches no convolution"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--ignore", "model"), "all are pinned, ignored"),
        ("prune.py", ("--ratio", "model.0"), "not of the form PATTERN=RATIO"),
        ("prune.py", ("--ratio", "model.0=1"), "at least 0 and below 1"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--ratio", "model.0.bn=0.5"), "did you mean model.0"),
        (
            "prune.py",
            ("--weights", "yolov8n.yaml", "--ignore", "model.2", "--ratio", "*.cv1=0.5"),
            "model.2.cv1.conv is to be ignored",
        ),
        ("prune.py", ("--weights", "yolov8n.yaml", "--plan", "README.md"), "is not JSON"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--cfg", "yolov8s.yaml"), "is of size s, the weights are of size n"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--cfg", "yolov5n.yaml"), "is not the model of these weights"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--cfg", "nothing.yaml"), "no such model yaml"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--model-size", "s"), "--model-size s"),
        ("prune.py", ("--weights", "nothing.yaml"), "no such model yaml"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--save-dir", "/proc/nowhere"), "cannot write"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--save-dir", __file__), "cannot write"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--val"), "a model yaml has none"),
        ("train_sparsity.py", ("--sr", "-0.1"), "at least 0"),
        ("train_sparsity.py", ("--sr", "inf"), "at least 0"),
        ("train_sparsity.py", ("sr=nan",), "sr=nan"),
        ("train_sparsity.py", ("--epochs", "0"), "at least 1"),
        ("train_sparsity.py", ("--sr", "0"), "nothing would fade"),
        ("train_sparsity.py", ("--sparsity", "steered"), "needs target_speed_up, e.g. 2.0"),
        ("train_sparsity.py", ("--sparsity", "strict"), "invalid choice: 'strict'"),
        ("train_sparsity.py", ("sparsity=proximall",), "did you mean 'proximal'"),
        ("train_sparsity.py", ("sr_schedule=step",), "there are linear, constant, cosine, ramp"),
        (
            "train_sparsity.py",
            ("--target-speed-up", "2", "--sparsity", "group", "--sr", "0.1"),
            "leave out one of both",
        ),
        ("train_sparsity.py", ("--target-speed-up", "2", "--target-sparsity", "0.5"), "one target is enough"),
        ("train_sparsity.py", ("--target-speed-up", "0.5", "--sparsity", "steered"), "a number above 1"),
        ("train_sparsity.py", ("--target-sparsity", "1", "--sparsity", "steered"), "below 1"),
        ("train_sparsity.py", ("--target-sparsity", "0.5"), "use sparsity=steered"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--zeros"), "no channel of this network has scales of exactly zero"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--zeros", "--speed-up", "2"), "not allowed with"),
        ("prune.py", ("--weights", "yolov8n.yaml", "--zeros", "--ignore", "model.0"), "leave out --ratio and --ignore"),
        ("train-normal.py", ("--name", ".."), "without slashes"),
        ("train-normal.py", ("--name", "a/b", "--overwrite"), "without slashes"),
        ("train-normal.py", ("device=cpu",), "--device"),
        ("train_sparsity.py", ("--weights", "yolov8n.yaml"), "not a yaml"),
        ("finetune.py", ("--weights", "yolov8n.yaml"), "not a yaml"),
        ("train-normal.py", ("--weights", "nothing.pt"), "is not there"),
        ("train-normal.py", ("--weights", "nothing.yaml"), "no such model yaml"),
        ("train-normal.py", ("epoch=3",), "did you mean 'epochs'"),
        ("train-normal.py", ("name=mine",), "--name"),
        ("train-normal.py", ("amp",), "no key=value"),
        ("train-normal.py", ("epochs=three",), "epochs"),
        ("train-normal.py", ("--resume",), "nothing to resume"),
    ],
)
def test_bad_words(script, words, said, runs, tmp_path, monkeypatch, capsys):
    before = entries()
    line = refused(monkeypatch, capsys, script, *words)
    assert said in line
    assert not runs.exists()
    assert entries() == before


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(errors.PruningError, match="has 0 CUDA devices; use --device cpu"):
        entry.choose_device("0")


def test_an_official_checkpoint_that_cannot_be_downloaded(monkeypatch, capsys, runs, tmp_path):
    from ultralytics.utils import downloads

    def no_network(*args, **kwargs):
        raise ConnectionError("no network")

    monkeypatch.setattr(downloads, "attempt_download_asset", no_network)
    line = refused(monkeypatch, capsys, "train-normal.py", "--weights", tmp_path / "yolov8s.pt")
    assert "could not be downloaded" in line
    assert "--weights yolov8s.yaml" in line


def test_a_ratio_that_would_empty_layers_is_repaired_and_reported(good, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys,
        "argv",
        ["prune.py", "--weights", str(good), "--prune-ratio", "0.95", "--round-to", "1"]
        + ["--save-dir", str(tmp_path), "--no-onnx"],
    )
    runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "layers stand at their floor of 10%" in said
    assert "instead of 95.0%" in said
    network = YOLO(tmp_path / "pruned.pt").model
    assert all(m.out_channels >= 1 for m in network.modules() if isinstance(m, nn.Conv2d))


REFUSED_BY_THE_TRAINER = {
    "all would fade": (("--sr", "1000"), "all channels would fade at once; use an sr of at most"),
    "all would fade, proximal": (("--sparsity", "group", "--sr", "3"), "all channels would fade at once"),
    "too few epochs": (("--sparsity", "steered", "--target-speed-up", "2", "--epochs", "2"), "at least 3 epochs"),
    "all is frozen": (("--sr", "0.1", "freeze=5"), "frozen and cannot fade"),
    "too small a target": (("--sparsity", "proximal", "--target-sparsity", "1e-5"), "removes nothing"),
    "an optimizer that is none": (("--sr", "0.1", "optimizer=Foo"), "Foo"),
    "nothing to train": (("--sr", "0.1", "freeze=100"), "froze the entire model"),
    "a target without epochs": (("--sparsity", "steered", "--target-speed-up", "2", "time=0.1"), "leave out time"),
    "rounding": (("--sparsity", "group", "--target-sparsity", "0.5", "round_to=999"), "keeps every layer whole"),
}


@pytest.mark.parametrize("name", REFUSED_BY_THE_TRAINER)
def test_what_only_the_trainer_can_refuse_leaves_everything_as_it_was(name, good, digits, runs, monkeypatch, capsys):
    words, said = REFUSED_BY_THE_TRAINER[name]
    words = ("--weights", good, "--data", digits, "--imgsz", "64", "--batch", "8", "--device", "cpu", *words)
    line = refused(monkeypatch, capsys, "train_sparsity.py", *words)
    assert said in line
    assert not runs.exists() or list(runs.iterdir()) == []  # the first is refused before a trainer is made
    old = runs / "train-sparsity" / "weights" / "last.pt"
    old.parent.mkdir(parents=True)
    shutil.copy(good, old)
    (old.parents[1] / "args.yaml").touch()
    line = refused(monkeypatch, capsys, "train_sparsity.py", *words, "--overwrite")
    assert said in line
    assert [path.name for path in runs.iterdir()] == ["train-sparsity"]
    assert old.read_bytes() == good.read_bytes() and len(list(old.parents[1].iterdir())) == 2


def test_a_failure_on_another_gpu_gives_the_old_run_back(good, digits, runs, monkeypatch, capsys):
    def fails(*args, **settings):
        (runs / "train-sparsity" / "weights").mkdir(parents=True)
        raise subprocess.CalledProcessError(1, "torch.distributed.run")

    monkeypatch.setattr(YOLO, "train", fails)
    old = runs / "train-sparsity" / "weights" / "last.pt"
    old.parent.mkdir(parents=True)
    shutil.copy(good, old)
    (old.parents[1] / "args.yaml").touch()
    words = ("--weights", good, "--data", digits, "--device", "cpu", "--overwrite")
    for _ in range(2):
        line = refused(monkeypatch, capsys, "train_sparsity.py", *words)
        assert "torch.distributed.run" in line
        assert old.read_bytes() == good.read_bytes() and [path.name for path in runs.iterdir()] == ["train-sparsity"]


def test_single_layers_cannot_be_spared_by_a_cut_of_the_zeros(good, tmp_path, monkeypatch, capsys):
    network, _ = load(good)
    network.model[0].bn.weight.data[:8] = 0
    network.model[0].bn.bias.data[:8] = 0
    network.model[3].bn.weight.data[:50] = 0
    save(network, tmp_path / "zeros.pt")
    words = ("--weights", tmp_path / "zeros.pt", "--save-dir", tmp_path / "out")
    line = refused(monkeypatch, capsys, "prune.py", *words, "--ignore", "model.0")
    assert "leave out --ratio and --ignore, or name another target" in line
    assert not (tmp_path / "out").exists()
