"""Renders the figures of `zoo.py` as a page of Markdown."""

import re
from typing import Any

HEADER = (
    "model",
    "task",
    "parameters",
    "pruned",
    "free",
    "trace s",
    "select s",
    "cut s",
    "together s",
    "difference",
    "Torch-Pruning",
    "its s",
    "with C2f replaced",
    "its s",
)
NUMBER = r"[\d,.]*%?|[\d.]+e[-+]\d+"
EXACT = 1e-8  # in float64, where rounding is below 1e-10


def render(data: dict[str, Any]) -> str:
    """Returns the page: what was run, how many succeeded, one row a file, and what is pinned."""
    models = data["models"]
    parts = [
        "# Every model file of the release",
        "Made by `python benchmarks/zoo.py` (`--only-ours` for the first half alone, or names of models); the figures "
        "are those of `zoo.json`. Each file at its smallest scale, and the largest scale of each family, built with "
        "random weights and batch norm statistics. Each is pruned at a ratio of 0.5 by the batch norm scales.",
        _runs(data["runs"]),
        "\n".join(f"- {line}" for line in summary(models)),
        _markdown(HEADER, [_row(name, entry) for name, entry in models.items()]),
        "*free*: share of channels that can be removed. *difference*: largest difference of any raw head output from "
        "that of the original with the removed channels silenced, in float64, relative to how far the output strays "
        'from its mean. *Torch-Pruning*: parameters that it leaves, or the error that it ends with; "no answer": none '
        "after 60 s. It prunes the file as it is, and with C2f (and what derives from it and runs alike) replaced by a "
        "block with two convolutions, as its own YOLOv8 example does; the result of that is no stock checkpoint any "
        "more. As in that example, its head is left alone, so it removes less there. Seconds are those of the fastest "
        "of three runs, without starting Python and building the network.",
        "## What is pinned, and why",
        _markdown(("model", "channels that stay"), [(name, _pinned(entry)) for name, entry in models.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def summary(models: dict[str, Any]) -> list[str]:
    """Says how many files succeeded, how fast, and how that compares."""
    done = {name: entry["ours"] for name, entry in models.items() if "error" not in entry["ours"]}
    exact = [name for name, ours in done.items() if ours["difference"] <= EXACT]
    costed = [name for name, ours in done.items() if ours["planned_params"] == ours["pruned_params"]]
    seconds = {name: sum(ours["seconds"].values()) for name, ours in done.items()}
    slow = [f"{name} ({value:.2f} s)" for name, value in seconds.items() if value >= 1]
    low = [
        f"{name} ({done[name]['free']:.0%})"
        for name, entry in models.items()
        if name in done and entry["task"] == "detect" and not entry["reads_text"] and done[name]["free"] <= 0.75
    ]
    lines = [
        f"Ours: {len(done)} of {len(models)} files cut, {len(exact)} of them equal to the silenced original, "
        f"{len(costed)} with exactly the planned parameters{_named('not cut', set(models) - set(done))}"
        f"{_named('not equal', set(done) - set(exact))}.",
        f"Ours: {len(seconds) - len(slow)} of {len(done)} under 1 s for trace, selection and cut together, the slowest "
        f"{max(seconds.values(), default=0):.2f} s{_named('slower', slow)}.",
        f"Detection without a text branch: {len(low)} with 75 % of free channels or less{_named('these', low)}.",
    ]
    for key, title in (("torch_pruning", "as the files are"), ("torch_pruning_split", "with C2f replaced")):
        tried = {
            name: entry[key] for name, entry in models.items() if entry.get(key, {}).get("result", "no C2f") != "no C2f"
        }
        cuts = {name: result for name, result in tried.items() if result["result"] == "cut"}
        broken = [name for name, result in cuts.items() if not result["runs"]]
        silent = [name for name, result in tried.items() if result["result"] == "no answer"]
        faster = [
            f"{name} ({result['seconds']:.2f} s against {seconds[name]:.2f} s)"
            for name, result in cuts.items()
            if name in seconds and result["seconds"] < seconds[name]
        ]
        lines.append(
            f"Torch-Pruning, {title}: {len(tried)} tried, {len(cuts)} cut ({len(broken)} do not run afterwards), "
            f"{len(tried) - len(cuts) - len(silent)} errors, {len(silent)} without an answer; faster than ours in "
            f"{len(faster)} of {len(cuts)}{_named('these', faster)}."
        )
    return lines


def _runs(runs: dict[str, dict[str, str]]) -> str:
    """What each half was measured on."""
    titles = {"ours": "Ours", "torch_pruning": "Torch-Pruning"}
    lines = []
    for key, title in titles.items():
        if run := runs.get(key):
            package = f" {run['torch_pruning']}" if "torch_pruning" in run else ""
            lines.append(
                f"{title}{package}: {run['date']}, {run['machine']}, {run['threads']} threads, {run['versions']}."
            )
    return "  \n".join(lines)


def _named(title: str, names: Any) -> str:
    """A list of names after a title, or nothing."""
    return f"; {title}: {', '.join(sorted(names))}" if names else ""


def _row(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    """One file's row."""
    ours = entry["ours"]
    cells: tuple[str, ...] = (name, entry["task"], f"{ours['params']:,}")
    if "error" in ours:
        cells += (ours["error"].replace("|", "/"), *[""] * 6)
    else:
        seconds = ours["seconds"]
        cells += (f"{ours['pruned_params']:,}", f"{ours['free']:.0%}")
        cells += tuple(f"{seconds[stage]:.2f}" for stage in ("trace", "select", "cut"))
        cells += (f"{sum(seconds.values()):.2f}", f"{ours['difference']:.1e}")
    for key in ("torch_pruning", "torch_pruning_split"):
        cells += _other(entry.get(key, {}))
    return cells


def _other(result: dict[str, Any]) -> tuple[str, str]:
    """Torch-Pruning's two cells: what came out, and its seconds."""
    text = result.get("result", "")
    if text == "cut":
        text = f"{result['params']:,}" + ("" if result["runs"] else " (does not run)")
    return text, f"{result['seconds']:.2f}" if "seconds" in result and text != "no answer" else ""


def _pinned(entry: dict[str, Any]) -> str:
    """Numbers of pinned channels with their reasons, the most frequent first."""
    pinned = entry["ours"].get("pinned", {})
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(pinned.items(), key=lambda item: -item[1]))


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of Markdown; columns of numbers are right-aligned."""
    right = [all(re.fullmatch(NUMBER, row[i]) for row in rows) for i in range(len(header))]
    lines = [header, tuple("---:" if flag else "---" for flag in right), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
