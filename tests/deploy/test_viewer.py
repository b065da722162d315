"""`export.py --netron`: a browser sees the widths that the cut left."""

import http.server
import re
import threading
import urllib.request

import pytest

from helpers.browser import Browser
from helpers.scripts import refused
from ultralytics import YOLO
from ultralytics.pruning import Scoring, load, prune_network, save
from ultralytics.pruning.deploy import viewer

netron = pytest.importorskip("netron", reason="needs Netron (pip install netron)")

TIMES = "\u00d7"  # between the sides of a shape


@pytest.fixture
def shown(small_weights, tmp_path):
    """A pruned network in Netron: its widths, and where it is."""
    cut = prune_network(load(small_weights)[0], prune_ratio=0.4, scoring=Scoring("l1"))
    save(cut.model, tmp_path / "pruned.pt")
    onnx = YOLO(tmp_path / "pruned.pt").export(format="onnx", imgsz=64, device="cpu")
    host, port = viewer.show(onnx, browse=False)
    yield {tuple(module.weight.shape) for module in cut.model.modules() if hasattr(module, "kernel_size")}, host, port
    netron.stop()


def test_it_is_served_to_this_machine_alone(shown):
    _, host, port = shown
    assert host == "127.0.0.1"
    with urllib.request.urlopen(f"http://{host}:{port}/") as page:
        assert b"Netron" in page.read()


class Consent(http.server.BaseHTTPRequestHandler):
    """Accepts Netron's cookie, as a click would, and leads on; cookies are the host's, whatever the port."""

    leads = ""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Set-Cookie", "consent=1700000000000; Max-Age=86400; Path=/")
        self.send_header("Location", self.leads)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_browser_shows_the_widths_that_are_left(shown, tmp_path, monkeypatch):
    widths, host, port = shown
    browser = Browser(tmp_path)
    monkeypatch.setattr(Consent, "leads", f"http://{host}:{port}/")
    server = http.server.HTTPServer(("127.0.0.1", 0), Consent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    picture = tmp_path / "netron.png"
    page = browser.visited(f"http://127.0.0.1:{server.server_port}/", picture)
    server.shutdown()
    seen = {tuple(map(int, shape.split(TIMES))) for shape in re.findall(rf"[0-9]+(?:{TIMES}[0-9]+){{3}}", page)}
    assert len(widths & seen) > 8 and picture.stat().st_size > 10_000


def test_what_is_no_onnx_is_refused(small_weights, monkeypatch, capfd):
    words = ["--weights", small_weights, "--imgsz", 64, "--netron"]
    assert "--netron shows an ONNX" in refused(monkeypatch, capfd, "export.py", *words, "--format", "torchscript")
