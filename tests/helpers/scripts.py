"""Scripts run in this process."""

import runpy
import sys

from helpers.repository import REPOSITORY


def run(monkeypatch, capsys, script: str, *words: object) -> tuple[int, str]:
    """Runs a script in this process; returns its exit code and what it says on standard error."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    capsys.readouterr()
    code = 0
    try:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    return code, capsys.readouterr().err.strip()


def refused(monkeypatch, capsys, script: str, *words: object) -> str:
    """Runs a script that is to refuse its words; returns the one line that it says, behind the script's name."""
    code, said = run(monkeypatch, capsys, script, *words)
    assert code == 2 and len(said.splitlines()) == 1, said
    assert said.startswith(f"{script}: error: ") and len(said) < 1500
    return said.removeprefix(f"{script}: error: ")
