"""Pictures of the batch-norm scales (gamma), and the table that goes with them.

Scales span many orders of magnitude once they fade, so every axis of |gamma| is logarithmic, with a separate bin for
exact zeros, which have no place on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure

from .checkpoints import checkpoint
from .gammas import gammas_of
from .report import table
from .selection.ratios import RatioCut, ratio_cuts
from .tracing.trace import trace

INK, FAINT = "#333333", "#c8c8c8"  # text, guide lines
BEFORE, AFTER = "#6e6e6e", "#1764ab"
LOWEST = -6  # power of ten at which the axis starts; what is smaller, but not zero, falls into the first bin
BINS_PER_DECADE = 10
LONGEST_TITLE = 50  # characters; only the end of a longer one is shown
ZERO_BIN = (10.0 ** (LOWEST - 0.7), 10.0 ** (LOWEST - 0.4))  # where the exact zeros are drawn


@dataclass(frozen=True)
class NetworkGammas:
    """The scales of a network's prunable channels.

    Attributes:
        title: What to call the network, e.g. its checkpoint.
        layers: |gamma| of each batch norm's prunable channels (K_i,), by name, in network order; K_i may be 0.
        cuts: What some pruning ratios would do.
    """

    title: str
    layers: dict[str, np.ndarray]
    cuts: tuple[RatioCut, ...] = ()

    @property
    def values(self) -> np.ndarray:
        """|gamma| of all prunable channels, of shape (K,)."""
        return np.concatenate(list(self.layers.values()))


def network_gammas(path: Path, title: str) -> NetworkGammas:
    """Reads the scales of a checkpoint.

    Raises:
        PruningError: If it is not a checkpoint, or none of its scales can be pruned.
    """
    model, content = checkpoint.load(path)
    channel_map = trace(model, imgsz=checkpoint.image_size(content))
    gammas = gammas_of(channel_map, model)
    layers = {name: gamma.prunable() for name, gamma in gammas.items()}
    return NetworkGammas(title, layers, ratio_cuts(channel_map, model))


def bin_edges(networks: Sequence[NetworkGammas]) -> np.ndarray:
    """Returns the edges (B + 1,) of bins of equal width on the logarithmic axis, up to 2 or the largest |gamma|."""
    largest = max([2.0, *(float(values.max()) for net in networks for values in net.layers.values() if values.size)])
    last = int(np.floor(np.log10(largest) * BINS_PER_DECADE)) + 1
    return 10.0 ** (np.arange(LOWEST * BINS_PER_DECADE, last + 1) / BINS_PER_DECADE)


def fixed_edges() -> np.ndarray:
    """Returns edges for any network, up to 2; larger values must be clipped."""
    return bin_edges([])


def count_by_bin(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts |gamma| per bin.

    Args:
        values: |gamma| (K,), none above the last edge.
        edges: Bin edges (B + 1,), ascending.

    Returns:
        Counts (1 + B,): the exact zeros, then the bins; the first bin also holds what lies between zero and it.
    """
    inside = np.maximum(values[values > 0], edges[0])
    return np.concatenate([[np.sum(values == 0)], np.histogram(inside, edges)[0]])


def gamma_table(networks: Sequence[NetworkGammas]) -> str:
    """Returns a table of how many gammas are small, one line for each network."""
    header = ("checkpoint", "prunable gammas", "|gamma| < 1e-2", "|gamma| < 1e-3", "exactly 0", "median")
    rows = []
    for network in networks:
        values = network.values
        shares = [f"{np.mean(small):.1%}" for small in (values < 1e-2, values < 1e-3, values == 0)]
        rows.append((network.title, f"{len(values):,}", *shares, f"{np.median(values):.3g}"))
    return table(header, rows)


def named(networks: Sequence[NetworkGammas]) -> list[tuple[NetworkGammas, str, str]]:
    """Returns each network with its title in a picture and its colour: before, after, or just the one."""
    short = [net.title if len(net.title) <= LONGEST_TITLE else f"…{net.title[-LONGEST_TITLE:]}" for net in networks]
    if len(networks) == 1:
        return [(networks[0], short[0], AFTER)]
    return list(zip(networks, (f"before: {short[0]}", f"after: {short[1]}"), (BEFORE, AFTER), strict=True))


