"""Options that `prune.py` and `compress.py` share: how channels are scored, how many go, the limits of layers."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable
from typing import Any

from .. import packages
from ..criteria import CRITERIA, NORMALIZERS
from ..criteria.scoring import PER
from ..errors import PruningError
from ..files import places
from ..latency import RUNTIMES, Latency, Runtime
from ..latency.timing import runs_on_gpus
from ..one_shot.defaults import ROUNDS as DEFAULT_ROUNDS
from ..passes.images import Images
from ..selection.limits import DEFAULT_ROUND_TO, Limits
from . import kinds
from .devices import cores

SCORING = ("criterion", "normalize", "per")
ROUNDS = ("rounds", "refit")
LATENCY = ("runtime", "threads", "latency_table")
LIMITS = {  # option -> field of `Limits`
    "round_to": "round_to",
    "min_channels": "min_channels",
    "max_ratio_per_layer": "max_ratio",
    "ignore": "ignore",
    "ratio": "ratios",
}


def chosen(options: argparse.Namespace, names: Iterable[str]) -> list[str]:
    """Returns which of some options were given."""
    return [name for name in names if getattr(options, name) is not None]


def limits(options: argparse.Namespace, **defaults: Any) -> Limits:
    """Returns what the options say of single layers; `defaults` are fields of `Limits` that they may change."""
    said = {LIMITS[name]: getattr(options, name) for name in chosen(options, LIMITS)}
    lists = {field: tuple(value) for field, value in said.items() if isinstance(value, list)}
    return Limits(**{**defaults, **said, **lists})


def add_sizes(target: argparse._ActionsContainer, *, several: bool = False) -> None:
    """Adds the targets that say how fast or how small, to the group of those of which one is needed.

    Args:
        target: The group.
        several: Whether each takes several numbers, with commas between them.
    """
    add = target.add_argument
    factor, count = (kinds.several(read) if several else read for read in (kinds.as_factor, kinds.as_count))
    more = "; several, e.g. 1.5,2,3: a network for each, in one run" if several else ""
    add("--speed-up", type=factor, metavar="X", help=f"X times fewer multiply-adds, e.g. 2{more}")
    add("--latency-speed-up", type=factor, metavar="X", help="X times fewer milliseconds, as timed")
    add("--target-params", type=count, metavar="N", help="parameters to leave, e.g. 1.2M, 900k")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Adds the limits of single layers."""
    add = parser.add_argument_group("limits of single layers").add_argument
    step = f"keep multiples of N channels in each layer, or all (default: {DEFAULT_ROUND_TO})"
    add("--round-to", type=kinds.as_channels, metavar="N", help=step)
    add("--min-channels", type=kinds.as_channels, metavar="N", help="keep at least N channels in each layer, or all")
    add("--max-ratio-per-layer", type=kinds.as_share, metavar="R", help="remove at most the share R of each layer")
    pattern = "layers that match, e.g. model.22 or 'model.*.cv1'; may be repeated"
    add(
        "--ignore",
        action="append",
        type=kinds.as_pattern,
        metavar="PATTERN",
        help=f"keep all channels of {pattern}",
    )
    add("--ratio", action="append", type=kinds.as_pattern_ratio, metavar="PATTERN=R", help=f"remove R of {pattern}")


def add_latency(parser: argparse.ArgumentParser, target: str = "latency_speed_up", *, at_the_end: bool = True) -> None:
    """Adds by what a network is timed, for the target of that name and at the end.

    Args:
        parser: The stage's options.
        target: Name of the option that asks for milliseconds.
        at_the_end: Whether the stage times its product.
    """
    option = f"--{target.replace('_', '-')}"
    add = parser.add_argument_group("timing" if at_the_end else f"timing of {option}").add_argument
    ends = f"; where that is missing, or no ONNX is wanted, the end is timed by {RUNTIMES[1]}" if at_the_end else ""
    add("--runtime", choices=RUNTIMES, help=f"what runs the network (default: {RUNTIMES[0]}{ends})")
    add("--threads", type=kinds.as_threads, metavar="N", help="of the CPU (default: all cores)")
    table = f"timings of another machine, by latency_table.py, for {option}"
    add("--latency-table", type=kinds.as_source, metavar="FILE", help=table)
    if at_the_end:
        add("--no-timing", dest="timing", action="store_false", help="do not time the network before and after")


def latency(options: argparse.Namespace, imgsz: int, target: str = "latency_speed_up") -> Latency | None:
    """Returns the target in milliseconds, if it was given.

    Args:
        options: Of the command line.
        imgsz: Side of the image in pixels.
        target: Name of the option that gives it.

    Raises:
        PruningError: If options contradict each other, or the runtime does not run.
    """
    check_timing(options, target)
    speed_up = getattr(options, target)
    if speed_up is None:
        return None
    if options.latency_table:
        return Latency(speed_up, None, imgsz, table=places.located(options.latency_table))
    return Latency(speed_up, runtime(options, options.runtime or RUNTIMES[0], cores()), imgsz)


