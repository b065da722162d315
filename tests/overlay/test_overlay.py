"""The overlay: what it changes, that it changes nothing else, and that it is there."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

import ultralytics
from helpers.processes.python import run_python
from helpers.repository import REPOSITORY
from ultralytics import YOLO
from ultralytics.cfg import get_cfg
from ultralytics.utils import loss

OVERLAY = REPOSITORY / "ultralytics"
EDITED = [
    "__init__.py",
    "data/utils.py",
    "engine/trainer.py",
    "engine/model.py",
    "nn/tasks.py",
    "utils/loss.py",
    "utils/nms.py",
    "utils/patches.py",
    "utils/torch_utils.py",
]


@pytest.mark.parametrize("file", EDITED[1:])
def test_every_changed_line_stands_inside_a_fence(file):
    lines = (OVERLAY / file).read_text().splitlines()
    inside, outside = False, []
    for line in lines:
        if line.startswith("# ====="):
            opens = line != "# ====="
            assert opens != inside, f"unbalanced fence: {line}"
            assert not opens or re.fullmatch(r"# ===== .+ =====", line)
            inside = opens
        elif not inside and line.strip():
            outside.append(line)
    assert not inside
    assert outside[0].startswith('"""')
    assert outside[1:] == ["from ultralytics import run_release", "run_release(globals())"]


def test_all_other_modules_are_the_release():
    import ultralytics.models.yolo.detect
    import ultralytics.nn.tasks

    ours = {OVERLAY / file for file in EDITED} | {OVERLAY / "data" / "digits.py"}
    release = ultralytics.RELEASE_DIR
    assert release != OVERLAY
    seen = 0
    for name, module in sys.modules.items():
        if name.split(".")[0] != "ultralytics" or name.startswith("ultralytics.pruning") or not module.__file__:
            continue
        file = Path(module.__file__)
        assert file in ours or file.is_relative_to(release), name
        seen += file.is_relative_to(release)
    assert seen > 50


def test_edited_classes_keep_the_public_names_of_the_release():
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.models.yolo.detect import DetectionTrainer

    assert BaseTrainer.__module__ == "ultralytics.engine.trainer"
    assert DetectionTrainer.__mro__[1] is BaseTrainer
    release = BaseTrainer.optimizer_step.__wrapped__
    assert release.__code__.co_filename == str(ultralytics.RELEASE_DIR / "engine" / "trainer.py")


def test_each_function_of_the_release_is_edited_once():
    """Edits that lie on each other would take effect in an order that nothing says."""
    edits = [
        (file, *edit)
        for file in EDITED
        for edit in re.findall(r'instead_of\((.+), "(.+)"\)', (OVERLAY / file).read_text())
    ]
    assert ("engine/trainer.py", "BaseTrainer", "_setup_train") in edits
    assert len(edits) == len(set(edits)) > 15


TRAIN_TWO_EPOCHS = """
import sys, torch
if __name__ == "__main__":
    model, data, project, extra = sys.argv[1:5]
    from ultralytics import YOLO
    from ultralytics.utils import torch_utils
    torch_utils.NUM_THREADS = 1
    YOLO(model).train(data=data, project=project, name="run", epochs=2, imgsz=64, batch=8, device="cpu",
                               plots=False, workers=0, seed=3, deterministic=True, **eval(extra))
    import ultralytics
    print("FILE", ultralytics.__file__)
"""


def without_time(csv: Path) -> list[list[str]]:
    rows = [line.split(",") for line in csv.read_text().splitlines()]
    return [row[:1] + row[2:] for row in rows]


