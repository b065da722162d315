"""The pruning stage: a checkpoint in, with a target or a plan; the pruned one, its plan and its ONNX out."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import packages
from ..checkpoints import checkpoint
from ..command_line import options as shared
from ..command_line.choice import check_words, choice
from ..command_line.own_labels import label
from ..command_line.settings import IMAGES, VALIDATION
from ..criteria import CRITERIA
from ..data.of_training import data_before
from ..data.some_classes import data_for, images_with_labels
from ..errors import PruningError
from ..files.locks import alone_in
from ..files.places import located, shown, write_folder
from ..inputs.documents import found_in, read_json
from ..inputs.model_yamls import is_model_yaml
from ..latency import Runtime, comparing
from ..latency.wording import say_speed
from ..networks.keep_classes import keep_classes, keeps_some
from ..one_shot.own_labels import agreement
from ..passes.validating import validate
from ..pipeline import Pruned, prune_network, repeat_plan
from ..plans.plan import PruningPlan
from ..plans.tables import cost_table, layer_table, settings_said
from ..release import check_side
from ..report import say, table
from ..runs.belongings import check_pruned
from ..runs.following import Origin, run_name_of, say_next
from ..runs.stale import older_products
from .pruned_files import images_for, write
from .weights import check_family, load_source

KEYS = VALIDATION | IMAGES | {"cfg", "round_to"}  # settings of Ultralytics that may be read


def prune_stage(options: argparse.Namespace) -> None:
    """Prunes `options.weights` and writes `pruned.pt`, `pruned.json` and `pruned.onnx` into `options.save_dir`.

    Raises:
        PruningError: If something that the user gave is wrong; nothing is written then.
    """
    check_words(options)
    if options.onnx and not options.dry_run:
        packages.need(packages.ONNX, "the ONNX, which --no-onnx leaves out,")
    folder = Path(options.save_dir)
    with contextlib.nullcontext() if options.dry_run else alone_in(folder):
        _prune(options, folder)


def _prune(options: argparse.Namespace, folder: Path) -> None:
    """Prunes, in a folder in which no other process works."""
    weights, runtime = located(options.weights), shared.timing(options, onnx=options.onnx)
    if not options.dry_run:
        check_pruned(folder, weights if weights.exists() and not is_model_yaml(options.weights) else None)
    model, train_args, source = load_source(options.weights)
    if options.imgsz:
        check_side(options.imgsz, model)
    check_family(model, options.cfg, options.model_size)
    if options.val and not source["sha256"]:
        raise PruningError("--val measures trained weights, a model yaml has none")
    if checkpoint.counts_as_one(options.settings, {"train_args": train_args}):
        options.settings["single_cls"] = True

    plan = read_plan(options, source) if options.plan else None
    side = options.imgsz or checkpoint.side_of_training({"train_args": train_args})
    imgsz = plan.settings.get("imgsz", 640) if plan else side
    left = of_classes(model, options, plan)
    label(options, model, weights if source["sha256"] else None, imgsz, needed=read_splits(options))
    data = checked_data(options, left, train_args)
    result = pruned(options, model, left, source, plan, data, imgsz, train_args)

    if not options.dry_run:
        write_folder(folder)
    say(layer_table(result.plan))
    say()
    if options.dry_run:
        say(cost_table(result.plan))
        say_findings(result)
        say_timing(options, model, result, runtime)
        say("\nNothing was written (--dry-run).")
        return
    files = write_and_compare(options, result, folder, data, train_args)
    say_findings(result)
    if data and options.val:
        say(accuracy_table(weights, folder / "pruned.pt", data, result.plan, options))
        if said := agreement(data):
            say(said)
    for product in older_products(folder / "pruned.pt"):
        say(f"{shown(product.resolve())} was exported from another pruned.pt: export it again, or remove it")
    say("\nWritten: " + ", ".join(shown(file.resolve()) for file in files))
    options.saved = lambda: f"{shown((folder / 'pruned.pt').resolve())} and its plan are written, but not timed"
    say_timing(options, model, result, runtime, next((file for file in files if file.suffix == ".onnx"), None))
    known = {
        "data": options.data if data and keeps_some(left) else data,
        "imgsz": imgsz,
        "name": run_name_of(Path(source["file"])) if source["sha256"] else "",
    }
    say_next(("finetune.py",), Origin.of((folder / "pruned.pt").resolve(), train_args, **known))


def of_classes(model: Any, options: argparse.Namespace, plan: PruningPlan | None) -> Any:
    """Returns the network whose channels are cut: of the classes that are kept, where the options or a plan name some.

    Raises:
        PruningError: If these cannot be kept.
    """
    kept = plan.settings["classes"]["kept"] if plan and "classes" in plan.settings else options.keep_classes
    return keep_classes(model, kept)[0] if kept else model


def read_splits(options: argparse.Namespace) -> list[str]:
    """Returns the splits of the data set whose labels are read."""
    scored = options.criterion and CRITERIA[options.criterion].needs == "images"
    return (["train"] if scored else []) + (["val"] if options.val else [])


def checked_data(options: argparse.Namespace, model: Any, train_args: dict[str, Any]) -> str | None:
    """Returns the path of the data set's yaml, if one is named, or needed: that of the training where it is here.

    Raises:
        PruningError: If it is not there, or not of this network.
    """
    wanted = options.data or (data_before(train_args, model.task) if options.val else None)
    if not wanted:
        return None
    classes = None if options.settings.get("single_cls") else len(model.names)
    return data_for(model, wanted, classes=classes)


def pruned(
    options: argparse.Namespace,
    model: Any,
    left: Any,
    source: dict[str, str],
    plan: PruningPlan | None,
    data: str | None,
    imgsz: int,
    train_args: dict[str, Any],
) -> Pruned:
    """Prunes a network in memory: by a plan, or by the target, the limits and the scores that the options name.

    Raises:
        PruningError: If the options contradict each other, or nothing can be cut so.
    """
    data = images_with_labels(data) if data else None
    statistics = shared.statistics(options, data, imgsz)
    if plan:
        if not statistics and (batches := plan.settings.get("recalibrate")):
            raise PruningError(f"this plan was recalibrated: repeat it with --recalibrate {batches} --data ...")
        return repeat_plan(model, plan, statistics=statistics, source=source)
    how: dict[str, Any] = {
        "imgsz": imgsz,
        "fold": options.fold,
        "statistics": statistics,
        "latency": shared.latency(options, imgsz),
    }
    how |= choice(options, left, train_args, data, imgsz)
    return prune_network(model, source=source, keep_classes=options.keep_classes, **how)


def write_and_compare(
    options: argparse.Namespace, result: Pruned, folder: Path, data: str | None, train_args: dict[str, Any]
) -> list[Path]:
    """Writes what was pruned, and prints its cost beside the original's; returns the files."""
    weights = located(options.weights)
    before_mb = weights.stat().st_size / 1e6 if result.plan.source["sha256"] else None
    files = write(
        result,
        folder,
        onnx=options.onnx,
        train_args=train_args,
        repeated=located(options.plan) if options.plan else None,
        images=images_for(data, train_args, result.plan.source["task"]) if options.onnx else [],
    )
    after_mb = (folder / "pruned.pt").stat().st_size / 1e6
    say(cost_table(result.plan, (before_mb, after_mb) if before_mb else None))
    if before_mb:
        say("(pruned.pt is written in float32, a finished training checkpoint in half precision)")
    return files


