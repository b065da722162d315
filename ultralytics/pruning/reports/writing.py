"""Writes a report: as HTML or as Markdown, whole or not at all, and never over a file that is no report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..errors import PruningError, typed_line
from ..files.places import shown, write_folder
from ..files.whole import whole_file
from ..report import say
from .contents import collected
from .drawing.markdown import markdown
from .drawing.page import MARK, page

KINDS = {".html": page, ".md": markdown}
NAME = "report.html"
BEGINNING = 600  # characters of a file, in which a report says that it is one


def report_stage(options: argparse.Namespace) -> None:
    """Writes a report on `options.sources` to `options.output`.

    Raises:
        PruningError: If something that the user gave is wrong; nothing is written then.
    """
    output = checked_output(Path(options.output), overwrite=options.overwrite)
    write(options.sources, output, data=options.data)
    say(f"Written: {shown(output.resolve())}")


def checked_output(path: Path, *, overwrite: bool = False) -> Path:
    """Returns where a report goes: a new file, or the place of an earlier report.

    Args:
        path: The file.
        overwrite: Whether any file may be replaced.

    Raises:
        PruningError: If it is of another kind, or there is something that is no report.
    """
    if path.suffix not in KINDS:
        raise PruningError(f"--output {shown(path)}: a report is an .html or an .md, so its name must end with that")
    if path.is_dir():
        raise PruningError(f"--output {shown(path)} is a folder; name a file")
    if path.exists() and not overwrite and not is_report(path):
        raise PruningError(f"--output {shown(path)} exists and is no report; --overwrite replaces it")
    return path


def is_report(path: Path) -> bool:
    """Whether a file is a report that this project wrote."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return MARK in file.read(BEGINNING)
    except OSError:
        return False


def write(sources: Sequence[str | Path], output: Path, *, data: str | None = None) -> None:
    """Writes a report.

    Args:
        sources: Checkpoints and run folders; the first network is what the others are compared with.
        output: The `.html` or `.md`.
        data: The data set whose images are shown; None: that of the training, where it is on this machine.

    Raises:
        PruningError: If a source is none, or the data set that was named is none; nothing is written then.
    """
    kind = KINDS[output.suffix]
    text = kind(collected(sources, data, images=kind is page))
    write_folder(output.parent)
    with whole_file(output) as file:
        file.write_text(text, encoding="utf-8", errors="replace")


def write_beside(folder: Path, *, data: str | None = None) -> None:
    """Writes the report of a finished run into its folder; a line says what kept it from that.

    The run is done by then: nothing that goes wrong with its report may spoil it.
    """
    try:
        output = checked_output(folder / NAME)
        write([folder], output, data=data)
    except Exception as error:  # whatever drawing, a disk or a data set raises
        said = str(error) if isinstance(error, PruningError) else typed_line(error)
        say(f"No report: {said}")
    else:
        say(f"Report: {shown(output)}")
