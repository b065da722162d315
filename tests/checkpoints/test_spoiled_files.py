"""Good files, spoiled at a random place by a random value: refused in one line, or taken as what they say."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.bad_files import CLASSES, STATE, TINY, at, without
from helpers.networks import Net, block, conv
from ultralytics.pruning import Limits, PruningError, prune_network, repeat_plan, trace
from ultralytics.pruning.compression.state import check_saved
from ultralytics.pruning.data.yamls import check_data_yaml
from ultralytics.pruning.inputs.documents import DEEPEST, found_in, parse_json, read_yaml
from ultralytics.pruning.inputs.model_yamls import build
from ultralytics.pruning.latency import LatencyTable
from ultralytics.pruning.plans.plan import PruningPlan

WRONG: list[Any] = [None, True, False, -1, 0, 1, 3, 0.5, 2**31, 10**12, 10**30, 1e308, float("inf"), float("nan")]
WRONG += ["", "x", "3", "-1", "nan", "é", "model.99", "x" * 5000, [], {}, [0], [1, 1], ["x"], [[]], {"a": 1}, {"c": 4}]
WRONG += [json.loads("[" * (DEEPEST + 9) + "]" * (DEEPEST + 9))]
GONE = object()  # the place is removed
few = settings(
    max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def places(data: Any) -> list[tuple[Any, ...]]:
    """All places in nested data."""
    parts = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path for key, value in parts for path in [(key,), *((key, *inner) for inner in places(value))]]


@st.composite
def spoiled(draw: Any, data: Any) -> Any:
    """Data with a wrong value at some place, of which those near the top come as often as the others."""
    paths = places(data)
    depth = draw(st.sampled_from(sorted({len(path) for path in paths})))
    path = draw(st.sampled_from([path for path in paths if len(path) == depth]))
    value = draw(st.sampled_from([GONE, *WRONG]))
    return without(*path)(data) if value is GONE else at(*path, value=value)(data)


def quickly(read: Any) -> Any:
    """Returns what a reader makes of a file, or None where it refuses it: without another error, within a second."""
    begin, said = time.process_time(), ""
    try:
        return read()
    except PruningError as error:
        said = " ".join(str(error).split())
        return None
    finally:
        assert time.process_time() - begin < 1 and len(said) < 800


@pytest.fixture(scope="module")
def cut_network():
    """A network of a few layers, and its plan as plain data."""
    torch.manual_seed(0)
    net = Net(lambda n, x: n.out(n.body(x)), body=nn.Sequential(block(3, 16), block(16, 12)), out=conv(12, 2, 1))
    return net, prune_network(net, prune_ratio=0.5, limits=Limits(round_to=4), fold=False).plan.to_dict()


@few
@given(draw=st.data())
def test_plans(draw, cut_network):
    net, good = cut_network
    text = json.dumps(draw.draw(spoiled(good)))

    def read() -> Any:
        plan = PruningPlan.from_json(text)
        return plan, repeat_plan(net, plan)

    if found := quickly(read):
        plan, result = found
        for name, layer in plan.layers.items():
            module = result.model.get_submodule(name)
            width = module.num_features if isinstance(module, nn.BatchNorm2d) else module.out_channels
            assert width == len(layer.kept_out)
        assert sum(p.numel() for p in result.model.parameters()) == result.plan.after.params == plan.after.params
        assert json.loads(result.plan.to_json())["layers"] == good["layers"], "of this network there is this one cut"


def write(folder: Path, data: Any) -> Path:
    file = folder / "spoiled.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The release imports much with the first network."""
    build(str(write(tmp_path_factory.mktemp("good"), TINY)), "--weights")


@few
@given(draw=st.data())
def test_model_yamls(draw, imported, tmp_path):
    file = write(tmp_path, draw.draw(spoiled(TINY)))
    if model := quickly(lambda: build(str(file), "--weights")):
        assert sum(p.numel() for p in model.parameters()) < 10**7
        assert trace(model, imgsz=64).layers


@few
@given(draw=st.data())
def test_data_yamls(draw, tmp_path):
    good = {**CLASSES, "nc": 2, "path": "x", "kpt_shape": [2, 3], "flip_idx": [1, 0], "channels": 3}
    file = write(tmp_path, draw.draw(spoiled(good)))

    def read() -> int:
        content = read_yaml(file, "--data x")
        with found_in("--data x", "no data set"):
            return check_data_yaml(content)

    count = quickly(read)
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert count is None or count == len(content.get("names") or range(content["nc"]))


@few
@given(draw=st.data())
def test_states(draw):
    text = json.dumps(draw.draw(spoiled(STATE)))

    def read() -> Any:
        content = parse_json(text, "state.json")
        with found_in("state.json", "no state"):
            check_saved(content)
        return content

    if content := quickly(read):
        works = content["done"].values()
        assert sum(work["seconds"] for work in works) >= 0 and isinstance(content["recipe"], dict)
        assert all(float(work["result"]) < float("inf") for name, work in content["done"].items() if "accuracy" in name)


TABLE = {
    "format": 1,
    "about": {"machine": "m", "runtime": "r", "threads": "1"},
    "fit": [0.0, 1.0],
    "layers": {"a": {"inputs": [1, 4], "outputs": [2, 8], "ms": [[0.1, 0.2], [0.3, 0.4]]}},
}


@few
@given(draw=st.data())
def test_latency_tables(draw, tmp_path):
    file = tmp_path / "table.json"
    file.write_text(json.dumps(draw.draw(spoiled(TABLE))))
    if table := quickly(lambda: LatencyTable.load(file)):
        assert all(0 < timing.at(3, 5) < float("inf") for timing in table.layers.values())
        assert table.fit[1] > 0 and all(isinstance(word, str) for word in table.about.values())
