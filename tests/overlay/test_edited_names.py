"""An edit holds wherever its name is imported: no module of the release keeps the release's own under that name."""

import importlib
import pkgutil
import shutil
import sys

import pytest
import torch

import ultralytics
from helpers.repository import FADED_WEIGHTS
from ultralytics import cfg, utils
from ultralytics.engine import model, trainer
from ultralytics.pruning.compression import work
from ultralytics.utils import torch_utils

ROOT = ultralytics.__path__[0]

# Where an edit is made -> the names that it binds anew. Names that are edited in one module for its own use are not
# here: the trainer's progress bar, which shows one more column, and its launch command.
EDITED = {
    torch_utils: ("strip_optimizer",),
    cfg: ("check_cfg", "CFG_FLOAT_KEYS", "CFG_INT_KEYS", "CFG_BOOL_KEYS"),
    utils: ("DEFAULT_CFG_DICT", "DEFAULT_CFG", "DATASETS_DIR", "WEIGHTS_DIR", "RUNS_DIR"),
}
LOCAL = {"TQDM", "generate_ddp_command"}


@pytest.fixture(scope="module")
def modules() -> list:
    """All modules of the release that can be imported here, and ours."""
    for package in (
        "ultralytics.models",
        "ultralytics.engine",
        "ultralytics.utils",
        "ultralytics.data",
        "ultralytics.nn",
    ):
        for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if any(part in found.name for part in (".triton", ".loaders", "callbacks", ".export", "autodevice")):
                continue
            try:
                importlib.import_module(found.name)
            except ImportError:
                continue
    return [module for name, module in sys.modules.items() if name.split(".")[0] == "ultralytics"]


@pytest.mark.parametrize(("home", "name"), [(home, name) for home, names in EDITED.items() for name in names])
def test_every_module_sees_the_edit(home, name, modules):
    edited = getattr(home, name)
    holders = [module.__name__ for module in modules if name in vars(module)]
    assert home.__name__ in holders and len(modules) > 150
    assert [other for other in holders if getattr(sys.modules[other], name) is not edited] == []


def test_nothing_else_is_bound_anew(modules):
    """Names that our files and the release's both have, with two values: each is listed above."""
    ours = {name for name in vars(trainer) | vars(model) | vars(torch_utils) if not name.startswith("_")}
    listed = {name for names in EDITED.values() for name in names} | LOCAL
    for home in (trainer, model, torch_utils):
        for name in ours & vars(home).keys():
            value = getattr(home, name)
            origin = sys.modules.get(getattr(value, "__module__", None) or "")
            if origin is None or not origin.__name__.startswith("ultralytics") or "pruning" in origin.__name__:
                continue
            if getattr(origin, name, value) is not value:
                assert name in listed, f"{home.__name__}.{name} is not that of {origin.__name__}"


def test_a_compression_strips_a_checkpoint_whole(tmp_path, monkeypatch):
    """By the name that it imports itself: a full disk leaves the finished training."""
    last = tmp_path / "one" / "weights" / "last.pt"
    last.parent.mkdir(parents=True)
    content = torch.load(FADED_WEIGHTS, weights_only=False)
    arguments = {"epochs": 2, "data": "data.yaml", "imgsz": 64}
    torch.save({**content, "epoch": 1, "optimizer": {"state": {}, "param_groups": []}, "train_args": arguments}, last)
    shutil.copy(last, last.with_name("best.pt"))
    before = last.read_bytes()

    def half(_, target, *args, **kwargs):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(work.PruningError, match="no space left"):
            work.train("one", FADED_WEIGHTS, {}, None, tmp_path)
    assert last.read_bytes() == before
    assert sorted(file.name for file in last.parent.iterdir()) == ["best.pt", "last.pt"]
