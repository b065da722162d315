"""Which files a stage made itself: only these may be replaced; anything else in a folder belongs to somebody."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import PruningError
from ..files.locks import LOCK
from ..files.places import shown
from ..files.whole import is_leftover

# Paths in a run folder, as regular expressions; the pictures, curves and text files are those of the release.
PICTURES = (
    r"(train|val)_batch[^/]*\.(jpg|png)",
    r"[^/]*confusion_matrix[^/]*\.png",
    r"[^/]*_curve\.png",
    r"predictions\.json",
    r"(labels|visualizations|results|predictions_txt|predictions_merged_txt)/.*",
)
TRAINING = (
    *PICTURES,
    r"args\.yaml",
    r"results\.(csv|png)",
    r"gamma\.(png|csv)",
    r"labels[^/]*\.jpg",
    r"events\.out\.tfevents\.[^/]*",
    r"weights/(best|last|epoch\d+|resume-\d+)\.pt",
    r"weights/(best|last|epoch\d+)[._-].*",  # exports of its checkpoints, which lie beside them
)
MEASURING = (r"val\.(csv|json)", *(rf"[^/]+/{picture}" for picture in PICTURES))
COMPRESSION = (
    r"state\.json",
    r"(compress\.(csv|png)|ladder\.csv|report\.(html|md))",
    r"(compressed|one-shot|halfway|step-\d+)[._-].*",
    r"steered([._].*|-[\d.]+\.pt)",
    *(rf"val/{picture}" for picture in PICTURES),
    *(rf"(steered|halfway|step-\d+|fine-tuned)(-[\d.]+)?/{file}" for file in TRAINING),
)


def foreign(folder: Path, patterns: Sequence[str]) -> list[str]:
    """Returns the files and empty folders of a folder, by their path in it, that match none of some patterns."""
    form = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    found = []
    for entry in sorted(folder.rglob("*")):
        path = entry.relative_to(folder)
        if any(is_leftover(part) for part in path.parts) or path.name == LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            continue
        if not form.fullmatch(path.as_posix()):
            found.append(path.as_posix())
    return found


def check_own(folder: Path, patterns: Sequence[str], maker: str) -> None:
    """Refuses to replace a folder that holds somebody's own files.

    Args:
        folder: Which.
        patterns: Of what the stage makes.
        maker: The stage, in words.

    Raises:
        PruningError: If it does.
    """
    if others := foreign(folder, patterns):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise PruningError(
            f"'{shown(folder)}' holds '{others[0]}'{more}, which {maker} did not make: move it away, or choose another "
            f"--name"
        )


def check_pruned(folder: Path, source: Path | None) -> None:
    """Refuses to write `pruned.pt`, `.json` and `.onnx` over the source of the cut, or over what no cut made.

    Raises:
        PruningError: If one of them is such a file.
    """
    checkpoint = folder / "pruned.pt"
    if source and checkpoint.exists() and checkpoint.samefile(source):
        raise PruningError(
            f"'{shown(source.resolve())}' would be overwritten by its own pruned network; choose another --save-dir"
        )
    if checkpoint.exists() and not has_plan(checkpoint):
        raise _not_ours(checkpoint)
    if (plan := folder / "pruned.json").exists() and not is_plan(plan):
        raise _not_ours(plan)
    onnx = folder / "pruned.onnx"
    if onnx.exists() and not checkpoint.exists() and not is_export(onnx):
        raise _not_ours(onnx)


def _not_ours(file: Path) -> PruningError:
    return PruningError(
        f"'{shown(file.resolve())}' was not made by prune.py, and is not overwritten: move it away, or choose another "
        f"--save-dir"
    )


def has_plan(file: Path) -> bool:
    """Whether a file is a checkpoint whose network carries the plan of a cut."""
    from ..checkpoints import checkpoint

    try:
        return bool(checkpoint.plans_of(checkpoint.load(file, trained_with_bn=False)[0]))
    except (PruningError, OSError, KeyError, TypeError, ValueError):
        return False


def is_plan(file: Path) -> bool:
    """Whether a file is the JSON of a plan."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"format", "layers", "source"} <= content.keys()


def is_export(file: Path) -> bool:
    """Whether a file is an ONNX that the release exported, by its metadata."""
    import onnx

    try:
        model = onnx.load(file, load_external_data=False)
    except Exception:  # whatever its parser raises
        return False
    return any(entry.key == "author" and entry.value == "Ultralytics" for entry in model.metadata_props)