def scale_axis(axis: Axis, edges: np.ndarray) -> None:
    """Turns an axis into one of |gamma|: powers of ten, and a zero apart from them."""
    powers = range(LOWEST, int(np.ceil(np.log10(edges[-1]))))
    names = ["1" if power == 0 else f"$10^{{{power}}}$" for power in powers]
    middle = float(np.sqrt(ZERO_BIN[0] * ZERO_BIN[1]))
    limits = (ZERO_BIN[0] / 1.3, float(edges[-1]))
    which = axis.axis_name  # type: ignore[attr-defined]  # "x" or "y"
    axis.axes.set(**{f"{which}scale": "log", f"{which}lim": limits})
    axis.set_ticks([middle, *(10.0**power for power in powers)], ["0", *names])
    axis.minorticks_off()


def tidy(axes: Axes, size: float) -> None:
    """Removes the frame and sets the size of the text in points."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=size, colors=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(size=size, color=INK)


def draw_histogram(axes: Axes, networks: Sequence[NetworkGammas], size: float = 12) -> None:
    """Draws the distribution of |gamma| over one network, or over two for comparison; `size` of the text in points."""
    edges = bin_edges(networks)
    left, right = np.array([ZERO_BIN[0], *edges[:-1]]), np.array([ZERO_BIN[1], *edges[1:]])
    for place, (network, title, colour) in enumerate(named(networks)):
        values = network.values
        shares = count_by_bin(values, edges) / len(values)
        axes.bar(left, shares, right - left, align="edge", color=colour, alpha=0.45, lw=0)
        axes.stairs(shares[1:], edges, color=colour, lw=1.2)
        small = f"{np.mean(values < 1e-2):.1%} below $10^{{-2}}$, {np.mean(values == 0):.1%} exactly 0"
        axes.text(0.5 * place, 1.04, f"{title}\n{small}", color=colour, size=size, transform=axes.transAxes)

    _draw_thresholds(axes, networks[-1].cuts, size)
    scale_axis(axes.xaxis, edges)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set(xlabel="|gamma|", ylabel="share of prunable channels")
    tidy(axes, size)


def _draw_thresholds(axes: Axes, cuts: Sequence[RatioCut], size: float) -> None:
    """Marks the |gamma| below which each pruning ratio removes channels."""
    for place, cut in enumerate(cuts):
        threshold = max(cut.threshold, ZERO_BIN[0])
        axes.axvline(threshold, color=FAINT, lw=1, zorder=0)
        height = 0.96 - 0.06 * size / 9 * (place % 4)  # thresholds lie close together in a network without sparsity
        axes.text(
            threshold, height, f" {cut.ratio:.0%}", size=0.8 * size, color=INK, transform=axes.get_xaxis_transform()
        )


def draw_epochs(axes: Axes, epochs: Sequence[int], counts: np.ndarray, size: float) -> None:
    """Draws how |gamma| is distributed at the end of each epoch: one column each.

    Args:
        axes: Where to.
        epochs: Their numbers, (E,).
        counts: How many gammas lie in each of `fixed_edges()`' bins, (E, 1 + B), the exact zeros first.
        size: Text size in points.
    """
    columns = np.array([*epochs, epochs[-1] + 1]) - 0.5
    edges = fixed_edges()
    draw_shares(axes, columns, (counts / counts.sum(1, keepdims=True)).T, edges, AFTER, size, "share of the gammas")
    axes.axhline(1e-3, color=FAINT, lw=1)
    axes.set(xlim=(columns[0], columns[-1]), xlabel="epoch", ylabel="|gamma|")
    axes.set_title("all prunable gammas, over the epochs", loc="left", size=size, color=AFTER)
    tidy(axes, size)


def draw_shares(
    axes: Axes, columns: np.ndarray, shares: np.ndarray, edges: np.ndarray, colour: str, size: float, label: str
) -> None:
    """Draws shares (1 + B, N) in columns with the given N + 1 edges, exact zeros apart, with a colour bar."""
    colours = LinearSegmentedColormap.from_list("shares", ["white", colour, "black"])
    norm = PowerNorm(0.5, vmin=0, vmax=1)  # the root: a few channels out of hundreds can still be seen
    axes.pcolormesh(columns, np.array(ZERO_BIN), shares[:1], cmap=colours, norm=norm)
    mesh = axes.pcolormesh(columns, edges, shares[1:], cmap=colours, norm=norm)
    scale_axis(axes.yaxis, edges)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.01, aspect=25, ticks=[0, 0.1, 0.5, 1])
    bar.ax.set_yticklabels(["0%", "10%", "50%", "100%"], size=size, color=INK)
    bar.set_label(label, size=size, color=INK)
    bar.outline.set_visible(False)
    bar.minorticks_off()


def draw_layers(axes: Axes, network: NetworkGammas, edges: np.ndarray, title: str, colour: str, size: float) -> None:
    """Draws the distribution of |gamma| in each batch norm: one column each, in network order.

    Args:
        axes: Where to.
        network: The scales.
        edges: Bin edges (B + 1,).
        title: Title of the picture.
        colour: Colour of a bin that holds all channels of its column.
        size: Text size in points.
    """
    shares = np.stack([count_by_bin(values, edges) / max(len(values), 1) for values in network.layers.values()], axis=1)
    columns = np.arange(shares.shape[1] + 1) - 0.5
    draw_shares(axes, columns, shares, edges, colour, size, "share of the layer")
    for column, values in enumerate(network.layers.values()):
        if not values.size:
            axes.axvspan(column - 0.5, column + 0.5, facecolor="none", edgecolor=FAINT, hatch="////", lw=0)
    start, places, names = 0, [], []
    for name, same in itertools.groupby(".".join(name.split(".")[:2]) for name in network.layers):
        end = start + len(list(same))
        axes.axvline(end - 0.5, color=FAINT, lw=0.8)
        places.append((start + end - 1) / 2)
        names.append(name.removeprefix("model."))
        start = end
    axes.set(xlim=(columns[0], columns[-1]), ylabel="|gamma|")
    axes.set_xticks(places, names)
    axes.tick_params(axis="x", length=0)
    axes.set_title(title, loc="left", size=size, color=colour)
    tidy(axes, size)


def histogram_figure(networks: Sequence[NetworkGammas]) -> Figure:
    """Returns the histogram alone, 1600 x 700 pixels, with text that can be read at half that size."""
    figure = Figure(figsize=(8, 3.5), dpi=200, layout="constrained")
    draw_histogram(figure.add_subplot(), networks, size=9)
    return figure


def history_figure(epochs: Sequence[int], counts: np.ndarray, network: NetworkGammas) -> Figure:
    """Returns the gammas over the epochs of a training, and below them each layer's at its end; 1600 pixels wide.

    Args:
        epochs: Numbers of the epochs, (E,).
        counts: See `draw_epochs`.
        network: The scales at the end.
    """
    figure = Figure(figsize=(16, 9), dpi=100, layout="constrained")
    above, below = figure.subplots(2)
    draw_epochs(above, epochs, counts, size=12)
    draw_layers(below, network, bin_edges([network]), "each batch norm at the end", AFTER, size=12)
    below.set_xlabel("layer of the network, by its number in the model's yaml; one column for each batch norm")
    return figure


def overview_figure(networks: Sequence[NetworkGammas]) -> Figure:
    """Returns the histogram over one network, or two, and below it each one's layers; 1600 pixels wide."""
    figure = Figure(figsize=(16, 4 + 4 * len(networks)), dpi=100, layout="constrained")
    panels = figure.subplots(1 + len(networks))
    draw_histogram(panels[0], networks)
    for axes, (network, title, colour) in zip(panels[1:], named(networks), strict=True):
        draw_layers(axes, network, bin_edges(networks), title, colour, size=12)
    panels[-1].set_xlabel("layer of the network, by its number in the model's yaml; one column for each batch norm")
    return figure
