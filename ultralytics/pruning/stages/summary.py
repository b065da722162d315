"""The table at the end of a training: size, accuracy and gammas of its checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..accuracy import accuracy, titles_of, what_counts
from ..checkpoints import checkpoint
from ..cost import cost_of
from ..files.places import shown
from ..gammas import prunable_values
from ..plans.tables import deployed_note
from ..report import pixels, table
from ..tracing.trace import trace
from .sparsity import Trained


def training_summary(folder: Path) -> tuple[str, Trained]:
    """Returns the table at the end of a training stage, both checkpoints' size, accuracy and gammas, and `last.pt`."""
    weights = folder / "weights"
    best = [weights / "best.pt"] if (weights / "best.pt").is_file() else []
    rows, notes = [], set()
    for path in (*best, weights / "last.pt"):
        model, content = checkpoint.load(path)
        trained = Trained(model, content, trace(model, imgsz=checkpoint.image_size(content)))
        rows.append((shown(path), *_measured(trained)))
        notes.add(deployed_note(cost_of(trained.channel_map)))

    size = f"GFLOPs at {pixels(checkpoint.image_size(trained.content))} px"
    what = titles_of(trained.model.task)[what_counts(trained.model.task)]
    titles = ("checkpoint", "parameters", size, what, "|gamma| < 1e-2", "|gamma| < 1e-3")
    return "\n" + table(titles, rows) + "".join(sorted(notes)), trained


def _measured(trained: Trained) -> tuple[str, ...]:
    """Returns size, cost, accuracy, and shares of small gammas of a checkpoint, in words."""
    cost = cost_of(trained.channel_map)
    score = accuracy(trained.content.get("train_metrics") or {}, trained.model.task)
    gammas = prunable_values(trained.channel_map, trained.model)
    return (
        f"{cost.deployed:,}",
        f"{cost.gflops:.2f}",
        "-" if score is None else f"{score:.4f}",
        f"{np.mean(gammas < 1e-2):.1%}",
        f"{np.mean(gammas < 1e-3):.1%}",
    )
