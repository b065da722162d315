"""Criteria that read weights alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..channels import ChannelMap
from ..gammas import all_gammas
from .members import Members, columns, filter_layers, parameters_of, rows, to_itself


def random(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """A fixed random order of the groups.

    Source: Rethinking the Value of Network Pruning, arXiv 1810.05270, and many others: the baseline.
    """
    return np.random.default_rng(0).random(len(channel_map.channels))


def filter_l1(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Mean over a group's filters F of sum |F|.

    Source: Pruning Filters for Efficient ConvNets, arXiv 1608.08710, section 3.1.
    """
    return _of_filters(channel_map, model, lambda filters: filters.abs().sum(1))


def filter_l2(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Mean over a group's filters F of the norm ||F||_2.

    Source: arXiv 1608.08710, section 3.1, with the L2 norm that its section 4.4 compares with.
    """
    return _of_filters(channel_map, model, lambda filters: filters.norm(dim=1))


def filter_l2_squared(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Mean over a group's filters F of ||F||_2^2: what LAMP divides by its sum over the larger ones of the layer.

    Source: Layer-adaptive Sparsity for the Magnitude-based Pruning, arXiv 2010.07611, whose score is
    w_u^2 / sum of w_v^2 over v >= u in the order of size, with filters in place of weights.
    """
    return _of_filters(channel_map, model, lambda filters: filters.square().sum(1))


def geometric_median(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Mean over a group's filters F of the sum of the distances ||F - F'||_2 to the other filters F' of its layer.

    Source: Filter Pruning via Geometric Median, arXiv 1811.00250, section 3.3.
    """
    return _of_filters(channel_map, model, lambda filters: torch.cdist(filters, filters).sum(1))


def _of_filters(channel_map: ChannelMap, model: nn.Module, measure) -> np.ndarray:
    """Returns the mean of a measure (C_out, n) -> (C_out,) over the filters of each group."""
    modules, members = dict(model.named_modules()), Members(channel_map)
    for layer in filter_layers(channel_map):
        members.add(layer.outputs, measure(rows(layer, modules[layer.name].weight.detach().cpu().double())))
    return members.mean()


def bn_scale(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Mean |gamma| over a group's batch-norm channels.

    Source: Learning Efficient Convolutional Networks through Network Slimming, arXiv 1708.06519, section 3.
    """
    return _gammas(channel_map, model).mean()


def bn_norm(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Norm sqrt(sum gamma^2) over a group's batch-norm channels: the more layers share a group, the more it counts.

    Source: the group lasso over the scales of arXiv 1708.06519, section 3, as arXiv 2301.12900 applies it to whole
    groups in its section 3.3.
    """
    return np.sqrt(_gammas(channel_map, model, power=2).sum())


def _gammas(channel_map: ChannelMap, model: nn.Module, power: int = 1) -> Members:
    """Collects |gamma|^power of each group."""
    members = Members(channel_map)
    for gamma in all_gammas(channel_map, model).values():
        members.add(gamma.groups, gamma.parameter.detach().cpu().double().abs().pow(power))
    return members


def group_norm(channel_map: ChannelMap, model: nn.Module) -> np.ndarray:
    """Norm sqrt(sum w^2) over all weights w of a group: its filters, its gammas, what its consumers multiply it by.

    Biases and betas do not count. The order within a layer is that of the paper's sum of squares. To compare layers,
    the paper divides by the mean of the N largest of the layer; `mean`, as in its authors' library, by that of all.

    Source: DepGraph: Towards Any Structural Pruning, arXiv 2301.12900, section 3.3.
    """

    def square(name: str, weight: Tensor) -> Tensor:
        return weight.detach().cpu().double().square()

    return np.sqrt(over_groups(channel_map, model, square, biases=False))


def over_groups(channel_map: ChannelMap, model: nn.Module, each, *, biases: bool) -> np.ndarray:
    """Adds up a quantity of single weights over all parameters that go with a group.

    Args:
        channel_map: The traced network.
        model: The network.
        each: From a parameter's name and the parameter to a tensor of its shape, or None where it is not known.
        biases: Whether biases and betas count.

    Returns:
        The sum for each group, float64 of shape (G,); NaN where a group has no parameter.
    """
    members = Members(channel_map)
    for layer in channel_map.layers.values():
        for name, parameter in parameters_of(layer, model).items():
            if not isinstance(parameter, nn.Parameter) or (name.endswith(".bias") and not biases):
                continue
            values = each(name, parameter)
            if values is None:
                continue
            if not (layer.has_filters and parameter.ndim > 1):
                members.add(layer.outputs, values.flatten())
                continue
            members.add(layer.outputs, rows(layer, values).sum(1))
            if not layer.is_depthwise:  # there, input and output are the same weights
                members.add(layer.inputs, columns(layer, values).sum(1))
                members.add(*to_itself(layer, values.neg()))
    return members.sum()
