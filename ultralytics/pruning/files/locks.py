"""One process at a time works in a folder: a lock that ends with its process, however that ends.

The lock lies beside the folder, since a folder is renamed and removed while a process works in it: `runs/.NAME.lock`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import PruningError

LOCK = ".lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}  # from a file system that has no locks


@dataclass
class Lock:
    """A lock that this process holds.

    Attributes:
        folder: What it keeps others out of.
        file: The file that is locked.
        descriptor: That file, open.
        made: Folders that were made for it, the outermost first.
        users: How many parts of this process work in the folder.
    """

    folder: Path
    file: Path
    descriptor: int
    made: list[Path] = field(default_factory=list)
    users: int = 1

    def release(self) -> None:
        """Lets others in once the last user is done; leaves nothing behind."""
        self.users -= 1
        if self.users or _held.get(self.folder) is not self:
            return
        del _held[self.folder]
        with contextlib.suppress(OSError):
            self.file.unlink(missing_ok=True)  # while it is locked: whoever waits for it notices
        with contextlib.suppress(OSError):
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)  # also for processes that inherited it
            os.close(self.descriptor)
        for folder in reversed(self.made):
            with contextlib.suppress(OSError):  # not empty: it is in use
                folder.rmdir()


_held: dict[Path, Lock] = {}


def _forget() -> None:
    """Closes the locks in a forked child: it must not keep them when the parent is killed."""
    for lock in _held.values():
        with contextlib.suppress(OSError):
            os.close(lock.descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget)


def take(folder: Path) -> Lock:
    """Takes the lock of a folder, which need not exist.

    Raises:
        PruningError: If another process, or another part of this one, holds it, or it cannot be created.
    """
    folder = Path(folder).resolve()
    if folder in _held:
        raise busy(folder, str(os.getpid()))
    made: list[Path] = []
    try:
        file, descriptor = _open(folder, made)
    except BaseException:
        for parent in reversed(made):
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise

    with contextlib.suppress(OSError):  # a full disk: others just do not learn the number of this process
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
    _held[folder] = Lock(folder, file, descriptor, made)
    return _held[folder]


def join(folder: Path, *, worker: bool = False) -> Lock | None:
    """Takes the lock of a folder, as one more user where this process holds it already.

    Args:
        folder: The folder.
        worker: Whether this is one of several processes of a training, which work where the one that started them does.

    Returns:
        The lock, or None if the process that started this worker holds it.

    Raises:
        PruningError: If another process holds it, or it cannot be created.
    """
    folder = Path(folder).resolve()
    if folder in _held:
        _held[folder].users += 1
        return _held[folder]
    try:
        return take(folder)
    except PruningError:
        if worker and any(holder(file) in ancestors() for file in lock_places(folder)):
            return None
        raise


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder while this one works in it.

    Raises:
        PruningError: If another one does.
    """
    lock = take(folder)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def waiting(file: Path) -> Iterator[None]:
    """Keeps other processes and threads from a file inside the block; waits for its turn."""
    lock = file.with_name(f".{file.name}{LOCK}")
    while True:
        with lock.open("w") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(opened.fileno()), lock.stat()):
                    try:
                        yield
                    finally:
                        lock.unlink(missing_ok=True)
                    return


def lock_places(folder: Path) -> tuple[Path, ...]:
    """Returns where the lock of a folder may lie: beside it, or in it where nothing can be written beside it."""
    beside = (folder.with_name(f".{folder.name}{LOCK}"),) if folder.name else ()
    return (*beside, folder / LOCK)


def _open(folder: Path, made: list[Path]) -> tuple[Path, int]:
    """Opens and locks the first of the places that can be written; adds the folders that it makes to `made`."""
    refused: OSError | None = None
    for file in lock_places(folder):
        try:
            for parent in reversed([file.parent, *file.parent.parents]):
                if not parent.exists():
                    parent.mkdir(exist_ok=True)
                    made.append(parent)
            return file, _locked(file, folder)
        except OSError as error:
            if error.errno in NO_LOCKS:
                raise PruningError(
                    f"'{file.parent}' lies on a file system without locks ({error.strerror}), so that nothing keeps a "
                    f"second process out; use a folder on another disk"
                ) from error
            refused = error
    assert refused is not None
    raise PruningError(f"cannot write into '{folder}' ({refused.strerror})") from refused


def _locked(file: Path, folder: Path) -> int:
    """Returns the file, open and locked."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                    return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise busy(folder, holder(file)) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed it meanwhile: try again, with a new file


def busy(folder: Path, process: str) -> PruningError:
    """Returns the error for a folder that is in use."""
    from .places import shown

    who = f" (process {process})" if process else ""
    return PruningError(f"another process works in '{shown(folder)}'{who}: wait for it, or use another folder (--name)")


def holder(file: Path) -> str:
    """Returns the number of the process that holds a lock, empty if that is not known."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def ancestors() -> list[str]:
    """Returns the numbers of the processes that started this one, the nearest first."""
    found, process = [], str(os.getppid())
    while process.isdigit() and int(process) > 1:
        found.append(process)
        try:
            process = Path("/proc", process, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
        except (OSError, IndexError):
            break
    return found
