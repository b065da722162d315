"""Tests of `compress.py`: both schemes end to end on a few images, what ends them, and going on after a kill."""

import csv
import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch

from helpers.processes.python import run_python, run_with_fault
from helpers.repository import REPOSITORY
from helpers.timings import by_formula, macs_ms
from ultralytics import YOLO
from ultralytics.pruning import PruningError, cost_of, load, plans_of, prune_network, trace
from ultralytics.pruning.compression import Recipe, work
from ultralytics.pruning.compression.state import State, Step, alone_in, clear, visible
from ultralytics.pruning.criteria.scoring import Scoring
from ultralytics.pruning.latency import Latency, Runtime
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.selection.limits import Limits, filters
from ultralytics.pruning.selection.target_kinds import SpeedUp
from ultralytics.pruning.selection.targets import KINDS, Target
from ultralytics.pruning.stages import compress_options

SETTINGS = ("nbs=8", "fliplr=0", "optimizer=AdamW", "lr0=0.001", "plots=False")


def recipe(**changes) -> Recipe:
    """A recipe with some fields of its own."""
    given = {"weights": "w.pt", "sha256": "0", "images": Images("d.yaml"), "target": Target("speed_up", 2.0)}
    return Recipe(**{**given, "training": {"imgsz": 64, "batch": 8}, **changes})


@pytest.fixture
def folder():
    """The run folder of a test, which is removed afterwards."""
    import shutil

    path = REPOSITORY / "runs" / f"test-compress-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def command(digits, small_weights, folder):
    """Writes the command line of a compression of seconds."""

    def write(*words: str) -> list[str]:
        where = ("--weights", str(small_weights), "--data", str(digits), "--imgsz", "64", "--batch", "8")
        own = ("--device", "cpu", "--name", folder.name, "--epochs", "1")
        return ["compress.py", *where, *own, *words, *SETTINGS]

    return write


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of compress.csv."""
    with (folder / "compress.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_cost_falls_evenly_to_the_target() -> None:
    """Four steps to a third: five sixths, two thirds, half, a third."""
    steps = [1 / Target("speed_up", 3.0).kind.on_the_way(3.0, step / 4, 0) for step in (1, 2, 3, 4)]
    assert steps == pytest.approx([5 / 6, 4 / 6, 3 / 6, 2 / 6])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheme": "sudden"}, "unknown scheme 'sudden'"),
        ({"max_map_drop": -0.1}, "the allowed drop is -0.1"),
        ({"target": Target("speed_up", 1.0)}, "--speed-up 1 removes nothing"),
        ({"target": Target("prune_ratio", 0.0)}, "--prune-ratio 0 removes nothing"),
        ({"steps": 1, "epochs_per_step": 2}, "at least 3 epochs"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes, message) -> None:
    """Each in one line."""
    with pytest.raises(PruningError, match=message):
        recipe(**changes)


def test_a_target_that_no_training_knows_is_for_steps(monkeypatch) -> None:
    """A kind of somebody's own, without a training argument."""

    class Halvings(SpeedUp):
        name, option, argument = "halvings", "--halvings", ""

    monkeypatch.setitem(KINDS, "halvings", Halvings())
    with pytest.raises(
        PruningError, match="--halvings is a target of --scheme stepwise; the steered one takes --speed"
    ):
        recipe(target=Target("halvings", 2.0))
    assert recipe(target=Target("halvings", 2.0), scheme="stepwise").scheme == "stepwise"


def test_work_is_done_once(tmp_path) -> None:
    """What is in the state is not done again, also by another process; a failed work is."""
    calls = []

    def work() -> float:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return 0.5

    with pytest.raises(ValueError):
        State(tmp_path, recipe()).once("work", work)
    assert State(tmp_path, recipe()).once("work", work) == 0.5
    assert State(tmp_path, recipe()).once("work", work) == 0.5
    assert len(calls) == 2


def test_a_state_of_another_recipe_is_refused(tmp_path) -> None:
    """It says what differs; nothing is changed."""
    State(tmp_path, recipe()).once("work", lambda: 1)
    before = (tmp_path / "state.json").read_text()
    with pytest.raises(PruningError, match=r"target value was 2.0, is 3.0; limits round_to was 1, is 8. .*--overwrite"):
        State(tmp_path, recipe(target=Target("speed_up", 3.0), limits=Limits(round_to=8)))
    assert (tmp_path / "state.json").read_text() == before


