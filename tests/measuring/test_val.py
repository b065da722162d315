"""`val.py` from end to end, on files of several formats: what is measured, in which order, and what is written."""

import argparse
import csv
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import yaml

from helpers.processes.python import run_python
from helpers.seeing import write_seeing
from ultralytics import YOLO
from ultralytics.nn.autobackend import AutoBackend
from ultralytics.pruning import PruningError, load
from ultralytics.pruning.accuracy import by_class
from ultralytics.pruning.latency import turns
from ultralytics.pruning.latency.turns import Pace
from ultralytics.pruning.measuring import formats, speed
from ultralytics.pruning.stages import measuring

SIDE = 64


@pytest.fixture(scope="module")
def files(small_weights, tmp_path_factory) -> dict[str, Path]:
    """The small detector, and exports of it: of one image, of any number, and TorchScript."""
    folder = tmp_path_factory.mktemp("files")
    found = {"pt": folder / "net.pt"}
    found["pt"].write_bytes(small_weights.read_bytes())
    for name, how in (("onnx", {}), ("free", {"dynamic": True})):
        file = Path(YOLO(found["pt"]).export(format="onnx", imgsz=SIDE, device="cpu", verbose=False, **how))
        found[name] = file.rename(folder / f"{name}.onnx")
    found["torchscript"] = Path(YOLO(found["pt"]).export(format="torchscript", imgsz=SIDE, device="cpu"))
    return found


@pytest.fixture
def clip(tmp_path) -> Path:
    """A video of five frames, each of another grey."""
    file = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 48))
    for grey in range(5):
        writer.write(np.full((48, 96, 3), 50 * grey, np.uint8))
    writer.release()
    return file


def wishes(*checkpoints: Path, said: tuple[str, ...] = (), **changes) -> argparse.Namespace:
    """Returns the options of val.py."""
    options = {"imgsz": SIDE, "batch": 4, "name": "val", "overwrite": False, "device": "cpu", "threads": 1}
    options |= {"timing": True, "video": None, "per_class": False, "settings": {"plots": False}, "said": said}
    return argparse.Namespace(checkpoints=[str(path) for path in checkpoints], **{**options, **changes})


