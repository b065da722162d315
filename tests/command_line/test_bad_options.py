"""Words of a command line that no stage can obey: one line, exit code 2, nothing written; in all nine scripts."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from torch import nn

from helpers.networks import yolo
from helpers.repository import FADED_WEIGHTS, REPOSITORY, SCRIPTS, entries
from helpers.scripts import refused
from helpers.sparsity_runs import run_of
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import save
from ultralytics.pruning.command_line import entry, settings
from ultralytics.pruning.errors import counted

TRAINING = ("train-normal.py", "train_sparsity.py", "finetune.py")
ALL = (*TRAINING, "vis-bn-weight.py", "prune.py", "val.py", "export.py", "compress.py", "latency_table.py")
ALL += ("report.py",)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """The stages let all cores work; the tests stay with one."""
    release = entry.choose_device
    monkeypatch.setattr(entry, "choose_device", lambda wanted: release(wanted) if wanted not in {"", "cpu"} else "cpu")


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A checkpoint of ten classes, made for images of 32 pixels."""
    model = DetectionModel("yolov8n.yaml", nc=10, verbose=False)
    model.task, model.names = "detect", {i: str(i) for i in range(10)}
    file = tmp_path_factory.mktemp("good") / "good.pt"
    save(model, file)
    return file


def base(script: str, good: Path, digits: Path, out: Path) -> list[str]:
    """Returns words with which a script would work, and write."""
    small = ["--imgsz", "64", "--batch", "8"]
    return {
        "vis-bn-weight.py": [str(good), "--save", str(out / "bn.png")],
        "prune.py": ["--weights", str(good), "--save-dir", str(out), "--imgsz", "64", "--no-onnx"],
        "val.py": [str(good), "--data", str(digits), *small],
        "export.py": ["--weights", str(good), "--imgsz", "64"],
        "report.py": [str(good), "-o", str(out / "report.html")],
        "latency_table.py": ["--weights", str(good), "--imgsz", "64", "--output", str(out / "table.json")],
        "compress.py": ["--weights", str(good), "--data", str(digits), *small, "--speed-up", "2"],
    }.get(script, ["--weights", str(good), "--data", str(digits), *small, "--epochs", "3"])


LONG = "n" * 300
HUGE = str(10**20)
EMPTY = {  # an option that names something -> the scripts that have it
    "--weights": (*TRAINING, "prune.py", "export.py", "compress.py", "latency_table.py"),
    "--data": (*TRAINING, "prune.py", "val.py", "export.py", "compress.py", "report.py"),
    "--name": (*TRAINING, "val.py", "compress.py"),
    "--plan": ("prune.py",),
    "--save-dir": ("prune.py",),
    "--cfg": ("prune.py",),
    "--ignore": ("prune.py", "compress.py"),
    "--ratio": ("prune.py", "compress.py"),
    "--latency-table": ("prune.py", "compress.py", "train_sparsity.py"),
    "--device": ("prune.py", "val.py", "finetune.py", "latency_table.py"),
    "--format": ("export.py",),
    "--save": ("vis-bn-weight.py",),
    "--output": ("latency_table.py", "report.py"),
    "--sweep": ("compress.py",),
    "--criterion": ("prune.py", "compress.py"),
}
EMPTY_CASES = [(script, option) for option, scripts in EMPTY.items() for script in scripts]


@pytest.mark.parametrize(("script", "option"), EMPTY_CASES)
def test_what_names_something_is_not_empty(script, option, good, digits, runs, tmp_path, monkeypatch, capsys):
    for words in ([option, ""], [option, " \t"], [f"{option}="]):
        line = refused(monkeypatch, capsys, script, *base(script, good, digits, tmp_path / "out"), *words)
        assert line.startswith(f"{option} is empty")
    assert not runs.exists() and not (tmp_path / "out").exists()


