"""Nothing is overwritten that a command did not itself make."""

import shutil
from pathlib import Path

import onnx
import pytest

from helpers.repository import FADED_WEIGHTS
from helpers.scripts import refused
from ultralytics.pruning import PruningError
from ultralytics.pruning.checkpoints.checkpoint import sha256
from ultralytics.pruning.deploy.exporting import check_replaceable, worked_in
from ultralytics.pruning.runs.belongings import (
    COMPRESSION,
    MEASURING,
    TRAINING,
    check_own,
    check_pruned,
    foreign,
    is_export,
)
from ultralytics.pruning.runs.folders import forget_replaced, kept_runs, put_aside, put_back, recover, set_aside

pytestmark = pytest.mark.usefixtures("one_thread")
OWN = {
    TRAINING: (
        "args.yaml results.csv results.png gamma.png gamma.csv labels.jpg train_batch0.jpg val_batch2_pred.jpg "
        "BoxPR_curve.png confusion_matrix_normalized.png events.out.tfevents.1.host.2.0 weights/best.pt "
        "weights/last.pt weights/epoch10.pt weights/resume-3.pt weights/best.onnx weights/best_openvino_model/best.bin "
        ".epoch.0f0f0f-12-0a0a0a0a.writing/last.pt weights/.best.writing.pt"
    ),
    MEASURING: "val.csv run-best/val_batch0_labels.jpg run-best/MaskF1_curve.png run-best/predictions.json",
    COMPRESSION: (
        "state.json compress.csv compress.png report.html compressed.pt compressed.onnx step-1.pt steered.pt "
        "val/predictions.json step-1/args.yaml step-12/weights/last.pt fine-tuned/weights/best.pt steered/gamma.png"
    ),
}
OTHERS = ("notes.txt", "weights/mine.pt", "photos/a.jpg", "best.pt", "step-1/notes.txt", "data.yaml")


@pytest.mark.parametrize("patterns", OWN, ids=["training", "measuring", "compression"])
def test_own_files_are_known_and_others_are_not(patterns, tmp_path):
    for name in (*OWN[patterns].split(), *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert set(foreign(tmp_path, patterns)) == set(OTHERS)
    with pytest.raises(PruningError, match="and 5 more, which a stage did not make"):
        check_own(tmp_path, patterns, "a stage")


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): sha256(file) for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", ["source", "foreign checkpoint", "foreign json", "foreign onnx", "damaged"])
def test_prune_overwrites_neither_its_source_nor_what_is_not_its_own(kind, tmp_path, monkeypatch, capsys):
    folder, weights = tmp_path / "out", FADED_WEIGHTS
    folder.mkdir()
    if kind in {"source", "foreign checkpoint"}:
        shutil.copy(FADED_WEIGHTS, folder / "pruned.pt")
        weights = folder / "pruned.pt" if kind == "source" else FADED_WEIGHTS
    else:
        (folder / {"foreign json": "pruned.json", "foreign onnx": "pruned.onnx"}.get(kind, "pruned.pt")).write_text(
            "{}"
        )
    before = contents(tmp_path)
    words = ("--weights", weights, "--save-dir", folder, "--prune-ratio", "0.2", "--no-onnx")
    line = refused(monkeypatch, capsys, "prune.py", *words)
    assert "overwritten" in line and "--save-dir" in line
    assert contents(tmp_path) == before


def test_a_link_to_the_source_is_the_source(tmp_path):
    shutil.copy(FADED_WEIGHTS, tmp_path / "net.pt")
    (tmp_path / "pruned.pt").symlink_to(tmp_path / "net.pt")
    with pytest.raises(PruningError, match="own pruned network"):
        check_pruned(tmp_path, tmp_path / "net.pt")


