"""A pruning plan: which channels of which layers stay. Immutable, and plain data when saved.

Whoever has the plan and the original network can repeat and check the cut.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..channels import ChannelMap, Layer
from ..cost import Cost, cost_of
from ..errors import PruningError
from ..inputs.documents import brief, parse_json
from .findings import Finding
from .schema import check_plan

FORMAT = 1


@dataclass(frozen=True)
class LayerPlan:
    """The channels of one layer that stay.

    Attributes:
        type: Class name of the layer.
        kept_in: Kept input channels, ascending.
        kept_out: Kept output channels, ascending.
        in_before: Number of input channels before the cut.
        out_before: Number of output channels before the cut.
    """

    type: str
    kept_in: tuple[int, ...]
    kept_out: tuple[int, ...]
    in_before: int
    out_before: int

    @property
    def removed_out(self) -> list[int]:
        """The output channels that go, ascending."""
        return sorted(set(range(self.out_before)) - set(self.kept_out))

    def to_dict(self) -> dict[str, Any]:
        """Returns it as plain data, for a plan."""
        return {
            "type": self.type,
            "in": list(self.kept_in),
            "out": list(self.kept_out),
            "in_before": self.in_before,
            "out_before": self.out_before,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LayerPlan:
        """Builds it from plain data that was checked."""
        return cls(data["type"], tuple(data["in"]), tuple(data["out"]), data["in_before"], data["out_before"])


@dataclass(frozen=True)
class PruningPlan:
    """What a cut keeps, and what led to it.

    Attributes:
        layers: By name in `model.named_modules()`.
        before: Cost of the network that the channels are cut out of (see `original`).
        after: Cost of the pruned network.
        settings: The settings that led here.
        pinned: Number of channels that could not be removed, by reason.
        limits: In words, where floors or balance kept channels that the score would have removed.
        findings: The same as values; they are not saved.
        blocks: Residual blocks that are taken out; their layers keep nothing.
        widths: New values of attributes that store a width, by module name, then attribute name; `sizes.1` is the
            second number of a list.
        source: The checkpoint: file, sha256, task, release.
        seconds: Time for trace, select and cut.
    """

    layers: dict[str, LayerPlan]
    before: Cost
    after: Cost
    settings: dict[str, Any]
    pinned: dict[str, int]
    limits: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = field(default=(), compare=False)
    blocks: tuple[str, ...] = ()
    widths: dict[str, dict[str, int]] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def original(self) -> Cost:
        """The cost of the network as it came: `before`, and the rows of classes that went out ahead of the cut."""
        classes = self.settings.get("classes")
        return Cost(**classes["before"]) if classes else self.before

    def with_source(self, source: dict[str, str], seconds: dict[str, float]) -> PruningPlan:
        """Returns the plan with its origin and timings filled in."""
        return replace(self, source=source, seconds=seconds)

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as the plain data of `pruned.json`: dicts, lists, strings and numbers."""
        return {
            "format": FORMAT,
            "source": dict(self.source),
            "settings": dict(self.settings),
            "cost": {"before": self.before.to_dict(), "after": self.after.to_dict()},
            "seconds": dict(self.seconds),
            "pinned": dict(self.pinned),
            "limits": list(self.limits),
            "blocks": list(self.blocks),
            "widths": {module: dict(values) for module, values in self.widths.items()},
            "layers": {name: layer.to_dict() for name, layer in self.layers.items()},
        }

    def to_json(self) -> str:
        """Returns the text of `pruned.json`: one line per layer, so that a diff of two plans can be read."""
        data = self.to_dict()
        layers = ",\n".join(f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in data["layers"].items())
        head = json.dumps({key: value for key, value in data.items() if key != "layers"}, indent=2)
        return f'{head[:-2]},\n  "layers": {{\n{layers}\n  }}\n}}\n'

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PruningPlan:
        """Builds a plan from `to_dict()`'s data, which may come from anywhere.

        Raises:
            PruningError: If the data's format is not the one that this version writes, or it is no plan (see
                `schema.py`).
        """
        if isinstance(data, dict) and (type(data.get("format")) is not int or data["format"] != FORMAT):
            raise PruningError(f"a plan of format {brief(data.get('format'))}; this version reads format {FORMAT}")
        try:
            check_plan(data)
        except PruningError:
            raise
        except ValueError as error:
            raise PruningError(str(error)) from error

        return cls(
            layers={name: LayerPlan.from_dict(entry) for name, entry in data["layers"].items()},
            before=Cost(**data["cost"]["before"]),
            after=Cost(**data["cost"]["after"]),
            settings=data["settings"],
            pinned=data["pinned"],
            limits=tuple(data.get("limits", ())),
            blocks=tuple(data.get("blocks", ())),
            widths=data.get("widths", {}),
            source=data["source"],
            seconds=data["seconds"],
        )

    @classmethod
    def from_json(cls, text: str) -> PruningPlan:
        """Builds a plan from the text of `pruned.json`.

        Raises:
            PruningError: If it is no JSON, or no plan.
        """
        return cls.from_dict(parse_json(text, "the plan"))


def plan_from(
    channel_map: ChannelMap,
    kept: np.ndarray,
    settings: dict[str, Any],
    limits: tuple[str, ...] = (),
    findings: tuple[Finding, ...] = (),
) -> PruningPlan:
    """Writes down a choice of groups as a plan.

    Args:
        channel_map: The traced network.
        kept: Which groups stay, bool of shape (G,).
        settings: What led to the choice.
        limits: In words, what kept the choice from its target.
        findings: The same as values.
    """
    blocks = channel_map.taken_out(kept)
    taken_out = {name for block in blocks for name in block.layers}

    def places(layer: Layer, groups: np.ndarray) -> tuple[int, ...]:
        return () if layer.name in taken_out else tuple(np.flatnonzero(kept[groups]).tolist())

    layers = {
        name: LayerPlan(
            type=layer.kind,
            kept_in=places(layer, layer.inputs),
            kept_out=places(layer, layer.outputs),
            in_before=len(layer.inputs),
            out_before=len(layer.outputs),
        )
        for name, layer in channel_map.layers.items()
    }
    widths: dict[str, dict[str, int]] = {}
    for (module, attribute), groups in channel_map.widths.items():
        widths.setdefault(module, {})[attribute] = int(kept[groups].sum())

    return PruningPlan(
        layers=layers,
        before=cost_of(channel_map),
        after=cost_of(channel_map, kept),
        settings=settings,
        pinned=channel_map.pinned_channels(),
        limits=limits,
        findings=findings,
        blocks=tuple(block.name for block in blocks),
        widths=widths,
    )
