"""What the pictures of gammas are made of: axes, histograms, and shares in columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.ticker import MaxNLocator

from ..selection.ratios import RatioCut
from .bins import Bins, count_by_bin
from .networks import NetworkGammas

INK, FAINT = "#333333", "#c8c8c8"  # text, guide lines
BEFORE, AFTER = "#6e6e6e", "#1764ab"
LONGEST_TITLE = 50  # characters; only the end of a longer one is shown
SPIKE = 3  # times the next highest bar: one at zero that is higher is cut off, and its height written
ROOM = 1.12  # times the highest bar: up there stand the thresholds' labels
FEW = 3  # powers of ten, between which there are ticks
CLOSE = 0.05  # of an axis: thresholds that lie closer share a label


def named(networks: Sequence[NetworkGammas]) -> list[tuple[NetworkGammas, str, str]]:
    """Returns each network with its title in a picture and its colour: before, after, or just the one."""
    short = [net.title if len(net.title) <= LONGEST_TITLE else f"…{net.title[-LONGEST_TITLE:]}" for net in networks]
    if len(networks) == 1:
        return [(networks[0], short[0], AFTER)]
    return list(zip(networks, (f"before: {short[0]}", f"after: {short[1]}"), (BEFORE, AFTER), strict=True))


def scale_axis(axis: Axis, bins: Bins, *, zeros: bool = True) -> None:
    """Turns an axis into one of |gamma|.

    Args:
        axis: Which.
        bins: The bins that are drawn on it.
        zeros: Whether the exact zeros are drawn, too, apart from them.
    """
    low, high = bins.zeros
    first, last = float(bins.edges[0]), float(bins.edges[-1])
    which = axis.axis_name  # type: ignore[attr-defined]  # "x" or "y"
    if bins.logarithmic:
        powers = range(round(np.log10(first)), int(np.ceil(np.log10(last))))
        few = len(powers) <= FEW
        ticks = [step * 10.0**power for power in powers for step in ((1, 2, 5) if few else (1,))]
        ticks = [tick for tick in ticks if tick <= last]
        names = [f"{tick:g}" if few or tick == 1 else f"$10^{{{round(np.log10(tick))}}}$" for tick in ticks]
        start, middle = low / (high / low) ** 0.5, float(np.sqrt(low * high))
    else:
        ticks = [tick for tick in MaxNLocator(7).tick_values(first, last) if first <= tick <= last]
        names = ["" if zeros and tick == 0 else f"{tick:g}" for tick in ticks]
        start, middle = low - (high - low) / 2, (low + high) / 2
    limits = (start if zeros else first, last)
    axis.axes.set(**{f"{which}scale": "log" if bins.logarithmic else "linear", f"{which}lim": limits})
    exact = "0" if bins.logarithmic else "= 0"
    axis.set_ticks([middle, *ticks] if zeros else ticks, [exact, *names] if zeros else names)
    axis.minorticks_off()


def tidy(axes: Axes, size: float) -> None:
    """Removes the frame and sets the size of the text in points."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=size, colors=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(size=size, color=INK)


def draw_histogram(axes: Axes, networks: Sequence[NetworkGammas], bins: Bins, size: float, *, titles: bool) -> None:
    """Draws the distribution of |gamma| over one network, or over two for comparison.

    Args:
        axes: Where to.
        networks: One or two.
        bins: A bar each; exact zeros have one of their own on a logarithmic axis, and are in the first on a linear one.
        size: Of the text in points.
        titles: Whether to write above it which network has which colour, and how much of it is small.
    """
    zeros = bins.logarithmic and any((net.values == 0).any() for net in networks)
    heights = [_shares(net.values, bins, zeros=zeros) for net in networks]
    left, right = bins.edges[:-1], bins.edges[1:]
    if zeros:
        left, right = np.insert(left, 0, bins.zeros[0]), np.insert(right, 0, bins.zeros[1])
    for place, ((network, title, colour), shares) in enumerate(zip(named(networks), heights, strict=True)):
        axes.bar(left, shares, right - left, align="edge", color=colour, alpha=0.45, lw=0)
        axes.stairs(shares[-len(bins.edges) + 1 :], bins.edges, color=colour, lw=1.2)
        if titles:
            values = network.values
            small = f"{np.mean(values < 1e-2):.1%} below $10^{{-2}}$, {np.mean(values == 0):.1%} exactly 0"
            axes.text(0.5 * place, 1.04, f"{title}\n{small}", color=colour, size=size, transform=axes.transAxes)

    scale_axis(axes.xaxis, bins, zeros=zeros)
    axes.set_ylim(0, ROOM * max(float(shares.max()) for shares in heights))
    if not bins.logarithmic:
        _cut_spike(axes, networks, bins, heights, size)
        _say_beyond(axes, networks, bins, size)
    _draw_thresholds(axes, networks[-1].cuts, size)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
    axes.set(xlabel="|gamma|", ylabel="share of prunable channels")
    tidy(axes, size)


def _shares(values: np.ndarray, bins: Bins, *, zeros: bool) -> np.ndarray:
    """Returns the share in each bar (B,), or (1 + B,) with the exact zeros first; else these are in the first bin."""
    counts = count_by_bin(values, bins.edges) / max(len(values), 1)
    return counts if zeros else np.array([counts[0] + counts[1], *counts[2:]])