def test_a_state_of_an_earlier_version_goes_on(tmp_path) -> None:
    """As it was written before the recipe held its scoring and its latency: flat, every setting by its name."""
    earlier = {
        **{"weights": "w.pt", "sha256": "0", "data": "d.yaml", "target": {"name": "latency_speed_up", "value": 2.0}},
        **{"scheme": "stepwise", "steps": 4, "epochs_per_step": 10, "epochs": 100, "max_map_drop": None},
        **{"criterion": "lamp", "normalize": "mean", "per": "multiply-add", "batches": 3, "recalibrate": 5},
        "limits": {"floor": 0.1, "min_channels": 1, "max_ratio": 1.0, "round_to": 8, "ignore": [], "ratios": []},
        "runtime": {"name": "torch", "threads": 2, "device": "cpu"},
        **{"table": None, "teacher": True, "training": {"imgsz": 64, "batch": 8}},
        **{"data_digest": "", "table_sha256": ""},
    }
    asked = recipe(
        target=Target("latency_speed_up", 2.0),
        teacher=True,
        scheme="stepwise",
        images=Images("d.yaml", batches=3),
        scoring=Scoring("lamp", "mean", "multiply-add"),
        recalibrate=5,
        limits=Limits(round_to=8),
        latency=Latency(2.0, Runtime("torch", 2), 64),
    )
    assert json.loads(json.dumps(asked.plain())) == earlier
    (tmp_path / "state.json").write_text(json.dumps({"recipe": earlier, "done": {"a": {"result": 1, "seconds": 2.0}}}))
    assert State(tmp_path, asked).once("a", lambda: 2) == 1


