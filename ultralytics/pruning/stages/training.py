"""The three training stages: normal, sparsity, fine-tuning."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import packages
from ..checkpoints import checkpoint
from ..command_line import kinds
from ..command_line.entry import Parser
from ..command_line.settings import check_settings
from ..cost import cost_of
from ..data.sets import check_usable, names_in, resolve_data
from ..errors import PruningError, first_line
from ..files import places
from ..files.locks import alone_in
from ..files.places import located, run_folder, shown, write_folder
from ..gammas import prunable_values
from ..inputs.model_yamls import build, is_model_yaml, model_yaml
from ..networks.keeping import check_classes
from ..networks.rebuild import is_pruned, refusal
from ..passes.accuracy import accuracy, titles_of, what_counts
from ..plans.tables import deployed_note
from ..release import check_side
from ..report import pixels, say, table
from ..runs.folders import forget_replaced, interrupted_run, is_whole, kept_runs, put_back, recover, set_aside
from ..runs.following import Origin, say_next
from ..runs.interruption import saved_training
from ..runs.stale import older_products
from ..tracing.trace import trace
from .sparsity import Trained, check_target, prune_options, sparsity_settings

SAID_OF_SETTINGS = (ValueError, RuntimeError, TypeError, AssertionError, LookupError, ImportError)  # by the release
REFUSALS = (subprocess.CalledProcessError, PruningError)  # the first: of a process on another GPU, which has said why
CHANGED_BY_RELEASE = ("batch", "optimizer", "workers", "device", "amp")  # in the arguments of a run
OWN_OPTIONS = ("sparsity", "sr", "target_speed_up", "target_sparsity", "classes_from")


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


def training_parser(what: str, example: str, *, name: str, weights: str, epochs: int, batch: int = 48) -> Parser:
    """Returns the options that all training stages have."""
    parser = Parser(what, example)
    add = parser.add_argument
    data_sets = "data set: a yaml, or 'digits', which is made on first use"
    folder = "run folder under runs/; the next stage reads the default"
    add("--weights", type=kinds.network, default=weights, help="checkpoint to start from")
    add("--data", type=kinds.data_set, default="coco.yaml", help=data_sets)
    add("--epochs", type=kinds.positive, default=epochs, help="passes over the training images")
    add("--batch", type=kinds.positive, default=batch, help="images per step")
    add("--imgsz", type=kinds.side, default=640, help="side of the training images in pixels")
    add("--name", type=kinds.run_name, default=name, help=folder)
    add("--overwrite", action="store_true", help="replace the run of that name")
    add("--resume", action="store_true", help="go on with an interrupted run of that name")
    return parser


def train(stage: Stage, options: argparse.Namespace) -> None:
    """Runs a training stage.

    Raises:
        PruningError: If it cannot start; nothing is written then.
    """
    from ultralytics.models import YOLO

    folder = run_folder(options.name)
    with alone_in(folder):
        recover(folder, ended=is_whole)
        resume = f"{shlex.join(options.command.split()[:2])} --name {shlex.quote(options.name)} --resume"
        resume += f" --device {options.device}" if "--device" in options.command.split() else ""
        begun = time.time()
        options.saved = lambda: saved_training(folder, 0 if options.resume else begun, options.command, resume)
        if options.resume:
            if options.overwrite:
                raise PruningError("--resume goes on with a run, --overwrite replaces it: leave out one of both")
            last = interrupted_run(folder)
            check_resumed(options, checkpoint.load(last)[1]["train_args"])
            say(f"Going on with {shown(last)}, at the settings of that run")
            YOLO(last).train(resume=True, device=options.device)
        else:
            weights, settings = what_to_train(stage, options)
            if any(weights.resolve().is_relative_to(place.resolve()) for place in (folder, *kept_runs(folder))):
                raise PruningError(f"'{weights}' lies in the run that would be overwritten; choose another --name")
            write_folder(places.RUNS)
            begin(weights, settings, folder, replaced=set_aside(folder, overwrite=options.overwrite))
        forget_replaced(folder)
    text, final = summary(folder)
    say(text)
    for product in (old for stem in ("best", "last") for old in older_products(folder / "weights" / f"{stem}.pt")):
        say(f"{shown(product)} was exported before the training went on: export it anew, or remove it")
    last = folder / "weights" / "last.pt"
    say()
    more, why = prune_options(final) if stage.sparsity else ((), "")
    if why:
        say(why)
    best = last if stage.sparsity or not last.with_name("best.pt").is_file() else last.with_name("best.pt")
    say_next(stage.next_scripts, Origin.of(best, final.content["train_args"], name=options.name), more)


def check_resumed(options: argparse.Namespace, earlier: dict[str, Any]) -> None:
    """Refuses what contradicts the run that goes on: it would be ignored.

    Args:
        options: The options.
        earlier: The training arguments of that run.

    Raises:
        PruningError: If an option or a setting says otherwise.
    """
    names = ("epochs", "imgsz", *OWN_OPTIONS)  # the release may have made the batch smaller
    asked = {name: getattr(options, name, None) for name in names if name in getattr(options, "said", ())}
    asked |= {name: value for name, value in options.settings.items() if name not in CHANGED_BY_RELEASE}
    for name, value in asked.items():
        if name in earlier and str(earlier[name]).strip("[]()") != str(value).strip("[]()"):
            raise PruningError(
                f"{name}={value}, but the run was begun with {earlier[name]}: --resume goes on with that"
            )


def what_to_train(stage: Stage, options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Returns the checkpoint to start from and the training arguments.

    Raises:
        PruningError: If one contradicts the other, or the stage.
    """
    from ultralytics.cfg import QUANTIZE_ALIASES
    from ultralytics.nn.tasks import guess_model_task

    settings = {"epochs": options.epochs, "batch": options.batch, "imgsz": options.imgsz, **stage.settings}
    settings |= {name: value for name in OWN_OPTIONS if (value := getattr(options, name, None)) is not None}
    settings |= {"device": options.device, **options.settings}
    check_settings(settings)
    if stage.sparsity:
        settings |= sparsity_settings(settings)
    checkpoint.check_others(settings)
    if QUANTIZE_ALIASES.get(str(settings.get("quantize")).lower()) == 8:
        packages.need(packages.QUANTIZED_TRAINING, "quantize=8")
    if "," in str(settings["device"]):
        packages.need(("cloudpickle",), f"--device {settings['device']}")
    weights = find_weights(options.weights, stage)
    classes, kept, network = None, None, None
    if is_model_yaml(weights.name):
        task = guess_model_task(model_yaml(str(weights), "--weights"))
        check_side(
            settings["imgsz"], argparse.Namespace(task=task, stride=[32])
        )  # or more, which the release rounds to
    else:
        network, content = checkpoint.load(weights)
        task = network.task
        check_side(settings["imgsz"], network)
        if stage.keeps_network:
            kept = network.yaml
            if checkpoint.counts_as_one(settings, content):
                settings["single_cls"] = True
            adopts = settings.get("single_cls") or settings.get("classes_from") == "data"
            classes = None if adopts else len(network.names)
            if is_pruned(network):  # a second round keeps the widths of the first
                settings["finetune"] = True
        elif is_pruned(network) and not settings.get("finetune"):
            raise PruningError(f"'{weights}' {refusal(network)}; train it with finetune=True")
        if stage.sparsity:
            check_target(network, settings)
    settings["data"] = resolve_data(settings.get("data", options.data), classes=classes, to_train=True, task=task)
    check_usable(settings["data"], ("train", "val"), task, kept)
    if network is not None and settings.get("finetune") and not settings.get("single_cls"):
        adopt, by_name = settings.get("classes_from") == "data", settings.get("cls_remap") is not False
        check_classes(network, names_in(settings["data"], task), adopt=adopt, by_name=by_name)
    return weights, settings


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
        in_one_line = isinstance(error, REFUSALS)
        if not (folder / "weights" / "last.pt").is_file():  # refused before the first epoch was done
            put_back(folder, replaced)
            in_one_line |= isinstance(error, SAID_OF_SETTINGS)
        if in_one_line and not isinstance(error, PruningError):
            missing = packages.missing_by(error) if isinstance(error, ModuleNotFoundError) else None
            raise PruningError(missing or first_line(error)) from error
        raise


