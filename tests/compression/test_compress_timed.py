"""`compress.py` to milliseconds and to a number of parameters by the steered scheme. A formula stands for the clock."""

import csv
import json
import re
import runpy

import pytest

from helpers.scripts import refused, run
from helpers.timings import by_formula, macs_ms, plant
from ultralytics.pruning import cost_of, load, trace
from ultralytics.pruning.files import places
from ultralytics.pruning.latency import LatencyTable

TOLERANCE = 0.05
RUNTIME = ["--runtime", "torch", "--threads", 1]


def sluggish(factor: float) -> float:
    """A machine that gains six tenths of what its layers gain."""
    return 1 + 0.6 * (factor - 1)


@pytest.fixture
def words(digits, small_weights, runs, one_thread, monkeypatch) -> list:
    """A compression of seconds, on a sluggish machine."""
    plant(monkeypatch, macs_ms, sluggish)
    where = ["--weights", small_weights, "--data", digits, "--imgsz", 64, "--batch", 8, "--name", "c"]
    short = ["--steps", 1, "--epochs-per-step", 4, "--epochs", 1, "--round-to", 1, *RUNTIME]
    return [*where, *short, "nbs=8", "fliplr=0", "optimizer=AdamW", "lr0=0.001", "plots=False"]


def without_runtime(words: list) -> list:
    place = words.index(RUNTIME[0])
    return words[:place] + words[place + len(RUNTIME) :]


def rows(folder) -> list[dict[str, str]]:
    with (folder / "compress.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_milliseconds_are_met_as_timed(words, runs, monkeypatch, capsys):
    code, said = run(monkeypatch, capsys, "compress.py", *words, "--latency-speed-up", 1.6)
    assert code == 0, said
    assert [row["step"] for row in rows(runs / "c")] == ["original", "steered", "fine-tuned"]
    done = json.loads((runs / "c" / "state.json").read_text())["done"]
    assert done["steered timing"]["result"] == pytest.approx(1.6, rel=TOLERANCE)
    before, after, _ = done["torch, 1 threads, cpu: milliseconds"]["result"]
    assert before / after == pytest.approx(1.6, rel=TOLERANCE)
    args = load(runs / "c" / "steered" / "weights" / "last.pt")[1]["train_args"]
    assert args["target_latency_speed_up"] == 1.6
    (kept,) = (places.RUNS / "latency").glob("*.json")
    assert args["latency_table"] == str(kept) and LatencyTable.load(kept).about["threads"] == "1"
    assert not load(runs / "c" / "compressed.pt")[1]["train_args"].get("latency_table")


def test_a_table_from_elsewhere_is_taken_as_it_is(words, runs, small_weights, tmp_path, monkeypatch, capfd):
    model = load(small_weights)[0]
    by_formula(model, trace(model, imgsz=64), 64, macs_ms)[0].save(tmp_path / "board.json")
    words = without_runtime(words)
    board = ["--latency-table", tmp_path / "board.json", "--latency-speed-up"]
    assert "--latency-speed-up 50 is out of reach" in refused(monkeypatch, capfd, "compress.py", *words, *board, 50)
    assert not runs.exists()
    monkeypatch.setattr("sys.argv", ["compress.py", *map(str, [*words, *board, 1.6])])
    runpy.run_path("compress.py", run_name="__main__")
    out = capfd.readouterr().out
    assert "the target is reached: --latency-speed-up 1.6" in out
    assert float(re.search(r"(\S+)x faster by the table", out)[1]) == pytest.approx(1.6, rel=TOLERANCE)
    assert not (places.RUNS / "latency").exists() and "timed in turns" not in out


def test_a_number_of_parameters_is_met(words, runs, small_weights, monkeypatch, capsys):
    model = load(small_weights)[0]
    wanted = cost_of(trace(model, imgsz=64)).deployed // 2
    words = without_runtime(words)
    code, said = run(monkeypatch, capsys, "compress.py", *words, "--target-params", wanted)
    assert code == 0, said
    assert [row["step"] for row in rows(runs / "c")] == ["original", "steered", "fine-tuned"]
    assert int(rows(runs / "c")[-1]["parameters"]) == pytest.approx(wanted, rel=0.02)
    assert sum(p.numel() for p in load(runs / "c" / "compressed.pt")[0].parameters()) <= wanted * 1.02


def test_milliseconds_out_of_reach_are_refused_before_the_training(words, runs, monkeypatch, capfd):
    """By the timings of the layers, which stay for the next try."""
    assert "is out of reach" in refused(monkeypatch, capfd, "compress.py", *words, "--latency-speed-up", 1e4)
    assert [entry.name for entry in runs.iterdir()] == ["latency"]


TRAINING = ["--sparsity", "steered", "--epochs", 4, *RUNTIME, "round_to=1", "nbs=8", "plots=False"]


def test_the_stages_to_milliseconds(digits, small_weights, runs, one_thread, monkeypatch, capfd, caplog):
    """`train_sparsity.py`; what comes next is told by the zeros, whatever the target was."""
    plant(monkeypatch, macs_ms, sluggish)
    where = ["--weights", small_weights, "--data", digits, "--imgsz", 64, "--batch", 8]
    target = ["--target-latency-speed-up", 1.6]
    too_much = [*where, *TRAINING, "--target-latency-speed-up", 1e4]
    assert "is out of reach" in refused(monkeypatch, capfd, "train_sparsity.py", *too_much)
    monkeypatch.setattr("sys.argv", ["train_sparsity.py", *map(str, [*where, *TRAINING, *target])])
    runpy.run_path("train_sparsity.py", run_name="__main__")
    said = capfd.readouterr().out
    assert "exactly zero" in said and "python prune.py" in said
    timed = [float(factor) for factor in re.findall(r"original: (\S+)x as fast", caplog.text)]
    assert timed[-1] == pytest.approx(1.6, rel=TOLERANCE) and timed[0] < 1.6 * (1 - TOLERANCE)


REFUSED = [
    (["--target-latency-speed-up", 1], "a number above 1"),
    (["--target-params", "many"], "is not a number such as"),
    (["--target-params", "900M"], "the network has only"),
    (["--target-params", 1000], "is out of reach"),
    (["--target-params", "10k", "--target-speed-up", 2], "one target is enough"),
    (["--runtime", "torch", "--target-speed-up", 2], "--runtime is read for --target-latency-speed-up only"),
    (["--latency-table", "gone.json", "--target-latency-speed-up", 2], "is not there"),
    (["latency_table=README.md", "--target-latency-speed-up", 2], "is no table of latencies"),
]


@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_mistakes_are_one_line(more, message, digits, small_weights, runs, one_thread, monkeypatch, capfd):
    where = ["--weights", small_weights, "--data", digits, "--imgsz", 64, "--batch", 8, "--sparsity", "steered"]
    assert message in refused(monkeypatch, capfd, "train_sparsity.py", *where, *more, "round_to=1")
    assert not runs.exists()
