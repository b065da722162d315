"""The page of `versus.py`, and its pictures: from rows that were measured, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from versus_cells import DENSE, ORDER, of_ground
from versus_sizes import table as sizes_table

from ultralytics.pruning.files import places
from ultralytics.pruning.files.whole import whole_file

DOCS, ASSETS = places.ROOT / "docs" / "results", places.ROOT / "docs" / "assets"
COLOURS = {"ours": "#c2520b", "Torch-Pruning": "#1764ab", "forks": "#2f9e6e", "narrower": "#8a56ac", "dense": "#777777"}
MARKS = "oDs^v"  # of the levels, in this order
INTRODUCTION = """\
# Ours, and what people use instead

By `python benchmarks/versus.py`, which says how it is measured, and how long it takes. From one trained dense network,
equally many epochs and one recipe for all: what each was given stands below the tables. mAP on the val split, in images
padded to squares; of several seeds the mean, and the lowest and highest in brackets. Milliseconds in ONNX Runtime, the
median of many in turns with all others of the data set, the best of three such measurements. `left` is the share of the
dense network's multiply-adds. Of a rival with several settings the better row counts, in bold. Data: playing cards
(EdjeElectronics' object-detection tutorial, Apache-2.0), chess pieces (Roboflow's public chess set, public domain),
printed circuits (DeepPCB, MIT).
"""
STUDY = """\
## DeepPCB at full size

A public study of 2026 cut YOLOv8n by Torch-Pruning on DeepPCB, at 640 pixels in 50 epochs: mAP50-95 0.785 dense, 0.750
at 2.08x fewer multiply-adds, 0.611 in integers. The command that repeats its setting with ours on a GPU is at the end
of what `python benchmarks/versus.py --help` says first. It has not been run at full size yet, only with `--tiny`.
"""
Rows = Sequence[dict[str, Any]]


def write(found: Mapping[str, Any], folder: Path | None) -> None:
    """Writes the page and a picture for each data set that was timed.

    Args:
        found: All that was measured (see `versus_cells.known`).
        folder: Where both go; `docs/results` and `docs/assets` if None.
    """
    pictures = []
    for ground, timing in found["ms"].items():
        points = [row for row in rows_of(found, ground) if row["key"] in timing["networks"]]
        if points:
            file = (folder or ASSETS) / picture_of(ground)
            file.parent.mkdir(parents=True, exist_ok=True)
            draw(points, timing["networks"], ground, file)
            pictures.append(ground)
    place = (folder or DOCS) / "versus.md"
    place.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(place) as whole:
        whole.write_text(page(found, pictures, "../assets/" if folder is None else ""), encoding="utf-8")


def rows_of(found: Mapping[str, Any], ground: str) -> Rows:
    """Returns the rows of a ground with their keys, in the order of a table."""
    rows = [row | {"key": key} for key, row in of_ground(dict(found), ground).items()]
    return sorted(rows, key=lambda row: (ORDER.index(row["method"]), row["seed"]))


def picture_of(ground: str) -> str:
    """Returns the name of a ground's picture."""
    return f"versus-{re.sub('[^a-z0-9]+', '-', ground.lower()).strip('-')}.png"


def page(found: Mapping[str, Any], pictures: Sequence[str], pictures_in: str) -> str:
    """Returns all that was measured as a page."""
    parts = [INTRODUCTION]
    for ground in dict.fromkeys(row["ground"] for row in found["cells"].values()):
        rows = rows_of(found, ground)
        timing = found["ms"].get(ground, {})
        parts.append(f"## {ground}\n")
        if ground in pictures:
            parts.append(f"![mAP50-95 over milliseconds]({pictures_in}{picture_of(ground)})\n")
        for level in sorted({row["level"] for row in rows if row["level"]}, reverse=True) or [None]:
            title = f"### {level:.0%} of the multiply-adds\n" if level else ""
            parts += [title, table([row for row in rows if row["level"] in (level, None)], timing)]
        parts += [given(rows), measured_on(rows, timing)]
        failed = [f"- {key}: {why}" for key, why in found["failed"].items() if key.startswith(f"{ground}, ")]
        parts += ["Not measured, since it failed:\n\n" + "\n".join(failed) + "\n"] if failed else []
    parts.append(STUDY)
    parts.append(sizes_table(found["sizes"]))
    return "\n".join(part for part in parts if part)


