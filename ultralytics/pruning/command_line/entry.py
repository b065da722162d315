"""What the stage scripts share: how options are parsed, and errors in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import packages, trust
from ..errors import PruningError
from ..files import places
from ..files.whole import DiskFullError, naming_the_disk
from ..runs import following, interruption
from . import kinds, settling
from .devices import choose_device
from .settings import check_settings as check_settings
from .settings import training_keys


class HelpFormat(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the example as it is written, and defaults where they say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "", True, False) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Options of a stage: known ones as `--name value`, everything of Ultralytics as `key=value`.

    Args:
        what: What the stage does, for `--help`.
        example: A command line that runs as it is.
        keys: The settings of Ultralytics that the stage reads; those of a training if None.
        device: Where it runs without `--device`: on the first GPU if there is one if empty; None: always on the CPU.
    """

    def __init__(self, what: str, example: str, *, keys: frozenset[str] | None = None, device: str | None = "") -> None:
        super().__init__(
            description=what,
            allow_abbrev=False,
            epilog=f"example:\n  {example}",
            formatter_class=HelpFormat,
        )
        self.keys = training_keys() if keys is None else keys
        self._add_settings()
        self._add_device(device)
        self.set_defaults(command=f"python {self.prog}")  # `run` says what was typed
        trust.add_option(self)

    def _add_settings(self) -> None:
        """Adds the settings of Ultralytics, as far as the stage reads any."""
        if self.keys:
            self.add_argument(
                "settings", nargs="*", metavar="key=value", help="settings of Ultralytics, passed on as they are"
            )
        else:
            self.set_defaults(settings=[])

    def _add_device(self, device: str | None) -> None:
        """Adds `--device`, with its default; None: the stage always runs on the CPU."""
        if device is None:
            self.set_defaults(device="cpu")
            return
        where = "cpu, 0, or 0,1 for several GPUs" + ("" if device else "; the first GPU if there is one")
        self.add_argument("--device", type=kinds.as_device, default=device, help=where)

    def parse_intermixed_args(self, args=None, namespace=None):
        """Parses; an empty word, as an empty shell variable leaves, is refused."""
        words = sys.argv[1:] if args is None else list(args)
        if (empty := settling.first_empty(words)) is not None:
            self.error(f"{empty} is empty: give it a value, or leave it out")
        options, unknown = self.parse_known_intermixed_args(words, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{settling.meant(unknown, self._actions)}")
        options.words = words
        return options

    def error(self, message: str):
        """Ends with one line on standard error and exit code 2."""
        self.exit(2, f"{self.prog}: error: {settling.in_one_line(message)} (see {self.prog} --help)\n")


def run(parser: Parser, stage: Callable[[argparse.Namespace], None], words: Sequence[str] | None = None) -> None:
    """Parses the command line and runs a stage; a user's mistake becomes one line and exit code 2.

    Args:
        parser: The stage's options.
        stage: What to do with them; `options.settings` is a dict, `options.device` is decided.
        words: The command line; the process's own by default.
    """
    settling.let_output_pass()
    options = argparse.Namespace()

    def end(code: int, said: str, before: str = "") -> None:
        parser.exit(code, f"{before}{parser.prog}: {settling.in_one_line(said)}\n")

    try:
        with interruption.orderly(), naming_the_disk(Path.cwd()):
            options = parser.parse_intermixed_args(words)
            options.command = interruption.again(following.seen(places.ROOT / parser.prog), options.words)
            options.saved = lambda: f"nothing is left half-written; again with: {options.command}"
            settling.settle(options, parser._actions, options.words, parser.keys)
            options.device = choose_device(options.device)
            with trust.trusting(options.trust):
                stage(options)
    except (PruningError, OSError, ModuleNotFoundError) as error:
        said = _said(error, options)
        if said is None:
            raise
        end(2, f"error: {said}")
    except KeyboardInterrupt as error:
        echo = "" if isinstance(error, interruption.Terminated) else "\n"  # the terminal has written ^C
        end(interruption.exit_code(error), f"stopped: {_saved(options)}", echo)


def _said(error: Exception, options: argparse.Namespace) -> str | None:
    """Returns what went wrong, in words; None if it is a fault of the code."""
    if isinstance(error, DiskFullError):
        return f"{error}; make room there ({_saved(options)})"
    if isinstance(error, ModuleNotFoundError):
        return packages.missing_by(error)
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return f"{where}{getattr(error, 'strerror', None) or error}"


def _saved(options: argparse.Namespace) -> str:
    """Returns what a stage that ended early has saved, and how to go on, in words."""
    return options.saved() if hasattr(options, "saved") else "nothing was started"
