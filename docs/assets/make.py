"""Makes the README's pictures: `python docs/assets/make.py`, in the repository's root.

The two schematics need nothing; `gamma.png` needs the checkpoints of the first two stages.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle

ASSETS = Path(__file__).resolve().parent
sys.path.insert(0, str(ASSETS.parents[1]))  # Python searches a script's own folder, and the overlay is in the root

from torch import nn  # noqa: E402

from ultralytics.nn.modules import C2f, Conv  # noqa: E402
from ultralytics.pruning import PruningError, plots, trace  # noqa: E402
from ultralytics.pruning.command_line import entry  # noqa: E402
from ultralytics.pruning.files import places, whole  # noqa: E402
from ultralytics.pruning.report import say  # noqa: E402

INK, QUIET, PALE, BAND = "#333333", "#777777", "#d4d4d4", "#f4f4f4"
HUES = ("#1764ab", "#2f9e6e", "#8a56ac", "#b8860b", "#3aa6b9")  # channels of their own
TIED = ("#ee8f45", "#e06f1d", "#c2520b", "#8f360a")  # channels tied to others: a shade for each group
DASHED = (0, (3, 2))


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Returns an empty picture of `width` x `height` units, 160 pixels each."""
    figure = Figure(figsize=(width * 0.8, height * 0.8), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def text(axes: Axes, x: float, y: float, words: str, size: float = 9, **style) -> None:
    """Writes words, centred at (x, y) unless `style` says otherwise."""
    axes.text(x, y, words, **{"ha": "center", "va": "center", "color": INK, "fontsize": size, **style})


def arrow(axes: Axes, *points: tuple[float, float], **style) -> None:
    """Draws a line through the points, with a head at the last one."""
    style = {"color": QUIET, "lw": 1.2, **style}
    axes.plot(*zip(*points[:-1], strict=True), **style)
    axes.add_patch(FancyArrowPatch(*points[-2:], arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0, **style))


def box(axes: Axes, x: float, y: float, width: float, height: float, **style) -> None:
    """Draws a rectangle around (x, y)."""
    style = {"facecolor": "white", "edgecolor": QUIET, "lw": 1.2, **style}
    axes.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, **style))


