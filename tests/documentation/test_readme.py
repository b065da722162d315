"""The README is true: its Python example runs, its files and options exist."""

import re
import sys
from pathlib import Path

import pytest

from helpers.repository import REPOSITORY, SCRIPTS

README = (REPOSITORY / "README.md").read_text()
PACKAGE = REPOSITORY / "ultralytics" / "pruning"


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 11
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "weights" / "pruned.pt").is_file()
    said = capsys.readouterr().out
    assert re.search(r"\d+% of the channels can be removed", said)


def test_links_and_files_exist():
    text = re.sub(r"```.+?```", "", README, flags=re.DOTALL)
    for target in re.findall(r"\]\(((?!https?://)[^)]+)\)", text):
        assert (REPOSITORY / target).is_file(), target
    for file in re.findall(r"`(ultralytics/[\w/]+\.py|benchmarks/\w+\.py)`", README):
        assert (REPOSITORY / file).is_file(), file
    for file in re.findall(r"`(\w+\.py)`", README):
        assert (REPOSITORY / file).is_file() or (PACKAGE / file).is_file(), file


def test_commands_name_scripts_and_options_that_exist():
    commands = re.findall(r"`(python [^`]+)`", README)
    assert len(commands) > 8
    for command in commands:
        script, *words = command.split()[1:]
        if script == "STAGE.py":
            continue
        text = (REPOSITORY / script).read_text()
        text += "".join(
            (PACKAGE / f"{name}.py").read_text()
            for name in ("stages/training", "stages/compress_options", "command_line/options")
        )
        for option in (word for word in words if word.startswith("--")):
            assert f'"{option}"' in text, command


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_thin_guarded_and_help(script, monkeypatch, capsys):
    import runpy

    text = Path(REPOSITORY / script).read_text()
    assert len(text.splitlines()) <= 60
    assert 'if __name__ == "__main__":' in text
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPOSITORY / script), run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"python {script}" in said.split("example:")[1]
