"""Restricted loading of `.pt` files: the release's allow-list, the user's modules by name, and a line for the rest.

The release's restricted loader (`_SafeLoad` in its `nn/tasks.py`) rebuilds tensors, plain data and the modules of
PyTorch and Ultralytics. Here every load of the release is made to go through it, it learns which modules of the user it
may rebuild, and it says what it refused.
"""

from __future__ import annotations

import _compat_pickle
import contextlib
import functools
import importlib
import io
import itertools
import pickle
import pickletools
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import _weights_only_unpickler as unpickler
from torch import nn

from ..errors import UntrustedError
from ..trust import HOW, restricted, trusted_names
from .contents import check_arguments

STOCK = ("torch", "ultralytics", "collections", "numpy", "_codecs")  # seldom the reason for a refusal
PLAIN = {f"builtins.{name}" for name in ("set", "bytearray", "complex", "getattr")} | {
    f"pathlib.{system}Path" for system in ("Posix", "Windows")
}
SHOWN = 3  # names in the line that refuses
# How the line of PyTorch's `UnpicklingError` goes on where a file holds more than data (2.14); other lines: damaged.
REFUSING = ("unsafe", "Trying to", "Can only", "Unsupported global")
ARRAY_TYPES = sorted(set(np.typecodes["All"]) - {"O"})  # an array of objects may hold anything


def torch_load(release: Callable, file: Any, *args: Any, **kwargs: Any) -> Any:
    """Loads like the release's `torch_load`, under the restricted loader where the caller does not say otherwise.

    Raises:
        UntrustedError: If the file holds more than data and known modules.
    """
    if "weights_only" in kwargs or not restricted() or _written_for_workers(file):
        return release(file, *args, **kwargs)
    from ultralytics.nn.tasks import _SafeLoad

    with _SafeLoad.loading(file):
        return release(file, *args, weights_only=True, **kwargs)


def _written_for_workers(file: Any) -> bool:
    """Whether the trainer has just written a file for its processes on several GPUs."""
    from ultralytics.utils import USER_CONFIG_DIR

    return isinstance(file, (str, Path)) and Path(file).resolve().parent == (USER_CONFIG_DIR / "DDP").resolve()


def remember_allowed() -> None:
    """Lets PyTorch's restricted loader look up what is allowed, instead of listing it anew at each step of a load.

    The list is still PyTorch's. It is made anew once something has been allowed or forbidden since, each of which gives
    PyTorch another set object.
    """
    release: Callable[[], dict[str, Any]] | None = getattr(unpickler, "_get_user_allowed_globals", None)
    if release is None or not hasattr(unpickler, "_marked_safe_globals_set"):
        return  # another PyTorch, which does this differently
    known: tuple[Any, dict[str, Any]] = (None, {})

    @functools.wraps(release)
    def _get_user_allowed_globals() -> dict[str, Any]:
        nonlocal known
        allowed, (of, listed) = unpickler._marked_safe_globals_set, known
        if of is not allowed:
            listed = release()
            known = allowed, listed
        return listed

    unpickler._get_user_allowed_globals = _get_user_allowed_globals


def restrict(release: Callable) -> Callable:
    """Wraps the release's `torch_safe_load`: where its caller does not say, it is restricted as the user wants."""

    @functools.wraps(release)
    def torch_safe_load(weight: Any, safe_only: bool | None = None) -> Any:
        content, file = release(weight, restricted() if safe_only is None else safe_only)
        check_arguments(content, weight)
        return content, file

    return torch_safe_load


def open_to_own(release: Callable) -> classmethod:
    """Wraps `_SafeLoad.loading`: it also knows the user's modules, and names in one line what it refuses."""

    @contextlib.contextmanager
    def loading(cls: type, weight: Any) -> Iterator[None]:
        place = weight.tell() if hasattr(weight, "seek") else None
        _know_arrays(cls)
        if trusted_names() or _registered_files():
            names = _unsafe_globals(weight)
            _allow({name: found for name in names if (found := _users_class(name)) is not None})
        try:
            with release(weight):
                if place is not None:  # an open file, which was read to its end
                    weight.seek(place)
                yield
        except pickle.UnpicklingError as error:
            if line := _refusal(weight, error):
                raise UntrustedError(line) from error
            raise

    return classmethod(loading)


def _unsafe_globals(file: Any) -> list[str]:
    """Returns the globals of a checkpoint that PyTorch does not allow by default, without loading it."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # another format, or damaged: the loader will say so
        return []


def _know_arrays(loader: Any) -> None:
    """Adds arrays of numbers, once, to the plain data that the release's loader knows: it knows only scalars."""
    with loader._lock:
        if loader._registry is not None:
            return
        rebuild = np.empty(0).__reduce__()[0]
        arrays = {f"numpy.{core}.multiarray._reconstruct": rebuild for core in ("core", "_core")}
        loader._registry = {**loader._build(), **arrays, "numpy.ndarray": np.ndarray}
        torch.serialization.add_safe_globals(sorted({type(np.dtype(code)) for code in ARRAY_TYPES}, key=str))