OPTIONS = [  # scripts, words, what the line says
    (TRAINING, ("--epochs", "0"), "at least 1"),
    (TRAINING, ("--epochs", HUGE), "at most 1,000,000"),
    (TRAINING, ("--epochs", "²"), "not a whole number"),
    (TRAINING, ("--epochs", "\u0661"), "not a whole number"),
    (TRAINING, ("--epochs", "1e0"), "not a whole number"),
    (TRAINING, ("--batch", "-1"), "at least 1"),
    (TRAINING, ("--batch", HUGE), "at most 1,000,000"),
    (TRAINING, ("--batch", "8.0"), "not a whole number"),
    (TRAINING, ("--imgsz", "31"), "no side of an image"),
    (TRAINING, ("--imgsz", "0x40"), "no side of an image"),
    (TRAINING, ("--imgsz", "100"), "multiples of 32, e.g. 128"),
    (("train-normal.py",), ("--weights", "yolov8n.yaml", "--imgsz", "100"), "multiples of 32, e.g. 128"),
    (("prune.py", "compress.py", "latency_table.py", "export.py", "val.py"), ("--imgsz", HUGE), "no side of an image"),
    (("prune.py", "compress.py", "latency_table.py", "export.py", "val.py"), ("--imgsz", "0"), "no side of an image"),
    (("prune.py", "compress.py", "latency_table.py", "export.py", "val.py"), ("--imgsz", "-32"), "no side of an image"),
    (
        ("prune.py", "compress.py", "latency_table.py", "export.py", "val.py"),
        ("--imgsz", "65"),
        "takes multiples of 32",
    ),
    (("export.py",), ("--imgsz", "64,64,64"), "3 sides"),
    (("export.py",), ("--images", HUGE), "at most"),
    (("export.py",), ("--images", "0"), "at least 1"),
    (("export.py",), ("--format", "onxx"), "did you mean 'onnx'"),
    (("export.py",), ("--format", LONG), "unknown format"),
    (("export.py",), ("--format", "mnn", "--images", "3"), "does nothing here"),
    (ALL, ("--dvice", "cpu"), "unrecognized arguments: --dvice"),
    (ALL[:3], ("--epoch", "3"), "did you mean --epochs"),
    (("prune.py", "val.py", "finetune.py", "latency_table.py"), ("--device", "²"), "no device"),
    (("prune.py", "val.py", "finetune.py", "latency_table.py"), ("--device", "-1"), "no device"),
    (("prune.py", "val.py", "finetune.py", "latency_table.py"), ("--device", "cuda:"), "no device"),
    (("prune.py", "val.py", "finetune.py", "latency_table.py"), ("--device", "0,0"), "names a GPU twice"),
    (("prune.py", "val.py", "finetune.py", "latency_table.py"), ("--device", "1e0"), "no device"),
    (("prune.py", "val.py", "finetune.py", "latency_table.py"), ("--device", "9999"), "CUDA device"),
    (("prune.py", "val.py", "finetune.py", "latency_table.py"), ("--device", "9" * 5000), "no device"),
    ((*TRAINING, "val.py", "compress.py"), ("--name", ".."), "without slashes"),
    ((*TRAINING, "val.py", "compress.py"), ("--name", "a/b"), "without slashes"),
    ((*TRAINING, "val.py", "compress.py"), ("--name", ".hidden"), "begins with neither"),
    ((*TRAINING, "val.py", "compress.py"), ("--name", "~"), "begins with neither"),
    ((*TRAINING, "val.py", "compress.py"), ("--name", "two\nlines"), "control character"),
    ((*TRAINING, "val.py", "compress.py"), ("--name", LONG), "longer than the 200 bytes"),
    ((*TRAINING, "val.py", "compress.py"), ("--name", "model"), "the release replaces"),
    (("prune.py", "compress.py", "export.py", "finetune.py"), ("--weights", f"/tmp/{LONG}.pt"), "longer than a file"),
    (("prune.py", "compress.py", "export.py", "finetune.py"), ("--weights", "a\0.pt"), "control character"),
    (("prune.py", "compress.py", "export.py", "finetune.py"), ("--weights", "~nobody-here/a.pt"), "no user of that"),
    (("prune.py",), ("--save-dir", f"{LONG}"), "longer than a file system"),
    (("prune.py",), ("--plan", f"{LONG}.json"), "longer than a file system"),
    (("prune.py",), ("--latency-speed-up", "2", "--latency-table", "a\nb"), "control character"),
    (("prune.py", "compress.py"), ("--round-to", HUGE), "at most 65,536"),
    (("prune.py", "compress.py"), ("--min-channels", HUGE), "at most 65,536"),
    (("prune.py", "compress.py"), ("--min-channels", "8.5"), "not a whole number"),
    (("prune.py", "compress.py"), ("--ratio", "model.0=nan"), "at least 0 and below 1"),
    (("prune.py", "compress.py"), ("--ratio", "=0.5"), "not of the form"),
    (("prune.py", "compress.py"), ("--ratio", " =0.5"), "not of the form"),
    (("prune.py", "compress.py"), ("--max-ratio-per-layer", "inf"), "at most 1"),
    (("prune.py", "compress.py"), ("--threads", str(10**9)), "at most 1,024"),
    (("prune.py", "compress.py"), ("--recalibrate", HUGE), "at most"),
    (("prune.py",), ("--batches", "4"), "criteria that look at images only"),
    (("prune.py",), ("--val", "--dry-run"), "leave out one of both"),
    (("prune.py",), ("--speed-up", "inf"), "not a number of at least 1"),
    (("prune.py",), ("--speed-up", "1_0"), "not a number of at least 1"),
    (("prune.py",), ("--speed-up", "\u0661\u0662"), "not a number of at least 1"),
    (("prune.py",), ("--target-params", "1e999"), "not a number such as"),
    (("prune.py",), ("--prune-ratio", " 0.5 "), "at least 0 and below 1"),
    (("prune.py",), ("--prune-ratio", "5" * 400), "at least 0 and below 1"),
    (("compress.py",), ("--max-map-drop", "nan"), "at least 0 and at most 1"),
    (("compress.py",), ("--steps", HUGE), "at most"),
    (("compress.py",), ("--epochs-per-step", "0"), "at least 1"),
    (("compress.py",), ("--workers", str(10**9)), "at most 1,024"),
    (("compress.py",), ("--workers", "2"), "--workers goes with --sweep"),
    (("train_sparsity.py",), ("--sr", "nan"), "at least 0"),
    (("train_sparsity.py",), ("--sr", "-1"), "at least 0"),
    (("train_sparsity.py",), ("--sr", "1e300"), "at most 1e+06"),
    (("train_sparsity.py",), ("--target-sparsity", "0"), "above 0 and below 1"),
    (("train_sparsity.py",), ("--target-sparsity", "1"), "above 0 and below 1"),
    (("train_sparsity.py",), ("--target-speed-up", "1"), "a number above 1"),
    (("train_sparsity.py",), ("--sparsity", "steered", "--target-speed-up", "1e300"), "the speed-up is "),
    (("train_sparsity.py",), ("--sparsity", "group", "--target-speed-up", "500"), "is out of reach"),
    (("train_sparsity.py",), ("--sparsity", "group_reg", "--target-sparsity", "0.999"), "is out of reach"),
    (TRAINING, ("--resume", "--overwrite"), "leave out one of both"),
    (("val.py", "vis-bn-weight.py"), ("",), "is empty"),
    (("vis-bn-weight.py",), ("--save", "bn.jpg"), "must end with that"),
    (("vis-bn-weight.py",), ("gone.pt",), "'gone.pt' is not there"),
    (("vis-bn-weight.py",), ("imgsz=64",), "is not there"),
    (("vis-bn-weight.py",), ("--save", f"/tmp/{LONG}.png"), "longer than a file system"),
    (("latency_table.py",), ("--threads", "0"), "at least 1"),
    (("latency_table.py",), ("--round-to", "0"), "at least 1"),
    (("latency_table.py",), ("--round-to", "4096"), "keeps every layer whole"),
    (("latency_table.py",), ("--runtime", "tflite"), "invalid choice"),
    (("latency_table.py",), ("--weights", "gone.pt"), "is not there"),
    (("latency_table.py",), ("--weights", "gone.yaml"), "no such model yaml"),
    (("latency_table.py",), ("--weights", "README.md"), "needs a .pt"),
    (("latency_table.py",), ("--output", "table.txt"), "must end with that"),
    (("latency_table.py",), ("--output", "/proc/nowhere/table.json"), "cannot write into"),
    (("latency_table.py",), ("--output", REPOSITORY / "docs" / "results" / "zoo.json"), "is no table of latencies"),
    (("latency_table.py",), ("epochs=3",), "unrecognized arguments"),
]
CASES = [(script, words, said) for scripts, words, said in OPTIONS for script in scripts]


