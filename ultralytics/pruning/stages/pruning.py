"""The pruning stage: a checkpoint in, with a target or a plan; the pruned one, its plan and its ONNX out."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import Any

from .. import packages
from ..checkpoints import checkpoint
from ..command_line import options as shared
from ..command_line.settings import IMAGES, VALIDATION
from ..criteria import CRITERIA
from ..data.sets import check_usable, names_in, resolve_data
from ..errors import PruningError
from ..files.locks import alone_in
from ..files.places import located, shown, write_folder
from ..inputs.documents import found_in, read_json
from ..inputs.model_yamls import build, is_model_yaml, model_yaml
from ..networks.keeping import check_order
from ..passes.validating import validate
from ..pipeline import Pruned, prune_network, repeat_plan, traced
from ..plans.plan import PruningPlan
from ..plans.tables import cost_table, layer_table
from ..release import check_side
from ..report import pixels, say, table
from ..runs.belongings import check_pruned
from ..runs.following import Origin, run_of, say_next
from ..runs.stale import older_products
from ..selection.limits import DEFAULT_ROUND_TO
from ..selection.zeros import LEAST_SHARE, share_at_zero
from .pruned_files import images_for, write

DEFAULT_RATIO = 0.7
KEYS = VALIDATION | IMAGES | {"cfg", "round_to"}  # settings of Ultralytics that may be read
TARGETS = ("prune_ratio", "speed_up", "target_params", "zeros")


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
    weights = located(options.weights)
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
    classes = None if options.settings.get("single_cls") else len(model.names)
    plan = plan_for(options, source) if options.plan else None
    imgsz = plan.settings.get("imgsz", 640) if plan else options.imgsz or train_args.get("imgsz") or 640
    wanted = options.data or ("coco.yaml" if options.val else None)
    data = resolve_data(wanted, classes=classes, task=model.task) if wanted else None
    if data:
        check_usable(data, ("train", "val"), model.task, model.yaml)
    if data and classes:
        check_order(model, names_in(data, model.task), str(options.data))
    statistics = shared.statistics(options, data, imgsz)
    if plan and not statistics and (batches := plan.settings.get("recalibrate")):
        raise PruningError(f"this plan was recalibrated: repeat it with --recalibrate {batches} --data ...")
    if plan:
        result = repeat_plan(model, plan, statistics=statistics, source=source)
    else:
        scoring = shared.scoring(options, data, imgsz)
        how = {"imgsz": imgsz, "fold": options.fold, "statistics": statistics, "scoring": scoring}
        latency = shared.latency(options, imgsz)
        result = prune_network(model, source=source, latency=latency, **how, **choice(options, model))
    if not options.dry_run:
        write_folder(folder)
    say(layer_table(result.plan))
    say()
    if options.dry_run:
        say(cost_table(result.plan))
    else:
        before_mb = weights.stat().st_size / 1e6 if source["sha256"] else None
        repeated = located(options.plan) if options.plan else None
        images = images_for(data, train_args, model.task) if options.onnx else []
        written = {"onnx": options.onnx, "repeated": repeated, "images": images}
        files = write(result, folder, train_args=train_args, **written)
        after_mb = (folder / "pruned.pt").stat().st_size / 1e6
        say(cost_table(result.plan, (before_mb, after_mb) if before_mb else None))
        if before_mb:
            say("(pruned.pt is written in float32, a finished training checkpoint in half precision)")
    say_findings(result)
    if options.dry_run:
        say("\nNothing was written (--dry-run).")
        return
    if data and options.val:
        say(accuracy_table(weights, folder / "pruned.pt", data, result.plan.settings["imgsz"], options))
    for product in older_products(folder / "pruned.pt"):
        say(f"{shown(product.resolve())} was exported from another pruned.pt: export it anew, or remove it")
    say("\nWritten: " + ", ".join(shown(file.resolve()) for file in files))
    known = {"data": data, "imgsz": imgsz, "name": run_of(Path(source["file"])) if source["sha256"] else ""}
    say_next(("finetune.py",), Origin.of((folder / "pruned.pt").resolve(), train_args, **known))


def check_words(options: argparse.Namespace) -> None:
    """Refuses what would be read by nobody.

    Raises:
        PruningError: If a setting, or an option, does nothing beside the others.
    """
    criterion = CRITERIA[options.criterion or "slim"]
    looks = criterion.needs == "images" or bool(options.recalibrate)
    read = (VALIDATION if options.val else frozenset()) | (IMAGES if looks else frozenset()) | {"single_cls"}
    if idle := [key for key in options.settings if key not in read]:
        where = "--val" if idle[0] in VALIDATION else "a criterion that looks at images, or --recalibrate"
        raise PruningError(f"{idle[0]}= does nothing here: it is read for {where} only")
    said = getattr(options, "said", ())
    if options.val and options.dry_run:
        raise PruningError("--val measures what is written, --dry-run writes nothing: leave out one of both")
    if "batches" in said and criterion.needs != "images":
        raise PruningError("--batches is read for criteria that look at images only, e.g. --criterion group_taylor")


def choice(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Returns the target and the limits among the options, as `prune_network` takes them.

    Without a target, a network that holds a set of channels at exactly zero loses just these; another one, a share.
    """
    target = {name: getattr(options, name) for name in TARGETS if getattr(options, name) is not None}
    scored = shared.given(options, shared.SCORING)
    in_time = options.latency_speed_up is not None
    if not target and not scored and not in_time and (share := share_at_zero(traced(model, 640), model)) >= LEAST_SHARE:
        say(f"{share:.0%} of the prunable channels have scales of exactly zero: cutting just these (--zeros)\n")
        target = {"zeros": True}
    if "zeros" in target:
        if scored:
            raise PruningError(
                f"--zeros removes what is at zero, whatever its score: leave out --{scored[0]}, or name another target"
            )
        if shared.given(options, ("ratio", "ignore")):
            raise PruningError(
                "--zeros removes what is at zero: leave out --ratio and --ignore, or name another target"
            )
        return {"limits": shared.limits(options, floor=0.0), **target}
    default = {} if in_time else {"prune_ratio": DEFAULT_RATIO}
    return {"limits": shared.limits(options, round_to=DEFAULT_ROUND_TO), **(target or default)}


