"""What the user watches during a sparsity training: gammas per epoch, for TensorBoard and for `gamma.png`."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .scales import FADED, Scales


@dataclass(frozen=True)
class Epoch:
    """The gammas at the end of an epoch.

    Attributes:
        number: Which epoch, counted from 0.
        sparsity: Share of faded gammas, in 0..1.
        strength: The strength in that epoch.
        counts: How many gammas lie in each bin of `plots.fixed_edges()`, the exact zeros first.
    """

    number: int
    sparsity: float
    strength: float
    counts: tuple[int, ...]


class History:
    """Remembers the gammas of each epoch, also when the training is resumed.

    Attributes:
        epochs: The epochs so far, in order.
    """

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self._writer: Any = None

    def epoch_ends(self, number: int, strength: float, scales: Scales, folder: Path) -> None:
        """Notes an epoch, and writes it for TensorBoard if that is installed.

        Args:
            number: Which epoch, counted from 0.
            strength: The strength in it.
            scales: The gammas.
            folder: The run's folder.
        """
        from ..plots.bins import count_by_bin, fixed_edges

        edges = fixed_edges()
        values = scales.prunable().cpu().double().numpy().clip(max=edges[-1])
        epoch = Epoch(number, float(np.mean(values < FADED)), strength, tuple(count_by_bin(values, edges).tolist()))
        self.epochs = [*(other for other in self.epochs if other.number < number), epoch]  # an epoch may run again
        self._write(epoch, scales, folder)

    def _write(self, epoch: Epoch, scales: Scales, folder: Path) -> None:
        """Writes an epoch for TensorBoard, if that is installed."""
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except (ImportError, AttributeError, TypeError, AssertionError):  # missing or broken: it is optional
                self._writer = False
            else:
                self._writer = SummaryWriter(str(folder))
        if not self._writer:
            return
        self._writer.add_scalar("sparsity/faded", epoch.sparsity, epoch.number + 1)
        self._writer.add_scalar("sparsity/strength", epoch.strength, epoch.number + 1)
        self._writer.add_histogram("gamma", scales.prunable().cpu(), epoch.number + 1)
        for name, gammas in scales.by_norm().items():
            self._writer.add_histogram(f"gamma/{name}", gammas.cpu(), epoch.number + 1)
        self._writer.flush()

    def ends(self, scales: Scales, folder: Path) -> None:
        """Draws `gamma.png` into the folder, the gammas over the epochs and in each layer, and writes `gamma.csv`."""
        from ..checkpoints.checkpoint import whole_file
        from ..plots import NetworkGammas, history_figure

        layers = {name: gammas.cpu().double().numpy() for name, gammas in scales.by_norm().items()}
        figure = history_figure(
            [epoch.number + 1 for epoch in self.epochs],
            np.array([epoch.counts for epoch in self.epochs]),
            NetworkGammas("at the end", layers),
        )
        with whole_file(folder / "gamma.png") as temporary:
            figure.savefig(temporary)
        with whole_file(folder / "gamma.csv") as temporary:
            self._write_table(temporary)
        if self._writer:
            self._writer.close()

    def _write_table(self, file: Path) -> None:
        """Writes the epochs as a table: a column for each bin, the exact zeros first, then by the bin's lower edge."""
        from ..plots import fixed_edges

        bins = ["0", *(f"{edge:.6g}" for edge in fixed_edges()[:-1])]
        with file.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            writer.writerow(["epoch", "sparsity", "strength", *bins])
            writer.writerows([e.number + 1, f"{e.sparsity:.6g}", f"{e.strength:.6g}", *e.counts] for e in self.epochs)

    def state(self) -> list[dict[str, Any]]:
        """Returns what `load` takes."""
        return [asdict(epoch) for epoch in self.epochs]

    def load(self, state: list[dict[str, Any]]) -> None:
        """Goes on from an earlier `state`."""
        self.epochs = [Epoch(**epoch) for epoch in state]
