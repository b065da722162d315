"""A name on the command line leads to one file, whatever folder the work is done in later: the user's, else ours."""

import json
import runpy
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.repository import FADED_WEIGHTS, REPOSITORY
from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.command_line import entry, settling
from ultralytics.pruning.files import places
from ultralytics.pruning.stages import sweep, training

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def two(tmp_path, monkeypatch) -> SimpleNamespace:
    """Two folders, the user's and one in the place of the repository, with networks and yamls of the same names."""
    user, repository = tmp_path / "user", tmp_path / "repository"
    network, content = checkpoint.load(FADED_WEIGHTS)
    for folder, channel in ((user, 0), (repository, 1)):
        (folder / "nets").mkdir(parents=True)
        network.model[0].bn.running_mean[channel] += 1  # another network, of another sha256
        checkpoint.save(network, folder / "nets" / "a.pt", train_args=content.get("train_args"))
        (folder / "data.yaml").write_text("names: [a]\n")
        (folder / "model8.yaml").write_text("nc: 1\n")
        (folder / "own.yaml").write_text("lr0: 0.5\n" if folder == user else "lr0: 0.25\n")
        (folder / "pictures").mkdir()
    shutil.copy(repository / "nets" / "a.pt", repository / "ours.pt")
    monkeypatch.chdir(user)
    monkeypatch.setattr(places, "ROOT", repository)
    return SimpleNamespace(user=user, repository=repository)


def settled(monkeypatch, script: str, *words: str):
    """Returns what a script makes of its words, before its stage begins."""
    found = []

    def run(parser, stage):
        options = parser.parse_intermixed_args(words)
        settling.settle(options, parser._actions, options.words, parser.keys)
        found.append(options)

    monkeypatch.setattr(entry, "run", run)
    runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    return found[0]


TRAINING = ("train-normal.py", "train_sparsity.py", "finetune.py")
READ = [
    *[(script, "--weights", "weights") for script in (*TRAINING, "prune.py", "export.py", "compress.py")],
    ("latency_table.py", "--weights", "weights"),
    ("prune.py", "--plan", "plan"),
    ("prune.py", "--latency-table", "latency_table"),
    ("compress.py", "--latency-table", "latency_table"),
    ("train_sparsity.py", "--latency-table", "latency_table"),
]


@pytest.mark.parametrize(("script", "option", "name"), READ)
def test_a_file_is_the_users_or_ours(script, option, name, two, monkeypatch):
    """The user's where both have one of that name."""
    assert getattr(settled(monkeypatch, script, option, "nets/a.pt"), name) == str(two.user / "nets" / "a.pt")
    assert getattr(settled(monkeypatch, script, option, "ours.pt"), name) == str(two.repository / "ours.pt")
    assert getattr(settled(monkeypatch, script, f"{option}=./nets/../nets/a.pt"), name).startswith(str(two.user))


@pytest.mark.parametrize("script", [*TRAINING, "prune.py", "val.py", "export.py", "compress.py"])
def test_a_data_set_is_the_users_or_a_name_of_the_release(script, two, monkeypatch):
    files = ("nets/a.pt",) if script == "val.py" else ()
    for word, leads in (
        ("data.yaml", str(two.user / "data.yaml")),
        ("pictures", str(two.user / "pictures")),
        ("coco8.yaml", "coco8.yaml"),
        ("digits", "digits"),
    ):
        assert settled(monkeypatch, script, *files, "--data", word).data == leads
        if script != "compress.py":
            assert settled(monkeypatch, script, *files, f"data={word}").data == leads


def test_checkpoints_without_an_option(two, monkeypatch):
    """Also those in the folders of a sweep, whose names have a = in them."""
    shutil.copytree(two.user / "nets", two.user / "sweep-ratio=0.2")
    wanted = [str(two.user / "nets" / "a.pt"), str(two.user / "sweep-ratio=0.2" / "a.pt")]
    for script in ("val.py", "vis-bn-weight.py"):
        assert settled(monkeypatch, script, "nets/a.pt", "sweep-ratio=0.2/a.pt").checkpoints == wanted
    shutil.copy(two.user / "nets" / "a.pt", two.user / "ratio=0.2.pt")
    assert settled(monkeypatch, "val.py", "ratio=0.2.pt", "conf=0.1").settings == {"conf": 0.1}


def test_what_is_written_goes_to_where_the_user_stands(two, monkeypatch):
    assert settled(monkeypatch, "prune.py", "--save-dir", "out").save_dir == str(two.user / "out")
    assert settled(monkeypatch, "vis-bn-weight.py", "--save", "bn.png").save == str(two.user / "bn.png")
    assert settled(monkeypatch, "latency_table.py").output == str(two.user / "latency-table.json")
    monkeypatch.setenv("HOME", str(two.repository))
    assert settled(monkeypatch, "prune.py", "--save-dir=~/out").save_dir == str(two.repository / "out")


def test_model_yamls(two, monkeypatch):
    """A name of the release stays one; the size in a name is not part of the file's."""
    for script, option, name in (("train-normal.py", "--weights", "weights"), ("prune.py", "--cfg", "cfg")):
        for word, leads in (("model8.yaml", str(two.user / "model8.yaml")), ("yolov8n.yaml", "yolov8n.yaml")):
            assert getattr(settled(monkeypatch, script, option, word), name) == leads
        assert getattr(settled(monkeypatch, script, option, "model8s.yaml"), name) == str(two.user / "model8s.yaml")


