"""The files of a pruning: the network, its plan and its ONNX, made aside, compared, and moved when all are there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..checkpoints import checkpoint
from ..deploy.agreement import check_written
from ..deploy.exporting import comparison_images, export_by_release
from ..errors import PruningError
from ..files.places import exists, shown
from ..files.whole import naming_the_disk, temporary_folder
from ..pipeline import Pruned
from ..release import quiet_release
from ..report import pixels, say
from ..runs.belongings import is_export
from ..sparsity.settings import without_sparsity

COMPARED = 2  # images of a data set on which the ONNX is compared; export.py takes more


def images_for(data: str | None, train_args: dict[str, Any], task: str) -> list[Path]:
    """Returns images to compare the ONNX on: of `--data`, else of the checkpoint's own training, if they are here."""
    trained_on = train_args.get("data")
    if data is None and not (isinstance(trained_on, (str, Path)) and exists(trained_on)):
        return []
    try:
        return comparison_images(data, data or str(trained_on), COMPARED, task)
    except PruningError as error:
        if data:
            raise
        say(f"Comparing on random images; the data of the training is not here ({error})")
        return []


def write(
    result: Pruned,
    folder: Path,
    *,
    onnx: bool,
    train_args: dict[str, Any],
    repeated: Path | None = None,
    images: Sequence[Path] = (),
) -> list[Path]:
    """Writes `pruned.pt`, `pruned.json` and `pruned.onnx`: made in a temporary folder, moved when all are there.

    Args:
        result: The pruned network and its plan.
        folder: Where to.
        onnx: Whether to export it.
        train_args: What the network was trained with.
        repeated: The plan that was read; if that is `pruned.json` itself, it stays as it is.
        result: The pruned network.
        folder: Where they go.
        onnx: Whether an ONNX is wanted.
        train_args: The arguments of the training that the network comes from.
        images: Images to compare the ONNX on, beside random ones.

    Returns:
        The files written.

    Raises:
        PruningError: If the ONNX finds or computes something other than the checkpoint; nothing is written then.
    """
    own_plan = folder / "pruned.json"
    with naming_the_disk(folder), temporary_folder(folder, "pruning") as temporary:
        checkpoint.save(result.model, temporary / "pruned.pt", train_args=without_sparsity(train_args))
        if not (repeated and own_plan.exists() and own_plan.samefile(repeated)):
            (temporary / "pruned.json").write_text(result.plan.to_json(), encoding="utf-8")
        if onnx:
            say(f"Exporting to ONNX at {pixels(result.plan.settings['imgsz'])} pixels ...")
            with quiet_release():
                settings = {"format": "onnx", "imgsz": result.plan.settings["imgsz"], "device": "cpu"}
                product = export_by_release(temporary / "pruned.pt", settings)
                check_written(product, temporary / "pruned.pt", images, settings)
        made = sorted(temporary.iterdir(), key=lambda file: file.suffix == ".pt")  # the .pt, which is read on, last
        if not onnx:
            _drop_onnx(folder / "pruned.onnx")
        for file in made:
            os.replace(file, folder / file.name)
        return [folder / file.name for file in made]


def _drop_onnx(file: Path) -> None:
    """Removes the ONNX of the network that is being replaced; one that no export made stays."""
    if not file.is_file():
        return
    if is_export(file):
        file.unlink()
        say(f"Removed {shown(file.resolve())}: it was another network's (--no-onnx)")
    else:
        say(f"{shown(file.resolve())} stays: it was not exported by Ultralytics, and is not of this network")
