"""Tests of several targets in one run: what is kept at each, where the next begins, going on, and what ends it."""

import csv
import json
import runpy
from pathlib import Path

import pytest

from helpers.reports import Page
from helpers.repository import REPOSITORY
from helpers.scripts import refused, run
from helpers.timings import macs_ms, plant
from ultralytics.pruning import PruningError, cost_of, load, plans_of, trace
from ultralytics.pruning.compression import ladder, schemes, work
from ultralytics.pruning.compression.ladder import Ladder
from ultralytics.pruning.compression.recipe import Recipe
from ultralytics.pruning.latency import Runtime, comparing
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.selection.targets import Target

SETTINGS = ["nbs=8", "fliplr=0", "optimizer=AdamW", "lr0=0.001", "plots=False"]
SHORT = ["--steps", 2, "--epochs-per-step", 3]  # channels fade


@pytest.fixture
def words(digits, small_weights, runs, one_thread) -> list:
    """A compression of seconds."""
    where = ["--weights", small_weights, "--data", digits, "--imgsz", 64, "--batch", 8, "--device", "cpu"]
    return [*where, "--name", "l", "--epochs", 1, "--round-to", 1, *SETTINGS]


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def compress(monkeypatch, capsys, *words) -> str:
    """Runs compress.py in this process to its end; returns what it prints."""
    monkeypatch.setattr("sys.argv", ["compress.py", *map(str, words)])
    capsys.readouterr()
    runpy.run_path(str(REPOSITORY / "compress.py"), run_name="__main__")
    return capsys.readouterr().out


def macs_of(file: Path) -> int:
    return cost_of(trace(load(file)[0], imgsz=64)).macs


def in_turns(networks, runtime, imgsz, onnx=None) -> tuple[list[float], float]:
    """A machine that takes a millisecond for each hundred thousand parameters."""
    return [sum(p.numel() for p in network.parameters()) / 1e5 for network in networks], 0.01


def test_a_network_for_each_target(words, runs, small_weights, monkeypatch, capsys):
    """In whatever order they are said; each has the size that was asked for, seen from the original."""
    monkeypatch.setattr(comparing, "time_in_turns", in_turns)
    said = compress(monkeypatch, capsys, *words, *SHORT, "--speed-up", "2,1.4")
    folder, whole = runs / "l", macs_of(small_weights)
    states = ["original", "steered-1.4", "fine-tuned-1.4", "steered-2", "fine-tuned-2"]
    assert [row["step"] for row in table(folder / "compress.csv")] == states
    for number in (1.4, 2):
        assert whole / macs_of(folder / f"compressed-{number:g}.pt") == pytest.approx(number, rel=0.03)
    branches = [len(plans_of(load(folder / f"compressed-{number}.pt")[0])) for number in ("1.4", "2")]
    assert branches == [1, 2]  # the second one was cut out of the first
    rows = table(folder / "ladder.csv")
    assert [row["target"] for row in rows] == ["", "1.4", "2"]
    kept = [row for row in table(folder / "compress.csv") if row["kept"]]
    assert [row["macs"] for row in kept] == [row["macs"] for row in rows[1:]]
    sizes = [int(row["parameters"]) for row in rows]
    assert [float(row["faster"][:-1]) for row in rows] == pytest.approx([sizes[0] / size for size in sizes], rel=0.02)
    assert (folder / "compress.png").stat().st_size > 10_000
    results = Page.of((folder / "report.html").read_text()).tables["results"]
    assert [row[0].partition("/")[2] for row in results[2:]] == ["compressed-1.4.pt", "compressed-2.pt"]
    assert [row[1].partition("|")[0] for row in results[1:]] == [f"{int(row['parameters']):,}" for row in rows]
    assert "8 epochs; a compression for each target takes 14" in said  # 3 + 1 + 3 + 1, and twice 6 + 1
    assert f"{folder.name}/compressed-2.pt" in said[said.index("Next: ") :]

    assert "Going on with" in compress(monkeypatch, capsys, *words, *SHORT, "--speed-up", "1.4,2")
    assert table(folder / "ladder.csv") == rows  # nothing was trained or timed again


def test_it_goes_on_where_it_was(words, runs, monkeypatch, capsys):
    """Stopped behind the first network, only the second one is made."""

    def stopped(*given, name="", **known):
        if name == "steered-2":
            raise PruningError("stopped")
        return fade(*given, name=name, **known)

    fade = schemes.fade
    monkeypatch.setattr(ladder, "fade", stopped)
    code, _ = run(monkeypatch, capsys, "compress.py", *words, *SHORT, "--speed-up", "1.4,2", "--no-timing")
    assert code == 2 and (runs / "l" / "compressed-1.4.pt").is_file() and not (runs / "l" / "ladder.csv").exists()
    first = (runs / "l" / "steered-1.4.pt").stat().st_mtime_ns
    monkeypatch.setattr(ladder, "fade", fade)
    compress(monkeypatch, capsys, *words, *SHORT, "--speed-up", "1.4,2", "--no-timing")
    assert (runs / "l" / "steered-1.4.pt").stat().st_mtime_ns == first
    assert [row["ms"] for row in table(runs / "l" / "ladder.csv")] == ["", "", ""]