def check_timing(options: argparse.Namespace, target: str = "latency_speed_up") -> None:
    """Refuses options that say how to time where nothing is timed.

    Raises:
        PruningError: If there are any.
    """
    said, option = [f"--{name.replace('_', '-')}" for name in chosen(options, LATENCY)], f"--{target.replace('_', '-')}"
    if getattr(options, target) is not None:
        if options.latency_table and len(said) > 1:
            raise PruningError(f"--latency-table was timed elsewhere: leave out {said[0]}")
    elif options.latency_table or (said and not hasattr(options, "timing")):
        raise PruningError(f"{'--latency-table' if options.latency_table else said[0]} is read for {option} only")
    elif said and not options.timing:
        raise PruningError(f"{said[0]} is read for a timing only, and --no-timing leaves that out")


def timing(options: argparse.Namespace, *, onnx: bool = True) -> Callable[[], Runtime] | None:
    """Returns what makes the runtime that times a network before and after its cut; None if nothing is to be timed.

    Args:
        options: Of the stage.
        onnx: Whether the network is wanted as an ONNX.

    Raises:
        PruningError: If options contradict each other.
    """
    check_timing(options)
    if not options.timing or options.latency_table:  # with a table the machine that counts is another one
        return None
    at_hand = RUNTIMES[0] if onnx and all(map(packages.is_there, packages.ONNX)) else RUNTIMES[1]
    name = options.runtime or (RUNTIMES[0] if options.latency_speed_up else at_hand)
    return functools.partial(runtime, options, name, cores())  # counted now: a training may leave others


def runtime(options: argparse.Namespace, name: str, usual: int) -> Runtime:
    """Returns what times networks.

    Args:
        options: Of the stage, with the device.
        name: One of `RUNTIMES`.
        usual: Threads, where the options do not say how many.

    Raises:
        PruningError: If it does not run here.
    """
    device = options.device.split(",")[0]
    if name == "onnxruntime":
        packages.need(packages.ONNX, "timing by onnxruntime")
    if name == "onnxruntime" and device != "cpu" and not runs_on_gpus():
        device = "cpu"  # as the line with the result says
    return Runtime(name, options.threads or usual, device)


def add_scoring(parser: argparse.ArgumentParser, criterion: str, batches: str = f"{Images.batches}") -> None:
    """Adds how channels are scored.

    Args:
        parser: The stage's options.
        criterion: The one that the stage takes without `--criterion`, in words.
        batches: How many batches a pass takes without `--batches`, in words.
    """
    add = parser.add_argument_group("how channels are scored").add_argument
    names = "; ".join(f"{name}: {entry.about}" for name, entry in CRITERIA.items())
    add("--criterion", choices=list(CRITERIA), help=f"{names} (default: {criterion})")
    usual = "lamp for lamp, mean for l1, l2, fpgm, group_norm, else none"
    add("--normalize", choices=list(NORMALIZERS), help=f"what makes layers comparable (default: {usual})")
    add("--per", choices=PER, help="divide the score by what a channel costs")
    add(
        "--batches",
        type=kinds.as_positive,
        metavar="N",
        help=f"training batches that a criterion which looks at images sees (default: {batches})",
    )
    add(
        "--recalibrate",
        type=kinds.as_positive,
        metavar="N",
        help="estimate batch-norm statistics anew, on N batches",
    )


def add_rounds(parser: argparse.ArgumentParser) -> None:
    """Adds what a cut without training does to lose less."""
    add = parser.add_argument_group("a cut in rounds").add_argument
    many = (
        f"choose in N rounds, and score anew in each (default: {DEFAULT_ROUNDS} where the checkpoint decides, else 1)"
    )
    add("--rounds", type=kinds.as_positive, metavar="N", help=many)
    fit = "fit the layers that stay to the original's, on images of --data, behind each round; no labels"
    add("--refit", action=argparse.BooleanOptionalAction, help=f"{fit} (default: where the checkpoint decides)")


def training_images(options: argparse.Namespace, data: str, imgsz: int, batches: int) -> Images:
    """Returns the training images that the options mean."""
    others = {key: value for key, value in options.settings.items() if key != "batch"}
    batch = options.settings.get("batch", Images.batch)
    return Images(data, batches, batch, imgsz, options.device.split(",")[0], tuple(others.items()))


def statistics(options: argparse.Namespace, data: str | None, imgsz: int) -> Images | None:
    """Returns the images for `--recalibrate`, if it was given.

    Raises:
        PruningError: If there is no data set.
    """
    if not options.recalibrate:
        return None
    if not data:
        raise PruningError("--recalibrate needs training images: name them with --data")
    return training_images(options, data, imgsz, options.recalibrate)
