"""Label caches without unpickling: the release reads `labels.cache`, whoever wrote it, as a pickle."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UntrustedError
from ..trust import trusted

ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2
MAGIC = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class PlainUnpickler(pickle.Unpickler):
    """Rebuilds only plain data and arrays of it."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns what rebuilds an array.

        Raises:
            UntrustedError: If the pickle asks for anything else.
        """
        if module in ARRAYS and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        if module in ARRAYS and name == "scalar":
            return np.float64(0).__reduce__()[0]
        if module == "numpy" and name in {"ndarray", "dtype"}:
            return getattr(np, name)
        if module in {"pathlib", "pathlib._local"} and name in {"PosixPath", "WindowsPath"}:
            return type(Path())
        if (module, name) == ("_codecs", "encode"):  # how protocol 2 writes bytes
            return super().find_class(module, name)
        raise UntrustedError(f"{module}.{name}")


def load_cache(release: Callable, path: Path) -> dict[str, Any]:
    """Reads a label cache as the release's `load_dataset_cache_file` does, but as plain data only.

    Raises:
        UntrustedError: If it holds anything else; the release then reads the labels themselves, and writes it anew.
    """
    if trusted():
        return release(path)
    gc.disable()  # as the release does: it halves the time for many labels
    try:
        with open(path, "rb") as file:
            shape, _, dtype = MAGIC[np.lib.format.read_magic(file)](file)
            if shape != () or dtype != np.dtype(object):
                raise ValueError(f"{path} is not a label cache")
            return PlainUnpickler(file).load().item()
    except UntrustedError as error:
        from ultralytics.utils import LOGGER

        LOGGER.warning(f"{path} holds code ({error}), which is not run: the labels are read anew")
        raise
    finally:
        gc.enable()
