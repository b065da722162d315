"""Tests of what is said about a data set before anything is trained."""

from pathlib import Path

import pytest
import yaml

from ultralytics.pruning import PruningError
from ultralytics.pruning.data.sets import resolve_data


def data_set(folder: Path, train) -> str:
    """Writes a data set whose val images are there, with `train` as it stands."""
    (folder / "val").mkdir()
    (folder / "val" / "0.png").touch()
    file = folder / "data.yaml"
    file.write_text(yaml.safe_dump({"path": str(folder), "train": train, "val": "val", "names": ["a"]}))
    return str(file)


def nested(folder: Path) -> str:
    """Images in a folder of a folder that a link leads to."""
    (folder / "elsewhere" / "deep").mkdir(parents=True)
    (folder / "elsewhere" / "deep" / "1.JPG").touch()
    (folder / "train").mkdir()
    (folder / "train" / "link").symlink_to(folder / "elsewhere")
    return "train"


def listed(folder: Path) -> str:
    """Images that a text file names, with spaces in their names."""
    (folder / "train.txt").write_text("./some images/a b.png\n")
    return "train.txt"


def in_one_of_two(folder: Path) -> list[str]:
    """Two folders, of which one is empty."""
    (folder / "none").mkdir()
    return ["none", nested(folder)]


def brackets(folder: Path) -> str:
    """A folder whose name is a pattern to a shell."""
    (folder / "train [2]").mkdir()
    (folder / "train [2]" / "1.png").touch()
    return "train [2]"


def only_labels(folder: Path) -> str:
    """A folder with files that are no images."""
    (folder / "train").mkdir()
    (folder / "train" / "1.txt").touch()
    return "train"


def empty_list(folder: Path) -> str:
    """A text file without a line."""
    (folder / "train.txt").touch()
    return "train.txt"


@pytest.mark.parametrize("layout", [nested, listed, in_one_of_two, brackets])
def test_training_images_are_found(layout, tmp_path) -> None:
    """However the release would find them."""
    resolve_data(data_set(tmp_path, layout(tmp_path)), to_train=True)


@pytest.mark.parametrize("layout", [only_labels, empty_list, lambda folder: "gone", lambda folder: None])
def test_a_data_set_without_training_images_is_refused(layout, tmp_path) -> None:
    """By one line that names the place."""
    data = data_set(tmp_path, layout(tmp_path))
    assert resolve_data(data)  # enough to measure with
    with pytest.raises(PruningError, match=r"data\.yaml: no training images in .*(train|gone|it)"):
        resolve_data(data, to_train=True)


def test_classifiers(tmp_path) -> None:
    """Whose data set is a folder with a folder of images for each class."""
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "1.png").touch()
    assert resolve_data(str(tmp_path), to_train=True, task="classify") == str(tmp_path)
    (tmp_path / "train" / "a" / "1.png").unlink()
    with pytest.raises(PruningError, match=r"--data .*train.* no training images found"):
        resolve_data(str(tmp_path), to_train=True, task="classify")
