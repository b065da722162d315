"""What a report says of each network: its cost and where that is, how good and how fast it is, how it was made."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..accuracy import accuracies, titles_of, what_counts
from ..channels import ChannelMap
from ..checkpoints import checkpoint
from ..cost import Cost, cost_of
from ..errors import PruningError
from ..plans.plan import PruningPlan
from ..tracing.trace import trace
from .sources import Figures, Source

PARTS = ("backbone", "neck", "head", "other")
LONGEST_NAME = 44  # characters
NUMBERED = re.compile(r"model\.(\d+)(\.|$)")


@dataclass(frozen=True)
class Network:
    """A network of a report; what is None or empty is not known.

    Attributes:
        source: Where it was found.
        name: What it is called in the report.
        figures: What tables say of it, completed from its file.
        measured: Where its accuracy was read.
        task: What it does, in the release's words.
        imgsz: Side of the images that its cost is for, in pixels.
        channel_map: What tracing found.
        plans: By which it was cut, the oldest first.
        blocks: Cost of each numbered module, `model.0` and so on, in their order.
        rows: How many modules its yaml names: of the backbone, and of the rest.
        content: Of its checkpoint: date, version, training arguments.
    """

    source: Source
    name: str
    figures: Figures
    measured: str
    task: str
    imgsz: int = 640
    channel_map: ChannelMap | None = None
    plans: tuple[PruningPlan, ...] = ()
    blocks: dict[str, Cost] = field(default_factory=dict)
    rows: tuple[int, int] = (0, 0)
    content: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """What counts of its accuracy, in 0..1."""
        return self.figures.accuracies.get(what_counts(self.task))

    def part_of(self, layer: str) -> str:
        """Returns the part of the network that a layer lies in."""
        return part_of(layer, self.rows)

    def parts(self) -> dict[str, Cost]:
        """Returns the cost of each part of the network."""
        found: dict[str, list[Cost]] = {}
        for block, cost in self.blocks.items():
            found.setdefault(self.part_of(block), []).append(cost)
        return {part: _sum(found[part]) for part in PARTS if part in found}


def part_of(layer: str, rows: tuple[int, int]) -> str:
    """Returns the part that a layer lies in, by the rows of its yaml: the last one is the head.

    Args:
        layer: Its name, e.g. `model.22.cv2.0.0.conv`.
        rows: How many rows the yaml has for the backbone, and for the rest.
    """
    found = NUMBERED.match(layer)
    if not found or not sum(rows):
        return "other"
    number = int(found[1])
    if number == sum(rows) - 1:
        return "head"
    return "backbone" if number < rows[0] else "neck"


def _sum(costs: Iterable[Cost]) -> Cost:
    costs = list(costs)
    return Cost(*(sum(getattr(cost, name) for cost in costs) for name in ("params", "macs", "training_only")))


def networks_of(sources: Sequence[Source]) -> list[Network]:
    """Reads networks, whose costs are all for images of the size of the first one that knows it.

    Raises:
        PruningError: If a file is no checkpoint of this project's kind, or none of the networks is there.
    """
    loaded = [checkpoint.load(_pt(source), trained_with_bn=False) if _pt(source) else (None, {}) for source in sources]
    sides = [source.figures.imgsz for source in sources if source.figures.imgsz]
    sides += [checkpoint.side_of_training(content) for model, content in loaded if model is not None]
    if not sides or all(model is None for model, _ in loaded):
        raise PruningError("none of these networks has its .pt on this machine: nothing to report on")
    tasks = [model.task for model, _ in loaded if model is not None]
    return [
        _network(source, name, model, content, sides[0], tasks[0])
        for source, name, (model, content) in zip(sources, labels(sources), loaded, strict=True)
    ]


def labels(sources: Sequence[Source]) -> list[str]:
    """Returns a short name for each network, all different: its file, and the run or the folder that it lies in."""
    parts = [[part for part in Path(source.name).parts if part != "weights"] for source in sources]
    short = ["/".join(each[-2:]) for each in parts]
    for name, count in Counter(short).items():
        if count > 1:
            short = [source.name if old == name else old for source, old in zip(sources, short, strict=True)]
    return [
        name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 3]}...{name[-LONGEST_NAME // 2 :]}"
        for name in short
    ]


def _pt(source: Source) -> Any:
    """Returns the checkpoint of a network that is one and is there."""
    return source.path if source.path and source.path.suffix == ".pt" else None


def _network(source: Source, name: str, model: Any, content: dict[str, Any], imgsz: int, task: str) -> Network:
    """Returns a network with all that its file and its tables say."""
    if model is None:
        return Network(source, name, _counting(source.figures, task), source.figures.source, task, imgsz=imgsz)
    stride = max(int(model.stride.max()), 32) if hasattr(model, "stride") else 32
    imgsz = max(1, -(-imgsz // stride)) * stride
    channel_map = trace(model, imgsz=imgsz)
    cost, figures = cost_of(channel_map), _counting(source.figures, model.task)
    measured = figures.source
    if not figures.accuracies:
        figures = replace(figures, accuracies=_trained(content.get("train_metrics") or {}, model.task))
        measured = "its training" if figures.accuracies else ""
    figures = replace(
        figures,
        parameters=cost.deployed,
        macs=float(cost.macs),
        megabytes=source.path.stat().st_size / 1e6 if source.path else None,
    )
    return Network(
        source=source,
        name=name,
        figures=figures,
        measured=measured,
        task=model.task,
        imgsz=imgsz,
        channel_map=channel_map,
        plans=tuple(checkpoint.plans_of(model)),
        blocks=blocks_of(channel_map),
        rows=rows_of_yaml(getattr(model, "yaml", None)),
        content={key: content.get(key) for key in ("date", "version", "git", "train_args", "epoch")},
    )


def _trained(metrics: Mapping[str, Any], task: str) -> dict[str, float]:
    """Returns what a checkpoint says that its training measured; nothing if that is no numbers."""
    try:
        return {name: value for name, value in accuracies(metrics, task).items() if value is not None}
    except (TypeError, ValueError):
        return {}


def _counting(figures: Figures, task: str) -> Figures:
    """Returns figures in which what counts has the name that it has for a task."""
    named = {(what_counts(task) if name == "counts" else name): value for name, value in figures.accuracies.items()}
    return replace(figures, accuracies={name: named[name] for name in titles_of(task) if name in named})


def rows_of_yaml(yaml: Any) -> tuple[int, int]:
    """Returns how many modules a model yaml has in its backbone, and how many behind it."""
    if not isinstance(yaml, Mapping):
        return 0, 0
    backbone, head = (len(rows) if isinstance(rows := yaml.get(key), list) else 0 for key in ("backbone", "head"))
    return backbone, head


def blocks_of(channel_map: ChannelMap) -> dict[str, Cost]:
    """Returns what each numbered module of a network costs; what lies in none is `other`."""
    found: dict[str, dict[str, Any]] = {}
    for name, layer in channel_map.layers.items():
        numbered = NUMBERED.match(name)
        found.setdefault(f"model.{numbered[1]}" if numbered else "other", {})[name] = layer
    costs = {
        block: cost_of(replace(channel_map, layers=layers, blocks=(), other_parameters=0, training_only=0))
        for block, layers in found.items()
    }
    return dict(sorted(costs.items(), key=lambda entry: int(entry[0].partition(".")[2] or 10**6)))
