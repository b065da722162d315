"""Paths that a saved state knows, after its files were moved, renamed or copied: a run is where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import PruningError
from ..files import places
from ..files.places import shown
from ..report import say

LEAST_PARTS = 2  # of a path that is looked for in this repository: a name alone could be anybody's


def run_folder_of(checkpoint: Path) -> Path:
    """Returns the folder of the run that a checkpoint belongs to.

    A checkpoint that was copied out of its run, and lies in no `weights/`, gets a folder of its own beside it.

    Raises:
        PruningError: If that folder holds something.
    """
    if checkpoint.parent.name == "weights":
        return checkpoint.parent.parent
    folder = checkpoint.with_suffix("")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "args.yaml").is_file():
        raise PruningError(
            f"'{checkpoint}' was copied out of its run, and '{folder}', where it would go on, holds something else; "
            f"copy the whole folder of the run"
        )
    return folder


def relocated(path: str, before: str | Path | None = None, now: Path | None = None) -> str:
    """Returns where a file lies that was moved along with a run, or with this repository.

    Args:
        path: As it was noted.
        before: The folder of the run at that time.
        now: Its folder today.

    Returns:
        The new path; the noted one if it is still right, is relative, or nothing is found.
    """
    noted = Path(path)
    if not noted.is_absolute() or places.exists(noted):
        return path
    for candidate in _candidates(noted, Path(before) if before else None, now):
        if places.exists(candidate):
            say(f"'{noted}' is not there any more: taking '{shown(candidate)}'")
            if (candidate.parent / "recipe.json").is_file() and candidate.name == "digits.yaml":
                from ultralytics.data.digits import note_place

                note_place(candidate.parent)
            return str(candidate)
    return path


def _candidates(noted: Path, before: Path | None, now: Path | None) -> list[Path]:
    """Returns where a file may lie: as far from the run as it was, or at its place in this repository."""
    found = []
    if before and now:
        for old, new in zip(before.parents, now.parents, strict=False):  # the nearest first
            if noted.is_relative_to(old):
                found.append(new / noted.relative_to(old))
    parts = noted.parts[1:]
    return found + [places.ROOT.joinpath(*parts[first:]) for first in range(len(parts) - LEAST_PARTS + 1)]


def go_on_in_place(args: Any, overrides: dict[str, Any]) -> None:
    """Lets a resumed training work in the folder in which its checkpoint lies, with the files that moved along.

    Args:
        args: The trainer's arguments, as the checkpoint knows them; changed in place.
        overrides: What the caller said; a `save_dir` among them decides.
    """
    last = Path(args.resume).resolve()
    args.model = args.resume = str(last)
    before, folder = getattr(args, "save_dir", None), run_folder_of(last)
    if not overrides.get("save_dir"):
        args.save_dir, args.project, args.name = str(folder), str(folder.parent), folder.name
    for name in ("data", "distill_model", "latency_table"):
        if isinstance(value := getattr(args, name, None), str):
            setattr(args, name, relocated(value, before, folder))