@pytest.mark.parametrize("file", ["notes.txt", "run-best/notes.txt", "state.json", "weights/best.pt", None])
def test_val_replaces_only_measurements(file, digits, runs, monkeypatch, capsys):
    folder = runs / "val"
    (folder / "run-best").mkdir(parents=True)
    (folder / "val.csv").write_text("old")
    (folder / "run-best" / "BoxPR_curve.png").write_text("old")
    if file:
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("mine")
    else:
        (folder / "val.csv").rename(folder / "table.csv")  # without one it is no measurement
    before = contents(runs)
    words = (FADED_WEIGHTS, "--data", digits, "--imgsz", "64", "--overwrite", "plots=False")
    line = refused(monkeypatch, capsys, "val.py", *words)
    assert "--name" in line
    assert contents(runs) == before


def test_a_training_with_somebodys_file_in_it_is_not_replaced(tmp_path):
    folder = tmp_path / "run"
    (folder / "weights").mkdir(parents=True)
    (folder / "args.yaml").touch()
    shutil.copy(FADED_WEIGHTS, folder / "weights" / "last.pt")
    (folder / "notes.txt").touch()
    with pytest.raises(PruningError, match=r"notes\.txt"):
        set_aside(folder, overwrite=True)
    (folder / "notes.txt").unlink()
    kept = set_aside(folder, overwrite=True)
    assert (kept / "weights" / "last.pt").is_file() and not folder.exists()


def test_each_run_that_is_set_aside_has_a_place_of_its_own(tmp_path):
    folder = tmp_path / "a"
    for text in ("first", "second", "third"):
        folder.mkdir()
        (folder / "args.yaml").write_text(text)
        put_aside(folder)
    assert [(kept / "args.yaml").read_text() for kept in kept_runs(folder)] == ["first", "second", "third"]
    put_back(folder, kept_runs(folder)[-1])
    assert (folder / "args.yaml").read_text() == "third" and len(kept_runs(folder)) == 2
    (tmp_path / ".a.replaced-b").mkdir()  # of another run
    forget_replaced(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.replaced-b", "a"]


@pytest.mark.parametrize("file", ["weights/last.pt", "val.csv", "state.json", "notes.txt"])
def test_what_a_stage_has_begun_is_not_taken_for_a_stub_by_another_stage(file, tmp_path):
    """Only a folder with nothing worth keeping gives way to the run that it was to replace."""
    folder = tmp_path / "a"
    (folder / "weights").mkdir(parents=True)
    (folder / "args.yaml").write_text("old")
    put_aside(folder)
    (folder / "weights").mkdir(parents=True)
    (folder / "args.yaml").write_text("new")
    (folder / file).write_text("new")
    recover(folder, ended=lambda _: False)
    assert (folder / file).read_text() == "new" and len(kept_runs(folder)) == 1
    (folder / file).unlink()
    recover(folder, ended=lambda _: False)
    assert (folder / "args.yaml").read_text() == "old" and not kept_runs(folder)


def test_an_export_replaces_only_exports(tmp_path):
    made, place = tmp_path / "made.onnx", tmp_path / "best.onnx"
    model = onnx.ModelProto(metadata_props=[onnx.StringStringEntryProto(key="author", value="Ultralytics")])
    made.write_bytes(model.SerializeToString())
    check_replaceable(made, place)
    place.write_bytes(b"somebody's")
    assert is_export(made) and not is_export(place)
    with pytest.raises(PruningError, match="not overwritten"):
        check_replaceable(made, place)
    place.unlink()
    place.mkdir()
    with pytest.raises(PruningError, match="not overwritten"):
        check_replaceable(made, place)


def test_an_export_works_in_the_run_of_its_checkpoint(tmp_path):
    (tmp_path / "run" / "weights").mkdir(parents=True)
    assert worked_in(tmp_path / "run" / "weights") == tmp_path / "run" / "weights"
    (tmp_path / "run" / "args.yaml").touch()
    assert worked_in(tmp_path / "run" / "weights") == tmp_path / "run"
