"""Reports: their tables are the figures of the runs, each layer has its reason, nothing in them is anybody's code."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers.reports import EPOCHS, LIMITS, Page, compression, cut, write_csv
from helpers.scripts import refused, run
from helpers.task_data import MODELS, write_images
from ultralytics import YOLO
from ultralytics.pruning import Scoring, load, plans_of, save
from ultralytics.pruning.compression.recipe import Recipe
from ultralytics.pruning.passes.images import Images
from ultralytics.pruning.plots import fixed_edges
from ultralytics.pruning.reports import detections, writing
from ultralytics.pruning.reports.commands import of_compression
from ultralytics.pruning.reports.contents import collected
from ultralytics.pruning.reports.drawing.charts import visible_from
from ultralytics.pruning.reports.drawing.images import seen_in
from ultralytics.pruning.reports.epochs import Curve, read_gammas
from ultralytics.pruning.reports.layers import widths_of
from ultralytics.pruning.reports.sources import Compression, sources_of
from ultralytics.pruning.runs.belongings import COMPRESSION, TRAINING, foreign
from ultralytics.pruning.selection.limits import Limits
from ultralytics.pruning.selection.targets import Target
from ultralytics.pruning.sparsity.watching import Epoch, History
from ultralytics.pruning.stages import compress_options, compressing

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>|`$(id)`'


@pytest.fixture(scope="module")
def folder(tmp_path_factory, small_weights, digits) -> Path:
    """A finished compression, beside the training of its original."""
    root = tmp_path_factory.mktemp("runs")
    (root / "normal" / "weights").mkdir(parents=True)
    original = shutil.copy(small_weights, root / "normal" / "weights" / "best.pt")
    scores = [{"epoch": epoch, "metrics/mAP50-95(B)": epoch / 10} for epoch in range(1, 7)]
    write_csv(root / "normal" / "results.csv", scores)
    return compression(root / "compress", Path(original), digits)


@pytest.fixture(scope="module")
def text(folder) -> str:
    """Its report."""
    writing.write([folder], folder.parent / "report.html")
    return (folder.parent / "report.html").read_text()


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_the_table_is_the_csv(folder, text):
    titles, first, last = Page.of(text).tables["results"]
    assert titles[0] == "network" and titles[4] == "mAP50-95"
    before, _, after = rows_of(folder / "compress.csv")
    shares = [int(after[key]) / int(before[key]) for key in ("parameters", "macs")]
    assert first[0] == "normal/best.pt" and last[0] == "compress/compressed.pt"
    assert first[1] == f"{int(before['parameters']):,}" and first[4] == "0.6250" and first[5] == "8.40"
    assert last[1] == f"{int(after['parameters']):,}|{100 * shares[0]:.1f} %"
    assert last[2] == f"{int(after['macs']) / 1e9:.3f} G|{100 * shares[1]:.1f} %, {1 / shares[1]:.1f}x"
    assert last[4:] == ["0.6210|-0.004", "4.00|2.1x", "compress.csv"]


def test_markdown_has_the_same_figures(folder, tmp_path, text):
    writing.write([folder], tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    start = lines.index("## Result") + 2
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[start : start + 4]]
    html = [[re.sub(r"\|(.+)", r" (\1)", cell) for cell in row] for row in Page.of(text).tables["results"]]
    assert [cells[0], *cells[2:]] == html


def test_figures_of_val_py(folder, tmp_path):
    """A measurement of files, one of which is gone and one of which is an ONNX, of which only the table knows."""
    names = [folder.parent / "normal" / "weights" / "best.pt", folder / "compressed.pt", tmp_path / "gone.onnx"]
    known = {"task": "detect", "classes": 10, "gflops": 1.0, "megabytes": 1.0, "imgsz": 96, "batch": 1, "device": "cpu"}
    rows = [
        {
            "checkpoint": str(name),
            "parameters": 1000,
            **known,
            "map50": score,
            "map50_95": score / 2,
            "milliseconds": ms,
        }
        for name, score, ms in zip(names, (0.8, 0.7, 0.6), (12.0, 6.0, 4.0), strict=True)
    ]
    write_csv(tmp_path / "val.csv", rows)
    report = collected([tmp_path], images=False)
    assert [network.figures.ms for network in report.networks] == [12, 6, 4]
    assert [network.accuracy for network in report.networks] == [0.4, 0.35, 0.3]
    assert [network.channel_map is None for network in report.networks] == [False, False, True]
    assert report.first.imgsz == 96 and report.first.figures.macs != 0.5e9  # what is there is traced
    assert report.networks[2].figures.macs == 0.5e9 and report.networks[2].figures.parameters == 1000

    both = collected([tmp_path, folder], images=False)
    assert len(both.networks) == 3 and both.networks[1].figures.accuracies == {"map50": 0.7, "map50_95": 0.35}
    assert both.networks[1].source.compression is not None


def test_nothing_is_fetched_and_nothing_runs(text):
    page = Page.of(text)
    assert not {"script", "link", "iframe", "object", "base", "form"} & {name for name, _ in page.elements}
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], name
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert re.match(r"data:image/|#", attributes.get(key, "#")), (name, key)
    assert "url(" not in text and "@import" not in text and "http:" not in text and "https:" not in text
    (policy,) = [each["content"] for each in page.named("meta") if each.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "prefers-color-scheme: dark" in text
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {attributes["href"].removeprefix("#") for attributes in page.named("use")} <= ids


def test_each_image_is_in_it_once_and_shown_by_each_network(text):
    page = Page.of(text)
    assert len(page.named("image")) == detections.IMAGES
    assert len(page.named("use")) == 2 * detections.IMAGES


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_names_in_a_checkpoint_are_only_ever_shown(suffix, small_weights, digits, tmp_path, monkeypatch):
    """Of classes, which are written at what is found, of files, and in the arguments of the training."""
    monkeypatch.setattr(detections, "CONFIDENCE", 1e-7)  # it is untrained, and sees little
    model, _ = load(small_weights)
    model.names = dict.fromkeys(range(10), HOSTILE)
    file = tmp_path / "<svg onload=alert(1)>|`id`" / "a.pt"
    file.parent.mkdir()
    save(
        model, file, train_args={"data": str(digits), "epochs": 2, "imgsz": 64, "model": HOSTILE, "optimizer": HOSTILE}
    )
    output = tmp_path / f"report{suffix}"
    writing.write([file, cut(file, tmp_path / "b.pt", name=f"```{HOSTILE}")], output)
    text = output.read_text()
    if suffix == ".html":
        page = Page.of(text)
        assert "script" not in {name for name, _ in page.elements} and not page.named("img")
        assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
        drawn = [attributes for attributes in page.named("polygon") if attributes.get("class") == "found"]
        assert drawn and page.text.count(f"{HOSTILE} 0.") >= len(drawn)  # whole, as text
    else:
        outside = re.sub(r"(?ms)^(`{3,})bash$.+?^\1$", "", text)
        assert "<script" not in outside and "<svg" not in outside and "<img" not in outside
        assert "\\|\\`id\\`" in outside


def test_each_layer_has_its_reason(folder):
    network = collected([folder], images=False).networks[1]
    widths = {width.name: width for width in widths_of(network)}
    (plan,) = plans_of(load(folder / "compressed.pt")[0])
    filters = {name: layer for name, layer in plan.layers.items() if layer.type != "BatchNorm2d"}
    assert {name: (w.before, w.kept) for name, w in widths.items()} == {
        name: (layer.out_before, len(layer.kept_out)) for name, layer in filters.items()
    }
    outputs = {name for name in widths if re.search(r"cv[23]\.\d\.2$", name)}
    assert outputs and all(widths[name].held == "pinned: output" for name in outputs)
    assert {widths[name].part for name in outputs} == {"head"} and widths["model.0.conv"].part == "backbone"
    for name, width in widths.items():
        least = -(-LIMITS.least(name, width.before)["floor"] // LIMITS.round_to) * LIMITS.round_to
        if name not in outputs and width.kept:
            assert bool(width.held) == (width.kept <= min(least, width.before)), name
    assert any(width.held.startswith("floor of 60%") for width in widths.values())
    assert any(width.held == "" for width in widths.values())
    for name in (name for name, width in widths.items() if width.tied.startswith("one with")):
        assert widths[name].kept  # what is gone is tied to nothing
    assert [width.tied for name, width in widths.items() if name.endswith(".m.0.cv2.conv")] != [""]


def test_the_cost_of_the_parts_is_that_of_the_network(folder):
    for network in collected([folder], images=False).networks:
        assert set(network.parts()) == {"backbone", "neck", "head"} or set(network.parts()) == {"backbone", "head"}
        for costs in (network.parts(), network.blocks):
            assert sum(cost.macs for cost in costs.values()) == network.figures.macs
            known = sum(cost.deployed for cost in costs.values()) + network.channel_map.other_parameters
            assert known == network.figures.parameters


def test_all_stages_stand_one_behind_the_other(folder):
    """The training of the original, then the fading at full cost, the cut, and the fine-tuning of what is left."""
    normal, fading, tuning = collected([folder], images=False).curves
    assert (normal.start, normal.end, fading.end, tuning.end) == (0, 6, 6 + EPOCHS, 6 + 2 * EPOCHS)
    assert normal.points[0][:2] == (6, 0.625)  # what compress.py measured of it
    assert fading.macs == normal.macs and tuning.macs == pytest.approx(normal.macs / 2, rel=0.1)
    assert fading.points == ((6 + EPOCHS, 0.41, tuning.macs),) and tuning.points[0][1] == 0.621
    assert fading.accuracies == (0.6, 0.5, 0.4)


def test_gammas_are_drawn_from_their_numbers(folder, text, tmp_path):
    gammas = read_gammas(folder / "steered" / "gamma.csv", "steered")
    assert gammas.epochs == tuple(range(1, EPOCHS + 1)) and (gammas.counts.sum(1) == 40).all()
    assert len(gammas.edges) == gammas.counts.shape[1]
    assert Page.of(text).named("img") == []
    assert sum(attributes.get("class") == "heat" for attributes in Page.of(text).named("rect")) == 2 * EPOCHS - 1


def test_a_sparsity_training_leaves_its_gammas(tmp_path):
    """What it counts in each epoch is what a report reads, bin by bin."""
    history = History()
    counts = np.random.default_rng(0).integers(0, 9, (3, 1 + len(fixed_edges()) - 1))
    history.epochs = [Epoch(number, 0.5, 0.1, tuple(row.tolist())) for number, row in enumerate(counts)]
    history.ends(SimpleNamespace(by_norm=dict), tmp_path)
    gammas = read_gammas(tmp_path / "gamma.csv", "run")
    assert gammas.epochs == (1, 2, 3) and (gammas.counts == counts).all()
    assert gammas.edges == pytest.approx(fixed_edges(), rel=1e-4)
    assert foreign(tmp_path, TRAINING) == []


@pytest.mark.parametrize("others", [0, 4, 60])
def test_a_long_first_training_leaves_room_for_the_others(others):
    first, rest = Curve("normal", 0, (0.5,) * 100, 2e9), Curve("fine-tuned", 100, (0.6,) * others, 1e9)
    start = visible_from([first, rest] if others else [first])
    assert start == {0: 0, 4: 90, 60: 40}[others]


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_what_is_found_is_drawn_for_each_task(task, tmp_path):
    """Masks and turned boxes by their outline, keypoints as points, and the class of a whole image."""
    torch.manual_seed(0)
    model = YOLO(MODELS[task])
    (picture, *_) = write_images(tmp_path / "images")
    (result,) = model.predict(str(picture), conf=1e-9, imgsz=64, device="cpu", verbose=False)
    things = detections.things_of(result.cpu().numpy(), task)
    assert things and all(0 <= thing.confidence <= 1 and thing.label == model.names[thing.kind] for thing in things)
    corners = {len(thing.outline) for thing in things}
    assert {"classify": corners == {0}, "segment": max(corners) > 4}.get(task, corners == {4})
    assert any(thing.points for thing in things) == (task == "pose")
    image = detections.Shown("a.png", 64, 64, "", {"a": tuple(things)})
    drawn = Page.of(seen_in(image, 0, things))
    assert len(drawn.named("polygon")) == (0 if task == "classify" else len(things))
    assert len(drawn.named("circle")) == sum(len(thing.points) for thing in things)


def test_commands_say_what_was_asked_for(folder):
    report = collected([folder], images=False)
    (command,) = writing.page(report).split("<pre>")[1:2]
    assert command.startswith("python compress.py --weights ") and "--speed-up 2 --scheme steered" in command
    assert "--round-to 4" in command and f"--epochs {EPOCHS}" in command


@pytest.mark.parametrize(
    "known",
    [
        {"scheme": "one-shot", "scoring": None},
        {"scheme": "one-shot", "scoring": Scoring("l1")},
        {"scheme": "one-shot", "milder": (1.5,)},
        {"scheme": "stepwise", "scoring": Scoring("l1"), "steps": 2},
        {"scheme": "steered"},
        {"scheme": "steered", "milder": (1.5,)},
    ],
)
def test_the_command_of_each_scheme_is_taken_as_it_stands(known):
    """The one-shot scheme refuses the steps that every state notes."""
    training = {"imgsz": 64, "batch": 8}
    asked = Recipe("w.pt", "0", Images("d.yaml"), Target("speed_up", 2.0), **known, training=training)
    recipe = json.loads(json.dumps(asked.plain()))
    words = shlex.split(of_compression(Compression(Path("runs/c"), recipe, [], None)))[2:]
    options = compress_options.parser().parse_intermixed_args(words)
    assert compressing.scheme_of(options, asked.target) == asked.scheme
    compressing.check_read(options, asked.scheme)


@pytest.mark.parametrize(("milder", "named"), [(Limits(round_to=8), True), (Limits(round_to=16), False)])
def test_the_command_names_no_limit_that_was_chosen_for_each_target(milder, named):
    how = {"scheme": "one-shot", "milder": (2.5,), "milder_limits": (milder,), "limits": Limits(round_to=8)}
    asked = Recipe("w.pt", "0", Images("d.yaml"), Target("speed_up", 5.0), training={"imgsz": 64, "batch": 8}, **how)
    said = of_compression(Compression(Path("runs/c"), json.loads(json.dumps(asked.plain())), [], None))
    assert "--speed-up 2.5,5 " in said and ("--round-to 8" in said) == named


def test_a_rung_that_is_kept_as_it_was_cut_is_found(folder, tmp_path):
    """Where the fine-tuning ended below it: its row is not that of a fine-tuning."""
    moved = shutil.copytree(folder, tmp_path / "compress")
    recipe = json.loads((moved / "state.json").read_text())["recipe"] | {"milder": [1.5]}
    (moved / "state.json").write_text(json.dumps({"recipe": recipe}))
    (moved / "compressed.pt").rename(moved / "compressed-1.5.pt")
    rows = rows_of(moved / "compress.csv")
    kept = next(row for row in rows if row["kept"])
    write_csv(moved / "compress.csv", [rows[0], {**kept, "step": "steered-1.5"}])
    assert [source.path.name for source in sources_of([moved])[1:]] == ["compressed-1.5.pt"]


def test_a_report_without_the_data_says_so(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "compress")
    cut(folder.parent / "normal" / "weights" / "best.pt", moved / "compressed.pt", data="/gone/data.yaml")
    recipe = json.loads((moved / "state.json").read_text())["recipe"] | {
        "weights": "/gone/best.pt",
        "data": "/gone/data.yaml",
    }
    (moved / "state.json").write_text(json.dumps({"recipe": recipe}))
    report = collected([moved])
    assert report.images == () and "/gone/data.yaml" in report.about_images
    assert report.first.channel_map is None and report.first.accuracy == 0.625  # the original is gone, its figures stay
    assert "/gone/data.yaml" in Page.of(writing.page(report)).text


WRONG = ["gone.pt", "empty", "notes.txt", "unfinished", "damaged", "state", "table", "data", "suffix", "mine", "folder"]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("wrong", WRONG)
def test_mistakes_are_one_line_and_nothing_is_written(wrong, folder, tmp_path, monkeypatch, capsys):
    place, output, words = tmp_path / "compress", tmp_path / "report.html", []
    shutil.copytree(folder, place)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    source = place if wrong not in ("gone.pt", "empty", "notes.txt") else tmp_path / wrong
    if wrong == "unfinished":
        (place / "compressed.pt").unlink()
    elif wrong == "damaged":
        (place / "compressed.pt").write_bytes(b"PK")
    elif wrong == "state":
        (place / "state.json").write_text('{"recipe": 3}')
    elif wrong == "table":
        (place / "compress.csv").write_text((place / "compress.csv").read_text().replace("0.621", "much"))
    elif wrong == "data":
        words = ["--data", tmp_path / "gone.yaml"]
    elif wrong == "suffix":
        output = tmp_path / "report.pdf"
    elif wrong == "mine":
        output.write_text("<html>mine</html>")
    elif wrong == "folder":
        output.mkdir()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert refused(monkeypatch, capsys, "report.py", source, "-o", output, *words)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.usefixtures("one_thread")
def test_a_report_replaces_a_report_and_nothing_else_unasked(folder, tmp_path, monkeypatch, capsys):
    output = tmp_path / "new" / "report.md"
    for _ in range(2):
        assert run(monkeypatch, capsys, "report.py", folder, "-o", output) == (0, "")
    output.write_text("mine")
    assert "--overwrite" in refused(monkeypatch, capsys, "report.py", folder, "-o", output)
    assert run(monkeypatch, capsys, "report.py", folder, "-o", output, "--overwrite") == (0, "")
    assert writing.is_report(output)


def test_a_run_does_not_fail_by_its_report(folder, tmp_path, monkeypatch, capsys):
    place = shutil.copytree(folder, tmp_path / "compress")
    writing.write_beside(place)
    assert writing.is_report(place / "report.html") and foreign(place, COMPRESSION) == []
    (place / "report.html").write_text("mine")
    writing.write_beside(place)
    assert (place / "report.html").read_text() == "mine"
    (place / "report.html").unlink()
    monkeypatch.setitem(writing.KINDS, ".html", lambda report: 1 / 0)
    capsys.readouterr()
    writing.write_beside(place)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "division" in said[0] and not (place / "report.html").exists()
