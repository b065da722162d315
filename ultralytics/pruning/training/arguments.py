"""The training arguments that the release does not have: known, checked and carried like its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..selection.limits import DEFAULT_ROUND_TO
from ..sparsity.modes import MODES


@dataclass(frozen=True)
class Argument:
    """A training argument.

    Attributes:
        default: What it is where nobody says otherwise.
        accepted: Whether a value of the right type makes sense.
        in_words: Which values do.
        keys: The release's set of arguments with this type, if it has one.
    """

    default: Any
    accepted: Callable[[Any], bool]
    in_words: Callable[[], str]
    keys: str | None = None


def _strength(value: float) -> bool:
    return 0 <= value < math.inf


TRAINING_ARGUMENTS = {
    "sparsity": Argument(None, lambda value: isinstance(value, str), lambda: f"a mode: {', '.join(MODES)}"),
    "sr": Argument(0.0, _strength, lambda: "a finite number of at least 0", "CFG_FLOAT_KEYS"),
    "sr_bias": Argument(0.0, _strength, lambda: "a finite number of at least 0", "CFG_FLOAT_KEYS"),
    "sr_schedule": Argument("linear", lambda value: isinstance(value, str), lambda: "linear, constant, cosine or ramp"),
    "target_speed_up": Argument(
        0.0, lambda value: not value or 1 < value < math.inf, lambda: "a number above 1", "CFG_FLOAT_KEYS"
    ),
    "target_latency_speed_up": Argument(
        0.0, lambda value: not value or 1 < value < math.inf, lambda: "a number above 1", "CFG_FLOAT_KEYS"
    ),
    "target_params": Argument(
        0, lambda value: not value or 1 <= value < math.inf, lambda: "a number of at least 1", "CFG_FLOAT_KEYS"
    ),
    "target_sparsity": Argument(0.0, lambda value: 0 <= value < 1, lambda: "at least 0 and below 1", "CFG_FLOAT_KEYS"),
    "latency_table": Argument(None, lambda value: isinstance(value, str), lambda: "the path of a table of latencies"),
    "round_to": Argument(
        DEFAULT_ROUND_TO, lambda value: value >= 1, lambda: "a whole number of at least 1", "CFG_INT_KEYS"
    ),
    "finetune": Argument(False, lambda value: True, lambda: "True or False", "CFG_BOOL_KEYS"),
    "classes_from": Argument("network", lambda value: value in ("network", "data"), lambda: "network or data"),
}


def check_ranges(arguments: Mapping[str, Any]) -> None:
    """Checks the training arguments above, whose types the release has checked.

    Raises:
        ValueError: If one makes no sense.
    """
    for name, argument in TRAINING_ARGUMENTS.items():
        value = arguments.get(name)
        if value is not None and not argument.accepted(value):
            raise ValueError(f"'{name}={value}' is invalid: it must be {argument.in_words()}")
