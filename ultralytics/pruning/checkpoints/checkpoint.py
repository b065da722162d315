"""Reads and writes checkpoints: only classes of the stock release, and one line for any other file."""

from __future__ import annotations

import logging
import math
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import PruningError, UntrustedError, first_line
from ..files.whole import sha256, whole_file  # noqa: F401  (the first for callers that look for it here)
from ..inputs.documents import brief
from ..networks.rebuild import PLANS_ATTRIBUTE
from ..networks.wrappers import unwrapped
from ..plans.plan import PruningPlan
from ..release import quiet_release
from ..trust import restricted
from .contents import bare, check_content
from .loading import globals_in, refusal_of


def load(path: str | Path, *, trained_with_bn: bool = True) -> tuple[Any, dict[str, Any]]:
    """Loads the network of a `.pt` checkpoint of Ultralytics.

    Args:
        path: The checkpoint.
        trained_with_bn: Whether to refuse a fused network, which has no batch norm to prune by or to train.

    Returns:
        The network in float32 and eval mode (the EMA where the checkpoint holds one), and the checkpoint's dict.

    Raises:
        PruningError: If the file is missing, is not such a checkpoint, or holds numbers that are not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise PruningError(f"'{path}' is not there: a wrong name, or the stage that writes it has not run")
    if path.suffix != ".pt":
        raise PruningError(f"'{path}' is a {path.suffix or 'file without ending'}; this needs a .pt checkpoint")
    _refuse_other_formats(path)
    model, checkpoint = _load_checkpoint(path)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise PruningError(f"'{path}' holds weights that are not finite ({name}); the training diverged")
    if trained_with_bn and not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        raise PruningError(
            f"'{path}' has no batch norm, whose scales tell what to prune: it was fused (take the checkpoint that "
            f"training wrote), or never had one"
        )
    return model, checkpoint


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers are finite: a finite sum proves it, in a sixth of the time or less."""
    return math.isfinite(tensor.sum()) or bool(torch.isfinite(tensor).all())


def check_others(settings: dict[str, Any]) -> None:
    """Checks the checkpoints that training arguments name besides the one to train, before anything is written.

    Raises:
        PruningError: If one of these files exists and cannot be loaded.
    """
    for key in ("distill_model", "pretrained"):
        value = settings.get(key)
        if isinstance(value, (str, Path)) and Path(value).is_file():
            load(value, trained_with_bn=False)


def _refuse_other_formats(path: Path) -> None:
    """Recognizes a TorchScript archive and a damaged file by their bytes, without running anything in them."""
    if path.stat().st_size == 0:
        raise PruningError(f"'{path}' is empty")
    if not zipfile.is_zipfile(path):
        if names := globals_in(path):  # a bare pickle, or the format of PyTorch before 1.6
            if not restricted():
                return
            raise UntrustedError(refusal_of(f"'{path}', which is not in PyTorch's format since 1.6,", names))
        raise PruningError(f"'{path}' is truncated, or not a checkpoint at all: it is not a PyTorch archive")
    with zipfile.ZipFile(path) as archive:
        if any("/code/" in name for name in archive.namelist()):
            raise PruningError(f"'{path}' is a TorchScript export; take the .pt that it was exported from")


def _load_checkpoint(path: Path) -> tuple[Any, dict[str, Any]]:
    """Loads with the release; one line says why that fails."""
    from ultralytics.nn.tasks import BaseModel, load_checkpoint

    with quiet_release(logging.ERROR):  # its warnings about foreign files are longer than the line that follows
        try:
            model, checkpoint = load_checkpoint(path)
        except PruningError:
            raise
        except Exception as error:  # whatever a foreign pickle can raise
            if _needs_old_yolov5(error):
                raise PruningError(
                    f"'{path}' comes from the old yolov5 repository; train the model with this one"
                ) from error
            if what := _bare(path):
                raise PruningError(f"'{path}' {what}") from error
            raise PruningError(f"'{path}' is not a checkpoint of Ultralytics ({first_line(error)})") from error
    model = getattr(model, "student_model", model)  # of a training with a teacher that was interrupted
    if not isinstance(model, BaseModel):
        what = _bare(path) or f"holds a {type(model).__name__}, not a model of Ultralytics"
        raise PruningError(f"'{path}' {what}")
    check_content(model, checkpoint, path)
    return model, checkpoint


