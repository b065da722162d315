"""Functions of space that leave the channels where they are, and sums over dimensions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..tape import Tape
from .call import Call, Rule
from .elementwise import variants


def same(tape: Tape, call: Call) -> bool:
    """Pooling and resampling behind the channel dimension: the channels stay where they are."""
    tensor, result = call.tensor, call.result
    item = tape.labelled(tensor)
    space = 2 if "2d" in call.short_name else 1 if "1d" in call.short_name else tensor.ndim - 2
    if item is None or item.dim >= tensor.ndim - space or not isinstance(result, Tensor):
        return False
    if result.shape[: item.dim + 1] != tensor.shape[: item.dim + 1]:
        return False
    return tape.put(result, item.dim, item.labels, silent=item.silent)


def pad(tape: Tape, call: Call) -> bool:
    """Padding behind the channel dimension: with zeros or with copies."""
    constant = call.argument(2, "mode", "constant") == "constant"
    item = tape.labelled(call.tensor)
    if item is None or item.dim >= call.tensor.ndim - len(call.argument(1, "pad")) // 2:
        return False
    silent = item.silent and not (constant and call.argument(3, "value"))
    return tape.put(call.result, item.dim, item.labels, silent=silent)


def grid_sample(tape: Tape, call: Call) -> bool:
    """Sampling at places that no channel decides."""
    if tape.labelled(call.argument(1, "grid")) is not None:
        return False
    item, result = tape.labelled(call.tensor), call.result
    return item is not None and item.dim == 1 and tape.put(result, 1, item.labels, silent=item.silent)


def reduce(tape: Tape, call: Call) -> bool:
    """Mean, sum, maximum over other dimensions; over the channels, only a sum, to which zeros add nothing."""
    tensor, item = call.tensor, tape.labelled(call.tensor)
    dims = call.argument(2 if call.short_name == "norm" else 1, "dim")
    if item is None or isinstance(dims, (Tensor, str, bool)):
        return False
    given = range(tensor.ndim) if dims is None else (dims,) if isinstance(dims, int) else dims
    reduced = {dim % tensor.ndim for dim in given}
    if not reduced or item.dim in reduced:
        return call.short_name == "sum" and item.silent and bool(reduced)
    results = [call.result] if isinstance(call.result, Tensor) else list(call.result)
    dropped = 0 if results[0].ndim == tensor.ndim else sum(dim < item.dim for dim in reduced)
    silent = item.silent and call.short_name in SILENT
    return all(tape.put(result, item.dim - dropped, item.labels, silent=silent) for result in results)


def constant(tape: Tape, call: Call) -> bool:
    """New tensors of a type like another's, with a size of their own: they carry no channels."""
    return True


def like(tape: Tape, call: Call) -> bool:
    """New tensors of the size of another."""
    item = tape.labelled(call.tensor)
    if item is None:
        return False
    return tape.put(call.result, item.dim, item.labels, silent=call.short_name == "zeros_like")


POOLING = """max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d lp_pool2d interpolate max_pool1d avg_pool1d
    adaptive_avg_pool1d adaptive_max_pool1d upsample upsample_nearest upsample_bilinear"""
SILENT = ("mean", "sum", "amax", "amin", "max", "min", "norm", "prod", "std", "var", "median")
REDUCTIONS: dict[object, Rule] = {
    **dict.fromkeys(variants(*POOLING.split()), same),
    F.pad: pad,
    **dict.fromkeys(variants("grid_sample"), grid_sample),
    **dict.fromkeys(variants(*SILENT, "argmax", "argmin", "logsumexp"), reduce),
    **dict.fromkeys(variants("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor"), constant),
    **dict.fromkeys(variants("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"), like),
}
