"""How a network is cut where nobody says how: by what the network is, and by whether there are images.

The ways were measured against each other on trained networks: docs/results/one-shot.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from torch import nn

from ..channels import ChannelMap
from ..checkpoints import checkpoint
from ..criteria.scoring import Scoring
from ..data.some_classes import data_for, resolve_for
from ..errors import PruningError
from ..networks.keep_classes import keeps_some
from ..passes.gates import passes_over
from ..passes.images import Images, trainer_class
from ..passes.photographs import PHOTOGRAPHS, can_see_photographs
from ..selection.zeros import LEAST_SHARE, share_at_zero
from ..sparsity import MODES
from ..sparsity.settings import mode_of

ROUNDS = 4
WITHOUT_IMAGES = "lamp"
ENOUGH = 32  # images to score by: more change the choice less than another draw of outputs does


class Reason(Enum):
    """What decides how a network is cut."""

    ZEROS = "zeros"  # a set of channels is at exactly zero
    SPARSITY = "sparsity"  # a sparsity training has ordered the channels
    IMAGES = "images"  # neither, and there are images
    NO_IMAGES = "no images"  # nor are there any: the release's photographs stand in for them
    NOTHING = "nothing"  # nor can it see these, or it was never trained
    ASKED = "asked"  # somebody says how


@dataclass(frozen=True)
class Default:
    """How a network is cut where nobody says how.

    Attributes:
        reason: Why so.
        criterion: A key of `CRITERIA`.
        per: As in `Scoring`.
        rounds: As in `prune_network`.
        images: To score by and, with `refit`, to fit layers to.
        refit: Whether layers are fitted.
        zeros: Whether just the channels go whose scales are exactly zero.
        detail: The share at zero, the sparsity mode, or the data set, in words.
    """

    reason: Reason
    criterion: str = Scoring.criterion
    per: str | None = None
    rounds: int = 1
    images: Images | None = None
    refit: bool = False
    zeros: bool = False
    detail: str = ""

    @property
    def ordered(self) -> bool:
        """Whether a sparsity training has ordered the channels."""
        return self.reason in (Reason.ZEROS, Reason.SPARSITY)

    def scoring(self) -> Scoring:
        """Returns how channels are scored."""
        return Scoring(self.criterion, per=self.per, **passes_over(self.images))

    def __str__(self) -> str:
        scored = f"scored by {self.criterion}" + (f" per {self.per} in {self.rounds} rounds" if self.rounds > 1 else "")
        fitted = f"{scored}, with a fit of the layers that stay, on"
        dense = "no sparsity training has ordered the channels"
        return {
            Reason.ZEROS: f"{self.detail} of the prunable channels have scales of exactly zero: "
            + ("just these go (--zeros)" if self.zeros else scored),
            Reason.SPARSITY: f"trained with sparsity={self.detail}: {scored}",
            Reason.IMAGES: f"{dense}: {fitted} images of {self.detail}",
            Reason.NO_IMAGES: f"{dense}, and there are no images: {fitted} {PHOTOGRAPHS}",
            Reason.NOTHING: f"{dense}, and there are no images: {scored}",
            Reason.ASKED: f"{scored}, as asked",
        }[self.reason]


def default_for(
    model: nn.Module,
    channel_map: ChannelMap,
    train_args: Mapping[str, Any],
    images: Images | None,
    imgsz: int = 640,
    device: str = "cpu",
    *,
    target: bool,
    in_time: bool = False,
) -> Default:
    """Returns how to cut a network where nobody says how.

    Args:
        model: The network.
        channel_map: Its channels.
        train_args: What it was trained with; empty if that is not known.
        images: Images that it was made for, if any are at hand.
        imgsz: Side of the images that stand in for missing ones, in pixels.
        device: Where passes over these run.
        target: Whether a target is named.
        in_time: Whether that counts milliseconds, for which there are no rounds.
    """
    if (share := share_at_zero(channel_map, model)) >= LEAST_SHARE:
        return Default(Reason.ZEROS, zeros=not target, detail=f"{share:.0%}")
    if mode := mode_of(train_args):
        return Default(Reason.SPARSITY, MODES[mode].criterion, detail=mode)
    reason = Reason.IMAGES
    if images is None and train_args and can_see_photographs(model):
        reason, images = Reason.NO_IMAGES, enough(Images(PHOTOGRAPHS, imgsz=imgsz, device=device))
    if images is None:
        return Default(Reason.NOTHING, WITHOUT_IMAGES)
    rounds: dict[str, Any] = {} if in_time else {"per": "multiply-add", "rounds": ROUNDS}
    return Default(reason, "group_fisher", images=images, refit=True, detail=images.data, **rounds)


def default_of(
    model: Any,
    channel_map: ChannelMap,
    images: Images | None,
    imgsz: int | Sequence[int],
    *,
    target: bool,
    in_time: bool,
) -> Default:
    """Returns how a network is cut where nobody says how, by what it knows of its training.

    Args:
        model: The network.
        channel_map: Its channels.
        images: To score by; those of its training where none are given.
        imgsz: Side in pixels, or height and width.
        target: Whether a target is named.
        in_time: Whether that counts milliseconds.
    """
    train_args = args_of_training(model)
    side = imgsz if isinstance(imgsz, int) else max(imgsz)
    home = next(model.parameters()).device
    where = str(home.index or 0) if home.type == "cuda" else "cpu"
    images = images or images_of_training(model, train_args, side, where)
    return default_for(model, channel_map, train_args, images, side, where, target=target, in_time=in_time)


def args_of_training(model: Any) -> Mapping[str, Any]:
    """Returns what a network was trained with, as far as it knows; empty if it does not."""
    known = getattr(model, "args", None)
    return known if isinstance(known, dict) else vars(known) if known else {}


def side_of_training(model: Any) -> int:
    """Returns the side of the images that a network was trained on, in pixels; the release's default if not known."""
    return checkpoint.side_of_training({"train_args": args_of_training(model)})


