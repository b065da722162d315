"""Model yamls, label caches and data yamls that would run code: none of it runs, unless the user trusts it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from helpers.hostile import EXEC, TINY, TRUST, Payload, raw, reading
from helpers.scripts import refused
from ultralytics.data.utils import check_det_dataset, load_dataset_cache_file
from ultralytics.nn import tasks
from ultralytics.pruning import PruningError

pytestmark = pytest.mark.usefixtures("untrusted")


def evil_activation(marker: Path) -> str:
    return f"__import__('os').makedirs({str(marker)!r})"


@pytest.mark.parametrize("script", ["prune.py", "train-normal.py"])
@pytest.mark.parametrize("kind", ["activation", "call in an argument", "lambda", "function in a row"])
def test_a_model_yaml_runs_nothing(kind, script, digits, tmp_path, runs, marker, monkeypatch, capsys):
    content = {**TINY, "backbone": [[*row] for row in TINY["backbone"]]}
    made = evil_activation(marker)
    if kind == "function in a row":
        content["backbone"][0] = [-1, 1, "check_requirements", [str(marker)]]
    else:
        content["activation"] = {
            "activation": made,
            "call in an argument": f"nn.LeakyReLU({made})",
            "lambda": f"(lambda: {made})()",
        }[kind]
    file = tmp_path / "evil.yaml"
    file.write_text(yaml.safe_dump(content))
    line = refused(monkeypatch, capsys, script, *reading(script, file, digits, tmp_path))
    assert not marker.exists()
    assert ("check_requirements" if kind == "function in a row" else "activation") in line
    assert "--trust" in line
    assert not runs.exists()


@pytest.mark.parametrize("script", ["prune.py", "finetune.py", "val.py"])
def test_the_yaml_inside_a_checkpoint_runs_nothing(script, good, digits, tmp_path, runs, marker, monkeypatch, capsys):
    content = raw(good)
    content["model"].yaml["activation"] = evil_activation(marker)
    torch.save(content, tmp_path / "evil.pt")
    line = refused(monkeypatch, capsys, script, *reading(script, tmp_path / "evil.pt", digits, tmp_path))
    assert "activation" in line and "evil.pt" in line
    assert not marker.exists()


def test_activations_with_plain_arguments_are_built(monkeypatch):
    from ultralytics.nn.modules import Conv

    monkeypatch.setattr(tasks, "MyTanh", type("MyTanh", (nn.Tanh,), {}), raising=False)
    for text, kind in (
        ("nn.LeakyReLU(0.2)", nn.LeakyReLU),
        ("torch.nn.ReLU(inplace=True)", nn.ReLU),
        ("MyTanh()", nn.Tanh),
    ):
        model = tasks.DetectionModel({**TINY, "activation": text}, verbose=False)
        assert isinstance(model.model[0].act, kind)
    assert isinstance(Conv.default_act, nn.SiLU)


def test_trust_lets_a_model_yaml_compute(monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    model = tasks.DetectionModel({**TINY, "activation": "[nn.ReLU()][0]"}, verbose=False)
    assert isinstance(model.model[0].act, nn.ReLU)


@pytest.fixture
def data(digits, tmp_path) -> Path:
    """A copy of the digits, so that a test may write beside them."""
    folder = Path(shutil.copytree(digits.parent, tmp_path / "data"))
    content = yaml.safe_load((folder / digits.name).read_text())
    content["path"] = str(folder)
    (folder / digits.name).write_text(yaml.safe_dump(content))
    for cache in folder.rglob("*.cache"):
        cache.unlink()
    return folder / digits.name


def scan(data: Path):
    """The training images as the release reads them."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset

    args = get_cfg(overrides={"imgsz": 64, "task": "detect"})
    found = check_det_dataset(str(data))
    return build_yolo_dataset(args, found["train"], 4, found, mode="val")


def test_a_label_cache_runs_nothing_and_is_written_anew(data, marker, monkeypatch, capsys):
    expected = [label["cls"].tolist() for label in scan(data).labels]
    (cache,) = data.parent.rglob("*.cache")
    plain = load_dataset_cache_file(cache)
    assert plain["labels"][0]["cls"].dtype == np.float32
    np.save(cache.with_suffix(".npy"), {**plain, "note": Payload(marker)}, allow_pickle=True)
    cache.with_suffix(".npy").replace(cache)
    with pytest.raises(PruningError, match=EXEC):
        load_dataset_cache_file(cache)
    assert [label["cls"].tolist() for label in scan(data).labels] == expected
    assert not marker.exists()
    assert load_dataset_cache_file(cache).keys() == plain.keys()  # written anew


def test_a_trusted_label_cache_is_unpickled(data, marker, monkeypatch):
    np.save(data.parent / "labels.npy", {"note": Payload(marker)}, allow_pickle=True)
    monkeypatch.setenv(TRUST, "1")
    load_dataset_cache_file(data.parent / "labels.npy")
    assert marker.is_dir()


def test_a_label_cache_says_what_the_release_reads(data):
    scan(data)
    (cache,) = data.parent.rglob("*.cache")
    ours, release = load_dataset_cache_file(cache), np.load(cache, allow_pickle=True).item()
    assert ours.keys() == release.keys() and ours["hash"] == release["hash"]
    for one, other in zip(ours["labels"], release["labels"], strict=True):
        assert one["im_file"] == other["im_file"]
        assert np.array_equal(one["bboxes"], other["bboxes"])


def without_images(data: Path, download: str) -> Path:
    content = yaml.safe_load(data.read_text())
    file = data.with_name("gone.yaml")
    file.write_text(yaml.safe_dump({**content, "val": "nowhere", "train": "nowhere", "download": download}))
    return file


@pytest.mark.parametrize(
    ("script", "kind"),
    [("finetune.py", "python"), ("val.py", "bash"), ("prune.py", "python"), ("compress.py", "bash")],
)
def test_download_lines_are_not_run(script, kind, good, data, tmp_path, runs, marker, monkeypatch, capsys):
    code = f"import os\nos.makedirs({str(marker)!r})" if kind == "python" else f"bash -c mkdir${{IFS}}{marker}"
    file = without_images(data, code)
    words = reading(script, good, file, tmp_path)
    if script == "prune.py":
        words = (*words, "--data", file, "--val", "--prune-ratio", 0.3)
    line = refused(monkeypatch, capsys, script, *words)
    assert not marker.exists()
    assert "nowhere" in line and "--trust" in line and "download" in line
    assert not runs.exists()


def test_a_trusted_download_is_run(data, marker, monkeypatch):
    file = without_images(data, f"import os\nos.makedirs({str(marker)!r})")
    with pytest.raises(PruningError, match="download"):
        check_det_dataset(str(file))
    assert not marker.exists()
    monkeypatch.setenv(TRUST, "1")
    check_det_dataset(str(file))
    assert marker.is_dir()


def test_the_yamls_of_the_release_are_trusted_where_they_lie(tmp_path, monkeypatch):
    from ultralytics.data import utils
    from ultralytics.pruning.data import downloads

    asked = []

    def release(dataset, autodownload, split):
        asked.append(autodownload)

    monkeypatch.chdir(tmp_path)
    for name in ("coco8", "coco8.yaml", "digits-nowhere.yaml"):
        downloads.check_images(release, name)
    shutil.copy(Path(utils.__dict__["ROOT"]) / "cfg" / "datasets" / "coco8.yaml", tmp_path / "coco8.yaml")
    downloads.check_images(release, "coco8.yaml")  # a file of this name that lies here
    assert asked == [True, True, False, False]
