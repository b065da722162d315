"""Files that are wrong, by kind and name: what a hand or a disk can do to a good one. Only the tests need them."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml

TINY: dict[str, Any] = {
    "nc": 2,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 2, "C2f", [16, True]]],
    "head": [[-1, 1, "Conv", [16, 3, 2]], [[2, 3], 1, "Detect", ["nc"]]],
}
NAN = float("nan")


def at(*places: Any, value: Any) -> Callable[[Any], Any]:
    """Returns an edit that puts a value at a place of nested data."""

    def edit(data: Any) -> Any:
        data = copy.deepcopy(data)
        inner = data
        for place in places[:-1]:
            inner = inner[place]
        inner[places[-1]] = value
        return data

    return edit


def without(*places: Any) -> Callable[[Any], Any]:
    """Returns an edit that removes what stands at a place of nested data."""

    def edit(data: Any) -> Any:
        data = copy.deepcopy(data)
        inner = data
        for place in places[:-1]:
            inner = inner[place]
        del inner[places[-1]]
        return data

    return edit


def deep(levels: int, form: str = "[]") -> str:
    """Returns lists in each other, in JSON and YAML alike."""
    return form[0] * levels + form[1] * levels


def row(place: int, value: Any, i: int = 1) -> Callable[[Any], Any]:
    return at("backbone", i, place, value=value)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGES = "a0: &a0 {k: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}], k{i}: 1}}\n" for i in range(1, 12)
)
# Edits of TINY, or the text or the bytes of a file.
MODEL_YAMLS: dict[str, Any] = {
    "a number": "5",
    "empty": "",
    "a list": "[1, 2]",
    "text": "just words",
    "binary": b"\x89PNG\r\n\x1a\n\0\0\xff\xfe",
    "latin-1": "nc: 2 # caf\xe9".encode("latin-1"),
    "tabs": "nc: 2\nbackbone:\n\t- [-1, 1, Conv, [8]]",
    "3,000 levels": "nc: 2\nbackbone: " + deep(3000),
    "100,000 levels": deep(100_000),
    "a bomb": BOMB,
    "a bomb of merges": MERGES,
    "itself": "&a [*a]",
    "a key twice": yaml.safe_dump(TINY) + "nc: 3\n",
    "a large number": "nc: " + "9" * 5000,
    "without backbone": without("backbone"),
    "without head": without("head"),
    "an empty head": at("head", value=[]),
    "backbone None": at("backbone", value=None),
    "a row of three": at("backbone", 1, value=[-1, 1, "Conv"]),
    "a row of five": at("backbone", 1, value=[-1, 1, "Conv", [16, 3, 2], 5]),
    "a row that is none": at("backbone", 1, value="Conv"),
    "an unknown module": row(2, "Convv"),
    "a function": row(2, "torch"),
    "a number for a module": row(2, 5),
    "from ahead": row(0, 5),
    "from before the image": row(0, -4),
    "from text": row(0, "-1"),
    "from nothing": row(0, []),
    "repeats 10**9": row(1, 10**9, 2),
    "repeats text": row(1, "3", 2),
    "repeats 0": row(1, 0, 2),
    "repeats nan": row(1, NAN, 2),
    "a huge width": row(3, [10**9, 3, 2]),
    "a huge width as text": row(3, ["10000000", 3, 2]),
    "a wide image": at("head", 0, value=[-1, 1, "nn.Upsample", [None, 90_000, "nearest"]]),
    "a negative width": row(3, [-8, 3, 2]),
    "a stride of 0": row(3, [16, 3, 0]),
    "no arguments": row(3, []),
    "arguments None": row(3, None),
    "arguments of another type": row(3, [[16], 3, 2]),
    "too many arguments": row(3, [16, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1]),
    "no Detect": at("head", 1, 2, value="Conv"),
    "a head of another task": at("head", 1, value=[-1, 1, "Pose", ["nc", "kpt_shape"]]),
    "nc 0": at("nc", value=0),
    "nc -1": at("nc", value=-1),
    "nc text": at("nc", value="x"),
    "nc 10**9": at("nc", value=10**9),
    "nc True": at("nc", value=True),
    "nc missing": without("nc"),
    "scales a number": at("scales", value=5),
    "scales empty": at("scales", value={}),
    "a scale of two": at("scales", value={"n": [1, 1]}),
    "a scale of text": at("scales", value={"n": [1, "1", 1]}),
    "a scale of 10**9": at("scales", value={"n": [1, 10**9, 99999]}),
    "reg_max huge": at("reg_max", value=90_000),
    "an activation that is code": at("activation", value="__import__('os').system('true')"),
    "an activation that is none": at("activation", value="nn.Nothing()"),
}

CLASSES = {"names": {0: "a", 1: "b"}, "train": "images", "val": "images"}
DATA_YAMLS: dict[str, Any] = {
    "a list": "[1, 2]",
    "binary": b"\0\1\2\3",
    "latin-1": "names: [caf\xe9]".encode("latin-1"),
    "3,000 levels": "names: [a, b]\ntrain: " + deep(3000),
    "a bomb": BOMB,
    "a bomb of merges": MERGES,
    "a key twice": yaml.safe_dump(CLASSES) + "names: [a, c]\n",
    "names 5": at("names", value=5),
    "names text": at("names", value="ab"),
    "names empty": at("names", value=[]),
    "names with a hole": at("names", value={0: "a", 2: "b"}),
    "names from 1": at("names", value={1: "a", 2: "b"}),
    "names of True": at("names", value=["a", True]),
    "names of lists": at("names", value=["a", ["b"]]),
    "names of None": at("names", value={0: "a", 1: None}),
    "names twice": at("names", value=["a", "a"]),
    "nc contradicts": at("nc", value=3),
    "nc text": at("nc", value="many"),
    "nc alone and 0": lambda data: {**without("names")(data), "nc": 0},
    "train a number": at("train", value=5),
    "train a dict": at("train", value={"a": "images"}),
    "train of numbers": at("train", value=[1, 2]),
    "train None": at("train", value=None),
    "val missing": without("val"),
    "val None": at("val", value=None),
    "val a number": at("val", value=5),
    "val empty": at("val", value="empty"),
    "val not there": at("val", value="nowhere"),
    "path a number": at("path", value=5),
    "path with a NUL": at("path", value="a\0b"),
    "a binary list": at("train", value="list.txt"),
    "kpt_shape": at("kpt_shape", value="17"),
    "channels": at("channels", value=-3),
    "no image is one": at("train", value="noise"),
    "all labels are words": at("train", value="labelled/words/images"),
    "all labels are nan": at("train", value="labelled/nan/images"),
    "all classes are unknown": at("train", value="labelled/classes/images"),
    "all rows are short": at("train", value="labelled/short/images"),
}
LABELS = {"words": "a b c d e", "nan": "0 nan .5 .5 .5", "classes": "7 .5 .5 .5 .5", "short": "0 .5 .5"}

LAYER = ("layers", "model.1.conv")
PLANS: dict[str, Any] = {
    "empty": "",
    "binary": b"\0\xff",
    "a number": "5",
    "a dict of nothing": "{}",
    "100,000 levels": deep(100_000),
    "1,000 levels in settings": lambda plan: json.dumps(plan).replace(
        '"settings": {', f'"settings": {{"a": {deep(1000)}, '
    ),
    "a key twice": lambda plan: json.dumps(plan).replace('"format": 1', '"format": 1, "format": 1'),
    "format True": at("format", value=True),
    "format text": at("format", value="1"),
    "NaN": at("seconds", "trace", value=NAN),
    "a large number": lambda plan: json.dumps(plan).replace('"format": 1', '"format": ' + "9" * 5000),
    "layers a list": at("layers", value=[]),
    "layers empty": at("layers", value={}),
    "a layer a number": at(*LAYER, value=5),
    "out_before 10**12": at(*LAYER, "out_before", value=10**12),
    "out_before negative": at(*LAYER, "out_before", value=-16),
    "out_before text": at(*LAYER, "out_before", value="16"),
    "out twice": at(*LAYER, "out", value=[0, 1, 1, 2]),
    "out negative": at(*LAYER, "out", value=[-1, 0, 1]),
    "out of True": at(*LAYER, "out", value=[False, True]),
    "out of text": at(*LAYER, "out", value=["0", "1"]),
    "out a number": at(*LAYER, "out", value=3),
    "out empty": at(*LAYER, "out", value=[]),
    "in missing": without(*LAYER, "in"),
    "a type that is none": at(*LAYER, "type", value=5),
    "another type": at(*LAYER, "type", value="Module"),
    "another network": lambda plan: {**plan, "layers": {"model.99.conv": plan["layers"]["model.1.conv"]}},
    "widths a list": at("widths", value=[1]),
    "widths of nothing": at("widths", "model.99", value={"c": 4}),
    "widths of a method": at("widths", "model.2", value={"forward": 4}),
    "widths of a class": at("widths", "model.2", value={"__class__": 4}),
    "widths of a path": at("widths", "model.2", value={"cv1.conv": 4}),
    "widths negative": at("widths", "model.2", value={"c": -1}),
    "widths another": at("widths", "model.2", value={"c": 3}),
    "a block of nothing": at("blocks", value=["model.99"]),
    "a block of everything": at("blocks", value=[""]),
    "blocks text": at("blocks", value="model.2"),
    "imgsz text": at("settings", "imgsz", value="x"),
    "imgsz 10**9": at("settings", "imgsz", value=10**9),
    "fold text": at("settings", "fold", value="no"),
    "recalibrate text": at("settings", "recalibrate", value="no"),
    "settings a list": at("settings", value=[]),
    "latency text": at("settings", "latency", value="fast"),
    "cost missing": without("cost"),
    "params text": at("cost", "after", "params", value="many"),
    "params negative": at("cost", "before", "params", value=-1),
    "params others": at("cost", "after", "params", value=1),
    "pinned text": at("pinned", value={"why": "x"}),
    "limits a dict": at("limits", value={}),
    "source a list": at("source", value=[]),
    "source without sha256": without("source", "sha256"),
    "sha256 a number": at("source", "sha256", value=5),
}

TABLES: dict[str, Any] = {
    "empty": "",
    "binary": b"\0\xff",
    "a list": "[]",
    "100,000 levels": deep(100_000),
    "format text": at("format", value="1"),
    "about a list": at("about", value=[]),
    "threads a number": at("about", "threads", value=1),
    "no fit": without("fit"),
    "fit of text": at("fit", value=["0", "1"]),
    "fit of one": at("fit", value=[1]),
    "fit negative": at("fit", value=[0, -1]),
    "fit infinite": lambda table: json.dumps(table).replace('"fit": [0.0, 1.0]', '"fit": [0.0, 1e999]'),
    "a whole network below 0": at("fit", value=[-1e8, 1.0]),
    "no layers": at("layers", value={}),
    "layers a list": at("layers", value=[]),
    "layers of others": lambda table: {**table, "layers": {"x": next(iter(table["layers"].values()))}},
}

STATES: dict[str, Any] = {
    "empty": "",
    "a list": "[]",
    "100,000 levels": deep(100_000),
    "recipe a list": at("recipe", value=[]),
    "recipe empty": at("recipe", value={}),
    "done a list": at("done", value=[]),
    "a work of text": at("done", "original accuracy", value="0.5"),
    "no seconds": at("done", "original accuracy", value={"result": 0.5}),
    "seconds negative": at("done", "original accuracy", "seconds", value=-1),
    "seconds text": at("done", "original accuracy", "seconds", value="1"),
    "accuracy text": at("done", "original accuracy", "result", value="0.5"),
    "accuracy None": at("done", "original accuracy", "result", value=None),
    "accuracy NaN": at("done", "original accuracy", "result", value=NAN),
    "size a number": at("done", "original size", "result", value=5),
    "size of text": at("done", "original size", "result", value=["5", 5]),
    "params text": at("done", "step-1 cut", "result", "params", value="5"),
    "limits text": at("done", "step-1 cut", "result", "limits", value="none"),
    "faster 0": at("done", "step-1 cut", "result", "faster", value=0),
    "no macs": without("done", "step-1 cut", "result", "macs"),
    "stuck a number": at("done", "step-1 cut", "result", value={"stuck": 5}),
}
STATE = {
    "recipe": {},
    "done": {
        "original size": {"result": [10, 10], "seconds": 0.1},
        "original accuracy": {"result": 0.5, "seconds": 0.1},
        "step-1 cut": {"result": {"params": 5, "macs": 5, "faster": 1.0, "limits": []}, "seconds": 0.1},
    },
}

ABOUT = {
    "task": "detect",
    "names": "{0: 'a', 1: 'b'}",
    "imgsz": "[64, 64]",
    "batch": "1",
    "stride": "32",
    "args": "{'dynamic': False}",
}
ONNX_FILES: dict[str, Any] = {
    "truncated": lambda content: content[: len(content) // 2],
    "text": b"no ONNX",
    "empty": b"",
    "no metadata": dict.fromkeys(ABOUT),
    "task missing": {"task": None},
    "task unknown": {"task": "cook"},
    "names a list": {"names": "['a', 'b']"},
    "names code": {"names": "__import__('os')"},
    "names broken": {"names": "{0: 'a'"},
    "names deep": {"names": "(" * 5000},
    "names with a hole": {"names": "{0: 'a', 2: 'b'}"},
    "names of numbers": {"names": "{0: 1, 1: 2}"},
    "names others": {"names": "{0: 'a', 1: 'b', 2: 'c'}"},
    "imgsz text": {"imgsz": "big"},
    "imgsz of text": {"imgsz": "['64', '64']"},
    "imgsz a number": {"imgsz": "64"},
    "imgsz 0": {"imgsz": "[0, 0]"},
    "batch 0": {"batch": "0"},
    "batch text": {"batch": "one"},
    "batch another": {"batch": "2"},
    "stride missing": {"stride": None},
    "stride text": {"stride": "max"},
    "args a list": {"args": "[]"},
    "args text": {"args": "none"},
    "dynamic text": {"args": "{'dynamic': 'yes'}"},
    "pose without keypoints": {"task": "pose"},
    "keypoints text": {"kpt_shape": "many"},
    "an entry of the release's own": {"forward": "1"},
}


def spoil(good: Any, how: Any, dump: Callable[[Any], str]) -> bytes:
    """Returns the bytes of a spoiled file."""
    if callable(how):
        how = how(good)
        how = how if isinstance(how, str) else dump(how)
    return how if isinstance(how, bytes) else how.encode()


def onnx_bytes(**changes: str | None) -> bytes:
    """Returns an ONNX file that passes for an export of a detector of two classes, with other metadata."""
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.full((6, 3, 1, 1), 0.1, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "w"], ["output0"])],
        "tiny",
        [helper.make_tensor_value_info("images", number, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output0", number, [1, 6, 64, 64])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in {**ABOUT, **changes}.items():
        if value is not None:
            model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def other_onnx(kind: str, folder: Path) -> Path:
    """Writes an ONNX file whose graph is another one than it says."""
    model, file = onnx.load_model_from_string(onnx_bytes()), folder / "model.onnx"
    if kind == "two inputs":
        more = onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1, 3, 64, 64])
        model.graph.input.append(more)
        model.graph.node.append(onnx.helper.make_node("Identity", ["more"], ["output1"]))
        model.graph.output.append(onnx.helper.make_tensor_value_info("output1", onnx.TensorProto.FLOAT, [1, 3, 64, 64]))
    elif kind == "other operators":
        model.opset_import[0].version = 9999
    elif kind == "integers":
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    elif kind == "external data is missing":
        onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
        (folder / "weights.bin").unlink()
        return file
    onnx.save(model, file)
    return file
