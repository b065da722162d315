"""`benchmarks/versus.py --tiny`: each cell leaves a row, what is there is not made again, and the page has it all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import timings
from helpers.repository import REPOSITORY
from ultralytics.nn.tasks import DetectionModel
from ultralytics.pruning import trace
from ultralytics.pruning.sparsity.asked import Asked
from ultralytics.pruning.sparsity.scales import Scales

THEIRS = "Torch-Pruning, at once, round_to=8"
METHODS = ("dense, trained on", "narrower, from scratch", "forks, SGD lr0=0.01", THEIRS, "ours")


@pytest.fixture(scope="module")
def versus():
    """The benchmark, as Python finds it when it is started as a script."""
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_PRUNING_TRUST", "zoo_torch_pruning.SplitC2f")
        import versus

        patch.setattr("versus_cells.paces", timings.planted_paces)
        yield versus
    sys.path.remove(str(REPOSITORY / "benchmarks"))


@pytest.fixture(scope="module")
def done(versus, small, digits, tmp_path_factory) -> tuple[list[str], Path]:
    """The words of a command line, and the folder in which it has run."""
    runs = tmp_path_factory.mktemp("versus")
    words = ["--tiny", "--weights", str(small), "--data", str(digits), "--runs", str(runs)]
    versus.main([*words, "--only", *METHODS])
    return words, runs


def rows(runs: Path) -> dict[str, dict]:
    return {row["method"]: row for row in json.loads((runs / "found.json").read_text())["cells"].values()}


def test_each_method_leaves_a_row(done) -> None:
    found = rows(done[1])
    assert set(found) == set(METHODS)
    assert found["dense, trained on"]["left"] == 1
    assert all(0.4 < row["left"] < 0.65 for name, row in found.items() if name != "dense, trained on")
    assert all(0 <= row["map"] <= row["map50"] <= 1 and row["seconds"] > 0 for row in found.values())


def test_a_row_says_what_was_given(done) -> None:
    found = rows(done[1])
    assert found["forks, SGD lr0=0.01"]["settings"]["sparsity training"]["sr"] == 0.01
    assert found[THEIRS]["settings"]["round_to"] == 8
    assert found[THEIRS]["versions"]["torch-pruning"] == "1.6.1"
    assert found["narrower, from scratch"]["settings"]["epochs"] == 2


def test_all_are_timed_in_turns(done) -> None:
    found = json.loads((done[1] / "found.json").read_text())
    (timing,) = found["ms"].values()
    assert set(timing["networks"]) == {"dense", *found["cells"]} and all(ms > 0 for ms in timing["networks"].values())


def test_what_is_there_is_not_made_again(versus, done) -> None:
    words, runs = done
    before = rows(runs)
    versus.main([*words, "--only", METHODS[0]])
    assert rows(runs) == before


def test_a_cell_is_for_one_process(versus, done, monkeypatch) -> None:
    from versus_cells import Cell, cell_done

    words, runs = done
    cell = Cell(versus.grounded(versus.parser().parse_args(words), 7, runs), METHODS[0], None)
    made = []
    monkeypatch.setattr("versus_cells.make", lambda *given: made.append(given))
    folder = runs / "".join(letter if letter.isalnum() else "-" for letter in cell.key)
    code = f"import sys, time; sys.path.insert(0, {str(REPOSITORY)!r})\n"
    code += "from pathlib import Path; from ultralytics.pruning.files.locks import take\n"
    code += f"take(Path({str(folder)!r})); print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert not cell_done(cell, runs) and not made
        other.kill()
    assert cell_done(cell, runs) and len(made) == 1


def test_the_page_has_what_was_measured(done) -> None:
    page = (done[1] / "versus.md").read_text()
    assert all(f"| {name} |" in page or f"| **{name}** |" in page for name in METHODS)
    (picture,) = done[1].glob("versus-*.png")
    assert f"]({picture.name})" in page and "Not timed yet" not in page


def test_the_pull_of_the_forks_leaves_shortcuts_alone(versus) -> None:
    from rivals import OfTheForks, shortcuts

    model = DetectionModel("yolov8n.yaml", verbose=False)
    channel_map = trace(model, imgsz=64)
    scales = Scales.of(model, channel_map)
    mode = OfTheForks(model, channel_map, scales, Asked("forks", sr=0.01))
    for tensor in scales.gammas:
        tensor.grad = tensor.detach() * 0
    mode.before_step(torch.optim.SGD([{"params": scales.gammas}], lr=0.1), 1.0)
    pulled = {name: bool(g.grad.any()) for name, g in zip(scales.names, scales.gammas, strict=True)}
    alone = {f"{name}.cv2.bn" for name in shortcuts(model)}
    assert alone and {name for name, moved in pulled.items() if not moved} == alone
