"""Compares what runs a network, in float and in integers: accuracy on a val split, milliseconds, all in turns.

    python benchmarks/runtimes.py --dense runs/dense-cards/weights/best.pt --data datasets/cards/data.yaml --imgsz 256 \
--pruned runs/compress/compressed.pt

The dense network in ONNX Runtime is what all rows are compared with; the pruned one is exported to every format that
runs here (see `export.py --fastest`). `docs/results/runtimes.md` and the README's picture are made from all that was
measured; `--draw` makes them anew without measuring. Best on a machine that rests: what others compute meanwhile makes
every row slower, and some more than others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Python searches a script's own folder, not the root's

from ultralytics.pruning.checkpoints import checkpoint
from ultralytics.pruning.deploy.exporting import export_by_release
from ultralytics.pruning.files import places
from ultralytics.pruning.files.whole import whole_file
from ultralytics.pruning.latency.timing import processor
from ultralytics.pruning.quantization.fastest import products, timed
from ultralytics.pruning.quantization.ground import Ground
from ultralytics.pruning.release import quiet_release
from ultralytics.pruning.report import say

RUNS = places.RUNS / "runtimes-benchmark"
FOUND = RUNS / "found.json"
PAGE = places.ROOT / "docs" / "results" / "runtimes.md"
PICTURE = places.ROOT / "docs" / "assets" / "runtimes.png"
DENSE = "dense, ONNX Runtime"
FLOAT = "pruned, onnx"
INK, HUES = "#333333", ("#c2520b", "#1764ab", "#2f9e6e", "#8a56ac")  # a hue for each data set
MARKS = {"pruned, onnx int8": ("s", "pruned, INT8"), "pruned, openvino": ("^", "pruned, OpenVINO")}
ROUNDS = 3  # of the timing in turns, of which the best counts


def measured(dense: Path, pruned: Path, data: str, imgsz: int, threads: int) -> dict[str, dict[str, Any]]:
    """Returns accuracy and milliseconds of the dense network, and of the pruned one in every format, by name."""
    model, content = checkpoint.load(pruned)
    ground = Ground.of(model, content, data, imgsz, threads, "a comparison")
    with tempfile.TemporaryDirectory(prefix="runtimes-") as name:
        folder = Path(name)
        files, scores = {}, {}
        for what, weights in (("dense", dense), ("pruned", pruned)):
            (folder / what).mkdir()
            copy = Path(shutil.copy(weights, folder / what / "network.pt"))
            with quiet_release():
                files[what] = export_by_release(copy, {"format": "onnx", "imgsz": imgsz, "device": "cpu"})
            scores[what] = ground.accuracy(files[what])
        (folder / "products").mkdir()
        made = products(pruned, files["pruned"], ground, 0.01, folder / "products")
        all_files = {DENSE: files["dense"], **{f"pruned, {each}": file for each, (file, _) in made.items()}}
        all_scores = {DENSE: scores["dense"], **{f"pruned, {each}": score for each, (_, score) in made.items()}}
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            ms, chosen = timed(all_files, ground)
            best = {each: min(value, best.get(each, value)) for each, value in ms.items()}
    return {each: {"ms": best[each], "accuracy": all_scores[each], "arithmetic": chosen[each]} for each in all_files}


def page(found: dict[str, dict[str, Any]]) -> str:
    """Returns all that was measured as a page, a table for each pair of networks."""
    lines = [
        "# Runtimes, and integers",
        "",
        "By `python benchmarks/runtimes.py`, which says what is compared. Milliseconds for one image, the median of",
        "many in turns, the best of three such measurements; mAP50-95 on the val split. What a runtime computes in",
        "where it is told nothing stands behind its name.",
        "",
        "![Accuracy over milliseconds](../assets/runtimes.png)",
    ]
    for title, about in found.items():
        rows = about["rows"]
        first = rows[DENSE]
        lines += ["", f"## {title}", "", "| network | ms | faster | mAP50-95 | change |", "|---|---:|---:|---:|---:|"]
        for name, row in rows.items():
            odd = row["arithmetic"] if row["arithmetic"] not in ("", "float32") and "int8" not in name else ""
            ratio, change = first["ms"] / row["ms"], row["accuracy"] - first["accuracy"]
            shown = f"{name} ({odd})" if odd else name
            lines.append(f"| {shown} | {row['ms']:.2f} | {ratio:.2f}x | {row['accuracy']:.3f} | {change:+.3f} |")
        lines += ["", f"{about['threads']} thread of {about['machine']}."]
    return "\n".join(lines) + "\n"


def points(networks: dict[str, dict[str, dict[str, Any]]], row: str) -> list[tuple[float, float]]:
    """Returns milliseconds and accuracy of a row, for each of several networks."""
    return [(rows[row]["ms"], rows[row]["accuracy"]) for rows in networks.values()]


def draw(found: dict[str, dict[str, Any]], file: Path) -> None:
    """Draws accuracy over milliseconds: a line and a color for each data set, a mark for each runtime."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    by_data: dict[str, dict[str, Any]] = {}
    for title, about in found.items():
        data, network, _ = title.split(", ")
        by_data.setdefault(data, {})[network] = about["rows"]
    for hue, (data, networks) in zip(HUES, by_data.items(), strict=False):
        line = [points(networks, DENSE)[0], *points(networks, FLOAT)]
        axes.plot(*zip(*line, strict=True), "o-", color=hue, label=data)
        for number, (name, (ms, accuracy)) in enumerate(zip(["dense", *networks], line, strict=True)):
            place = (0, -24 if number % 2 else 7)  # by turns below and above, for the small ones are near each other
            axes.annotate(f"{name}\n{ms:.1f} ms", (ms, accuracy), place, textcoords="offset points", color=INK)
            axes.texts[-1].set(ha="center", fontsize=8)
        for row, (mark, _) in MARKS.items():
            axes.plot(*zip(*points(networks, row), strict=True), mark, color=hue, fillstyle="none")
    for mark, words in MARKS.values():
        axes.plot([], [], mark, color=INK, fillstyle="none", label=words)
    tops = [row["accuracy"] for about in found.values() for row in about["rows"].values()]
    axes.set(xlabel="milliseconds for one image, one CPU core", ylabel="mAP50-95", xlim=(0, None))
    axes.set_ylim(min(tops) - 0.05, max(tops) + 0.05)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left", title="lines: ONNX Runtime", fontsize=8, title_fontsize=8)
    figure.savefig(file)


def main() -> None:
    """Measures a pair of networks, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dense", type=Path)
    parser.add_argument("--pruned", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--draw", action="store_true", help="page and picture of what was measured before")
    options = parser.parse_args()
    if not (options.draw or (options.dense and options.pruned and options.data)):
        parser.error("--dense, --pruned and --data are needed, or --draw alone")
    if not options.draw:
        measure(options)
    known = json.loads(FOUND.read_text(encoding="utf-8"))
    PAGE.write_text(page(known), encoding="utf-8")
    draw(known, PICTURE)
    say(PAGE.read_text(encoding="utf-8"))


def measure(options: argparse.Namespace) -> None:
    """Measures a pair of networks, and keeps what was found."""
    title = f"{Path(options.data).resolve().parent.name}, {options.pruned.stem}, {options.imgsz} px"
    rows = measured(options.dense, options.pruned, options.data, options.imgsz, options.threads)
    known = json.loads(FOUND.read_text(encoding="utf-8")) if FOUND.is_file() else {}
    known[title] = {"rows": rows, "threads": options.threads, "machine": processor()}
    RUNS.mkdir(parents=True, exist_ok=True)
    with whole_file(FOUND) as file:
        file.write_text(json.dumps(known, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
