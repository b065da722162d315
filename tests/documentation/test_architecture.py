"""The house: imports run one way, folders are small, every file is in docs/architecture.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.repository import REPOSITORY

PACKAGE = REPOSITORY / "ultralytics" / "pruning"
MOST_FILES = 12
MOST_LINES = 300


def test_imports_run_one_way_and_in_no_circle() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
    assert "2 kept, 0 broken" in ended.stdout


def test_the_contract_can_fail(tmp_path) -> None:
    """An import from below to above, planted in a copy, breaks it."""
    package = tmp_path / "ultralytics" / "pruning"
    for file in PACKAGE.rglob("*.py"):
        place = package / file.relative_to(PACKAGE)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(file.read_text() + ("from .pipeline import prune\n" if file.name == "cost.py" else ""))
    (tmp_path / "ultralytics" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text((REPOSITORY / "pyproject.toml").read_text())
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "ultralytics.pruning.cost" in ended.stdout


@pytest.mark.parametrize(
    "folder", [PACKAGE, *(path for path in PACKAGE.rglob("*") if (path / "__init__.py").is_file())]
)
def test_folders_and_files_are_small(folder) -> None:
    files = list(folder.glob("*.py"))
    assert len(files) <= MOST_FILES
    assert [file.name for file in files if len(file.read_text().splitlines()) > MOST_LINES] == []


def test_every_file_is_in_the_architecture() -> None:
    """By its path in the package, once, and nothing that is not there."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text()
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    files = {str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py")}
    files -= {"__init__.py", *(f"{room}/__init__.py" for room in rooms)}
    rows, room, named = text[text.index("## Files") : text.index("## Words")].splitlines(), "", []
    for row in rows:
        if heading := re.match(r"\*\*(?:`(\w+)/`)?", row):
            room = f"{heading[1]}/" if heading[1] else ""
        elif row.startswith("| `"):
            named.append(room + row.split("`")[1])
    assert sorted(named) == sorted(files)
    assert rooms == set(re.findall(r"\*\*`(\w+)/`", text))
