"""The three training stages: normal, sparsity, fine-tuning."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import packages
from ..checkpoints import checkpoint
from ..command_line import kinds, own_labels
from ..command_line.entry import Parser
from ..command_line.settings import check_settings
from ..data.sets import DEFAULT, check_usable, names_in, resolve_data
from ..data.some_classes import resolve_for
from ..errors import PruningError, first_line
from ..files import places
from ..files.locks import alone_in
from ..files.places import run_folder, shown, write_folder
from ..inputs.model_yamls import is_model_yaml, model_yaml
from ..networks.keeping import check_classes
from ..networks.rebuild import is_pruned, refusal
from ..release import check_side
from ..report import say
from ..runs.folders import forget_replaced, interrupted_run, is_whole, kept_runs, put_back, recover, set_aside
from ..runs.following import Origin, say_next
from ..runs.interruption import saved_training
from ..runs.same import check_same, check_same_data, check_same_weights
from ..runs.stale import older_products
from ..sparsity import TARGET_ARGUMENTS
from .sparsity import check_target, latency_of, prune_options, sparsity_settings
from .summary import training_summary
from .weights import find_weights, follow_training

SAID_OF_SETTINGS = (ValueError, RuntimeError, TypeError, AssertionError, LookupError, ImportError)  # by the release
ONE_LINE = (subprocess.CalledProcessError, PruningError)  # the first: of a process on another GPU, which has said why
BATCH = 16  # as the release has it
OWN_OPTIONS = ("sparsity", "sr", *TARGET_ARGUMENTS, "latency_table", "classes_from")


@dataclass(frozen=True)
class Stage:
    """A training stage.

    Attributes:
        name: Its run folder under `runs/`.
        settings: Settings of Ultralytics that make it this stage; `key=value` words can change them.
        next_scripts: What to run afterwards.
        keeps_network: Whether it trains the loaded network on, with its classes, and its widths if it is pruned.
        from_yaml: Whether `--weights` may be a model yaml.
        sparsity: Whether it makes channels fade.
    """

    name: str
    settings: dict[str, Any]
    next_scripts: tuple[str, ...]
    keeps_network: bool = True
    from_yaml: bool = False
    sparsity: bool = False


def training_parser(
    what: str, example: str, *, name: str, weights: str, epochs: int, from_yaml: bool = False
) -> Parser:
    """Returns the options that all training stages have; from a yaml, there was no training before."""
    parser = Parser(what, example)
    add = parser.add_argument
    data_sets = "data set: a yaml, or 'digits', which is made on first use"
    folder = "run folder under runs/; the next stage reads the default"
    data, side, otherwise = (DEFAULT, 640, "") if from_yaml else (None, None, "; that of the training before if empty")
    add("--weights", type=kinds.as_network, default=weights, help="checkpoint to start from")
    add("--data", type=kinds.as_data_set, default=data, help=f"{data_sets}{otherwise}")
    add("--epochs", type=kinds.as_positive, default=epochs, help="passes over the training images")
    add("--batch", type=kinds.as_positive, default=BATCH, help="images per step")
    add("--imgsz", type=kinds.as_side, default=side, help=f"side of the images in pixels{otherwise}")
    add("--name", type=kinds.as_run_name, default=name, help=folder)
    add("--overwrite", action="store_true", help="replace the run of that name")
    add("--resume", action="store_true", help="go on with an interrupted run of that name")
    return parser


def train_stage(stage: Stage, options: argparse.Namespace) -> None:
    """Runs a training stage.

    Raises:
        PruningError: If it cannot start; nothing is written then.
    """
    folder = run_folder(options.name)
    with alone_in(folder):
        recover(folder, ended=is_whole)
        typed = shlex.split(options.command)
        resume = f"{shlex.join(typed[:2])} --name {shlex.quote(options.name)} --resume"
        resume += f" --device {options.device}" if "--device" in typed else ""
        begun = time.time()
        options.saved = lambda: saved_training(folder, 0 if options.resume else begun, options.command, resume)
        if options.resume:
            go_on(options, folder)
        else:
            weights, settings = what_to_train(stage, options)
            if any(weights.resolve().is_relative_to(place.resolve()) for place in (folder, *kept_runs(folder))):
                raise PruningError(f"'{weights}' lies in the run that would be overwritten; choose another --name")
            write_folder(places.RUNS)
            begin(weights, settings, folder, replaced=set_aside(folder, overwrite=options.overwrite))
        forget_replaced(folder)
    say_result(stage, folder, options.name)


def say_result(stage: Stage, folder: Path, name: str) -> None:
    """Prints what a training came to, which of its products are out of date, and what to run next.

    Args:
        stage: The stage.
        folder: The run's.
        name: The run's, as `--name` says it.
    """
    text, final = training_summary(folder, with_start=bool(stage.settings.get("finetune")))
    say(text)
    weights = folder / "weights"
    for product in (old for stem in ("best", "last") for old in older_products(weights / f"{stem}.pt")):
        say(f"{shown(product)} was exported before the training went on: export it again, or remove it")
    say()
    more, why = prune_options(final) if stage.sparsity else ((), "")
    if why:
        say(why)
    reads_last = stage.sparsity or not (weights / "best.pt").is_file()
    result = weights / ("last.pt" if reads_last else "best.pt")
    say_next(stage.next_scripts, Origin.of(result, final.content["train_args"], name=name), more)


def go_on(options: argparse.Namespace, folder: Path) -> None:
    """Goes on with the interrupted training of a folder.

    Raises:
        PruningError: If there is none, or the options say otherwise.
    """
    from ultralytics.models import YOLO

    if options.overwrite:
        raise PruningError("--resume goes on with a run, --overwrite replaces it: leave out one of both")
    last = interrupted_run(folder)
    network, content = checkpoint.load(last)
    check_same(options, content["train_args"], ("epochs", "imgsz", *OWN_OPTIONS))
    check_same_weights(options, content["train_args"], folder)
    check_same_data(options, network, content["train_args"], folder)
    say(f"Going on with {shown(last)}, at the settings of that run")
    YOLO(last).train(resume=True, device=options.device)


def what_to_train(stage: Stage, options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Returns the checkpoint to start from and the training arguments.

    Raises:
        PruningError: If one contradicts the other, or the stage.
    """
    from ultralytics.nn.tasks import guess_model_task

    settings = training_settings(stage, options)
    weights = find_weights(options.weights, from_yaml=stage.from_yaml)
    network, content = (None, {}) if is_model_yaml(weights.name) else checkpoint.load(weights)
    task = guess_model_task(model_yaml(str(weights), "--weights")) if network is None else network.task
    follow_training(options, content, task)
    settings = {"imgsz": options.imgsz, **settings}
    if network is None:
        # or a larger stride, to whose multiple the release rounds the side
        check_side(settings["imgsz"], argparse.Namespace(task=task, stride=[32]))
    else:
        check_side(settings["imgsz"], network)
        follow_network(stage, weights, network, content, settings)

    kept = network if stage.keeps_network else None
    if kept is not None:
        own_labels.label(options, kept, weights, settings["imgsz"], needed=("train", "val"), original=True)
    settings["data"] = training_data(settings, options.data, task, kept)
    if stage.sparsity:  # behind all other checks: it may time layers
        check_target(network, settings, latency_of(options, settings["imgsz"]))
    if network is not None and settings.get("finetune") and not settings.get("single_cls"):
        adopt, by_name = settings.get("classes_from") == "data", settings.get("cls_remap") is not False
        check_classes(network, names_in(settings["data"], task), adopt=adopt, by_name=by_name)
    return weights, settings


