"""Tests of the latency model: layers and tables by hand, timings replaced by formulas. No clock decides a test."""

import argparse
import json
import re

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from helpers.networks import Net, chain, conv, image, yolo
from helpers.processes.python import run_python
from helpers.timings import by_formula, macs_ms
from ultralytics import YOLO
from ultralytics.pruning import Limits, PruningError, cost_of, cut, make_plan, trace
from ultralytics.pruning.command_line import options
from ultralytics.pruning.latency import Latency, LatencyModel, LatencyTable, Runtime, search, tables
from ultralytics.pruning.latency.shapes import Shape, shapes_of
from ultralytics.pruning.latency.tables import Timing, grid
from ultralytics.pruning.latency.timing import layer_onnx, runs_on_gpus
from ultralytics.pruning.plans.findings import Finding, Kind, Reason
from ultralytics.pruning.plans.plan import plan_from
from ultralytics.pruning.selection.choose import choose
from ultralytics.pruning.selection.target_kinds import TIMED_TOLERANCE
from ultralytics.pruning.selection.targets import Target
from ultralytics.pruning.selection.wording import all_said

ONE = (1, 1)


def shape(**changes) -> Shape:
    """A 3x3 convolution of 4 to 6 channels on 8 x 8 cells, with some fields of its own."""
    given = {"kind": "Conv2d", "kernel": (3, 3), "stride": ONE, "padding": ONE, "dilation": ONE, "groups": 1}
    return Shape(**{**given, "inputs": 4, "outputs": 6, "cells": (8, 8), "activation": False, **changes})


def test_shapes_are_what_the_layers_see() -> None:
    """Strides, groups, depthwise, transposed and linear layers; a layer that runs twice has two calls."""

    def run(net: Net, x: torch.Tensor) -> torch.Tensor:
        x = net.up(net.dw(net.grouped(net.first(x))))
        x = net.twice(net.twice(x))
        return net.out(x.mean((2, 3)))

    net = Net(
        run,
        first=nn.Sequential(conv(3, 8, stride=2, bias=False), nn.BatchNorm2d(8)),
        grouped=conv(8, 8, groups=2),
        dw=conv(8, 8, groups=8),
        up=nn.ConvTranspose2d(8, 4, 2, 2),
        twice=conv(4, 4, 1),
        out=nn.Linear(4, 2),
    )
    found = shapes_of(net, trace(net, image(net, 32, batch=1)), 32)
    keys = {name: [own.key() for own in calls] for name, calls in found.items()}
    assert keys["first.0"] == ["Conv2d k3x3 s2x2 p1x1 d1x1 3->8 g1 at 32x32 silu"]
    assert keys["grouped"] == ["Conv2d k3x3 s1x1 p1x1 d1x1 8->8 g2 at 16x16"]
    assert keys["dw"] == ["Conv2d k3x3 s1x1 p1x1 d1x1 8->8 g0 at 16x16"]
    assert keys["up"] == ["ConvTranspose2d k2x2 s2x2 p0x0 d1x1 8->4 g1 at 16x16"]
    assert keys["twice"] == ["Conv2d k1x1 s1x1 p0x0 d1x1 4->4 g1 at 32x32"] * 2
    assert keys["out"] == ["Conv2d k1x1 s1x1 p0x0 d1x1 4->2 g1 at 1x1"]
    assert not any(module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize(
    ("own", "inputs", "outputs"),
    [
        (shape(), 3, 5),
        (shape(stride=(2, 2), activation=True), 4, 2),
        (shape(groups=2), 2, 4),
        (shape(groups=0, outputs=4), 3, 3),
        (shape(kind="ConvTranspose2d", kernel=(2, 2), stride=(2, 2), padding=(0, 0)), 3, 5),
        (shape(dilation=(2, 2), padding=(2, 2)), 1, 1),
    ],
)
def test_the_onnx_of_a_layer_computes_that_layer(own, inputs, outputs) -> None:
    """The file that is timed gives what PyTorch's layer with its weights gives, at any width."""
    import onnx

    file = layer_onnx(own, inputs, outputs)
    weight = torch.from_numpy(onnx.numpy_helper.to_array(onnx.load_from_string(file).graph.initializer[0]).copy())
    how = {"groups": own.groups or inputs, "dilation": own.dilation, "bias": False}
    layer = getattr(nn, own.kind)(inputs, outputs, own.kernel, own.stride, own.padding, **how)
    layer.weight.data = weight
    x = torch.rand(1, inputs, *own.cells)
    expected = layer(x)
    expected = nn.functional.silu(expected) if own.activation else expected
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), expected, rtol=1e-4, atol=1e-4)