def written(runs: Path) -> tuple[list[dict], dict]:
    """Returns val.csv and val.json."""
    with (runs / "val" / "val.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file)), json.loads((runs / "val" / "val.json").read_text())


def test_all_files_are_timed_in_turns_behind_the_accuracy_of_all(files, digits, runs, monkeypatch, capsys):
    """By planted milliseconds: 8 for the first, half as many for each that follows."""
    done: list[str] = []
    one, planted = measuring.run_one, turns.paces
    monkeypatch.setattr(measuring, "run_one", lambda path, *what: done.append(path.name) or one(path, *what))
    monkeypatch.setattr(
        turns, "paces", lambda runs, threads, **how: done.append(str(len(runs))) or planted(runs, threads)
    )
    monkeypatch.setenv("YOLO_PRUNING_TRUST", "1")
    measuring.measure_stage(wishes(*files.values(), data=str(digits), said=("batch",)))

    assert done == ["net.pt", "onnx.onnx", "free.onnx", "net.torchscript", "4", "3"]  # at once: 1, then 4
    rows, content = written(runs)
    assert [row["format"] for row in rows] == ["pt", "onnx", "onnx", "torchscript"]
    assert [row["milliseconds"] for row in rows] == ["8.0", "4.0", "2.0", "1.0"]
    assert [row["speed_up"] for row in rows] == ["", "2.0", "4.0", "8.0"]
    assert [row["milliseconds_batch_4"] for row in rows] == ["2.0", "", "1.0", "0.5"]  # per image
    assert [row["speed_up_batch_4"] for row in rows] == ["", "", "2.0", "4.0"]
    assert [row["batch"] for row in rows] == ["4", "1", "4", "4"]  # of the accuracy
    assert {row["map50_95"] for row in rows} == {rows[0]["map50_95"]} and rows[1]["change"] == "0.0"
    assert float(rows[1]["parameters_share"]) == int(rows[1]["parameters"]) / int(rows[0]["parameters"])

    assert (content["threads"], content["split"], content["video"]) == (1, "val", None)
    assert [row["runtime"].split()[0] for row in content["rows"]] == ["torch", "onnxruntime", "onnxruntime", "torch"]
    assert {row["arithmetic"] for row in content["rows"]} == {"float32"}
    last = content["rows"][-1]
    assert last["timings"][0] == {"batch": 1, "median": 1.0, "best": 0.5, "spread": 0.02, "rounds": 30}
    assert last["relative"]["speed"] == {"1": 8.0, "4": 4.0}
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (table,) = [line for line in lines if line[:1] == [str(files["free"])]]
    assert table[-6:] == ["2.00", "2%", "4.0x", "1.00", "2%", "2.0x"]


def test_nothing_is_timed_unless_wanted(files, digits, runs, monkeypatch):
    monkeypatch.setattr(turns, "paces", lambda *what, **how: pytest.fail("it was timed"))
    with pytest.raises(PruningError, match="--no-timing"):
        measuring.measure_stage(wishes(files["pt"], data=str(digits), timing=False))
    measuring.measure_stage(wishes(files["pt"], data=str(digits), timing=False, threads=None))
    (row,), content = written(runs)
    assert row["milliseconds"] == "" and content["threads"] is None and content["rows"][0]["timings"] == []


def test_a_runtime_that_fails_when_it_is_timed_keeps_the_accuracy(files, digits, runs, monkeypatch, capsys):
    def fails(*what, **how):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(turns, "paces", fails)
    measuring.measure_stage(wishes(files["pt"], data=str(digits)))
    assert "Not timed: RuntimeError: out of luck" in capsys.readouterr().out
    (row,), _ = written(runs)
    assert float(row["map50_95"]) >= 0 and row["milliseconds"] == ""


def test_a_video_is_decoded_once_and_its_frames_are_found_in_by_all(files, digits, runs, clip, monkeypatch, capsys):
    seen: dict[int, list[np.ndarray]] = {}
    predict = YOLO.predict

    def noted(self, image, **how):
        seen.setdefault(id(self), []).append(image)
        return predict(self, image, **how)

    def planted(runs, threads, rounds):
        for run in [*runs.values()] * rounds:
            run()
        return {name: Pace(8 / (1 + name), 1.0, 0.0, rounds) for name in runs}

    monkeypatch.setattr(YOLO, "predict", noted)
    monkeypatch.setattr(turns, "paces", planted)
    options = wishes(files["pt"], files["onnx"], data=str(digits), timing=False, threads=1, video=str(clip))
    measuring.measure_stage(options)
    rows, content = written(runs)
    assert [(row["frame_milliseconds"], row["frame_speed_up"]) for row in rows] == [("8.0", ""), ("4.0", "2.0")]
    video = content["video"]
    assert (video["frames"], video["width"], video["height"]) == (5, 96, 48) and video["decoding"] > 0
    assert len(seen) == 2 and {len(images) for images in seen.values()} == {1 + 5}  # to open the file, and the rounds
    first, second = seen.values()
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert [round(float(image.mean()), -1) for image in first[1:]] == [0, 50, 100, 150, 200]
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    (decoding,) = [line for line in table if line[:1] == ["decoding"]]
    assert decoding[1] == f"{video['decoding']:.2f}"


def test_the_ap_of_each_class(runs, tmp_path, capsys):
    """What counts is the mean of what its classes have, by names; a class without labels has none."""
    file = write_seeing("detect", tmp_path / "seeing.pt")
    folder = tmp_path / "own"
    for split in ("images", "labels"):
        (folder / split).mkdir(parents=True)
    grey = np.full((SIDE, SIDE, 3), 114, np.uint8)
    boxes = YOLO(file).predict(grey, imgsz=SIDE, conf=0.1, verbose=False, device="cpu")[0].boxes
    seen = zip(boxes.cls.int().tolist(), boxes.xywhn.tolist(), strict=True)
    rows = [[number, *box] for number, box in seen if number != 2] + [[0, 0.5, 0.5, 0.9, 0.9]]  # this one it misses
    for number in range(2):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), grey)
        text = "\n".join(" ".join(map(str, row)) for row in rows)
        (folder / "labels" / f"{number}.txt").write_text(text)
    names = load(file)[0].names
    (folder / "data.yaml").write_text(
        json.dumps({"path": str(folder), "train": "images", "val": "images", "names": names})
    )
    measuring.measure_stage(wishes(file, data=str(folder / "data.yaml"), per_class=True))
    (row,), content = written(runs)
    aps = {entry["name"]: entry["ap"] for entry in content["rows"][0]["by_class"]}
    assert list(aps) == list(names.values()) and aps[names[2]] is None
    known = [ap for ap in aps.values() if ap is not None]
    assert max(known) > 0.1 and np.mean(known) == pytest.approx(float(row["map50_95"]))
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    (last,) = [line for line in table if line[:1] == [names[2]]]
    assert last[1:] == ["-"]


@pytest.mark.parametrize(("task", "aps"), [("detect", [0.1, 0.2]), ("segment", [0.3, 0.4]), ("pose", [0.5, 0.6])])
def test_the_ap_of_a_class_is_that_of_its_boxes_masks_or_keypoints(task, aps):
    parts = {"box": [0.1, 0.2], "seg": [0.3, 0.4], "pose": [0.5, 0.6]}
    metrics = SimpleNamespace(names={0: "a", 1: "b", 2: "c"})
    for name, values in parts.items():
        setattr(metrics, name, SimpleNamespace(ap_class_index=np.array([2, 0]), ap=np.array(values)))
    assert by_class(metrics, task) == {0: aps[1], 1: None, 2: aps[0]}


