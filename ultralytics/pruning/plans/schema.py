"""What the plain data of a plan must look like, wherever it comes from: a file, or a checkpoint.

Only what holds of any plan is checked here. Whether a plan is one of a given network is for who has the network.
"""

from __future__ import annotations

import itertools
from typing import Any

from ..inputs.checks import flag, listing, mapping, number, optional, text, whole_number
from ..inputs.documents import brief, check_plain

WIDEST = 2**24  # channels of a layer
MOST_PARAMETERS = 2**50
LAYER = ("type", "in", "out", "in_before", "out_before")
PLAN = ("source", "settings", "cost", "seconds", "pinned", "layers")
SETTINGS = {  # of those that a repetition reads, or that are printed
    "imgsz": lambda value, where: whole_number(value, where, 1, 2**16),
    "fold": flag,
    "zeros": flag,
    "recalibrate": lambda value, where: whole_number(value, where, 0, 2**31),
    "rounds": lambda value, where: whole_number(value, where, 1, 2**31),
    "refit": lambda value, where: whole_number(value, where, 0, 2**31),
    "criterion": text,
    "normalize": text,
    "per": optional(text),
    "classes": lambda value, where: _check_classes(value, where),
    "latency": lambda value, where: _check_latency(value, where),
    "latency_speed_up": lambda value, where: number(value, where, above=0),
}


def check_plan(data: Any) -> None:
    """Checks the plain data of a plan.

    Raises:
        ValueError: If something is missing, of another type, or out of range; it says what, and where.
    """
    check_plain(data, "the plan")
    mapping(data, "the plan", needs=PLAN)
    mapping(data["source"], "source", text)
    mapping(data["seconds"], "seconds", lambda value, where: number(value, where, least=0))
    mapping(data["pinned"], "pinned", whole_number)
    for key, value in mapping(data["settings"], "settings").items():
        if key in SETTINGS:
            SETTINGS[key](value, f"settings[{brief(key)}]")
    _check_cost(data["cost"])

    listing(data.get("limits", []), "limits", text)
    blocks = listing(data.get("blocks", []), "blocks", text)
    if not all(blocks) or len(set(blocks)) < len(blocks):
        raise ValueError(f"blocks are {brief(blocks)}: each has a name, and no two the same")

    mapping(data.get("widths", {}), "widths", _check_widths)
    inside = tuple(f"{block}." for block in blocks)
    for name, layer in mapping(data["layers"], "layers").items():
        _check_layer(name, layer, name.startswith(inside))
    if not data["layers"]:
        raise ValueError("it names no layer")


def _check_cost(value: Any) -> None:
    """Checks what a network costs before and after the cut."""
    mapping(value, "cost", needs=("before", "after"))
    for when in ("before", "after"):
        _check_numbers(value[when], when)


def _check_numbers(value: Any, when: str) -> None:
    """Checks the cost of one network."""
    cost = mapping(value, f"cost {when}", needs=("params", "macs"))
    if set(cost) - {"params", "macs", "training_only"}:
        raise ValueError(f"cost {when} is {brief(cost)}, more than params, macs and training_only")
    for name in cost:
        whole_number(cost[name], f"{name} {when}", 0, 2**63 - 1 if name == "macs" else MOST_PARAMETERS)


def _check_layer(name: str, entry: Any, taken_out: bool) -> None:
    """Checks what a plan keeps of a layer; one in a block that is taken out keeps nothing, any other something."""
    where = f"layer {brief(name)}"
    mapping(entry, where, needs=LAYER)
    text(entry["type"], f"the type of {where}")
    for side in ("in", "out"):
        width = whole_number(entry[f"{side}_before"], f"{side}_before of {where}", 1, WIDEST)
        kept = listing(entry[side], f"{side} of {where}")
        ascend = all(type(channel) is int and 0 <= channel < width for channel in kept) and all(
            a < b for a, b in itertools.pairwise(kept)
        )
        if bool(kept) == taken_out or not ascend:
            raise ValueError(f"{where} keeps channels that are not among its {width}, or none, or unsorted")


def _check_widths(values: Any, where: str) -> None:
    """Checks the widths that attributes of a module get: `c`, or `sizes.1`, the second number of a list."""
    for attribute, width in mapping(values, where).items():
        whole_number(width, f"{where}[{brief(attribute)}]", 0, WIDEST)  # 0 in a block that is taken out
        name, dot, place = attribute.partition(".")
        is_place = place.isdecimal() and place.isascii() and len(place) < 5
        if not name.isidentifier() or name.startswith("__") or (dot and not is_place):
            raise ValueError(f"{where} names {brief(attribute)}, which is no attribute that holds a width")


def _check_classes(value: Any, where: str) -> None:
    """Checks which classes are kept: their rows and names, of how many, and what the network cost with all."""
    mapping(value, where, needs=("kept", "names", "of", "before"))
    of = whole_number(value["of"], f"{where}['of']", 1, WIDEST)
    kept = listing(value["kept"], f"{where}['kept']", lambda row, place: whole_number(row, place, 0, of - 1))
    listing(value["names"], f"{where}['names']", text, len(kept))
    if not kept or len(kept) == of or any(a >= b for a, b in itertools.pairwise(kept)):
        raise ValueError(f"{where} keeps {brief(kept)} of {of} classes: not some of them, ascending")
    _check_numbers(value["before"], f"before {where}")


def _check_latency(value: Any, where: str) -> None:
    """Checks what was timed; `prune.py` prints it."""
    mapping(value, where, needs=("runtime", "threads", "machine"))
    if value.get("ms") is not None:
        milliseconds = mapping(value["ms"], f"{where}['ms']", needs=("before", "after"))
        for when in milliseconds:
            number(milliseconds[when], f"ms {when}", least=0)
        number(value.get("speed_up"), f"{where}['speed_up']", above=0)
