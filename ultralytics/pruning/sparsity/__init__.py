"""Sparsity training: makes channels fade while a network is trained, so that cutting them changes little or nothing.

`settings.py` says what can be asked for, `run.py` is what the trainer holds, `scales.py` the gammas that it works on;
`penalties.py`, `regulation.py` and `steering.py` are the modes, `watching.py` what a person sees.
"""

from .run import SparsityRun
from .scales import FADED, Scales
from .settings import MODES, SCHEDULES, Settings

__all__ = ["FADED", "MODES", "SCHEDULES", "Scales", "Settings", "SparsityRun"]
