"""Whether a network would survive being built anew from its yaml, as the release does before it trains.

The release builds the yaml's full widths and copies over what fits. A pruned network would come out dense and mostly
untrained, without a word.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

PLANS_ATTRIBUTE = "pruning_plans"
# The release's own `load()` gives the class branch of a head the width of the weights that it loads: its width follows
# the class count that the weights were first trained for, and a rebuild keeps it.
WIDTH_SURVIVES = ("cv3.", "one2one_cv3.")


def is_pruned(model: nn.Module) -> bool:
    """Whether a network has other widths than its yaml describes, so that a rebuild would lose them."""
    return bool(getattr(model, PLANS_ATTRIBUTE, None)) or differing_layer(model) is not None


def differing_layer(model: nn.Module) -> str | None:
    """Returns the first weight whose shape differs from the yaml's, in words, or None."""
    expected = _yaml_shapes(getattr(model, "yaml", None))
    head = f"model.{len(getattr(model, 'model', ())) - 1}."
    survives = tuple(head + branch for branch in WIDTH_SURVIVES)
    for name, parameter in model.named_parameters():
        shape = expected.get(name)
        if parameter.ndim < 2 or shape is None or name.startswith(survives):
            continue
        if shape != tuple(parameter.shape):
            return f"{name} is {tuple(parameter.shape)}, its yaml says {shape}"
    return None


def _yaml_shapes(yaml: dict[str, Any] | None) -> dict[str, tuple[int, ...]]:
    """Builds a yaml's network without memory (on the meta device) and returns the shape of each parameter."""
    if not yaml:
        return {}
    from ultralytics.nn.tasks import parse_model

    with torch.device("meta"):
        layers, _ = parse_model(copy.deepcopy(yaml), ch=yaml.get("channels", 3), verbose=False)
    return {f"model.{name}": tuple(parameter.shape) for name, parameter in layers.named_parameters()}
