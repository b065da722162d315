"""Faults in all stages: kill -9, SIGTERM, a full disk, a read-only one, two processes. What was whole stays whole."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from helpers.processes.python import run_with_fault, zygote_of
from helpers.repository import REPOSITORY
from ultralytics.pruning import load
from ultralytics.pruning.checkpoints.checkpoint import is_finished, sha256
from ultralytics.pruning.files import whole

EPOCH = "ultralytics.engine.trainer:BaseTrainer.optimizer_step"
TERM, KILL = signal.SIGTERM, signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """A script that has ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on standard error."""
        assert "Traceback" not in self.err, self.err
        assert len(self.err.strip().splitlines()) == 1, self.err
        return self.err.strip()


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path) -> Run:
    """Runs a script, with a fault, its runs in the test's folder."""

    def run(script: str, *words: object, **what) -> Ended:
        done = run_with_fault(script, *words, runs=tmp_path / "runs", **what)
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def words(digits, small_weights, tmp_path) -> dict[str, list[object]]:
    """A command line of seconds for each stage; a checkpoint of the test's own is exported, beside itself."""
    weights = tmp_path / "own" / "net.pt"
    weights.parent.mkdir()
    shutil.copy(small_weights, weights)
    data = ["--data", digits, "--imgsz", 64, "--device", "cpu"]
    train = ["--weights", small_weights, *data, "--batch", 8, "--name", "run", "plots=False", "nbs=8"]
    compress = [*train, "--speed-up", 1.3, "--scheme", "stepwise", "--steps", 1, "--epochs-per-step", 1]
    return {
        "train-normal.py": [*train, "--epochs", 3, "finetune=True"],
        "train_sparsity.py": [*train, "--epochs", 3, "--sr", 0.01],
        "finetune.py": [*train, "--epochs", 3],
        "val.py": [small_weights, *data, "--name", "run", "plots=False"],
        "prune.py": ["--weights", small_weights, "--save-dir", tmp_path / "out", "--prune-ratio", 0.2, "--no-onnx"],
        "export.py": ["--weights", weights, *data, "--images", 2],
        "compress.py": [*compress, "--epochs", 1, "--criterion", "l1", "--round-to", 1, "--recalibrate", 1],
        "vis-bn-weight.py": [small_weights, "--save", tmp_path / "out" / "bn.png"],
    }


def place_of(script: str, folder: Path) -> Path:
    """The folder that a stage works in."""
    places = {"prune.py": "out", "vis-bn-weight.py": "out", "export.py": "own"}
    return folder / places.get(script, "runs/run")


