"""From the options of `compress.py` to a recipe."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import packages
from ..checkpoints import checkpoint
from ..command_line import options as shared
from ..command_line import own_labels
from ..compression.folder import compress
from ..compression.recipe import Recipe, images_of
from ..criteria import CRITERIA, ON_IMAGES
from ..criteria.scoring import Scoring
from ..data.sets import data_set_digest
from ..data.some_classes import data_for
from ..errors import PruningError
from ..files import places
from ..files.places import located, run_folder, shown
from ..latency import Latency
from ..networks.rebuild import is_pruned
from ..passes.gates import passes_over
from ..passes.images import Images
from ..release import check_side
from ..report import say
from ..runs.folders import visible
from ..selection.reach import check_reach
from ..selection.targets import KINDS, Target
from ..sparsity.erasing import erasable
from ..tracing.trace import trace
from .compress_options import DEFAULT_CRITERION, decided, halfway_of, parser, rules_for
from .sweep import combinations_of, read_grid, sweep
from .weights import follow_training

OF_STEPS = ("steps", "epochs_per_step")  # what just the schemes with several trainings read


def compress_stage(options: argparse.Namespace) -> None:
    """Compresses `options.weights`, or goes on with it, or does so for each combination of a sweep.

    Raises:
        PruningError: If something that the user gave is wrong; nothing is written then.
    """
    if options.sweep:
        sweep_stage(options)
        return
    if options.at_once > 1:
        raise PruningError("--workers goes with --sweep: a single compression is one process")
    recipe, folder = prepared(options)
    compress(recipe, folder, overwrite=options.overwrite, runtime=shared.timing(options))


def sweep_stage(options: argparse.Namespace) -> None:
    """Compresses `options.weights` for each combination of a sweep.

    Raises:
        PruningError: If a combination is wrong; none is started then.
    """
    folder = run_folder(options.name)
    if any(not (name.endswith(".log") or name.startswith("sweep.")) for name in visible(folder)):
        raise PruningError(f"'{shown(folder)}' holds something other than a sweep; choose another --name")
    if options.at_once > 1:
        packages.need(("ray",), f"--workers {options.at_once}")
    on_gpus = options.at_once > 1 and options.device != "cpu"
    alone = ["--no-timing"] if options.at_once > 1 and options.timing else []  # beside others nothing is timed well
    words = [*options.words, *alone]
    combinations = combinations_of(read_grid(options.sweep), words, folder, on_gpus=on_gpus, paths=leading(options))
    for combination in combinations:  # all of them, before the first one begins
        asked = parser().parse_intermixed_args(list(combination.words))
        assert not asked.sweep
        if any(isinstance(getattr(asked, name), list) for name in KINDS):
            raise PruningError("--sweep makes a compression for each combination: give the target one number")
        asked.settings, asked.device, asked.overwrite = options.settings, options.device, False
        recipe_of(asked)
    sweep(combinations, folder, options.at_once)


def leading(options: argparse.Namespace) -> dict[str, str]:
    """Returns where the options and settings lead that name files, as words of a command line."""
    found = {"--weights": places.source(options.weights)}
    if options.data:
        found["--data"] = places.data_set(options.data)
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
    weights = located(options.weights)
    model, content = checkpoint.load(weights)
    checkpoint.check_others(options.settings)
    if checkpoint.counts_as_one(options.settings, content):
        options.settings["single_cls"] = True
    follow_training(options, content, model.task)
    check_side(options.imgsz, model)
    milder = milder_of(options)
    latency = latency_of(options)
    target = Target.one_of(**{name: getattr(options, name) for name in KINDS})
    for value in milder:
        target.kind.check(value)
    scheme = scheme_of(options, target)

    own_labels.label(options, model, weights, options.imgsz, needed=("train", "val"))
    data = data_of(options, model)
    check_read(options, scheme)
    if is_pruned(model) and scheme == "steered":
        say("The network is pruned already: its widths are kept, and less is left to remove")
    teacher = options.teacher and can_be_taught(model)
    training = training_of(options, model)
    images = images_of(training, data, options.batches or Images.batches)
    targets = [*(replace(target, value=each) for each in milder), target]
    rules = rules_for(options, scheme, targets, model)
    *milder_limits, limits = (each.limits for each in rules)

    recipe = Recipe(
        weights=str(weights.resolve()),
        sha256=checkpoint.sha256(weights),
        images=images,
        target=target,
        milder=milder,
        milder_limits=() if all(each == limits for each in milder_limits) else tuple(milder_limits),
        scheme=scheme,
        steps=options.steps or Recipe.steps,
        epochs_per_step=options.epochs_per_step or Recipe.epochs_per_step,
        epochs=options.epochs,
        halfway=0 if milder or options.latency_table else halfway_of(options.epochs, target, rules[-1]),
        max_map_drop=options.max_map_drop,
        scoring=scoring_of(options, scheme, images),
        recalibrate=options.recalibrate or (Recipe.recalibrate if scheme == "stepwise" else 0),
        limits=limits,
        latency=latency,
        teacher=teacher,
        training=training,
        data_digest=data_set_digest(data, model.task),
        table_sha256=sha256_of_table(latency),
    )
    check_feasible(recipe, model)
    return recipe


def milder_of(options: argparse.Namespace) -> tuple[float, ...]:
    """Returns the numbers of a target that has several but the hardest, the mildest first; that is left in the options.

    Raises:
        PruningError: If a table from elsewhere is to time what only a ladder cuts.
    """
    several = [name for name in KINDS if isinstance(getattr(options, name), list)]
    if not several:
        return ()
    (name,) = several  # argparse takes one target
    counts_what_is_left = KINDS[name].nothing is None
    *milder, hardest = sorted(getattr(options, name), reverse=counts_what_is_left)
    setattr(options, name, hardest)
    if options.latency_table:
        raise PruningError("--latency-table has no layers of the networks between several targets: give one number")
    if KINDS[name].nothing in milder:
        raise PruningError(f"{KINDS[name].option} {KINDS[name].nothing:g} removes nothing")
    return tuple(milder)


def latency_of(options: argparse.Namespace) -> Latency | None:
    """Returns the target in milliseconds, if it was given, with the whole path of its table."""
    latency = shared.latency(options, options.imgsz)
    return replace(latency, table=latency.table.resolve()) if latency and latency.table else latency


def sha256_of_table(latency: Latency | None) -> str:
    """Returns the SHA-256 of the table of latencies; empty if there is none."""
    table = latency.table if latency else None
    return checkpoint.sha256(table) if table and table.is_file() else ""


def read_by_stepwise(options: argparse.Namespace) -> list[str]:
    """Returns the options among the given ones that the steered scheme does not read."""
    return [name for name in shared.chosen(options, (*shared.SCORING, *shared.LIMITS)) if name != "round_to"]


def scheme_of(options: argparse.Namespace, target: Target) -> str:
    """Returns the scheme: that of `--scheme`, else the one-shot one, unless options say that another one is meant."""
    if options.scheme:
        return options.scheme
    if not shared.chosen(options, OF_STEPS):
        return "one-shot"
    return "stepwise" if read_by_stepwise(options) or not target.kind.argument else "steered"


def data_of(options: argparse.Namespace, model: Any) -> str:
    """Returns the path of the data set's yaml, which is one that the network can be trained on.

    Raises:
        PruningError: If it is not there, or not of this network.
    """
    classes = None if options.settings.get("single_cls") else len(model.names)
    return data_for(model, options.data, classes=classes, to_train=True)


def check_read(options: argparse.Namespace, scheme: str) -> None:
    """Refuses options that the scheme would not read.

    Raises:
        PruningError: If there are any.
    """
    if scheme == "one-shot" and (steps := shared.chosen(options, OF_STEPS)):
        raise PruningError(
            f"--{steps[0].replace('_', '-')} is read by --scheme steered and stepwise; one-shot cuts once"
        )
    unread = read_by_stepwise(options)
    if unread and scheme == "steered":
        option = f"--{unread[0].replace('_', '-')}"
        raise PruningError(f"{option} needs --scheme stepwise; the steered one scores by gradients")
    by_default = "group_fisher" if scheme == "one-shot" else DEFAULT_CRITERION
    looks = scheme != "steered" and CRITERIA[options.criterion or by_default].needs in ON_IMAGES
    if "batches" in getattr(options, "said", ()) and not looks:
        raise PruningError("--batches is read for criteria that look at images only, by --scheme one-shot or stepwise")


def can_be_taught(model: Any) -> bool:
    """Whether the release can train a network by a teacher; says so if not."""
    from ultralytics.nn.modules import Detect

    if any(isinstance(module, Detect) for module in model.modules()):
        return True
    say("The release teaches networks with a Detect head only: training without a teacher")
    return False


def training_of(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Returns the arguments of all trainings.

    Raises:
        PruningError: If a setting is not the user's to choose.
    """
    if swallowed := [key for key in options.settings if decided(key)]:
        raise PruningError(f"{swallowed[0]}= cannot be set here: compress.py decides it, or has an option for it")
    given = {"imgsz": options.imgsz, "batch": options.batch, "device": options.device}
    return {**given, **({"finetune": True} if is_pruned(model) else {}), **options.settings}


