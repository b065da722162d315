"""Whether a cut is as fast as promised: planted milliseconds, so that no clock decides a test."""

import runpy
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.networks import chain, image
from helpers.repository import REPOSITORY
from ultralytics.pruning import PruningError, cut, load, trace
from ultralytics.pruning.command_line import options
from ultralytics.pruning.latency import Runtime, comparing, timing
from ultralytics.pruning.latency.comparing import LayerTime, Remedy, Speed, compare, layer_times, tried
from ultralytics.pruning.latency.shapes import Shape, shapes_of
from ultralytics.pruning.latency.wording import say_speed, slow_said
from ultralytics.pruning.plans.plan import plan_from
from ultralytics.pruning.runs.interruption import Terminated
from ultralytics.pruning.stages import compress_options

CPU = Runtime("torch")


def speed(before: float, after: float, promised: float = 2.0, *layers: LayerTime, **changes) -> Speed:
    """What was found of a cut, at a spread of zero."""
    given = {"runtime": CPU, "imgsz": 64, "spread": 0.0, **changes}
    return Speed(before_ms=before, after_ms=after, promised=promised, layers=layers, **given)


def layer(name: str, before: int, after: int, before_ms: float, after_ms: float) -> LayerTime:
    """A layer as wide at its outputs as at its inputs."""
    return LayerTime(name, (before, before), (after, after), (after / before) ** 2, before_ms, after_ms)


@pytest.mark.parametrize(
    ("after", "promised", "spread", "slow"),
    [
        (50.0, 2.0, 0.0, False),  # all that is promised
        (10 / 0.151, 2.0, 0.0, False),  # 1.51x of 2x
        (10 / 0.149, 2.0, 0.0, True),
        (10 / 0.149, 2.0, 0.05, False),  # by less than the clock can tell
        (100.0, 1.02, 0.02, False),
        (110.0, 1.0, 0.0, True),  # slower than before
        (40.0, 4.0, 0.0, False),  # 2.5x of 4x
        (41.0, 4.0, 0.0, True),
    ],
)
def test_less_than_half_of_what_is_promised_is_slow(after, promised, spread, slow) -> None:
    assert speed(100.0, after, promised, spread=spread).is_slow is slow


def test_the_missing_time_is_that_of_its_parts() -> None:
    """An odd layer and what grew outside waste time, one that was not cut takes its own, the rest is in no layer."""
    odd, even, whole = layer("odd", 64, 48, 40, 42), layer("even", 64, 32, 32, 8), layer("whole", 16, 16, 8, 8)
    odd = replace(odd, after=(48, 47))
    found = speed(100.0, 90.0, 2.0, whole, even, odd)  # outside 20 before, 32 after
    assert found.outside == pytest.approx((20, 32))
    parts = {Remedy.ROUND_TO: 42 - 40 * 0.5625 + 12, Remedy.LATENCY: 40 * 0.0625 - 8 + 4, Remedy.RUNTIME: 10}
    assert found.parts() == pytest.approx(parts)
    assert sum(found.parts().values()) == pytest.approx(found.missing) == pytest.approx(40)
    assert found.off == (odd,) and found.slowest == (odd, whole)
    assert found.remedies() == (Remedy.ROUND_TO, Remedy.RUNTIME)


@pytest.mark.parametrize(
    ("layers", "by", "remedies"),
    [
        ([layer("a", 64, 37, 90, 80)], None, (Remedy.ROUND_TO,)),
        ([layer("a", 64, 32, 90, 80)], None, (Remedy.LATENCY,)),
        ([layer("a", 64, 64, 90, 80)], None, (Remedy.LATENCY,)),
        ([layer("a", 64, 32, 90, 80)], 2.0, (Remedy.RUNTIME,)),  # milliseconds were the target
        ([layer("a", 64, 37, 4, 2)], None, (Remedy.RUNTIME,)),  # a tiny network: its time is in the calls
        ([], None, ()),
    ],
)
def test_the_remedy_is_that_of_the_part_with_most_of_the_time(layers, by, remedies) -> None:
    assert speed(100.0, 90.0, 2.0, *layers).remedies(tried(by)) == remedies


def test_the_step_is_that_of_the_hardware(monkeypatch) -> None:
    """16 channels on a CPU, 8 on a GPU; widths that the cut left as they were are not its fault."""
    assert speed(1, 1).step == 16 and speed(1, 1, runtime=Runtime("torch", device="0")).step == 8
    assert layer("a", 64, 40, 1, 1).is_off(16) and not layer("a", 64, 40, 1, 1).is_off(8)
    assert not layer("a", 3, 3, 1, 1).is_off(16)
    assert not LayerTime("gone", (37, 37), (0, 0), 0, 1, 0).is_off(16)


