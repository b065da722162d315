"""Faults that a process plants in itself before it runs a script (see `zygote.py`).

`signal` at the n-th call of a function, `limit` on the size of files in bytes, `read_only` folder.
"""

import errno
import importlib
import os
import resource


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
