"""What a compression has done so far, on disk: what is in there is not done again."""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import PruningError
from ..files.locks import LOCK, alone_in  # noqa: F401  (the second for others, which look for it here)
from ..files.places import shown
from ..files.whole import sha256, whole_file
from ..inputs.checks import listing, mapping, number, optional, text, whole_number
from ..inputs.documents import brief, found_in, read_json
from ..runs.belongings import COMPRESSION, check_own
from ..runs.folders import has_state, put_aside, replaced_by, visible
from .recipe import Recipe

LADDER = "ladder.csv"  # the networks of a ladder, written when it has ended


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
        ms: Milliseconds for one image, of the original and of the network that is kept; None where nothing was timed.
    """

    step: str
    epochs: int
    parameters: int
    macs: int
    cut: float | None
    recovered: float | None
    seconds: float
    kept: bool = False
    ms: float | None = None

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
        PruningError: If the folder holds a compression that was asked for something else, or its file is damaged.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self._file, self._folder = folder / "state.json", folder
        self._done: dict[str, Any] = {}
        if not self._file.is_file():
            self._content = {"recipe": recipe.plain(), "done": self._done}
            self._write()
            return
        what = f"'{shown(self._file)}'"
        try:
            self._content = read_json(self._file, what)
            with found_in(what, "no state of a compression"):
                check_saved(self._content)
        except PruningError as error:
            raise PruningError(f"{error}; --overwrite begins anew") from error
        self._done, earlier = self._content["done"], self._content["recipe"]
        if changed := recipe.differences(earlier):
            raise PruningError(
                f"'{folder.name}' was started with other settings: {'; '.join(changed)}. Give the same ones to go on, "
                f"--name OTHER for a new run, --overwrite to replace it"
            )

    def once(
        self,
        name: str,
        job: Callable[[], Any],
        product: Path | None = None,
        *,
        inputs: Sequence[Path] = (),
        discard: Callable[[], None] = lambda: None,
    ) -> Any:
        """Returns the result of a job, plain data; the job is done unless its result is known already.

        What it was computed from is known by its content: where a file is gone or another one, the job is done again,
        and with it all that was computed from what it writes.

        Args:
            name: Of the job.
            job: Does it.
            product: A file that it writes.
            inputs: The files that it reads.
            discard: Removes what an earlier try, with other inputs, has left half done.
        """
        read = [file_digest(file) for file in inputs]
        known = self._done.get(name)
        if known and _same(known, read, product):
            return known["result"]

        begun = self._content.setdefault("begun", {})
        if known:
            self._forget_after(name)
        if known or begun.get(name, read) != read:
            discard()
        begun[name] = read
        self._write()

        begin = time.perf_counter()
        result = job()
        seconds = round(time.perf_counter() - begin, 1)
        written = file_digest(product) if product and product.is_file() else None
        self._done[name] = {"result": result, "seconds": seconds, "inputs": read, "product": written}
        del begun[name]
        self._write()
        return result

    def _forget_after(self, name: str) -> None:
        """Drops a job and those that were done after it, unless they have noted what they were computed from."""
        names = list(self._done)
        for later in names[names.index(name) :]:
            if later == name or not self._done[later].get("inputs"):
                del self._done[later]
                self._content["begun"][later] = None  # what is there of it is to be discarded

    def seconds(self, *names: str) -> float:
        """Returns how many seconds some jobs took together, the last time that they were begun."""
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


def check_saved(content: Any) -> None:
    """Checks the content of `state.json`: what was asked for, and the result of each job by what kind of job it is.

    Raises:
        ValueError: If something is missing or of another type.
    """
    mapping(content, "it", needs=("recipe", "done"))
    mapping(content["recipe"], "recipe")
    for name, job in mapping(content["done"], "done").items():
        where = f"the result of {brief(name)}"
        mapping(job, f"done[{brief(name)}]", needs=("result", "seconds"))
        number(job["seconds"], f"the seconds of {brief(name)}", least=0)
        kind = name.rpartition(" ")[2]
        if kind in RESULTS:
            RESULTS[kind](job["result"], where)
        listing(job.get("inputs", []), f"the inputs of {brief(name)}", optional(text))
        optional(text)(job.get("product"), f"the product of {brief(name)}")
    for name, inputs in mapping(content.get("begun", {}), "begun").items():
        listing([] if inputs is None else inputs, f"begun[{brief(name)}]", optional(text))


def _check_size(result: Any, where: str) -> None:
    """Checks parameters and multiply-adds of the original."""
    listing(result, where, lambda value, place: whole_number(value, place, 1), count=2)


def _check_cut(result: Any, where: str) -> None:
    """Checks what is kept of a cut: its size and what limited it, or why there is none."""
    if "stuck" in mapping(result, where):
        text(result["stuck"], f"'stuck' in {where}")
        return
    mapping(result, where, needs=("params", "macs", "faster", "limits"))
    if not isinstance(result.get("missed", False), bool):
        raise ValueError(f"'missed' in {where} is {brief(result['missed'])}, neither true nor false")
    whole_number(result["params"], f"'params' in {where}", 1)
    whole_number(result["macs"], f"'macs' in {where}", 1)
    number(result["faster"], f"'faster' in {where}", above=0)
    listing(result["limits"], f"'limits' in {where}", text)


def _check_milliseconds(result: Any, where: str) -> None:
    """Checks the milliseconds before and after, and their spread."""
    before, after, spread = listing(result, where, count=3)
    number(before, f"{where}[0]", above=0)
    number(after, f"{where}[1]", above=0)
    number(spread, f"{where}[2]", least=0)


def _check_turns(result: Any, where: str) -> None:
    """Checks the milliseconds of the original and of a ladder's networks, and their spread."""
    *ms, spread = listing(result, where)
    for place, value in enumerate(ms):
        number(value, f"{where}[{place}]", above=0)
    number(spread, f"{where}[{len(ms)}]", least=0)


