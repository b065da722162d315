"""What happened over the epochs: accuracy and cost of all stages on one line, and how the gammas faded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..accuracy import accuracy
from ..errors import PruningError
from ..files.places import shown
from ..inputs.documents import found_in
from .networks import Network
from .sources import Compression, rows_of, value_of

GAMMAS = "gamma.csv"


@dataclass(frozen=True)
class Curve:
    """A stage of work on a network, over the epochs.

    Attributes:
        name: What it is called.
        start: Epochs that came before it.
        accuracies: At the end of each of its epochs, in 0..1.
        macs: Multiply-adds of the network while it was trained.
        points: Networks that it left: epochs before them, accuracy, multiply-adds.
    """

    name: str
    start: float
    accuracies: tuple[float, ...]
    macs: float
    points: tuple[tuple[float, float, float], ...] = ()

    @property
    def end(self) -> float:
        """Epochs up to its end."""
        return self.start + len(self.accuracies)


@dataclass(frozen=True)
class Gammas:
    """The gammas of a sparsity training at the end of each epoch.

    Attributes:
        name: Of the run.
        epochs: Their numbers, counted from 1.
        counts: How many gammas lie in each bin, (E, 1 + B), the exact zeros first; empty if only a picture is there.
        edges: Of the bins, (B + 1,), ascending.
        picture: The picture that the training drew, where it left no numbers.
    """

    name: str
    epochs: tuple[int, ...] = ()
    counts: np.ndarray | None = None
    edges: np.ndarray | None = None
    picture: Path | None = None


def results_of(folder: Path, task: str) -> tuple[float, ...]:
    """Returns the accuracy after each epoch of a training, by its `results.csv`; nothing if it has none.

    Raises:
        PruningError: If the file is damaged.
    """
    file = folder / "results.csv"
    if not file.is_file():
        return ()
    with found_in(f"'{shown(file)}'", "no table of a training"):
        found = [accuracy({name.strip(): value for name, value in row.items()}, task) for row in rows_of(file)]
        return tuple(value for value in found if value is not None)


def training_of(path: Path | None) -> Path | None:
    """Returns the folder of the training that wrote a checkpoint."""
    return path.parent.parent if path and path.parent.name == "weights" else None


def curves_of(networks: Sequence[Network]) -> list[Curve]:
    """Returns the stages of some networks in their order, each behind the one before; those of a compression once.

    Raises:
        PruningError: If a table of a run is damaged.
    """
    curves: list[Curve] = []
    seen: set[Path] = set()
    end = 0.0
    for network in networks:
        folder, compression = training_of(network.source.path), network.source.compression
        macs, score = network.figures.macs, network.accuracy
        if macs is None:
            continue
        if folder and folder not in seen and (values := results_of(folder, network.task)):
            seen.add(folder)
            curves.append(Curve(folder.name, end, values, macs))
            end += len(values)
        elif score is not None and not compression and folder not in seen:
            curves.append(Curve(Path(network.name).stem, end, (), macs, ((end, score, macs),)))
        if compression and compression.folder not in seen:
            seen.add(compression.folder)
            curves = _joined(curves, _of_compression(compression, end, network.task))
            end = max(curve.end for curve in curves)
    return curves


def _joined(before: list[Curve], after: list[Curve]) -> list[Curve]:
    """Returns the stages of a compression behind others; the last of these gets what was measured of the original."""
    if before and after and after[0].start == before[-1].end and not after[0].accuracies:
        before[-1] = replace(before[-1], points=(*before[-1].points, *after[0].points))
        after = after[1:]
    return [*before, *after]


def _of_compression(compression: Compression, start: float, task: str) -> list[Curve]:
    """Returns the stages of a compression: a fading ends in a cut, any other step begins with one."""
    found: list[Curve] = []
    with found_in(f"'{shown(compression.folder / 'compress.csv')}'", "no table of compress.py"):
        faded = before = value_of(compression.rows[0], "macs") or 0.0
        for row in compression.rows:
            step, epochs = row.get("step", ""), start + (value_of(row, "epochs") or 0.0)
            macs, cut, trained = value_of(row, "macs"), value_of(row, "cut"), value_of(row, "recovered")
            if macs is None:
                raise ValueError("a row has no macs")
            is_fading = step.startswith("steered")
            values = results_of(compression.folder / (f"step-{step}" if step.isdigit() else step), task)
            first = epochs - len(values)
            points = [(epochs if is_fading else first, cut, macs)] if cut is not None else []
            points += [(epochs, trained, macs)] if trained is not None else []
            found.append(Curve(step, first, values, before if is_fading else macs, tuple(points)))
            before = faded = macs if is_fading else faded
    return found


def gammas_of_runs(networks: Sequence[Network]) -> list[Gammas]:
    """Returns how the gammas faded in each sparsity training of which some networks came, where that is known."""
    folders: dict[Path, None] = {}
    for network in networks:
        if folder := training_of(network.source.path):
            folders[folder] = None
        if compression := network.source.compression:
            folders.update(dict.fromkeys(_fadings(compression)))
        for plan in network.plans:
            if folder := training_of(Path(plan.source["file"]) if plan.source.get("file") else None):
                folders[folder] = None
    return [gammas for folder in folders if (gammas := _gammas(folder))]


def _fadings(compression: Compression) -> Iterable[Path]:
    """Returns the folders of the trainings of a compression, in their order."""
    return (compression.folder / row["step"] for row in compression.rows if row.get("step", "").startswith("steered"))


def _gammas(folder: Path) -> Gammas | None:
    """Returns what a run folder says of its gammas: as numbers, else as the picture; None if it says nothing."""
    name = shown(folder)
    if (file := folder / GAMMAS).is_file():
        try:
            return read_gammas(file, name)
        except PruningError:
            pass  # a picture will do
    picture = folder / "gamma.png"
    return Gammas(name, picture=picture) if picture.is_file() else None


def read_gammas(file: Path, name: str) -> Gammas:
    """Reads a `gamma.csv`: a row for each epoch; a column for each bin, named by its lower edge.

    Raises:
        PruningError: If it is none.
    """
    rows = rows_of(file)
    with found_in(f"'{shown(file)}'", "no table of gammas"):
        bins = [column for column in (rows[0] if rows else {}) if column not in ("epoch", "sparsity", "strength")]
        if len(bins) < 2:
            raise ValueError("it has no bins")
        counts = np.array([[int(row[column]) for column in bins] for row in rows])
        lower = [float(column) for column in bins[1:]]  # the first one holds the exact zeros
        edges = np.array([*lower, lower[-1] ** 2 / lower[-2]]) if len(lower) > 1 else np.array([*lower, 2 * lower[0]])
        if counts.min() < 0 or not counts.sum(1).all() or not (np.diff(edges) > 0).all() or edges[0] <= 0:
            raise ValueError("its bins are not in order")
        return Gammas(name, tuple(int(row["epoch"]) for row in rows), counts, edges)
