"""`latency_table.py` writes what `prune.py --latency-table` reads, from whatever folder."""

import runpy
import sys

from helpers.repository import FADED_WEIGHTS, REPOSITORY
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.latency import LatencyTable, tables
from ultralytics.pruning.stages import latency_table


def run(monkeypatch, script: str, *words: object) -> None:
    """Runs a script in this process."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    runpy.run_path(str(REPOSITORY / script), run_name="__main__")


def test_a_table_is_written_and_read(tmp_path, monkeypatch, capsys):
    """On a clock of our own, by which each layer takes longer than the one before, and narrower networks are faster."""
    monkeypatch.setattr(entry, "choose_device", lambda wanted: wanted)
    monkeypatch.chdir(tmp_path)
    runs = iter(range(10**9))
    monkeypatch.setattr(tables, "milliseconds", lambda run: run() or 1.0 + 1e-3 * next(runs))
    words = ["--weights", FADED_WEIGHTS, "--imgsz", "64", "--runtime", "torch", "--threads", "1", "--round-to", "8"]
    words += ["--output", "own/board.json"]

    monkeypatch.setattr(latency_table, "in_turns", lambda runs: {name: 10.0 - i for i, name in enumerate(runs)})
    run(monkeypatch, "latency_table.py", *words)
    assert "Written: " in capsys.readouterr().out
    assert latency_table.checked_output(tmp_path / "own" / "board.json")  # its own file may be replaced
    table = LatencyTable.load(tmp_path / "own" / "board.json")
    assert table.about["threads"] == "1" and table.about["runtime"].startswith("torch") and table.layers
    target = ["--latency-speed-up", "1.2", "--latency-table", "own/board.json", "--round-to", "8"]
    run(monkeypatch, "prune.py", "--weights", FADED_WEIGHTS, "--imgsz", "64", *target, "--dry-run")
    assert "by the table" in capsys.readouterr().out
