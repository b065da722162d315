"""What `--resume` is asked for beside what the run was started with: an option that says otherwise would be ignored."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.sets import resolve_data
from ..data.unlabelled import is_unlabelled
from ..errors import PruningError
from ..files.places import located
from ..networks.keep_classes import keeps_some
from .moved import relocated

CHANGED_BY_RELEASE = ("batch", "optimizer", "workers", "device", "amp")  # in the arguments of a run


def check_same(options: argparse.Namespace, earlier: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuses options and settings that contradict the run that goes on.

    Args:
        options: Of the command line.
        earlier: The training arguments of that run.
        names: The options that stand in them; the release may have made the batch smaller.

    Raises:
        PruningError: If an option or a setting says otherwise.
    """
    said: frozenset[str] = getattr(options, "said", frozenset())
    if timing := sorted({"runtime", "threads"} & said):
        raise PruningError(f"--{timing[0]}: --resume goes on with the timings of that run; leave it out")
    asked = {name: getattr(options, name, None) for name in names if name in said}
    asked |= {name: value for name, value in options.settings.items() if name not in (*CHANGED_BY_RELEASE, "data")}
    for name, value in asked.items():
        if name in earlier and str(earlier[name]).strip("[]()") != str(value).strip("[]()"):
            raise _otherwise(name, value, earlier[name])


def check_same_data(options: argparse.Namespace, network: Any, earlier: Mapping[str, Any], folder: Path) -> None:
    """Refuses another data set than that of the run that goes on.

    A set that was made for the run is not compared: of some classes of another one, or of images without labels.

    Args:
        options: Of the command line.
        network: The network of the run.
        earlier: The training arguments of that run.
        folder: Where it lies today.

    Raises:
        PruningError: If it is another one, or none.
    """
    said = options.data if "data" in getattr(options, "said", ()) else None
    named, known = options.settings.get("data", said), earlier.get("data")
    if not named or not known or keeps_some(network):
        return
    if network.task != "classify" and is_unlabelled(named):
        return
    asked = resolve_data(named, check_images=False, task=network.task)
    before = relocated(str(known), earlier.get("save_dir"), folder)
    if Path(asked).resolve() != Path(resolve_data(before, check_images=False, task=network.task)).resolve():
        raise _otherwise("data", named, known)


def check_same_weights(options: argparse.Namespace, earlier: Mapping[str, Any], folder: Path) -> None:
    """Refuses another network to start from than that of the run that goes on.

    A run that went on before knows no longer what it started from, but itself.

    Args:
        options: Of the command line.
        earlier: The training arguments of the run.
        folder: Where it lies today.

    Raises:
        PruningError: If it is another one.
    """
    known = str(earlier.get("model") or "")
    if "weights" not in getattr(options, "said", ()) or not known or known == options.weights:
        return
    before = Path(relocated(known, earlier.get("save_dir"), folder)).resolve()
    if not before.is_relative_to(folder.resolve()) and located(options.weights).resolve() != before:
        raise _otherwise("weights", options.weights, known)


def _otherwise(name: str, asked: Any, earlier: Any) -> PruningError:
    return PruningError(f"{name}={asked}, but the run was started with {earlier}: --resume goes on with that")