def _needs_old_yolov5(error: BaseException) -> bool:
    """Whether a load failed over a module of the package `models`, in which the yolov5 repository has its classes."""
    seen: BaseException | None = error
    while seen is not None:  # the release raises a TypeError from what Python raised
        if isinstance(seen, ModuleNotFoundError) and (seen.name or "").split(".")[0] == "models":
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _bare(path: Path) -> str | None:
    """Says what a file holds that was saved alone instead of in a checkpoint; None if it is something else."""
    from ultralytics.utils.patches import torch_load

    try:
        return bare(torch_load(path, map_location="cpu"))
    except Exception:  # whatever a foreign pickle can raise; the caller has raised it already
        return None


def save(model: Any, path: str | Path, *, train_args: dict[str, Any] | None = None) -> None:
    """Writes a network as a checkpoint that stock Ultralytics loads, in float32.

    Args:
        model: The network; brought to float32 on the CPU, its parameters frozen, as in any finished checkpoint.
        path: The `.pt` to write; it appears whole or not at all.
        train_args: The arguments that the network was trained with.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    args = {key: value for key, value in (train_args or {}).items() if key in DEFAULT_CFG_DICT}
    model = unwrapped(model).float().cpu()
    model.criterion = None  # the classes of the loss need not be known where the network is used
    model.args = args
    model.__dict__.pop("pt_path", None)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    finished = dict.fromkeys(("ema", "updates", "optimizer", "scaler", "best_fitness", "stopper"))
    checkpoint = {
        **finished,
        "epoch": -1,
        "model": model,
        "train_args": args,
        "date": datetime.now().astimezone().isoformat(),
        "version": release_version(),
        "license": "AGPL-3.0 (https://ultralytics.com/license)",
    }
    with whole_file(Path(path)) as temporary:
        torch.save(checkpoint, temporary)


def release_version() -> str:
    """Returns the version of the release that lies under this repository."""
    import ultralytics

    return ultralytics.__version__  # type: ignore[attr-defined]  # set by the release's own file


def attach_plan(model: nn.Module, plan: PruningPlan) -> None:
    """Notes a plan in the network that was cut by it, as plain data that also a restricted loader accepts."""
    setattr(model, PLANS_ATTRIBUTE, [*_plans_data(model), plan.to_dict()])


def plans_of(model: nn.Module) -> list[PruningPlan]:
    """Returns the plans that a network was cut by, the oldest first.

    Raises:
        PruningError: If what the network carries are not plans.
    """
    return [PruningPlan.from_dict(data) for data in _plans_data(model)]


def _plans_data(model: nn.Module) -> list[dict[str, Any]]:
    """Returns the plans of a network as plain data, unchecked."""
    data = getattr(model, PLANS_ATTRIBUTE, [])
    if not isinstance(data, list):
        raise PruningError(f"the network carries {brief(data)} in place of its pruning plans")
    return data


def counts_as_one(settings: dict[str, Any], content: dict[str, Any]) -> bool:
    """Whether all classes of a data set count as one: as the user says, or else as the network was trained.

    Args:
        settings: What the user set, perhaps `single_cls`.
        content: The checkpoint's dict.
    """
    return bool(settings.get("single_cls", (content.get("train_args") or {}).get("single_cls")))


def image_size(content: dict[str, Any]) -> int | list[int]:
    """Returns the image size in pixels that a checkpoint was trained with and its costs count for; 640 if unknown."""
    return (content.get("train_args") or {}).get("imgsz") or 640


def side_of_training(content: dict[str, Any]) -> int:
    """Returns the longer side of the images that a checkpoint was trained on, in pixels; 640 if unknown."""
    size = image_size(content)
    sides = size if isinstance(size, (list, tuple)) else [size]
    known = [side for side in sides if isinstance(side, int) and not isinstance(side, bool) and side > 0]
    return max(known, default=640)


def is_finished(content: dict[str, Any]) -> bool:
    """Whether a checkpoint's content is that of a finished run, which cannot be resumed.

    A run that was killed after its last epoch, before the release shrank the checkpoint, is finished too.
    """
    epoch, epochs = content.get("epoch", -1), (content.get("train_args") or {}).get("epochs", 0)
    return epoch < 0 or content.get("optimizer") is None or epoch + 1 >= epochs
