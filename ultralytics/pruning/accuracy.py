"""How accurate a network is, by what it does: the release's metrics, and which of them counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Column of val.csv: the release's name. The last one is what counts.
BOXES = {"precision": "precision", "recall": "recall", "map50": "mAP50", "map50_95": "mAP50-95"}
OTHERS = {
    "classify": {"top5": "accuracy_top5", "top1": "accuracy_top1"},
    "semantic": {"pixel_accuracy": "pixel_acc", "miou": "mIoU"},
    "depth": {"abs_rel": "abs_rel", "delta1": "delta1"},
}
OF = {"segment": "(M)", "pose": "(P)"}  # masks, keypoints; boxes for all others


def titles_of(task: str | None) -> dict[str, str]:
    """Returns the columns of a task, each with the release's name of it."""
    return OTHERS.get(task or "", BOXES)


def what_counts(task: str | None) -> str:
    """Returns the column that counts: mAP50-95 of boxes, masks or keypoints, top-1, mIoU, delta1."""
    return list(titles_of(task))[-1]


def accuracies(results: Mapping[str, Any], task: str | None) -> dict[str, float | None]:
    """Reads what the release measured.

    Args:
        results: Its values by its names, such as `metrics/mAP50(B)`.
        task: What the network does, as the release names it.

    Returns:
        The value of each column of the task, None for one that was not measured.
    """
    suffix = "" if task in OTHERS else OF.get(task or "", "(B)")
    found = {column: results.get(f"metrics/{name}{suffix}") for column, name in titles_of(task).items()}
    return {column: None if value is None else float(value) for column, value in found.items()}


def accuracy(results: Mapping[str, Any], task: str | None) -> float | None:
    """Reads the one that counts (see `what_counts`)."""
    return accuracies(results, task)[what_counts(task)]


def by_class(metrics: Any, task: str | None) -> dict[int, float | None]:
    """Reads what counts for each class: mAP50-95 of its boxes, masks or keypoints.

    Args:
        metrics: The release's, of a task that has it (see `has_classes`).
        task: What the network does, as the release names it.

    Returns:
        The value of each class by its number, None for one without labels.
    """
    part = getattr(metrics, {"segment": "seg", "pose": "pose"}.get(task or "", "box"))
    found = dict(zip(map(int, part.ap_class_index), map(float, part.ap), strict=True))
    return {number: found.get(number) for number in sorted(metrics.names)}


def has_classes(task: str | None) -> bool:
    """Whether the release measures what counts for each class of a task."""
    return task not in OTHERS
