"""Files that would run code: none of it runs, one line names it, and only who trusts the file lets it run."""

import argparse
import itertools
import os
import pathlib
import pickle
import re
import runpy
import shutil
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import REPOSITORY, run_python
from torch import nn

from ultralytics import YOLO
from ultralytics.data.utils import check_det_dataset, load_dataset_cache_file
from ultralytics.nn import tasks
from ultralytics.pruning import PruningError, load, prune_network, save, stages, training, trust

TINY = {
    "nc": 10,
    "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "C2f", [32, 1]]],
    "head": [[[1, 2], 1, "Detect", ["nc"]]],
}
TRUST = trust.VARIABLE
EXEC = r"builtins\.exec"


class Payload:
    """Makes a folder when it is unpickled; what is left in its place is None."""

    def __init__(self, marker: Path, call: str = "exec") -> None:
        self.calls = {
            "exec": (exec, (f"import os; os.makedirs({str(marker)!r})",)),
            "mkdir": (os.mkdir, (str(marker),)),
            "system": (os.system, (f"mkdir {marker}",)),
            "path": (pathlib.Path.mkdir, (marker,)),
        }
        self.call = call

    def __reduce__(self):
        return self.calls[self.call]


NAMES = {"exec": "builtins.exec", "mkdir": "posix.mkdir", "system": "posix.system", "path": "pathlib.Path"}


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """One thread, and no trust from outside."""
    monkeypatch.setattr(stages, "choose_device", lambda wanted: "cpu")
    for variable in (TRUST,):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def marker(tmp_path) -> Path:
    """What a payload makes."""
    return tmp_path / "it-ran"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A tiny checkpoint of ten classes."""
    model = tasks.DetectionModel(TINY, verbose=False)
    model.task, model.names = "detect", {i: str(i) for i in range(10)}
    file = tmp_path_factory.mktemp("good") / "good.pt"
    save(model, file, train_args={"task": "detect", "imgsz": 64, "epochs": 2, "data": "gone.yaml"})
    return file


def raw(file: Path) -> dict:
    """The content of a checkpoint that this test wrote."""
    return torch.load(file, weights_only=False)


def hostile(good: Path, place: str, payload: Payload, file: Path, **how) -> Path:
    """Writes a checkpoint with a payload somewhere in it."""
    content = raw(good)
    if place == "model":
        content["model"].model[0].note = payload
    elif place == "plan":
        content["model"].pruning_plans = [{"settings": payload}]
    elif place == "train_args":
        content["train_args"]["data"] = payload
    elif place == "ema":
        content["ema"] = payload
    elif place == "extra":
        content["note"] = payload
    elif place == "top":
        content = payload
    torch.save(content, file, **how)
    return file


def run(monkeypatch, capsys, script: str, *words: object) -> tuple[int, str]:
    """Runs a script in this process; returns its exit code and what it says on standard error."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    capsys.readouterr()
    code = 0
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    return code, capsys.readouterr().err.strip()


def refused(monkeypatch, capsys, script: str, *words: object) -> str:
    """Runs a script that has to refuse; returns its line."""
    code, said = run(monkeypatch, capsys, script, *words)
    assert code == 2, said
    assert len(said.splitlines()) == 1, said
    assert "Traceback" not in said
    return said


def reading(script: str, file: Path, digits: Path, folder: Path) -> tuple:
    """The words that let a script read a checkpoint."""
    return {
        "prune.py": ("--weights", file, "--save-dir", folder / "out"),
        "val.py": (file, "--data", digits, "--imgsz", 64),
        "vis-bn-weight.py": (file, "--save", folder / "out" / "bn.png"),
        "export.py": ("--weights", file, "--imgsz", 64),
        "compress.py": ("--weights", file, "--data", digits, "--imgsz", 64, "--speed-up", 2),
    }.get(script, ("--weights", file, "--data", digits, "--imgsz", 64, "--epochs", 1))


PLACES = ["model", "plan", "train_args", "ema", "extra", "top"]
SCRIPTS = sorted(file.name for file in REPOSITORY.glob("*.py"))


EACH = [*((place, "prune.py") for place in PLACES), *zip(itertools.cycle(PLACES), SCRIPTS, strict=False)]