def plan_for(options: argparse.Namespace, source: dict[str, str]) -> PruningPlan:
    """Reads the plan that `--plan` names, for the checkpoint that it was made for.

    Raises:
        PruningError: If another option contradicts it, the file is no plan, or the checkpoint is another one.
    """
    given = shared.given(options, (*shared.LIMITS, *shared.SCORING, *shared.LATENCY, "imgsz"))
    given += [] if options.fold else ["no_fold"]
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


def load_source(weights: str) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """Loads a checkpoint, or builds a model yaml of the release with random weights, to try things.

    Returns:
        The network, the arguments that it was trained with, and its origin for the plan.
    """
    release = checkpoint.release_version()
    if is_model_yaml(weights):
        model = build(weights, "--weights")
        return model, {}, {"file": weights, "sha256": "", "task": model.task, "release": release}
    path = located(weights)
    model, content = checkpoint.load(path)
    source = {"file": str(path), "sha256": checkpoint.sha256(path), "task": model.task, "release": release}
    return model, content.get("train_args") or {}, source


def check_family(model: Any, cfg: str | None, size: str | None) -> None:
    """Compares `--cfg` and `--model-size` with what the checkpoint says of itself.

    Raises:
        PruningError: If they contradict it.
    """
    own = model.yaml
    scale = own.get("scale")
    if size and scale and size != scale:
        raise PruningError(f"--model-size {size}, but the weights are those of a model of size {scale}; leave it out")
    if not cfg:
        return
    other = model_yaml(cfg, "--cfg")
    if any(other.get(part) != own.get(part) for part in ("backbone", "head")):
        raise PruningError(f"--cfg {cfg} is not the model of these weights ({own.get('yaml_file')}); leave it out")
    if other.get("scale") and scale and other["scale"] != scale:
        raise PruningError(f"--cfg {cfg} is of size {other['scale']}, the weights are of size {scale}; leave it out")


def say_findings(result: Pruned) -> None:
    """Prints how long it took, whether the cut is right, and what limited it."""
    plan = result.plan
    seconds = ", ".join(f"{stage} {value:.2f} s" for stage, value in plan.seconds.items())
    say(f"\nTime: {seconds}, together {sum(plan.seconds.values()):.2f} s")
    say(f"Checked against the original with silenced channels: largest difference {result.difference:.1e} (relative)")
    if not plan.settings.get("zeros") and "criterion" in plan.settings:
        scored = [f"Scored by {plan.settings['criterion']}"]
        scored += [f"normalised by {how}"] if (how := plan.settings.get("normalize", "none")) != "none" else []
        scored += [f"per {per}"] if (per := plan.settings.get("per")) else []
        say(", ".join(scored))
    if batches := plan.settings.get("recalibrate"):
        say(f"Batch-norm statistics estimated anew, on at most {batches} batches of training images")
    if measured := plan.settings.get("latency"):
        about = f"{measured['runtime']}, {measured['threads']} threads, {measured['machine']}"
        ms = measured.get("ms")
        words = f"{ms['before']} ms before, {ms['after']} ms after: {measured['speed_up']}x" if ms else "not timed"
        words += " by the table, not timed here" if measured.get("predicted") and ms else ""
        say(f"Latency at {pixels(plan.settings['imgsz'])} px: {words} ({about})")
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


def accuracy_table(before: Path, after: Path, data: str, imgsz: int, options: argparse.Namespace) -> str:
    """Returns precision, recall and mAP of two checkpoints on a data set."""
    rows = []
    for path in (before, after):
        settings = {"data": data, "imgsz": imgsz, "device": options.device, **options.settings}
        with tempfile.TemporaryDirectory(prefix="prune-val-") as folder:  # the release makes a run folder in any case
            metrics, _, _ = validate(path, {"project": folder, "name": "val", "plots": False, **settings})
        rows.append((shown(path), *(f"{value:.4f}" for key, value in metrics.results_dict.items() if key != "fitness")))
        titles = [key.removeprefix("metrics/").removesuffix("(B)") for key in metrics.results_dict if key != "fitness"]
    return "\n" + table(("checkpoint", *titles), rows)