def find_weights(weights: str, stage: Stage) -> Path:
    """Returns the checkpoint or yaml to start from; an official checkpoint is downloaded where the network allows.

    Raises:
        PruningError: If it is not there.
    """
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

    path = Path(weights)
    if is_model_yaml(weights):
        if not stage.from_yaml:
            raise PruningError(f"--weights {weights}: this stage trains the network of a .pt, not a yaml")
        build(weights, "--weights")
        return path  # as given: the release reads the scale (n, s, m, l, x) off the name
    path = located(path)
    if not path.is_file() and stage.from_yaml and path.name in GITHUB_ASSETS_NAMES:
        write_folder(path.parent)
        try:
            attempt_download_asset(path)
        except Exception as error:  # whatever the download raises
            path.unlink(missing_ok=True)
            raise PruningError(
                f"'{shown(path)}' is not there and could not be downloaded; put it there, "
                f"or start from random weights with --weights {path.stem}.yaml"
            ) from error
    if not path.is_file():
        raise PruningError(
            f"'{shown(path)}' is not there; run the stage before this one, or name another with --weights"
        )
    return path


def summary(folder: Path) -> tuple[str, Trained]:
    """Returns the table at the end of a training stage, both checkpoints' size, accuracy and gammas, and `last.pt`."""
    rows, notes = [], set()
    for file in ("best.pt", "last.pt"):
        path = folder / "weights" / file
        if file == "best.pt" and not path.is_file():
            continue
        model, content = checkpoint.load(path)
        imgsz = checkpoint.image_size(content)
        channel_map = trace(model, imgsz=imgsz)
        cost = cost_of(channel_map)
        score = accuracy(content.get("train_metrics") or {}, model.task)
        what = titles_of(model.task)[what_counts(model.task)]
        gammas = prunable_values(channel_map, model)
        rows.append(
            (
                shown(path),
                f"{cost.deployed:,}",
                f"{cost.gflops:.2f}",
                "-" if score is None else f"{score:.4f}",
                f"{np.mean(gammas < 1e-2):.1%}",
                f"{np.mean(gammas < 1e-3):.1%}",
            )
        )
        notes.add(deployed_note(cost))
    titles = ("checkpoint", "parameters", f"GFLOPs at {pixels(imgsz)} px", what, "|gamma| < 1e-2", "|gamma| < 1e-3")
    return "\n" + table(titles, rows) + "".join(sorted(notes)), Trained(model, content, channel_map)
