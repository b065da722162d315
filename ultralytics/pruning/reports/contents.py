"""What is in a report, before it is drawn: networks, stages, images, and the rows of its tables."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..accuracy import titles_of, what_counts
from ..checkpoints.checkpoint import release_version
from ..cost import Cost
from ..latency.timing import processor
from .commands import commands_of
from .detections import Shown, shown_by
from .epochs import Curve, Gammas, curves_of, gammas_of_runs
from .networks import Network, networks_of
from .sources import sources_of

UNKNOWN = "-"
OF_SCORES = ("criterion", "normalize", "per", "round_to")  # settings that a cut of what is at zero does not read
SETTINGS = ("criterion", "normalize", "per", "zeros", "rounds", "refit", "recalibrate", "round_to", "imgsz", "fold")


@dataclass(frozen=True)
class Report:
    """All that a report says.

    Attributes:
        networks: What it is about; the first one is what the others are compared with.
        curves: The stages over the epochs.
        gammas: How gammas faded.
        images: Images with what the networks find in them.
        about_images: A line about these, or why there are none.
        machine: Where the report was written, by name and value.
    """

    networks: tuple[Network, ...]
    curves: tuple[Curve, ...]
    gammas: tuple[Gammas, ...]
    images: tuple[Shown, ...]
    about_images: str
    machine: dict[str, str]

    @property
    def first(self) -> Network:
        """What the others are compared with."""
        return self.networks[0]

    @property
    def title_of_accuracy(self) -> str:
        """What the accuracy that counts is called."""
        return titles_of(self.first.task)[what_counts(self.first.task)]


def collected(words: Sequence[str | Path], data: str | None = None, *, images: bool = True) -> Report:
    """Reads all that a report says of some checkpoints and run folders.

    Args:
        words: Their paths.
        data: The data set whose images are shown; None: that of the training, where it is on this machine.
        images: Whether to look at images at all.

    Raises:
        PruningError: If one of them is neither, is damaged, or the data set that was named is none.
    """
    networks = networks_of(sources_of(words))
    found, about = shown_by(networks, data) if images else ([], "")
    return Report(
        networks=tuple(networks),
        curves=tuple(curves_of(networks)),
        gammas=tuple(gammas_of_runs(networks)),
        images=tuple(found),
        about_images=about,
        machine=machine(),
    )


def machine() -> dict[str, str]:
    """Returns what the report was written with and where, by name and value."""
    import torch

    return {
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "machine": f"{processor()}, {platform.system()} {platform.machine()}",
        "versions": f"Ultralytics {release_version()}, PyTorch {torch.__version__}, Python {platform.python_version()}",
    }


Cell = tuple[str, str]  # a value, and how it stands to that of the first network


def share(value: float | None, of: float | None) -> str:
    """Returns a value as a share of another one: 9.6 %."""
    return f"{100 * value / of:.1f} %" if value is not None and of else ""


def times(before: float | None, after: float | None) -> str:
    """Returns how many times less something became: 2.1x."""
    return f"{before / after:.1f}x" if before and after else ""


def difference(value: float | None, of: float | None) -> str:
    """Returns how much more a value is: -0.004."""
    return f"{value - of:+.3f}" if value is not None and of is not None else ""


def result_titles(report: Report) -> list[str]:
    """Returns the titles of the table of results."""
    size = f"multiply-adds, {report.first.imgsz} px"
    columns = [titles_of(report.first.task)[column] for column in columns_of(report)]
    return ["network", "parameters", size, "file", *columns, "ms per image", "measured by"]


def columns_of(report: Report) -> list[str]:
    """Returns which accuracies any network has, in the order of `accuracy.py`."""
    known = {column for network in report.networks for column in network.figures.accuracies}
    return [column for column in titles_of(report.first.task) if column in known]


def result_rows(report: Report) -> list[list[Cell]]:
    """Returns the table of results: for each network its figures, each with how it stands to the first one's."""
    first, rows = report.first.figures, []
    for network in report.networks:
        figures, is_first = network.figures, network is report.first
        cells: list[Cell] = [
            (network.name, ""),
            (_whole(figures.parameters), share(figures.parameters, first.parameters)),
            (_billions(figures.macs), _both(figures.macs, first.macs)),
            (
                UNKNOWN if figures.megabytes is None else f"{figures.megabytes:.2f} MB",
                share(figures.megabytes, first.megabytes),
            ),
        ]
        for column in columns_of(report):
            value = figures.accuracies.get(column) if network.task == report.first.task else None
            cells.append(
                (UNKNOWN if value is None else f"{value:.4f}", difference(value, first.accuracies.get(column)))
            )
        ms = figures.ms
        cells.append((UNKNOWN if ms is None else f"{ms:.2f}", times(first.ms, ms)))
        cells.append((network.measured or UNKNOWN, ""))
        rows.append([(value, "" if is_first else change) for value, change in cells])
    return rows