def test_milliseconds_and_parameters_too(words, runs, small_weights, monkeypatch, capsys):
    """As timed in turns with the original, whatever the network before took."""
    plant(monkeypatch, macs_ms, lambda factor: 1 + 0.8 * (factor - 1))
    timed = ["--runtime", "torch", "--threads", 1]
    longer = ["--steps", 2, "--epochs-per-step", 4]
    compress(monkeypatch, capsys, *words, *timed, *longer, "--latency-speed-up", "1.3,1.6")
    done = json.loads((runs / "l" / "state.json").read_text())["done"]
    for number in (1.3, 1.6):
        assert done[f"steered-{number:g} timing"]["result"] == pytest.approx(number, rel=0.05)

    params = cost_of(trace(load(small_weights)[0], imgsz=64)).deployed
    wanted = [params * 8 // 10, params * 6 // 10]
    numbers = ",".join(map(str, wanted))
    compress(monkeypatch, capsys, *words, *SHORT, "--name", "p", "--target-params", numbers, "--no-timing")
    found = [int(row["parameters"]) for row in table(runs / "p" / "ladder.csv")[1:]]
    assert found == pytest.approx(wanted, rel=0.02) and found[1] <= wanted[1] * 1.02


REFUSED = [
    (["--speed-up", "2,2"], "names a number twice"),
    (["--speed-up", "2,x"], "is not a number of at least 1"),
    (["--speed-up", "1,2"], "--speed-up 1 removes nothing"),
    (["--speed-up", "1.5,500"], "--speed-up 500 is out of reach"),
    (["--speed-up", "1.5,2", "--scheme", "stepwise"], "needs --scheme one-shot or steered"),
    (["--speed-up", "1.5,2", "--scheme", "steered", "--criterion", "l1"], "needs --scheme stepwise"),
    (["--speed-up", "1.5,2,2.5", *SHORT], "at least 3 epochs to each target"),
    (["--speed-up", "1.5,2", "--sweep", "epochs=1,2"], "give the target one number"),
    (["--latency-speed-up", "1.5,2", "--latency-table", "b.json"], "give one number"),
    (["--prune-ratio", "0.2,0.4"], "is not a number of at least 0"),
]


@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_mistakes_are_one_line(words, runs, more, message, monkeypatch, capfd):
    assert message in refused(monkeypatch, capfd, "compress.py", *words, *more)
    assert not runs.exists()


class Trainings:
    """Stands in for training, cutting and measuring: the accuracy falls with the multiply-adds."""

    def __init__(self, monkeypatch, lost: float) -> None:
        self.lost, self.trained, self.cuts = lost, [], []
        monkeypatch.setattr(work, "widths", lambda file: {"layer of": file.name})
        self.macs = 1000.0
        for name in ("measured_accuracy", "size", "train", "cut_checkpoint"):
            monkeypatch.setattr(work, name, getattr(self, name))
        monkeypatch.setattr("ultralytics.pruning.compression.jobs.draw_steps", lambda *_: None)
        monkeypatch.setattr(ladder, "draw_rungs", lambda *_: None)

    def measured_accuracy(self, file, recipe, folder) -> float:
        return 0.8 - self.lost * (1 - self.macs / 1000)

    def size(self, file, recipe) -> tuple[int, int]:
        return 1000, 1000

    def train(self, name, start, settings, recipe, folder) -> Path:
        self.trained.append((name, start.name, settings.get("target_speed_up")))
        self.macs /= settings.get("target_speed_up", 1)
        last = folder / name / "weights" / "last.pt"
        last.parent.mkdir(parents=True)
        for file in (last, last.with_name("best.pt")):
            file.write_text(name)
        return last

    def cut_checkpoint(self, start, target, file, recipe, limits):
        file.write_text("cut")
        self.macs /= target.get("speed_up", 1)
        self.cuts.append((start.parents[1].name, limits.widths))
        size = round(self.macs)
        plan = {"after": type("Cost", (), {"params": size, "macs": size}), "settings": {}, "limits": (), "findings": ()}
        return type("Result", (), {"plan": type("Plan", (), plan)})


def climbed(tmp_path, drop=None, scheme="steered") -> Ladder:
    file = tmp_path / "net.pt"
    file.write_text("net")
    (tmp_path / "run").mkdir()
    training = {"imgsz": 64, "batch": 8}
    how = {"milder": (1.5, 2.0), "max_map_drop": drop, "scheme": scheme, "training": training}
    found = Ladder(Recipe(str(file), "0", Images("d.yaml"), Target("speed_up", 4.0), **how), tmp_path / "run")
    found.run()
    return found


def test_each_goes_on_from_the_cut_before(monkeypatch, tmp_path):
    """And is fine-tuned apart: a network that was fine-tuned is nobody's beginning."""
    done = Trainings(monkeypatch, 0.1)
    found = climbed(tmp_path)
    fadings = [entry for entry in done.trained if entry[2]]
    assert [entry[:2] for entry in fadings] == [
        ("steered-1.5", "net.pt"),
        ("steered-2", "steered-1.5.pt"),
        ("steered-4", "steered-2.pt"),
    ]
    assert [entry[2] for entry in fadings] == pytest.approx([1.5, 2 / 1.5, 2], rel=0.01)
    assert [entry[1] for entry in done.trained if not entry[2]] == ["steered-1.5.pt", "steered-2.pt", "steered-4.pt"]
    assert [step.epochs for step in found.kept] == [114, 127, 140]  # of 40 a third each, then 100
    assert found.cheaper().startswith("340 epochs; a compression for each target takes 420")


def test_each_is_cut_out_of_the_one_before(monkeypatch, tmp_path):
    """That was fine-tuned; shares of layers are still those of the original."""
    done = Trainings(monkeypatch, 0.1)
    found = climbed(tmp_path, scheme="one-shot")
    assert [name for name, _ in done.cuts] == [tmp_path.parent.name, "fine-tuned-1.5", "fine-tuned-2"]
    assert [dict(widths) for _, widths in done.cuts] == [{}, *[{"layer of": "net.pt"}] * 2]
    assert [step.macs for step in found.kept] == [667, 500, 250]
    assert [step.epochs for step in found.kept] == [100, 200, 300]
    assert found.cheaper().startswith("300 epochs; compressions with as many behind each network take 600")


def test_one_cut_for_each_target(words, runs, small_weights, monkeypatch, capsys):
    """By default; each by the rules for single layers that its target leaves room for."""
    said = compress(monkeypatch, capsys, *words, "--speed-up", "1.4,2", "--no-timing")
    folder, whole = runs / "l", macs_of(small_weights)
    states = ["original", "one-shot-1.4", "fine-tuned-1.4", "one-shot-2", "fine-tuned-2"]
    assert [row["step"] for row in table(folder / "compress.csv")] == states
    for number in (1.4, 2):
        assert whole / macs_of(folder / f"compressed-{number:g}.pt") == pytest.approx(number, rel=0.03)
    assert [len(plans_of(load(folder / f"compressed-{number}.pt")[0])) for number in ("1.4", "2")] == [1, 2]
    assert "2 epochs; compressions with as many behind each network take 3" in said
    before = (folder / "one-shot-2.pt").stat().st_mtime_ns
    assert "Going on with" in compress(monkeypatch, capsys, *words, "--speed-up", "2,1.4", "--no-timing")
    assert (folder / "one-shot-2.pt").stat().st_mtime_ns == before


def test_milliseconds_of_cuts_are_seen_from_the_original(words, runs, monkeypatch, capsys):
    plant(monkeypatch, macs_ms, lambda factor: 1 + 0.8 * (factor - 1))
    timed = ["--runtime", "torch", "--threads", 1]
    compress(monkeypatch, capsys, *words, *timed, "--latency-speed-up", "1.3,1.6")
    done = json.loads((runs / "l" / "state.json").read_text())["done"]
    first, second = (done[f"one-shot-{number} cut"]["result"]["faster"] for number in (1.3, 1.6))
    assert [first, first * second] == pytest.approx([1.3, 1.6], rel=0.05)


def test_a_drop_that_is_not_allowed_ends_it(monkeypatch, tmp_path):
    """The networks before are kept."""
    Trainings(monkeypatch, 0.2)
    found = climbed(tmp_path, drop=0.11)
    assert [file.name for file in found.files] == ["compressed-1.5.pt", "compressed-2.pt"]
    assert not (tmp_path / "run" / "compressed-4.pt").exists()
    assert [row["target"] for row in table(tmp_path / "run" / "ladder.csv")] == ["", "1.5", "2"]


def test_all_are_timed_in_turns(monkeypatch, tmp_path):
    """Once on each runtime; the picture and the table have the milliseconds."""
    Trainings(monkeypatch, 0.1)
    found = climbed(tmp_path)
    timed = []
    monkeypatch.setattr(work, "in_turns", lambda files, *_: timed.append(len(files)) or [9.0, 6.0, 4.5, 3.0, 0.02])
    monkeypatch.setattr(work, "speed", lambda *given: given)
    speeds = [found.speed(number, Runtime("torch")) for number in (0, 1, 2)]
    assert timed == [4] and [each[-1] for each in speeds] == [(9.0, 6.0, 0.02), (9.0, 4.5, 0.02), (9.0, 3.0, 0.02)]
    assert [each[2] for each in speeds] == pytest.approx([1.5, 2, 4], rel=0.01)
    assert [row["faster"] for row in table(tmp_path / "run" / "ladder.csv")] == ["1.00x", "1.50x", "2.00x", "3.00x"]
