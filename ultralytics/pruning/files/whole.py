"""Files appear whole or not at all, under temporary names that no other process uses; a full disk is one line."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import PruningError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # no space, over the quota, over the limit of a file's size
# How PyTorch's archive writer says that a write failed (2.14): a RuntimeError without the number of the error.
WRITER = re.compile(r"PytorchStreamWriter|inline_container|unexpected pos|file write failed", re.IGNORECASE)
MARK = ".writing"


class DiskFullError(PruningError):
    """A file could not be written: there is no space, or it exceeds a limit."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`, and renames it to `path` if the block ends without an error.

    Raises:
        DiskFullError: If there is no space for it; `path` is then unchanged.
    """
    path = Path(path)
    remove_leftovers(path.parent, path.stem)
    temporary = path.with_name(temporary_name(path.stem) + path.suffix)
    try:
        with naming_the_disk(path.parent):
            yield temporary
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(folder: Path, stem: str) -> Iterator[Path]:
    """Makes a hidden folder in `folder`, on the same disk, and removes it when the block ends."""
    remove_leftovers(folder, stem)
    temporary = folder / temporary_name(stem)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put_unless_there(made: Path, place: Path, mark: str) -> None:
    """Renames a folder that is whole to its place, where another process may have put the same meanwhile.

    Args:
        made: The folder.
        place: Its place, on the same disk.
        mark: A file in it, by which the place counts as taken by the same.

    Raises:
        OSError: If something else is there, or the disk refuses.
    """
    try:
        os.rename(made, place)
    except OSError:
        if not (place / mark).is_file():
            raise


def _here() -> str:
    """Returns a name for this machine: process numbers mean nothing on another one that shares the disk."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def temporary_name(stem: str) -> str:
    """Returns a hidden name that no other process, thread or call uses; it says which process made it."""
    return f".{stem}.{_here()}-{os.getpid()}-{secrets.token_hex(4)}{MARK}"


def remove_leftovers(folder: Path, stem: str) -> None:
    """Removes what processes of this machine that have ended began to write under `stem`."""
    form = re.compile(rf"\.{re.escape(stem)}\.{_here()}-(\d+)-[0-9a-f]{{8}}{re.escape(MARK)}(\..+)?")
    with contextlib.suppress(OSError):  # a folder that does not exist, or cannot be listed
        for entry in list(folder.iterdir()):
            found = form.fullmatch(entry.name)
            if not found or runs(int(found[1])):
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
    """Whether a name is that of something half-written, by this version or an earlier one."""
    return name.startswith(".") and MARK in name


def runs(process: int) -> bool:
    """Whether a process of this machine is running, rather than ended and not yet waited for."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return True


@contextlib.contextmanager
def naming_the_disk(folder: Path) -> Iterator[None]:
    """Turns a full disk, a quota or a limit of file sizes into one line that names the folder and its disk.

    Args:
        folder: Where the block writes.

    Raises:
        DiskFullError: In place of what Python, PyTorch or the release raised for it.
    """
    try:
        yield
    except PruningError:
        raise
    except Exception as error:  # converters and writers wrap the system's error in others
        if (reason := full_disk(error)) is None:
            raise
        if isinstance(error, OSError) and isinstance(error.filename, str):
            folder = Path(error.filename).parent
        raise DiskFullError(f"cannot write into '{folder}': {reason}, {free_space(folder)}") from error


def full_disk(error: BaseException) -> str | None:
    """Returns, in words, what about the space on a disk caused an error; None if something else did."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            return os.strerror(seen.errno).lower()
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, RuntimeError) and WRITER.search(str(error)):
        return "the checkpoint could not be written whole (no space, or a limit on the size of files)"
    return None


def free_space(folder: Path) -> str:
    """Returns how much space is left on the disk of a folder, or of the folder that it would be made in."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    disk = place
    while not os.path.ismount(disk) and disk != disk.parent:
        disk = disk.parent
    try:
        return f"{shutil.disk_usage(place).free / 1e6:,.0f} MB are free on its disk ('{disk}')"
    except OSError:
        return f"its disk is '{disk}'"


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
