"""A compression in its folder, where no other process works; an earlier one comes back if the new one is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import PruningError
from ..files.locks import alone_in
from ..files.places import shown, write_folder
from ..files.whole import DiskFullError, naming_the_disk
from ..latency import Runtime
from ..latency.comparing import tried
from ..latency.wording import say_speed
from ..one_shot.own_labels import agreement
from ..report import say
from ..runs.folders import kept_runs, put_back, recover, visible
from ..runs.following import Origin, say_next
from .recipe import Recipe
from .run import Compression
from .state import Step, clear, has_result, make_room
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
        compression, row = _run(recipe, folder, earlier)
        if row is not None:
            for place in kept_runs(folder):
                clear(place)
                place.rmdir()
        say("\n" + steps_table(compression.steps))
        if said := agreement(recipe.data):
            say(said)
        if len(compression.steps) == 1:
            raise PruningError("nothing can be removed from this network by these limits: nothing was written")
        if row is None:
            raise PruningError(_too_costly(compression))
        _say_result(compression, row, runtime)


def _run(recipe: Recipe, folder: Path, earlier: Path) -> tuple[Compression, Step | None]:
    """Runs a compression; an earlier one that it replaces comes back if it is refused before anything was made.

    Args:
        recipe: What is asked for.
        folder: Where it is kept.
        earlier: Where the one that it replaces is kept.

    Returns:
        The compression, and the row of the network that is kept.
    """
    begins = not visible(folder)
    try:
        with naming_the_disk(folder):
            compression = Compression(recipe, folder)
            return compression, compression.run()
    except PruningError as error:
        made = any(folder.glob("*.pt")) or any(folder.glob("*/weights"))
        if begins and not made and not isinstance(error, DiskFullError):
            put_back(folder, earlier)
        raise


def _too_costly(compression: Compression) -> str:
    """Returns why no smaller network was kept, and what to do, in words."""
    original, found = compression.original, compression.steps[-1]
    return (
        f"{original.macs / found.macs:.2f}x fewer multiply-adds cost {original.accuracy - found.accuracy:.4f} of "
        f"the accuracy, --max-map-drop allows {compression.recipe.max_map_drop:g}: nothing smaller was kept; allow "
        f"more, take more --epochs, or a smaller target (all states are in {shown(compression.folder)})"
    )


def _say_result(compression: Compression, row: Step, runtime: Callable[[], Runtime] | None) -> None:
    """Prints what was reached, where it lies, how fast it is, and what to run next."""
    recipe, original = compression.recipe, compression.original
    timed = ""
    if recipe.latency:
        timed = f", {compression.faster:.2f}x faster {'by the table' if recipe.latency.table else 'as timed'}"
    change = row.accuracy - original.accuracy
    say(f"\n{original.macs / row.macs:.2f}x fewer multiply-adds{timed}, accuracy {change:+.4f} against the original.")

    result = compression.folder / "compressed.pt"
    say(f"Written: {shown(result)}, compress.csv and compress.png beside it")
    if runtime:
        say_speed(lambda: compression.speed(runtime()), tried=tried(recipe.latency))
    known = {"before": Path(recipe.weights), "data": recipe.data, "name": compression.folder.name, "compares": True}
    say_next(("val.py", "export.py"), Origin.of(result.resolve(), recipe.training, **known))
