"""What each operation does to the labels of channels: one small function each, bound in dicts, joined here.

A rule gets the tape, on which it notes what it finds, and the call, with its result. It returns True when it has given
the result its labels, and False when this call is not one that it understands; then the labels that went in are pinned,
as they are for an operation without a rule. So what is unknown costs compression, never correctness.

A removed channel is zero in what its layer returns. A rule says whether it is zero in the result, too (`silent`): a
layer that mixes channels may only read it where it is.
"""

from .call import Call, Rule
from .contraction import CONTRACTIONS
from .elementwise import ELEMENTWISE
from .layers import LAYERS, ZEROS
from .parts import PARTS
from .reductions import REDUCTIONS
from .views import VIEWS

RULES: dict[object, Rule] = {**ELEMENTWISE, **REDUCTIONS, **VIEWS, **PARTS, **CONTRACTIONS, **LAYERS}


def register_rule(function: object, rule: Rule) -> None:
    """Adds an operation's rule, or puts it in the place of ours, for all networks traced from now on.

    Args:
        function: The function of torch, as a network calls it: `torch.asinh` and `Tensor.asinh` are two.
        rule: What it does to the labels of channels; the operations of one kind share one, such as
            `rules.elementwise.elementwise`.
    """
    RULES[function] = rule


__all__ = ["LAYERS", "RULES", "ZEROS", "Call", "Rule", "register_rule"]
