"""From the options of `compress.py` to a recipe."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from .. import checkpoint
from .. import options as shared
from ..cutting import LIMITS
from ..errors import PruningError
from ..limits import DEFAULT_ROUND_TO, Limits
from ..options import DEFAULT_BATCHES
from ..rebuild import is_pruned
from ..stages import located, resolve_data, run_folder, say, shown
from ..targets import Target
from .recipe import Recipe
from .stage import compress

DEFAULT_CRITERION = "slim"
SCORING = ("criterion", "normalize", "per")


def compress_stage(options: argparse.Namespace) -> None:
    """Compresses `options.weights`, or goes on with it.

    Raises:
        PruningError: If something that the user gave is wrong; nothing is written then.
    """
    folder = run_folder(options.name)
    recipe = recipe_of(options)
    if Path(recipe.weights).is_relative_to(folder.resolve()):
        raise PruningError(f"'{options.weights}' lies in the run that would be written; choose another --name")
    ours = (folder / "state.json").is_file()
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise PruningError(f"'{shown(folder)}' holds something else than a compression; choose another --name")
    if ours and options.overwrite:
        shutil.rmtree(folder)
    elif ours:
        say(f"Going on with {shown(folder)}")
    compress(recipe, folder)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """Returns what the options ask for.

    Raises:
        PruningError: If they contradict each other, or name what is not there.
    """
    weights = located(options.weights)
    model, _ = checkpoint.load(weights)
    classes = None if options.settings.get("single_cls") else len(model.names)
    latency = shared.latency(options, options.imgsz)
    values = {name: getattr(options, name) for name in ("speed_up", "latency_speed_up", "target_params")}
    target = Target.one_of(**values)
    scheme = options.scheme or ("steered" if target.name == "speed_up" else "stepwise")
    given = {field: getattr(options, name) for name, field in LIMITS.items() if getattr(options, name) is not None}
    unread = [name for name in (*SCORING, *LIMITS) if name != "round_to" and getattr(options, name) is not None]
    if unread and scheme == "steered":
        raise PruningError(
            f"--{unread[0].replace('_', '-')} is of --scheme stepwise; the steered one scores by gradients"
        )
    limits: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    task = getattr(model, "task", "detect")
    if is_pruned(model) and scheme == "steered":
        say("The network is pruned already: its widths are kept, and less is left to remove")
    teacher = options.teacher and task != "classify"
    if options.teacher and not teacher:
        say("The release teaches no classifiers: training without a teacher")
    return Recipe(
        weights=str(weights.resolve()),
        sha256=checkpoint.sha256(weights),
        data=resolve_data(options.data, classes=classes),
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
        limits=Limits(**{"round_to": DEFAULT_ROUND_TO, **limits}),
        runtime=latency.runtime if latency else None,
        table=str(latency.table.resolve()) if latency and latency.table else None,
        teacher=teacher,
        training={
            "imgsz": options.imgsz,
            "batch": options.batch,
            "device": options.device,
            **({"finetune": True} if is_pruned(model) else {}),
            **options.settings,
        },
    )