def test_grids_hold_the_full_width_and_the_steps() -> None:
    """Multiples of 16 at an eighth to the whole; just above each where a cut may land there."""
    assert grid(128, 16) == (16, 32, 64, 96, 128)
    assert grid(128, 1) == (16, 17, 32, 33, 64, 65, 96, 97, 128)
    assert grid(128, 8) == (16, 24, 32, 40, 64, 72, 96, 104, 128)
    assert grid(16, 16) == (4, 8, 12, 16)
    assert grid(3, 16) == (3,)


def test_between_the_grid_it_is_linear() -> None:
    """In both widths; nothing for a layer that is gone, the edge's value outside."""
    timing = Timing((8, 16), (4, 8), np.array([[1.0, 2.0], [3.0, 6.0]]))
    assert timing.at(8, 4) == 1.0 and timing.at(16, 8) == 6.0
    assert timing.at(12, 6) == pytest.approx((1.5 + 4.5) / 2)
    assert timing.at(4, 2) == 1.0 and timing.at(0, 4) == 0.0
    assert Timing((8, 16), (8, 16), np.array([[1.0], [2.0]])).at(12, 12) == 1.5


def test_the_model_is_the_sum_of_the_layers() -> None:
    """With a formula that is linear in both widths it is the multiply-adds, for any choice; fitted, a line of them."""
    net = chain(16, 32)
    channel_map = trace(net, image(net, 32, batch=1))
    table, shapes = by_formula(net, channel_map, 32, macs_ms)
    model = LatencyModel(channel_map, shapes, table, 1)
    random = np.random.default_rng(0)
    for share in (1.0, 0.7, 0.4):
        kept = random.random(len(channel_map.channels)) < share
        kept |= ~channel_map.free
        widths = [int(kept[layer.outputs].sum()) for layer in channel_map.layers.values() if layer.has_filters]
        if min(widths) >= 4:  # the smallest width of the grid
            assert model(kept) == pytest.approx(cost_of(channel_map, kept).macs / 1e6, rel=1e-6)
    table.fit = (2.0, 0.5)
    whole = np.ones(len(channel_map.channels), dtype=bool)
    fitted = LatencyModel(channel_map, shapes, table, 1)
    assert fitted(whole) == pytest.approx(2 + 0.5 * model(whole))


def test_a_block_that_is_taken_out_costs_nothing() -> None:
    """Also its last layer, whose outputs stay."""
    model = yolo("yolov8n")
    channel_map = trace(model, imgsz=64)
    table, shapes = by_formula(model, channel_map, 64, lambda own, a, b: 1.0)
    cost = LatencyModel(channel_map, shapes, table, 1)
    kept = np.ones(len(channel_map.channels), dtype=bool)
    block = channel_map.blocks[0]
    whole = cost(kept)
    kept[block.inner] = False
    inside = sum(len(shapes[name]) for name in block.layers if name in shapes)
    assert inside == 2 and cost(kept) == pytest.approx(whole - inside)


def test_a_cut_meets_the_milliseconds_of_the_model() -> None:
    """Half of them, though a layer's time has a part that no width changes."""
    model = yolo("yolov8n")
    channel_map = trace(model, imgsz=64)
    table, shapes = by_formula(model, channel_map, 64, lambda own, a, b: 0.01 + macs_ms(own, a, b))
    cost = LatencyModel(channel_map, shapes, table, 1)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    plan = make_plan(channel_map, scores, latency_speed_up=2.0, latency=cost, limits=Limits())
    kept = np.ones(len(channel_map.channels), dtype=bool)
    whole = cost(kept)
    for name, layer in channel_map.layers.items():
        kept[np.delete(layer.outputs, list(plan.layers[name].kept_out))] = False
    assert whole / cost(kept) == pytest.approx(2.0, rel=0.02)
    assert plan.before.macs / plan.after.macs > 2.02


def trials(monkeypatch, reached_by, wanted: float):
    """Searches for a factor on a machine that reaches `reached_by(asked)`."""
    net = chain(8, 8)
    channel_map = trace(net, image(net, 16, batch=1))
    asked = []

    def make(factor: float, model: object):
        asked.append(factor)
        kept = np.ones(len(channel_map.channels), dtype=bool)
        kept[np.flatnonzero(channel_map.free)[: len(asked)]] = False  # each plan another one
        by_model = Finding(Kind.BEYOND, "latency_speed_up", factor, 3.0, reasons=(Reason("tied"),))
        return plan_from(channel_map, kept, {"latency_speed_up": factor}, all_said([by_model]), (by_model,))

    monkeypatch.setattr(Latency, "model", lambda *words: None)
    monkeypatch.setattr(Runtime, "network", lambda *words: None)
    monkeypatch.setattr(search, "in_turns", lambda runs: {"before": 10.0, "after": 10.0 / reached_by(asked[-1])})
    plan = search.plan_for_latency(Latency(wanted, Runtime(), 32), net, channel_map, Limits(), make)
    return plan, asked


