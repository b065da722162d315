"""Which scheme `compress.py` takes, and the one-shot scheme end to end."""

import copy
import csv

import pytest

from helpers.scripts import refused, run
from helpers.timings import macs_ms, plant
from ultralytics import YOLO
from ultralytics.pruning import cost_of, load, plans_of, trace
from ultralytics.pruning.selection.limits import Limits
from ultralytics.pruning.selection.targets import KINDS, Target
from ultralytics.pruning.stages import compress_options
from ultralytics.pruning.stages.compressing import scheme_of

SETTINGS = ["nbs=8", "fliplr=0", "optimizer=AdamW", "lr0=0.001", "plots=False"]
RUNTIME = ["--runtime", "torch", "--threads", 1]


@pytest.fixture
def words(digits, small_weights, runs, one_thread) -> list:
    """A compression of seconds."""
    where = ["--weights", small_weights, "--data", digits, "--imgsz", 64, "--batch", 8, "--device", "cpu"]
    return [*where, "--name", "o", "--epochs", 1, "--round-to", 1, *SETTINGS]


@pytest.mark.parametrize(
    ("said", "scheme"),
    [
        ([], "one-shot"),
        (["--criterion", "l1"], "one-shot"),
        (["--ignore", "model.4"], "one-shot"),
        (["--steps", "2"], "steered"),
        (["--epochs-per-step", "5"], "steered"),
        (["--epochs-per-step", "5", "--criterion", "l1"], "stepwise"),
        (["--steps", "2", "--ignore", "model.4"], "stepwise"),
        (["--scheme", "steered"], "steered"),
    ],
)
def test_the_scheme_follows_from_what_is_said(said, scheme):
    options = compress_options.parser().parse_intermixed_args(["--speed-up", "2", *said])
    assert scheme_of(options, Target("speed_up", 2.0)) == scheme


@pytest.fixture(scope="module")
def whole():
    """YOLOv8n, untrained."""
    return YOLO("yolov8n.yaml").model


def limits_for(said, network) -> Limits:
    (limits,) = several_limits(said, network)
    return limits


def several_limits(said, network) -> list[Limits]:
    return [each.limits for each in several_rules(said, network)[1]]


def several_rules(said, network) -> tuple[Target, list[compress_options.Rules]]:
    """The hardest target, and how a network is cut to each."""
    options = compress_options.parser().parse_intermixed_args(said)
    options.settings, options.imgsz, name = {}, 64, next(name for name in KINDS if getattr(options, name))
    numbers = getattr(options, name)
    targets = [Target(name, number) for number in (numbers if isinstance(numbers, list) else [numbers])]
    return targets[-1], compress_options.rules_for(options, scheme_of(options, targets[0]), targets, network)


@pytest.mark.parametrize(
    ("said", "round_to", "floor"),
    [
        (["--speed-up", "2.5"], 16, 0.3),
        (["--speed-up", "5"], 8, 0.2),
        (["--latency-speed-up", "5"], 8, 0.2),
        (["--speed-up", "20"], 8, 0.02),
        (["--target-params", "900k"], 16, 0.3),
        (["--target-params", "60k"], 8, 0.02),
        (["--prune-ratio", "0.3"], 8, 0.2),
        (["--speed-up", "5", "--round-to", "2"], 2, 0.3),
        (["--speed-up", "2.5", "--scheme", "steered"], 16, 0.1),
        (["--speed-up", "2.5", "--scheme", "stepwise"], 16, 0.1),
    ],
)
def test_layers_keep_as_much_as_leaves_a_choice(said, round_to, floor, whole):
    found = limits_for(said, whole)
    assert (found.round_to, found.floor) == (round_to, floor)


def test_each_of_several_targets_has_its_own_limits(whole):
    found = several_limits(["--speed-up", "2.5,5"], whole)
    assert [(each.round_to, each.floor) for each in found] == [(16, 0.3), (8, 0.2)]


def test_what_a_sparsity_training_has_ordered_may_all_go(whole):
    """A layer may be at zero as a whole, nearly."""
    faded = copy.deepcopy(whole)
    faded.args = {"sparsity": "steered", "target_speed_up": 2.5}
    assert limits_for(["--speed-up", "2.5"], faded).floor == Limits.floor
    faded.args = {"sparsity": None}
    assert limits_for(["--speed-up", "2.5"], faded).floor == 0.3


@pytest.mark.parametrize(
    ("said", "epochs", "halfway"),
    [
        (["--speed-up", "2.5"], 100, 0),
        (["--speed-up", "5"], 100, 25),
        (["--latency-speed-up", "5"], 100, 25),
        (["--target-params", "60k"], 200, 50),
        (["--speed-up", "5"], 40, 0),
        (["--prune-ratio", "0.6"], 100, 0),
        (["--speed-up", "5", "--scheme", "stepwise"], 100, 0),
    ],
)
def test_what_is_far_is_cut_twice(said, epochs, halfway, whole):
    target, (rules,) = several_rules(said, whole)
    assert compress_options.halfway_of(epochs, target, rules) == halfway


