"""Sparsity training: makes channels fade while a network is trained, so that cutting them changes little or nothing.

`settings.py` says what can be asked for, `run.py` is what the trainer holds, `scales.py` the gammas that it works on;
`modes/` are the ways to let channels fade, `watching.py` is what the user sees.
"""

from .asked import SCHEDULES, TARGET_ARGUMENTS
from .modes import DEFAULT_MODE, MODES
from .run import SparsityRun
from .scales import FADED, Scales
from .settings import Settings

__all__ = ["DEFAULT_MODE", "FADED", "MODES", "SCHEDULES", "TARGET_ARGUMENTS", "Scales", "Settings", "SparsityRun"]
