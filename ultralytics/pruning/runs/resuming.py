"""What a training needs to go on as if it had not been interrupted.

The release's checkpoint rounds the optimizer's state, and the EMA of a training from scratch; it forgets the live
weights, the random states and the order of the images: a resumed run is another run. `resume-EPOCH.pt`, beside the
checkpoint until the run ends, holds the rest. In one process with `workers=0` (always so on the CPU) and without
gradient accumulation (`nbs` no larger than `batch`) a resumed run then ends with the same weights, bit for bit. With
worker processes, whose random states nobody can reach, it goes on from the exact weights with other augmentations;
gradients of batches that waited for the optimizer's next step are lost.
"""

from __future__ import annotations

import csv
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from ..checkpoints.checkpoint import whole_file
from ..errors import PruningError, first_line
from ..inputs.documents import read_text


def state_file(folder: Path, epoch: int) -> Path:
    """Returns the file for the state at the end of an epoch, counted from 0."""
    return folder / f"resume-{epoch}.pt"


def save_state(trainer: Any) -> None:
    """Writes what the checkpoint of this epoch lacks beside it; of several processes, only the state of sparsity."""
    state: dict[str, Any] = {"sparsity": trainer.sparsity.state() if trainer.sparsity else None}
    if RANK == -1:
        state |= {
            "model": unwrap_model(trainer.model).state_dict(),
            "ema": trainer.ema.ema.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "random": {"python": random.getstate(), "numpy": _numpy_state(), "torch": torch.get_rng_state()},
            "cuda": torch.cuda.get_rng_state(trainer.device) if trainer.device.type == "cuda" else None,
            "recent_images": [int(i) for i in getattr(trainer.train_loader.dataset, "buffer", [])],  # for mosaic
        }
    with whole_file(state_file(trainer.wdir, trainer.epoch)) as temporary:
        torch.save(state, temporary)


def _numpy_state() -> tuple[Any, ...]:
    """Returns NumPy's random state as plain data."""
    kind, keys, *rest = np.random.get_state()
    return (str(kind), np.asarray(keys).tolist(), *rest)


def check_state(folder: Path, epoch: int) -> None:
    """Looks at the state that a run would go on from, before anything is written.

    Raises:
        PruningError: If it is there and cannot be read.
    """
    path = state_file(folder, epoch)
    if path.is_file():
        _read(path)


def _read(path: Path) -> dict[str, Any]:
    """Reads a state as data: whoever wrote it, nothing in it is run.

    Raises:
        PruningError: If it holds anything else, or is damaged.
    """
    from ultralytics.utils.patches import torch_load

    try:
        state = torch_load(path, map_location="cpu")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise PruningError(f"'{path}' is damaged ({first_line(error)}); delete it, or start anew") from error
    if not isinstance(state, dict) or "sparsity" not in state:
        raise PruningError(f"'{path}' is no state of a training; delete it, or start anew")
    return state


def load_sparsity(trainer: Any, epoch: int) -> None:
    """Brings a sparsity training to where it was at the end of an epoch, counted from 0.

    Raises:
        PruningError: If that state is not there, and the run cannot go on without.
    """
    path = state_file(trainer.wdir, epoch)
    if path.is_file():
        state = _read(path)
        trainer.sparsity.load(state["sparsity"])
    elif trainer.sparsity.settings.target:
        raise PruningError(f"'{path}' is missing: without it nobody knows which channels were chosen; start anew")


def load_state(trainer: Any) -> bool:
    """Brings a resumed trainer to the state in which it was interrupted.

    Returns:
        Whether there was a state of the epoch that the checkpoint holds.
    """
    path = state_file(trainer.wdir, trainer.start_epoch - 1)
    if not path.is_file():
        return False
    state = _read(path)
    if "model" not in state:
        return False

    unwrap_model(trainer.model).load_state_dict(state["model"])
    trainer.ema.ema.load_state_dict(state["ema"])
    for saved, group in zip(state["optimizer"]["param_groups"], trainer.optimizer.param_groups, strict=True):
        saved["fused"] = group.get("fused")  # the device that it runs on now says which kernel
    trainer.optimizer.load_state_dict(state["optimizer"])

    for index in state["recent_images"]:
        trainer.train_loader.dataset.load_image(index)
    if trainer.train_loader.num_workers == 0:
        _skip_seen_images(trainer)

    _set_random_states(state, trainer.device)  # last: what is read and drawn above moves them
    return True


def _set_random_states(state: dict[str, Any], device: torch.device) -> None:
    """Brings the random numbers of Python, NumPy and PyTorch, on the CPU and on a GPU, to where they were."""
    random.setstate(state["random"]["python"])
    kind, keys, *rest = state["random"]["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["random"]["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def _skip_seen_images(trainer: Any) -> None:
    """Brings the shuffled order of the images to where it was, by drawing the indices of past epochs again.

    The release makes a new iterator where mosaic ends, in the last `close_mosaic` epochs; a resumed run does so too.
    """
    loader, past = trainer.train_loader, trainer.start_epoch
    closes = max(trainer.epochs - trainer.args.close_mosaic, 0) if trainer.args.close_mosaic else trainer.epochs
    make_iterator = loader._get_iterator

    def skipping(epochs: int):
        iterator = make_iterator()
        for _ in range(epochs * len(loader)):
            next(iterator._sampler_iter)
        return iterator

    if closes:
        loader.iterator = skipping(min(past, closes))
    if past >= closes:  # the trainer is about to drop that iterator for a new one

        def second_iterator():
            del loader._get_iterator
            return skipping(past - closes)

        loader._get_iterator = second_iterator


def check_results(results: Path, epochs: int) -> list[str]:
    """Returns the lines of `results.csv`, if it is there: a header, and a row for each epoch.

    Args:
        results: The file.
        epochs: How many were saved; a row behind them may be torn.

    Raises:
        PruningError: If it is no such table. The release would go on appending to it, and fail to draw it at the end.
    """
    if not results.exists():
        return []
    what, advice = f"'{results}'", "move it away to go on without the rows of earlier epochs"
    try:
        lines = read_text(results, what).splitlines(keepends=True)
    except PruningError as error:
        raise PruningError(f"{error}; {advice}") from error
    rows = list(csv.reader(lines[: 1 + epochs]))
    if not rows or not rows[0] or rows[0][0].strip() != "epoch":
        raise PruningError(f"{what} is damaged: its first line does not name its columns; {advice}")
    for number, row in enumerate(rows[1:], 2):
        try:
            numbers = [float(cell) for cell in row]
        except ValueError:
            numbers = []
        if len(numbers) != len(rows[0]):
            raise PruningError(f"{what} is damaged: line {number} is not {len(rows[0])} numbers; {advice}")
    return lines


def forget_unsaved_epochs(results: Path, epochs: int) -> None:
    """Drops the rows of `results.csv` behind the first `epochs`: of an epoch that was measured but never saved.

    Raises:
        PruningError: If the file is damaged.
    """
    if lines := check_results(results, epochs):
        with whole_file(results) as temporary:
            temporary.write_text("".join(lines[: 1 + epochs]), encoding="utf-8")


def remove_states(folder: Path, *, but: int | None = None) -> None:
    """Removes the states of all epochs but one: that of the checkpoint, none once the run has ended."""
    for file in folder.glob("resume-*.pt"):
        if but is None or file != state_file(folder, but):
            file.unlink()
