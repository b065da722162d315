"""Each benchmark finds the package as the docs start it: `python benchmarks/X.py`, where Python searches X's folder."""

import ast
from pathlib import Path

import pytest

from helpers.repository import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"
SCRIPTS = sorted(file for file in FOLDER.glob("*.py") if f"python benchmarks/{file.name}" in file.read_text())


def leads_here(statement: ast.stmt) -> bool:
    """Whether a statement adds the repository to what Python searches, itself or by a module beside it."""
    if isinstance(statement, ast.Expr):
        return ast.unparse(statement).startswith("sys.path.insert(0, str(Path(__file__).resolve().parents[1]))")
    names = [statement.module or ""] if isinstance(statement, ast.ImportFrom) else []
    names += [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
    beside = [FOLDER / f"{name}.py" for name in names]
    return any(file.is_file() and finds_the_package(file) for file in beside)


def of_the_package(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and (statement.module or "").split(".")[0] == "ultralytics"


def finds_the_package(file: Path) -> bool:
    """Whether a script imports what is in the repository only after it can."""
    for statement in ast.parse(file.read_text()).body:
        if leads_here(statement):
            return True
        if of_the_package(statement):
            return False
    return False


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_a_benchmark_finds_the_package(script: Path) -> None:
    assert finds_the_package(script)


def test_those_of_the_results_are_among_them() -> None:
    assert {"one_shot.py", "recipes.py", "engine.py"} <= {file.name for file in SCRIPTS}
