"""Criteria that ask how the loss on training images would change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from torch import Tensor, nn

from ..channels import ChannelMap
from .magnitude import over_groups
from .members import Members, parameters_of, rows

Gradients = Iterable[Mapping[str, Tensor]]  # of the loss, by parameter name, one mapping a batch


def group_taylor(channel_map: ChannelMap, model: nn.Module, gradients: Gradients) -> np.ndarray:
    """Squared first-order change of the loss if a group were removed, mean over batches.

    The change is the sum over the group's gates of gate * dL/dgate. The gates are the outputs of its batch norms, for
    which the product is gamma * dL/dgamma + beta * dL/dbeta; of a group without any, those of the layers that make it,
    with weights and biases in their place.

    Source: Importance Estimation for Neural Network Pruning, arXiv 1906.10771, equation (8).
    """
    gates = [layer for layer in channel_map.layers.values() if layer.is_norm or layer.has_filters]
    parameters = {layer.name: parameters_of(layer, model) for layer in gates}
    total, batches = np.zeros(len(channel_map.channels)), 0
    known = total > 0
    for gradient in gradients:
        norms, others = Members(channel_map), Members(channel_map)
        for layer in gates:
            for name, parameter in parameters[layer.name].items():
                if name in gradient:
                    product = parameter.detach().cpu().double() * gradient[name].cpu().double()
                    summed = rows(layer, product).sum(1) if product.ndim > 1 else product
                    (norms if layer.is_norm else others).add(layer.outputs, summed)
        effect = np.where(np.isnan(norms.sum()), others.sum(), norms.sum())
        known |= ~np.isnan(effect)
        total, batches = total + np.nan_to_num(effect) ** 2, batches + 1
    return np.where(known, total / max(batches, 1), np.nan)


def group_fisher(channel_map: ChannelMap, model: nn.Module, effects: Iterable[np.ndarray]) -> np.ndarray:
    """Half the Fisher information of a gate at each group: how much what the network says changes without it.

    It is the mean over images and drawn outputs of the squared derivative of their log-likelihood by the gate, whose
    members (all layers of the group, all places of an image) are summed before they are squared: those that cancel out
    do not count. No label takes part.

    Source: Group Fisher Pruning, arXiv 2108.00708, equation (7), with outputs that are drawn from the network (see
    `passes/likelihood.py`) in the place of a loss.

    Args:
        channel_map: The traced network.
        model: The network.
        effects: For each image and draw the derivative by each group's gate, float of shape (G,).
    """
    total, count = np.zeros(len(channel_map.channels)), 0
    for effect in effects:
        total, count = total + effect**2, count + 1
    return total / max(count, 1) / 2


def group_hessian(channel_map: ChannelMap, model: nn.Module, gradients: Gradients) -> np.ndarray:
    """Second-order change of the loss if all parameters w of a group were zero: sum w^2 h / 2.

    h is the diagonal of the Hessian, approximated by the mean over batches of (dL/dw)^2, the empirical Fisher.
    Parameters that the loss does not reach are left out.

    Source: Optimal Brain Damage (LeCun, Denker and Solla, 1989), whose saliency of a weight is w^2 h / 2; the Fisher in
    place of h as in arXiv 1801.05787.
    """
    squares: dict[str, Tensor] = {}
    batches = 0
    for gradient in gradients:
        batches += 1
        for name, values in gradient.items():
            square = values.cpu().double().square()
            squares[name] = squares[name] + square if name in squares else square

    def saliency(name: str, weight: Tensor) -> Tensor | None:
        return weight.detach().cpu().double().square() * squares[name] / batches / 2 if name in squares else None

    return over_groups(channel_map, model, saliency, biases=True)
