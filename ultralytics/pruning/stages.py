"""What the stage scripts share: options, run folders, devices, and errors in one line."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import interruption, trust
from .errors import PruningError
from .files import DiskFullError, naming_the_disk

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "runs"
NORMAL, SPARSITY, FINETUNE = "train-norm", "train-sparsity", "finetune"  # run folders, which later stages read
NOT_YOURS = {
    "model": "--weights",
    "project": "--name",
    "name": "--name",
    "save_dir": "--name",
    "exist_ok": "--overwrite",
    "resume": "--resume",
    "device": "--device",
    "task": "--weights",
    "mode": "another script",
}


class HelpFormat(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the example as it is written, and defaults where they say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "", True, False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Options of a stage: known ones as `--name value`, everything of Ultralytics as `key=value`.

    Args:
        what: What the stage does, for `--help`.
        example: A command line that runs as it is.
    """

    def __init__(self, what: str, example: str) -> None:
        super().__init__(
            description=what,
            allow_abbrev=False,
            epilog=f"example:\n  {example}",
            formatter_class=HelpFormat,
        )
        self.add_argument(
            "settings", nargs="*", metavar="key=value", help="settings of Ultralytics, passed on as they are"
        )
        self.set_defaults(command=f"python {self.prog}")  # `run` says what was typed
        self.add_argument("--device", default="", help="cpu, 0, or 0,1 for several GPUs; the first GPU if there is one")
        trust.add_option(self)

    def error(self, message: str):
        """Ends with one line on standard error and exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def run(parser: Parser, stage: Callable[[argparse.Namespace], None], words: Sequence[str] | None = None) -> None:
    """Parses the command line and runs a stage; a user's mistake becomes one line and exit code 2.

    Args:
        parser: The stage's options.
        stage: What to do with them; `options.settings` is a dict, `options.device` is decided.
        words: The command line; the process's own by default.
    """
    options = argparse.Namespace()
    try:
        with interruption.orderly(), naming_the_disk(Path.cwd()):
            options = parser.parse_intermixed_args(words)
            options.command = interruption.again(parser.prog, sys.argv[1:] if words is None else words)
            options.saved = lambda: f"nothing is left half-written; again with: {options.command}"
            options.settings = parse_settings(options.settings)
            options.device = choose_device(options.device)
            with trust.given(options.trust):
                stage(options)
    except DiskFullError as error:
        parser.exit(2, f"{parser.prog}: error: {one_line(error)}; make room there ({options.saved()})\n")
    except PruningError as error:
        parser.exit(2, f"{parser.prog}: error: {one_line(error)}\n")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        parser.exit(2, f"{parser.prog}: error: {where}{error.strerror or error}\n")
    except KeyboardInterrupt as error:
        saved = options.saved() if hasattr(options, "saved") else "nothing was begun"
        echo = "" if isinstance(error, interruption.Terminated) else "\n"  # the terminal has written ^C
        parser.exit(interruption.exit_code(error), f"{echo}{parser.prog}: stopped: {saved}\n")


def one_line(error: BaseException) -> str:
    """Returns what an error says in one line, without the colours of the release."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Reads `key=value` words as the release's command line does, and checks them by its rules.

    Raises:
        PruningError: If a word has no `=`, a key is unknown or belongs to an option, or a value is refused.
    """
    from ultralytics.cfg import parse_key_value_pair
    from ultralytics.utils import DEFAULT_CFG_DICT

    settings: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise PruningError(f"'{word}' is no key=value setting of Ultralytics")
        if key in NOT_YOURS:
            raise PruningError(f"'{word}': use {NOT_YOURS[key]} instead, so that the next stage finds the run")
        if key not in DEFAULT_CFG_DICT:
            close = difflib.get_close_matches(key, DEFAULT_CFG_DICT, 1)
            raise PruningError(f"unknown setting '{key}'" + (f"; did you mean '{close[0]}'?" if close else ""))
        settings[key] = parse_key_value_pair(word)[1]
    check_settings(settings)
    return settings


def check_settings(settings: dict[str, Any]) -> None:
    """Checks settings by the release's own rules for their types and ranges.

    Raises:
        PruningError: If one is refused.
    """
    from ultralytics.cfg import get_cfg

    try:
        get_cfg(overrides=dict(settings))
    except (TypeError, ValueError) as error:
        raise PruningError(str(error)) from error


def positive(text: str) -> int:
    """Reads a whole number of at least 1, for an option."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def choose_device(wanted: str) -> str:
    """Returns the device to use: the wanted one, else the first GPU, else the CPU, on which all cores then work."""
    import torch

    from ultralytics.utils import LOGGER, torch_utils

    wanted = wanted.removeprefix("cuda:").replace("cuda", "0")
    if wanted and wanted != "cpu":
        indices = wanted.split(",")
        if wanted not in {"mps"} and not all(i.isdigit() and int(i) < torch.cuda.device_count() for i in indices):
            raise PruningError(
                f"--device {wanted}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu, or "
                f"numbers such as 0 or 0,1"
            )
        return wanted
    if not wanted and torch.cuda.is_available():
        return "0"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # Fading channels end in denormal numbers, on which a CPU is several times slower; before any thread is started.
    torch.set_flush_denormal(True)
    torch_utils.NUM_THREADS = cores  # the release's select_device gives PyTorch one core less, whatever was set before
    torch.set_num_threads(cores)
    if not wanted:
        LOGGER.info(f"No CUDA device found: running on the CPU with {cores} threads (--device decides otherwise)")
    return "cpu"


def located(name: str | Path) -> Path:
    """Returns a file's path as given, or, where it is not there and relative, in the repository."""
    path = Path(name)
    return path if path.is_file() or path.is_absolute() else ROOT / path


def shown(path: Path) -> str:
    """Returns a path for a person: relative to the repository where it lies in it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def run_folder(name: str) -> Path:
    """Returns the folder of a run under `runs/`.

    Raises:
        PruningError: If the name would lead elsewhere.
    """
    if not name or name in {".", ".."} or Path(name).name != name:
        raise PruningError(f"--name {name}: the name of a folder under runs/, without slashes")
    return RUNS / name


def write_folder(folder: Path) -> Path:
    """Makes a folder and checks that files can be written into it.

    Raises:
        PruningError: If not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise PruningError(f"cannot write into '{folder}' ({error.strerror})") from error
    return folder


@contextlib.contextmanager
def quiet_release() -> Iterator[None]:
    """Leaves only the release's warnings on the screen."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(level)


def say(text: str = "") -> None:
    """Prints for a person, at once."""
    print(text, flush=True)
