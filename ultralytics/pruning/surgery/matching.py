"""Whether a plan that was read is one of a network: all that it says follows from which groups of channels it keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..channels import ChannelMap
from ..plans.plan import PruningPlan, plan_from
from .cut import PlanMismatchError


def matched(plan: PruningPlan, channel_map: ChannelMap) -> PruningPlan:
    """Returns a plan with the multiply-adds of this network, which its file need not have right.

    Args:
        plan: A plan of unknown origin.
        channel_map: The network's channels.

    Raises:
        PlanMismatchError: If it names other layers, widths, attributes, blocks or numbers of parameters than a plan of
            this network would, or keeps a channel in one layer and removes it in another.
    """
    if channel_map.layers.keys() != plan.layers.keys():
        raise PlanMismatchError("the plan names other layers than this network runs")
    for name, layer in channel_map.layers.items():
        planned = plan.layers[name]
        widths = (len(layer.inputs), len(layer.outputs))
        if (planned.type, planned.in_before, planned.out_before) != (layer.kind, *widths):
            raise PlanMismatchError(
                f"{name} is a {layer.kind} of {widths[0]} input and {widths[1]} output channels, the "
                f"plan was made for a {planned.type[:40]} of {planned.in_before} and {planned.out_before}"
            )

    again = plan_from(channel_map, kept_groups(plan, channel_map), plan.settings, plan.limits)
    _check_same(plan, again)
    return replace(plan, before=again.before, after=again.after)


def _check_same(plan: PruningPlan, again: PruningPlan) -> None:
    """Refuses a plan that says anything else than the one that follows from its groups."""
    if again.blocks != plan.blocks:
        raise PlanMismatchError(
            f"the plan takes out {len(plan.blocks)} blocks, its layers say {', '.join(again.blocks) or 'none'}"
        )
    for name, layer in plan.layers.items():
        if layer != again.layers[name]:
            raise PlanMismatchError(
                f"a network cut by this plan does not run: {name} keeps other channels than the layers tied to it"
            )
    if again.widths != plan.widths:
        raise PlanMismatchError("the plan gives other attributes, or other widths, than follow from its layers")
    for when, said, found in (("starts at", plan.before, again.before), ("leaves", plan.after, again.after)):
        if said.params != found.params:
            raise PlanMismatchError(
                f"the plan {when} {found.params:,} parameters, but says that it {when} {said.params:,}"
            )


def kept_groups(plan: PruningPlan, channel_map: ChannelMap) -> np.ndarray:
    """Returns which groups a plan keeps, bool of shape (G,): all that it does not remove somewhere."""
    kept = np.ones(len(channel_map.channels), dtype=bool)
    inside = tuple(f"{name}." for name in plan.blocks)
    for name, layer in channel_map.layers.items():
        if not name.startswith(inside):
            kept[np.delete(layer.outputs, list(plan.layers[name].kept_out))] = False
    for block in channel_map.blocks:
        if block.name in plan.blocks:
            kept[block.inner] = False
    return kept
