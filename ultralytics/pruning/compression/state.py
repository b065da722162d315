"""What a compression has done so far, on disk: what is in there is not done again."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..checkpoint import whole_file
from ..errors import PruningError
from ..stages import shown
from .recipe import Recipe

LOCK = ".lock"


@dataclass(frozen=True)
class Step:
    """A row of `compress.csv`.

    Attributes:
        step: `original`, 1, 2, ..., or `fine-tuned`.
        epochs: Epochs trained up to its end.
        parameters: How many the network has.
        macs: Multiply-adds for one image.
        cut: Accuracy right after the cut, with new statistics, in 0..1; None where there was none.
        recovered: Accuracy after the training that followed; None where there was none.
        seconds: Time that it took.
        kept: Whether it is the network of `compressed.pt`.
    """

    step: str
    epochs: int
    parameters: int
    macs: int
    cut: float | None
    recovered: float | None
    seconds: float
    kept: bool = False

    @property
    def accuracy(self) -> float:
        """The accuracy at the end of the step."""
        found = self.recovered if self.recovered is not None else self.cut
        assert found is not None
        return found


class State:
    """Remembers results by name in `state.json`, which is whole at any time.

    Args:
        folder: Of the run.
        recipe: What is asked for.

    Raises:
        PruningError: If the folder holds a compression that was asked for something else, or its file is no JSON.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._file, self._folder = folder / "state.json", folder
        self._done: dict[str, Any] = {}
        if not self._file.is_file():
            self._content = {"recipe": recipe.plain(), "done": self._done}
            self._write()
            return
        try:
            self._content = json.loads(self._file.read_text(encoding="utf-8"))
            self._done, earlier = self._content["done"], self._content["recipe"]
            if not isinstance(earlier, dict) or not all(
                {"result", "seconds"} <= work.keys() for work in self._done.values()
            ):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PruningError(f"'{self._file}' is no state of a compression; --overwrite begins anew") from error
        if changed := recipe.differences(earlier):
            raise PruningError(
                f"'{folder.name}' was begun otherwise: {'; '.join(changed)}. Say the same to go on, --name OTHER for a "
                f"new run, --overwrite to replace it"
            )

    def once(self, name: str, work: Callable[[], Any], product: Path | None = None) -> Any:
        """Returns the result of some work, plain data, which is done unless it is known already.

        Args:
            name: Of the work.
            work: Does it.
            product: A file that it writes; where that is gone, the work is done again.
        """
        if name not in self._done or (product and not product.is_file()):
            begin = time.perf_counter()
            result = work()
            self._done[name] = {"result": result, "seconds": round(time.perf_counter() - begin, 1)}
            self._write()
        return self._done[name]["result"]

    def seconds(self, *names: str) -> float:
        """Returns how long some works took together, the last time that they were begun."""
        return sum(self._done[name]["seconds"] for name in names if name in self._done)

    def _write(self) -> None:
        with whole_file(self._file) as file:
            file.write_text(json.dumps(self._content, indent=1), encoding="utf-8")

    def write_csv(self, steps: list[Step]) -> None:
        """Writes `compress.csv`; what is unknown is an empty cell."""
        with whole_file(self._folder / "compress.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [entry.name for entry in fields(Step)])
            writer.writeheader()
            writer.writerows({**asdict(step), "kept": "yes" if step.kept else ""} for step in steps)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder while this one works in it.

    Raises:
        PruningError: If another one does.
    """
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PruningError(f"another process works in '{shown(folder)}': wait for it, or use --name") from error
        yield


def clear(folder: Path) -> None:
    """Empties the folder of a compression, its state last, but for the lock of this process."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == "state.json"):
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def visible(folder: Path) -> list[str]:
    """Returns what a folder holds, but for hidden files: locks, and what a killed process had begun to write."""
    return [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.is_dir() else []
