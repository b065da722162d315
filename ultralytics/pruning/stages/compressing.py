"""From the options of `compress.py` to a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .. import packages
from ..checkpoints import checkpoint
from ..command_line import kinds
from ..command_line import options as shared
from ..command_line.entry import Parser
from ..command_line.options import DEFAULT_BATCHES
from ..command_line.settings import training_keys
from ..compression.recipe import SCHEMES, Recipe
from ..compression.run import compress
from ..criteria import CRITERIA
from ..criteria.scoring import Scoring
from ..data.sets import check_usable, data_set_digest, names_in, resolve_data
from ..errors import PruningError
from ..files import places
from ..files.places import located, run_folder, shown
from ..latency import Latency
from ..networks.keeping import check_order
from ..networks.rebuild import is_pruned
from ..release import check_side
from ..report import say
from ..runs.folders import visible
from ..selection.limits import DEFAULT_ROUND_TO
from ..selection.reach import check_reach
from ..selection.targets import KINDS, Target
from ..sparsity.erasing import erasable
from ..tracing.trace import trace
from .sweep import read_grid, sweep, trials_of

DEFAULT_CRITERION = "group_hessian"  # the best of docs/criteria.md
OURS = ("data", "epochs", "batch", "imgsz", "sparsity", "finetune", "distill_model", "round_to", "time", "classes_from")


def decided(key: str) -> bool:
    """Whether a setting of a training is not the user's: a compression decides it, or has an option for it."""
    return key in OURS or key.startswith(("sr", "target_"))


def parser() -> Parser:
    """Returns the options of `compress.py`."""
    found = Parser(
        "Compresses a trained network to a target and fine-tunes it. Stopped at any point, the same command goes on.",
        "python compress.py --data digits --imgsz 160 --batch 16 --speed-up 2 --epochs-per-step 5 --epochs 20",
        keys=frozenset(key for key in training_keys() if not decided(key)),
    )
    add = found.add_argument
    add("--weights", type=kinds.source, default="runs/train-norm/weights/best.pt", help="trained checkpoint")
    data = "data set: a yaml, or 'digits', which is made on first use"
    add("--data", type=kinds.data_set, default="coco.yaml", help=data)
    target = found.add_mutually_exclusive_group().add_argument
    target("--speed-up", type=kinds.factor, metavar="X", help="X times fewer multiply-adds, e.g. 2")
    target("--latency-speed-up", type=kinds.factor, metavar="X", help="X times fewer milliseconds, as timed")
    target("--target-params", type=kinds.count, metavar="N", help="parameters to leave, e.g. 1.2M, 900k")
    target("--prune-ratio", type=kinds.ratio, metavar="R", help="share of the prunable channels to remove")
    schemes = "; ".join(f"{name}: {about}" for name, about in SCHEMES.items())
    add("--scheme", choices=list(SCHEMES), help=f"{schemes} (default: steered, where it knows all options)")
    add(
        "--max-map-drop",
        type=kinds.share,
        metavar="D",
        help="keep nothing that is more than D below the original",
    )
    add("--steps", type=kinds.positive, default=4, help="cuts of the stepwise scheme")
    add(
        "--epochs-per-step",
        type=kinds.positive,
        default=10,
        help="epochs after each; steered: steps x these in one",
    )
    add("--epochs", type=kinds.positive, default=100, help="epochs of the fine-tuning at the end")
    add("--batch", type=kinds.positive, default=48, help="images per step")
    add("--imgsz", type=kinds.side, default=640, help="side of the training images in pixels")
    add("--no-distill", dest="teacher", action="store_false", help="train without the original as a teacher")
    add("--name", type=kinds.run_name, default="compress", help="run folder under runs/")
    add("--overwrite", action="store_true", help="replace the run of that name; leave it out to go on")
    several = "all combinations, e.g. ratio=0.2,0.4 criterion=slim,lamp: a compression for each"
    add("--sweep", nargs="+", metavar="KEY=A,B", help=several)
    # Not `workers`, which as a setting, `workers=`, is the release's: of the data loader.
    at_once = "compressions of a sweep at once, through Ray; a GPU each"
    add("--workers", dest="at_once", metavar="N", type=kinds.threads, default=1, help=at_once)
    shared.add_scoring(found, f"{DEFAULT_CRITERION}, for --scheme stepwise")
    shared.add_limits(found)
    shared.add_latency(found)
    return found


def compress_stage(options: argparse.Namespace) -> None:
    """Compresses `options.weights`, or goes on with it, or does so for each combination of a sweep.

    Raises:
        PruningError: If something that the user gave is wrong; nothing is written then.
    """
    if not options.sweep:
        if options.at_once > 1:
            raise PruningError("--workers goes with --sweep: a single compression is one process")
        recipe, folder = prepared(options)
        compress(recipe, folder, overwrite=options.overwrite)
        return
    folder = run_folder(options.name)
    if any(not (name.endswith(".log") or name.startswith("sweep.")) for name in visible(folder)):
        raise PruningError(f"'{shown(folder)}' holds something other than a sweep; choose another --name")
    if options.at_once > 1:
        packages.need(("ray",), f"--workers {options.at_once}")
    on_gpus = options.at_once > 1 and options.device != "cpu"
    trials = trials_of(read_grid(options.sweep), options.words, folder, on_gpus=on_gpus, paths=leading(options))
    for trial in trials:  # all of them, before the first one begins
        own = parser().parse_intermixed_args(list(trial.words))
        assert not own.sweep
        own.settings, own.device, own.overwrite = options.settings, options.device, False
        recipe_of(own)
    sweep(trials, folder, options.at_once)