def _cut_spike(
    axes: Axes, networks: Sequence[NetworkGammas], bins: Bins, heights: Sequence[np.ndarray], size: float
) -> None:
    """Lets the axis of shares end above the bell where a spike at zero would press it flat, and writes its height."""
    rest = max(float(shares[1:].max()) for shares in heights)
    if not 0 < SPIKE * rest < max(shares[0] for shares in heights):
        return
    axes.set_ylim(0, SPIKE / 2 * rest)
    rows = [(colour, shares[0]) for (_, _, colour), shares in zip(named(networks), heights, strict=True)]
    high = [(colour, share) for colour, share in rows if share > SPIKE / 2 * rest]
    for place, (colour, share) in enumerate(high):
        edge, where = float(bins.edges[1]), axes.get_xaxis_transform()
        text = f" ↑ {share:.1%} below {edge:g}"
        axes.text(edge, 0.78 - 0.1 * place, text, color=colour, size=size, weight="bold", transform=where)


def _say_beyond(axes: Axes, networks: Sequence[NetworkGammas], bins: Bins, size: float) -> None:
    """Writes at the end of a linear axis how much lies beyond it."""
    last = float(bins.edges[-1])
    if count := sum(int((net.values > last).sum()) for net in networks):
        axes.text(
            1, 0.12, f"{count} above {last:g} →", size=0.8 * size, color=INK, ha="right", transform=axes.transAxes
        )


def _draw_thresholds(axes: Axes, cuts: Sequence[RatioCut], size: float) -> None:
    """Marks the |gamma| below which each pruning ratio removes channels; those too close for that share a label."""
    places: list[tuple[float, list[float]]] = []  # of a label, and its ratios
    for cut in cuts:
        threshold = max(cut.threshold, axes.get_xlim()[0])
        axes.axvline(threshold, color=FAINT, lw=1, zorder=0)
        across = float(axes.transAxes.inverted().transform(axes.transData.transform((threshold, 0)))[0])
        if places and across - places[-1][0] < CLOSE:
            places[-1][1].append(cut.ratio)
        else:
            places.append((across, [cut.ratio]))
    for across, ratios in places:
        text = " " + ", ".join(f"{ratio:.0%}" for ratio in ratios)
        axes.text(
            across, 0.93, text, size=0.8 * size, color=INK, transform=axes.transAxes,
            ha="left" if across < 0.8 else "right",
        )  # fmt: skip


def draw_shares(
    axes: Axes, columns: np.ndarray, shares: np.ndarray, bins: Bins, colour: str, size: float, label: str
) -> None:
    """Draws shares (1 + B, N) in columns with the given N + 1 edges, exact zeros apart, with a colour bar."""
    colours = LinearSegmentedColormap.from_list("shares", ["white", colour, "black"])
    norm = PowerNorm(0.5, vmin=0, vmax=1)  # the root: a few channels out of hundreds can still be seen
    axes.pcolormesh(columns, np.array(bins.zeros), shares[:1], cmap=colours, norm=norm)
    mesh = axes.pcolormesh(columns, bins.edges, shares[1:], cmap=colours, norm=norm)
    scale_axis(axes.yaxis, bins)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.01, aspect=25, ticks=[0, 0.1, 0.5, 1])
    bar.ax.set_yticklabels(["0%", "10%", "50%", "100%"], size=size, color=INK)
    bar.set_label(label, size=size, color=INK)
    bar.outline.set_visible(False)
    bar.minorticks_off()


def draw_epochs(axes: Axes, epochs: Sequence[int], counts: np.ndarray, bins: Bins, size: float) -> None:
    """Draws how |gamma| is distributed at the end of each epoch: one column each.

    Args:
        axes: Where to.
        epochs: Their numbers, (E,).
        counts: How many gammas lie in each bin, (E, 1 + B), the exact zeros first.
        bins: Those of `fixed_edges()`.
        size: Text size in points.
    """
    columns = np.array([*epochs, epochs[-1] + 1]) - 0.5
    draw_shares(axes, columns, (counts / counts.sum(1, keepdims=True)).T, bins, AFTER, size, "share of the gammas")
    axes.axhline(1e-3, color=FAINT, lw=1)
    axes.set(xlim=(columns[0], columns[-1]), xlabel="epoch", ylabel="|gamma|")
    axes.set_title("all prunable gammas, over the epochs", loc="left", size=size, color=AFTER)
    tidy(axes, size)


def draw_layers(axes: Axes, network: NetworkGammas, bins: Bins, title: str, colour: str, size: float) -> None:
    """Draws the distribution of |gamma| in each batch norm: one column each, in network order.

    Args:
        axes: Where to.
        network: The scales.
        bins: A row each.
        title: Title of the picture.
        colour: Colour of a bin that holds all channels of its column.
        size: Text size in points.
    """
    layers = network.layers.values()
    shares = np.stack([count_by_bin(values, bins.edges) / max(len(values), 1) for values in layers], axis=1)
    columns = np.arange(shares.shape[1] + 1) - 0.5
    draw_shares(axes, columns, shares, bins, colour, size, "share of the layer")
    for column, values in enumerate(layers):
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
