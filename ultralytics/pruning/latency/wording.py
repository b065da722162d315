"""The milliseconds of a cut in words, and where they are less than promised, what holds it back and what would help."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import PruningError, counted, first_line, typed_line
from ..report import pixels, say, table, threads_said
from .comparing import LayerTime, Remedy, Speed
from .timing import RUNTIMES


def say_speed(measure: Callable[[], Speed], *, tried: frozenset[Remedy] = frozenset(), brief: bool = False) -> None:
    """Times a cut and says what was found; where that is not possible, one line says why.

    Args:
        measure: Times it.
        tried: What was tried already to make it fast.
        brief: Whether to say nothing of a cut that is as fast as promised.
    """
    try:
        speed = measure()
    except PruningError as error:
        say(f"\nNot timed: {first_line(error)}")
    except Exception as error:  # whatever a runtime raises: what was made is there, and stays
        say(f"\nNot timed: {typed_line(error)}")
    else:
        if not brief:
            say(f"\n{timed_said(speed)}")
        if speed.is_slow:
            say(slow_said(speed, tried))


def timed_said(speed: Speed) -> str:
    """Returns the milliseconds before and after, and where they were timed."""
    about = speed.runtime.about()
    where = f"{about['runtime']}, {threads_said(about['threads'])}, {about['machine']}"
    ms = f"{speed.before_ms:.2f} ms before, {speed.after_ms:.2f} ms after: {speed.measured:.2f}x"
    doubt = " The machine was busy meanwhile: time it again when it rests." if speed.in_doubt else ""
    return f"Timed at {pixels(speed.imgsz)} px: {ms}, within {speed.spread:.0%} ({where}){doubt}"


def slow_said(speed: Speed, tried: frozenset[Remedy] = frozenset()) -> str:
    """Returns what holds a slow cut back, and the options that would help."""
    lines = [
        f"Not as fast as promised: {speed.measured:.2f}x, by {speed.promised:.2f}x fewer multiply-adds; "
        f"{speed.missing:.2f} of the {speed.after_ms:.2f} ms are too many."
    ]
    if speed.layers:
        lines += [_layers(speed), _parts(speed)]
        lines += [f"Try: {'; '.join(_advice(remedy, speed) for remedy in speed.remedies(tried))}"]
    return "\n".join(lines)


def _layers(speed: Speed) -> str:
    """Returns the layers that hold most of the missing time, as a table."""

    def row(layer: LayerTime) -> tuple[str, ...]:
        before, after = (f"{inputs} -> {outputs}" for inputs, outputs in (layer.before, layer.after))
        why = f"not multiples of {speed.step}" if layer.is_off(speed.step) else ""
        why = "not cut" if layer.before == layer.after else why
        return layer.name, before, after, f"{layer.before_ms:.2f}", f"{layer.after_ms:.2f}", why

    titles = ("the slowest layers", "channels before", "after", "ms before", "ms after", "why")
    return table(titles, [row(layer) for layer in speed.slowest])


def _parts(speed: Speed) -> str:
    """Returns where most of the missing milliseconds are, all together."""
    outside = f"{max(0.0, speed.outside[1]) / speed.after_ms:.0%} of its time"
    named = {
        Remedy.ROUND_TO: f"wasted by widths that are no multiples of {speed.step}, in {len(speed.off)} of "
        f"{counted(len(speed.layers), 'layer')} and between them",
        Remedy.LATENCY: "in layers of which too little was cut for the time that they take",
        Remedy.RUNTIME: f"outside of the layers, where {outside} is not in the multiply-adds: joins, views, calls",
    }
    parts = speed.parts()
    return "\n".join(f"{parts[remedy]:.2f} ms {named[remedy]}" for remedy in speed.remedies())


def _advice(remedy: Remedy, speed: Speed) -> str:
    """Returns the option that would help."""
    if remedy is Remedy.ROUND_TO:
        return f"--round-to {speed.step}"
    if remedy is Remedy.LATENCY:
        return f"--latency-speed-up {speed.promised:.3g}, which chooses by milliseconds"
    others = " or ".join(f"--runtime {name}" for name in RUNTIMES if name != speed.runtime.name)
    batches = "" if speed.runtime.device == "cpu" else "larger batches, "
    return f"{batches}another runtime ({others} times it; export.py knows more)"
