"""A compression in its folder, where no other process works; an earlier one comes back if the new one is refused."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from ..errors import PruningError
from ..files.locks import alone_in
from ..files.places import shown, write_folder
from ..files.whole import DiskFullError, naming_the_disk
from ..latency import Runtime
from ..latency.comparing import Speed, tried
from ..latency.wording import say_speed
from ..one_shot.own_labels import agreement
from ..report import say, table
from ..reports.writing import write_beside
from ..runs.folders import kept_runs, put_back, recover, visible
from ..runs.following import Origin, say_next
from .jobs import Jobs
from .ladder import Ladder
from .recipe import Recipe
from .run import Compression
from .state import LADDER, clear, has_result, make_room
from .summary import steps_table


def compress(
    recipe: Recipe,
    folder: Path,
    *,
    overwrite: bool = False,
    runtime: Callable[[], Runtime] | None = None,
) -> None:
    """Compresses a checkpoint in a folder, or goes on where an earlier process was stopped.

    Args:
        recipe: What is asked for.
        folder: Where it is kept.
        overwrite: Whether to begin anew.
        runtime: Makes what times the network before and after; None: nothing is timed at the end.

    Raises:
        PruningError: If the folder holds another compression, another process works in it, or no smaller network
            honours the limits.
    """
    with alone_in(folder):
        recover(folder, ended=has_result)
        earlier = make_room(folder, overwrite=overwrite)
        write_folder(folder)
        compression = _run(recipe, folder, earlier)
        if compression.kept:
            for place in kept_runs(folder):
                clear(place)
                place.rmdir()
        say("\n" + steps_table(compression.steps))
        if said := agreement(recipe.data):
            say(said)
        if len(compression.steps) == 1:
            raise PruningError("nothing can be removed from this network by these limits: nothing was written")
        if not compression.kept:
            raise PruningError(_too_costly(compression))
        if isinstance(compression, Ladder):
            _say_ladder(compression, runtime)
        else:
            _say_result(compression, runtime)


def _run(recipe: Recipe, folder: Path, earlier: Path) -> Compression | Ladder:
    """Runs a compression; an earlier one that it replaces comes back if it is refused before anything was made.

    Args:
        recipe: What is asked for.
        folder: Where it is kept.
        earlier: Where the one that it replaces is kept.
    """
    begins = not visible(folder)
    try:
        with naming_the_disk(folder):
            compression = Ladder(recipe, folder) if recipe.milder else Compression(recipe, folder)
            compression.run()
            return compression
    except PruningError as error:
        made = any(folder.glob("*.pt")) or any(folder.glob("*/weights"))
        if begins and not made and not isinstance(error, DiskFullError):
            put_back(folder, earlier)
        raise


def _too_costly(compression: Jobs) -> str:
    """Returns why no smaller network was kept, and what to do, in words."""
    original, found = compression.original, compression.steps[-1]
    return (
        f"{original.macs / found.macs:.2f}x fewer multiply-adds cost {original.accuracy - found.accuracy:.4f} of "
        f"the accuracy, --max-map-drop allows {compression.recipe.max_map_drop:g}: nothing smaller was kept; allow "
        f"more, take more --epochs, or a smaller target (all states are in {shown(compression.folder)})"
    )


def _say_result(compression: Compression, runtime: Callable[[], Runtime] | None) -> None:
    """Prints what was reached, where it lies, how fast it is, and what to run next."""
    recipe, original, (row,) = compression.recipe, compression.original, compression.kept
    timed = ""
    if recipe.latency:
        timed = f", {compression.faster:.2f}x faster {'by the table' if recipe.latency.table else 'as timed'}"
    change = row.accuracy - original.accuracy
    say(f"\n{original.macs / row.macs:.2f}x fewer multiply-adds{timed}, accuracy {change:+.4f} against the original.")

    result = compression.folder / "compressed.pt"
    say(f"Written: {shown(result)}, compress.csv and compress.png beside it")
    if runtime:
        say_speed(lambda: compression.speed(runtime()), tried=tried(recipe.latency))
    write_beside(compression.folder, data=recipe.data)
    _say_next(compression, result)


def _say_ladder(ladder: Ladder, runtime: Callable[[], Runtime] | None) -> None:
    """Times the networks of a ladder; prints how good and how fast they are, what that took, and what to run next."""
    if runtime:
        for number in range(len(ladder.kept)):
            measure = functools.partial(_speed, ladder, number, runtime)
            say_speed(measure, tried=tried(ladder.recipe.latency))
    rows = ladder.rows()
    say("\n" + table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    say(f"\n{ladder.cheaper()}")
    names = ", ".join(file.name for file in ladder.files)
    say(f"Written to {shown(ladder.folder)}: {names}, {LADDER}, compress.csv and compress.png")
    write_beside(ladder.folder, data=ladder.recipe.data)
    _say_next(ladder, ladder.files[-1])


def _speed(ladder: Ladder, number: int, runtime: Callable[[], Runtime]) -> Speed:
    """Times a network of a ladder."""
    return ladder.speed(number, runtime())


def _say_next(compression: Jobs, result: Path) -> None:
    """Prints what to run next on a network."""
    recipe = compression.recipe
    known = {"before": Path(recipe.weights), "data": recipe.data, "name": compression.folder.name, "compares": True}
    say_next(("val.py", "export.py"), Origin.of(result.resolve(), recipe.training, **known))