@pytest.mark.parametrize(("place", "script"), EACH)
def test_no_script_runs_what_a_checkpoint_holds(
    place, script, good, digits, tmp_path, runs, marker, monkeypatch, capsys
):
    file = hostile(good, place, Payload(marker), tmp_path / "evil.pt")
    before = file.read_bytes()
    line = refused(monkeypatch, capsys, script, *reading(script, file, digits, tmp_path))
    assert not marker.exists()
    assert all(word in line for word in ("builtins.exec", "--trust", f"{TRUST}=1", file.name))
    assert not runs.exists() and not (tmp_path / "out").exists()
    assert file.read_bytes() == before


@pytest.mark.parametrize("call", NAMES)
@pytest.mark.parametrize("how", ["zip", "protocol 4", "before zip", "bare pickle"])
def test_the_line_names_the_code_in_every_format(how, call, good, tmp_path, marker):
    file = tmp_path / "evil.pt"
    if how == "bare pickle":
        file.write_bytes(pickle.dumps({"model": Payload(marker, call)}))
    else:
        format = {"protocol 4": {"pickle_protocol": 4}, "before zip": {"_use_new_zipfile_serialization": False}}
        hostile(good, "extra", Payload(marker, call), file, **format.get(how, {}))
    for reads in (load, YOLO):
        with pytest.raises(Exception, match=NAMES[call].replace(".", r"\.") if reads is load else None):
            reads(file)
        assert not marker.exists()


