"""What a plan tells a person: what is left of each layer, what that saves, and how it was chosen."""

from __future__ import annotations

from typing import Any

from ..cost import Cost
from ..report import pixels, table, threads_said
from .plan import PruningPlan


def layer_table(plan: PruningPlan) -> str:
    """Returns a plan's convolutions and linear layers: name, output channels before and after, share that stays."""
    rows = [
        (name, layer.type, layer.out_before, len(layer.kept_out), f"{len(layer.kept_out) / layer.out_before:.0%}")
        for name, layer in plan.layers.items()
        if layer.type != "BatchNorm2d"
    ]
    return table(("layer", "type", "channels", "kept", "share"), rows)


def deployed_note(*costs: Cost) -> str:
    """Returns a line that says of which network the costs are, where more is trained than deployed, else nothing."""
    left_out = [f"{cost.training_only:,}" for cost in costs if cost.training_only]
    return f"\n(deployed: without the {' and '.join(left_out)} parameters that only training needs)" if left_out else ""


def cost_table(plan: PruningPlan, megabytes: tuple[float, float] | None = None) -> str:
    """Returns what a plan saves of the deployed network: parameters, GFLOPs (2 x multiply-adds), file size if given.

    Args:
        plan: The plan.
        megabytes: File sizes in 10^6 bytes, before and after.
    """
    before, after = plan.original, plan.after
    rows: list[tuple[str, Any, Any, float]] = [
        ("parameters", f"{before.deployed:,}", f"{after.deployed:,}", after.deployed / before.deployed),
        (
            f"GFLOPs at {pixels(plan.settings.get('imgsz', 640))} px",
            f"{before.gflops:.2f}",
            f"{after.gflops:.2f}",
            after.macs / before.macs,
        ),
    ]
    if megabytes:
        rows.append(("file in MB", f"{megabytes[0]:.2f}", f"{megabytes[1]:.2f}", megabytes[1] / megabytes[0]))
    rows_in_words = [(*row[:3], f"{row[3]:.1%}") for row in rows]
    return table(("", "before", "after", "left"), rows_in_words) + deployed_note(before, after)


def settings_said(plan: PruningPlan) -> list[str]:
    """Returns lines: how the channels were scored, on what statistics were estimated, and what was timed."""
    settings, lines = plan.settings, []
    if classes := settings.get("classes"):
        lines.append(f"Classes kept, of {classes['of']}: {', '.join(classes['names'])}")
    if not settings.get("zeros") and "criterion" in settings:
        scored = [f"Scored by {settings['criterion']}"]
        scored += [f"normalised by {how}"] if (how := settings.get("normalize", "none")) != "none" else []
        scored += [f"per {per}"] if (per := settings.get("per")) else []
        scored += [f"in {rounds} rounds"] if (rounds := settings.get("rounds", 1)) > 1 else []
        lines.append(", ".join(scored))
    if images := settings.get("refit"):
        lines.append(f"Layers fitted to the original's on {images} images")
    if batches := settings.get("recalibrate"):
        lines.append(f"Batch-norm statistics estimated anew, on at most {batches} batches of training images")
    if measured := settings.get("latency"):
        lines.append(f"Latency at {pixels(settings['imgsz'])} px: {latency_said(measured)}")
    return lines


def latency_said(measured: dict[str, Any]) -> str:
    """Returns the milliseconds that a plan notes, and where they were timed, in words."""
    about = f"{measured['runtime']}, {threads_said(measured['threads'])}, {measured['machine']}"
    ms = measured.get("ms")
    if not ms:
        return f"not timed ({about})"
    by_table = " by the table, not timed here" if measured.get("predicted") else ""
    return f"{ms['before']} ms before, {ms['after']} ms after: {measured['speed_up']}x{by_table} ({about})"
