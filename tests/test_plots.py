"""Tests of the pictures of gamma: the numbers that are drawn, the table, and `vis-bn-weight.py`."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers.processes.python import run_python
from helpers.repository import REPOSITORY
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import PruningError, Scoring, plots, prune_network, save, trace
from ultralytics.pruning.command_line import entry
from ultralytics.pruning.criteria import bn_scale
from ultralytics.pruning.files import places
from ultralytics.pruning.gammas import gammas_of
from ultralytics.pruning.plots import NetworkGammas, drawing, figures, gamma_table
from ultralytics.pruning.plots.bins import PER_DECADE, count_by_bin, fitting_log_bins, linear_bins, log_bins
from ultralytics.pruning.selection.ratios import RatioCut, ratio_cuts, ratio_table

SCRIPT = REPOSITORY / "vis-bn-weight.py"
pytestmark = pytest.mark.pictures


def network(**layers: list[float]) -> NetworkGammas:
    """A network of batch norms with the given |gamma|."""
    return NetworkGammas("net.pt", {name: np.array(values, dtype=float) for name, values in layers.items()})


def set_gammas(model: nn.Module, value: float) -> None:
    """Sets all gammas, whether they can be pruned or not."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(value)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A YOLOv8n whose gammas are all -0.5, and one whose gammas are all 0."""
    folder = tmp_path_factory.mktemp("checkpoints")
    model = YOLO("yolov8n.yaml").model
    for name, value in (("before.pt", -0.5), ("after.pt", 0.0)):
        set_gammas(model, value)
        save(model, folder / name)
    return folder / "before.pt", folder / "after.pt"


def look(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    """Runs the script in this process."""
    monkeypatch.setattr(entry, "choose_device", str)  # it would give the tests after this one more threads
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, words)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def size(picture: Path) -> tuple[int, int]:
    """Returns a picture's width and height in pixels, after reading all of it."""
    with Image.open(picture) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


def ink(picture: Path) -> float:
    """Returns the share of pixels that are not white."""
    with Image.open(picture) as image:
        return float(np.mean(np.asarray(image.convert("L")) < 250))


def test_counts_by_hand() -> None:
    edges = np.array([1e-2, 1e-1, 1.0, 10.0])
    values = np.array([0, 0, 1e-9, 5e-3, 2e-2, 1e-1, 0.5, 1.0, 10.0])
    # What is below the first edge, but not zero, is in its bin.
    assert count_by_bin(values, edges).tolist() == [2, 3, 2, 2]


@pytest.mark.parametrize("seed", range(5))
def test_every_value_lands_in_the_bin_that_holds_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = 10 ** random.uniform(-9, 1.5, 500) * (random.random(500) > 0.3)
    edges = log_bins([network(a=values)]).edges
    counts = count_by_bin(values, edges)
    assert counts.sum() == 500 and counts[0] == (values == 0).sum() > 0
    for low, high, found in zip(edges[1:-1], edges[2:], counts[2:], strict=True):
        assert found == ((values >= low) & (values < high)).sum()


@pytest.mark.parametrize("largest", [0.0, 1.0, 2.0, 10.0, 12.7, 1000.0])
def test_edges_reach_the_largest_gamma_and_meet_the_thresholds(largest: float) -> None:
    edges = log_bins([network(a=[], b=[0.1]), network(a=[largest])]).edges
    assert edges[0] == pytest.approx(1e-6) and edges[-1] > max(2, largest)
    assert {1e-3, 1e-2, 1.0} <= set(edges)  # the shares that the table names can be read off whole bins
    np.testing.assert_allclose(np.diff(np.log10(edges)), 1 / PER_DECADE)


def test_table_shares_are_exact() -> None:
    net = network(a=[0, 0, 5e-4, 1e-3], b=[], c=[5e-3, 1e-2, 0.5, 2])
    header, _, row = gamma_table([net]).splitlines()
    assert header.split("  ")[0] == "checkpoint"
    assert row.split() == ["net.pt", "8", "62.5%", "37.5%", "25.0%", "0.003"]  # the thresholds themselves are above


def test_gammas_of_gives_each_batch_norm_its_own_prunable_gammas() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.ReLU(),
        nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, affine=False), nn.ReLU(),
        nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(),
        nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2),
    )  # fmt: skip
    for place, values in ((1, [1, -2]), (7, [-3, 0, 5]), (10, [6, 7])):
        net[place].weight.data = torch.tensor(values, dtype=torch.float)
    channel_map = trace(net)
    found = {name: gamma.prunable().tolist() for name, gamma in gammas_of(channel_map, net).items()}
    assert found == {
        "1": [1, 2],
        "7": [3, 0, 5],
        "10": [],
    }


