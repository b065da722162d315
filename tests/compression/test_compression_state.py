"""What a compression has done is known by what it was computed from: behind a lost file, all is done anew."""

import csv
import json
from pathlib import Path
from typing import ClassVar

import pytest

from ultralytics.pruning.compression import jobs, work
from ultralytics.pruning.compression.recipe import Recipe
from ultralytics.pruning.compression.run import Compression
from ultralytics.pruning.compression.state import State
from ultralytics.pruning.latency import Runtime
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.selection.targets import Target


def recipe(weights: Path) -> Recipe:
    own = {"scheme": "stepwise", "steps": 2, "epochs_per_step": 1, "training": {"imgsz": 64, "batch": 8}}
    return Recipe(str(weights), "0", Images("d.yaml"), Target("speed_up", 2.0), **own)


class Works:
    """Stands in for measuring, cutting and training: files that say what they were made from."""

    def __init__(self, monkeypatch) -> None:
        self.done: list[str] = []
        self.cuts = 0
        for name in ("measured_accuracy", "size", "train", "cut_checkpoint"):
            monkeypatch.setattr(work, name, getattr(self, name))
        monkeypatch.setattr(work, "widths", lambda file: {})
        monkeypatch.setattr(jobs, "draw_steps", lambda *_: None)

    def measured_accuracy(self, file, recipe, folder) -> float:
        self.done.append(f"accuracy {file.stem if file.parent.name != 'weights' else file.parent.parent.name}")
        return 0.5

    def size(self, file, recipe) -> tuple[int, int]:
        return 100, 1000

    def cut_checkpoint(self, start, target, file, recipe, limits):
        self.cuts += 1
        self.done.append(f"cut {file.stem}")
        file.write_text(f"cut {self.cuts} of {start.read_text()}")
        size = {"step-1": 800, "step-2": 500}[file.stem]

        class Result:
            class plan:
                after = type("Cost", (), {"params": size, "macs": size})
                settings: ClassVar[dict] = {}
                limits = ()
                findings = ()

        return Result

    def train(self, name, start, settings, recipe, folder) -> Path:
        last = folder / name / "weights" / "last.pt"
        if last.is_file():  # as the real one takes a finished training
            return last
        self.done.append(f"train {name}")
        last.parent.mkdir(parents=True)
        for file in (last, last.with_name("best.pt")):
            file.write_text(f"trained from {start.read_text()}")
        return last


@pytest.fixture
def works(monkeypatch) -> Works:
    return Works(monkeypatch)


@pytest.fixture
def weights(tmp_path) -> Path:
    file = tmp_path / "net.pt"
    file.write_text("net")
    return file


ALL = ["accuracy net"]
ALL += [f"{work} step-{step}" for step in (1, 2) for work in ("cut", "accuracy", "train", "accuracy")]
ALL += ["train fine-tuned", "accuracy fine-tuned"]


def compress(weights: Path, folder: Path) -> str:
    """Compresses, or goes on; returns what the result was made from."""
    folder.mkdir(exist_ok=True)
    assert Compression(recipe(weights), folder).run() is not None
    return (folder / "compressed.pt").read_text()


def test_nothing_is_done_twice(works, weights, tmp_path):
    first = compress(weights, tmp_path / "run")
    assert works.done == ALL
    assert first == "trained from trained from cut 2 of trained from cut 1 of net"
    works.done.clear()
    assert compress(weights, tmp_path / "run") == first and works.done == []


