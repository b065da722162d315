"""The report as one HTML file: nothing in it is fetched, no script runs, and it is light or dark as its reader is."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from ..contents import (
    Report,
    all_commands,
    cost_rows,
    file_rows,
    headline,
    result_rows,
    result_titles,
    settings_of,
)
from ..epochs import Gammas
from ..layers import Width, widths_of
from ..networks import PARTS, Network
from . import charts
from .images import same_images
from .markup import Markup, cell, joined, section, table, tag

MARK = "report of ultralytics/pruning"  # by which a file is known as a report of this project
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
ARE_NUMBERS = ("network", "measured by")  # columns of the results that hold none


def page(report: Report) -> str:
    """Returns the text of the file."""
    about = [
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=MARK),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", "Pruning report"),
        tag("style", Markup(Path(__file__).with_name("style.css").read_text(encoding="utf-8"))),
    ]
    parts = (_results, _timeline, _costs, _layers, _gammas, same_images, _making)
    inside = [tag("h1", "Pruning report"), tag("p", headline(report), class_="headline")]
    body = tag("body", tag("main", inside, [part(report) for part in parts]))
    return f"<!DOCTYPE html>\n{tag('html', tag('head', about), body, lang='en')}\n"


def _legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """Returns what colours mean: pairs of a class and a name."""
    keys = [tag("span", tag("i", class_=f"key {colour}"), name) for colour, name in entries]
    return tag("div", keys, class_="legend")


def _results(report: Report) -> Markup:
    """Returns the table of results."""
    titles = result_titles(report)
    numbers = [place for place, title in enumerate(titles) if title not in ARE_NUMBERS]
    rows = [[cell(*pair) for pair in row] for row in result_rows(report)]
    said = f"Small figures are relative to the first row, {report.first.name}." if len(rows) > 1 else ""
    return section("Result", said, table(titles, rows, numbers=numbers, class_="results"))


def _timeline(report: Report) -> Markup | None:
    """Returns accuracy and cost over the epochs."""
    if not any(curve.accuracies or len(report.curves) > 1 for curve in report.curves):
        return None
    said = "Lines: the val split after each epoch of a training. Dots: what was measured of the networks that it left."
    if start := charts.visible_from(report.curves):
        said += f" {report.curves[0].name} is shown from epoch {start:g} on."
    legend = _legend((f"s{place % 6}", curve.name) for place, curve in enumerate(report.curves))
    return section("All stages on one line", said, charts.timeline(report.curves, report.title_of_accuracy), legend)


def _costs(report: Report) -> Markup | None:
    """Returns where parameters, multiply-adds and milliseconds were and are."""
    there = [network for network in report.networks if network.blocks]
    rows = cost_rows(report)
    of_parts = [name for name, _ in rows if name in PARTS]
    largest = {
        unit: [
            max(_cost(pair[0], unit) for name, pairs in rows if (name in PARTS) == part for pair in pairs) or 1
            for part in (0, 1)
        ]
        for unit in ("deployed", "macs")
    }

    def bars(name: str, pairs: list, unit: str) -> Markup:
        """Returns the bars of a part or a module, one for each network."""
        most = largest[unit][name in PARTS]
        drawn = []
        for place, (cost, _) in enumerate(pairs):
            value = _cost(cost, unit)
            width = f"width:{58 * value / most:.1f}%"
            drawn.append(
                tag("div", tag("i", class_=f"s{place % 6} key", style=width), tag("span", short(value)), class_="bar")
            )
        return tag("div", drawn)

    def grid(names: list[str]) -> Markup:
        titles = [tag("div", title, class_="title") for title in ("", "parameters", "multiply-adds")]
        cells = [
            (
                tag("div", tag("i", class_=f"key {there[0].part_of(name) if name not in PARTS else name}"), name),
                bars(name, pairs, "deployed"),
                bars(name, pairs, "macs"),
            )
            for name, pairs in rows
            if name in names
        ]
        return tag("div", titles, cells, class_="bars")

    legend = _legend((f"s{place % 6}", network.name) for place, network in enumerate(there))
    modules = tag("details", tag("summary", "Each module"), grid([name for name, _ in rows if name not in PARTS]))
    return section("Where the cost was and is", _milliseconds(report), legend, grid(of_parts), modules)


def _milliseconds(report: Report) -> str:
    """Returns the milliseconds that are known, in a sentence."""
    timed = [
        f"{network.name} {network.figures.ms:.2f} ms" for network in report.networks if network.figures.ms is not None
    ]
    return (
        f"Of the deployed networks. For one image: {', '.join(timed)}."
        if timed
        else "Of the deployed networks; nothing was timed."
    )


def _cost(cost, unit: str) -> int:
    return getattr(cost, unit)


def short(value: float) -> str:
    """Returns a count in three digits: 1.23 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g}"