def scoring_of(options: argparse.Namespace, scheme: str, images: Images) -> Scoring | None:
    """Returns how the schemes that cut without fading score channels; None: as the network asks for.

    Raises:
        PruningError: If the options for it contradict each other.
    """
    if scheme == "one-shot" and not shared.chosen(options, ("criterion", "normalize", "per")):
        return None
    return Scoring(options.criterion or DEFAULT_CRITERION, options.normalize, options.per, **passes_over(images))


def check_feasible(recipe: Recipe, model: Any) -> None:
    """Refuses a target that pinned channels, floors and rounding keep out of reach, whatever the scores.

    Raises:
        PruningError: If it is; it says what is the most that can be had. If a table of latencies is not of this
            network.
    """
    target, latency = recipe.target, recipe.latency
    if target.kind.timed and recipe.scheme == "stepwise" and not (latency and latency.table):  # timed step by step
        return
    channel_map = trace(model, imgsz=recipe.training["imgsz"])
    cost = latency.model(model, channel_map, recipe.limits.round_to) if latency else None
    eligible = np.ones(len(channel_map.channels), dtype=bool)
    if recipe.scheme == "steered":
        for parameter in model.parameters():
            parameter.requires_grad_(True)  # as in the training, and not in a checkpoint
        eligible = erasable(channel_map, model)
    check_reach(channel_map, eligible, target, recipe.limits, target.kind.option, cost)
