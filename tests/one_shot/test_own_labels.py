"""Images without labels: what the network itself finds in them is kept as a data set, and every stage takes it."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from helpers.scripts import refused, run
from helpers.seeing import HEADS, write_seeing
from ultralytics import YOLO
from ultralytics.pruning import PruningError
from ultralytics.pruning.accuracy import accuracies
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.data import sets, unlabelled
from ultralytics.pruning.one_shot import own_labels as labelling
from ultralytics.pruning.one_shot.own_labels import OwnLabels, label_images, own_labels
from ultralytics.pruning.passes.labelling import canvas, clipped, keypoints
from ultralytics.pruning.passes.validating import validate
from ultralytics.pruning.release import quiet_release

SIDE, CONFIDENCE = 128, 0.5
ODD_NAMES = ("a b", 'it\'s "quoted"', "in\ntwo lines", "[ab]*", "übung", "plain", "one", "two")


def write_picture(file: Path, seed: int, wide: bool = False) -> None:
    """Writes an image of soft blobs."""
    noise = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    size = (192, 128) if wide else (128, 192)
    file.write_bytes(cv2.imencode(file.suffix, cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC))[1].tobytes())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of eight images with odd names, one of them in a folder below, and two files that cannot be read."""
    folder = tmp_path_factory.mktemp("user") / "my pictures"
    (folder / "below").mkdir(parents=True)
    for seed, name in enumerate(ODD_NAMES):
        write_picture((folder / "below" if seed == 3 else folder) / f"{name}.png", seed, wide=seed % 2 == 1)
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    (folder / "notes.txt").write_text("nothing")
    return folder


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """Gives, for a task, a checkpoint that finds something in any image."""
    folder, known = tmp_path_factory.mktemp("seeing"), {}
    return lambda task: known.setdefault(task, write_seeing(task, folder / f"{task}.pt"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where data sets are kept."""
    return tmp_path_factory.mktemp("kept")


def label(source: Path, weights: Path, folder: Path, **how) -> tuple[Path, OwnLabels]:
    file = label_images(source, weights, **{"confidence": CONFIDENCE, "imgsz": SIDE, "folder": folder, **how})
    return file, own_labels(file)


def states(folder: Path) -> list[tuple]:
    found = ((file, file.lstat()) for file in sorted(folder.rglob("*")))
    return [(file, state.st_ino, state.st_size, state.st_mtime_ns) for file, state in found]


def measured(weights: Path, data: Path, folder: Path, task: str, **settings) -> dict:
    run = {"project": str(folder), "name": "val", "exist_ok": True, "plots": False, "workers": 0, "device": "cpu"}
    with quiet_release():
        metrics, _, _ = validate(weights, {"data": str(data), "imgsz": SIDE, "batch": 1, **run, **settings})
    return metrics.results_dict | accuracies(metrics.results_dict, task)


@pytest.mark.parametrize("task", HEADS)
def test_the_network_agrees_with_its_own_labels(task, pictures, seeing, kept, tmp_path) -> None:
    before = states(pictures)
    file, labels = label(pictures, seeing(task), kept)
    assert (labels.images, labels.left_out, labels.confidence) == (8, 2, CONFIDENCE)
    assert labels.train > labels.val > 0
    found = measured(seeing(task), file, tmp_path, task, overlap_mask=False)  # its objects are tiny and touch
    assert found["metrics/mAP50(B)"] > 0.8 and found["map50"] > 0.6  # boxes that reach over the border are cut
    assert states(pictures) == before


@pytest.mark.parametrize("task", HEADS)
def test_labels_lie_where_the_network_finds_something(task, pictures, seeing, kept) -> None:
    file, labels = label(pictures, seeing(task), kept)
    rows = 0
    for text in sorted(file.parent.glob("labels/*/*.txt")):
        values = [np.array(row.split(), dtype=float) for row in text.read_text().splitlines()]
        rows += len(values)
        assert all((value[1:5] >= 0).all() and (value[1:5] <= 1).all() for value in values)
        assert text.parent.name in ("train", "val")
        assert len(list((file.parent / "images" / text.parent.name).glob(f"{text.stem}.*"))) == 1
    assert rows == labels.objects

    image = next(file.parent.glob("images/val/*.png"))
    pixels = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_COLOR)
    shown = canvas(pixels, SIDE, 32)
    found = YOLO(seeing(task)).predict(shown.pixels, imgsz=list(shown.pixels.shape[:2]), conf=CONFIDENCE, verbose=False)
    boxes = (found[0].obb if task == "obb" else found[0].boxes).xyxy.numpy().reshape(-1, 2, 2)
    centres = shown.shares(boxes).clip(0, 1).mean(1)
    lines = (file.parent / "labels" / "val" / f"{image.stem}.txt").read_text().splitlines()
    written = [np.array(line.split()[1:], dtype=float) for line in lines]
    if task in ("segment", "obb"):
        places = [(points := row.reshape(-1, 2)).min(0) / 2 + points.max(0) / 2 for row in written]
    else:
        places = [row[:2] for row in written]
    assert len(places) == len(centres)
    np.testing.assert_allclose(places, centres, atol=0.15 if task == "segment" else 0.05)  # a mask fills a part of it


def test_a_real_network_agrees_with_itself(tau, tmp_path) -> None:
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    pixels = np.asarray(Image.open(tau.parents[1] / "sample" / "sample.tif").crop((640, 0, 1600, 640)))
    pixels = (pixels / 65535 * 255).astype(np.uint8)
    (tmp_path / "tiles").mkdir()
    for number, x in enumerate([0, 320]):
        cv2.imwrite(str(tmp_path / "tiles" / f"{number}.png"), pixels[:, x : x + 640])
    file, labels = label(tmp_path / "tiles", tau, tmp_path / "kept", confidence=0.25, imgsz=640)
    assert labels.val > 5 and yaml.safe_load(file.read_text())["names"] == {0: "tau-fibrils"}
    assert measured(tau, file, tmp_path, "obb", imgsz=640)["map50_95"] > 0.97


def test_a_data_set_is_made_once(pictures, seeing, tmp_path, monkeypatch) -> None:
    weights = seeing("detect")
    first, _ = label(pictures, weights, tmp_path)
    others = [label(pictures, weights, tmp_path, **how)[0] for how in ({"confidence": 0.6}, {"imgsz": 64})]
    others.append(label(pictures, seeing("obb"), tmp_path)[0])
    assert len({first, *others}) == 4
    monkeypatch.setattr(labelling, "labels_by", lambda *what, **how: pytest.fail("it was made again"))
    assert label(pictures, weights, tmp_path)[0] == first
    assert sorted(tmp_path.iterdir()) == sorted(file.parent for file in (first, *others))


def test_another_image_makes_another_data_set(seeing, tmp_path) -> None:
    source = tmp_path / "images"
    source.mkdir()
    for seed in range(3):
        write_picture(source / f"{seed}.png", seed)
    first, labels = label(source, seeing("detect"), tmp_path / "kept")
    write_picture(source / "3.png", 3)
    second, more = label(source, seeing("detect"), tmp_path / "kept")
    assert (labels.images, more.images) == (3, 4) and first != second


@pytest.mark.parametrize("ends", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_is_interrupted_leaves_nothing(ends, pictures, seeing, tmp_path, monkeypatch) -> None:
    def ending(*what, **how):
        raise ends

    with monkeypatch.context() as patched:
        patched.setattr(unlabelled, "_put", ending)
        with pytest.raises((KeyboardInterrupt, PruningError)):
            label(pictures, seeing("detect"), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert label(pictures, seeing("detect"), tmp_path)[0].is_file()


def test_nothing_is_written_to_a_file_of_the_user(seeing, tmp_path) -> None:
    """The release repairs, in place, a JPEG that goes on behind its end: such a one is copied, all others are links."""
    source = tmp_path / "images"
    source.mkdir()
    for seed in range(4):
        write_picture(source / f"{seed}.jpg", seed)
    longer = source / "3.jpg"
    longer.write_bytes(longer.read_bytes() + bytes(9))
    (source / "4.jpg").write_bytes(longer.read_bytes()[:-99])  # which it cannot repair
    before = {file: file.read_bytes() for file in source.iterdir()}
    file, _ = label(source, seeing("detect"), tmp_path / "kept")
    measured(seeing("detect"), file, tmp_path, "detect")
    assert {file: file.read_bytes() for file in source.iterdir()} == before
    assert own_labels(file).left_out == 1
    links = {image.name[-5]: image.is_symlink() for image in file.parent.glob("images/*/*.jpg")}
    assert links == {"0": True, "1": True, "2": True, "3": False}


def test_a_video_is_labelled(seeing, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(unlabelled.frames_of, "__defaults__", (8,))
    video = tmp_path / "a video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (192, 128))
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    frame = cv2.resize(noise, (192, 128), interpolation=cv2.INTER_CUBIC)
    for shift in range(40):
        writer.write(np.roll(frame, shift, axis=1))
    writer.release()
    file, labels = label(video, seeing("detect"), tmp_path / "kept")
    assert labels.images == 8 and labels.train > 0
    assert len(list(file.parent.glob("images/train/*.jpg"))) == 6
    assert sorted(entry.name for entry in file.parent.iterdir()) == ["data.yaml", "images", "labels"]
    numbers = [int(image.stem[-8:]) for image in sorted(file.parent.glob("images/*/*.jpg"), key=lambda i: i.name)]
    assert numbers == [2, 7, 12, 17, 22, 27, 32, 37]


def test_splits() -> None:
    assert unlabelled.splits(2) == ["train", "val"]
    assert unlabelled.splits(3) == ["train", "train", "val"]
    assert [number for number, split in enumerate(unlabelled.splits(10)) if split == "val"] == [3, 7]
    assert unlabelled.splits(9, in_a_row=True) == ["train"] * 7 + ["val"] * 2


def test_a_rectangle_is_cut_at_the_border() -> None:
    diamond = np.array([[0.5, -0.25], [1.0, 0.25], [0.5, 0.75], [0.0, 0.25]])
    part = clipped(diamond)
    assert part.min() >= 0 and part.max() <= 1
    area = abs(np.dot(part[:, 0], np.roll(part[:, 1], 1)) - np.dot(part[:, 1], np.roll(part[:, 0], 1))) / 2
    assert area == pytest.approx(0.5 - 0.0625)
    np.testing.assert_array_equal(clipped(diamond / 2 + 0.25), diamond / 2 + 0.25)
    assert len(clipped(diamond + 5)) == 0


def test_keypoints_count_where_they_are_seen() -> None:
    shown = canvas(np.zeros((64, 64, 3), np.uint8), 64, 32)
    points = np.array([[16.0, 16.0], [48, 80], [200, 16], [32, 32]]) + shown.offset
    found = keypoints(shown, np.c_[points, [0.9, 0.9, 0.9, 0.1]])
    np.testing.assert_allclose(found, [[0.25, 0.25, 2], [0, 0, 0], [0, 0, 0], [0, 0, 0]])
    unseen = keypoints(shown, np.c_[points, [0.1] * 4])
    np.testing.assert_allclose(unseen, [[0.25, 0.25, 2], [0, 0, 0], [0, 0, 0], [0.5, 0.5, 2]])
    assert keypoints(shown, points).shape == (4, 2)


def test_a_wrong_folder_is_one_line(pictures, seeing, digits, small, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")
    monkeypatch.setattr(sets, "DATASETS", tmp_path / "kept")
    (tmp_path / "empty").mkdir()
    (tmp_path / "one").mkdir()
    write_picture(tmp_path / "one" / "1.png", 1)
    (tmp_path / "no.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "some.mp4").touch()

    def said(data: Path, *words: object, weights: Path | None = None) -> str:
        how = ("--speed-up", 1.3, "--no-onnx", "--save-dir", tmp_path / "out")
        return refused(
            monkeypatch, capsys, "prune.py", "--weights", weights or seeing("detect"), "--data", data, *how, *words
        )

    assert "no images" in said(tmp_path / "empty")
    assert str(tmp_path / "videos" / "some.mp4") in said(tmp_path / "videos")
    assert "at least 2" in said(tmp_path / "one")
    assert "no frame" in said(tmp_path / "no.mp4")
    assert str(digits) in said(digits.parent)
    assert "yaml" in said(pictures, weights=small)
    assert "--confidence" in said(digits, "--confidence", 0.5)
    assert "is not a number" in said(pictures, "--confidence", 1)
    finds = said(pictures, "--confidence", 0.9999, "--criterion", "group_taylor")
    assert "finds nothing" in finds and "--confidence" in finds
    assert not (tmp_path / "out" / "pruned.pt").exists()


def test_labels_beside_the_images_are_told_of(pictures, seeing, tmp_path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    write_picture(tmp_path / "images" / "1.png", 1)
    found = unlabelled.find_pictures(tmp_path / "images")
    assert unlabelled.unused_labels(found) is None
    (tmp_path / "labels" / "1.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "my.yaml").write_text("train: images\nval: images\nnames: [a]\n")
    assert str(tmp_path / "my.yaml") in unlabelled.unused_labels(found)


@pytest.fixture
def stage(tmp_path, runs, monkeypatch, capsys):
    """Runs a script on the CPU, to its end; what it makes lies in a temporary folder."""
    monkeypatch.setattr(entry, "choose_device", lambda wanted: "cpu")
    monkeypatch.setattr(sets, "DATASETS", tmp_path / "kept")

    def to_its_end(script: str, *words: object) -> None:
        code, said = run(monkeypatch, capsys, script, *words)
        assert code == 0, said

    return to_its_end


TRAINING = ("--imgsz", 64, "--batch", 4, "plots=False", "workers=0", "optimizer=SGD")


def test_compress_py_takes_a_folder(pictures, seeing, stage, runs, tmp_path) -> None:
    words = ("--weights", seeing("detect"), "--data", pictures, "--speed-up", 1.2, "--round-to", 1, "--epochs", 1)
    stage("compress.py", *words, "--scheme", "stepwise", "--steps", 1, "--epochs-per-step", 1, *TRAINING)
    assert (runs / "compress" / "compressed.pt").is_file()
    (made,) = (tmp_path / "kept").iterdir()
    assert json.loads((runs / "compress" / "state.json").read_text())["recipe"]["data"] == str(made / "data.yaml")
    before = states(made)
    stage("compress.py", *words, "--scheme", "stepwise", "--steps", 1, "--epochs-per-step", 1, *TRAINING)
    assert states(made) == before and list((tmp_path / "kept").iterdir()) == [made]


def test_the_original_labels_for_a_pruned_network(pictures, seeing, stage, runs, tmp_path) -> None:
    start = Path(shutil.copy(seeing("detect"), tmp_path / "start.pt"))
    where = ("--save-dir", tmp_path / "out", "--no-onnx", "--imgsz", 64)
    stage("prune.py", "--weights", start, "--criterion", "lamp", "--speed-up", 1.2, "--round-to", 1, *where)
    again = ("--weights", tmp_path / "out" / "pruned.pt", "--data", pictures, "--epochs", 1, *TRAINING)
    stage("finetune.py", *again)
    assert [own_labels(made / "data.yaml").network for made in (tmp_path / "kept").iterdir()] == ["start.pt"]
    start.unlink()
    stage("finetune.py", *again, "--name", "other")
    found = {own_labels(made / "data.yaml").network for made in (tmp_path / "kept").iterdir()}
    assert found == {"start.pt", "pruned.pt"}
    stage("val.py", runs / "finetune" / "weights" / "best.pt", "--data", made_by("start.pt", tmp_path), "--imgsz", 64)


def made_by(network: str, folder: Path) -> Path:
    """The yaml of the data set that a network has labelled."""
    files = (folder / "kept").glob("*/data.yaml")
    return next(file for file in files if own_labels(file).network == network)


def test_train_sparsity_py_takes_a_folder(pictures, seeing, stage, runs) -> None:
    stage("train_sparsity.py", "--weights", seeing("detect"), "--data", pictures, "--epochs", 1, *TRAINING)
    assert (runs / "train-sparsity" / "weights" / "last.pt").is_file()


def test_prune_py_takes_a_folder(pictures, seeing, stage, tmp_path) -> None:
    words = ("--weights", seeing("detect"), "--data", pictures, "--confidence", CONFIDENCE, "--imgsz", SIDE)
    words += ("--speed-up", 1.3, "--round-to", 1, "--no-onnx", "--save-dir", tmp_path / "out", "--val", "plots=False")
    words += ("--batches", 2, "batch=4")
    stage("prune.py", *words)
    settings = json.loads((tmp_path / "out" / "pruned.json").read_text())["settings"]
    assert (settings["criterion"], settings["rounds"]) == ("group_fisher", 4) and settings["refit"] > 0
    assert len(os.listdir(tmp_path / "kept")) == 1