@pytest.mark.parametrize(("script", "words", "said"), CASES)
def test_options_that_no_stage_can_obey(script, words, said, good, digits, runs, tmp_path, monkeypatch, capsys):
    before = entries() | entries(good.parent)
    own = base(script, good, digits, tmp_path / "out")
    own = own[: own.index("--speed-up")] if "--sweep" in words else own
    assert said in refused(monkeypatch, capsys, script, *own, *words)
    assert not runs.exists() and not (tmp_path / "out").exists()
    assert entries() | entries(good.parent) == before


SWEEPS = [
    ("criterion=a/b", "no value of --criterion"),
    ("criterion=..", "invalid choice"),
    ("criterion=slim,", "values are missing"),
    ("criterion= ", "values are missing"),
    ("ratio=nan", "at least 0 and below 1"),
    ("ratio=0.2,\n", "values are missing"),
    (f"ratio={LONG}", "no value of --prune-ratio"),
    (f"epochs={HUGE}", "at most"),
    ("speed-up=1e300", "is out of reach"),
]


@pytest.mark.parametrize(("word", "said"), SWEEPS)
def test_sweeps_that_no_compression_can_obey(word, said, good, digits, runs, monkeypatch, capsys):
    words = ["--weights", good, "--data", digits, "--imgsz", "64", "--batch", "8"]
    words += [] if word.startswith(("ratio", "speed")) else ["--speed-up", "2"]
    assert said in refused(monkeypatch, capsys, "compress.py", *words, "--sweep", word)
    assert not runs.exists()