def _whole(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _billions(macs: float | None) -> str:
    return UNKNOWN if macs is None else f"{macs / 1e9:.3f} G"


def _both(macs: float | None, of: float | None) -> str:
    """Returns multiply-adds as a share of others, and how many times fewer they are."""
    return f"{share(macs, of)}, {times(of, macs)}" if macs and of else ""


def headline(report: Report) -> str:
    """Returns what came of the last network against the first one, in a sentence."""
    first, last = report.first, report.networks[-1]
    if last is first:
        sizes = f"{_whole(first.figures.parameters)} parameters, {_billions(first.figures.macs)} multiply-adds"
        return f"{first.name}: {sizes}."
    before, after = first.figures, last.figures
    said = (
        [f"{times(before.parameters, after.parameters)} fewer parameters"]
        if before.parameters and after.parameters
        else []
    )
    said += [f"{times(before.macs, after.macs)} fewer multiply-adds"] if before.macs and after.macs else []
    said += [f"{times(before.ms, after.ms)} faster"] if before.ms and after.ms else []
    if change := difference(last.accuracy, first.accuracy) if last.task == first.task else "":
        said.append(f"{report.title_of_accuracy} {change}")
    return f"{last.name} against {first.name}: {', '.join(said) or 'nothing to compare'}."


def cost_rows(report: Report) -> list[tuple[str, list[tuple[Cost, Cost | None]]]]:
    """Returns what each part and each module costs: its name, and for each network that beside the first one's."""
    there = [network for network in report.networks if network.blocks]
    first = there[0]
    found: list[tuple[str, list[tuple[Cost, Cost | None]]]] = []
    for of in (Network.parts, lambda network: network.blocks):
        costs = [of(network) for network in there]
        found += [(name, [(cost.get(name, Cost(0, 0)), costs[0].get(name)) for cost in costs]) for name in of(first)]
    return found


def file_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Returns the files: name, SHA-256, when they were written, and by which release."""
    rows = []
    for network in report.networks:
        content = network.content
        git = content.get("git")
        commit = str(git.get("commit") or "")[:10] if isinstance(git, dict) else ""
        version = ", commit ".join(word for word in (str(content.get("version") or UNKNOWN), commit) if word)
        rows.append(
            (
                network.source.name,
                network.source.digest,
                str(content.get("date") or UNKNOWN)[:16].replace("T", " "),
                version,
            )
        )
    return rows


def settings_of(network: Network) -> list[tuple[str, str]]:
    """Returns how a network was cut, by name and value: each cut's source, and the settings that its plan notes."""
    rows = []
    for number, plan in enumerate(network.plans, 1):
        unread = OF_SCORES if plan.settings.get("zeros") else ()
        names = [key for key in SETTINGS if key not in unread and plan.settings.get(key) not in (None, "")]
        said: dict[str, Any] = {key: plan.settings[key] for key in names}
        words = ", ".join(f"{key}={value}" for key, value in said.items())
        rows.append(
            (f"cut {number}" if len(network.plans) > 1 else "cut", f"{plan.source.get('file', UNKNOWN)}: {words}")
        )
        rows += [("limit", limit) for limit in plan.limits]
        if plan.blocks:
            rows.append(("blocks taken out", ", ".join(plan.blocks)))
    return rows


def all_commands(report: Report) -> dict[str, list[str]]:
    """Returns the commands that made the networks, each command once, by the network that names it first."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for network in report.networks:
        lines = [line for line in commands_of(network) if line not in seen]
        seen.update(lines)
        if lines:
            found[network.name] = lines
    return found
