"""The data set that a network was trained on, for whoever names none: only what is on this machine.

A checkpoint may come from anywhere, and so may what it says. Nothing is downloaded because of it, and no folder of
images is labelled: for both, the user names the data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import PruningError
from ..files.places import YAML, exists
from ..inputs.documents import brief
from ..release import quiet_release
from .sets import DEFAULT, is_known, resolve_data


def data_before(train_args: Mapping[str, Any], task: str) -> str:
    """Returns the data set that a network was trained on; the release's default if the checkpoint does not say.

    Args:
        train_args: What the network was trained with.
        task: What the network does, as the release names it.

    Raises:
        PruningError: If it, or the images of it, are not on this machine, or it is no data set.
    """
    from ultralytics.utils import ROOT

    data = train_args.get("data")
    said = str(data).strip() if isinstance(data, (str, Path)) else ""
    name = Path(said).name  # where it lay elsewhere, and is one of the release
    found = said or DEFAULT
    if not is_known(found):
        found = name if name and exists(ROOT / "cfg" / "datasets" / name) else ""

    what = f"the data of the training, {brief(said)}," if said else ""
    if not found:
        why = f"{what} is not on this machine"
    elif not _of_task(found, task):
        why = f"{what} is no data set for {task}"
    elif not _has_images(found, task):
        why = f"{what} has no images on this machine; --data {found} lets its yaml say where they come from"
    else:
        return found
    raise PruningError(f"--data is needed: {why if said else 'the checkpoint does not say what it was trained on'}")


def _of_task(data: str, task: str) -> bool:
    """Whether a data set is of the form that the release wants for a task: classes in folders, or a yaml."""
    from ultralytics.utils import DATASETS_DIR

    if data == "digits":
        return task == "detect"
    if task == "classify":
        return Path(data).is_dir() or (DATASETS_DIR / data).is_dir()
    return Path(data).suffix.lower() in YAML and not Path(data).is_dir()


def _has_images(data: str, task: str) -> bool:
    """Whether the images of a data set's val split are there; what else is wrong with it is found out later."""
    from ultralytics.data.utils import check_det_dataset

    if data == "digits" or task == "classify":  # made on first use; the images are its folders
        return True
    file = resolve_data(data, check_images=False, task=task)
    try:
        with quiet_release():
            check_det_dataset(file, autodownload=False)
    except FileNotFoundError:
        return False
    except Exception:  # whatever else its checks raise, the stage's own will say
        return True
    return True