def _users_class(name: str) -> Any:
    """Returns the user's class of a name, if the user allows it by name or lets model yamls name its file."""
    module, _, attribute = name.rpartition(".")
    for word in trusted_names():
        if word in {name, module}:
            with contextlib.suppress(ImportError):
                found = getattr(importlib.import_module(module), attribute, None)
                if word == name or _is_module(found):
                    return found
    if module not in _registered_files():
        return None
    found = getattr(sys.modules.get(module), attribute, None)
    return found if _is_module(found) and found.__module__ == module else None


def _is_module(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, nn.Module)


def _registered_files() -> set[str]:
    """Returns the user's Python modules of which this process lets a model yaml name a class."""
    from ultralytics.nn import tasks

    files = {found.__module__ for found in vars(tasks).values() if _is_module(found)}
    return {file for file in files if file.partition(".")[0] not in {"torch", "torchvision", "ultralytics"}}


def _allow(found: dict[str, Any]) -> None:
    """Registers globals with PyTorch's restricted loader; each replaces an older one of the same name."""
    kept = torch.serialization.get_safe_globals()
    names = [entry[1] if isinstance(entry, tuple) else f"{entry.__module__}.{entry.__qualname__}" for entry in kept]
    if any(name in found for name in names):  # e.g. a file that was imported again
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([e for e, name in zip(kept, names, strict=True) if name not in found])
    if found:
        torch.serialization.add_safe_globals([(value, name) for name, value in found.items()])


def allow_modules_of(network: nn.Module) -> None:
    """Allows in checkpoints the classes that a network in this process is made of: they already run here."""
    classes = {type(module) for module in network.modules()}
    _allow(
        {
            f"{c.__module__}.{c.__qualname__}": c
            for c in classes
            if c.__module__.partition(".")[0] not in {"torch", "ultralytics"}
        }
    )


def _refusal(file: Any, error: Exception) -> str | None:
    """Says what a checkpoint holds that is not loaded; None if it is merely damaged."""
    name = f"'{file}'" if isinstance(file, (str, Path)) else "the file"
    mentioned = globals_in(file)
    unsafe = set(_unsafe_globals(file)) or {
        one for one in mentioned if one.partition(".")[0] not in STOCK and one not in PLAIN
    }
    found = [one for one in mentioned if one in unsafe]
    said = str(error).partition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
    if not found and not said.startswith(REFUSING):
        return None
    if found and all(one.startswith("models.") for one in found):
        return f"{name} comes from the old yolov5 repository ({found[0]}); train the model with this one"
    return refusal_of(name, found or [said.rstrip(".")])


def refusal_of(file: str, names: list[str]) -> str:
    """Says which revealing names a file would import, or what else it would do, and how to trust it."""
    telling = [name for name in names if name.partition(".")[0] not in STOCK and name not in PLAIN] or names
    what = ", ".join(telling[:SHOWN]) + (f" and {len(telling) - SHOWN} more" if len(telling) > SHOWN else "")
    return f"{file} holds code, which is not run unasked: {what}; {HOW}"


def globals_in(file: Any) -> list[str]:
    """Returns the names that the pickles of a `.pt` would import, in their order, without importing any."""
    if isinstance(file, (str, Path)):
        with open(file, "rb") as opened:
            return globals_in(opened)
    file.seek(0)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            pickles = [archive.read(part) for part in archive.namelist() if part.endswith(".pkl")]
        streams: list[Any] = [io.BytesIO(content) for content in pickles]
    else:  # several pickles, one behind the other
        file.seek(0)
        streams = [file]
    return list(dict.fromkeys(itertools.chain.from_iterable(_globals_in_stream(stream) for stream in streams)))


def _globals_in_stream(stream: Any) -> Iterator[str]:
    """Yields the names of globals, as far as a stream consists of whole pickles."""
    with contextlib.suppress(Exception):  # the rest is not a pickle
        while True:
            yield from _globals_in_pickle(stream)


def _globals_in_pickle(stream: Any) -> list[str]:
    """Returns the names of the globals of the next pickle in a stream.

    Raises:
        Exception: Of whatever type, where no whole pickle follows.
    """
    found: list[str] = []
    strings: list[str] = []  # those pushed so far: STACK_GLOBAL takes its two names from them
    memo: dict[int, str] = {}
    last = ""
    argument: Any
    for code, argument, _ in pickletools.genops(stream):
        if code.name in {"GLOBAL", "INST"}:
            module, attribute = argument.split(" ", 1)
            found.append(_renamed(module, attribute))
        elif code.name == "STACK_GLOBAL" and len(strings) > 1:
            found.append(f"{strings[-2]}.{strings[-1]}")

        # A string may be kept in the memo, and come from there again.
        elif code.name == "MEMOIZE":
            memo[len(memo)] = last
        elif "PUT" in code.name:
            memo[int(argument)] = last
        elif "GET" in code.name:
            last = memo.get(int(argument), "")
            strings.append(last)
            continue

        last = argument if isinstance(argument, str) and "UNICODE" in code.name else ""
        if last:
            strings.append(last)
    return found


def _renamed(module: str, attribute: str) -> str:
    """Returns a global's name in Python 3: PyTorch writes those of Python 2."""
    if (module, attribute) in _compat_pickle.NAME_MAPPING:
        return ".".join(_compat_pickle.NAME_MAPPING[module, attribute])
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{attribute}"