def _layers(report: Report) -> Markup | None:
    """Returns what each layer of each network kept, and why."""
    cut = [(network, widths) for network in report.networks if (widths := widths_of(network))]
    if not cut:
        return None
    said = "A column is a layer, filled as far as its channels were kept. A red dot: it is held, or cannot be cut."
    parts = dict.fromkeys(width.part for _, widths in cut for width in widths)
    legend = _legend([(part, part) for part in PARTS if part in parts] + [("held", "held")])
    last = cut[-1][0]
    return section(
        "What each layer kept, and why", said, legend, [_cut(one, widths, one is last) for one, widths in cut]
    )


def _cut(network: Network, widths: list[Width], is_open: bool) -> Markup:
    """Returns what the layers of a network kept: a picture and a table."""
    kept, before = sum(width.kept for width in widths), sum(width.before for width in widths)
    rows = [
        (
            joined(tag("i", class_=f"key {width.part}"), width.name),
            width.kept,
            width.before,
            f"{width.kept / width.before:.0%}",
            _meter(width),
            _why(width),
        )
        for width in widths
    ]
    titles = ("layer", "kept", "of", "share", "", "why")
    inside = tag(
        "details",
        tag("summary", "All layers"),
        table(titles, rows, numbers=(1, 2, 3), class_="layers"),
        open="" if is_open else None,
    )
    head = tag("h3", f"{network.name}: {kept:,} of {before:,} channels")
    return joined(head, charts.kept_per_layer(widths), inside)


def _why(width: Width) -> Markup:
    """Returns why a layer kept what it kept: what held it, and with what it goes together."""
    held = tag("span", width.held, class_="reason") if width.held else None
    rest = width.tied if held else width.why
    return tag("span", held, "; " if held and rest else None, rest, class_="why")


def _meter(width: Width) -> Markup:
    share = f"width:{100 * width.kept / width.before:.1f}%"
    return tag(
        "span",
        tag("i", class_=f"gone {width.part}", style="width:100%"),
        tag("i", class_=width.part, style=share),
        class_="meter",
    )


def _gammas(report: Report) -> Markup | None:
    """Returns how the gammas faded."""
    if not report.gammas:
        return None
    said = "The batch-norm scales of channels that can be pruned, after each epoch; a stronger colour is more of them."
    return section("Gammas over the epochs", said, [_faded(gammas) for gammas in report.gammas])


def _faded(gammas: Gammas) -> Markup:
    """Returns how the gammas of a training faded: drawn from its numbers, or the picture that it left."""
    if gammas.picture:
        data = base64.b64encode(gammas.picture.read_bytes()).decode("ascii")
        drawn = tag("img", src=f"data:image/png;base64,{data}", alt="gammas over the epochs", class_="drawn")
    else:
        drawn = charts.gammas_over_epochs(gammas)
    return joined(tag("h3", gammas.name), drawn)


def _making(report: Report) -> Markup:
    """Returns settings, commands, files and machine."""
    commands = [joined(tag("h3", name), tag("pre", "\n".join(lines))) for name, lines in all_commands(report).items()]
    files = [
        (name, tag("span", digest, class_="mono"), date, version) for name, digest, date, version in file_rows(report)
    ]
    settings = [
        joined(tag("h3", network.name), _listed(said)) for network in report.networks if (said := settings_of(network))
    ]
    return joined(
        section("Commands that made them", "By what the checkpoints, their plans and their runs note.", commands)
        if commands
        else None,
        section("Settings of the cuts", "", settings) if settings else None,
        section("Files", "", table(("file", "SHA-256", "written", "release"), files)),
        section("This report", "", _listed(report.machine.items())),
    )


def _listed(pairs: Iterable[tuple[str, str]]) -> Markup:
    return tag("dl", [(tag("dt", name), tag("dd", value)) for name, value in pairs])