def test_the_very_file_is_timed_in_the_precision_of_its_accuracy(files, digits, runs, monkeypatch):
    """The release opens a network twice, with the same words."""
    opened: list[tuple] = []
    init = AutoBackend.__init__

    def note(self, *what, **how):
        init(self, *what, **how)
        opened.append((self.format, self.fp16, how["dnn"], how["channels_last"], how["end2end"]))

    monkeypatch.setattr(AutoBackend, "__init__", note)
    settings = {"plots": False, "dnn": True, "nms": False, "channels_last": False}
    measuring.measure_stage(wishes(files["pt"], files["onnx"], data=str(digits), settings=settings))
    assert opened[:2] == opened[2:] and {entry[0] for entry in opened} == {"pt", "dnn"}


@pytest.mark.parametrize(("kind", "makers"), [("openvino", ("openvino",)), ("ncnn", ("ncnn", "pnnx"))])
def test_other_runtimes_where_they_are_installed(kind, makers, digits, runs, tmp_path):
    """A network that finds something finds it by its export as well."""
    for module in makers:
        pytest.importorskip(module)
    file = write_seeing("detect", tmp_path / "net.pt")
    exported = Path(YOLO(file).export(format=kind, imgsz=SIDE, device="cpu", verbose=False))
    row, other = (formats.describe(path, {"imgsz": SIDE, "batch": 4, "device": "cpu"}) for path in (file, exported))
    assert (other.format, other.task, other.names) == (kind, row.task, row.names)
    assert other.fixed == (None if kind == "ncnn" else 1) and other.megabytes > 0.1
    assert other.runtime.startswith(f"{kind} ") and other.arithmetic in ("float32", "bfloat16", "float16")
    first, second = speed.timed([row, other], [file, exported], [1, 4], 1, {})
    assert first.paces.keys() == {1, 4} and second.paces.keys() == ({1, 4} if kind == "ncnn" else {1})


@pytest.mark.timed
def test_a_real_clock(files, digits, runs, monkeypatch):
    monkeypatch.setattr(turns, "SECONDS", 0.05)
    measuring.measure_stage(wishes(files["pt"], files["onnx"], data=str(digits)))
    rows, content = written(runs)
    for row, entry in zip(rows, content["rows"], strict=True):
        timing = entry["timings"][0]
        assert 0 < timing["best"] <= timing["median"] == float(row["milliseconds"]) and timing["rounds"] >= 3
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--video", "gone.mp4"], "gone.mp4"),
        (["--video", "NET"], "no frame of this video"),
        (["--threads", "0"], "--threads"),
        (["--threads", "1", "--no-timing"], "--no-timing"),
        (["TORCHSCRIPT"], "--trust"),
        (["gone.onnx"], "gone.onnx' is not there"),
        (["README.md"], "of no known format"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_measured(words, says, files, digits, tmp_path):
    places = {"NET": files["pt"], "TORCHSCRIPT": files["torchscript"]}
    line = [str(places.get(word, word)) for word in words]
    ended = run_python(
        "val.py", files["pt"], *line, "--data", digits, "--imgsz", SIDE, "--device", "cpu", "--name", "no"
    )
    assert (ended.returncode, ended.stdout) == (2, "") and ended.stderr.count("\n") == 1 and says in ended.stderr


def test_a_task_without_aps_is_refused(files, digits, runs):
    row = measuring.Measurement("a.pt", "classify", 3, 0, None, 0.0, SIDE, 1, "cpu")
    with pytest.raises(PruningError, match="--per-class"):
        measuring.check_classes_asked(wishes(per_class=True), [row])
    measuring.check_classes_asked(wishes(), [row])


def test_a_clip_ends_where_it_ends_or_where_enough_is_read(clip):
    assert len(speed.read_clip(str(clip)).frames) == 5
    found = speed.read_clip(str(clip), most=2)
    assert [round(float(frame.mean()), -1) for frame in found.frames] == [0, 50] and found.milliseconds > 0


@pytest.mark.parametrize("other", ["coco.yaml", "more classes"])
def test_nothing_is_downloaded_that_has_other_classes(other, files, tmp_path, runs, monkeypatch):
    """The release downloads what is not here as soon as it is asked for the images."""

    def look(*args, **how):
        raise AssertionError("the release was asked for the images")

    monkeypatch.setattr("ultralytics.data.utils.check_det_dataset", look)
    if other == "more classes":
        content = {"train": "images", "val": "images", "names": [f"class {i}" for i in range(11)]}
        other = tmp_path / "other.yaml"
        other.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(PruningError, match="has 10 classes"):
        measuring.measuring_data(
            str(other), "val", [formats.describe(files["pt"], {"imgsz": SIDE, "device": "cpu", "batch": 4})]
        )
