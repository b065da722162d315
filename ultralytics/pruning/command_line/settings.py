"""Settings of Ultralytics on the command line, `key=value`: which a stage reads, and which values make sense.

A setting that the stage would not read is refused, and so is a value that the release accepts, but then fails on or
ignores.
"""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import PruningError, closest, first_line, hint, quoted
from ..files import places
from . import kinds

NOT_YOURS = {
    "model": "--weights",
    "project": "--name",
    "name": "--name",
    "save_dir": "--name",
    "exist_ok": "--overwrite",
    "resume": "--resume",
    "device": "--device",
    "task": "--weights",
    "mode": "another script",
}


def _keys(*lines: str) -> frozenset[str]:
    """Returns all words in some lines."""
    return frozenset(word for line in lines for word in line.split())


# What each use of the release reads.
VALIDATION = _keys(
    "data imgsz batch split conf iou max_det single_cls rect workers plots verbose save save_json save_txt save_conf",
    "visualize augment agnostic_nms classes quantize dnn channels_last nms cache fraction compile overlap_mask",
    "mask_ratio show_labels show_conf seed deterministic",
)
IMAGES = _keys(  # of training images, for gradients and statistics
    "data imgsz batch seed deterministic fraction single_cls classes cache overlap_mask mask_ratio box cls cls_pw dfl",
    "pose kobj rle angle dlog dgrad dlam mosaic mixup cutmix copy_paste copy_paste_mode erasing multi_scale hsv_h",
    "hsv_s hsv_v fliplr flipud bgr degrees translate scale shear perspective auto_augment",
)
EXPORT = _keys(
    "format imgsz batch data dynamic quantize opset simplify workspace optimize nms fraction split conf iou max_det",
    "agnostic_nms verbose",
)
NOT_IN_TRAINING = _keys(
    "source vid_stride stream_buffer retina_masks embed show save_frames save_crop show_boxes line_width format",
    "optimize dynamic simplify opset workspace tracker dnn",
)
GAINS = _keys("warmup_epochs box cls dfl pose kobj rle angle dlog dgrad dis")
LEAST_OF = {"workers": 0, "close_mosaic": 0, "save_period": -1, "opset": 7, "workspace": 0, "time": 0, "sr_bias": 0}
LEAST_OF |= dict.fromkeys(GAINS, 0)
MOST_OF = {"seed": 2**31 - 1, "target_params": 1e12}
MOST_OF_ALL = 1e6  # of any other number: beyond it, sums overflow, or nothing ever happens
ACCEPTED = {
    "split": ("train", "val", "test"),
    "cache": (True, False, "ram", "disk"),
    "copy_paste_mode": ("flip", "mixup"),
}
OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop")  # of the release


def training_keys() -> frozenset[str]:
    """Returns what a training reads: all that the release knows, but for what only predicting or exporting does."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    return frozenset(DEFAULT_CFG_DICT) - NOT_IN_TRAINING - NOT_YOURS.keys()


def key_values(words: Sequence[str]) -> dict[str, str]:
    """Returns `key=value` words by key, with what a yaml that `cfg=` names says before them.

    Raises:
        PruningError: If a word has no `=` or no value, or a key is unknown or belongs to an option.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value.strip("'\" \t"):
            raise PruningError(f"'{word}' is no key=value setting of Ultralytics" + (": no value" if equals else ""))
        if key in NOT_YOURS:
            raise PruningError(f"'{word}': use {NOT_YOURS[key]} instead, so that the next stage finds the run")
        if key not in DEFAULT_CFG_DICT:
            meant = f"; {hint(key, DEFAULT_CFG_DICT)}" if closest(key, DEFAULT_CFG_DICT) else ""  # all are too many
            raise PruningError(f"unknown setting {quoted(key)}{meant}")
        if key in pairs and pairs[key] != value:
            raise PruningError(f"'{key}={pairs[key]}' and '{word}': one of both is enough")
        pairs[key] = value
    return pairs


def from_file(name: str) -> dict[str, Any]:
    """Returns the settings in a yaml, as `cfg=` names it.

    Raises:
        PruningError: If it is not there, is not such a yaml, or holds what must not be set on a command line.
    """
    import yaml

    file = Path(places.source(name))
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PruningError(f"cfg={name}: {error.strerror}; name a yaml of settings") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise PruningError(f"cfg={name} is not YAML ({first_line(error)})") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise PruningError(f"cfg={name} is not a yaml of settings: it needs lines such as 'lr0: 0.01'")
    from ultralytics.utils import DEFAULT_CFG_DICT

    content = {key: value for key, value in content.items() if value != DEFAULT_CFG_DICT.get(key, content)}
    key_values([f"{key}=?" for key in content])
    return content


