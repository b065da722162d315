"""A file that is wrong in any way: one line that names it and what was found, exit code 2, nothing written."""

import json
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from helpers import bad_files, scripts
from helpers.bad_files import (
    DATA_YAMLS,
    LABELS,
    MODEL_YAMLS,
    ONNX_FILES,
    PLANS,
    STATE,
    STATES,
    TABLES,
    TINY,
    onnx_bytes,
    spoil,
)
from helpers.repository import entries
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import PruningError, repeat_plan, save, trace
from ultralytics.pruning.checkpoints.checkpoint import attach_plan, load, plans_of, sha256
from ultralytics.pruning.compression.state import State
from ultralytics.pruning.plans.plan import PruningPlan, plan_from
from ultralytics.pruning.runs import resuming
from ultralytics.pruning.surgery.cut import PlanMismatchError, cut

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A checkpoint of a very small detector of two classes."""
    torch.manual_seed(0)
    model = DetectionModel(dict(TINY), verbose=False)
    model.task, model.names = "detect", {0: "a", 1: "b"}
    file = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    save(model, file)
    return file


@pytest.fixture(scope="module")
def plan(tiny) -> dict:
    """A plan for it, as plain data: the first 8 of 16 channels of a layer stay, and the like."""
    model, _ = load(tiny)
    channel_map = trace(model)
    kept = torch.rand(len(channel_map.channels), generator=torch.Generator().manual_seed(0)).numpy() > 0.4
    kept |= ~channel_map.free
    for balance in channel_map.balances:
        for part in balance.parts:
            kept[part] = True
    source = {"file": str(tiny), "sha256": sha256(tiny), "task": "detect"}
    return plan_from(channel_map, kept, {"imgsz": 64, "fold": False}).with_source(source, {"trace": 0.1}).to_dict()


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """What lies in a folder, with sizes and times, but for locks."""
    files = [path for path in folder.rglob("*") if path.name != ".lock"]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns if path.is_file() else 0) for path in files}


@pytest.fixture
def refused(monkeypatch, capsys, runs, tmp_path):
    """Runs a script that has to refuse its words; returns its line."""

    def check(script: str, *words: object, named: object) -> str:
        before, top = everything(tmp_path), entries()
        begin = time.perf_counter()
        line = scripts.refused(monkeypatch, capsys, script, *words)
        assert str(named) in line, line
        assert "Error:" not in line.split(str(named))[0]
        assert everything(tmp_path) == before and entries() == top
        assert time.perf_counter() - begin < 20, "a hand-made file cost minutes"
        return line

    return check


MODEL_WORDS = {
    "prune": ("prune.py", "--weights"),
    "cfg": ("prune.py", "--cfg"),
    "train": ("train-normal.py", "--weights"),
}


@pytest.mark.parametrize("name", MODEL_YAMLS)
def test_model_yamls(name, tiny, digits, tmp_path, refused):
    how = list(MODEL_WORDS)[list(MODEL_YAMLS).index(name) % 3]  # each file in one of the places that read it
    script, option = MODEL_WORDS[how]
    file = tmp_path / "model.yaml"
    file.write_bytes(spoil(TINY, MODEL_YAMLS[name], yaml.safe_dump))
    more = ("--save-dir", tmp_path / "out") if script == "prune.py" else ("--data", digits)
    more += ("--weights", tiny) if how == "cfg" else ()
    refused(script, option, file, *more, named=f"{option} {file}")


@pytest.mark.parametrize("how", MODEL_WORDS)
@pytest.mark.parametrize("name", ["folder.yaml", "x.pt", "gone.yaml", "https://example.org/yolov8n.yaml", "[a].yaml"])
def test_model_yamls_that_are_none(how, name, tiny, digits, tmp_path, refused):
    if how != "cfg" and name == "x.pt":
        pytest.skip("a checkpoint, for this option")
    (tmp_path / "folder.yaml").mkdir()
    script, option = MODEL_WORDS[how]
    word = name if "://" in name else tmp_path / name
    more = ("--save-dir", tmp_path / "out") if script == "prune.py" else ("--data", digits)
    more += ("--weights", tiny) if how == "cfg" else ()
    refused(script, option, word, *more, named=f"{option} {word}")


def test_a_good_model_yaml_is_built(tmp_path):
    from ultralytics.nn.modules import Conv
    from ultralytics.pruning.inputs.model_yamls import build

    file, activation = tmp_path / "model.yaml", Conv.default_act
    file.write_text(yaml.safe_dump({**TINY, "activation": "nn.ReLU()", "scales": {"n": [1.0, 2, 64]}}))
    model = build(str(file), "--weights")
    assert model.model[1].conv.out_channels == 32 and isinstance(model.model[1].act, nn.ReLU)
    file.write_text(yaml.safe_dump({**TINY, "activation": "nn.Softmax(1, 2, 3)"}))
    with pytest.raises(PruningError, match=r"nn\.Softmax\(1, 2, 3\)"):
        build(str(file), "--weights")
    assert Conv.default_act is activation


def data_set(folder: Path) -> None:
    """Writes images that are some, images that are none, and labels of every bad kind."""
    for place in ("images", "noise", *(f"labelled/{kind}/images" for kind in LABELS)):
        (folder / place).mkdir(parents=True)
        for i in range(2):
            if place == "noise":
                (folder / place / f"{i}.jpg").write_bytes(b"noise")
            else:
                Image.new("RGB", (64, 64)).save(folder / place / f"{i}.png")
    for kind, line in LABELS.items():
        (folder / "labelled" / kind / "labels").mkdir()
        for i in range(2):
            (folder / "labelled" / kind / "labels" / f"{i}.txt").write_text(f"{line}\n")
    (folder / "empty").mkdir()
    (folder / "list.txt").write_bytes(b"\xff\xd8\0binary.jpg\n")


DATA_WORDS = {
    "prune.py": ("--weights", "--criterion", "group_taylor"),
    "train_sparsity.py": ("--weights",),
    "finetune.py": ("--weights",),
    "compress.py": ("--weights", "--speed-up", "2"),
}


def words_for(script: str, tiny: Path, out: Path) -> tuple[object, ...]:
    first, *more = DATA_WORDS[script]
    return (first, tiny, *more, *(("--save-dir", out) if script == "prune.py" else ()))


@pytest.mark.parametrize("name", DATA_YAMLS)
def test_data_yamls(name, tiny, tmp_path, refused):
    data_set(tmp_path)
    file = tmp_path / "data.yaml"
    good = {**bad_files.CLASSES, "path": str(tmp_path)}
    file.write_bytes(spoil(good, DATA_YAMLS[name], yaml.safe_dump))
    scripts = [*DATA_WORDS]
    if name == "train None":
        scripts = ["finetune.py", "train_sparsity.py", "compress.py"]  # prune.py measures without, too
    script = scripts[list(DATA_YAMLS).index(name) % len(scripts)]
    refused(script, *words_for(script, tiny, tmp_path / "out"), "--data", file, named=f"--data {file}")


@pytest.mark.parametrize("name", ["names 5", "val empty", "3,000 levels", "binary", "val None"])
@pytest.mark.parametrize("script", ["val.py", "export.py"])
def test_data_yamls_of_stages_that_do_not_train(script, name, tiny, tmp_path, refused):
    data_set(tmp_path)
    file = tmp_path / "data.yaml"
    file.write_bytes(spoil({**bad_files.CLASSES, "path": str(tmp_path)}, DATA_YAMLS[name], yaml.safe_dump))
    words = (tiny,) if script == "val.py" else ("--weights", tiny)
    refused(script, *words, "--data", file, "--imgsz", 64, named=f"--data {file}")


@pytest.mark.parametrize(
    "word", ["ul://me/data", "https://example.org/data.yaml", "gs://a/b.zip", "tests", "README.md"]
)
@pytest.mark.parametrize("script", [*DATA_WORDS, "val.py"])
def test_data_that_is_elsewhere_or_none(script, word, tiny, tmp_path, refused):
    words = (tiny,) if script == "val.py" else words_for(script, tiny, tmp_path / "out")
    refused(script, *words, "--data", word, named=f"--data {word if '://' in word else Path(word).resolve()}")


def test_good_data_is_read(tmp_path):
    from ultralytics.pruning.data.sets import check_usable, resolve_data

    data_set(tmp_path)
    file = tmp_path / "data.yaml"
    for names in (["a", "b"], {"0": 1, "1": 2}, [0.5, 1.5]):
        file.write_text(yaml.safe_dump({**bad_files.CLASSES, "path": str(tmp_path), "names": names}))
        assert resolve_data(str(file), classes=2, to_train=True, task="detect") == str(file)
    check_usable(str(file), ("train", "val"), "detect")
    (tmp_path / "labelled" / "words" / "labels" / "1.txt").write_text("1 .5 .5 .5 .5\n")  # one of two is good
    file.write_text(yaml.safe_dump({**bad_files.CLASSES, "path": str(tmp_path), "train": "labelled/words/images"}))
    check_usable(str(file), ("train", "val"), "detect")


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("detect", {"channels": 1}, "channels 1"),
        ("pose", {}, "kpt_shape"),
        ("pose", {"kpt_shape": [17, 4]}, "kpt_shape"),
        ("pose", {"kpt_shape": [5, 3]}, "kpt_shape"),
        ("pose", {"kpt_shape": [17, 3], "flip_idx": [1, 0]}, "flip_idx"),
        ("pose", {"kpt_shape": [17, 3], "train": "labelled/box/images"}, "columns"),
    ],
)
def test_data_of_other_shapes_than_the_network(task, change, said, tmp_path):
    from ultralytics.pruning.data.sets import check_usable, resolve_data

    data_set(tmp_path)
    for folder in ("images", "labels"):
        (tmp_path / "labelled" / "box" / folder).mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "labelled" / "box" / "images" / "0.png")
    (tmp_path / "labelled" / "box" / "labels" / "0.txt").write_text("0 .5 .5 .5 .5\n")
    file = tmp_path / "data.yaml"
    file.write_text(yaml.safe_dump({**bad_files.CLASSES, "path": str(tmp_path), **change}))
    network = {"kpt_shape": [17, 3]}
    with pytest.raises(PruningError, match=said) as error:
        check_usable(resolve_data(str(file), task=task, to_train=True), ("train", "val"), task, network)
    assert str(file) in str(error.value)


CLASSIFIED = {
    "no train": {"val": "ab"},
    "no val": {"train": "ab"},
    "no folders": {"train": "", "val": ""},
    "other classes": {"train": "ab", "val": "ac"},
    "a class less": {"train": "ab", "val": "a"},
    "an empty class": {"train": "ab", "val": "ab", "empty": "val/b"},
    "noise": {"train": "ab", "val": "ab", "noise": "train"},
}


@pytest.mark.parametrize("kind", CLASSIFIED)
def test_folders_of_classes(kind, tmp_path):
    from ultralytics.pruning.data.sets import check_usable, resolve_data

    layout = dict(CLASSIFIED[kind])
    empty, noise = layout.pop("empty", None), layout.pop("noise", None)
    for split, names in layout.items():
        (tmp_path / split).mkdir()
        for name in names:
            (tmp_path / split / name).mkdir()
            if split == noise:
                (tmp_path / split / name / "0.png").write_bytes(b"noise")
            elif f"{split}/{name}" != empty:
                Image.new("RGB", (32, 32)).save(tmp_path / split / name / "0.png")
    before = everything(tmp_path.parent)
    with pytest.raises(PruningError, match=r"^--data ") as error:
        check_usable(resolve_data(str(tmp_path), to_train=True, task="classify"), ("train", "val"), "classify")
    assert str(tmp_path) in str(error.value) and everything(tmp_path.parent) == before


@pytest.mark.parametrize("name", PLANS)
def test_plans(name, tiny, plan, tmp_path, refused):
    file = tmp_path / "plan.json"
    file.write_bytes(spoil(plan, PLANS[name], json.dumps))
    line = refused("prune.py", "--weights", tiny, "--plan", file, "--save-dir", tmp_path / "out", named="plan")
    assert "please report" not in line


def test_the_good_plan_is_repeated(tiny, plan, tmp_path):
    model, _ = load(tiny)
    found = PruningPlan.from_dict({**plan, "cost": {**plan["cost"], "after": {**plan["cost"]["after"], "macs": 7}}})
    from ultralytics.pruning.surgery.matching import matched

    channel_map = trace(model, imgsz=64)
    assert matched(found, channel_map).after.macs > 7, "the multiply-adds are those of the network"
    assert matched(PruningPlan.from_dict(plan), channel_map).layers == PruningPlan.from_dict(plan).layers


@pytest.mark.parametrize("name", ["widths of a method", "widths of nothing", "widths negative", "out_before 10**12"])
def test_plans_in_checkpoints_are_checked(name, tiny, plan):
    model, _ = load(tiny)
    model.pruning_plans = [PLANS[name](plan)]
    if name != "widths of nothing" and name != "widths of a method":
        with pytest.raises(PruningError):
            plans_of(model)
    else:  # right in itself, and not one of this network
        [found] = plans_of(model)
        before = {key: value.shape for key, value in model.state_dict().items()}
        with pytest.raises(PlanMismatchError, match="model"):
            cut(model, found)
        assert {key: value.shape for key, value in model.state_dict().items()} == before
        assert callable(model.model[2].forward)


def test_a_network_that_carries_no_plans(tiny, plan):
    model, _ = load(tiny)
    model.pruning_plans = 5
    for use in (plans_of, lambda net: attach_plan(net, PruningPlan.from_dict(plan))):
        with pytest.raises(PruningError, match="in place of its pruning plans"):
            use(model)


@pytest.fixture(scope="module")
def table(tiny) -> dict:
    """Timings of its layers, made up, as plain data."""
    from ultralytics.pruning.latency.shapes import shapes_of
    from ultralytics.pruning.latency.tables import name_of

    model, _ = load(tiny)
    layers = {}
    for calls in shapes_of(model, trace(model, imgsz=64), 64).values():
        for shape in calls:
            grid = ([1, shape.inputs], [1, shape.outputs]) if shape.inputs > 1 else ([1], [1, shape.outputs])
            ms = [[0.1 * a * b for b in grid[1]] for a in grid[0]]
            layers[name_of(shape, 16)] = {"inputs": grid[0], "outputs": grid[1], "ms": ms}
    about = {"machine": "m", "runtime": "r", "threads": "1"}
    return {"format": 1, "about": about, "fit": [0.0, 1.0], "layers": layers}


def edited_layer(**changes) -> object:
    """An edit of the first layer of a table."""

    def edit(table: dict) -> dict:
        key, layer = next(iter(table["layers"].items()))
        return {**table, "layers": {**table["layers"], key: {**layer, **changes}}}

    return edit


OWN_LAYERS = {
    "inputs text": edited_layer(inputs=["1", "3"]),
    "inputs descend": edited_layer(inputs=[3, 1]),
    "inputs of True": edited_layer(inputs=[True, 3]),
    "inputs empty": edited_layer(inputs=[]),
    "outputs a number": edited_layer(outputs=8),
    "ms a number": edited_layer(ms=1.0),
    "ms of text": edited_layer(ms=[["1", "1"], ["1", "1"]]),
    "ms ragged": edited_layer(ms=[[1.0, 1.0], [1.0]]),
    "ms NaN": edited_layer(ms=[[1.0, bad_files.NAN], [1.0, 1.0]]),
    "ms 0": edited_layer(ms=[[1.0, 0.0], [1.0, 1.0]]),
    "ms 1e300": edited_layer(ms=[[1e300, 1e300], [1e300, 1e300]]),
    "ms None": edited_layer(ms=None),
}


@pytest.mark.parametrize("name", [*TABLES, *OWN_LAYERS])
def test_latency_tables(name, tiny, table, digits, tmp_path, refused):
    file = tmp_path / "table.json"
    file.write_bytes(spoil(table, {**TABLES, **OWN_LAYERS}[name], json.dumps))
    words = ("--latency-speed-up", "1.5", "--imgsz", 64, "--latency-table", file, "--save-dir", tmp_path / "out")
    line = refused("prune.py", "--weights", tiny, *words, named="table")
    assert "latency_table.py" in line or "table.json" in line or "fit is wrong" in line


@pytest.mark.parametrize("name", STATES)
def test_states(name, tmp_path, runs):
    class Asked:
        """A recipe that finds nothing else in what was asked before."""

        def differences(self, earlier: dict) -> list[str]:
            return [] if earlier == STATE["recipe"] and name != "recipe empty" else ["it was another one"]

    file = tmp_path / "state.json"
    file.write_bytes(spoil(STATE, STATES[name], json.dumps))
    before = everything(tmp_path)
    with pytest.raises(PruningError, match=r"--overwrite") as error:
        State(tmp_path, Asked())
    assert str(tmp_path.name) in str(error.value) and everything(tmp_path) == before
    file.write_text(json.dumps(STATE))
    if name != "recipe empty":
        assert State(tmp_path, Asked()).seconds("original size", "step-1 cut") == 0.2


def test_a_damaged_state_is_one_line(tiny, tmp_path, runs, refused):
    (runs / "compress").mkdir(parents=True)
    state = runs / "compress" / "state.json"
    state.write_text(json.dumps(bad_files.at("done", "original size", "result", value=5)(STATE)))
    data_set(tmp_path)
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({**bad_files.CLASSES, "path": str(tmp_path)}))
    words = ("--weights", tiny, "--data", tmp_path / "data.yaml", "--speed-up", "1.1", "--round-to", "1")
    assert "--overwrite" in refused("compress.py", *words, named="state.json")


@pytest.mark.parametrize("name", ONNX_FILES)
def test_onnx_files(name, tmp_path, refused):
    how, file = ONNX_FILES[name], tmp_path / "model.onnx"
    file.write_bytes(onnx_bytes(**how) if isinstance(how, dict) else spoil(onnx_bytes(), how, str))
    refused("val.py", file, "--imgsz", 64, "--data", "gone.yaml", named="model.onnx")


@pytest.mark.parametrize("kind", ["two inputs", "other operators", "integers", "external data is missing"])
def test_onnx_graphs_that_are_others(kind, tmp_path, refused):
    file = bad_files.other_onnx(kind, tmp_path)
    refused("val.py", file, "--imgsz", 64, "--data", "gone.yaml", named="model.onnx")


def test_a_good_onnx_file_is_described(tmp_path, refused):
    from ultralytics.pruning.deploy.onnx_files import read_onnx, try_out

    (tmp_path / "model.onnx").write_bytes(onnx_bytes())
    file = read_onnx(tmp_path / "model.onnx", "model.onnx")
    assert (file.task, len(file.names), file.parameters, file.sides, file.batch) == ("detect", 2, 18, (64, 64), 1)
    try_out(tmp_path / "model.onnx", "model.onnx", file, 1, (64, 64))
    refused("val.py", tmp_path / "model.onnx", "--imgsz", 64, "--data", "gone.yaml", named="--data gone.yaml")


RESULTS = {
    "empty": b"",
    "binary": b"\xff\xd8\0\1",
    "without a header": b"1,0.5\n2,0.5\n",
    "a row of text": b"epoch,time\n1,0.5\n2,soon\n",
    "a short row": b"epoch,time\n1\n2,0.5\n",
    "something else": b"hello\n",
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_of_a_run_that_is_resumed(name, tmp_path):
    file = tmp_path / "results.csv"
    file.write_bytes(RESULTS[name])
    with pytest.raises(PruningError, match=r"results\.csv.*move it away"):
        resuming.forget_unsaved_epochs(file, 2)
    assert file.read_bytes() == RESULTS[name]


def test_a_torn_row_of_an_epoch_that_was_not_saved_is_dropped(tmp_path):
    file = tmp_path / "results.csv"
    file.write_text("epoch,time\n1,0.5\n2,1.0\n3,1")
    resuming.forget_unsaved_epochs(file, 2)
    assert file.read_text() == "epoch,time\n1,0.5\n2,1.0\n"
    resuming.forget_unsaved_epochs(tmp_path / "gone.csv", 2)


@pytest.mark.parametrize("name", ["binary", "empty"])
def test_a_run_with_damaged_results_is_not_resumed(name, tiny, digits, runs, refused):
    weights = runs / "finetune" / "weights"
    weights.mkdir(parents=True)
    content = torch.load(tiny, weights_only=False)
    content.update(
        epoch=0, optimizer={"state": {}, "param_groups": []}, train_args={"epochs": 3, "data": str(digits), "imgsz": 64}
    )
    torch.save(content, weights / "last.pt")
    (runs / "finetune" / "results.csv").write_bytes(RESULTS[name])
    refused("finetune.py", "--resume", named="results.csv")


def test_a_repetition_is_the_plan_that_was_made(tiny, plan):
    """A plan with a wrong promise is refused, the right one gives the widths that it names."""
    model, _ = load(tiny)
    try:
        result = repeat_plan(model, PruningPlan.from_dict(plan))
    except PruningError as error:  # the check of an untrained network is relative to its spread
        pytest.skip(str(error)) if "please report" in str(error) else pytest.fail(str(error))
    assert result.model.model[1].conv.out_channels == len(plan["layers"]["model.1.conv"]["out"])
