"""A report in a browser: its table is that of the CSV, nothing is fetched, it fits wide, narrow and dark screens."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.browser import Browser
from helpers.reports import Page, compression
from ultralytics.pruning.reports import writing

PHONE = 390  # pixels
ELSEWHERE = "http://127.0.0.1:9/spy.png"


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Browser:
    """Chromium, where there is one."""
    return Browser(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def report(browser, tmp_path_factory, small_weights, digits) -> Path:
    """The report of a compression."""
    root = tmp_path_factory.mktemp("run")
    writing.write([compression(root / "compress", small_weights, digits)], root / "report.html", data=str(digits))
    return root / "report.html"


def narrow(page: Path, file: Path) -> Path:
    """Writes a page that shows another one as wide as on a phone: no window of Chromium is that narrow."""
    style = f"border:0;width:{PHONE}px;height:1600px"
    said = "<script>addEventListener('message', event => document.title = event.data)</script>"
    file.write_text(f'<title>-</title>{said}<body style="margin:0"><iframe src="{page.as_uri()}" style="{style}">')
    return file


def test_its_table_is_that_of_the_csv_and_nothing_is_fetched(browser, report):
    shown, asked = browser.opened(report)
    assert asked == []
    rows = Page.of(shown).tables["results"]
    assert rows == Page.of(report.read_text()).tables["results"] and len(rows) == 3
    (report.parent / "spied.html").write_text(report.read_text().replace("<main>", f'<main><img src="{ELSEWHERE}">'))
    assert browser.opened(report.parent / "spied.html")[1] == []  # the page's policy forbids it


def test_it_is_no_wider_than_a_phone(browser, report):
    """By a copy without its policy, in which a script may run: that shows, too, that a fetch would have been seen."""
    measure = "parent.postMessage('width ' + document.documentElement.scrollWidth, '*')"
    script = f"<script>fetch('{ELSEWHERE}'); {measure}</script>"
    free = re.sub(r"<meta http-equiv=[^>]+>", "", report.read_text()).replace("</body>", f"{script}</body>")
    (report.parent / "free.html").write_text(free)
    shown, asked = browser.opened(narrow(report.parent / "free.html", report.parent / "frame.html"))
    assert f"<title>width {PHONE}</title>" in shown
    assert asked == [ELSEWHERE]


@pytest.mark.parametrize("screen", ["wide", "phone", "dark"])
def test_it_is_light_or_dark_and_something_is_drawn(screen, browser, report, tmp_path):
    page = narrow(report, tmp_path / "phone.html") if screen == "phone" else report
    file = browser.picture(page, tmp_path / f"{screen}.png", 1280, 1600, dark=screen == "dark")
    pixels = np.asarray(Image.open(file).convert("RGB"))
    assert pixels.shape == (1600, 1280, 3)
    pixels = pixels[:, :PHONE] if screen == "phone" else pixels
    paper = pixels[3, 3].astype(int).mean()
    assert paper < 60 if screen == "dark" else paper > 240
    distances = np.abs(pixels.astype(int) - pixels[3, 3]).sum(2)
    assert 0.02 < np.mean(distances > 60) < 0.6
    assert len({tuple(colour) for colour in pixels[::7, ::7].reshape(-1, 3).tolist()}) > 30
