"""Validation of a checkpoint by the release: in isolation, and with fewer images at once when memory ends."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from ..accuracy import accuracy
from ..files.places import shown
from ..release import quiet_release
from .isolation import isolated
from .memory import Shrinking, divisors, free_gpu_memory

DEFAULT_BATCH = 16  # of the release


def validate(path: Path, settings: dict[str, Any]) -> tuple[Any, str | None, int]:
    """Measures a checkpoint on a data set.

    When memory ends, it begins again with a smaller batch. What is measured does not depend on that: images keep the
    size that they have in the whole batch, where the release pads each batch to a common size (`rect`).

    Args:
        path: A `.pt` or an exported file.
        settings: Of the release's validation.

    Returns:
        The release's metrics, the task, and how many images there were at once.

    Raises:
        PruningError: If a single image does not fit into memory.
    """
    from ultralytics.models import YOLO

    whole = settings.get("batch", DEFAULT_BATCH)
    sizes = divisors(whole) if isinstance(whole, int) and whole > 0 else [whole]

    def work(batch: int) -> tuple[Any, str | None, int]:
        model = YOLO(path)
        kind = model._smart_load("validator")
        smaller = {} if batch == whole else {"validator": _with_shapes_of(kind, whole)}
        return model.val(**smaller, **{**settings, "batch": batch}), model.task, batch

    try:
        with isolated():
            return Shrinking(f"the validation of {shown(path)}", sizes)(work)
    finally:
        free_gpu_memory()


def accuracy_of(path: Path, settings: dict[str, Any], folder: Path | str) -> tuple[float, str | None]:
    """Measures what counts of a checkpoint, in silence.

    Args:
        path: A `.pt` or an exported file.
        settings: Of the release's validation.
        folder: For what the release writes meanwhile.

    Returns:
        The accuracy in 0..1 (see `accuracy.what_counts`), and the task.

    Raises:
        PruningError: For what `validate` raises.
    """
    run = {"project": str(folder), "name": "val", "exist_ok": True, "plots": False, "verbose": False, "workers": 0}
    with quiet_release():
        metrics, task, _ = validate(path, {**settings, **run})
    return accuracy(metrics.results_dict, task) or 0.0, task


def _with_shapes_of(kind: type, whole: int) -> type:
    """Returns a validator whose images have the sizes that batches of `whole` images give them."""
    if "batch" not in inspect.signature(kind.build_dataset).parameters:  # type: ignore[attr-defined]
        return kind  # of classification, where all have one size

    def build_dataset(self: Any, img_path: str, mode: str = "val", batch: int | None = None) -> Any:
        return kind.build_dataset(self, img_path, mode=mode, batch=whole)  # type: ignore[attr-defined]

    return type(kind.__name__, (kind,), {"build_dataset": build_dataset})
