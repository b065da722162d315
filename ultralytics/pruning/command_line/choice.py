"""How `prune.py` cuts: by what the options say, and where they say nothing, by what the checkpoint is."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..criteria import CRITERIA, ON_IMAGES
from ..criteria.scoring import Scoring
from ..errors import PruningError
from ..one_shot.defaults import Default, Reason, data_of_training, default_for, enough
from ..passes.gates import passes_over
from ..passes.images import Images
from ..pipeline import channel_map_of
from ..report import say
from ..selection.limits import DEFAULT_ROUND_TO
from . import options as shared
from .settings import IMAGES, VALIDATION

DEFAULT_RATIO = 0.7  # after a sparsity training
DEFAULT_SPEED_UP = 2.0  # of any other network
TARGET_OPTIONS = ("prune_ratio", "speed_up", "target_params", "zeros")


def check_words(options: argparse.Namespace) -> None:
    """Refuses settings and options that would have no effect, or contradict each other.

    Raises:
        PruningError: If there are such.
    """
    if options.criterion or options.zeros or options.plan or rows_alone(options):  # else the checkpoint decides
        check_images_are_read(options, options.criterion)
    if rows_alone(options) and (said := shared.chosen(options, (*shared.SCORING, *shared.ROUNDS, *shared.LIMITS))):
        name = said[0].replace("_", "-")
        raise PruningError(f"--keep-classes alone only takes rows out: leave out --{name}, or name a target")
    if options.val and options.dry_run:
        raise PruningError("--val measures what is written, --dry-run writes nothing: leave out one of both")

    rounds = shared.chosen(options, shared.ROUNDS)
    scored = shared.chosen(options, shared.SCORING)
    if options.zeros and (said := [*scored, *rounds]):
        raise PruningError(
            f"--zeros removes what is at zero, whatever its score: leave out --{said[0]}, or name another target"
        )
    if options.zeros:
        check_zeros(options)
    if (options.rounds or 1) > 1 and options.latency_speed_up is not None:
        raise PruningError("--rounds is for --prune-ratio, --speed-up and --target-params")


def rows_alone(options: argparse.Namespace) -> bool:
    """Whether nothing is asked for but to keep some classes."""
    return bool(options.keep_classes) and not shared.chosen(options, (*TARGET_OPTIONS, "latency_speed_up", "plan"))


def check_images_are_read(options: argparse.Namespace, criterion: str | None, refit: bool = False) -> None:
    """Refuses what is said of images where none are looked at.

    Args:
        options: Of the command line.
        criterion: By which channels are scored; None if they are not.
        refit: Whether layers are fitted, although `options` do not say so.

    Raises:
        PruningError: If it is.
    """
    scores = criterion is not None and CRITERIA[criterion].needs in ON_IMAGES
    looks = scores or refit or bool(options.recalibrate) or bool(options.refit)
    read = (VALIDATION if options.val else frozenset()) | (IMAGES if looks else frozenset()) | {"single_cls"}
    if idle := [key for key in options.settings if key not in read]:
        where = "--val" if idle[0] in VALIDATION else "a criterion that looks at images, --recalibrate or --refit"
        raise PruningError(f"{idle[0]}= does nothing here: it is read for {where} only")
    if options.batches and not scores and not refit and not options.refit:
        raise PruningError("--batches is read for criteria that look at images only, e.g. --criterion group_taylor")


def check_zeros(options: argparse.Namespace) -> None:
    """Raises a PruningError for limits that a cut of the zeros does not know."""
    if shared.chosen(options, ("ratio", "ignore")):
        raise PruningError("--zeros removes what is at zero: leave out --ratio and --ignore, or name another target")


def choice(
    options: argparse.Namespace, model: Any, train_args: Mapping[str, Any], data: str | None, imgsz: int
) -> dict[str, Any]:
    """Returns target, limits, scores, rounds and fit, as `prune_network` takes them; says what was not asked for.

    Args:
        options: Of the command line.
        model: The network; no trained one has an empty `train_args`.
        train_args: What it was trained with.
        data: The data set that is named.
        imgsz: Side of the images, in pixels.

    Raises:
        PruningError: If images are needed and there are none.
    """
    if rows_alone(options):
        return {}
    if options.zeros:
        return {"limits": shared.limits(options, floor=0.0), "zeros": True}
    target = {name: getattr(options, name) for name in TARGET_OPTIONS if getattr(options, name) is not None}
    in_time = options.latency_speed_up is not None
    images = images_at_hand(options, model, train_args, data, imgsz)

    default = Default(Reason.ASKED, options.criterion)
    if not options.criterion:
        named = bool(target or in_time or shared.chosen(options, (*shared.SCORING, *shared.ROUNDS)))
        channel_map = channel_map_of(model, imgsz)
        where = imgsz, options.device.split(",")[0]
        default = default_for(model, channel_map, train_args, images, *where, target=named, in_time=in_time)
        images = images or default.images
    refit = default.refit if options.refit is None else options.refit
    if not options.criterion:
        check_images_are_read(options, None if default.zeros else default.criterion, refit)
        say_default(default, train_args)
    if default.zeros:
        check_zeros(options)
        return {"limits": shared.limits(options, floor=0.0), "zeros": True}
    if not target and not in_time:
        target = {"prune_ratio": DEFAULT_RATIO} if default.ordered else {"speed_up": DEFAULT_SPEED_UP}
    if refit and not images:
        raise PruningError("--refit needs images: name them with --data")
    return {
        "limits": shared.limits(options, round_to=DEFAULT_ROUND_TO),
        "scoring": scoring(options, default, images),
        "rounds": options.rounds or default.rounds,
        "refit": images if refit else None,
        **target,
    }


def images_at_hand(
    options: argparse.Namespace, model: Any, train_args: Mapping[str, Any], data: str | None, imgsz: int
) -> Images | None:
    """Returns the training images of the data set that is named, else of the network's training if they are here."""
    data = data or data_of_training(model, train_args)
    if not data:
        return None
    images = shared.training_images(options, data, imgsz, Images.batches)
    if options.batches:
        return replace(images, batches=options.batches)
    return images if options.criterion and CRITERIA[options.criterion].needs == "images" else enough(images)


def scoring(options: argparse.Namespace, default: Default, images: Images | None) -> Scoring:
    """Returns how channels are scored.

    Raises:
        PruningError: If the criterion needs images and there are none.
    """
    per = options.per or (default.per if options.normalize is None else None)
    return Scoring(default.criterion, options.normalize, per, **passes_over(images))


def say_default(default: Default, train_args: Mapping[str, Any]) -> None:
    """Says how a network is cut that nobody said it of, and warns where that costs accuracy."""
    say(f"{str(default)[0].upper()}{str(default)[1:]}\n")
    if train_args and default.reason in (Reason.NO_IMAGES, Reason.NOTHING):
        say(
            "WARNING: images of what the network was made for would keep far more of its accuracy: name some with "
            "--data, a folder of them will do (docs/results/one-shot.md)\n"
        )