def test_gammas_of_refuses_a_network_without_prunable_gammas() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    channel_map = trace(net)
    with pytest.raises(PruningError, match="can be pruned"):
        gammas_of(channel_map, net)


def test_ratios_are_what_prune_would_do() -> None:
    net = DetectionModel("yolov8n.yaml", verbose=False)
    scales = np.random.default_rng(0).random(10_000)
    start = 0
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data = torch.tensor(scales[start : start + len(module.weight)], dtype=torch.float32)
            start += len(module.weight)
    net.model[0].bn.weight.data *= 1e-6  # falls to its floor at once
    channel_map = trace(net)
    cuts = ratio_cuts(channel_map, net)
    for cut in cuts:
        plan = prune_network(net, prune_ratio=cut.ratio, scoring=Scoring()).plan
        assert cut.macs == plan.after.macs / plan.before.macs
        assert cut.at_floor == sum(
            len(layer.kept_out) == -(-layer.out_before // 10)
            for layer in plan.layers.values()
            if layer.type == "Conv2d"
        )
        scores = bn_scale(channel_map, net)[channel_map.free]
        below = channel_map.channels[channel_map.free][scores < cut.threshold].sum()
        assert below / channel_map.channels[channel_map.free].sum() == pytest.approx(cut.ratio, abs=0.01)
    assert cuts[0].at_floor >= 1
    rows = ratio_table("x.pt", cuts).splitlines()
    assert rows[0] == "x.pt:" and rows[-1].split()[0] == "0.8" and f"{cuts[-1].macs:.0%}" in rows[-1]


def test_the_epochs_are_columns_from_left_to_right() -> None:
    edges = plots.fixed_edges()
    epochs = [count_by_bin(np.array(values), edges) for values in ([1.0, 1.0, 0.5, 0.5], [1.0, 0.5, 1e-4, 0.0])]
    figure = plots.history_figure([3, 4], np.array(epochs), network(a=[1.0, 0.0]))
    zeros, rest = (mesh.get_array() for mesh in figure.axes[0].collections[:2])
    assert zeros.tolist() == [[0, 0.25]] and rest.sum(0).tolist() == [1, 0.75]
    assert figure.axes[0].get_xlim() == (2.5, 4.5)


def test_histogram_draws_the_shares() -> None:
    figure = plots.histogram_figure([network(a=[0, 0, 0, 1]), network(a=[0, 1e-4, 1e-4, 1e-4])])
    axes = figure.axes[0]
    bars = [[bar.get_height() for bar in container] for container in axes.containers]
    assert [max(heights) for heights in bars] == [0.75, 0.75] and [heights[0] for heights in bars] == [0.75, 0.25]
    assert [sum(heights) for heights in bars] == pytest.approx([1, 1])
    words = [text.get_text() for text in axes.texts]
    assert words[0].startswith("before: net.pt\n75.0% below") and words[0].endswith("75.0% exactly 0")
    assert words[1].startswith("after: net.pt\n100.0% below") and words[1].endswith("25.0% exactly 0")


def bars(axes) -> list[np.ndarray]:
    """The bars of each network: left edge, width and height."""
    found = [[(bar.get_x(), bar.get_width(), bar.get_height()) for bar in each] for each in axes.containers]
    return [np.array(each) for each in found]


def test_first_a_linear_axis_with_a_bell_around_one_and_a_spike_at_zero() -> None:
    """As AdamW leaves them, within a tenth of one; and with half of them at zero, or nearly."""
    bell = 1 + 0.04 * np.random.default_rng(0).standard_normal(4000)
    faded = np.concatenate([bell[:2000], np.zeros(1000), np.full(1000, 1e-3)])
    linear, logarithmic = plots.overview_figure([network(a=bell), network(a=faded)]).axes[:2]
    assert (linear.get_xscale(), logarithmic.get_xscale()) == ("linear", "log")
    assert linear.get_xlim()[0] == 0 and 1.1 < linear.get_xlim()[1] < 1.5

    before, after = bars(linear)
    assert [each[:, 2].sum() for each in (before, after)] == pytest.approx([1, 1])
    high = before[before[:, 2] > 0]
    assert len(high) >= 20 and high[0, 0] > 0.8 and high[np.argmax(high[:, 2]), 0] == pytest.approx(1, abs=0.04)
    assert after[0, 2] == 0.5 and after[0, 0] == 0 and after[0, 1] <= 0.01
    assert (
        after[1:, 2].sum() == pytest.approx(0.5) and (after[(after[:, 0] > 0.02) & (after[:, 0] < 0.7), 2] == 0).all()
    )

    zeros, *rest = bars(logarithmic)[1]
    assert zeros[2] == 0.25 and zeros[0] < rest[0][0] and sum(height for _, _, height in rest) == pytest.approx(0.75)


def test_a_spike_that_would_press_the_bell_flat_is_cut_off_and_told() -> None:
    bell = 1 + 0.1 * np.random.default_rng(0).standard_normal(1000)
    few = network(a=np.concatenate([bell, np.zeros(9000)]))
    linear = plots.overview_figure([few]).axes[0]
    (own,) = bars(linear)
    assert own[0, 2] == 0.9 and own[1:, 2].max() < linear.get_ylim()[1] < 0.9
    assert any("90.0%" in text.get_text() for text in linear.texts)
    linear = plots.overview_figure([network(a=[*bell, *np.zeros(100)])]).axes[0]
    (own,) = bars(linear)
    assert own[0, 2] < linear.get_ylim()[1] and not any("↑" in text.get_text() for text in linear.texts)


def test_what_is_beyond_the_linear_axis_is_in_its_last_bar_and_told() -> None:
    values = np.concatenate([np.linspace(0.8, 1.2, 5000), [7, 8, 9]])
    linear = plots.overview_figure([network(a=values)]).axes[0]
    (own,) = bars(linear)
    assert linear.get_xlim()[1] < 2 and own[:, 2].sum() == pytest.approx(1) and own[-1, 2] * 5003 >= 3
    assert any(text.get_text().startswith("3 above") for text in linear.texts)


@pytest.mark.parametrize(("top", "spread"), [(1.0, 0.0), (1.0, 0.01), (1.5, 0.1), (4.0, 0.5), (30.0, 5.0)])
def test_linear_bins_are_of_one_width_and_reach_from_zero(top, spread) -> None:
    values = np.abs(top + spread * np.random.default_rng(0).standard_normal(3000))
    edges = linear_bins([network(a=values)]).edges
    np.testing.assert_allclose(np.diff(edges), edges[1])
    assert edges[0] == 0 and edges[-1] >= max(1.2, np.percentile(values, 99)) and 50 <= len(edges) <= 322
    assert len(linear_bins([network(a=values)], 80).edges) <= 82


@pytest.mark.parametrize(("smallest", "first"), [(0.5, 1e-1), (0.02, 1e-2), (1e-4, 1e-4), (1e-9, 1e-6)])
def test_a_logarithmic_axis_begins_at_the_smallest_gamma(smallest, first) -> None:
    bins = fitting_log_bins([network(a=[0, smallest, 1])])
    assert bins.edges[0] == pytest.approx(first) and bins.zeros[1] < bins.edges[0]
    axes = plots.histogram_figure([network(a=[0.5, 1])]).axes[0]
    assert axes.get_xlim()[0] == pytest.approx(0.1)  # no place for zeros where there are none
    assert len(axes.containers[0]) >= 90


def test_thresholds_that_lie_close_share_a_label() -> None:
    cuts = [
        RatioCut(ratio, threshold, 0.5, 0) for ratio, threshold in ((0.2, 0.5), (0.4, 0.99), (0.6, 1.0), (0.8, 1.01))
    ]
    net = NetworkGammas("net.pt", {"a": np.linspace(0.3, 1.1, 500)}, tuple(cuts))
    linear = plots.overview_figure([net]).axes[0]
    labels = [text.get_text().strip() for text in linear.texts if text.get_text().strip()[:1] in "2468"]
    assert labels == ["20%", "40%, 60%, 80%"]
    assert sorted(line.get_xdata()[0] for line in linear.lines) == [0.5, 0.99, 1.0, 1.01]


def test_layers_are_columns_in_network_order() -> None:
    layers = {"model.0.bn": [0.0, 1.0], "model.1.cv1.bn": [], "model.1.cv2.bn": [1e-3]}
    figure = plots.overview_figure([network(**layers)])
    axes = figure.axes[2]
    zeros, rest = (mesh.get_array() for mesh in axes.collections)
    assert zeros.tolist() == [[0.5, 0, 0]] and rest.sum(axis=0).tolist() == [0.5, 0, 1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1"]
    assert axes.get_xticks().tolist() == [0, 1.5]  # the middle of each module's columns


def test_long_titles_keep_their_end() -> None:
    net = NetworkGammas("/".join(["folder"] * 30) + "/last.pt", {"a": np.ones(3)})
    (_, title, _), (_, other, _) = drawing.named([net, net])
    assert title.startswith("before: …") and title.endswith("/last.pt") and len(title) < 70
    assert other.startswith("after: …")


def test_one_checkpoint(checkpoints, tmp_path, monkeypatch, capsys) -> None:
    look(monkeypatch, checkpoints[0], "--save", tmp_path / "new" / "bn.png")
    _, _, row, *ratios, _, wrote = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in ratios[-4:]] == ["0.2", "0.4", "0.6", "0.8"]
    assert row.split()[0] == str(checkpoints[0]) and row.split()[2:] == ["0.0%", "0.0%", "0.0%", "0.5"]
    assert wrote == f"Wrote {tmp_path / 'new' / 'bn.png'}"
    assert size(tmp_path / "new" / "bn.png") == (1600, 1050) and ink(tmp_path / "new" / "bn.png") > 0.02
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bn.png"]  # no temporary file is left


def test_two_checkpoints_from_the_command_line(checkpoints, tmp_path) -> None:
    done = run_python("vis-bn-weight.py", *checkpoints, "--save", tmp_path / "bn.png")
    assert done.returncode == 0 and not done.stderr, done.stderr
    before, after = (line.split() for line in done.stdout.splitlines()[2:4])
    assert before[0] == str(checkpoints[0]) and before[2:] == ["0.0%", "0.0%", "0.0%", "0.5"]
    assert after == [str(checkpoints[1]), before[1], "100.0%", "100.0%", "100.0%", "0"]
    assert size(tmp_path / "bn.png") == (1600, 1400)


def test_default_checkpoints(checkpoints, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(places, "RUNS", tmp_path)
    monkeypatch.setattr(plots, "overview_figure", plots.histogram_figure)  # sooner drawn
    with pytest.raises(SystemExit, match="2"):
        look(monkeypatch)
    assert "train-normal.py" in capsys.readouterr().err
    for folder, source in zip(
        ("train-norm/weights/best.pt", "train-sparsity/weights/last.pt"), checkpoints, strict=True
    ):
        (tmp_path / folder).parent.mkdir(parents=True)
        (tmp_path / folder).symlink_to(source)
        look(monkeypatch)
        rows = [line for line in capsys.readouterr().out.splitlines() if ".pt  " in line and "0.0%" in line]
        assert len(rows) == 1 + folder.startswith("train-sparsity")
        assert size(tmp_path / "bn-weights.png") == (1600, 700)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["nowhere.pt"], "'nowhere.pt' is not there"),
        (["BEFORE", "BEFORE", "BEFORE"], "3 checkpoints"),
        (["BEFORE", "--save", "picture.pdf"], "picture.pdf"),
        (["noise.pt"], "not a checkpoint at all"),
        (["BEFORE", "--save", "noise.pt/bn.png"], "/noise.pt' (File exists)"),
        (["BEFORE", "--colour", "red"], "unrecognized arguments"),
    ],
)
def test_mistakes_are_one_line(words, complaint, checkpoints, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("noise.pt").write_bytes(b"noise")
    with pytest.raises(SystemExit) as ended:
        look(monkeypatch, *(str(checkpoints[0]) if word == "BEFORE" else word for word in words))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and complaint in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["noise.pt"]


def test_killed_while_drawing_keeps_the_old_picture(checkpoints, tmp_path, monkeypatch) -> None:
    picture = tmp_path / "bn.png"
    picture.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "overview_figure", plots.histogram_figure)
    monkeypatch.setattr(figures.Figure, "savefig", fail)
    with pytest.raises(SystemExit) as ended:
        look(monkeypatch, checkpoints[0], "--save", picture)
    assert ended.value.code == 130 and picture.read_bytes() == b"old" and list(tmp_path.iterdir()) == [picture]


def test_schematics_can_be_drawn() -> None:
    """The C2f picture is drawn from a trace: its tied channels are those of the bottlenecks' shortcuts."""
    pictures = runpy.run_path(str(REPOSITORY / "docs" / "assets" / "make.py"))
    words = " ".join(text.get_text() for text in pictures["c2f"]().axes[0].texts)
    assert "cv1, m.0.cv2 and m.1.cv2" in words
    assets = REPOSITORY / "docs" / "assets"
    assert size(assets / "c2f.png")[0] == size(assets / "conv-bn-act.png")[0] == 1600
