"""Pictures of a report, as inline SVG: their colours are the page's, so that they are light or dark as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..epochs import Curve, Gammas
from ..layers import Width
from .markup import Markup, tag

WIDE = 560.0  # units of a picture's width; its text is 12 units high
LEFT, RIGHT = 54.0, 20.0


def svg(width: float, height: float, title: str, *children: Any, class_: str = "chart") -> Markup:
    """Returns a picture that fills the width that there is."""
    about = {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria_label": title}
    return tag("svg", tag("title", title), children, class_=class_, **about)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Returns round numbers from `low` to `high`, about `count` of them."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    step = min((factor * 10.0 ** math.floor(math.log10(raw)) for factor in (1, 2, 5, 10)), key=lambda s: abs(s - raw))
    return [
        round(place * step, 10) for place in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def visible_from(curves: Sequence[Curve]) -> float:
    """Returns the epoch at which a picture of all stages begins: the last half of it is what followed the first one."""
    rest = max((curve.end for curve in curves), default=0.0) - curves[0].end
    return max(0.0, math.floor(curves[0].end - max(rest, 10.0))) if len(curves) > 1 else 0.0


def timeline(curves: Sequence[Curve], accuracy: str) -> Markup:
    """Returns accuracy and multiply-adds of all stages over the epochs, one above the other.

    Args:
        curves: The stages.
        accuracy: What the accuracy is called.
    """
    start, end = visible_from(curves), max([curve.end for curve in curves] + [1.0])
    scores = [score for curve in curves for epoch, score in _scores(curve) if epoch >= start]
    costs = [curve.macs for curve in curves] + [point[2] for curve in curves for point in curve.points]
    lowest = float(np.quantile(scores, 0.1)) if scores else 0.0  # the first epochs of a training from nothing run below
    lowest = min([lowest, *(score for curve in curves for _, score, _ in curve.points)])
    spread = max(max(scores, default=1.0) - lowest, 0.02)
    low, high = max(0.0, lowest - 0.25 * spread), max(scores, default=1.0) + 0.12 * spread
    above, below, bottom = (20.0, 200.0), (236.0, 316.0), 336.0

    def x(epoch: float) -> float:
        return LEFT + (WIDE - LEFT - RIGHT) * (max(epoch, start) - start) / (end - start)

    def y(score: float) -> float:
        return above[1] - (above[1] - above[0]) * (score - low) / (high - low)

    def z(macs: float) -> float:
        return below[1] - (below[1] - below[0]) * macs / (1.08 * max(costs))

    drawn = [_grid(y(tick), f"{tick:g}") for tick in ticks(low, high)]
    drawn += [_grid(z(tick), f"{tick / 1e9:g}") for tick in ticks(0, max(costs), 2)]
    numbered = [tick for tick in ticks(start, end, 6) if tick == int(tick)]
    drawn += [tag("text", f"{tick:g}", x=x(tick), y=bottom - 3, text_anchor="middle") for tick in numbered]
    drawn += [
        tag("text", accuracy, x=LEFT + 4, y=above[0] - 7),
        tag("text", "multiply-adds in 10⁹", x=LEFT + 4, y=below[0] - 6),
        tag("text", "epochs", x=WIDE - RIGHT, y=below[0] - 6, text_anchor="end"),
    ]
    lines: list[Markup] = []
    dots: list[Markup] = []
    for place, curve in enumerate(curves):
        colour = f"s{place % 6}"
        if curve.accuracies and curve.end > start:
            seen = [(epoch, score) for epoch, score in _trained(curve) if epoch >= start]
            path = " ".join(f"{x(epoch):.1f},{y(score):.1f}" for epoch, score in seen)
            lines.append(tag("polyline", tag("title", curve.name), points=path, class_=f"line {colour}"))
            places = {"x1": x(curve.start), "x2": x(curve.end), "y1": z(curve.macs), "y2": z(curve.macs)}
            drawn.append(tag("line", tag("title", f"{curve.macs / 1e9:.3f}"), class_=f"line {colour}", **places))
        for epoch, score, macs in curve.points:
            said = tag("title", f"{curve.name}: {score:.4f}, {macs / 1e9:.3f} G multiply-adds after {epoch:g} epochs")
            for height in (y(score), z(macs)):
                dots.append(tag("circle", said, cx=x(epoch), cy=height, r=4.5, class_=f"dot {colour}"))
    frame = {"x": 0, "y": above[0], "width": WIDE, "height": above[1] - above[0]}  # what lies below is cut off
    within = tag("svg", lines, viewBox=f"0 {above[0]:g} {WIDE:g} {above[1] - above[0]:g}", **frame)
    return svg(WIDE, bottom, f"{accuracy} and multiply-adds over the epochs", drawn, within, dots)


def _trained(curve: Curve) -> list[tuple[float, float]]:
    """Returns the accuracies of a training with the epochs behind which they were measured."""
    return [(curve.start + epoch, score) for epoch, score in enumerate(curve.accuracies, 1)]


def _scores(curve: Curve) -> list[tuple[float, float]]:
    """Returns all accuracies of a stage with their epochs."""
    return [*_trained(curve), *((epoch, score) for epoch, score, _ in curve.points)]


def _grid(height: float, said: str) -> Markup:
    """Returns a horizontal line with its number."""
    line = tag("line", x1=LEFT, x2=WIDE - RIGHT, y1=height, y2=height, class_="grid")
    return Markup(line + tag("text", said, x=LEFT - 6, y=height + 4, text_anchor="end"))


def kept_per_layer(widths: Sequence[Width]) -> Markup:
    """Returns a column for each layer, filled as far as it was kept, in the colour of its part of the network."""
    bottom, top = 150.0, 14.0
    each = (WIDE - LEFT - RIGHT) / max(len(widths), 1)

    def y(share: float) -> float:
        return bottom - (bottom - top) * share

    drawn = [_grid(y(share), f"{share:.0%}") for share in (0, 0.5, 1)]
    for place, width in enumerate(widths):
        x, share = LEFT + each * place, width.kept / width.before
        said = f"{width.name}: {width.kept} of {width.before}" + (f" ({width.why})" if width.why else "")
        whole = tag("rect", x=x + 0.1 * each, y=top, width=0.8 * each, height=bottom - top, class_=f"gone {width.part}")
        rest = {"x": x + 0.1 * each, "y": y(share), "width": 0.8 * each, "height": bottom - y(share)}
        drawn.append(tag("g", tag("title", said), whole, tag("rect", class_=f"kept {width.part}", **rest)))
        if width.held:
            drawn.append(tag("circle", tag("title", said), cx=x + each / 2, cy=bottom + 8, r=2.6, class_="held"))
    return svg(WIDE, bottom + 16, "share of each layer's channels that was kept", drawn)


def gammas_over_epochs(gammas: Gammas) -> Markup:
    """Returns how the gammas are distributed at the end of each epoch: darker is more of them, zeros lie apart."""
    assert gammas.counts is not None and gammas.edges is not None
    shares = gammas.counts / gammas.counts.sum(1, keepdims=True)
    top, floor, zero = 12.0, 196.0, (206.0, 218.0)
    each = (WIDE - LEFT - RIGHT) / len(gammas.epochs)
    low, high = math.log10(gammas.edges[0]), math.log10(gammas.edges[-1])

    def y(power: float) -> float:
        return floor - (floor - top) * (power - low) / (high - low)

    drawn = []
    for place, column in enumerate(shares):
        x = LEFT + each * place
        cells = [(zero[0], zero[1], column[0])]
        edges = [y(math.log10(edge)) for edge in gammas.edges]
        cells += [(edges[i + 1], edges[i], share) for i, share in enumerate(column[1:])]
        for up, down, share in cells:
            if share > 0:
                where = {"x": x, "y": up, "width": each + 0.3, "height": down - up + 0.2}
                said = tag("title", f"epoch {gammas.epochs[place]}: {share:.1%}")
                drawn.append(tag("rect", said, fill_opacity=float(share**0.5), class_="heat", **where))
    powers = range(math.ceil(low), math.floor(high) + 1)
    drawn += [_grid(y(power), "1" if not power else f"1e{power}") for power in powers]
    drawn.append(_grid((zero[0] + zero[1]) / 2, "0"))
    numbered = [tick for tick in ticks(gammas.epochs[0], gammas.epochs[-1], 8) if tick == int(tick)]
    for tick in numbered:
        x = LEFT + each * (tick - gammas.epochs[0] + 0.5)
        drawn.append(tag("text", f"{tick:g}", x=x, y=234.0, text_anchor="middle"))
    return svg(WIDE, 240, "share of the gammas by size at the end of each epoch", drawn)