def test_the_result_is_timed_once_on_each_runtime(works, weights, tmp_path, monkeypatch):
    """Its milliseconds stand in the table beside the original's, also when another process ends the compression."""
    timed = []
    monkeypatch.setattr(work, "milliseconds", lambda *where: timed.append(where[-1]) or (10.0, 8.0, 0.25))
    monkeypatch.setattr(work, "speed", lambda *found: found)
    asked = recipe(weights)
    for runtime in (Runtime("torch"), Runtime("torch"), Runtime("torch", threads=2)):
        (tmp_path / "run").mkdir(exist_ok=True)
        compression = Compression(asked, tmp_path / "run")
        compression.run()
        _, result, promised, imgsz, *rest = compression.speed(runtime)
        assert result == tmp_path / "run" / "compressed.pt" and imgsz == asked.training["imgsz"]
        assert promised == compression.original.macs / compression.steps[-1].macs > 1
        assert [runtime, (10.0, 8.0, 0.25)] == rest
    assert timed == [Runtime("torch"), Runtime("torch", threads=2)]
    with (tmp_path / "run" / "compress.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["ms"] for row in rows] == ["10.0", *[""] * (len(rows) - 2), "8.0"] and rows[-1]["kept"] == "yes"


def lose(file: Path) -> None:
    file.unlink()


def change(file: Path) -> None:
    file.write_text("another")


@pytest.mark.parametrize("harm", [lose, change])
@pytest.mark.parametrize(
    ("file", "again"),
    [
        ("step-1.pt", ALL[1:]),
        ("step-1/weights/last.pt", ["train step-1"]),  # gives the same bytes here: what follows it still holds
        ("step-2.pt", ALL[5:]),
        ("step-2/weights/last.pt", ["train step-2"]),
        ("fine-tuned/weights/best.pt", ["train fine-tuned"]),
    ],
)
def test_what_was_computed_from_a_lost_file_goes_anew(file, again, harm, works, weights, tmp_path):
    folder = tmp_path / "run"
    compress(weights, folder)
    works.done.clear()
    harm(folder / file)
    result = compress(weights, folder)
    assert works.done == again
    first, second = ((folder / f"step-{step}.pt").read_text() for step in (1, 2))
    trained = [(folder / f"step-{step}" / "weights" / "last.pt").read_text() for step in (1, 2)]
    assert trained == [f"trained from {first}", f"trained from {second}"]  # each is of what lies before it now
    assert second.endswith(f"of {trained[0]}") and result == f"trained from {trained[1]}"


def interrupt_first_training(works: Works, weights: Path, folder: Path, monkeypatch) -> None:
    """Compresses until the first training is done, of which the state does not know yet."""
    whole = works.train

    def killed(name, start, settings, recipe, folder):
        whole(name, start, settings, recipe, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        compress(weights, folder)
    works.done.clear()
    monkeypatch.setattr(work, "train", whole)


def test_an_interrupted_training_is_not_paired_with_another_cut(works, weights, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    interrupt_first_training(works, weights, folder, monkeypatch)
    (folder / "step-1.pt").unlink()
    compress(weights, folder)
    assert "train step-1" in works.done  # what was there is of the lost cut
    assert (folder / "step-1" / "weights" / "last.pt").read_text() == "trained from cut 2 of net"


def test_an_interrupted_training_goes_on_where_its_cut_is_the_same(works, weights, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    interrupt_first_training(works, weights, folder, monkeypatch)
    compress(weights, folder)
    assert "train step-1" not in works.done and "cut step-1" not in works.done


def test_works_that_name_no_inputs_go_anew_behind_a_lost_one(weights, tmp_path):
    """As all of an earlier version, which knew of products only."""
    state, product, done = State(tmp_path, recipe(weights)), tmp_path / "cut.pt", []

    def work(name: str):
        done.append(name)
        if name == "b":
            product.write_text(f"{len(done)}")

    def all_of_it(state: State) -> None:
        state.once("a", lambda: work("a"))
        state.once("b", lambda: work("b"), product)
        state.once("c", lambda: work("c"), discard=lambda: done.append("discard"))

    all_of_it(state)
    all_of_it(State(tmp_path, recipe(weights)))
    assert done == ["a", "b", "c"]
    content = json.loads((tmp_path / "state.json").read_text())
    for entry in content["done"].values():
        entry.pop("inputs"), entry.pop("product")
    (tmp_path / "state.json").write_text(json.dumps(content))
    all_of_it(State(tmp_path, recipe(weights)))
    assert done == ["a", "b", "c"]
    product.unlink()
    all_of_it(State(tmp_path, recipe(weights)))
    assert done == ["a", "b", "c", "b", "discard", "c"]