def kernel(axes: Axes, x: float, y: float, colour: str) -> None:
    """Draws a 3 x 3 kernel around (x, y)."""
    for cell in range(9):
        place = (x + 0.15 * (cell % 3 - 1), y + 0.15 * (cell // 3 - 1))
        box(axes, *place, 0.15, 0.15, facecolor=colour, edgecolor="white", lw=0.8)


def conv_bn_act() -> Figure:
    """Draws what a scale near zero makes superfluous: a filter, and a slice of each filter that follows."""
    gammas, dead = (0.9, 0.55, 0.02, 0.75, 0.35), 2
    figure, axes = canvas(10, 5.9)
    for x, title, under in (
        (1.15, "Conv", "one filter per channel"),
        (3.4, "BN", r"one scale $\gamma$ per channel"),
        (5.45, "act", "e.g. SiLU"),
        (8.25, "next Conv", "each column is one filter"),
    ):
        text(axes, x, 5.6, title, 13, weight="bold")
        text(axes, x, 5.22, under, color=QUIET)
    line = np.linspace(-1, 1, 60)
    silu = line / (1 + np.exp(-5 * line))
    for i, gamma in enumerate(gammas):
        y, live = 4.55 - 0.66 * i, i != dead
        colour, stroke = (HUES[i], QUIET) if live else (PALE, PALE)
        lines = {"color": stroke, "ls": "-" if live else DASHED}
        if not live:
            box(axes, 5, y, 9.7, 0.62, facecolor=BAND, lw=0, zorder=0)
        kernel(axes, 1.15, y, colour)
        arrow(axes, (1.5, y), (2.4, y), **lines)
        box(axes, 2.5 + gamma * 0.75, y, gamma * 1.5, 0.3, facecolor=colour if live else QUIET, lw=0)
        text(axes, 2.6 + gamma * 1.5, y, rf"$\gamma = {gamma}$" if live else r"$\gamma \approx 0$", ha="left")
        arrow(axes, (4.7, y), (5.1, y), **lines)
        box(axes, 5.45, y, 0.5, 0.46, edgecolor=stroke)
        axes.plot(5.45 + 0.19 * line, y - 0.1 + 0.24 * silu, color=INK if live else PALE, lw=1.2)
        arrow(axes, (5.8, y), (6.85, y), **lines)
        text(axes, 6.3, y + 0.14, f"channel {i + 1}" if live else "constant", 8, color=QUIET)
        for column in range(4):
            x = 7.26 + 0.66 * column
            if live:
                kernel(axes, x, y, colour)
            else:
                box(axes, x, y, 0.45, 0.45, edgecolor=PALE, ls=DASHED)
    formula = r"$y = \mathrm{act}\left(\gamma\cdot\dfrac{x-\mathrm{mean}}{\sqrt{\mathrm{var}+\epsilon}}+\beta\right)$"
    text(axes, 2.3, 0.75, formula, 12)
    lesson = (
        r"If $\gamma \approx 0$, then $y \approx \mathrm{act}(\beta)$, whatever the image."
        "\n"
        "Remove the channel: its filter, its batch-norm entries,\n"
        "and its slice of every filter that reads it."
    )
    text(axes, 4.7, 0.75, lesson, 10, ha="left", linespacing=1.5)
    return figure


def c2f() -> Figure:
    """Draws the channels of a C2f block with two bottlenecks, coloured by what a trace of the block finds tied."""
    channel_map = trace(nn.Sequential(Conv(3, 8), C2f(8, 8, n=2, shortcut=True), Conv(8, 8)))
    convs = [layer for layer in channel_map.layers.values() if not layer.is_norm]
    block = {layer.name.removeprefix("1.").removesuffix(".conv"): layer for layer in convs}
    tied = np.flatnonzero(channel_map.channels > 1)
    colours, letters = dict(zip(tied, TIED, strict=True)), dict(zip(tied, "abcd", strict=True))
    hues = iter((PALE, *HUES))  # pale: what comes into the block
    for layer in convs:
        if new := [group for group in layer.outputs if group not in colours]:
            colours |= dict.fromkeys(new, next(hues))
    first, second = channel_map.balances[0].parts
    *producers, last = (name for name, layer in block.items() if tied[0] in layer.outputs)

    figure, axes = canvas(10, 5.7)
    cell, lanes = 0.23, (4.65, 3.55, 2.45, 1.35)  # lanes: the parts of the concatenation
    chain, entry = lanes[3], (lanes[2] + lanes[3]) / 2

    def stack(x: float, y: float, groups: np.ndarray) -> None:
        """Draws the channels of a tensor, the first on top, around (x, y)."""
        for i, group in enumerate(groups):
            place = (x, y + cell * ((len(groups) - 1) / 2 - i))
            box(axes, *place, 0.3, cell, facecolor=colours[group], edgecolor="white", lw=1)
            text(axes, *place, letters.get(group, ""), 8, color="white", weight="bold", va="center_baseline")

    def conv(x: float, y: float, name: str, start: float, end: float) -> None:
        """Draws a convolution at x, with an arrow from x = start and one to x = end."""
        box(axes, x, y, 0.28, 0.8)
        text(axes, x, y, name, rotation=90)
        arrow(axes, (start, y), (x - 0.15, y))
        arrow(axes, (x + 0.15, y), (end, y))

    text(axes, 1.1, lanes[0] + 0.75, "C2f", 13, weight="bold")
    text(axes, 1.1, lanes[0] + 0.38, "n = 2, with shortcuts", color=QUIET)
    stack(0.35, entry, block["cv1"].inputs)
    conv(0.9, entry, "cv1", 0.52, 1.3)
    high, low = lanes[2] + 0.5, chain - 0.5
    axes.plot((1.5, 1.4, 1.4, 1.5), (low, low, high, high), color=QUIET, lw=1.2)
    text(axes, 1.25, high + 0.33, "two halves,\nequally many", weight="bold")
    stack(1.75, lanes[2], first)
    stack(1.75, chain, second)
    arrow(axes, (1.92, lanes[2]), (2.15, lanes[2]), (2.15, lanes[0]), (8.3, lanes[0]))
    arrow(axes, (1.92, chain), (2.3, chain), (2.3, lanes[1]), (8.3, lanes[1]))
    for i, (left, start) in enumerate(((2.45, 1.92), (5.35, 5.22))):
        box(axes, left + 1.3, chain - 0.15, 2.6, 1.65, edgecolor=PALE, ls=DASHED, zorder=0)
        text(axes, left + 1.3, chain - 0.83, f"bottleneck m.{i}", color=QUIET)
        conv(left + 0.5, chain, "cv1", start, left + 0.83)
        stack(left + 1, chain, block[f"m.{i}.cv1"].outputs)
        conv(left + 1.5, chain, "cv2", left + 1.17, left + 1.83)
        stack(left + 2, chain, block[f"m.{i}.cv2"].outputs)
        below = chain - 0.65
        arrow(axes, (left + 0.12, chain), (left + 0.12, below), (left + 2.4, below), (left + 2.4, chain - 0.13))
        arrow(axes, (left + 2.17, chain), (left + 2.28, chain))
        axes.add_patch(Circle((left + 2.4, chain), 0.12, facecolor="white", edgecolor=QUIET, lw=1.2))
        text(axes, left + 2.4, chain, "+", 11, va="center_baseline")
    arrow(axes, (4.97, chain), (5.2, chain), (5.2, lanes[2]), (8.3, lanes[2]))
    arrow(axes, (7.87, chain), (8.3, chain))
    text(axes, 8.5, lanes[0] + 0.75, "concat", weight="bold")
    for y, part in zip(lanes, np.split(block["cv2"].inputs, len(lanes)), strict=True):
        stack(8.5, y, part)
    middle = (lanes[0] + lanes[3]) / 2
    axes.plot((8.75, 8.85, 8.85, 8.75), (low, low, lanes[0] + 0.5, lanes[0] + 0.5), color=QUIET, lw=1.2)
    conv(9.2, middle, "cv2", 8.85, 9.48)
    stack(9.65, middle, block["cv2"].outputs)
    tied_rule = (
        "Letters: channels that the additions tie. Channel a is\n"
        f"one filter of {', '.join(producers)} and {last}: all go, or none."
    )
    free_rule = (
        "No letter: free, each can go alone. But the halves of cv1\nstay equally many: chunk(2) cuts in the middle."
    )
    for y, words in zip(lanes, (tied_rule, free_rule), strict=False):
        text(axes, 2.6, y - 0.53, words, ha="left", linespacing=1.5)
    return figure


def gamma() -> Figure:
    """Draws the scales before and after sparsity training, from the first two checkpoints of `make demo`.

    Raises:
        PruningError: If they are not there.
    """
    networks = []
    for path in (places.RUNS / "demo/weights/best.pt", places.RUNS / "demo-sparsity/weights/last.pt"):
        if not path.is_file():
            raise PruningError(f"gamma.png is drawn from {places.shown(path)}, which is not there; run: make demo")
        networks.append(plots.network_gammas(path, places.shown(path)))
    return plots.histogram_figure(networks)


def make(_: argparse.Namespace) -> None:
    """Writes the pictures beside this script."""
    for draw, name in ((conv_bn_act, "conv-bn-act.png"), (c2f, "c2f.png"), (gamma, "gamma.png")):
        figure = draw()
        with whole.whole_file(ASSETS / name) as temporary:
            figure.savefig(temporary, metadata={"Software": None})  # else it would hold the release of matplotlib
        say(f"wrote {places.shown(ASSETS / name)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.set_defaults(settings=[], device="cpu")
    entry.run(parser, make)
