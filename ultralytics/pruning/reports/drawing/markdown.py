"""The tables of a report as Markdown, for an issue or a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..contents import Report, all_commands, cost_rows, file_rows, headline, result_rows, result_titles, settings_of
from ..layers import widths_of
from ..networks import PARTS
from .markup import plain
from .page import MARK, short

TEXT = {"network", "measured by", "layer", "why", "part", "file", "SHA-256", "written", "release", "type"}


def markdown(report: Report) -> str:
    """Returns the text of the file."""
    parts = [
        f"<!-- {MARK} -->\n# Pruning report",
        plain(headline(report)),
        "## Result\n\n"
        + _table(result_titles(report), [[_cell(*pair) for pair in row] for row in result_rows(report)]),
        "## Where the cost was and is\n\n" + _costs(report),
        *_layers(report),
        *_making(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table; cells are escaped already, columns of numbers are right-aligned."""
    ends = ["---" if title in TEXT else "---:" for title in titles]
    lines = [[plain(title) for title in titles], ends, *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _cell(value: str, change: str) -> str:
    return f"{plain(value)} ({plain(change)})" if change else plain(value)


def _costs(report: Report) -> str:
    """Returns what each part of the networks costs."""
    names = [network.name for network in report.networks if network.blocks]
    titles = ["part", *(f"{what}: {name}" for what in ("parameters", "multiply-adds") for name in names)]
    rows = [
        [name, *(short(cost.deployed) for cost, _ in pairs), *(short(cost.macs) for cost, _ in pairs)]
        for name, pairs in cost_rows(report)
        if name in PARTS
    ]
    return _table(titles, rows)


def _layers(report: Report) -> list[str]:
    """Returns what each layer of each network kept, and why, folded away."""
    found = []
    for network in report.networks:
        rows = [
            (
                plain(width.name),
                width.part,
                width.kept,
                width.before,
                f"{width.kept / width.before:.0%}",
                plain(width.why),
            )
            for width in widths_of(network)
        ]
        if rows:
            drawn = _table(("layer", "part", "kept", "of", "share", "why"), rows)
            title = f"What each layer of {plain(network.name)} kept, and why"
            found.append(f"<details><summary>{title}</summary>\n\n{drawn}\n\n</details>")
    return found


def _making(report: Report) -> list[str]:
    """Returns settings, commands, files and machine."""
    parts = []
    if commands := all_commands(report):
        lines = [line for of in commands.values() for line in of]
        longest = max(len(run) for line in [*lines, ""] for run in _ticks(line))
        fence = "`" * max(3, longest + 1)
        parts.append(f"## Commands that made them\n\n{fence}bash\n" + "\n".join(map(_one_line, lines)) + f"\n{fence}")
    said = [
        f"- {plain(network.name)}, {plain(name)}: {plain(value)}"
        for network in report.networks
        for name, value in settings_of(network)
    ]
    parts += ["## Settings of the cuts\n\n" + "\n".join(said)] if said else []
    files = [[plain(value) for value in row] for row in file_rows(report)]
    parts.append("## Files\n\n" + _table(("file", "SHA-256", "written", "release"), files))
    parts.append("\n".join(f"- {name}: {plain(value)}" for name, value in report.machine.items()))
    return parts


def _ticks(line: str) -> list[str]:
    """Returns the runs of backticks in a line; at least an empty one."""
    return ["", *("`" * len(run) for run in "".join(c if c == "`" else " " for c in line).split())]


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())
