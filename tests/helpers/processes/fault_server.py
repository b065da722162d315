"""Runs scripts of this repository with a fault in them, each in a forked child of one process that has all imports.

Reads a request a line, as JSON: `script`, `words`, `runs` (the folder in the place of `runs/`), `fault`, and `locked`,
a folder that this process works in meanwhile. Answers with the exit code (negative: the signal) and what was written to
standard error and output.

Faults: `signal` at the n-th call of a function, `limit` on the size of files in bytes, `read_only` folder.
"""

import contextlib
import errno
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import tempfile
from pathlib import Path

import zygote

from ultralytics.pruning.files import locks, places

REPOSITORY = Path(__file__).resolve().parents[3]


def send(number: int, place: str, call: int) -> None:
    """Lets a process signal itself at a call of a function, given as `module:Class.name`."""
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    function, calls = getattr(owner, name), []

    def faulty(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    setattr(owner, name, faulty)


def read_only(folder: str) -> None:
    """Lets every attempt to write into a folder fail, as on a disk that is mounted read-only (root passes by modes)."""
    opened, made, target = os.open, os.mkdir, os.path.realpath(folder)

    def below(path) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.path.realpath(path).startswith(target)

    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def open_(path, flags, *args, **kwargs):
        return (
            refuse(path) if below(path) and flags & (os.O_WRONLY | os.O_RDWR) else opened(path, flags, *args, **kwargs)
        )

    def mkdir(path, *args, **kwargs):
        return refuse(path) if below(path) else made(path, *args, **kwargs)

    os.open, os.mkdir = open_, mkdir


def install(fault: dict) -> None:
    """Plants a fault in this process."""
    if "signal" in fault:
        send(fault["signal"], fault["at"], fault.get("call", 1))
    if "limit" in fault:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault["limit"], fault["limit"]))
    if "read_only" in fault:
        read_only(fault["read_only"])


def child(request: dict, out: int, err: int) -> None:
    """Runs a script; never returns."""
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        runs = Path(request["runs"])
        places.RUNS = runs
        install(request.get("fault") or {})
        sys.argv = [request["script"], *request["words"]]
        runpy.run_path(str(REPOSITORY / request["script"]), run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve(request: dict) -> dict:
    """Runs one request in a child."""
    locked = request.get("locked")
    with (
        locks.alone_in(Path(locked)) if locked else contextlib.nullcontext(),
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        process = os.fork()
        if not process:
            child(request, out.fileno(), err.fileno())
        status = os.waitpid(process, 0)[1]
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return {"code": code, "out": texts[0], "err": texts[1]}


if __name__ == "__main__":
    zygote.import_everything()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)
