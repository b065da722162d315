"""Finished checkpoints are in half precision, as the release makes them, unless a network would lose by it.

While a network is trained on, its checkpoints hold it in float32, so that both can be compared once all epochs are
done: numbers beyond the range of half precision are seen when a checkpoint is stripped, and what rounding costs by the
accuracy of `best.pt`, which training measured before and the release measures after.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.patches import torch_load

from ..accuracy import accuracy, titles_of, what_counts
from ..files.whole import whole_file

TOLERANCE = 0.001  # of the accuracy in 0..1


class _AsItIs:
    """Stands for the method `half` of a network, once: a copy of the network gets one of its own."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self) -> nn.Module:
        """Returns the network in the precision that it has."""
        vars(self.network).pop("half")
        return self.network


@contextlib.contextmanager
def saved_in_float32(trainer: Any) -> Iterator[None]:
    """Lets the release, which would save a half of it, save the averaged network of a trainer as it is."""
    if not _trains_on(trainer):
        yield
        return
    network = trainer.ema.ema
    network.half = _AsItIs(network)
    try:
        yield
    finally:
        vars(network).pop("half", None)


def _trains_on(trainer: Any) -> bool:
    """Whether a trainer keeps the network that it was given, or lets its channels fade."""
    return bool(trainer.args.finetune or trainer.sparsity)


def held_in_half(stripped: dict[str, Any], checkpoint: str | Path, target: Path) -> None:
    """Writes a stripped checkpoint anew, in float32, if half precision cannot hold its numbers; says so.

    Args:
        stripped: What it holds, in half precision.
        checkpoint: That from which it was made, still in place.
        target: The stripped file.
    """
    lost = next((name for name, tensor in _floats(stripped["model"]) if not torch.isfinite(tensor).all()), None)
    weights = _weights(_content(Path(checkpoint))) if lost else {}
    if weights and torch.isfinite(weights[str(lost)]).all():
        _write_in_float32(target, weights)
        largest = float(weights[str(lost)].abs().max())
        LOGGER.info(f"{Path(checkpoint).name} stays in float32: half precision cannot hold {lost}, {largest:.2g}")


def _floats(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in network.state_dict().items() if tensor.is_floating_point())


def _content(checkpoint: Path) -> dict[str, Any]:
    """Reads a checkpoint; nothing if it is none, as the release is about to say."""
    try:
        content = torch_load(checkpoint, map_location="cpu")
    except Exception:  # whatever its bytes can raise
        return {}
    return content if isinstance(content, dict) else {}


def _weights(content: dict[str, Any]) -> dict[str, Tensor]:
    """Returns the weights of a checkpoint that is not stripped yet; nothing if they are in half precision already."""
    network = content.get("ema") or content.get("model")
    network = getattr(network, "student_model", network)
    if not isinstance(network, nn.Module) or any(tensor.dtype != torch.float32 for _, tensor in _floats(network)):
        return {}
    return network.state_dict()


def _write_in_float32(stripped: Path, weights: dict[str, Tensor]) -> None:
    """Writes a stripped checkpoint anew with the weights that it had before."""
    content = torch_load(stripped, map_location="cpu")
    content["model"].float().load_state_dict(weights)
    with whole_file(stripped) as temporary:
        torch.save(content, temporary)


def about_to_be_halved(trainer: Any) -> tuple[dict[Path, dict[str, Tensor]], float | None]:
    """Returns what a trainer's checkpoints hold before they are stripped, and how accurate the best one was measured.

    Nothing, where nobody has to ask: in a training that is all the release's, and in all processes but the first.
    """
    if not _trains_on(trainer) or RANK not in {-1, 0} or not trainer.best.exists():
        return {}, None
    contents = {file: _content(file) for file in (trainer.best, trainer.last) if file.exists()}
    measured = accuracy(contents[trainer.best].get("train_metrics") or {}, trainer.args.task)
    return {file: _weights(content) for file, content in contents.items()}, measured


def keep_float32(trainer: Any, weights: dict[Path, dict[str, Tensor]], measured: float | None) -> None:
    """Puts the weights back into finished checkpoints if half precision changed the accuracy; says so.

    It is measured again, in float32, only where the release's last measurement differs from that of the training.

    Args:
        trainer: One that has stripped its checkpoints and validated the best one.
        weights: Those of each checkpoint before; of one that was in half precision already, none.
        measured: How accurate the best one was before, in 0..1.
    """
    if not _trains_on(trainer):
        return
    task, validator, best = trainer.args.task, trainer.validator, trainer.best
    halved = accuracy(trainer.metrics or {}, task)
    differs = measured is not None and halved is not None and abs(halved - measured) > TOLERANCE
    if not _as_in_the_first(differs and bool(weights.get(best))):
        return

    validator.args.plots = False
    if validator.args.quantize:  # the arithmetic would hide what the weights lost
        halved = accuracy(_measure(trainer), task)
    in_half, metrics = best.read_bytes(), copy.deepcopy(validator.metrics)
    if RANK in {-1, 0}:
        _write_in_float32(best, weights[best])
    _as_in_the_first(True)  # it is written
    found = _measure(trainer)
    whole = accuracy(found, task)
    if RANK not in {-1, 0}:
        return
    if whole is None or halved is None or abs(whole - halved) <= TOLERANCE:
        validator.metrics = metrics
        with whole_file(best) as temporary:
            temporary.write_bytes(in_half)
        return
    trainer.metrics = found
    if weights.get(trainer.last):
        _write_in_float32(trainer.last, weights[trainer.last])
    name = titles_of(task)[what_counts(task)]
    LOGGER.info(f"{best.name} stays in float32: {name} {whole:.4f}, in half precision {halved:.4f}")


def _as_in_the_first(value: bool) -> bool:
    """Returns what the first of several processes, which meet here, says."""
    if RANK == -1:
        return value
    said = [value]
    torch.distributed.broadcast_object_list(said, src=0)
    return said[0]


def _measure(trainer: Any) -> dict[str, Any]:
    """Validates the best checkpoint of a trainer in float32; returns the release's metrics by name."""
    trainer.validator.args.quantize = None
    found = trainer.validator(model=trainer.best) or {}
    return {name: value for name, value in found.items() if name != "fitness"}