def rows(folder) -> list[dict[str, str]]:
    with (folder / "compress.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_cut_by_what_the_outputs_need(words, runs, small_weights, monkeypatch, capsys):
    """In rounds and with a fit, as prune.py does it; going on does nothing twice."""
    code, said = run(monkeypatch, capsys, "compress.py", *words, "--speed-up", 2)
    assert code == 0, said
    found = rows(runs / "o")
    assert [row["step"] for row in found] == ["original", "one-shot", "fine-tuned"]
    assert [int(row["epochs"]) for row in found] == [0, 0, 1]
    model, _ = load(runs / "o" / "compressed.pt")
    (plan,) = plans_of(model)
    assert plan.settings["criterion"] == "group_fisher" and plan.settings["per"] == "multiply-add"
    whole = cost_of(trace(load(small_weights)[0], imgsz=64)).macs
    assert whole / cost_of(trace(model, imgsz=64)).macs == pytest.approx(2, rel=0.03)
    cut = (runs / "o" / "one-shot.pt").stat().st_mtime_ns
    code, said = run(monkeypatch, capsys, "compress.py", *words, "--speed-up", 2)
    assert code == 0 and (runs / "o" / "one-shot.pt").stat().st_mtime_ns == cut and rows(runs / "o") == found
    code, said = run(monkeypatch, capsys, "compress.py", *words, "--speed-up", 2, "--criterion", "l1")
    assert code == 2 and "criterion was None, is l1" in said


def test_two_cuts_to_a_far_target(words, runs, small_weights, monkeypatch, capsys):
    """Half of the way as a factor each; all shares are of the original, all epochs are those that were asked for."""
    monkeypatch.setattr(compress_options, "LONG", 4)
    more = [*words, "--speed-up", 6, "--epochs", 4]
    code, said = run(monkeypatch, capsys, "compress.py", *more)
    assert code == 0, said
    found = rows(runs / "o")
    assert [row["step"] for row in found] == ["original", "halfway", "one-shot", "fine-tuned"]
    assert [int(row["epochs"]) for row in found] == [0, 1, 1, 4]
    whole = int(found[0]["macs"])
    assert whole / int(found[1]["macs"]) == pytest.approx(6**0.5, rel=0.05)
    assert whole / int(found[3]["macs"]) == pytest.approx(6, rel=0.05)
    model, _ = load(runs / "o" / "compressed.pt")
    first, second = plans_of(model)
    floor = second.settings["floor"]
    assert 0 < floor < 0.3
    for name, layer in second.layers.items():
        assert len(layer.kept_out) >= min(layer.out_before, int(floor * first.layers[name].out_before)), name
    written = (runs / "o" / "halfway.pt").stat().st_mtime_ns
    code, said = run(monkeypatch, capsys, "compress.py", *more)
    assert code == 0 and rows(runs / "o") == found and (runs / "o" / "halfway.pt").stat().st_mtime_ns == written
    code, said = run(monkeypatch, capsys, "compress.py", *more, "--overwrite")
    assert code == 0, said  # all of it is the run's own


def test_a_criterion_and_limits_are_honoured(words, runs, monkeypatch, capsys):
    code, said = run(
        monkeypatch, capsys, "compress.py", *words, "--prune-ratio", 0.4, "--criterion", "l1", "--ignore", "model.0"
    )
    assert code == 0, said
    (plan,) = plans_of(load(runs / "o" / "compressed.pt")[0])
    assert plan.settings["criterion"] == "l1"
    assert len(plan.layers["model.0.conv"].kept_out) == plan.layers["model.0.conv"].out_before


def test_milliseconds_are_met_as_timed(words, runs, monkeypatch, capsys):
    plant(monkeypatch, macs_ms, lambda factor: 1 + 0.6 * (factor - 1))
    code, said = run(monkeypatch, capsys, "compress.py", *words, "--latency-speed-up", 1.5, *RUNTIME)
    assert code == 0, said
    assert float(rows(runs / "o")[0]["ms"]) / float(rows(runs / "o")[-1]["ms"]) == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize("said", [["--steps", 2], ["--epochs-per-step", 3]])
def test_what_it_would_not_read_is_refused(words, runs, said, monkeypatch, capfd):
    told = refused(monkeypatch, capfd, "compress.py", *words, "--speed-up", 2, "--scheme", "one-shot", *said)
    assert "one-shot cuts once" in told and not runs.exists()
