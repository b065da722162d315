"""Milliseconds instead of multiply-adds: timings of a network's layers on a machine, as the cost of a choice.

Each layer is timed alone at a grid of widths (`timing.py`), the timings are kept by machine (`tables.py`), and their
sum is what a selection looks at (`model.py`). The network that it chooses is then timed against the original, and the
target corrected, until the factor is met (`search.py`).
"""

from .model import LatencyModel
from .search import Latency
from .tables import LatencyTable, time_layers
from .timing import RUNTIMES, Runtime

__all__ = ["RUNTIMES", "Latency", "LatencyModel", "LatencyTable", "Runtime", "time_layers"]
