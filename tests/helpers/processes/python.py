"""Python in processes of its own."""

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from helpers.repository import REPOSITORY

PROGRAMS = Path(__file__).parent  # what runs in a process beside the tests


def stock_environment(folder: Path) -> dict[str, str]:
    """The environment of a process in `folder` that runs the stock release under its restricted loader."""
    return {
        **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ULTRALYTICS_SAFE_LOAD": "1",
        "YOLO_CONFIG_DIR": str(folder / "config"),
        "YOLO_AUTOINSTALL": "0",
    }


def environment_with(**changes: str) -> dict[str, str]:
    """The environment of a process that sees no GPU and computes with one thread."""
    settings = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **changes}
    return {**{key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, **settings}


def run_python(*words: str | Path, cwd: Path = REPOSITORY, timeout: float = 300, **environment: str):
    """Runs Python in a process of its own, as a person would, and returns its output."""
    everything = environment_with(**environment)
    line = [str(word) for word in words]
    script = Path(cwd, line[0])
    root = Path(environment.get("PYTHONPATH", script.parent))  # what the script imports is of this folder
    if environment.keys() <= {"PYTHONPATH"} and script.suffix == ".py" and (root / "ultralytics" / "pruning").is_dir():
        return zygote_of(root).run([str(script), *line[1:]], cwd, everything, timeout)
    return subprocess.run(
        [sys.executable, *line], cwd=cwd, env=everything, capture_output=True, text=True, timeout=timeout
    )


def run_with_fault(script: str, *words: object, runs: Path | None = None, locked: Path | None = None, **fault):
    """Runs a script of the repository in a process of its own, with a fault (see `faults.py`); returns its output.

    Args:
        script: Name of the script.
        words: Its words.
        runs: Folder in the place of `runs/`.
        locked: A folder in which another process works meanwhile.
        fault: What goes wrong.
    """
    more = {"runs": runs and str(runs), "locked": locked and str(locked), "fault": fault}
    line = [str(REPOSITORY / script), *map(str, words)]
    return zygote_of(REPOSITORY).run(line, REPOSITORY, environment_with(), 300, **more)


class Zygote:
    """A process that has imported the scripts of a repository and forks one for each run (see `zygote.py`)."""

    def __init__(self, repository: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAMS / "zygote.py")],
            cwd=repository,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def run(self, words: list[str], cwd: Path, environment: dict[str, str], timeout: float, **more: object):
        """Runs a script in a fork; returns what `subprocess.run` does. `more` is what else goes into the request."""
        with tempfile.TemporaryDirectory() as folder:
            out, err = (Path(folder, name) for name in ("stdout", "stderr"))
            files = {"stdout": str(out), "stderr": str(err)}
            request = {"words": words, "cwd": str(cwd), "environment": environment, **files, **more}
            print(json.dumps(request), file=self._process.stdin, flush=True)
            child = int(self._process.stdout.readline())
            clock = threading.Timer(timeout, os.kill, (child, signal.SIGKILL))
            clock.start()
            code = int(self._process.stdout.readline())
            clock.cancel()
            clock.join()
            return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


@functools.cache
def zygote_of(repository: Path) -> Zygote:
    """The one zygote of a repository, or of a copy of it."""
    return Zygote(repository)
