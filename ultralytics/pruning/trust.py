"""Whether files may run code.

A `.pt` can run any code when it is unpickled, a data yaml may hold a script that downloads its images, a model yaml an
expression for its activation. None of it runs unless the user says so: by `--trust`, on every script, or by the
environment variable `YOLO_PRUNING_TRUST`, which processes that a stage starts inherit:

- `1` trusts everything that is loaded;
- `own.SqueezeExcite,other` trusts, in checkpoints, that class and the modules (`nn.Module`) of the file `other.py`.

`ULTRALYTICS_SAFE_LOAD=0`, the release's variable, keeps its meaning: checkpoints load without restrictions.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator

VARIABLE = "YOLO_PRUNING_TRUST"
YES = {"1", "true", "yes", "on", "y", "t"}  # as the release reads its variables
NO = {"", "0", "false", "no", "off", "n", "f"}
HOW = f"if you trust where it comes from, use --trust, or {VARIABLE}=1 in the environment"


def _said() -> str:
    """Returns what the environment says about trust."""
    return os.environ.get(VARIABLE, "").strip()


def trusted() -> bool:
    """Whether the user trusts everything that is loaded."""
    return _said().lower() in YES


def trusted_names() -> list[str]:
    """Returns the classes and files that the user trusts by name, such as `own.SqueezeExcite` or `own`."""
    said = _said()
    return [] if said.lower() in YES | NO else [name for word in said.split(",") if (name := word.strip())]


def restricted() -> bool:
    """Whether checkpoints are loaded without running code in them."""
    asked = os.environ.get("ULTRALYTICS_SAFE_LOAD", "").strip().lower() or "1"  # an empty value says nothing
    return asked in YES and not trusted()


@contextlib.contextmanager
def trusting(trust: bool) -> Iterator[None]:
    """Trusts everything that is loaded inside the block, in this process and those that it starts.

    Args:
        trust: Whether to do so; otherwise nothing changes.
    """
    if not trust:
        yield
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds `--trust` to a script."""
    parser.add_argument(
        "--trust", action="store_true", help="let the files that are loaded run the code they hold, if you know them"
    )
