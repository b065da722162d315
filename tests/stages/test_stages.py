"""The stages as a person runs them: one after the other, in a copy of the repository, on a few images."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from helpers.networks import difference, image, raw_outputs
from helpers.processes.python import run_python
from helpers.repository import copied_repository
from ultralytics import YOLO
from ultralytics.data.digits import Recipe, build
from ultralytics.pruning import Limits, cut, load, plans_of, prune_network, trace
from ultralytics.pruning.checkpoints.checkpoint import release_version, sha256
from ultralytics.pruning.plans.plan import PruningPlan
from ultralytics.pruning.runs.folders import interrupted_run, set_aside
from ultralytics.pruning.stages.sparsity import Trained, prune_options

DRAWN = ("--imgsz", "64", "--batch", "16", "--device", "cpu", "workers=0", "nbs=16")
QUICK = (*DRAWN, "plots=False")


class Repository:
    """A copy of the repository with runs of its own."""

    def __init__(self, root: Path) -> None:
        self.root = copied_repository(root)
        self.data = str(build(root / "small", Recipe(train=32, val=16)))

    def run(self, script: str, *words: str, code: int = 0):
        done = run_python(self.root / script, *words, cwd=self.root.parent)  # from anywhere
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done


@pytest.fixture(scope="module")
def stages(small, tmp_path_factory) -> Repository:
    """All stages, run once."""
    repository = Repository(tmp_path_factory.mktemp("copy") / "repository")
    data = ("--data", repository.data)
    run = repository.run
    repository.normal = run("train-normal.py", "--weights", str(small), *data, "--epochs", "2", *QUICK)
    run("train_sparsity.py", *data, "--epochs", "1", "--sr", "0.05", *DRAWN)
    run("vis-bn-weight.py")
    repository.pruned = run("prune.py", "--prune-ratio", "0.5", "--round-to", "1", "--val", *data, "--device", "cpu")
    repository.tuned = run("finetune.py", *data, "--epochs", "1", *QUICK)
    return repository


def widths(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in load(path)[0].named_parameters()}


def test_each_stage_writes_where_the_next_one_reads(stages):
    for file in (
        "runs/train-norm/weights/best.pt",
        "runs/train-sparsity/weights/last.pt",
        "runs/bn-weights.png",
        "weights/pruned.pt",
        "weights/pruned.json",
        "weights/pruned.onnx",
        "runs/finetune/weights/best.pt",
    ):
        assert (stages.root / file).is_file(), file
    assert not list((stages.root / "weights").glob(".*"))
    args = (stages.root / "runs/train-sparsity/args.yaml").read_text()
    assert "sr: 0.05" in args
    assert "lr0: 0.001" in args
    assert "optimizer: SGD" in args
    assert "finetune: true" in (stages.root / "runs/finetune/args.yaml").read_text()


def test_each_stage_names_the_next_command_with_its_data(stages):
    """Without these options it would train on COCO."""
    where = " --data repository/small/digits.yaml --imgsz 64"  # seen from where they were called
    assert stages.normal.stdout.splitlines()[-1] == (
        f"Next: python repository/train_sparsity.py --weights repository/runs/train-norm/weights/best.pt{where} "
        f"--batch 16"
    )
    assert (
        f"Next: python repository/finetune.py --weights repository/weights/pruned.pt{where} --batch 16\n"
        in stages.pruned.stdout
    )
    best = "repository/runs/finetune/weights/best.pt"
    assert stages.tuned.stdout.splitlines()[-2:] == [
        f"Next: python repository/val.py {best}{where}",
        f"Next: python repository/export.py --weights {best}{where}",
    ]


def test_widths_shrink_and_stay(stages):
    sparse = widths(stages.root / "runs/train-sparsity/weights/last.pt")
    pruned = widths(stages.root / "weights/pruned.pt")
    tuned = widths(stages.root / "runs/finetune/weights/best.pt")
    assert sum(map(np.prod, pruned.values())) < 0.5 * sum(map(np.prod, sparse.values()))
    assert tuned == pruned
    network, content = load(stages.root / "weights/pruned.pt")
    raw = torch.load(stages.root / "weights/pruned.pt", weights_only=False)
    assert all(p.dtype == torch.float32 for p in raw["model"].parameters())
    assert "sr" not in content["train_args"] and content["train_args"]["imgsz"] == 64
    assert len(plans_of(network)) == 1


def test_the_plan_repeats_the_cut(stages):
    text = (stages.root / "weights/pruned.json").read_text()
    data = json.loads(text)
    source = stages.root / "runs/train-sparsity/weights/last.pt"
    assert data["format"] == 1
    assert data["source"] == {
        "file": str(source),
        "sha256": sha256(source),
        "task": "detect",
        "release": release_version(),
    }
    assert data["settings"]["prune_ratio"] == 0.5
    model, _ = load(source)
    assert data["cost"]["before"]["params"] == sum(p.numel() for p in model.parameters())
    channel_map = trace(model)
    removed = sum(e["out_before"] - len(e["out"]) for e in data["layers"].values() if e["type"] != "BatchNorm2d")
    free = sum(int(channel_map.free[layer.outputs].sum()) for layer in channel_map.layers.values() if not layer.is_norm)
    assert 0.5 * free <= removed < 0.52 * free
    cut(model, PruningPlan.from_json(text))
    pruned, _ = load(stages.root / "weights/pruned.pt")
    for (name, again), (_, written) in zip(model.state_dict().items(), pruned.state_dict().items(), strict=True):
        if not name.endswith("running_mean") and not name.endswith(".bias"):  # these take what is folded in
            assert torch.equal(again, written), name


def test_the_onnx_has_the_pruned_widths(stages):
    graph = onnx.load(stages.root / "weights/pruned.onnx").graph
    first = next(node for node in graph.node if node.op_type == "Conv")
    shape = next(list(i.dims) for i in graph.initializer if i.name == first.input[1])
    assert shape[0] == load(stages.root / "weights/pruned.pt")[0].model[0].conv.out_channels < 16


def test_prune_prints_the_tables(stages):
    text = stages.pruned.stdout
    for word in ("model.0.conv", "parameters", "GFLOPs", "file in MB", "Time: trace", "mAP50-95", "finetune.py"):
        assert word in text, word


def test_the_fine_tuning_says_what_it_began_with(stages):
    """In a row of its own; the copy and the place it was run from are what others have, too."""
    rows = [line for line in stages.tuned.stdout.splitlines() if ".pt  " in line and "%" in line]
    assert [row.split()[0] for row in rows] == [
        "weights/pruned.pt",
        "runs/finetune/weights/best.pt",
        "runs/finetune/weights/last.pt",
    ]
    assert 0 <= float(rows[0].split()[3]) <= 1


STOCK = """
import sys, ultralytics
from ultralytics import YOLO
pruned, data, project = sys.argv[1:]
if __name__ == "__main__":
    assert "site-packages" in ultralytics.__file__, ultralytics.__file__
    width = lambda m: m.model.model[0].conv.out_channels
    model = YOLO(pruned)
    assert width(model) < 16
    assert model.predict(data.replace("digits.yaml", "images/val"), imgsz=64, device="cpu", project=project)
    assert model.val(data=data, imgsz=64, device="cpu", project=project, plots=False).box.map >= 0
    print("EXPORT", YOLO(pruned).export(format="onnx", imgsz=64, device="cpu"))
    model = YOLO(pruned)
    model.train(data=data, imgsz=64, epochs=1, batch=16, device="cpu", workers=0, plots=False, project=project)
    assert width(model) == 16  # the stock trainer rebuilds it dense, as the README warns