def read_plan(options: argparse.Namespace, source: dict[str, str]) -> PruningPlan:
    """Reads the plan that `--plan` names, for the checkpoint that it was made for.

    Raises:
        PruningError: If another option contradicts it, the file is no plan, or the checkpoint is another one.
    """
    given = shared.chosen(options, (*shared.LIMITS, *shared.SCORING, *shared.ROUNDS, "latency_table", "imgsz"))
    given += ([] if options.fold else ["no_fold"]) + (["keep_classes"] if options.keep_classes else [])
    if given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise PruningError(f"--plan repeats a cut with its own settings; leave out {names}")
    what = f"--plan {options.plan}"
    content = read_json(located(options.plan), what)
    with found_in(what, "no plan of a cut"):
        plan = PruningPlan.from_dict(content)
        for key in ("sha256", "file"):
            if key not in plan.source:
                raise ValueError(f"its source lacks '{key}'")
    expected, file = plan.source["sha256"][:64], plan.source["file"][:300]
    if expected != source["sha256"]:
        raise PruningError(
            f"--plan {options.plan} was made for '{file}' (sha256 {expected or 'none, a model yaml'}), the weights "
            f"'{source['file']}' are others (sha256 {source['sha256'] or 'none, a model yaml'})"
        )
    return plan


