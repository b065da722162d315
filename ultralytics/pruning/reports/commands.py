"""How a network came about: the commands that make it, by what its checkpoint, its plan and its run say."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ..passes.images import Images
from ..plans.plan import PruningPlan
from ..selection.limits import Limits
from ..selection.targets import KINDS
from .networks import Network
from .sources import Compression

OPTIONS = ("data", "epochs", "batch", "imgsz", "device")  # of all training stages
# Training arguments that the stages set themselves, or that say where a run lies.
OWN = {"task", "mode", "model", "project", "name", "save_dir", "exist_ok", "resume", "finetune", "workers", "val"}
# What only predicting and exporting read, of which the defaults differ from release to release.
ELSEWHERE = {
    "tracker",
    "nms",
    "simplify",
    "workspace",
    "opset",
    "optimize",
    "dynamic",
    "int8",
    "half",
    "format",
    "keras",
}
SPARSITY = ("sparsity", "sr", "target_speed_up", "target_latency_speed_up", "target_params", "target_sparsity")


def commands_of(network: Network) -> list[str]:
    """Returns the commands that make a network, as far as is known.

    Those are of what it came from last: what its own starting point was made by is not in its file. Where somebody has
    written other things into it, nothing is known.
    """
    try:
        return _commands(network)
    except (AttributeError, KeyError, TypeError, ValueError):
        return []


def _commands(network: Network) -> list[str]:
    """Returns the commands that make a network; whatever is not of the form that a stage writes is an error."""
    if network.source.compression and network.plans:
        return [of_compression(network.source.compression)]
    training = of_training(network.content.get("train_args") or {})
    cuts = [of_plan(plan) for plan in network.plans]
    is_tuned = bool((network.content.get("train_args") or {}).get("finetune"))
    return [line for line in ([*cuts, training] if is_tuned else [training, *cuts]) if line]


def _line(script: str, words: list[str]) -> str:
    return f"python {script} {shlex.join(words)}".rstrip()


def _settings(arguments: Mapping[str, Any]) -> list[str]:
    """Returns the settings of the release that differ from its defaults, as `key=value`."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    skipped = {*OWN, *ELSEWHERE, *OPTIONS, *SPARSITY, "plots"}
    return [
        f"{key}={value}"
        for key, value in arguments.items()
        if key not in skipped and value is not None and value != DEFAULT_CFG_DICT.get(key, value)
    ]


def _options(values: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Returns options with the values that are there."""
    found = []
    for name in names:
        if (value := values.get(name)) not in (None, "", 0, 0.0, False):
            found += [f"--{name.replace('_', '-')}", str(value)]
    return found


def of_training(arguments: Mapping[str, Any]) -> str:
    """Returns the command of a training, by its arguments; nothing if there are none."""
    if not arguments.get("epochs") or not arguments.get("data"):
        return ""
    sparse = [name for name in SPARSITY if arguments.get(name)]
    script = "finetune.py" if arguments.get("finetune") else "train_sparsity.py" if sparse else "train-normal.py"
    words = _options({**arguments, "weights": arguments.get("model")}, ("weights", *OPTIONS, "name"))
    words += _options(arguments, tuple(sparse)) if script == "train_sparsity.py" else []
    return _line(script, words + _settings(arguments))


def of_plan(plan: PruningPlan) -> str:
    """Returns the command of a cut, by the settings in its plan."""
    settings = plan.settings
    words = ["--weights", plan.source.get("file", "?")]
    if settings.get("zeros"):
        words.append("--zeros")
    else:
        targets = [(KINDS[name].option, settings[name]) for name in KINDS if settings.get(name) is not None]
        words += [word for option, value in targets for word in (option, f"{value:g}")]
        words += _options(settings, ("criterion", "normalize", "per", "rounds", "recalibrate"))
        words += ["--refit"] if settings.get("refit") else []
        words += _limits(settings)
    if classes := settings.get("classes"):
        words += ["--keep-classes", ",".join(map(str, classes["kept"]))]
    return _line("prune.py", words)


def _limits(settings: Mapping[str, Any]) -> list[str]:
    """Returns the options for what holds for single layers, where it is not the default."""
    words = ["--round-to", str(settings["round_to"])] if settings.get("round_to") else []
    if settings.get("min_channels", 1) != Limits.min_channels:
        words += ["--min-channels", str(settings["min_channels"])]
    if settings.get("max_ratio", 1.0) != Limits.max_ratio:
        words += ["--max-ratio-per-layer", f"{settings['max_ratio']:g}"]
    for pattern in settings.get("ignore", ()):
        words += ["--ignore", str(pattern)]
    for pattern, share in settings.get("ratios", ()):
        words += ["--ratio", f"{pattern}={share:g}"]
    return words


def of_compression(compression: Compression) -> str:
    """Returns the command of a compression, by what its `state.json` says was asked for."""
    recipe = compression.recipe
    target, training, limits = (recipe.get(key) or {} for key in ("target", "training", "limits"))
    milder = recipe.get("milder_limits", ())  # what differs between targets was chosen for each, and not named
    words = ["--weights", str(recipe["weights"]), "--data", str(recipe.get("data", "?"))]
    if (name := target.get("name")) in KINDS:
        numbers = [*recipe.get("milder", ()), target.get("value")]
        words += [KINDS[name].option, ",".join(f"{number:.10g}" for number in numbers)]
    steps = ("steps", "epochs_per_step") if recipe.get("scheme") != "one-shot" else ()
    words += _options(recipe, ("scheme", *steps, "epochs", "max_map_drop"))
    words += ["--distill"] if recipe.get("teacher") else []
    if recipe.get("scheme") != "steered":
        batches = ("batches",) if recipe.get("batches") != Images.batches else ()  # which not every criterion reads
        words += _options(recipe, ("criterion", "normalize", "per", *batches, "recalibrate"))
    named = {name: value for name, value in limits.items() if all(each.get(name) == value for each in milder)}
    words += _limits(named) + _options(training, ("imgsz", "batch", "device"))
    return _line("compress.py", [*words, "--name", compression.folder.name, *_settings(training)])
