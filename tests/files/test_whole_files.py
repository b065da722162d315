"""Files that are whole or not there, under names that nobody shares; locks; tables of two processes."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ultralytics.pruning import PruningError
from ultralytics.pruning.files import locks, whole
from ultralytics.pruning.files.whole import (
    DiskFullError,
    naming_the_disk,
    remove_leftovers,
    temporary_folder,
    whole_file,
)
from ultralytics.pruning.latency.tables import LatencyTable, Timing


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "a.json"
    with whole_file(target) as first:
        first.write_text("first")
        with whole_file(target) as second:
            assert second != first and second.suffix == first.suffix == ".json"
            second.write_text("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first" and os.listdir(tmp_path) == ["a.json"]


def test_what_a_killed_process_left_goes_when_it_is_safe(tmp_path):
    name = whole.temporary_name("a")
    dead = name.replace(f"-{os.getpid()}-", f"-{gone()}-") + ".json"
    other_host = ".a.000000-" + dead.partition("-")[2]
    alive, foreign = name + ".json", ".a.mine"
    for file in (dead, other_host, alive, foreign, dead.replace(".a.", ".b.", 1)):
        (tmp_path / file).touch()
    (tmp_path / (dead + ".d")).mkdir()
    with whole_file(tmp_path / "a.json") as file:
        file.touch()
    left = set(os.listdir(tmp_path))
    assert left == {"a.json", other_host, alive, foreign, dead.replace(".a.", ".b.", 1)}
    assert all(whole.is_leftover(file) for file in (dead, other_host, alive)) and not whole.is_leftover(foreign)
    remove_leftovers(tmp_path / "not there", "a")


def test_a_temporary_folder_is_gone_afterwards(tmp_path):
    def work() -> None:
        with temporary_folder(tmp_path, "work") as folder:
            (folder / "file").touch()
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert not os.listdir(tmp_path)


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EFBIG, "File too large"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:20])
def test_a_full_disk_names_the_folder_and_leaves_the_old_file(error, tmp_path):
    target = tmp_path / "a.pt"
    target.write_text("old")

    def work() -> None:
        with whole_file(target) as file:
            file.write_text("half")
            raise error

    with pytest.raises(DiskFullError) as said:
        work()
    assert str(tmp_path) in str(said.value) and "MB are free on its disk" in str(said.value)
    assert len(str(said.value).splitlines()) == 1
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.pt"]


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "x"), RuntimeError("out of memory"), ValueError("x"), OSError("x")]
)
def test_other_errors_stay_what_they_are(error, tmp_path):
    with pytest.raises(type(error)) as said, naming_the_disk(tmp_path):
        raise error
    assert said.value is error


def in_child(work) -> int:
    """Returns the exit code of a forked process that does some work; 3 where that is refused."""
    process = os.fork()
    if not process:
        try:
            work()
            os._exit(0)
        except PruningError:
            os._exit(3)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_lock_keeps_others_out_and_leaves_nothing(tmp_path):
    folder = tmp_path / "deep" / "runs" / "run"
    with locks.alone_in(folder):
        assert in_child(lambda: locks.take(folder)) == 3
        assert in_child(lambda: locks.join(folder)) == 3  # also one that works in the folder of this process
        assert in_child(lambda: locks.join(folder, worker=True)) == 0  # but for the workers of a training
        assert in_child(lambda: locks.take(tmp_path / "other")) == 0
        assert not folder.exists()
    assert not (tmp_path / "deep").exists()
    assert in_child(lambda: locks.take(folder)) == 0


def test_a_lock_outlives_renaming_and_removing_its_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with locks.alone_in(folder):
        folder.rename(tmp_path / "aside")
        assert in_child(lambda: locks.take(folder)) == 3
    assert os.listdir(tmp_path) == ["aside"]


def test_a_stage_and_its_trainer_share_the_lock(tmp_path):
    with locks.alone_in(tmp_path / "run"):
        lock = locks.join(tmp_path / "run")
        assert lock is not None
        lock.release()
        assert in_child(lambda: locks.take(tmp_path / "run")) == 3
    assert in_child(lambda: locks.take(tmp_path / "run")) == 0


def test_a_killed_process_holds_nothing(tmp_path):
    def die() -> None:
        locks.take(tmp_path / "run")
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(die) == -signal.SIGKILL
    assert (tmp_path / ".run.lock").is_file()
    with locks.alone_in(tmp_path / "run"):
        pass
    assert not os.listdir(tmp_path)


def test_where_locks_cannot_be_had_it_says_so(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    with pytest.raises(PruningError, match="file system without locks"), locks.alone_in(tmp_path / "run"):
        pass


def table(*keys: str, machine: str = "one") -> LatencyTable:
    about = {"machine": machine, "runtime": "torch", "threads": "1"}
    return LatencyTable(about, {key: Timing((8,), (8,), np.array([[1.0]])) for key in keys})


def test_two_processes_that_time_other_layers_keep_both(tmp_path):
    path = tmp_path / "table.json"
    table("a").save(path)
    table("b").save(path)
    assert set(LatencyTable.load(path).layers) == {"a", "b"}
    children = []
    for number in range(8):
        if not (process := os.fork()):
            table(f"layer {number}").save(path)
            os._exit(0)
        children.append(process)
    assert [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in children] == [0] * 8
    assert set(LatencyTable.load(path).layers) == {"a", "b", *(f"layer {number}" for number in range(8))}
    assert os.listdir(tmp_path) == ["table.json"]
    table("c", machine="two").save(path)
    assert set(LatencyTable.load(path).layers) == {"c"}


def test_a_table_is_not_written_over_something_else(tmp_path):
    path = tmp_path / "net.json"
    path.write_text("{}")
    with pytest.raises(PruningError, match="not overwritten"):
        table("a").save(path)
    assert path.read_text() == "{}"
    table("a").save(path, replace=True)
    assert set(LatencyTable.load(path).layers) == {"a"}


def test_torch_save_into_a_file_that_is_whole(tmp_path):
    with whole_file(tmp_path / "a.pt") as file:
        torch.save({"a": 1}, file)
    assert torch.load(tmp_path / "a.pt") == {"a": 1} and Path(os.listdir(tmp_path)[0]).name == "a.pt"