PICKLES = {  # what a pickle can ask for without a class of its own
    "a function of a module that is known": (
        b"cultralytics.nn.tasks\ntorch_safe_load\n",
        "ultralytics.nn.tasks.torch_safe_load",
    ),
    "a function of PyTorch": (b"ctorch.hub\nload\n", "torch.hub.load"),
    "an import behind a module that is known": (
        b"cultralytics.nn.modules.block\ntorch\n",
        "ultralytics.nn.modules.block.torch",
    ),
    "an attribute of a class that is known": (
        b"c__builtin__\ngetattr\nctorch.nn.modules.module\nModule\nX\x0e\x00\x00\x00__subclasses__\x86R",
        "__subclasses__",
    ),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_what_is_no_layer_of_a_module_that_is_known_is_refused(kind, good, tmp_path):
    code, named = PICKLES[kind]
    file = tmp_path / "evil.pt"
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(file, "w") as evil:
        for name in archive.namelist():
            evil.writestr(name, b"\x80\x02" + code + b"." if name.endswith("data.pkl") else archive.read(name))
    with pytest.raises(PruningError, match=re.escape(named) + ".*--trust"):
        load(file)


def interrupted(good: Path, run: Path, digits: Path, quick: dict) -> Path:
    """A run that was stopped in its second epoch; returns its last checkpoint."""

    class Stopped(Exception):
        """Out of a training."""

    def stop(trainer):
        if trainer.epoch == 1:
            raise Stopped

    model = YOLO(good)
    model.add_callback("on_train_epoch_start", stop)
    with pytest.raises(Stopped):
        model.train(
            **{**quick, "epochs": 2, "sparsity": "proximal", "sr": 0.1, "project": run.parent, "name": run.name}
        )
    return run / "weights" / "last.pt"


@pytest.fixture(scope="module")
def kept(good, digits, quick, tmp_path_factory) -> tuple[Path, Path]:
    """The folder of a run that was interrupted, and a copy of it."""
    folder = tmp_path_factory.mktemp("stopped") / "runs" / "train-sparsity"
    interrupted(good, folder, digits, quick)
    return folder, Path(shutil.copytree(folder, folder.parents[1] / "kept"))


@pytest.fixture
def stopped(kept, monkeypatch) -> Path:
    """The folder of that run, as it was when it was interrupted."""
    folder, copy = kept
    for module in (stages, training):
        monkeypatch.setattr(module, "RUNS", folder.parent)
    shutil.rmtree(folder)
    return Path(shutil.copytree(copy, folder))


@pytest.mark.parametrize("kind", ["checkpoint", "state", "state, at the top", "no state"])
def test_resuming_runs_nothing(kind, stopped, marker, monkeypatch, capsys):
    weights = stopped / "weights"
    state = weights / "resume-0.pt"
    assert state.is_file()
    plain = torch.load(state, weights_only=True)  # nothing but data
    if kind == "checkpoint":
        torch.save({**raw(weights / "last.pt"), "note": Payload(marker)}, weights / "last.pt")
    elif kind == "no state":
        state.write_bytes(b"no state")
    else:
        torch.save({**plain, "note": Payload(marker)} if kind == "state" else Payload(marker), state)
    before = {file: file.read_bytes() for file in stopped.rglob("*") if file.is_file()}
    line = refused(monkeypatch, capsys, "train_sparsity.py", "--resume")
    assert not marker.exists()
    assert ("builtins.exec" in line) == (kind != "no state")
    assert (weights / "last.pt" if kind == "checkpoint" else state).name in line
    assert {file: file.read_bytes() for file in stopped.rglob("*") if file.is_file()} == before


def test_a_state_with_an_array_of_numpy_is_data(stopped, monkeypatch, capsys):
    """As they were written before: the random state of NumPy as NumPy gives it."""
    weights = stopped / "weights"
    state = torch.load(weights / "resume-0.pt", weights_only=True)
    state["random"]["numpy"] = np.random.get_state()
    torch.save(state, weights / "resume-0.pt")
    code, said = run(monkeypatch, capsys, "train_sparsity.py", "--resume")
    assert code == 0, said
    assert "no exact state" not in said
    assert len((stopped / "results.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("script", "setting"),
    [("train-normal.py", "pretrained"), ("finetune.py", "distill_model"), ("compress.py", "pretrained")],
)
def test_other_checkpoints_run_nothing(script, setting, good, digits, tmp_path, runs, marker, monkeypatch, capsys):
    file = hostile(good, "extra", Payload(marker, "system"), tmp_path / "evil.pt")
    words = (*reading(script, good, digits, tmp_path), f"{setting}={file}")
    assert "posix.system" in refused(monkeypatch, capsys, script, *words)
    assert not marker.exists()
    assert not runs.exists()


def test_trust_is_for_the_command_that_says_so(good, tmp_path, marker, monkeypatch, capsys):
    file = hostile(good, "model", Payload(marker), tmp_path / "mine.pt")
    code, said = run(monkeypatch, capsys, "vis-bn-weight.py", file, "--save", tmp_path / "bn.png", "--trust")
    assert code == 0, said
    assert marker.is_dir()
    assert (tmp_path / "bn.png").is_file()
    assert TRUST not in os.environ
    with pytest.raises(PruningError, match=EXEC):
        load(file)


@pytest.mark.parametrize(("variable", "value"), [(TRUST, "1"), (TRUST, "True"), ("ULTRALYTICS_SAFE_LOAD", "0")])
def test_the_environment_trusts(variable, value, good, tmp_path, marker, monkeypatch):
    file = hostile(good, "extra", Payload(marker), tmp_path / "mine.pt")
    monkeypatch.setenv(variable, value)
    assert load(file)[0].names
    assert marker.is_dir()


def test_a_process_inherits_trust(good, tmp_path, marker):
    file = hostile(good, "extra", Payload(marker), tmp_path / "mine.pt")
    code = f"from ultralytics import YOLO; YOLO({str(file)!r})"
    with trust.given(True):
        done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert marker.is_dir()


@pytest.mark.parametrize("value", ["", "0", "false", "no", "somebody.Else"])
def test_other_values_of_the_variables_trust_nothing(value, good, tmp_path, marker, monkeypatch):
    monkeypatch.setenv(TRUST, value)
    monkeypatch.setenv("ULTRALYTICS_SAFE_LOAD", "1" if value else "")
    file = hostile(good, "extra", Payload(marker), tmp_path / "evil.pt")
    with pytest.raises(PruningError, match=EXEC):
        load(file)
    assert not marker.exists()


def test_old_formats_load_where_they_are_trusted(good, tmp_path, monkeypatch):
    torch.save(raw(good), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(PruningError, match=r"old\.pt"):
        load(tmp_path / "old.pt")
    monkeypatch.setenv(TRUST, "1")
    assert load(tmp_path / "old.pt")[0].names == load(good)[0].names


# ---- modules of one's own ----

OWN = """
from torch import nn

class Gate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.scale = nn.Conv2d(c, c, 1)
    def forward(self, x):
        return x * self.scale(x).sigmoid()

class Other(Gate):
    pass
"""


@pytest.fixture
def own(good, tmp_path, monkeypatch):
    """A file of one's own, importable but not imported, and a checkpoint with a module of it."""
    (tmp_path / "own_layers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    model = load(good)[0]
    module = types.ModuleType("own_layers")
    exec(OWN, module.__dict__)
    for found in (module.Gate, module.Other):
        found.__module__ = "own_layers"
    monkeypatch.setitem(sys.modules, "own_layers", module)
    gate = module.Gate(32)
    model.model[1] = nn.Sequential(model.model[1], gate)
    for name in ("f", "i", "type", "np"):
        setattr(model.model[1], name, getattr(model.model[1][0], name))
    torch.save({**raw(good), "model": model}, tmp_path / "own.pt")
    monkeypatch.delitem(sys.modules, "own_layers")
    kept = torch.serialization.get_safe_globals()
    yield tmp_path / "own.pt"
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(kept)


def test_a_module_of_ones_own_is_refused_by_name_and_not_imported(own, monkeypatch):
    with pytest.raises(PruningError, match=r"own_layers\.Gate"):
        load(own)
    assert "own_layers" not in sys.modules
    import own_layers

    with pytest.raises(PruningError, match=r"own_layers\.Gate"):  # imported is not allowed
        load(own)
    monkeypatch.setattr(tasks, "Other", own_layers.Other, raising=False)  # the file registers a module
    assert type(load(own)[0].model[1][1]) is own_layers.Gate


@pytest.mark.parametrize("name", ["own_layers.Gate", "own_layers", "torch.nn.Tanh, own_layers.Gate"])
def test_a_module_of_ones_own_is_allowed_by_name(own, name, tmp_path, marker, monkeypatch):
    monkeypatch.setenv(TRUST, name)
    model, _ = load(own)
    assert type(model.model[1][1]).__name__ == "Gate"
    with pytest.raises(PruningError, match=EXEC):  # and nothing else
        load(hostile(own, "extra", Payload(marker), tmp_path / "evil.pt"))
    assert not marker.exists()


def test_a_module_of_ones_own_is_allowed_in_the_way_of_pytorch(own):
    import own_layers

    torch.serialization.add_safe_globals([own_layers.Gate])
    assert isinstance(load(own)[0].model[1][1], own_layers.Gate)


# ---- model yamls ----


def evil_activation(marker: Path) -> str:
    return f"__import__('os').makedirs({str(marker)!r})"


@pytest.mark.parametrize("script", ["prune.py", "train-normal.py"])
@pytest.mark.parametrize("kind", ["activation", "call in an argument", "lambda", "function in a row"])
def test_a_model_yaml_runs_nothing(kind, script, digits, tmp_path, runs, marker, monkeypatch, capsys):
    content = {**TINY, "backbone": [[*row] for row in TINY["backbone"]]}
    made = evil_activation(marker)
    if kind == "function in a row":
        content["backbone"][0] = [-1, 1, "check_requirements", [str(marker)]]
    else:
        content["activation"] = {
            "activation": made,
            "call in an argument": f"nn.LeakyReLU({made})",
            "lambda": f"(lambda: {made})()",
        }[kind]
    file = tmp_path / "evil.yaml"
    file.write_text(yaml.safe_dump(content))
    line = refused(monkeypatch, capsys, script, *reading(script, file, digits, tmp_path))
    assert not marker.exists()
    assert ("check_requirements" if kind == "function in a row" else "activation") in line
    assert "--trust" in line
    assert not runs.exists()


@pytest.mark.parametrize("script", ["prune.py", "finetune.py", "val.py"])
def test_the_yaml_inside_a_checkpoint_runs_nothing(script, good, digits, tmp_path, runs, marker, monkeypatch, capsys):
    content = raw(good)
    content["model"].yaml["activation"] = evil_activation(marker)
    torch.save(content, tmp_path / "evil.pt")
    line = refused(monkeypatch, capsys, script, *reading(script, tmp_path / "evil.pt", digits, tmp_path))
    assert "activation" in line and "evil.pt" in line
    assert not marker.exists()


def test_activations_with_plain_arguments_are_built(monkeypatch):
    from ultralytics.nn.modules import Conv

    monkeypatch.setattr(tasks, "MyTanh", type("MyTanh", (nn.Tanh,), {}), raising=False)
    for text, kind in (
        ("nn.LeakyReLU(0.2)", nn.LeakyReLU),
        ("torch.nn.ReLU(inplace=True)", nn.ReLU),
        ("MyTanh()", nn.Tanh),
    ):
        model = tasks.DetectionModel({**TINY, "activation": text}, verbose=False)
        assert isinstance(model.model[0].act, kind)
    assert isinstance(Conv.default_act, nn.SiLU)


def test_trust_lets_a_model_yaml_compute(monkeypatch):
    monkeypatch.setenv(TRUST, "1")
    model = tasks.DetectionModel({**TINY, "activation": "[nn.ReLU()][0]"}, verbose=False)
    assert isinstance(model.model[0].act, nn.ReLU)


# ---- data ----


@pytest.fixture
def data(digits, tmp_path) -> Path:
    """A copy of the digits, so that a test may write beside them."""
    folder = Path(shutil.copytree(digits.parent, tmp_path / "data"))
    content = yaml.safe_load((folder / digits.name).read_text())
    content["path"] = str(folder)
    (folder / digits.name).write_text(yaml.safe_dump(content))
    for cache in folder.rglob("*.cache"):
        cache.unlink()
    return folder / digits.name


def scan(data: Path):
    """The training images as the release reads them."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset

    args = get_cfg(overrides={"imgsz": 64, "task": "detect"})
    found = check_det_dataset(str(data))
    return build_yolo_dataset(args, found["train"], 4, found, mode="val")


def test_a_label_cache_runs_nothing_and_is_written_anew(data, marker, monkeypatch, capsys):
    expected = [label["cls"].tolist() for label in scan(data).labels]
    (cache,) = data.parent.rglob("*.cache")
    plain = load_dataset_cache_file(cache)
    assert plain["labels"][0]["cls"].dtype == np.float32
    np.save(cache.with_suffix(".npy"), {**plain, "note": Payload(marker)}, allow_pickle=True)
    cache.with_suffix(".npy").replace(cache)
    with pytest.raises(PruningError, match=EXEC):
        load_dataset_cache_file(cache)
    assert [label["cls"].tolist() for label in scan(data).labels] == expected
    assert not marker.exists()
    assert load_dataset_cache_file(cache).keys() == plain.keys()  # written anew


def test_a_trusted_label_cache_is_unpickled(data, marker, monkeypatch):
    np.save(data.parent / "labels.npy", {"note": Payload(marker)}, allow_pickle=True)
    monkeypatch.setenv(TRUST, "1")
    load_dataset_cache_file(data.parent / "labels.npy")
    assert marker.is_dir()


def test_a_label_cache_says_what_the_release_reads(data):
    scan(data)
    (cache,) = data.parent.rglob("*.cache")
    ours, release = load_dataset_cache_file(cache), np.load(cache, allow_pickle=True).item()
    assert ours.keys() == release.keys() and ours["hash"] == release["hash"]
    for one, other in zip(ours["labels"], release["labels"], strict=True):
        assert one["im_file"] == other["im_file"]
        assert np.array_equal(one["bboxes"], other["bboxes"])


def without_images(data: Path, download: str) -> Path:
    content = yaml.safe_load(data.read_text())
    file = data.with_name("gone.yaml")
    file.write_text(yaml.safe_dump({**content, "val": "nowhere", "train": "nowhere", "download": download}))
    return file


@pytest.mark.parametrize(
    ("script", "kind"),
    [("finetune.py", "python"), ("val.py", "bash"), ("prune.py", "python"), ("compress.py", "bash")],
)
def test_download_lines_are_not_run(script, kind, good, data, tmp_path, runs, marker, monkeypatch, capsys):
    code = f"import os\nos.makedirs({str(marker)!r})" if kind == "python" else f"bash -c mkdir${{IFS}}{marker}"
    file = without_images(data, code)
    words = reading(script, good, file, tmp_path)
    if script == "prune.py":
        words = (*words, "--data", file, "--val", "--prune-ratio", 0.3)
    line = refused(monkeypatch, capsys, script, *words)
    assert not marker.exists()
    assert "nowhere" in line and "--trust" in line and "download" in line
    assert not runs.exists()


def test_a_trusted_download_is_run(data, marker, monkeypatch):
    file = without_images(data, f"import os\nos.makedirs({str(marker)!r})")
    with pytest.raises(PruningError, match="download"):
        check_det_dataset(str(file))
    assert not marker.exists()
    monkeypatch.setenv(TRUST, "1")
    check_det_dataset(str(file))
    assert marker.is_dir()


def test_the_yamls_of_the_release_are_trusted_where_they_lie(tmp_path, monkeypatch):
    from ultralytics.data import utils
    from ultralytics.pruning import downloads

    asked = []

    def release(dataset, autodownload, split):
        asked.append(autodownload)

    monkeypatch.chdir(tmp_path)
    for name in ("coco8", "coco8.yaml", "digits-nowhere.yaml"):
        downloads.check_images(release, name)
    shutil.copy(Path(utils.__dict__["ROOT"]) / "cfg" / "datasets" / "coco8.yaml", tmp_path / "coco8.yaml")
    downloads.check_images(release, "coco8.yaml")  # a file of this name that lies here
    assert asked == [True, True, False, False]


# ---- the ways of the release ----


def test_every_loader_of_the_release_is_restricted(good, tmp_path, marker, monkeypatch):
    from ultralytics.nn.autobackend import AutoBackend
    from ultralytics.nn.distill_model import load_checkpoint
    from ultralytics.utils import torch_utils
    from ultralytics.utils.patches import torch_load

    file = hostile(good, "extra", Payload(marker), tmp_path / "evil.pt")
    for reads in (torch_load, tasks.load_checkpoint, tasks.torch_safe_load, load_checkpoint, AutoBackend, YOLO):
        with pytest.raises(PruningError, match=EXEC):
            reads(file)
    with pytest.raises(PruningError, match=EXEC):
        YOLO(good).load(file)
    with open(file, "rb") as opened, pytest.raises(PruningError, match=EXEC):
        torch_load(opened)
    assert torch_utils.strip_optimizer(file) == {}
    assert not marker.exists()
    with open(good, "rb") as opened:
        assert torch_load(opened)["train_args"]["imgsz"] == 64


def test_checkpoints_of_others_need_no_trust(tau):
    model, content = load(tau)
    assert model.task == "obb" and content["train_args"]
    with open(tau, "rb") as opened:
        from ultralytics.utils.patches import torch_load

        assert "model" in torch_load(opened)


def test_a_pruned_and_a_taught_network_need_no_trust(good, quick, tmp_path):
    pruned = prune_network(load(good)[0], prune_ratio=0.3).model
    save(pruned, tmp_path / "pruned.pt", train_args={"task": "detect"})
    assert load(tmp_path / "pruned.pt")[0].pruning_plans
    seen = {}

    def look(trainer):  # an unfinished checkpoint, with the EMA, the optimizer, and the teacher beside the student
        seen["content"] = load(trainer.last)[1]
        seen["kind"] = type(seen["content"]["ema"]).__name__

    model = YOLO(tmp_path / "pruned.pt")
    model.add_callback("on_model_save", look)
    model.train(**{**quick, "finetune": True, "distill_model": str(good), "project": tmp_path, "name": "taught"})
    assert seen["kind"] == "DistillationModel"
    assert seen["content"]["optimizer"] is not None
    finished = raw(tmp_path / "taught" / "weights" / "last.pt")
    assert finished["optimizer"] is None and type(finished["model"]).__name__ == "DetectionModel"


def test_trust_is_an_option_of_every_script(monkeypatch, capsys):
    for script in SCRIPTS:
        monkeypatch.setattr(sys, "argv", [script, "--help"])
        with pytest.raises(SystemExit):
            runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        assert "--trust" in capsys.readouterr().out
    parser = argparse.ArgumentParser()
    trust.add_option(parser)
    assert not parser.parse_args([]).trust


# ---- checkpoints that hold no code, and lack something ----


def without(attribute: str):
    def change(content: dict) -> None:
        content["model"].__dict__.pop(attribute, None)

    return change


def with_value(attribute: str, value: object):
    return lambda content: setattr(content["model"], attribute, value)


def with_args(**changes):
    return lambda content: content["train_args"].update(changes)


LACKING = {
    "no names": (without("names"), "names"),
    "names are a number": (with_value("names", 5), "names"),
    "no name": (with_value("names", {}), "names"),
    "a name is a list": (with_value("names", {0: ["a"]}), "no text"),
    "names by text": (with_value("names", {"a": "b"}), "names"),
    "no yaml": (without("yaml"), "yaml"),
    "yaml is a text": (with_value("yaml", "yolov8n.yaml"), "yaml"),
    "yaml without rows": (with_value("yaml", {"nc": 10}), "rows"),
    "broken rows": (with_value("yaml", {**TINY, "head": [5]}), "rows"),
    "stride is a text": (with_value("stride", "32"), "stride"),
    "stride of zero": (with_value("stride", torch.zeros(3)), "stride"),
    "another task": (with_value("task", "fly"), "fly"),
    "plans are a number": (with_value("pruning_plans", 3), "plans"),
    "train_args are a list": (lambda content: content.update(train_args=["a"]), "train_args"),
    "train_args are a number": (lambda content: content.update(train_args=3), "train_args"),
    "train_args are None": (lambda content: content.update(train_args=None), "train_args"),
    "a key is a number": (lambda content: content["train_args"].update({3: 4}), "train_args"),
    "imgsz is a text": (with_args(imgsz="large"), "imgsz"),
    "imgsz is NaN": (with_args(imgsz=float("nan")), "imgsz"),
    "epochs is a list of texts": (with_args(epochs=["a"]), "epochs"),
    "data is a number": (with_args(data=5), "data"),
    "a rate is infinite": (with_args(lr0=float("inf")), "lr0"),
    "epoch is a text": (lambda content: content.update(epoch="last"), "epoch"),
    "metrics are a list": (lambda content: content.update(train_metrics=[1]), "train_metrics"),
    "optimizer is a number": (lambda content: content.update(optimizer=5), "optimizer"),
    "an interrupted run of nothing": (
        lambda content: content.update(optimizer={"state": {}, "param_groups": []}, train_args={}),
        "lack data",
    ),
    "an interrupted run with a refused value": (
        lambda content: content.update(
            optimizer={"state": {}, "param_groups": []}, train_args={**content["train_args"], "mosaic": "much"}
        ),
        "mosaic",
    ),
}


def lacking(kind: str, good: Path, folder: Path) -> Path:
    """Writes a checkpoint that lacks something."""
    content = raw(good)
    LACKING[kind][0](content)
    torch.save(content, folder / "lacking.pt")
    return folder / "lacking.pt"


@pytest.mark.parametrize("kind", LACKING)
def test_what_a_checkpoint_lacks_is_said(kind, good, tmp_path):
    with pytest.raises(PruningError, match="lacking.pt.*" + re.escape(LACKING[kind][1])) as caught:
        load(lacking(kind, good, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_script_works_with_what_lacks_something(script, good, digits, tmp_path, runs, monkeypatch, capsys):
    kind = list(LACKING)[SCRIPTS.index(script) * 3]
    file = lacking(kind, good, tmp_path)
    line = refused(monkeypatch, capsys, script, *reading(script, file, digits, tmp_path))
    assert LACKING[kind][1] in line.partition("lacking.pt")[2]
    assert not runs.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["nn.Sequential", "nn.Linear", "DetectionModel", "list", "Tensor"])
def test_what_is_no_checkpoint_is_named(kind, good, digits, tmp_path, monkeypatch, capsys):
    bare = {
        "nn.Sequential": nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        "nn.Linear": nn.Linear(2, 2),
        "DetectionModel": raw(good)["model"],
        "list": [1, 2],
        "Tensor": torch.zeros(2),
    }[kind]
    torch.save(bare, tmp_path / "bare.pt")
    line = refused(monkeypatch, capsys, "prune.py", *reading("prune.py", tmp_path / "bare.pt", digits, tmp_path))
    assert f"a {'bare ' if isinstance(bare, nn.Module) else ''}{kind}" in line
    assert ("save it" in line) == isinstance(bare, nn.Module)