def contents(folder: Path) -> dict[str, str]:
    """What lies in a folder, by its SHA-256."""
    found = (file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else ()
    return {str(file.relative_to(folder)): sha256(file) for file in found}


LOCKING = ["train-normal.py", "train_sparsity.py", "finetune.py", "val.py", "prune.py", "export.py", "compress.py"]


@pytest.mark.parametrize("script", LOCKING)
def test_a_second_process_is_refused(script, run, words, tmp_path):
    before = contents(tmp_path)
    ended = run(script, *words[script], locked=place_of(script, tmp_path))
    assert (
        ended.code == 2 and "another process" in ended.line and f"(process {zygote_of(REPOSITORY).pid})" in ended.line
    )
    assert contents(tmp_path) == before


@pytest.mark.parametrize("script", [*LOCKING, "vis-bn-weight.py"])
def test_a_read_only_disk_is_one_line(script, run, words, tmp_path):
    before, place = contents(tmp_path), place_of(script, tmp_path)
    ended = run(script, *words[script], read_only=str(tmp_path))
    assert ended.code == 2 and "cannot write" in ended.line and place.name in ended.line
    assert contents(tmp_path) == before


LIMITS = {
    "train-normal.py": 100_000,
    "finetune.py": 400,
    "val.py": 10_000,
    "prune.py": 100_000,
    "export.py": 100_000,
    "compress.py": 100_000,
    "vis-bn-weight.py": 10_000,
}


@pytest.mark.parametrize("script", LIMITS)
def test_a_full_disk_is_one_line_that_names_it(script, run, words, tmp_path):
    place = place_of(script, tmp_path)
    if script != "export.py":
        place.mkdir(parents=True)
    before = contents(tmp_path)
    line = [word for word in words[script] if word != "plots=False"] if script == "val.py" else words[script]
    ended = run(script, *line, limit=LIMITS[script])
    assert ended.code == 2 and "MB are free on its disk" in ended.line
    assert str(place) in ended.line.replace("weights'", "").replace("/step-1", "")
    left = contents(tmp_path)
    if script == "compress.py":  # what was measured so far is kept
        left = {name: text for name, text in left.items() if Path(name).name != "state.json"}
    assert left == before


def test_a_full_disk_keeps_the_old_files(run, words, tmp_path):
    run("prune.py", *words["prune.py"])
    before = contents(tmp_path / "out")
    assert {"pruned.pt", "pruned.json"} <= before.keys()
    assert run("prune.py", *words["prune.py"], "--round-to", 1, limit=100_000).code == 2
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("script", ["train_sparsity.py", "finetune.py"])
def test_sigterm_in_a_training_says_what_is_saved_and_how_to_go_on(script, run, words, tmp_path):
    ended = run(script, *words[script], signal=TERM, at=EPOCH, call=3)  # two steps an epoch
    assert ended.code == 143
    assert "holds epoch 1 of 3" in ended.line and f"python {script} --name run --resume" in ended.line
    last = tmp_path / "runs" / "run" / "weights" / "last.pt"
    assert load(last)[1]["epoch"] == 0
    if script == "finetune.py":
        command = ended.line.rpartition(f"python {script} ")[2].split()
        assert run(script, *command).code == 0
        assert is_finished(load(last)[1]) and len((tmp_path / "runs/run/results.csv").read_text().splitlines()) == 4
    assert not list((tmp_path / "runs").glob(".*"))


@pytest.mark.parametrize(
    ("script", "at"),
    [
        ("val.py", "ultralytics.pruning.stages.measuring:run_one"),
        ("prune.py", "ultralytics.pruning.stages.pruning:write"),
        ("export.py", "ultralytics.pruning.deploy.exporting:export_by_release"),
        ("vis-bn-weight.py", "ultralytics.pruning.plots:overview_figure"),
        ("train-normal.py", EPOCH),
    ],
)
def test_sigterm_before_anything_is_saved_leaves_nothing(script, at, run, words, tmp_path):
    before = contents(tmp_path)
    ended = run(script, *words[script], signal=TERM, at=at)
    assert ended.code == 143
    assert "again with: python" in ended.line or "begin anew with: python" in ended.line
    assert str(words[script][1]) in ended.line
    assert contents(tmp_path) == before


def test_ctrl_c_has_its_own_code(run, words):
    ended = run("val.py", *words["val.py"], signal=signal.SIGINT, at="ultralytics.pruning.stages.measuring:run_one")
    assert ended.code == 130 and "stopped" in ended.line


@pytest.fixture
def finished(small_weights, tmp_path) -> dict[str, str]:
    """A finished run under the name that the stages use."""
    folder = tmp_path / "runs" / "run"
    (folder / "weights").mkdir(parents=True)
    for name in ("best.pt", "last.pt"):
        shutil.copy(small_weights, folder / "weights" / name)
    (folder / "args.yaml").write_text("epochs: 3\n")
    (folder / "results.csv").write_text("epoch\n")
    return contents(folder)


@pytest.mark.parametrize("how", [TERM, KILL])
def test_an_old_run_is_back_when_the_new_one_has_no_epoch(how, run, words, finished, tmp_path):
    """After a kill with the next command, even one that is refused."""
    folder = tmp_path / "runs" / "run"
    ended = run("finetune.py", *words["finetune.py"], "--overwrite", signal=how, at=EPOCH)
    assert ended.code == (143 if how is TERM else -KILL)
    if how is KILL:
        assert contents(folder) != finished
        again = run("finetune.py", *words["finetune.py"])
        assert again.code == 2 and "--overwrite" in again.line
    assert contents(folder) == finished
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


def test_an_old_run_is_kept_until_the_new_one_has_ended(run, words, finished, tmp_path):
    folder, line = tmp_path / "runs" / "run", words["finetune.py"]
    assert run("finetune.py", *line, "--overwrite", signal=KILL, at=EPOCH, call=3).code == -KILL
    assert run("finetune.py", *line).code == 2  # an interrupted run is there
    assert run("finetune.py", *line, "--overwrite", "lr0=-1").code == 2
    assert run("finetune.py", *line, "--overwrite", signal=TERM, at=EPOCH).code == 143
    kept = folder.with_name(".run.replaced")
    assert contents(kept) == finished and load(folder / "weights" / "last.pt")[1]["epoch"] == 0
    ended = run("finetune.py", "--name", "run", "--resume", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert ".run.replaced" in ended.out  # where the old one is
    assert not kept.exists() and is_finished(load(folder / "weights" / "last.pt")[1])


def test_a_killed_prune_leaves_the_old_network(run, words, tmp_path):
    run("prune.py", *words["prune.py"])
    before = contents(tmp_path / "out")
    ended = run("prune.py", *words["prune.py"], signal=KILL, at="os:replace")
    assert ended.code == -KILL
    assert {name: text for name, text in contents(tmp_path / "out").items() if name in before} == before
    assert run("prune.py", *words["prune.py"]).code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(before)  # what was left behind is gone


def test_a_killed_measurement_leaves_the_old_table(run, words, tmp_path):
    line = [*words["val.py"], "--overwrite"]
    run("val.py", *words["val.py"])
    table = (tmp_path / "runs/run/val.csv").read_text()
    ended = run("val.py", *line, signal=KILL, at="ultralytics.pruning.stages.measuring:write_csv")
    assert ended.code == -KILL and (tmp_path / "runs/run/val.csv").read_text() == table
    assert run("val.py", *line).code == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


@pytest.mark.parametrize("how", [TERM, KILL])
def test_a_compression_goes_on(how, run, words, tmp_path):
    folder = tmp_path / "runs" / "run"
    ended = run("compress.py", *words["compress.py"], signal=how, at=EPOCH)
    assert ended.code == (143 if how is TERM else -KILL)
    assert how is KILL or "python compress.py --weights" in ended.line
    cut = sha256(folder / "step-1.pt")
    ended = run("compress.py", *words["compress.py"])
    assert ended.code == 0, ended.err
    assert "Going on with" in ended.out and sha256(folder / "step-1.pt") == cut
    assert (folder / "compressed.pt").is_file()


def test_a_killed_overwriting_of_a_compression_keeps_the_old_one(run, words, tmp_path):
    folder, line = tmp_path / "runs" / "run", words["compress.py"]
    folder.mkdir(parents=True)
    for name in ("state.json", "compressed.pt", "compress.csv"):
        (folder / name).write_text("old")
    old = contents(folder)
    (folder / "notes.txt").write_text("mine")
    ended = run("compress.py", *line, "--overwrite")
    assert ended.code == 2 and "notes.txt" in ended.line
    (folder / "notes.txt").unlink()
    assert (
        run("compress.py", *line, "--overwrite", signal=KILL, at="ultralytics.pruning.compression.work:size").code
        == -KILL
    )
    assert contents(folder.with_name(".run.replaced")) == old


def test_workers_and_what_they_start_end_with_their_parent(tmp_path):
    """The command of a training on two GPUs, whose parent is killed: neither the agent nor the workers go on."""
    (tmp_path / "worker.py").write_text(
        "import os, sys, time\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
        "from ultralytics.pruning.runs import workers\nworkers.end_with(os.environ.get(workers.PARENT))\n"
        "Path(sys.argv[1], f'{os.getpid()}.pid').touch()\ntime.sleep(600)\n"
    )
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys\nsys.path.insert(0, sys.argv[2])\nfrom ultralytics.pruning.runs import workers\n"
        "line = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2']\n"
        "line += ['--master_port', sys.argv[3]]\n"
        "subprocess.run(workers.ending_with_this([*line, 'worker.py', sys.argv[1], sys.argv[2]]))\n"
    )
    from ultralytics.utils.dist import find_free_network_port

    line = [sys.executable, "parent.py", str(tmp_path), str(REPOSITORY), str(find_free_network_port())]
    parent = subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline and parent.poll() is None:
        time.sleep(0.1)
    numbers = [int(file.stem) for file in tmp_path.glob("*.pid")]
    assert len(numbers) == 2 and all(whole.runs(number) for number in numbers)
    parent.kill()
    parent.wait()
    while any(whole.runs(number) for number in numbers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(whole.runs(number) for number in numbers)
