"""A data set of some classes: made beside, once; the user's own stays as it is."""

from pathlib import Path

import pytest
import yaml

from helpers.networks import small_yolo
from helpers.task_data import write_data
from ultralytics.data.utils import check_det_dataset
from ultralytics.pruning import PruningError
from ultralytics.pruning.data import sets
from ultralytics.pruning.data.some_classes import images_with_labels, resolve_for, with_classes_of
from ultralytics.pruning.networks.keep_classes import keep_classes

BOX = "0.5 0.5 0.4 0.4"


@pytest.fixture(autouse=True)
def made(tmp_path, monkeypatch) -> Path:
    """Where data sets are made."""
    monkeypatch.setattr(sets, "DATASETS", tmp_path / "datasets")
    return tmp_path / "datasets"


@pytest.fixture
def data(tmp_path) -> Path:
    """Four images: of classes a and c, of b, without a label file, and with a class that is not there."""
    file = Path(write_data("detect", tmp_path / "own"))
    labels = file.parent / "labels"
    (labels / "0.txt").write_text(f"2 {BOX}\n0 {BOX}\n1 {BOX}\n\n")
    (labels / "1.txt").write_text(f"1 {BOX}\n")
    (labels / "2.txt").unlink()
    (labels / "3.txt").write_text(f"7 {BOX}\n0 {BOX}\n")
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "names": ["a", "b", "c"], "extra": 1}))
    return file


def state(folder: Path) -> dict:
    """All files of a folder, with what is in them."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def labels_of(file: str, split: str = "train") -> list[list[str]]:
    """The labels of each image, as the release finds them."""
    from ultralytics.data.utils import img2label_paths
    from ultralytics.pruning.data.images import images_in

    images = sorted(images_in(Path(check_det_dataset(file)[split])))
    assert all(image.is_file() for image in images)
    found = [Path(label) for label in img2label_paths([str(image) for image in images])]
    return [label.read_text().splitlines() if label.is_file() else [] for label in found]


def test_labels_follow_the_names(data, made):
    before = state(data.parent)
    file = with_classes_of(str(data), ["c", "a"])  # in the network's order
    assert state(data.parent) == before
    assert Path(file).is_relative_to(made)
    found = check_det_dataset(file)
    assert found["names"] == {0: "c", 1: "a"} and found["nc"] == 2 and found["extra"] == 1
    assert labels_of(file) == labels_of(file, "val") == [[f"0 {BOX}", f"1 {BOX}"], [], []]  # the wrong file is out

    only = images_with_labels(file)
    assert labels_of(only) == [[f"0 {BOX}", f"1 {BOX}"]] and len(labels_of(only, "val")) == 3
    assert images_with_labels(str(data)) == str(data)


def test_it_is_made_once_and_anew_after_a_change(data, made):
    first = with_classes_of(str(data), ["a"])
    times = {file: file.stat().st_mtime_ns for file in made.rglob("*")}
    assert with_classes_of(str(data), ["a"]) == first
    assert times == {file: file.stat().st_mtime_ns for file in made.rglob("*")}
    assert with_classes_of(str(data), ["b"]) != first
    (data.parent / "labels" / "1.txt").write_text(f"0 {BOX}\n0 0.3 0.3 0.1 0.1\n")
    second = with_classes_of(str(data), ["a"])
    assert second != first and Path(first).is_file() and len(labels_of(second)[1]) == 2
    assert not [file for file in made.iterdir() if file.name.startswith(".")]


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "d"], ["a", "b", "c", "d"]])
def test_other_classes_are_left_alone(names, data, made):
    assert with_classes_of(str(data), names) == str(data)
    assert not made.exists()


def test_images_of_one_name_and_lists(data, tmp_path, made):
    other = Path(write_data("detect", tmp_path / "more"))
    (tmp_path / "list.txt").write_text(str(data.parent / "images" / "0.png"))
    entries = {"train": [str(tmp_path / "list.txt"), str(other.parent / "images")], "names": ["a", "b"]}
    (tmp_path / "both.yaml").write_text(yaml.safe_dump({**entries, "val": str(other.parent / "images")}))
    (data.parent / "labels" / "0.txt").write_text(f"1 {BOX}\n")
    found = labels_of(with_classes_of(str(tmp_path / "both.yaml"), ["a"]))
    assert sorted(found) == [[], *4 * [[f"0 {BOX}"]]]


def test_no_labels_of_these_classes(data):
    (data.parent / "labels" / "0.txt").write_text(f"1 {BOX}\n")
    with pytest.raises(PruningError, match="no training image has a label of c") as error:
        with_classes_of(str(data), ["c"], labelled=True)
    assert len(str(error.value).splitlines()) == 1


def test_only_networks_that_kept_classes_get_fewer_labels(data, made):
    model = small_yolo()
    model.task, model.names = "detect", dict(enumerate(["c", "x", "a", *"1234567"]))
    smaller = keep_classes(model, ["a", "c"])[0]
    file = resolve_for(smaller, str(data), classes=2)
    assert check_det_dataset(file)["names"] == {0: "c", 1: "a"}
    assert resolve_for(smaller, str(data), classes=None) == str(data)  # all classes count as one, or are taken over
    del smaller.kept_classes
    with pytest.raises(PruningError, match="3 classes, the network has 2"):
        resolve_for(smaller, str(data), classes=2)


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_labels_of_every_task_stay_usable(task, tmp_path):
    file = Path(write_data(task, tmp_path / task))
    for label in (file.parent / "labels").iterdir():
        label.write_text(label.read_text() + "1" + label.read_text()[1:])
    entries = {**yaml.safe_load(file.read_text()), "names": ["a", "b"]}
    file.write_text(yaml.safe_dump(entries))
    made = with_classes_of(str(file), ["b"])
    sets.check_usable(made, ("train", "val"), task, {"kpt_shape": entries.get("kpt_shape")})
    rows = (file.parent / "labels" / "0.txt").read_text().splitlines()
    assert labels_of(made)[0] == rows[:1] and len(labels_of(made)) == 4
    assert check_det_dataset(made).get("flip_idx") == entries.get("flip_idx")