def test_the_target_is_corrected_by_what_was_timed(monkeypatch) -> None:
    """A machine that gains only the root of what the model says: the second trial asks for more, and meets it."""
    plan, asked = trials(monkeypatch, lambda factor: factor**0.5, 1.5)
    assert asked[0] == 1.5 and 1 < len(asked) <= search.TRIALS
    assert plan.settings["latency"]["speed_up"] == pytest.approx(1.5, rel=TIMED_TOLERANCE)
    assert plan.settings["latency_speed_up"] == 1.5 and plan.limits == ()


def test_between_two_trials_it_is_interpolated() -> None:
    """One trial too slow, one too fast: the next lies between them."""
    slow, fast = (search.TimedCut(asked, reached, None, {}) for asked, reached in ((2.0, 1.8), (3.0, 2.2)))
    part = (1 / 1.8 - 1 / 2) / (1 / 1.8 - 1 / 2.2)
    assert search.next_factor(2.0, [slow, fast]) == pytest.approx(1 / (1 / 2 + part * (1 / 3 - 1 / 2)))
    assert search.next_factor(2.0, [slow]) == pytest.approx(2.0 * 2.0 / 1.8)
    assert search.next_factor(1.3, [fast]) == pytest.approx(1 / (1 - (1 - 1 / 1.3) / (1 - 1 / 2.2) * (1 - 1 / 3)))


def test_a_factor_that_is_not_met_is_said(monkeypatch) -> None:
    """A machine on which nothing helps: the plan names what was reached."""
    plan, asked = trials(monkeypatch, lambda factor: 1.2, 2.0)
    assert len(asked) == search.TRIALS
    assert plan.findings[0].kind == Kind.MISSED_AS_TIMED and plan.findings[0].reached == 1.2


def test_layers_are_timed_once(monkeypatch, tmp_path) -> None:
    """A second search reads the file; another runtime has another one."""
    timed = []
    monkeypatch.setattr(tables, "milliseconds", lambda run: timed.append(1) or 1.0)
    net = chain(16, 16)
    channel_map = trace(net, image(net, 32, batch=1))
    latency = Latency(2.0, Runtime("torch"), 32, folder=tmp_path)
    first = latency.model(net, channel_map, 16)
    count = len(timed)
    whole = np.ones(len(channel_map.channels), dtype=bool)
    assert count > 0 and latency.model(net, channel_map, 16)(whole) == first(whole) == 3.0
    assert len(timed) == count and len(list(tmp_path.iterdir())) == 1
    Latency(2.0, Runtime("torch", threads=2), 32, folder=tmp_path).model(net, channel_map, 16)
    assert len(timed) == 2 * count and len(list(tmp_path.iterdir())) == 2


def test_a_table_comes_back_as_it_was(tmp_path) -> None:
    """Through JSON."""
    table = LatencyTable(
        {"machine": "m", "runtime": "r", "threads": "1"},
        {"a": Timing((1, 2), (3,), np.array([[0.5], [0.25]]))},
        (1.0, 2.0),
    )
    table.save(tmp_path / "t.json")
    again = LatencyTable.load(tmp_path / "t.json")
    assert again.about == table.about and again.fit == table.fit and again.layers["a"].at(2, 3) == 0.25


HEAD = '{"format": 1, "about": {"machine": "m", "runtime": "r", "threads": "1"}, '
ONE_LAYER = HEAD + '"fit": [0, 1], "layers": {"a": {"inputs": [1, 2], "outputs": [3], "ms": [[1.0], [2.0]]}}}'
NONSENSE = [
    ONE_LAYER.replace(*change)
    for change in (
        ("2.0", "NaN"),
        ("2.0", "-1"),
        ("[1, 2]", "[2, 1]"),
        ("[1, 2]", '["1", "2"]'),
        ("[0, 1]", "[0, -1]"),
        ("[0, 1]", "[NaN, 1]"),
    )
]
SKEW = HEAD + '"fit": [0, 1], "layers": {"a": {"inputs": [1, 2], "outputs": [1], "ms": [[1.0]]}}}'


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9}', HEAD + '"fit": [1], "layers": {}}', SKEW, *NONSENSE])
def test_what_is_no_table_is_refused(tmp_path, text) -> None:
    """In one line."""
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(PruningError, match=r"t\.json' is no table of latencies"):
        LatencyTable.load(tmp_path / "t.json")
    (tmp_path / "t.json").write_text(ONE_LAYER)
    assert LatencyTable.load(tmp_path / "t.json").layers["a"].at(2, 3) == 2


