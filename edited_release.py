"""What the scripts import lies in this repository, over the installed release; without either, that is one line."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def required() -> Iterator[None]:
    """Ends the process with one line and exit code 2 if an import inside fails."""
    try:
        yield
    except ImportError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error} (run it in its repository)", file=sys.stderr)
        sys.exit(2)