SETTINGS = [  # scripts, the setting, what the line says
    (TRAINING, "batch=0", "at least 1"),
    (TRAINING, "imgsz=-32", "no side of an image"),
    (TRAINING, "epochs=0", "at least 1"),
    (TRAINING, "epochs=1e999", "not a whole number"),
    (TRAINING, "device=cpu", "--device"),
    (TRAINING, "data=gone.yaml", "no such file"),
    (TRAINING, "lr0=", "no value"),
    (TRAINING, 'lr0=""', "no value"),
    (TRAINING, "freeze=[]", "is empty"),
    (TRAINING, "lr0=nan", "lr0=nan"),
    (TRAINING, "box=1e7", "out of range"),
    (TRAINING, "box=-1", "at least 0"),
    (TRAINING, "workers=-1", "at least 0"),
    (TRAINING, f"nbs={HUGE}", "at most"),
    (TRAINING, f"seed={HUGE}", "at most"),
    (TRAINING, "seed=True", "it is a number"),
    (TRAINING, "freeze=backbone", "how many layers"),
    (TRAINING, "classes=a", "numbers of classes"),
    (TRAINING, "cache=disc", "did you mean 'disk'"),
    (TRAINING, "copy_paste_mode=flop", "did you mean 'flip'"),
    (TRAINING, "format=onnx", "does not read it"),
    (TRAINING, "pretrained=gone.pt", "no such file"),
    (TRAINING, "distill_model=gone.pt", "no such file"),
    (TRAINING, "distill_model=README.md", "a checkpoint, .pt, is needed"),
    (TRAINING, "cfg=gone.yaml", "No such file"),
    ((*TRAINING, "compress.py"), "optimizer=AdamX", "did you mean 'Adam"),
    (("train_sparsity.py",), "sr=-1", "at least 0"),
    (("train_sparsity.py",), "sparsity=steerd", "did you mean 'steered'"),
    (("train_sparsity.py",), "target_speed_up=nan", "a number above 1"),
    (("train_sparsity.py",), "target_latency_speed_up=1", "a number above 1"),
    (("train_sparsity.py",), "target_params=0", "is not a number such as"),
    (("train-normal.py", "finetune.py"), "latency_table=gone.json", "no such file"),
    (("train-normal.py", "finetune.py"), "latency_table=README.md", "without a strength"),
    (("prune.py",), "imgsz=65", "takes multiples of 32"),
    (("prune.py",), "data=gone.yaml", "no such file"),
    (("prune.py",), "cfg=yolov8s.yaml", "is of size s"),
    (("prune.py",), "conf=0.5", "read for --val only"),
    (("prune.py",), "mosaic=1", "a criterion that looks at images"),
    (("prune.py",), "lr0=0.1", "does not read it"),
    (("prune.py",), "round_to=0", "at least 1"),
    (("prune.py",), "batch=0", "at least 1"),
    (("val.py",), "epochs=3", "does not read it"),
    (("val.py",), "imgsz=0", "no side of an image"),
    (("val.py",), "batch=1.5", "not a whole number"),
    (("val.py",), "split=tst", "did you mean 'test'"),
    (("export.py",), "imgsz=16", "no side of an image"),
    (("export.py",), "images=3", "unknown setting"),
    (("export.py",), "lr0=0.1", "does not read it"),
    (("export.py",), "workspace=4", "does nothing for format onnx"),
    (("export.py",), "format=onxx", "did you mean 'onnx'"),
    (("compress.py",), "batch=0", "use --batch"),
    (("compress.py",), "epochs=3", "use --epochs"),
    (("compress.py",), "sr=0.1", "cannot be set here"),
    (("compress.py",), "format=onnx", "does not read it"),
]
SETTING_CASES = [(script, word, said) for scripts, word, said in SETTINGS for script in scripts]


