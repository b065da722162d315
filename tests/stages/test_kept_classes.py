"""prune.py for some classes, and what goes on with their network."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
import yaml

from helpers.processes.python import run_python, stock_environment
from helpers.repository import FADED_WEIGHTS, REPOSITORY
from helpers.scripts import refused, run
from ultralytics import YOLO
from ultralytics.pruning import load, prune_network, save
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.data import sets
from ultralytics.pruning.files import places
from ultralytics.pruning.networks.keep_classes import keeps_some
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.passes.reading import Reader

NAMES = ["person", "bicycle", "car", "bus", "train", "boat", "bird", "cat", "dog", "horse"]
STOCK = """
import sys
import torch
from ultralytics import YOLO
model = YOLO(sys.argv[1])
result = model.predict(torch.zeros(1, 3, 64, 64), conf=1e-9, verbose=False)[0]
found = {int(number) for number in result.boxes.cls}
print(list(result.names.values()), bool(found) and found <= {0, 1})
model.export(format="torchscript", imgsz=64)
"""


@pytest.fixture
def weights(small_weights, tmp_path) -> Path:
    """A checkpoint of ten classes that have names."""
    model = load(small_weights)[0]
    model.names = dict(enumerate(NAMES))
    save(model, tmp_path / "ten.pt")
    return tmp_path / "ten.pt"


def test_rows_alone(weights, one_thread, monkeypatch, capsys, tmp_path):
    words = ("--weights", weights, "--save-dir", tmp_path / "out", "--imgsz", 64, "--no-onnx")
    assert run(monkeypatch, capsys, "prune.py", *words, "--keep-classes", "car, 0") == (0, "")
    before, after = load(weights)[0], load(tmp_path / "out" / "pruned.pt")[0]
    assert list(after.names.values()) == ["person", "car"]
    ours, theirs = after.model[-1].cv3[0][-1].weight, before.model[-1].cv3[0][-1].weight
    assert torch.equal(ours, theirs[[0, 2]])
    assert torch.equal(after.model[0].conv.weight, before.model[0].conv.weight)

    plan = json.loads((tmp_path / "out" / "pruned.json").read_text())
    assert plan["settings"]["classes"]["kept"] == [0, 2]
    again = (
        "--weights",
        weights,
        "--save-dir",
        tmp_path / "again",
        "--no-onnx",
        "--plan",
        tmp_path / "out/pruned.json",
    )
    assert run(monkeypatch, capsys, "prune.py", *again) == (0, "")
    repeated = load(tmp_path / "again" / "pruned.pt")[0].state_dict()
    assert all(torch.equal(value, repeated[name]) for name, value in after.state_dict().items())


def test_a_stock_release_predicts_and_exports(weights, one_thread, monkeypatch, capsys, tmp_path):
    words = ("--weights", weights, "--save-dir", tmp_path, "--imgsz", 64, "--criterion", "slim", "--speed-up", 2)
    assert run(monkeypatch, capsys, "prune.py", *words, "--keep-classes", "bus,dog", "--round-to", 4, "--no-onnx") == (
        0,
        "",
    )
    (tmp_path / "stock.py").write_text(STOCK)
    done = run_python("stock.py", "pruned.pt", cwd=tmp_path, **stock_environment(tmp_path))
    assert "['bus', 'dog'] True" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "pruned.torchscript").is_file()


def test_the_table_counts_from_the_network_as_it_came(weights, one_thread, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["prune.py", "--weights", str(weights), "--keep-classes", "car", "--dry-run"])
    runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")
    said = capsys.readouterr().out
    parameters = re.search(r"parameters +([\d,]+) +([\d,]+)", said)
    whole = load(weights)[0]
    row = sum(p[0].numel() for layers in whole.model[-1].cv3 for p in layers[-1].parameters())
    before, after = (int(number.replace(",", "")) for number in parameters.groups())
    assert before == sum(p.numel() for p in whole.parameters()) and before - after == 9 * row


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--keep-classes", "persn"), "did you mean 'person'"),
        (("--keep-classes", "person,,car"), "person,car"),
        (("--keep-classes", ""), "is empty"),
        (("--keep-classes", "0,person"), "named twice"),
        (("--keep-classes", "10"), "0 to 9"),
        (("--keep-classes", "0,1,2,3,4,5,6,7,8,9"), "all 10 classes"),
        (("--keep-classes", "car", "--criterion", "l1"), "leave out --criterion"),
        (("--keep-classes", "car", "--round-to", "8"), "leave out --round-to"),
        (("--keep-classes", "car", "--rounds", "2"), "leave out --rounds"),
        (("--keep-classes", "car", "--plan", "pruned.json"), "leave out --keep-classes"),
        (("--keep-classes", "car", "mosaic=0.5"), "does nothing here"),
    ],
)
def test_what_is_refused(words, said, weights, one_thread, monkeypatch, capsys, tmp_path):
    line = refused(monkeypatch, capsys, "prune.py", "--weights", weights, "--save-dir", tmp_path / "out", *words)
    assert said in line
    assert not (tmp_path / "out").exists()


@pytest.fixture
def person(digits, one_thread, monkeypatch, capsys, tmp_path):
    """Runs a script on the digits, in folders of the test, and returns what it prints."""
    monkeypatch.setattr(sets, "DATASETS", tmp_path / "datasets")
    monkeypatch.setattr(places, "RUNS", tmp_path / "runs")

    def type_in(script: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, words), "--data", str(digits)])
        capsys.readouterr()
        try:
            runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        except SystemExit as ended:
            raise AssertionError(f"{ended.code}: {capsys.readouterr().err}") from ended
        return capsys.readouterr().out

    return type_in


def test_rows_alone_leave_the_accuracy(person, digits, tmp_path):
    words = ("--weights", FADED_WEIGHTS, "--save-dir", tmp_path, "--imgsz", 160, "--no-onnx", "--keep-classes", "2,7")
    said = person("prune.py", *words, "--val")
    before, after = (line.split()[1:] for line in said.splitlines() if re.search(r"\.pt( +\d\.\d{4}){4}", line))
    assert before == after
    whole = YOLO(FADED_WEIGHTS).val(data=str(digits), imgsz=160, device="cpu", plots=False, project=str(tmp_path))
    of_kept = [whole.box.maps[i] for i in (2, 7)]
    assert float(after[3]) == pytest.approx(sum(of_kept) / 2, abs=1e-4) and float(after[3]) > 0.1
    assert f"--data {digits}" in said.split("Next:")[1]
    (made,) = (tmp_path / "datasets").iterdir()
    assert yaml.safe_load((made / "data.yaml").read_text())["names"] == {0: "2", 1: "7"}


def test_channels_are_scored_on_images_of_the_kept_classes(person, small_weights, monkeypatch, tmp_path):
    read = []
    batch_of = Reader.batch

    def noted(reader: Reader, samples: list) -> dict:
        read.append(batch_of(reader, samples))
        return read[-1]

    monkeypatch.setattr(Reader, "batch", noted)
    words = ("--weights", small_weights, "--save-dir", tmp_path, "--imgsz", 64, "--no-onnx", "--keep-classes", "2,7")
    person("prune.py", *words, "--criterion", "group_taylor", "--speed-up", 1.5, "--round-to", 4, "batch=4")
    assert read and all(set(batch["batch_idx"].tolist()) == set(range(len(batch["img"]))) for batch in read)
    assert {int(number) for batch in read for number in batch["cls"]} == {0, 1}
    assert len(load(tmp_path / "pruned.pt")[0].names) == 2


def test_fine_tuning_goes_on_with_the_whole_data_set(person, small_weights, tmp_path):
    words = ("--save-dir", tmp_path, "--imgsz", 64, "--no-onnx")
    person("prune.py", "--weights", small_weights, *words, "--keep-classes", "2,7", "--speed-up", 1.5, "--round-to", 4)
    tune = ("--weights", tmp_path / "pruned.pt", "--epochs", 1, "--batch", 8, "--imgsz", 64, "workers=0", "plots=False")
    said = person("finetune.py", *tune)
    assert "only the labels of 2, 7" in said
    tuned, content = checkpoint.load(tmp_path / "runs" / "finetune" / "weights" / "best.pt")
    assert list(tuned.names.values()) == ["2", "7"] and tuned.model[-1].cv3[0][-1].out_channels == 2
    assert Path(content["train_args"]["data"]).is_relative_to(tmp_path / "datasets")

    best = tmp_path / "runs" / "finetune" / "weights" / "best.pt"
    person("prune.py", "--weights", best, *words, "--speed-up", 1.2, "--round-to", 4)
    again = load(tmp_path / "pruned.pt")[0]
    assert len(again.names) == 2 and len(again.pruning_plans) == 2

    said = person("val.py", best, tmp_path / "pruned.pt", "--imgsz", 64, "--batch", 8, "workers=0", "plots=False")
    assert "only the labels of 2, 7" in said and (tmp_path / "runs" / "val" / "val.csv").is_file()

    person("finetune.py", *tune, "--classes-from", "data", "--name", "all")
    everything = load(tmp_path / "runs" / "all" / "weights" / "best.pt")[0]
    assert len(everything.names) == 10 and not keeps_some(everything)


def test_from_python(small_weights, digits, quick, monkeypatch, tmp_path):
    monkeypatch.setattr(sets, "DATASETS", tmp_path / "datasets")
    model = load(small_weights)[0]
    images = Images(str(digits), batches=1, batch=4, imgsz=64)
    result = prune_network(model, keep_classes=[7, 2], speed_up=1.5, images=images, statistics=images, imgsz=64)
    assert result.default.criterion == "group_fisher" and result.plan.settings["recalibrate"] == 1
    assert Path(result.default.images.data).is_relative_to(tmp_path / "datasets")
    assert list(result.model.names.values()) == ["2", "7"] and keeps_some(result.model)
    save(result.model, tmp_path / "pruned.pt")
    model = YOLO(tmp_path / "pruned.pt")
    model.train(finetune=True, project=str(tmp_path), name="run", **quick)
    assert Path(model.trainer.args.data).is_relative_to(tmp_path / "datasets") and model.trainer.data["nc"] == 2