def of_its_classes(model: Any, images: Images | None) -> Images | None:
    """Returns images with labels of a network's classes, for one that kept some; any others as they are.

    Raises:
        PruningError: If the data set is not one of these classes, nor has them among others.
    """
    if images is None or not keeps_some(model) or dict(images.settings).get("single_cls"):
        return images
    return replace(images, data=resolve_for(model, images.data, classes=len(model.names), labelled=True))


def enough(images: Images) -> Images:
    """Returns as many batches as make the images that `group_fisher` needs."""
    return replace(images, batches=-(-ENOUGH // images.batch))


def images_of_training(model: Any, train_args: Mapping[str, Any], imgsz: int, device: str = "cpu") -> Images | None:
    """Returns the images that a network was trained on, None if they are not on this machine.

    Args:
        model: A network of the release.
        train_args: What it was trained with.
        imgsz: Side in pixels.
        device: Where the passes run.
    """
    data = data_of_training(model, train_args)
    settings = (("single_cls", True),) if train_args.get("single_cls") else ()
    return enough(Images(data, imgsz=imgsz, device=device, settings=settings)) if data else None


def data_of_training(model: Any, train_args: Mapping[str, Any]) -> str | None:
    """Returns the path of the data set that a network was trained on, None if it is not here or not one of its own.

    Args:
        model: A network of the release.
        train_args: What it was trained with.
    """
    data = train_args.get("data")
    if not isinstance(data, (str, Path)) or getattr(model, "task", None) is None:
        return None
    classes = None if train_args.get("single_cls") else len(model.names)
    try:
        if not Path(data).exists():
            return None
        trainer_class(model)
        return data_for(model, str(data), classes=classes, splits=("train",), labelled=True)
    except (OSError, ValueError, PruningError):
        return None