def leading(options: argparse.Namespace) -> dict[str, str]:
    """Returns where the options and settings lead that name files, as words of a command line."""
    found = {"--weights": places.source(options.weights), "--data": places.data_set(options.data)}
    if options.latency_table:
        found["--latency-table"] = places.source(options.latency_table)
    for word in options.words:
        if word.startswith("cfg="):
            found["cfg="] = places.source(word.removeprefix("cfg="))
    if "pretrained" in options.settings:
        found["pretrained="] = str(options.settings["pretrained"])
    return found


def prepared(options: argparse.Namespace) -> tuple[Recipe, Path]:
    """Returns the recipe, and the folder, which is new or holds the beginning of this compression.

    Raises:
        PruningError: If the folder holds something else.
    """
    folder = run_folder(options.name)
    recipe = recipe_of(options)
    if Path(recipe.weights).is_relative_to(folder.resolve()):
        raise PruningError(f"'{options.weights}' lies in the run that would be written; choose another --name")
    ours = (folder / "state.json").is_file()
    if visible(folder) and not ours:
        raise PruningError(f"'{shown(folder)}' holds something other than a compression; choose another --name")
    if ours and not options.overwrite:
        say(f"Going on with {shown(folder)}")
    return recipe, folder


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Returns what the options ask for.

    Raises:
        PruningError: If they contradict each other, or name what is not there.
    """
    from ultralytics.nn.modules import Detect

    weights = located(options.weights)
    model, content = checkpoint.load(weights)
    checkpoint.check_others(options.settings)
    if checkpoint.counts_as_one(options.settings, content):
        options.settings["single_cls"] = True
    check_side(options.imgsz, model)
    classes = None if options.settings.get("single_cls") else len(model.names)
    latency = shared.latency(options, options.imgsz)
    target = Target.one_of(**{name: getattr(options, name) for name in KINDS})
    unread = [name for name in shared.given(options, (*shared.SCORING, *shared.LIMITS)) if name != "round_to"]
    scheme = options.scheme or ("stepwise" if unread or not target.kind.argument else "steered")
    data = resolve_data(options.data, classes=classes, to_train=True, task=model.task)
    if classes:
        check_order(model, names_in(data, model.task), options.data)
    check_usable(data, ("train", "val"), model.task, model.yaml)
    if unread and scheme == "steered":
        raise PruningError(
            f"--{unread[0].replace('_', '-')} needs --scheme stepwise; the steered one scores by gradients"
        )
    looks = scheme == "stepwise" and CRITERIA[options.criterion or DEFAULT_CRITERION].needs == "images"
    if "batches" in getattr(options, "said", ()) and not looks:
        raise PruningError("--batches is read for criteria that look at images only, by --scheme stepwise")
    if is_pruned(model) and scheme == "steered":
        say("The network is pruned already: its widths are kept, and less is left to remove")
    teacher = options.teacher and any(isinstance(module, Detect) for module in model.modules())
    if options.teacher and not teacher:
        say("The release teaches networks with a Detect head only: training without a teacher")
    if swallowed := [key for key in options.settings if decided(key)]:
        raise PruningError(f"{swallowed[0]}= cannot be set here: compress.py decides it, or has an option for it")
    Scoring(options.criterion or DEFAULT_CRITERION, options.normalize, options.per, lambda network: ())
    recipe = Recipe(
        weights=str(weights.resolve()),
        sha256=checkpoint.sha256(weights),
        data=data,
        target=target,
        scheme=scheme,
        steps=options.steps,
        epochs_per_step=options.epochs_per_step,
        epochs=options.epochs,
        max_map_drop=options.max_map_drop,
        criterion=options.criterion or DEFAULT_CRITERION,
        normalize=options.normalize,
        per=options.per,
        batches=options.batches,
        recalibrate=options.recalibrate or (0 if scheme == "steered" else DEFAULT_BATCHES),
        limits=shared.limits(options, round_to=DEFAULT_ROUND_TO),
        runtime=latency.runtime if latency else None,
        table=str(latency.table.resolve()) if latency and latency.table else None,
        table_sha256=checkpoint.sha256(latency.table) if latency and latency.table and latency.table.is_file() else "",
        data_digest=data_set_digest(data, model.task),
        teacher=teacher,
        training={
            "imgsz": options.imgsz,
            "batch": options.batch,
            "device": options.device,
            **({"finetune": True} if is_pruned(model) else {}),
            **options.settings,
        },
    )
    check_target(recipe, model)
    return recipe


def check_target(recipe: Recipe, model: Any) -> None:
    """Refuses a target that pinned channels, floors and rounding keep out of reach, whatever the scores.

    Raises:
        PruningError: If it is; it says what is the most that can be had. If a table of latencies is not of this
            network.
    """
    imgsz, in_time = recipe.training["imgsz"], recipe.target.kind.timed
    if in_time and not recipe.table:  # nothing is timed yet
        return
    channel_map = trace(model, imgsz=imgsz)
    latency = Latency(recipe.target.value, None, imgsz, Path(recipe.table)) if recipe.table else None
    cost = latency.model(model, channel_map, recipe.limits.round_to) if latency else None
    eligible = np.ones(len(channel_map.channels), dtype=bool)
    if recipe.scheme == "steered":
        for parameter in model.parameters():
            parameter.requires_grad_(True)  # as in the training, and not in a checkpoint
        eligible = erasable(channel_map, model)
    check_reach(channel_map, eligible, recipe.target, recipe.limits, recipe.target.kind.option, cost)