def test_each_layer_is_found_in_both_networks() -> None:
    """By their calls: a layer that is gone takes no time, one that runs twice takes it twice."""
    net = chain(16, 32)
    calls = shapes_of(net, trace(net, image(net, 32, batch=1)), 32)
    first, _, third = calls
    after = {first: calls[first], third: calls[third] * 2}
    ms = {shape: 1.0 + number for number, (shape,) in enumerate(calls.values())}
    found = layer_times(calls, after, ms)
    assert [(each.before_ms, each.after_ms) for each in found] == [(1, 1), (2, 0), (3, 6)]
    assert found[1].before == (16, 32) and found[1].after == (0, 0)
    assert [each.left for each in found] == [1, 0, 2]


def test_what_is_left_of_a_layer_is_counted_by_its_groups() -> None:
    """A depthwise layer of half the width has half of the multiply-adds, another one a quarter."""
    how = {"kind": "Conv2d", "kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    for groups, left in ((0, 1 / 2), (1, 1 / 4), (4, 1 / 4)):
        whole, half = (Shape(**how, groups=groups, inputs=c, outputs=c, cells=(8, 8), activation=True) for c in (16, 8))
        (found,) = layer_times({"a": (whole,)}, {"a": (half,)}, {whole: 1.0, half: 1.0})
        assert found.left == left


@pytest.fixture
def halved():
    """A chain of layers before and after a cut to odd widths."""
    net = chain(16, 32)
    channel_map = trace(net, image(net, 32, batch=1))
    kept = ~channel_map.free | (np.arange(len(channel_map.channels)) % 2 == 0)
    pruned = chain(16, 32)
    plan = plan_from(channel_map, kept, {})
    cut(pruned, plan)
    return net, pruned, plan.before.macs / plan.after.macs


@pytest.fixture
def clock(monkeypatch):
    """Times networks and layers by what it is told; `calls` counts the layers."""
    found = SimpleNamespace(networks=(10.0, 9.0, 0.0), layer=lambda run: 1.0, calls=0)

    def milliseconds(run, **how) -> float:
        found.calls += 1
        return found.layer(run)

    monkeypatch.setattr(comparing, "time_networks", lambda *networks: found.networks)
    monkeypatch.setattr(comparing, "milliseconds", milliseconds)
    return found


def test_the_layers_of_a_slow_cut_alone_are_timed(halved, clock, monkeypatch) -> None:
    """As wide as they are; without what a call takes. Both networks stay as they are."""
    before, after, promised = halved
    monkeypatch.setattr(Runtime, "layer", lambda self, shape, inputs, outputs: (inputs, outputs))
    clock.layer = lambda widths: 0.1 + widths[0] * widths[1] / 1000
    found = compare(before, after, promised, CPU, 32)
    assert found.is_slow and len(found.layers) == 3 and clock.calls == 7  # and a call
    for each in found.layers:
        assert each.before_ms == pytest.approx((each.before[0] * each.before[1] - 16) / 1000)
        assert each.after_ms == pytest.approx((each.after[0] * each.after[1] - 16) / 1000)
    assert [each.after for each in found.layers] == [(3, 8), (8, 16), (16, found.layers[2].before[1])]

    clock.networks, clock.calls = (10.0, 2.0, 0.0), 0
    assert compare(before, after, promised, CPU, 32).layers == () and clock.calls == 0
    clock.networks = (10.0, 9.0, 0.8)  # a busy machine
    doubtful = compare(before, after, 2.0, CPU, 32)
    assert doubtful.in_doubt and not doubtful.is_slow and clock.calls == 0


@pytest.mark.timed
@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_what_is_timed_is_real(name, small_weights, monkeypatch) -> None:
    """A network against itself promises nothing; one of its layers takes some of its time."""
    monkeypatch.setattr(comparing, "ROUNDS", 2)
    model = load(small_weights)[0]
    before, after, spread = comparing.time_networks(model, model, Runtime(name), (64, 96))
    assert before > 0 and after > 0 and spread >= 0
    layers = comparing.time_both(model, model, Runtime(name), (64, 96))
    assert len(layers) > 5 and all(each.before == each.after for each in layers)
    assert sum(each.before_ms for each in layers) > 0 and not model.training


def test_turns_end_with_the_clock(monkeypatch) -> None:
    """After the least of rounds; the share of the time in which the thread did not run is noted."""
    monkeypatch.setattr(timing, "PAUSE", 0)
    torch.manual_seed(0)
    runs = {"a": lambda: None, "b": lambda: timing.time.sleep(0.002)}
    found = timing.rounds_in_turns(runs, 50, seconds=0)
    assert {name: len(each) for name, each in found.items()} == {"a": timing.LEAST_ROUNDS, "b": timing.LEAST_ROUNDS}
    assert all(each.ms >= 2 and each.waited > 0.5 for each in found["b"])
    assert len(timing.rounds_in_turns(runs, 5)["a"]) == 5


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: no kernel\nmore"), PruningError("nothing is timed"), ValueError(), MemoryError()],
)
def test_what_cannot_be_timed_is_one_line(error, capsys) -> None:
    def measure():
        raise error

    say_speed(measure)
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert line.startswith("Not timed: ")


