"""Files that were made from a checkpoint which another one has replaced."""

from __future__ import annotations

from pathlib import Path

OF_THE_CHECKPOINT = {".pt", ".json"}  # and what is no export: its plan


def older_products(checkpoint: Path) -> list[Path]:
    """Returns what was exported from an earlier checkpoint of this name: files and folders that are older than it."""
    if not checkpoint.is_file():
        return []
    stem, time = checkpoint.stem, checkpoint.stat().st_mtime_ns
    beside = [entry for entry in checkpoint.parent.iterdir() if entry.name.startswith((f"{stem}.", f"{stem}_"))]
    return sorted(e for e in beside if e.suffix not in OF_THE_CHECKPOINT and e.stat().st_mtime_ns < time)
