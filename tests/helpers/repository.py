"""The repository under test, and copies of it."""

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path.name for path in REPOSITORY.glob("*.py") if path.name != "edited_release.py")
FADED_WEIGHTS = Path(__file__).with_name("faded.pt")  # a YOLOv8n trained on real images until gammas were zero


def entries(folder: Path = REPOSITORY) -> set[Path]:
    """What lies in a folder, but for what other tests have there for a moment: pytest's cache, and locks of folders."""
    return {path for path in folder.iterdir() if path.name != ".pytest_cache" and not path.match(".*.lock")}


def copied_repository(root: Path) -> Path:
    """Copies what a person runs, so that stages write their runs elsewhere; returns the copy."""
    shutil.copytree(REPOSITORY / "ultralytics", root / "ultralytics", ignore=shutil.ignore_patterns("__pycache__"))
    for script in REPOSITORY.glob("*.py"):
        shutil.copy(script, root)
    return root