def training_settings(stage: Stage, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the training arguments that the stage and the options say, checked; no checkpoint is read yet.

    Raises:
        PruningError: If one is refused, or needs what is not installed.
    """
    from ultralytics.cfg import QUANTIZE_ALIASES

    settings = {"epochs": options.epochs, "batch": options.batch, **stage.settings}
    settings |= {name: value for name in ("imgsz", *OWN_OPTIONS) if (value := getattr(options, name, None)) is not None}
    settings |= {"device": options.device, **options.settings}
    check_settings(settings)
    if stage.sparsity:
        side = settings.get("imgsz", 640)  # or that of the checkpoint, and here it does not count
        settings |= sparsity_settings(settings, latency_of(options, side))
    checkpoint.check_others(settings)
    if QUANTIZE_ALIASES.get(str(settings.get("quantize")).lower()) == 8:
        packages.need(packages.QUANTIZED_TRAINING, "quantize=8")
    if "," in str(settings["device"]):
        packages.need(("cloudpickle",), f"--device {settings['device']}")
    return settings


def follow_network(
    stage: Stage, weights: Path, network: Any, content: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Completes training arguments, in place, by what the network needs that is trained on.

    Args:
        stage: The stage.
        weights: The network's checkpoint.
        network: The network.
        content: What else the checkpoint holds.
        settings: The training arguments.

    Raises:
        PruningError: If the stage would rebuild a pruned network.
    """
    if stage.keeps_network:
        if checkpoint.counts_as_one(settings, content):
            settings["single_cls"] = True
        if is_pruned(network):  # a second round keeps the widths of the first
            settings["finetune"] = True
    elif is_pruned(network) and not settings.get("finetune"):
        raise PruningError(f"'{weights}' {refusal(network)}; train it with finetune=True")


def training_data(settings: dict[str, Any], data: str, task: str, kept: Any) -> str:
    """Returns the path of the data set's yaml, or the folder of classified images.

    Args:
        settings: The training arguments.
        data: The data set, where they name none.
        task: What the network does.
        kept: The network whose classes the data set must have, unless it is to give them; None: any data set will do.

    Raises:
        PruningError: If it is not there, or not of this network.
    """
    adopts = settings.get("single_cls") or settings.get("classes_from") == "data"
    classes = None if kept is None or adopts else len(kept.names)
    named = settings.get("data", data)
    if kept is None:
        found = resolve_data(named, classes=classes, to_train=True, task=task)
    else:
        found = resolve_for(kept, named, classes=classes, to_train=True)
    check_usable(found, ("train", "val"), task, None if kept is None else kept.yaml)
    return found


def begin(weights: Path, settings: dict[str, Any], folder: Path, *, replaced: Path) -> None:
    """Trains from the first epoch on.

    Args:
        weights: The checkpoint to start from, or a model yaml.
        settings: Training arguments.
        folder: The run's.
        replaced: The run that was there before; it comes back if the new one is refused.

    Raises:
        PruningError: If the trainer refuses.
    """
    from ultralytics.models import YOLO

    try:
        YOLO(weights).train(project=str(folder.parent), name=folder.name, exist_ok=True, **settings)
    except BaseException as error:
        in_one_line = isinstance(error, ONE_LINE)
        if not (folder / "weights" / "last.pt").is_file():  # refused before the first epoch was done
            put_back(folder, replaced)
            in_one_line |= isinstance(error, SAID_OF_SETTINGS)
        if in_one_line and not isinstance(error, PruningError):
            missing = packages.missing_by(error) if isinstance(error, ModuleNotFoundError) else None
            raise PruningError(missing or first_line(error)) from error
        raise
