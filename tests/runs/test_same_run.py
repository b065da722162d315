"""What a run that goes on may be told: nothing that contradicts how it was started."""

from argparse import Namespace

import pytest

from ultralytics.pruning import PruningError, load
from ultralytics.pruning.runs.same import check_same, check_same_data, check_same_weights

EARLIER = {"epochs": 3, "imgsz": 64, "batch": 4, "lr0": 0.01, "ratios": [1, 2]}


def options(*said, **known) -> Namespace:
    return Namespace(**{"data": None, "settings": {}, **known}, said=frozenset(said))


@pytest.mark.parametrize(
    "asked",
    [
        options("epochs", epochs=3),
        options("batch", batch=8),  # the release may have made it smaller
        options(epochs=9),  # a default, which nobody said
        options(settings={"lr0": 0.01, "workers": 0, "optimizer": "SGD", "cos_lr": True}),
        options(settings={"ratios": (1, 2)}),
        options(settings={"data": "mine.yaml"}),  # compared by what it names
    ],
)
def test_what_agrees_goes_on(asked) -> None:
    check_same(asked, EARLIER, ("epochs", "imgsz"))


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (options("epochs", epochs=9), "epochs=9"),
        (options("imgsz", imgsz=96), "imgsz=96"),
        (options(settings={"lr0": 0.1}), "lr0=0.1"),
        (options("threads", threads=2), "--threads"),
    ],
)
def test_what_contradicts_is_refused(asked, word) -> None:
    with pytest.raises(PruningError, match=word):
        check_same(asked, EARLIER, ("epochs", "imgsz"))


def test_the_data_set_is_compared_by_what_it_names(small_weights, digits, tmp_path, monkeypatch) -> None:
    network, earlier = load(small_weights)[0], {"data": str(digits)}
    other = tmp_path / "other.yaml"
    other.write_text(digits.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(digits.parent)
    for same in (options(), options("data", data=str(digits)), options("data", data=digits.name)):
        check_same_data(same, network, earlier, tmp_path)
    check_same_data(options(data=str(other)), network, earlier, tmp_path)  # nobody said it
    for another in (options("data", data=str(other)), options(settings={"data": str(other)})):
        with pytest.raises(PruningError, match=r"data=.*other.yaml"):
            check_same_data(another, network, earlier, tmp_path)
    with pytest.raises(PruningError, match="gone"):
        check_same_data(options("data", data="gone.yaml"), network, earlier, tmp_path)


def test_images_without_labels_are_those_of_the_run(small_weights, digits, tmp_path) -> None:
    """The set that was made of them has another path."""
    photos = tmp_path / "photos"
    photos.mkdir()
    image = next((digits.parent / "images" / "val").glob("*.*"))
    (photos / image.name).write_bytes(image.read_bytes())
    check_same_data(options("data", data=str(photos)), load(small_weights)[0], {"data": str(digits)}, tmp_path)


@pytest.mark.parametrize("known", ["yolov8n.yaml", "{folder}/first/best.pt", "{folder}/run/weights/last.pt", None])
def test_the_same_network_or_none(known, tmp_path) -> None:
    """A run that went on before names its own checkpoint: what it started from is not known any more."""
    earlier = {"model": known and known.format(folder=tmp_path)}
    same = {"yolov8n.yaml": "yolov8n.yaml", None: "any.pt"}.get(known, str(tmp_path / "first" / "best.pt"))
    for asked in (options("weights", weights=same), options(weights="other.pt")):
        check_same_weights(asked, earlier, tmp_path / "run")


@pytest.mark.parametrize("known", ["yolov8n.yaml", "first/best.pt"])
def test_another_network_is_refused(known, tmp_path) -> None:
    with pytest.raises(PruningError, match=rf"weights=other.pt.*{known}"):
        check_same_weights(options("weights", weights="other.pt"), {"model": known}, tmp_path / "run")
