"""What an exported ONNX says about itself beside what the release writes: how it was pruned, and what else is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..plans.plan import PruningPlan

KEY = "pruning"


def annotate(onnx: Path, entries: Mapping[str, str]) -> None:
    """Adds entries to the metadata of an ONNX file; one that is there is replaced."""
    import onnx as package

    model = package.load(onnx)
    package.helper.set_model_props(model, {**{entry.key: entry.value for entry in model.metadata_props}, **entries})
    package.save(model, onnx)


def summary_of(plans: Sequence[PruningPlan]) -> str:
    """Returns what some cuts of a network did, as JSON: what was asked for, and what was there before and after.

    Args:
        plans: As a checkpoint carries them, the first one first.
    """
    cuts = [
        {"settings": dict(plan.settings), "before": asdict(plan.before), "after": asdict(plan.after)} for plan in plans
    ]
    return json.dumps(cuts)