RESULTS: dict[str, Callable[[Any, str], Any]] = {  # by the last word of the job's name
    "size": _check_size,
    "accuracy": number,
    "cut": _check_cut,
    "timing": lambda value, where: number(value, where, above=0),  # of earlier versions
    "milliseconds": _check_milliseconds,
    "turns": _check_turns,
}


def file_digest(file: Path) -> str | None:
    """Returns what tells the content of a file from that of others; None if it is not there."""
    if not file.is_file():
        return None
    about = file.stat()
    return _digest(file, about.st_mtime_ns, about.st_size, about.st_ino)


@lru_cache(maxsize=256)
def _digest(file: Path, *_: int) -> str:
    return sha256(file)


def _same(known: dict[str, Any], inputs: list[str | None], product: Path | None) -> bool:
    """Whether a job, as noted, was computed from the same files, and its product is there as it was written.

    Notes of earlier versions say nothing of either: then the product only has to be there.
    """
    if known.get("inputs", inputs) != inputs:
        return False
    if product is None or ("product" in known and known["product"] is None):
        return True
    return product.is_file() and file_digest(product) == known.get("product", file_digest(product))


def clear(folder: Path) -> None:
    """Empties the folder of a compression, its state last, but for the lock of this process."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == "state.json"):
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def has_result(folder: Path) -> bool:
    """Whether a compression has ended with a network, or with those of a ladder."""
    return (folder / "compressed.pt").is_file() or (folder / LADDER).is_file()


def make_room(folder: Path, *, overwrite: bool) -> Path:
    """Sets an old compression aside where it is to be replaced; returns where one is kept.

    Raises:
        PruningError: If the folder holds what no compression made.
    """
    if not overwrite or not visible(folder):
        return replaced_by(folder)
    if not has_state(folder):
        raise PruningError(f"'{shown(folder)}' holds something other than a compression; choose another --name")
    check_own(folder, COMPRESSION, "a compression")
    return put_aside(folder)
