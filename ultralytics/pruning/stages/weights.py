"""What a stage starts from: the checkpoint, or the model yaml, that `--weights` names."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..data.of_training import data_before
from ..errors import PruningError
from ..files.places import located, shown, write_folder
from ..inputs.model_yamls import build, is_model_yaml, model_yaml
from ..report import say


def find_weights(weights: str, *, from_yaml: bool) -> Path:
    """Returns the checkpoint or yaml to train from; an official checkpoint is downloaded where the network allows.

    Args:
        weights: What `--weights` says.
        from_yaml: Whether the stage begins trainings: from a model yaml, or from an official checkpoint.

    Raises:
        PruningError: If it is not there.
    """
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    if is_model_yaml(weights):
        if not from_yaml:
            raise PruningError(f"--weights {weights}: this stage trains the network of a .pt, not a yaml")
        build(weights, "--weights")
        return Path(weights)  # as given: the release reads the scale (n, s, m, l, x) off the name

    path = located(weights)
    if not path.is_file() and from_yaml and path.name in GITHUB_ASSETS_NAMES:
        _download(path)
    if not path.is_file():
        raise PruningError(
            f"'{shown(path)}' is not there: a wrong name in --weights, or the stage before this one has not run"
        )
    return path


def follow_training(options: argparse.Namespace, content: dict[str, Any], task: str) -> None:
    """Takes the side of the images, and the data set, from the training before, where the options name none.

    Args:
        options: Of the command line; `imgsz` and `data` are set where they are None.
        content: What a checkpoint holds beside its network; empty for an exported file.
        task: What the network does.

    Raises:
        PruningError: If no data set is named, and that of the training is not on this machine.
    """
    if options.imgsz is None:
        options.imgsz = checkpoint.side_of_training(content)
    if options.data is None and "data" not in options.settings:
        options.data = data_before(content.get("train_args") or {}, task)
        say(f"Data: {options.data}, as --data names no other")


def _download(path: Path) -> None:
    """Lets the release fetch one of its checkpoints.

    Raises:
        PruningError: If that fails.
    """
    from ultralytics.utils.downloads import attempt_download_asset

    write_folder(path.parent)
    try:
        attempt_download_asset(path)
    except Exception as error:  # whatever the download raises
        path.unlink(missing_ok=True)
        raise PruningError(
            f"'{shown(path)}' is not there and could not be downloaded; put it there, "
            f"or start from random weights with --weights {path.stem}.yaml"
        ) from error


def load_source(weights: str) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """Loads a checkpoint, or builds a model yaml of the release with random weights, to try things.

    Returns:
        The network, the arguments that it was trained with, and its origin for the plan.
    """
    release = checkpoint.release_version()
    if is_model_yaml(weights):
        model = build(weights, "--weights")
        return model, {}, {"file": weights, "sha256": "", "task": model.task, "release": release}
    path = located(weights)
    model, content = checkpoint.load(path)
    source = {"file": str(path), "sha256": checkpoint.sha256(path), "task": model.task, "release": release}
    return model, content.get("train_args") or {}, source


def check_family(model: Any, cfg: str | None, size: str | None) -> None:
    """Compares `--cfg` and `--model-size` with what the checkpoint says of itself.

    Raises:
        PruningError: If they contradict it.
    """
    scale = model.yaml.get("scale")
    if size and scale and size != scale:
        raise PruningError(f"--model-size {size}, but the weights are those of a model of size {scale}; leave it out")
    if not cfg:
        return
    other = model_yaml(cfg, "--cfg")
    if any(other.get(part) != model.yaml.get(part) for part in ("backbone", "head")):
        name = model.yaml.get("yaml_file")
        raise PruningError(f"--cfg {cfg} is not the model of these weights ({name}); leave it out")
    if other.get("scale") and scale and other["scale"] != scale:
        raise PruningError(f"--cfg {cfg} is of size {other['scale']}, the weights are of size {scale}; leave it out")
