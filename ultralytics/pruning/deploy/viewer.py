"""An exported network in Netron, as a page on this machine: `export.py --netron`."""

from __future__ import annotations

from pathlib import Path

from .. import packages
from ..errors import PruningError
from ..report import say


def check(settings: dict[str, object]) -> None:
    """Refuses what cannot be shown, before anything is exported.

    Raises:
        PruningError: If the product is no ONNX, or Netron is not installed.
    """
    if str(settings["format"]).lower() != "onnx":
        raise PruningError(f"--netron shows an ONNX; format {settings['format']} is something else")
    packages.need(("netron",), "--netron")


def show(onnx: Path, *, browse: bool = True) -> tuple[str, int]:
    """Serves a network to browsers on this machine alone; returns address and port.

    Args:
        onnx: The network.
        browse: Whether a browser is opened.
    """
    import netron

    host, port = netron.start(str(onnx), ("127.0.0.1", 0), browse=browse)
    say(f"Netron shows it at http://{host}:{port} until Ctrl-C")
    return host, port


def wait() -> None:
    """Serves until Ctrl-C."""
    import netron

    try:
        netron.wait()
    except KeyboardInterrupt:
        pass
    finally:
        netron.stop()