def table(rows: Rows, timing: Mapping[str, Any]) -> str:
    """Returns the rows of a level, a line for each method: seeds together."""
    networks = timing.get("networks", {})
    dense, best = networks.get(DENSE), best_settings(rows)
    lines = [
        "| network | left | parameters | GFLOPs | mAP50 | mAP50-95 | ms | faster |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        ms = [networks[row["key"]] for row in mine if row["key"] in networks]
        speed = (f"{mean(ms):.2f}", f"{dense / mean(ms):.2f}x") if ms and dense else ("", "")
        size = f"{mean(row['left'] for row in mine):.1%}", f"{mean(row['params'] for row in mine):,.0f}"
        flops = f"{mean(row['gflops'] for row in mine):.2f}"
        scores = [over_seeds([row[score] for row in mine]) for score in ("map50", "map")]
        name = f"**{method}**" if method in best else method
        lines.append("| " + " | ".join((name, *size, flops, *scores, *speed)) + " |")
    return "\n".join(lines) + "\n"


def best_settings(rows: Rows) -> set[str]:
    """Returns of each rival that has several settings the best one."""
    kinds: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        kind = method.split(", ")[0]
        if kind in ("forks", "Torch-Pruning"):
            kinds.setdefault(kind, {})[method] = mean(row["map"] for row in rows if row["method"] == method)
    return {max(scores, key=scores.__getitem__) for scores in kinds.values() if len(scores) > 1}


def mean(values: Any) -> float:
    """Returns the mean of some numbers."""
    found = list(values)
    return sum(found) / len(found)


def over_seeds(values: Sequence[float]) -> str:
    """Returns the mean of the seeds, and where there are several their lowest and highest."""
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def given(rows: Rows) -> str:
    """Returns what each method was given, of one of its seeds at each level."""
    lines = ["What each was given, beside the images, the batch and the seed:", ""]
    for method in dict.fromkeys(row["method"] for row in rows):
        said = dict.fromkeys(in_words(row["settings"]) for row in rows if row["method"] == method)
        lines.append(f"- {method}: {'; or '.join(said)}")
    return "\n".join(lines) + "\n"


def in_words(settings: Mapping[str, Any]) -> str:
    """Returns settings in words."""
    shown: Callable[[Any], str] = lambda value: f"({in_words(value)})" if isinstance(value, Mapping) else str(value)  # noqa: E731
    return ", ".join(f"`{value}`" if key == "command" else f"{key} {shown(value)}" for key, value in settings.items())


def measured_on(rows: Rows, timing: Mapping[str, Any]) -> str:
    """Returns on what it was measured, and how long the cells took."""
    versions = {f"{name} {version}" for row in rows for name, version in row["versions"].items()}
    minutes = [row["seconds"] / 60 for row in rows if not row["resumed"]]
    took = f" A cell took {min(minutes):.0f} to {max(minutes):.0f} minutes." if minutes else ""
    where = {f"{row['machine']}" + (f" and GPU {row['device']}" if row["device"] != "cpu" else "") for row in rows}
    clock = f" Timed with {timing['threads']} thread of {timing['machine']}." if timing else " Not timed yet."
    return f"Trained on {', '.join(sorted(where))}, with {', '.join(sorted(versions))}.{took}{clock}\n"


def draw(rows: Rows, networks: Mapping[str, Any], title: str, file: Path) -> None:
    """Draws mAP50-95 over milliseconds: a colour for each kind of method, a mark for each level."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(7.5, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    levels = sorted({row["level"] for row in rows if row["level"]}, reverse=True)
    marks = dict(zip(levels, MARKS[1:], strict=False)) | {None: MARKS[0]}
    named: list[tuple[float, float, str, str]] = []
    for method, level in dict.fromkeys((row["method"], row["level"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["level"]) == (method, level)]
        ms, scores = mean(networks[row["key"]] for row in mine), [row["map"] for row in mine]
        colour = next(colour for kind, colour in COLOURS.items() if method.startswith(kind))
        face = "none" if "int8" in method else colour  # a ring for integers
        axes.vlines(ms, min(scores), max(scores), color=colour, lw=1)
        axes.scatter(ms, mean(scores), marker=marks[level], s=45, facecolor=face, edgecolor=colour)
        named.append((mean(scores), ms, method, colour))
    axes.margins(x=0.2)
    height, above = float(np.diff(axes.get_ylim())[0]) / 40, -np.inf
    for score, ms, method, colour in sorted(named):  # names one above the other, not one over the other
        above = max(score, above + height)
        axes.text(ms, above, f"   {method}", size=6, color=colour, va="center")
    axes.set(xlabel="milliseconds of an image, ONNX Runtime", ylabel="mAP50-95", title=title)
    axes.grid(alpha=0.3)
    words = {level: f"{level:.0%} of the multiply-adds" if level else "at every level" for level in marks}
    handles = [Line2D([], [], marker=marks[level], color="#333333", ls="", label=words[level]) for level in marks]
    axes.legend(handles=handles, fontsize=7, loc="best")
    with whole_file(file) as whole_picture:
        figure.savefig(whole_picture, format="png")