def say_findings(result: Pruned) -> None:
    """Prints how long it took, whether the cut is right, and what limited it."""
    plan = result.plan
    seconds = ", ".join(f"{stage} {value:.2f} s" for stage, value in plan.seconds.items())
    say(f"\nTime: {seconds}, together {sum(plan.seconds.values()):.2f} s")
    say(f"Checked against the original with silenced channels: largest difference {result.difference:.1e} (relative)")
    for line in settings_said(plan):
        say(line)
    if plan.blocks:
        say(f"Taken out whole, as no inner channel is left: {', '.join(plan.blocks)}")
    for limit in plan.limits:
        say(f"Limit: {limit}")
    if result.unfolded:
        say(
            "Not folded in full, as there is no batch norm or bias to absorb what removed channels emit, or it is no "
            f"constant there: {', '.join(result.unfolded)}"
        )
    if plan.pinned:
        say("Pinned channels: " + ", ".join(f"{count} ({reason})" for reason, count in plan.pinned.items()))


def say_timing(
    options: argparse.Namespace,
    model: Any,
    result: Pruned,
    runtime: Callable[[], Runtime] | None,
    onnx: Path | None = None,
) -> None:
    """Prints the milliseconds before and after, and what holds a cut back that is slower than promised.

    Args:
        options: Of the stage.
        model: The original.
        result: The cut network and its plan.
        runtime: Makes what times both; None: nothing is timed.
        onnx: The file of the cut network, if one was written.
    """
    if not runtime:
        return
    plan = result.plan
    ms = plan.settings["latency"]["ms"] if options.latency_speed_up else None  # the search has timed this very cut
    known = (ms["before"], ms["after"], 0.0) if ms else None

    def measure() -> comparing.Speed:
        promised = plan.before.macs / plan.after.macs
        how: dict[str, Any] = {"known": known, "onnx": onnx}
        return comparing.compare(model, result.model, promised, runtime(), plan.settings["imgsz"], **how)

    say_speed(measure, tried=comparing.tried(options.latency_speed_up), brief=known is not None)


def accuracy_table(before: Path, after: Path, data: str, plan: PruningPlan, options: argparse.Namespace) -> str:
    """Returns precision, recall and mAP of two checkpoints on a data set, for the classes that the second has."""
    rows = []
    for measured in (before, after):
        path = measured
        settings = {"data": data, "imgsz": plan.settings["imgsz"], "device": options.device, **options.settings}
        with tempfile.TemporaryDirectory(prefix="prune-val-") as folder:  # the release makes a run folder in any case
            if measured is before and "classes" in plan.settings:  # what it says of the others would be measured, too
                path = Path(folder, before.name)
                checkpoint.save(keep_classes(checkpoint.load(before)[0], plan.settings["classes"]["kept"])[0], path)
            metrics, _, _ = validate(path, {"project": folder, "name": "val", "plots": False, **settings})
        rows.append(
            (
                shown(measured),
                *(f"{value:.4f}" for key, value in metrics.results_dict.items() if key != "fitness"),
            )
        )
        titles = [key.removeprefix("metrics/").removesuffix("(B)") for key in metrics.results_dict if key != "fitness"]
    return "\n" + table(("checkpoint", *titles), rows)