def test_a_damaged_cache_is_measured_anew(monkeypatch, tmp_path) -> None:
    """Nobody has to know where it lies."""
    monkeypatch.setattr(tables, "milliseconds", lambda run: 1.0)
    net = chain(16, 16)
    channel_map = trace(net, image(net, 32, batch=1))
    latency = Latency(2.0, Runtime("torch"), 32, folder=tmp_path)
    latency.model(net, channel_map, 16)
    (file,) = tmp_path.iterdir()
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    latency.model(net, channel_map, 16)
    assert file.read_text() == whole


def test_a_cut_network_is_timed_by_the_grids_of_the_original() -> None:
    """So that one table serves all steps of a compression; and the time of a plan is that of its choice."""
    net = YOLO("yolov8n.yaml").model
    channel_map = trace(net, imgsz=64)
    table, shapes = by_formula(net, channel_map, 64, macs_ms)
    model = LatencyModel(channel_map, shapes, table, 1)
    kept = np.random.default_rng(0).random(len(channel_map.channels)) < 0.7
    kept |= ~channel_map.free
    kept, _ = choose(channel_map, kept + 0.0, Target("prune_ratio", 0.2), Limits())
    plan = plan_from(channel_map, kept, {})
    assert model.of(plan) == pytest.approx(model(kept), rel=1e-12)
    cut(net, plan)
    after = trace(net, imgsz=64)
    everything = np.ones(len(after.channels), dtype=bool)
    own = shapes_of(net, after, 64)
    with pytest.raises(PruningError, match="lacks"):
        LatencyModel(after, own, table, 1)
    assert LatencyModel(after, own, table, 1, timed_as=shapes)(everything) == pytest.approx(model(kept), rel=1e-12)


def test_the_stage_cuts_for_another_machine(tmp_path) -> None:
    """By a table of formulas; it says that nothing was timed here. A table of another image size is refused."""
    model = YOLO("yolov8n.yaml").model
    channel_map = trace(model, imgsz=64)
    by_formula(model, channel_map, 64, macs_ms, 16)[0].save(tmp_path / "board.json")
    line = ("prune.py", "--weights", "yolov8n.yaml", "--latency-speed-up", "2", "--device", "cpu", "--dry-run")
    board = ("--latency-table", tmp_path / "board.json")
    result = run_python(*line, *board, "--imgsz", "64")
    assert result.returncode == 0, result.stderr
    said = next(line for line in result.stdout.splitlines() if line.startswith("Latency at 64 px: "))
    before, after, factor = re.match(
        r".*: (\S+) ms before, (\S+) ms after: (\S+)x by the table, not timed here", said
    ).groups()
    assert float(factor) == pytest.approx(2, rel=0.05) == float(before) / float(after)
    assert said.endswith("(formula, 1 thread, paper)")
    other = run_python(*line, *board, "--imgsz", "96")
    assert other.returncode == 2 and "lacks" in other.stderr and len(other.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--latency-speed-up", "0.5"), "is not a number of at least 1"),
        (("--latency-speed-up", "2", "--speed-up", "2"), "not allowed with argument"),
        (("--latency-speed-up", "2", "--latency-table", "no.json"), "no.json' is not there"),
        (("--threads", "2", "--speed-up", "2", "--no-timing"), "--threads is read for a timing only"),
        (
            ("--latency-speed-up", "2", "--latency-table", "no.json", "--threads", "2"),
            "--latency-table was timed elsewhere: leave out --threads",
        ),
        (("--latency-speed-up", "1"), "latency_speed_up=1 removes nothing"),
        (("--latency-table", "no.json"), "--latency-table is read for --latency-speed-up only"),
        (("--latency-speed-up", "2", "--runtime", "tflite"), "invalid choice: 'tflite'"),
    ],
)
def test_mistakes_are_one_line(words, message) -> None:
    """Exit code 2, one line."""
    result = run_python("prune.py", "--weights", "yolov8n.yaml", "--device", "cpu", "--dry-run", *words)
    assert result.returncode == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1, result.stderr


def test_a_table_needs_no_runtime_here(tmp_path) -> None:
    """On a machine whose ONNX Runtime knows no GPU, the table of a board is read all the same."""
    words = argparse.Namespace(latency_speed_up=2.0, latency_table="t.json", runtime=None, threads=None, device="0")
    assert options.latency(words, 64).runtime is None
    words.latency_table = None
    assert options.latency(words, 64).runtime.device == ("0" if runs_on_gpus() else "cpu")
    with pytest.raises(PruningError, match="nothing is timed on 'mps'"):
        Runtime("torch", device="mps")


def test_written_plans_are_plain_data(monkeypatch) -> None:
    """What was timed goes into pruned.json."""
    plan, _ = trials(monkeypatch, lambda factor: factor, 1.5)
    assert json.loads(plan.to_json())["settings"]["latency"]["ms"] == {"before": 10.0, "after": 6.67}