@pytest.mark.parametrize(("script", "word", "said"), SETTING_CASES)
def test_settings_that_no_stage_can_obey(script, word, said, good, digits, runs, tmp_path, monkeypatch, capsys):
    own = base(script, good, digits, tmp_path / "out")
    for option in (f"--{word.partition('=')[0].replace('_', '-')}",) if script != "compress.py" else ():
        own = [*own[: own.index(option)], *own[own.index(option) + 2 :]] if option in own else own
    assert said in refused(monkeypatch, capsys, script, *own, word)
    assert not runs.exists() and not (tmp_path / "out").exists()


def test_the_optimizers_are_those_of_the_release():
    with pytest.raises(NotImplementedError) as refusal:
        BaseTrainer.build_optimizer(None, nn.Identity(), name="none")
    known = re.search(r"\{(.*)\}", str(refusal.value))
    assert known and {*re.findall(r"\w+", known[1])} == {*settings.OPTIMIZERS}
    assert settings.read("optimizer", "adamw") == "adamw"  # which the release takes in any case


def test_there_are_cases_of_all_scripts():
    cases = [case[0] for case in (*EMPTY_CASES, *CASES, *SETTING_CASES)]
    assert {*cases} == {*ALL} == {*SCRIPTS}
    assert len(cases) + len(SWEEPS) >= 150


def test_an_option_and_its_setting_are_one(good, digits, runs, monkeypatch, capsys):
    """Said twice they must agree."""
    words = base("finetune.py", good, digits, runs)
    assert "one of both is enough" in refused(monkeypatch, capsys, "finetune.py", *words, "epochs=4")


def test_a_setting_is_obeyed_as_its_option_is(monkeypatch, capsys):
    weights = ["--weights", str(FADED_WEIGHTS), "--dry-run"]
    said = []
    for words in (["--imgsz", "96", "--round-to", "4"], ["imgsz=96", "round_to=4"], ["imgsz=64", "round_to=4"]):
        monkeypatch.setattr(sys, "argv", ["prune.py", *weights, "--prune-ratio", "0.3", *words])
        runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")
        said.append([line for line in capsys.readouterr().out.splitlines() if not line.startswith("Time:")])
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("mode", ["subgradient", "group_sl"])
def test_a_stronger_pull_is_one_that_is_stronger(mode):
    """Not `an sr 1 times as large`, however little was lacking."""
    run = run_of(yolo("yolov8n"), sparsity=mode, sr=0.01)
    run._at_start.fill_(1.0)
    for share in (0.99, 0.7, 0.1):
        run.mode.travel = share * (float(run._at_start.median()) if mode == "subgradient" else 1.0)
        said = re.search(r"an sr (\d+) times as large", " ".join(run.findings()))
        assert said and int(said[1]) >= max(2, round(1 / share) - 1)


def test_one_is_singular():
    assert [counted(1, "class", "classes"), counted(10, "class", "classes")] == ["1 class", "10 classes"]
    assert counted(1, "CUDA device") == "1 CUDA device"