"""


@pytest.mark.parametrize("file", ["weights/pruned.pt", "runs/finetune/weights/best.pt"])
def test_a_stock_release_uses_the_checkpoints(stages, file, tmp_path):
    """Under the restricted loader, in a process that cannot see this repository."""
    shutil.copy(stages.root / file, tmp_path / "copy.pt")
    (tmp_path / "stock.py").write_text(STOCK)
    environment = {"ULTRALYTICS_SAFE_LOAD": "1", "YOLO_CONFIG_DIR": str(tmp_path / "config"), "YOLO_AUTOINSTALL": "0"}
    done = run_python("stock.py", "copy.pt", stages.data, tmp_path / "runs", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "copy.onnx").is_file()


def test_a_finished_run_is_not_overwritten_unasked(stages, small):
    last = stages.root / "runs/train-norm/weights/last.pt"
    before = sha256(last)
    done = stages.run("train-normal.py", "--weights", str(small), "--data", stages.data, *QUICK, code=2)
    line = done.stderr.strip().splitlines()[-1]
    assert all(option in line for option in ("--overwrite", "--resume", "--name"))
    done = stages.run("train-normal.py", "--resume", code=2)
    assert "nothing to resume" in done.stderr
    assert sha256(last) == before


def test_run_folders(tmp_path):
    from ultralytics.pruning import PruningError

    set_aside(tmp_path / "new", overwrite=False)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "val.csv").touch()
    with pytest.raises(PruningError, match="something other than a training"):
        set_aside(tmp_path / "val", overwrite=True)
    assert (tmp_path / "val" / "val.csv").exists()
    with pytest.raises(PruningError, match="nothing to resume"):
        interrupted_run(tmp_path / "new")


def test_a_second_round(stages):
    """A fine-tuned network is sparsified, pruned and checked again; it carries both plans."""
    tuned = "runs/finetune/weights/best.pt"
    done = stages.run("train-normal.py", "--weights", tuned, "--data", stages.data, "--name", "again", *QUICK, code=2)
    assert "finetune=True" in done.stderr
    extra = ("--data", stages.data, "--name", "again", "--epochs", "1", *QUICK)
    stages.run("train_sparsity.py", "--weights", tuned, *extra)
    assert widths(stages.root / "runs/again/weights/last.pt") == widths(stages.root / tuned)
    last = "runs/again/weights/last.pt"
    stages.run("prune.py", "--weights", last, "--prune-ratio", "0.3", "--save-dir", "twice", "--no-onnx")
    network, _ = load(stages.root.parent / "twice" / "pruned.pt")  # relative to where it was called
    assert len(plans_of(network)) == 2
    assert YOLO(stages.root.parent / "twice" / "pruned.pt").predict(np.zeros((64, 64, 3), np.uint8), device="cpu")


def test_an_rt_detr_yaml_is_built():
    """The release has a class of its own for these, which `YOLO` does not find."""
    from ultralytics.pruning.stages.weights import load_source

    model, _, source = load_source("yolov8n-rtdetr.yaml")
    assert type(model).__name__ == "RTDETRDetectionModel" and source["task"] == "detect"


def test_steered_from_end_to_end(stages):
    """What is chosen for the target is at exactly zero, and goes without a ratio and without a difference."""
    words = ("--data", stages.data, "--epochs", "4", *QUICK, "--name", "steered", "round_to=4", "optimizer=AdamW")
    done = stages.run("train_sparsity.py", *words, "--sparsity", "steered", "--target-speed-up", "2")
    last = "runs/steered/weights/last.pt"
    assert "will cut just the channels that are at exactly zero" in done.stdout
    assert done.stdout.splitlines()[-1] == f"Next: python repository/prune.py --weights repository/{last}"
    done = stages.run("prune.py", "--weights", last, "--save-dir", stages.root / "cut", "--no-onnx", "--imgsz", "64")
    assert "have scales of exactly zero: just these go (--zeros)" in done.stdout
    assert "Limit:" not in done.stdout and "Not folded" not in done.stdout
    plan = PruningPlan.from_json((stages.root / "cut/pruned.json").read_text())
    assert plan.before.macs / plan.after.macs == pytest.approx(2, rel=0.02) and plan.settings["zeros"] is True
    sparse, pruned = (load(stages.root / file)[0].double() for file in (last, "cut/pruned.pt"))
    x = image(sparse, 64)
    assert difference(raw_outputs(sparse, x), raw_outputs(pruned, x)) < 1e-6  # the checkpoint is in half precision
    by_ratio = stages.run("prune.py", "--weights", last, "--prune-ratio", "0.3", "--dry-run")
    assert "--zeros" not in by_ratio.stdout


def test_the_next_command_cuts_what_has_faded(stages):
    network, content = load(stages.root / "runs/train-sparsity/weights/last.pt")

    def suggested() -> tuple[tuple[str, ...], str]:
        return prune_options(Trained(network, content, trace(network, imgsz=64)))

    assert suggested()[0] == () and "Hardly a channel has faded" in suggested()[1]
    channel_map = trace(network)
    faded = np.flatnonzero(channel_map.free)[::3]
    for layer in channel_map.norms():
        gamma = network.get_submodule(layer.name).weight.data
        gamma[torch.from_numpy(np.isin(layer.outputs, faded))] = 1e-4
    (option, value), _ = suggested()
    assert option == "--prune-ratio"
    ratio = float(value)
    share = channel_map.channels[faded].sum() / channel_map.channels[channel_map.free].sum()
    assert 0.1 < ratio <= share
    plan = prune_network(network, prune_ratio=ratio, limits=Limits(round_to=16)).plan
    for layer in channel_map.norms():
        assert set(layer.outputs[plan.layers[layer.name].removed_out]) <= set(faded)
