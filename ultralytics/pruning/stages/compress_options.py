"""The options of `compress.py`, and which settings of a training a compression leaves to the user."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..command_line import kinds, own_labels
from ..command_line import options as shared
from ..command_line.entry import Parser
from ..command_line.settings import training_keys
from ..compression.recipe import SCHEMES, Recipe
from ..one_shot.defaults import args_of_training, default_for
from ..selection.limits import DEFAULT_ROUND_TO, Limits
from ..selection.reach import with_room
from ..selection.targets import Target
from ..tracing.trace import trace
from .training import BATCH

DEFAULT_CRITERION = "group_hessian"  # the best of docs/results/criteria.md
EVENEST_FIRST = (  # rules for layers; the first that leave a choice, see docs/results/recipes.md
    {"round_to": DEFAULT_ROUND_TO, "floor": 0.3},
    {"round_to": 8, "floor": 0.2},
    {"round_to": 8},
    {"round_to": 8, "floor": 0.02},
)
HALFWAY = 4  # of the epochs, a first cut has one in so many behind it, see docs/results/recipes.md
LONG = 100  # epochs from which on that is better than one cut; 40 were too few
OURS = ("data", "epochs", "batch", "imgsz", "finetune", "distill_model", "round_to", "time", "classes_from")
OF_A_SPARSITY_TRAINING = ("sparsity", "sr", "target_", "latency_table")  # how their names begin


def decided(key: str) -> bool:
    """Whether a setting of a training is not the user's: a compression decides it, or has an option for it."""
    return key in OURS or key.startswith(OF_A_SPARSITY_TRAINING)


@dataclass(frozen=True)
class Rules:
    """How a network is cut to a target.

    Attributes:
        limits: What holds for single layers.
        far: Whether layers cannot keep as much as they should, so that it is better to cut twice.
    """

    limits: Limits
    far: bool = False


def rules_for(options: argparse.Namespace, scheme: str, targets: Sequence[Target], model: Any) -> list[Rules]:
    """Returns how to cut to each of several targets.

    The cut of the one-shot scheme alone would take most from few layers, the widest. A training makes more of a network
    that lost channels everywhere, so each layer keeps as large a share as leaves the scores something to choose.

    Args:
        options: Of the command line, which decide what they name.
        scheme: How it is cut.
        targets: How far.
        model: The network.
    """
    as_scored = shared.limits(options, round_to=DEFAULT_ROUND_TO)
    if scheme != "one-shot":
        return [Rules(as_scored)] * len(targets)
    channel_map = trace(model, imgsz=options.imgsz)
    if default_for(model, channel_map, args_of_training(model), None, target=True).ordered:
        return [Rules(as_scored)] * len(targets)
    several = [shared.limits(options, **rules) for rules in EVENEST_FIRST]
    counted = [Target("speed_up", each.value) if each.kind.timed else each for each in targets]  # always more than ms
    chosen = [with_room(channel_map, each, several) for each in counted]
    return [Rules(limits, far=limits != several[0]) for limits in chosen]


def halfway_of(epochs: int, target: Target, rules: Rules) -> int:
    """Returns how many epochs follow a first cut, halfway to a target; 0 where one cut does it."""
    twice = rules.far and epochs >= LONG and target.kind.halfway(target.value, 1) is not None
    return epochs // HALFWAY if twice else 0


def parser() -> Parser:
    """Returns the options of `compress.py`."""
    found = Parser(
        "Compresses a trained network to a target and fine-tunes it. Stopped at any point, the same command goes on.",
        "python compress.py --data digits --imgsz 160 --batch 16 --speed-up 2 --epochs 20",
        keys=frozenset(key for key in training_keys() if not decided(key)),
    )
    add = found.add_argument
    add("--weights", type=kinds.as_source, default="runs/train-norm/weights/best.pt", help="trained checkpoint")
    data = "data set: a yaml, or 'digits', which is made on first use"
    add("--data", type=kinds.as_data_set, help=f"{data}; {own_labels.FOLDERS}; that of the training before if empty")
    own_labels.add_confidence(found)
    add_targets(found)
    add_schedule(found)

    taught = (
        "let the original teach in all trainings, which costs accuracy where it was measured (default: it does not)"
    )
    add("--distill", dest="teacher", action=argparse.BooleanOptionalAction, default=Recipe.teacher, help=taught)
    add("--name", type=kinds.as_run_name, default="compress", help="run folder under runs/")
    add("--overwrite", action="store_true", help="replace the run of that name; leave it out to go on")
    several = "all combinations, e.g. ratio=0.2,0.4 criterion=slim,lamp: a compression for each"
    add("--sweep", nargs="+", metavar="KEY=A,B", help=several)
    # Not `workers`, which as a setting, `workers=`, is the release's: of the data loader.
    at_once = "compressions of a sweep at once, through Ray; a GPU each"
    add("--workers", dest="at_once", metavar="N", type=kinds.as_threads, default=1, help=at_once)

    shared.add_scoring(found, f"as prune.py; {DEFAULT_CRITERION} for --scheme stepwise")
    shared.add_limits(found)
    shared.add_latency(found)
    return found


def add_targets(parser: Parser) -> None:
    """Adds the targets, of which one is needed."""
    target = parser.add_mutually_exclusive_group()
    shared.add_sizes(target, several=True)
    share = "share of the prunable channels to remove"
    target.add_argument("--prune-ratio", type=kinds.as_ratio, metavar="R", help=share)


def add_schedule(parser: Parser) -> None:
    """Adds the scheme, what ends it, and how long its trainings are."""
    add = parser.add_argument
    schemes = "; ".join(f"{name}: {about}" for name, about in SCHEMES.items())
    add(
        "--scheme",
        choices=list(SCHEMES),
        help=f"{schemes} (default: one-shot; with --steps or --epochs-per-step, steered)",
    )
    drop = "keep nothing that is more than D below the original"
    add("--max-map-drop", type=kinds.as_share, metavar="D", help=drop)
    add("--steps", type=kinds.as_positive, help=f"cuts of the stepwise scheme (default: {Recipe.steps})")
    each = f"epochs after each; steered: steps x these in one (default: {Recipe.epochs_per_step})"
    add("--epochs-per-step", type=kinds.as_positive, help=each)
    add("--epochs", type=kinds.as_positive, default=Recipe.epochs, help="epochs of the fine-tuning, behind all cuts")
    add("--batch", type=kinds.as_positive, default=BATCH, help="images per step")
    add("--imgsz", type=kinds.as_side, help="side of the images in pixels; that of the training if empty")
