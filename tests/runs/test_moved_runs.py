"""A run is where it lies: moved, renamed or copied, it goes on there, and nothing is written to where it was."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from helpers.repository import FADED_WEIGHTS
from ultralytics import YOLO
from ultralytics.data.digits import Recipe, build
from ultralytics.pruning import PruningError, load
from ultralytics.pruning.checkpoints.checkpoint import is_finished, sha256
from ultralytics.pruning.compression.recipe import Recipe as Wanted
from ultralytics.pruning.compression.state import State
from ultralytics.pruning.data.sets import data_set_digest
from ultralytics.pruning.files import places
from ultralytics.pruning.latency import Latency
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.runs.moved import relocated, run_folder_of
from ultralytics.pruning.selection.targets import Target


@pytest.fixture(scope="module")
def interrupted(quick, tmp_path_factory) -> Path:
    """A tree with a data set and a run of two epochs that was stopped after the first."""
    root = tmp_path_factory.mktemp("before")
    data = build(root / "datasets" / "digits", Recipe(train=16, val=8))

    def stop(trainer):
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    model = YOLO(FADED_WEIGHTS)
    model.add_callback("on_train_batch_end", stop)
    settings = {**quick, "data": str(data), "epochs": 2, "finetune": True, "distill_model": None}
    with pytest.raises(KeyboardInterrupt):
        model.train(project=str(root / "runs"), name="run", **settings)
    assert load(root / "runs" / "run" / "weights" / "last.pt")[1]["epoch"] == 0
    return root


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in folder.rglob("*") if file.is_file()}


def check_finished(run: Path) -> None:
    """The run has gone on in its folder, from its exact state."""
    assert is_finished(load(run / "weights" / "last.pt")[1])
    assert len((run / "results.csv").read_text().splitlines()) == 3
    assert yaml.safe_load((run / "args.yaml").read_text())["save_dir"] == str(run)
    assert sorted(file.name for file in (run / "weights").iterdir()) == ["best.pt", "last.pt"]


def test_a_copied_run_goes_on_in_its_copy(interrupted, tmp_path):
    run = tmp_path / "other name"
    shutil.copytree(interrupted / "runs" / "run", run)
    before = contents(interrupted)
    model = YOLO(run / "weights" / "last.pt")
    model.train(resume=True)
    check_finished(run)
    assert Path(model.overrides["model"]) == run / "weights" / "best.pt"  # what is reported is of this folder
    assert contents(interrupted) == before | {
        name: text for name, text in contents(interrupted).items() if name.endswith(".cache")
    }


def test_a_tree_that_was_moved_with_its_data_goes_on(interrupted, tmp_path, monkeypatch):
    """The old place is gone, and the data set's yaml, with the absolute path in it, lies elsewhere too."""
    copy, away = tmp_path / "copy", tmp_path / "away"
    shutil.copytree(interrupted, copy)
    interrupted.rename(away)
    try:
        run = (copy / "runs" / "run").rename(copy / "runs" / "renamed")
        YOLO(run / "weights" / "last.pt").train(resume=True)
        check_finished(run)
        assert not interrupted.exists()
        data = yaml.safe_load((run / "args.yaml").read_text())["data"]
        assert data == str(copy / "datasets" / "digits" / "digits.yaml")
    finally:
        away.rename(interrupted)


def test_a_checkpoint_without_its_run_gets_a_folder_of_its_own(tmp_path):
    assert run_folder_of(tmp_path / "runs" / "a" / "weights" / "last.pt") == tmp_path / "runs" / "a"
    assert run_folder_of(tmp_path / "a.pt") == tmp_path / "a"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").touch()
    with pytest.raises(PruningError, match="holds something else"):
        run_folder_of(tmp_path / "b.pt")


def test_where_a_noted_path_is_looked_for(tmp_path, monkeypatch):
    """As far from the run as it was; else at its place in the repository; else it stays as it is."""
    repository = tmp_path / "repository"
    monkeypatch.setattr(places, "ROOT", repository)
    for file in ("new/data/a.yaml", "repository/datasets/b/b.yaml", "repository/c.yaml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    before, now = "/old/runs/run", tmp_path / "new" / "runs" / "other"
    assert relocated("/old/data/a.yaml", before, now) == str(tmp_path / "new/data/a.yaml")
    assert relocated("/gone/datasets/b/b.yaml") == str(repository / "datasets/b/b.yaml")
    for stays in ("/gone/c.yaml", "coco.yaml", str(tmp_path / "repository/c.yaml"), "/old/data/none.yaml"):
        assert relocated(stays, before, now) == stays


def recipe(weights: Path, data: Path, **changes) -> Wanted:
    own = {"target": Target("speed_up", 2.0), "training": {"imgsz": 64, "batch": 8}}
    images, content = Images(str(data)), data_set_digest(str(data))
    return Wanted(str(weights), sha256(weights), images, data_digest=content, **{**own, **changes})


def test_a_compression_that_was_moved_is_the_same_recipe(digits, tmp_path):
    """The same weights and images at another place; other images of the same names are another recipe."""
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here, there):
        place.mkdir()
        shutil.copy(FADED_WEIGHTS, place / "net.pt")
        shutil.copytree(digits.parent, place / "digits")
        yaml = place / "digits" / "digits.yaml"
        yaml.write_text(yaml.read_text().replace(str(digits.parent), str(yaml.parent)))
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{}")
    latencies = [Latency(2.0, None, 64, tmp_path / f"{name}.json") for name in "ab"]
    tables = [{"latency": latency, "table_sha256": "1"} for latency in latencies]
    State(here, recipe(here / "net.pt", here / "digits" / "digits.yaml", **tables[0])).once("work", lambda: 1)
    shutil.copy(here / "state.json", there)
    moved_one = recipe(there / "net.pt", there / "digits" / "digits.yaml", **tables[1])
    assert State(there, moved_one).once("work", lambda: 2) == 1
    image = next((there / "digits" / "images" / "train").iterdir())
    image.write_bytes(image.read_bytes() + b"x")
    with pytest.raises(PruningError, match="data was"):
        State(there, recipe(there / "net.pt", there / "digits" / "digits.yaml", **tables[1]))
    old = json.loads((here / "state.json").read_text())
    for name in ("data_digest", "table_sha256"):
        del old["recipe"][name]  # as an earlier version wrote it: then only the path tells
    (here / "state.json").write_text(json.dumps(old))
    State(here, recipe(here / "net.pt", here / "digits" / "digits.yaml", **tables[0]))
    with pytest.raises(PruningError, match="data was"):
        State(here, recipe(here / "net.pt", there / "digits" / "digits.yaml", **tables[0]))
