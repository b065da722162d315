"""The stage that writes the timings which `--latency-table` reads, on the machine that a network is compressed for."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np

from .. import packages
from ..channels import ChannelMap
from ..command_line.devices import cores
from ..errors import PruningError
from ..files.places import shown, write_folder
from ..latency import LatencyModel, LatencyTable, Runtime, time_layers
from ..latency.shapes import shapes_of
from ..latency.timing import in_turns
from ..pipeline import channel_map_of
from ..plans.plan import plan_from
from ..release import check_side, quiet_release
from ..report import say
from ..report import table as drawn
from ..selection.choose import choose
from ..selection.limits import Limits
from ..selection.targets import Target
from ..surgery.cut import cut
from .weights import load_source

SPEED_UPS = (1.5, 2.0, 3.0)  # of the networks by which it is learned what the sum of the layers leaves out


def write_table(options: argparse.Namespace) -> None:
    """Times each layer of `options.weights` at several widths, and whole networks, and writes `options.output`.

    Raises:
        PruningError: If something that the user gave is wrong, or the machine is too busy; nothing is written then.
    """
    if options.runtime == "onnxruntime":
        packages.need(packages.ONNX, "--runtime onnxruntime")
    runtime = Runtime(options.runtime, options.threads or cores(), options.device)
    output = checked_output(Path(options.output))
    with quiet_release():
        model, _, _ = load_source(options.weights)
    check_side(options.imgsz, model)
    timings, text = timed(model, options.imgsz, runtime, options.round_to)
    write_folder(output.parent)
    timings.save(output)
    say(f"{text}\n\nWritten: {shown(output)}")


def checked_output(path: Path) -> Path:
    """Returns where the table goes: a new file, or the place of an earlier table.

    Raises:
        PruningError: If it is not a .json, or something else is there.
    """
    if path.suffix != ".json":
        raise PruningError(f"--output {shown(path)}: the table is a .json, so its name must end with that")
    if path.exists():
        try:
            LatencyTable.load(path)
        except (PruningError, OSError) as error:
            raise PruningError(
                f"--output {shown(path)} exists and is no table of latencies; choose another name"
            ) from error
    write_folder(next(folder for folder in path.parents if folder.exists()))  # before minutes of timing
    return path


def timed(model: Any, imgsz: int, runtime: Runtime, step: int) -> tuple[LatencyTable, str]:
    """Times the layers of a network, then the network whole and cut by random scores.

    Args:
        model: The network.
        imgsz: Side of the image in pixels.
        runtime: What runs it.
        step: The multiple that widths will be rounded to.

    Returns:
        The table, and what it says of whole networks, for a person.

    Raises:
        PruningError: If nothing of the network can be cut, or narrower networks were not faster.
    """
    channel_map = channel_map_of(model, imgsz)
    shapes = shapes_of(model, channel_map, imgsz)
    scores = np.random.default_rng(0).random(len(channel_map.channels))
    choose(channel_map, scores, Target("prune_ratio", 0.0), Limits(round_to=step))  # refuses a step that is too large
    timings = LatencyTable(runtime.about())
    time_layers((shape for calls in shapes.values() for shape in calls), runtime, step, timings)

    sums = LatencyModel(channel_map, shapes, timings, step)
    choices = {"dense": np.ones(len(scores), dtype=bool)}
    for speed_up in SPEED_UPS:
        target = Target("latency_speed_up", speed_up)
        choices[f"{speed_up:g}x"], _ = choose(channel_map, scores, target, Limits(round_to=step), sums)
    predicted = {name: sums(kept) for name, kept in choices.items()}
    ms = timed_whole(model, channel_map, choices, imgsz, runtime)

    factor, constant = np.polyfit([predicted[name] for name in ms], list(ms.values()), 1)
    if not factor > 0:
        raise PruningError("narrower networks were not faster: the machine is too busy to be timed")
    timings.fit = (float(constant), float(factor))
    rows = [
        (name, f"{ms[name]:.2f}", f"{predicted[name]:.2f}", f"{constant + factor * predicted[name]:.2f}") for name in ms
    ]
    return timings, drawn(("network", "ms", "sum of its layers", "by the table"), rows)


def timed_whole(
    model: Any, channel_map: ChannelMap, choices: dict[str, np.ndarray], imgsz: int, runtime: Runtime
) -> dict[str, float]:
    """Times a network cut in several ways.

    Args:
        model: The network; it is left as it is.
        channel_map: Of the network.
        choices: Which groups stay, bool of shape (G,), by name.
        imgsz: Side of the image in pixels.
        runtime: What runs it.

    Returns:
        Milliseconds by name.
    """
    runs = {}
    for name, kept in choices.items():
        network = copy.deepcopy(model)
        if not kept.all():
            cut(network, plan_from(channel_map, kept, {}))
        runs[name] = runtime.network(network, imgsz)
    with runtime.threading():
        return in_turns(runs)
