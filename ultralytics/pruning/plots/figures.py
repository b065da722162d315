"""The pictures: those of a checkpoint or two, and those of a training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .bins import fitting_log_bins, linear_bins, log_bins
from .drawing import AFTER, draw_epochs, draw_histogram, draw_layers, named
from .networks import NetworkGammas

LAYERS = "layer of the network, by its number in the model's yaml; one column for each batch norm"
ROWS = 80  # linear bins of a layer, at most


def histogram_figure(networks: Sequence[NetworkGammas]) -> Figure:
    """Returns the logarithmic histogram alone, 1600 x 700 pixels, with text that can be read at half that size."""
    figure = Figure(figsize=(8, 3.5), dpi=200, layout="constrained")
    draw_histogram(figure.add_subplot(), networks, fitting_log_bins(networks), size=9, titles=True)
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
    draw_epochs(above, epochs, counts, log_bins([]), size=12)
    draw_layers(below, network, log_bins([network]), "each batch norm at the end", AFTER, size=12)
    below.set_xlabel(LAYERS)
    return figure


def overview_figure(networks: Sequence[NetworkGammas]) -> Figure:
    """Returns the histogram over one network, or two, linear and logarithmic, and below it each one's layers.

    It is 1600 pixels wide.
    """
    figure = Figure(figsize=(16, 7 + 3.5 * len(networks)), dpi=100, layout="constrained")
    linear, logarithmic, *layers = figure.subplots(2 + len(networks))
    draw_histogram(linear, networks, linear_bins(networks), size=12, titles=True)
    draw_histogram(logarithmic, networks, fitting_log_bins(networks), size=12, titles=False)
    logarithmic.set_xlabel("|gamma|, logarithmic")
    for axes, (network, title, colour) in zip(layers, named(networks), strict=True):
        draw_layers(axes, network, linear_bins(networks, ROWS), title, colour, size=12)
    layers[-1].set_xlabel(LAYERS)
    return figure
