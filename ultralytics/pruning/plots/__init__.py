"""Pictures of the batch-norm scales (gamma), and the table that goes with them.

On a linear axis they look as in every write-up of Network Slimming: a bell around one before, a spike at zero after.
How far they have faded, over many orders of magnitude, shows on a logarithmic one.
"""

from .bins import Bins, fixed_edges
from .figures import histogram_figure, history_figure, overview_figure
from .networks import NetworkGammas, gamma_table, network_gammas

__all__ = [
    "Bins",
    "NetworkGammas",
    "fixed_edges",
    "gamma_table",
    "histogram_figure",
    "history_figure",
    "network_gammas",
    "overview_figure",
]