def test_sr_0_trains_bit_identically_to_the_release(small, digits, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(TRAIN_TWO_EPOCHS)
    weights = {}
    for name, extra, environment in (
        ("stock", "{}", {"YOLO_CONFIG_DIR": str(tmp_path / "config")}),
        ("overlay", "{'sr': 0.0}", {"PYTHONPATH": str(REPOSITORY)}),
    ):
        done = run_python(script, small, digits, tmp_path / name, extra, cwd=tmp_path, **environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert (f"FILE {OVERLAY}" in done.stdout) == (name == "overlay")
        weights[name] = YOLO(tmp_path / name / "run" / "weights" / "last.pt").model.state_dict()
    assert weights["stock"].keys() == weights["overlay"].keys()
    assert all(torch.equal(weights["stock"][key], weights["overlay"][key]) for key in weights["stock"])
    stock, ours = (without_time(tmp_path / name / "run" / "results.csv") for name in weights)
    assert len(stock) == 3
    assert stock == ours


DECODING = sorted(n for n, c in vars(loss).items() if isinstance(c, type) and hasattr(c, "bbox_decode") and n[0] != "_")


@pytest.mark.parametrize("name", DECODING)
def test_proj_follows_the_prediction(name):
    criterion = object.__new__(getattr(loss, name))
    criterion.use_dfl, criterion.reg_max, criterion.proj = True, 16, torch.arange(16.0)
    anchors, distances = torch.zeros(8, 2, device="meta"), torch.zeros(1, 8, 64, device="meta")
    extra = (torch.zeros(1, 8, 1, device="meta"),) if "OBB" in name else ()
    release = type(criterion).bbox_decode.__wrapped__
    with pytest.raises(RuntimeError):
        release(criterion, anchors, distances, *extra)
    assert criterion.bbox_decode(anchors, distances, *extra).device.type == "meta"
    again = criterion.bbox_decode(*(torch.zeros(t.shape) for t in (anchors, distances, *extra)))
    assert torch.isfinite(again).all()
    assert torch.equal(criterion.proj, torch.arange(16.0))


def test_every_loss_class_that_decodes_with_proj_is_edited():
    owners = [c for c in vars(loss).values() if isinstance(c, type) and "bbox_decode" in vars(c)]
    assert {c.__name__ for c in owners} == {"v8DetectionLoss", "v8OBBLoss"}
    assert len(DECODING) >= 5
    assert all(hasattr(c.bbox_decode, "__wrapped__") for c in owners)


def test_training_arguments_are_ordinary_ones():
    assert get_cfg().sr == 0.0
    assert get_cfg().finetune is False
    assert get_cfg(overrides={"sr": 1, "finetune": True}).sr == 1
    for wrong in ({"sr": "much"}, {"finetune": "yes"}, {"sr": None}):
        with pytest.raises(TypeError):
            get_cfg(overrides=wrong)
    for wrong in (-1e-3, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="finite number of at least 0"):
            get_cfg(overrides={"sr": wrong})


@pytest.mark.parametrize(("version", "allowed"), [(None, False), ("8.0.0", False), ("8.0.0", True)])
def test_a_missing_or_other_release_is_one_clear_line(tmp_path, version, allowed):
    """The overlay over a site without the release, or with another one, which a variable allows with a warning."""
    site = tmp_path / "site"
    (site / "ultralytics").mkdir(parents=True)
    if version:
        (site / "ultralytics" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    code = f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [{str(site)!r}]\n"
    code += "import runpy; runpy.run_path('prune.py', run_name='__main__')"
    environment = {"YOLO_PRUNING_ANY_RELEASE": "1" if allowed else ""}  # `make compat` sets it for all
    done = run_python("-c", code, **environment)
    if allowed:
        assert "UserWarning: ultralytics 8.0.0 is installed" in done.stderr
        return
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "pip install ultralytics-opencv-headless==8.4.190" in done.stderr


@pytest.mark.parametrize("script", ["train-normal.py", "train_sparsity.py", "prune.py", "finetune.py"])
def test_a_script_without_its_overlay_ends_with_code_2(script, tmp_path):
    for file in (script, "edited_release.py"):
        shutil.copy(REPOSITORY / file, tmp_path / file)
    done = run_python(script, cwd=tmp_path, YOLO_CONFIG_DIR=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(f"{script}: error:")
    assert "Traceback" not in done.stderr