def test_settings_that_name_files(two, monkeypatch):
    words = ("distill_model=nets/a.pt", "pretrained=ours.pt", "cfg=own.yaml")
    settings = settled(monkeypatch, "train-normal.py", *words).settings
    assert settings == {
        "distill_model": str(two.user / "nets" / "a.pt"),
        "pretrained": str(two.repository / "ours.pt"),
        "lr0": 0.5,
    }
    assert settled(monkeypatch, "train-normal.py", "cfg=own.yaml", "lr0=0.1").settings == {"lr0": 0.1}
    (two.user / "own.yaml").write_text("epochs: 7\nbatch: 4\n")
    options = settled(monkeypatch, "train-normal.py", "cfg=own.yaml", "--batch", "2")
    assert (options.epochs, options.batch, options.settings) == (7, 2, {})


def test_what_an_earlier_stage_left_is_ours(two, monkeypatch):
    """A default is what a stage wrote into the repository."""
    for folder in (two.user, two.repository):
        (folder / "weights").mkdir()
        shutil.copy(folder / "nets" / "a.pt", folder / "weights" / "pruned.pt")
    assert settled(monkeypatch, "finetune.py").weights == str(two.repository / "weights" / "pruned.pt")
    named = settled(monkeypatch, "finetune.py", "--weights", "weights/pruned.pt").weights
    assert named == str(two.user / "weights" / "pruned.pt")


def test_a_cut_from_another_folder_is_that_of_the_users_network(two, monkeypatch, capsys):
    words = ["--weights", "nets/a.pt", "--save-dir", "out", "--prune-ratio", "0.3", "--no-onnx"]
    monkeypatch.setattr(sys, "argv", ["prune.py", *words])
    runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")
    source = json.loads((two.user / "out" / "pruned.json").read_text())["source"]
    own = two.user / "nets" / "a.pt"
    assert source["sha256"] == checkpoint.sha256(own) != checkpoint.sha256(two.repository / "nets" / "a.pt")
    assert (two.user / "out" / "pruned.pt").is_file() and not (two.repository / "out").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_sweep_from_another_folder_is_one_of_the_users_network(workers, two, digits, monkeypatch, tmp_path):
    """Its compressions get paths from the root: they run in other processes, and with Ray in other folders."""
    monkeypatch.setattr(places, "RUNS", tmp_path / "runs")
    shutil.copy(digits, two.user / "data.yaml")
    seen = []

    def collect(trials, folder, workers):
        seen.extend(trials)

    monkeypatch.setattr("ultralytics.pruning.stages.compressing.sweep", collect)
    words = ["--weights=nets/a.pt", "--data", "data.yaml", "--imgsz", "64", "--round-to", "1", "pretrained=nets/a.pt"]
    words += ["cfg=own.yaml", "--workers", workers, "--sweep", "ratio=0.2,0.3"]
    monkeypatch.setattr(sys, "argv", ["compress.py", *words])
    runpy.run_path(str(REPOSITORY / "compress.py"), run_name="__main__")
    assert len(seen) == 2
    own = str(two.user / "nets" / "a.pt")
    for trial in seen:
        assert f"pretrained={own}" in trial.words and f"cfg={two.user / 'own.yaml'}" in trial.words
        monkeypatch.chdir(tmp_path)
        options = settled(monkeypatch, "compress.py", *trial.words)
        assert options.weights == own and options.data == str(two.user / "data.yaml")
        assert options.settings == {"pretrained": own, "lr0": 0.5}


def test_a_compression_of_a_sweep_runs_where_the_user_stands(two, monkeypatch):
    """A `path:` in a data yaml may be seen from there."""
    ran = {}
    monkeypatch.setattr(sweep.subprocess, "run", lambda line, **how: ran.update(how) or SimpleNamespace(returncode=0))
    log = two.user / "log"
    assert sweep.run_combination([], str(log)) == 0 and ran.get("cwd") is None
    monkeypatch.setattr(sweep, "run_combination", lambda words, log: Path.cwd())
    for folder, leads in ((two.user, two.user), (two.user / "gone", two.repository)):
        monkeypatch.chdir(two.repository)
        assert sweep._remote(str(two.repository), str(folder), [], str(log)) == leads


@pytest.mark.parametrize("at_home", [True, False])
def test_the_command_after_an_interruption_runs_where_the_user_stands(at_home, tmp_path, monkeypatch, capsys):
    """Also where the repository's path has a space."""
    root = tmp_path / "my repository"
    (root / "runs").mkdir(parents=True)
    monkeypatch.setattr(places, "ROOT", root)
    monkeypatch.setattr(places, "RUNS", root / "runs")
    monkeypatch.chdir(root if at_home else tmp_path)
    script = "finetune.py" if at_home else "my repository/finetune.py"
    monkeypatch.setattr(sys, "argv", ["finetune.py"])
    resumes: list[str] = []

    def interrupted(*_, **__) -> None:
        raise KeyboardInterrupt

    def saved(folder: Path, since: float, command: str, resume: str) -> str:
        resumes.append(resume)
        return command

    monkeypatch.setattr(training, "go_on", interrupted)
    monkeypatch.setattr(training, "saved_training", saved)
    parser = training.training_parser("Trains.", "python finetune.py", name="a", weights="x.pt", epochs=1)
    words = ["--name", "my run", "--resume", "--device", "cpu"]
    with pytest.raises(SystemExit):
        entry.run(parser, lambda options: training.train_stage(training.Stage("a", {}, ()), options), words)
    said = capsys.readouterr().err.strip().partition("stopped: ")[2]
    assert shlex.split(said) == ["python", script, *words]
    assert [shlex.split(line) for line in resumes] == [["python", script, *words]]