def read(key: str, value: Any) -> Any:
    """Returns a setting's value, checked: beyond the release's own rules, which `check_settings` asks.

    Args:
        key: Of the setting.
        value: Its value, or a word of the command line.

    Raises:
        PruningError: If it makes no sense.
    """
    from ultralytics.cfg import parse_key_value_pair

    said = f"'{key}={value}'"
    if isinstance(value, str):
        try:
            value = parse_key_value_pair(f"{key}={value}")[1]
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise PruningError(f"{key}={quoted(str(value))} cannot be read ({first_line(error)})") from error
    if value == "" or (isinstance(value, (list, tuple, dict, set)) and not value):
        raise PruningError(f"{said} is empty: leave it out, or give it a value")
    for number in _numbers(value):
        _check_number(key, number, said)
    if key in ACCEPTED and value not in ACCEPTED[key]:
        raise PruningError(f"{said}: {hint(str(value), map(str, ACCEPTED[key]))}")
    if key in CHECKS:
        value = CHECKS[key](value, said)
    return value


def _numbers(value: Any) -> list[Any]:
    """Returns the numbers in a value, also in a list of it."""
    if isinstance(value, (list, tuple)):
        return [number for entry in value for number in _numbers(entry)]
    return [value] if isinstance(value, (int, float)) else []


def _check_number(key: str, value: Any, said: str) -> None:
    """Raises a PruningError for a number that is not finite, or out of any sensible range."""
    from ultralytics import cfg

    counts = cfg.CFG_INT_KEYS | cfg.CFG_FLOAT_KEYS | cfg.CFG_FRACTION_KEYS
    if isinstance(value, bool):
        if key in counts or key == "imgsz":
            raise PruningError(f"{said} is neither on nor off: it is a number")
        return
    most, least = MOST_OF.get(key, MOST_OF_ALL), LEAST_OF.get(key, -MOST_OF_ALL)
    if not math.isfinite(value) or not least <= value <= most:
        at_least = f"at least {least:g} and " if key in LEAST_OF else ""
        raise PruningError(f"{said} is out of range: it must be {at_least}at most {most:g}")


def _batch(value: Any, said: str) -> int:
    return _by(kinds.as_positive, value, said)


def _indices(value: Any, said: str) -> Any:
    """Checks numbers of classes: one, or a list."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    if value is not None and not all(type(entry) is int and entry >= 0 for entry in entries):
        raise PruningError(f"{said}: numbers of classes, e.g. 0 or [0,2,3]")
    return value


def _optimizer(value: Any, said: str) -> Any:
    """Checks the name of an optimizer, in any case; the release does when a training begins, behind a cut."""
    if value is not None and str(value).lower() not in map(str.lower, OPTIMIZERS):
        raise PruningError(f"{said}: unknown optimizer; {hint(str(value), OPTIMIZERS)}")
    return value


def _frozen(value: Any, said: str) -> Any:
    """Checks what `freeze` takes; the release ignores what it does not know."""
    entries = value if isinstance(value, (list, tuple)) else [value] if not isinstance(value, str) else [None]
    if value is not None and not all(
        isinstance(entry, str) or (type(entry) is int and entry >= 0) for entry in entries
    ):
        raise PruningError(f"{said}: how many layers, e.g. 10, or a list of their numbers, e.g. [0,1,2]")
    return value


def _checkpoint(value: Any, said: str) -> Any:
    """Returns the path of a checkpoint that is there, or the name of one that the release can fetch."""
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    if value is None or isinstance(value, bool):
        return value
    name = _by(kinds.as_source, value, said)
    if "://" in name:
        return name
    place = places.first_there(name, Path.is_file)
    if place is None and Path(name).name not in GITHUB_ASSETS_NAMES:
        raise PruningError(f"{said}: no such file; name a checkpoint")
    if place is not None and place.suffix != ".pt":
        raise PruningError(f"{said}: a checkpoint, .pt, is needed")
    return str(place or places.here(name))


def _teacher(value: Any, said: str) -> Any:
    if isinstance(value, bool):
        raise PruningError(f"{said}: name the checkpoint that teaches")
    return _checkpoint(value, said)


def _table(value: Any, said: str) -> Any:
    """Returns the path of a table of latencies that is there."""
    if value is None:
        return None
    place = places.first_there(_by(kinds.as_source, value, said), Path.is_file)
    if place is None:
        raise PruningError(f"{said}: no such file; latency_table.py writes one")
    return str(place)


def _by(kind: Callable[[str], Any], value: Any, said: str) -> Any:
    """Reads a value as an option would."""
    try:
        return kind(str(value))
    except ArgumentTypeError as error:
        raise PruningError(f"{said}: {error}") from error


CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "batch": _batch,
    "classes": _indices,
    "freeze": _frozen,
    "optimizer": _optimizer,
    "pretrained": _checkpoint,
    "distill_model": _teacher,
    "latency_table": _table,
}


def check_settings(settings: dict[str, Any]) -> None:
    """Checks settings by the release's own rules for their types and ranges.

    Raises:
        PruningError: If one is refused.
    """
    from ultralytics.cfg import get_cfg

    try:
        get_cfg(overrides=dict(settings))
    except (TypeError, ValueError, OverflowError) as error:
        raise PruningError(str(error)) from error
    except SyntaxError as error:  # of a misspelt key
        raise PruningError(first_line(error)) from error