DAMAGED = ["", "{", "[]", '{"recipe": {}}', '{"recipe": null, "done": {}}', '{"recipe": {}, "done": {"a": {}}}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_state_is_refused(tmp_path, text) -> None:
    """A half-written or foreign file is not read as an empty one."""
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(PruningError, match=r"is no state of a compression|is not JSON"):
        State(tmp_path, recipe())


def test_work_whose_product_is_gone_is_done_again(tmp_path) -> None:
    """A file that somebody deleted; another device is no reason to begin anew."""
    calls, file = [], tmp_path / "cut.pt"

    def work() -> int:
        file.touch()
        calls.append(1)
        return len(calls)

    assert State(tmp_path, recipe()).once("work", work, file) == 1
    assert State(tmp_path, recipe()).once("work", work, file) == 1
    file.unlink()
    other = recipe(training={"imgsz": 64, "batch": 8, "device": "1"})
    assert State(tmp_path, other).once("work", work, file) == 2


def test_limits_hold_for_the_original_after_all_steps() -> None:
    """All shares are of the original's widths, a quarter more of them at each of four steps."""
    limits = Limits(floor=0.1, max_ratio=0.5, ratios=(("model.9", 0.5),), round_to=8)
    asked = recipe(scheme="stepwise", steps=4, limits=limits)
    own = [asked.limits_at(step, {"a": 32}) for step in (1, 2, 3, 4)]
    assert [rule.floor for rule in own] == pytest.approx([0.775, 0.55, 0.325, 0.1])
    assert [rule.max_ratio for rule in own] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert [rule.ratios[0][1] for rule in own] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert own[3].least("a", 20) == {"floor": 4, "min_channels": 1, "max_ratio": 16} and own[3].round_to == 8
    assert own[0].least("a", 20)["floor"] == 20  # never more than there are
    assert own[0].least("b", 20)["floor"] == 16  # not named: of its own width
    whole = recipe(scheme="stepwise", steps=4).limits_at(1, {})
    assert whole.max_ratio == 1  # so that whole blocks may go from the first step on


def test_four_cuts_reach_what_one_reaches() -> None:
    """Also where widths are rounded: a floor of 56 % of 32 channels, rounded to 16, would keep all 32 for ever."""
    asked = recipe(scheme="stepwise", target=Target("speed_up", 8.0), limits=Limits(round_to=16))
    network = YOLO("yolov8n.yaml").model
    channel_map = trace(network)
    whole, widths = cost_of(channel_map).macs, {name: len(own) for name, own in filters(channel_map).items()}
    before = whole
    for step in (1, 2, 3, 4):
        factor = before / whole * asked.target.kind.on_the_way(8.0, step / asked.steps, 0)
        limits = asked.limits_at(step, widths)
        result = prune_network(network, speed_up=factor, scoring=Scoring("random"), limits=limits)
        network, before = result.model, result.plan.after.macs
        for name, layer in result.plan.layers.items():
            if name in widths and layer.kept_out:
                assert len(layer.kept_out) >= min(0.1 * widths[name], layer.out_before)
    assert whole / before == pytest.approx(8, rel=0.02)


def test_overwriting_waits_for_nobody_and_takes_nothing_away(command, folder) -> None:
    """A folder in which another process works is left as it is."""
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    with alone_in(folder):
        ended = run_python(*command("--speed-up", "2", "--overwrite"))
    assert ended.returncode == 2 and "another process works in" in ended.stderr
    assert (folder / "state.json").read_text() == "{}"


def test_a_folder_is_cleared_with_its_state_last(tmp_path, monkeypatch) -> None:
    """Killed on the way, it is a compression still; the lock stays, and hidden files are no one's work."""
    for name in ("a.pt", "state.json", ".lock", ".sweep.writing.csv"):
        (tmp_path / name).touch()
    (tmp_path / "zz" / "weights").mkdir(parents=True)
    assert sorted(visible(tmp_path)) == ["a.pt", "state.json", "zz"]
    gone, unlink = [], Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda path: gone.append(path.name) or unlink(path))
    clear(tmp_path)
    assert gone[-1] == "state.json" and [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert visible(tmp_path) == visible(tmp_path / "gone") == []


def test_a_training_that_was_killed_between_its_two_checkpoints_is_finished(quick, small_weights, tmp_path) -> None:
    """The release strips last.pt first, then best.pt, which would keep its optimizer, and its teacher."""
    training = {**quick, "batch": 8}
    asked = recipe(weights=str(small_weights), images=Images(quick["data"]), training=training, teacher=False)
    last = work.train("one", small_weights, {"epochs": 1, "finetune": True}, asked, tmp_path)
    best = last.with_name("best.pt")
    content = torch.load(best, weights_only=False)
    torch.save(
        {**content, "ema": content["model"], "model": None, "optimizer": {"state": {}, "param_groups": []}}, best
    )
    assert work.train("one", small_weights, {"epochs": 1, "finetune": True}, asked, tmp_path) == last
    content = torch.load(best, weights_only=False)
    assert content["optimizer"] is None and content["model"] is not None
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(PruningError, match=r"one' to train it anew"):
        work.train("one", small_weights, {"epochs": 1, "finetune": True}, asked, tmp_path)


def test_a_table_serves_all_steps_and_says_beforehand_what_is_out_of_reach(
    command, small_weights, digits, folder, tmp_path
) -> None:
    """The layers of a cut network are not in it, the original's are."""
    model = load(small_weights)[0]
    by_formula(model, trace(model, imgsz=64), 64, macs_ms)[0].save(tmp_path / "board.json")
    board = ("--latency-table", str(tmp_path / "board.json"), "--round-to", "1", "--criterion", "slim")
    words = (*board, "--steps", "3", "--epochs-per-step", "1", "--latency-speed-up")
    ended = run_python(*command(*words, "50"))
    assert (
        ended.returncode == 2 and "--latency-speed-up 50 is out of reach: the speed-up by the timings" in ended.stderr
    )
    assert not folder.exists()
    ended = run_python(*command(*words, "1.6"))
    assert ended.returncode == 0, ended.stderr
    assert "the target is reached: --latency-speed-up 1.6" in ended.stdout
    reached = float(re.search(r"(\S+)x faster by the table", ended.stdout)[1])
    assert reached == pytest.approx(1.6, rel=0.05)
    assert [row["step"] for row in rows(folder)] == ["original", "1", "2", "3", "fine-tuned"]
    assert [row["kept"] for row in rows(folder)].count("yes") == 1
    data, imgsz = f"--data {digits}", "--imgsz 64"
    assert f"compressed.pt {data} {imgsz}" in ended.stdout  # what to run next, as it is


def test_one_process_at_a_time_works_in_a_folder(tmp_path) -> None:
    """The second one is refused, and let in when the first is done."""
    with alone_in(tmp_path), pytest.raises(PruningError, match="another process works in"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


def test_nobody_teaches_unless_asked() -> None:
    """It cost accuracy on photographs and on the digits (docs/results/recipes.md)."""
    assert not compress_options.parser().parse_args(["--speed-up", "2"]).teacher and not recipe().teacher
    assert compress_options.parser().parse_args(["--speed-up", "2", "--distill"]).teacher
    assert not compress_options.parser().parse_args(["--speed-up", "2", "--no-distill"]).teacher


def test_the_csv_has_a_row_for_each_step(tmp_path) -> None:
    """Empty cells for what is unknown."""
    State(tmp_path, recipe()).write_csv(
        [Step("original", 0, 10, 20, None, 0.5, 1.0), Step("1", 2, 5, 9, 0.1, 0.4, 3.0)]
    )
    assert [row["cut"] for row in rows(tmp_path)] == ["", "0.1"]


def test_a_kill_loses_nothing(command, small_weights, folder) -> None:
    """Killed within the second step, the same command goes on: the first step is not done again."""
    words = ("--speed-up", "1.5", "--scheme", "stepwise", "--steps", "2", "--epochs-per-step", "2", "--round-to", "1")
    words += ("--distill",)
    step = "ultralytics.engine.trainer:BaseTrainer.optimizer_step"  # two an epoch, so the seventh is in step 2, epoch 2
    ended = run_with_fault(*command(*words), signal=signal.SIGKILL, at=step, call=7)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    second = folder / "step-2" / "weights" / "last.pt"  # written after its first epoch of two, with the teacher in it
    assert second.is_file()
    first = (folder / "step-1.pt").stat().st_mtime_ns, (folder / "step-1" / "weights" / "last.pt").stat().st_mtime_ns
    done = json.loads((folder / "state.json").read_text())["done"]
    assert "step-2 cut" in done and "step-2 training" not in done

    again = run_python(*command(*words))
    assert again.returncode == 0, again.stderr
    assert first == (
        (folder / "step-1.pt").stat().st_mtime_ns,
        (folder / "step-1" / "weights" / "last.pt").stat().st_mtime_ns,
    )
    assert [row["step"] for row in rows(folder)] == ["original", "1", "2", "fine-tuned"]
    costs = [int(row["macs"]) for row in rows(folder)]
    assert costs[0] / costs[1] == pytest.approx(1 / (1 - 1 / 6), rel=0.03)
    assert costs[0] / costs[2] == pytest.approx(1.5, rel=0.03) and costs[2] == costs[3]
    model, content = load(folder / "compressed.pt")
    assert len(plans_of(model)) == 2 and sum(p.numel() for p in model.parameters()) == int(
        rows(folder)[-1]["parameters"]
    )
    assert content["train_args"]["distill_model"] == str(small_weights)
    assert "the target is reached: --speed-up 1.5" in again.stdout
    assert again.stdout.index("Written: ") < again.stdout.index("ms before") < again.stdout.index("Next: ")
    assert [bool(row["ms"]) for row in rows(folder)].count(True) == 2 and rows(folder)[0]["ms"]
    assert (folder / "compress.png").stat().st_size > 10_000

    other = run_python(*command("--speed-up", "1.7", *words[2:]))
    assert other.returncode == 2 and "target value was 1.5, is 1.7" in other.stderr


def test_steered_to_the_target(command, folder) -> None:
    """One training fades and one cut follows; a drop that is not allowed is said, with exit code 2."""
    words = ("--speed-up", "2", "--steps", "1", "--epochs-per-step", "3", "--round-to", "1", "--max-map-drop", "0")
    ended = run_python(*command(*words))
    costs = [int(row["macs"]) for row in rows(folder)]
    accuracies = [float(row["recovered"] or row["cut"]) for row in rows(folder)]
    assert [row["step"] for row in rows(folder)] == ["original", "steered", "fine-tuned"]
    assert costs[0] / costs[1] == pytest.approx(2, rel=0.03)
    if max(accuracies[1:]) < accuracies[0]:
        assert ended.returncode == 2 and "--max-map-drop allows 0: nothing smaller was kept" in ended.stderr
        assert not (folder / "compressed.pt").exists()
    else:
        assert ended.returncode == 0 and (folder / "compressed.pt").is_file()


def test_training_images_are_looked_for_before_anything_is_measured(command, digits, folder, tmp_path) -> None:
    """A measurement of the original on a large data set takes minutes."""
    text = digits.read_text().splitlines()
    yaml = tmp_path / "data.yaml"
    yaml.write_text("\n".join("train: gone" if line.startswith("train:") else line for line in text))
    result = run_python(*command("--data", str(yaml), "--speed-up", "2"))
    assert result.returncode == 2 and "no training images in" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not folder.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "one target is needed, speed_up"),
        (("--speed-up", "0.5"), "--speed-up"),
        (("--speed-up", "2", "--scheme", "steered", "--criterion", "l1"), "--criterion needs --scheme stepwise"),
        (("--speed-up", "2", "--scheme", "steered", "--ignore", "model.22"), "--ignore needs --scheme stepwise"),
        (("--speed-up", "2", "--weights", "no.pt"), "'no.pt'|no.pt' is not there"),
        (("--speed-up", "1"), "--speed-up 1 removes nothing"),
        (("--speed-up", "2", "epochs=3"), "epochs= cannot be set here"),
        (("--speed-up", "2", "--workers", "2"), "--workers goes with --sweep"),
        (("--speed-up", "2", "--normalize", "gaussian", "--per", "multiply-add"), "gaussian scores may be negative"),
        (("--spee", "2"), "unrecognized arguments: --spee"),
        (("--speed-up", "2", "--data", "no.yaml"), "--data no.yaml: no such file"),
        (("--speed-up", "2", "--max-map-drop", "1.5"), "--max-map-drop"),
        (
            ("--speed-up", "500"),
            "--speed-up 500 is out of reach: the speed-up is .* instead of 500.00: the rest is kept by",
        ),
        (("--target-params", "1000"), "--target-params 1000 is out of reach: .* parameters are left instead of 1,000"),
    ],
)
def test_mistakes_are_one_line(command, folder, words, message) -> None:
    """Exit code 2, one line, nothing written."""
    result = run_python(*command(), *words)
    assert result.returncode == 2
    assert re.search(message, result.stderr) and len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert not folder.exists()
