"""Runs to report on, made without a training, and what an HTML page says, read by the standard library's parser."""

import csv
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from ultralytics.pruning import Limits, cost_of, load, prune_network, save, trace
from ultralytics.pruning.checkpoints.checkpoint import sha256
from ultralytics.pruning.criteria.scoring import Scoring
from ultralytics.pruning.plots import fixed_edges

LIMITS = Limits(floor=0.6, round_to=4)
EPOCHS = 3  # of each training


def cut(weights: Path, file: Path, speed_up: float = 2.0, **train_args: object) -> Path:
    """Writes a pruned network with its plan."""
    model, _ = load(weights)
    source = {"file": str(weights), "sha256": sha256(weights), "task": "detect"}
    asked = {"scoring": Scoring("slim"), "limits": LIMITS, "imgsz": 64, "source": source}
    save(prune_network(model, speed_up=speed_up, **asked).model, file, train_args={"imgsz": 64, **train_args})
    return file


def compression(folder: Path, weights: Path, data: Path) -> Path:
    """Writes what a compression leaves in its folder."""
    folder.mkdir(parents=True)
    result = cut(weights, folder / "compressed.pt", data=str(data))
    costs = [cost_of(trace(load(file)[0], imgsz=64)) for file in (weights, result)]
    (before, after), half = costs, {"cut": "0.41", "recovered": ""}
    rows = [
        {"step": "original", "epochs": 0, **_sizes(before), "cut": "", "recovered": "0.625", "kept": "", "ms": "8.4"},
        {"step": "steered", "epochs": EPOCHS, **_sizes(after), **half, "kept": "", "ms": ""},
        {"step": "fine-tuned", "epochs": 2 * EPOCHS, **_sizes(after), "cut": "", "recovered": "0.621", "kept": "yes"},
    ]
    rows[-1]["ms"] = "4.0"
    write_csv(folder / "compress.csv", [{**row, "seconds": 1.0} for row in rows])
    recipe = {"weights": str(weights), "sha256": sha256(weights), "data": str(data), "scheme": "steered"}
    recipe |= {"target": {"name": "speed_up", "value": 2.0}, "epochs": EPOCHS, "limits": LIMITS.settings()}
    recipe |= {"training": {"imgsz": 64, "batch": 8}}
    (folder / "state.json").write_text(json.dumps({"recipe": recipe, "done": {}}))
    for name, scores in (("steered", (0.6, 0.5, 0.4)), ("fine-tuned", (0.5, 0.6, 0.61))):
        (folder / name).mkdir()
        write_csv(folder / name / "results.csv", [{"epoch": 1, "metrics/mAP50-95(B)": score} for score in scores])
    gammas(folder / "steered" / "gamma.csv")
    return folder


def _sizes(cost) -> dict[str, int]:
    return {"parameters": cost.deployed, "macs": cost.macs}


def gammas(file: Path) -> None:
    """Writes the gammas of a sparsity training in which half of 40 channels fade."""
    bins = ["0", *(f"{edge:.6g}" for edge in fixed_edges()[:-1])]
    rows = []
    for epoch in range(1, EPOCHS + 1):
        counts = dict.fromkeys(bins, 0)
        counts["0"], counts[bins[-4]] = 10 * (epoch - 1), 40 - 10 * (epoch - 1)
        rows.append({"epoch": epoch, "sparsity": 0.5, "strength": 0.1, **counts})
    write_csv(file, rows)


def write_csv(file: Path, rows: list[dict]) -> None:
    """Writes rows as a CSV file."""
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@dataclass
class Page(HTMLParser):
    """What a page holds, as a browser's parser would see it.

    Attributes:
        elements: Name and attributes of each, in their order.
        tables: Their rows of cells, by the table's class; what is relative stands behind a `|`.
        text: All that is shown.
    """

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._table: list[list[str]] = []

    @classmethod
    def of(cls, text: str) -> "Page":
        """Reads a page."""
        page = cls()
        page.feed(text)
        return page

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self._table = self.tables.setdefault(dict(attrs).get("class", ""), [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")
        elif tag == "small" and self._table and self._table[-1]:
            self._table[-1][-1] += "|"

    def handle_data(self, data) -> None:
        self.text += data
        if self._table and self._table[-1] and data.strip():
            self._table[-1][-1] += data

    def handle_endtag(self, tag) -> None:
        if tag == "table":
            self._table = []

    def named(self, name: str) -> list[dict[str, str]]:
        """Returns the attributes of the elements of a name."""
        return [attributes for tag, attributes in self.elements if tag == name]
