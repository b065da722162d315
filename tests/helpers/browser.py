"""Headless Chromium: a page as a browser makes it, what it asked the network for, and pictures of it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-extensions")
QUIET += ("--disable-background-networking", "--disable-component-update", "--hide-scrollbars")
DARK = "--blink-settings=preferredColorScheme=0"
SECONDS = 120


class Browser:
    """A browser with a profile of its own.

    Args:
        folder: Where its profile and its log go.
    """

    def __init__(self, folder: Path) -> None:
        found = next((path for name in NAMES if (path := shutil.which(name))), None)
        if found is None:
            pytest.skip("needs Chromium (apt-get install chromium)")
        self._program, self._folder = found, folder

    def visited(self, address: str, file: Path) -> str:
        """Returns a page that takes a while to be there, and writes a picture of it."""
        return self._run(address, "--virtual-time-budget=20000", f"--screenshot={file}", "--dump-dom")

    def _run(self, page: Path | str, *words: str) -> str:
        address = page if isinstance(page, str) else page.as_uri()
        command = [self._program, *QUIET, f"--user-data-dir={self._folder / 'profile'}", *words, address]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout

    def opened(self, page: Path) -> tuple[str, list[str]]:
        """Returns the page as it is once it was opened, and the addresses that it asked the network for."""
        log = self._folder / "net.json"
        shown = self._run(page, f"--log-net-log={log}", "--virtual-time-budget=2000", "--dump-dom")
        asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
        own = (None, "not an origin")  # the browser itself, which looks for what is new
        return shown, sorted({each["url"] for each in asked if "url" in each and each.get("initiator") not in own})

    def picture(self, page: Path, file: Path, width: int, height: int, *, dark: bool = False) -> Path:
        """Writes a picture of a page, `width` x `height` pixels."""
        self._run(page, f"--window-size={width},{height}", f"--screenshot={file}", *([DARK] if dark else []))
        return file
