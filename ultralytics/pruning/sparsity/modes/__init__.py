"""The modes of sparsity training, each a way to let channels fade: one file and one line of this table.

What the trainer's side calls is the Protocol `Mode` in `base.py`; what is known about a mode before there is a network
(whether it takes a target, its default strength and the like) is its `Traits`. Options, checks, defaults and messages
elsewhere read both from here.
"""

from .base import Mode, Traits, divides
from .group import GROUP
from .group_reg import GROUP_REG
from .group_sl import GROUP_SL
from .proximal import PROXIMAL
from .steered import STEERED
from .subgradient import SUBGRADIENT

MODES: dict[str, Traits] = {
    "subgradient": SUBGRADIENT,
    "proximal": PROXIMAL,
    "group": GROUP,
    "group_sl": GROUP_SL,
    "group_reg": GROUP_REG,
    "steered": STEERED,
}
DEFAULT_MODE = "subgradient"

__all__ = ["DEFAULT_MODE", "MODES", "Mode", "Traits", "divides"]