def test_an_interruption_is_not_swallowed() -> None:
    def measure():
        raise Terminated

    with pytest.raises(KeyboardInterrupt):
        say_speed(measure)


def test_the_words_name_layers_widths_and_options() -> None:
    found = speed(100.0, 90.0, 2.0, layer("model.7.conv", 64, 37, 40, 42), layer("model.8.conv", 64, 64, 40, 40))
    said = slow_said(found)
    (row,) = (line for line in said.splitlines() if line.startswith("model.7.conv"))
    assert "37" in row and "40.00" in row and "42.00" in row
    assert "--round-to 16" in said and "--latency-speed-up 2" in said and "--runtime" not in said
    assert "--latency-speed-up" not in slow_said(found, tried(2.0))


@pytest.fixture
def prune(monkeypatch, capfd, one_thread, small_weights, tmp_path):
    """Runs prune.py on the small detector, to odd widths; returns what it said."""
    where = ["--weights", small_weights, "--save-dir", tmp_path / "out", "--imgsz", 64, "--no-onnx", "--speed-up", 2]

    def of(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["prune.py", *map(str, (*where, "--round-to", 1, *words))])
        capfd.readouterr()
        runpy.run_path(str(REPOSITORY / "prune.py"), run_name="__main__")
        return capfd.readouterr().out

    return of


def test_prune_py_says_what_holds_a_slow_cut_back(prune, clock) -> None:
    """Behind its files, before what to run next; a good one is in one line."""
    clock.networks = (100.0, 95.0, 0.0)
    said = prune()
    assert "100.00 ms before, 95.00 ms after" in said and "torch" in said and clock.calls > 0
    assert (
        said.index("Written: ") < said.index("ms before") < said.index("--runtime onnxruntime") < said.index("Next: ")
    )
    clock.networks, clock.calls = (100.0, 50.0, 0.0), 0
    said = prune("--dry-run")
    assert "2.00x, within" in said and "Try: " not in said and clock.calls == 0


def test_prune_py_is_done_before_it_times(prune, clock, monkeypatch, tmp_path) -> None:
    """What cannot be timed, or is interrupted meanwhile, is there; --no-timing looks at no clock."""

    def fails(*networks):
        assert (tmp_path / "out" / "pruned.pt").is_file()
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(comparing, "time_networks", fails)
    said = prune()
    assert "Not timed: RuntimeError: no kernel for this\n" in said and "Next: " in said
    said = prune("--no-timing")
    assert "imed" not in said.replace("Time: ", "") and "Next: " in said

    def interrupted(*networks):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparing, "time_networks", interrupted)
    with pytest.raises(SystemExit) as ended:
        prune()
    assert ended.value.code == 130 and (tmp_path / "out" / "pruned.pt").is_file()


def options_of(*words: str):
    """The options of compress.py."""
    options = compress_options.parser().parse_intermixed_args(list(words))
    options.device = "cpu"
    return options


def test_the_runtime_is_the_one_at_hand(monkeypatch) -> None:
    """That of --latency-speed-up; PyTorch where that is missing or no ONNX is wanted; none for another machine."""
    assert options.timing(options_of("--threads", "3"))() == Runtime("onnxruntime", 3)
    assert options.timing(options_of("--threads", "3"), onnx=False)() == Runtime("torch", 3)
    assert options.timing(options_of("--runtime", "onnxruntime"), onnx=False)().name == "onnxruntime"
    assert options.timing(options_of("--latency-speed-up", "2"), onnx=False)().name == "onnxruntime"
    assert options.timing(options_of("--no-timing")) is None
    assert options.timing(options_of("--latency-speed-up", "2", "--latency-table", "t.json")) is None
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert options.timing(options_of())().name == "torch"
    unread = options_of("--no-timing", "--runtime", "torch")
    with pytest.raises(PruningError, match="--runtime is read for a timing only"):
        options.timing(unread)
