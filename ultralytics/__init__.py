"""Lays this folder over the installed Ultralytics release.

`from ultralytics import YOLO`, run in the repository root, gives the pinned release with the edits that stand here.
A file of this folder is served instead of the release's file at the same path; every other module is the release's.
Audit the edits with `grep -rn ===== ultralytics`.
"""

import functools
import importlib.util
import os
import re
import sys
import warnings
from pathlib import Path

PINNED_RELEASE = "8.4.190"
OVERLAY_DIR = Path(__file__).resolve().parent
INSTALL_HINT = f"run: pip install ultralytics-opencv-headless=={PINNED_RELEASE}"


def find_release() -> Path:
    """Returns the folder of the installed release: the first `ultralytics` package on `sys.path` besides this one.

    Raises:
        ImportError: If no release is installed, or its version is not the pinned one and the environment variable
            `YOLO_PRUNING_ANY_RELEASE` is not set to 1.
    """
    for entry in sys.path:
        folder = Path(entry or os.getcwd(), "ultralytics").resolve()
        if folder == OVERLAY_DIR or not (folder / "__init__.py").is_file():
            continue
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        if "PINNED_RELEASE" in text:  # another checkout of this repository
            continue
        found = re.search(r'^__version__ = "(.+?)"', text, re.MULTILINE)
        version = found[1] if found else "of unknown version"
        if version != PINNED_RELEASE:
            message = f"ultralytics {version} is installed, this repository edits {PINNED_RELEASE}; {INSTALL_HINT}"
            if os.environ.get("YOLO_PRUNING_ANY_RELEASE") != "1":
                raise ImportError(message)
            warnings.warn(f"{message} (going on: YOLO_PRUNING_ANY_RELEASE=1)", stacklevel=2)
        return folder
    raise ImportError(f"the ultralytics release that this repository edits is not installed; {INSTALL_HINT}")


def run_release(namespace: dict) -> None:
    """Executes the release's own file of a module in `namespace`, the globals of the edited module.

    Compiled under the release's file name, so that tracebacks and `inspect` show the right lines.
    """
    parts = namespace["__name__"].split(".")[1:] or ["__init__"]
    file = RELEASE_DIR.joinpath(*parts).with_suffix(".py")
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec", dont_inherit=True), namespace)


def instead_of(owner, name: str):
    """Puts the decorated edit in the place of a function of the release, or of a method.

    Args:
        owner: The class, or the module, that has it. One edit each: nothing then depends on which was made first.
        name: Its name. The edit is called with the release's function, and then what that is called with.
    """

    def decorate(edit):
        release = getattr(owner, name)

        @functools.wraps(release)
        def edited(*args, **kwargs):
            return edit(release, *args, **kwargs)

        setattr(owner, name, edited)
        return edited

    return decorate


class OverlayFinder:
    """Serves `ultralytics.x.y` from `<this folder>/x/y.py` where that file stands, and leaves the rest alone."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Returns the spec of an overlaid module, or None (see `importlib.abc.MetaPathFinder`)."""
        package, *parts = name.split(".")
        if package != "ultralytics" or not parts:
            return None
        base = OVERLAY_DIR.joinpath(*parts)
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return importlib.util.spec_from_file_location(name, file)
        return None


# ===== nothing of the user's global settings is read or written, nothing is installed unasked =====
os.environ.setdefault("YOLO_CONFIG_DIR", str(OVERLAY_DIR.parent / ".ultralytics"))
os.environ.setdefault("YOLO_AUTOINSTALL", "0")
# =====

# ===== nothing that is loaded runs code; YOLO_PRUNING_TRUST=1 or --trust lets it (see pruning/trust.py) =====
os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "1")
# =====

RELEASE_DIR = find_release()
sys.meta_path.insert(0, OverlayFinder)
__path__ = [str(OVERLAY_DIR), str(RELEASE_DIR)]
__spec__.submodule_search_locations = __path__
run_release(globals())

# ===== runs, weights and data sets stay inside the repository, also after it was moved =====
from ultralytics import utils as release_utils

for _name in ("datasets", "weights", "runs"):
    dict.__setitem__(release_utils.SETTINGS, f"{_name}_dir", str(OVERLAY_DIR.parent / _name))  # not saved to disk
    setattr(release_utils, f"{_name.upper()}_DIR", OVERLAY_DIR.parent / _name)
# =====

# ===== training arguments of our own: known, checked and carried like the release's =====
from ultralytics import cfg as release_cfg
from ultralytics.pruning.training import arguments as training_arguments

for _name, _argument in training_arguments.TRAINING_ARGUMENTS.items():
    release_utils.DEFAULT_CFG_DICT[_name] = _argument.default
    setattr(release_utils.DEFAULT_CFG, _name, _argument.default)
    if _argument.keys:
        setattr(release_cfg, _argument.keys, getattr(release_cfg, _argument.keys) | {_name})


@instead_of(release_cfg, "check_cfg")
def _check_cfg(release, cfg, hard=True):
    release(cfg, hard)  # types, a TypeError
    training_arguments.check_ranges(cfg)  # a ValueError


# =====
