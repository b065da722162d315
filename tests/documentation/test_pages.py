"""All pages: links lead somewhere, options exist, the Python blocks run, and the site builds and opens."""

import re
import shlex
import subprocess
import sys
import unicodedata

import pytest

import ultralytics.pruning
from helpers.browser import Browser
from helpers.repository import REPOSITORY

PAGES = sorted({*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob(".github/**/*.md")})
CODE = re.compile(r"```.+?```", re.DOTALL)
LINK = re.compile(r"\]\(((?!https?://|mailto:)[^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z0-9_-]+)")
FOREIGN = {"--nnodes", "--nproc_per_node", "--rdzv_backend", "--rdzv_endpoint", "--quiet"}  # of torchrun, pip
FOREIGN |= {"--include", "--halvings"}  # of grep, and of an example of a new target
FOREIGN |= {"--numprocesses", "--dist", "--no-loadscope-reorder", "--logdir", "--no-deps"}  # of pytest, tensorboard


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MkDocs make them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", CODE.sub("", text), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFKC", heading).lower())
        found.add(words.strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_link_leads_somewhere(page):
    lost = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.is_file() or (anchor and anchor not in anchors(file.read_text())):
            lost.append(link)
    assert lost == []


def test_a_lost_link_is_found():
    assert LINK.findall("[a](b.md#c) [d](https://e.f)") == ["b.md#c"]
    assert anchors("# A page\n## What goes, and `--why`\n") == {"a-page", "what-goes-and---why"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_option_exists(page):
    sources = [*REPOSITORY.glob("*.py"), *REPOSITORY.glob("benchmarks/*.py"), *REPOSITORY.glob("ultralytics/**/*.py")]
    known = set(re.findall(r'"(--[a-z][a-z0-9_-]+)"', "".join(file.read_text() for file in sources)))
    known |= {option.replace("--", "--no-", 1) for option in known} | {"--help"} | FOREIGN
    assert set(OPTION.findall(page.read_text())) - known == set()


def test_every_public_name_has_an_example_and_all_run(tmp_path, monkeypatch):
    page = (REPOSITORY / "docs" / "python.md").read_text()
    assert [name for name in ultralytics.pruning.__all__ if not re.search(rf"\b{name}\b", page)] == []
    blocks = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    from ultralytics.pruning.tracing.rules import RULES

    monkeypatch.setattr("ultralytics.pruning.tracing.rules.RULES", dict(RULES))
    space: dict = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), space)
    assert space["again"].plan.layers == space["plan"].layers
    assert (tmp_path / "pruned.pt").is_file()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, as `make docs` builds it: a warning is an error there, which `--quiet` would hide."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page(site):
    pages = {page.relative_to(REPOSITORY / "docs").with_suffix(".html") for page in REPOSITORY.glob("docs/**/*.md")}
    assert [page for page in pages if not (site / page).is_file()] == []
    assert not list(site.rglob("*.py"))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("index.html", "compress my"),
        ("troubleshooting.html", "After pruning mAP is 0"),
        ("zh/choosing.html", "剪枝"),
    ],
)
def test_a_page_opens_in_a_browser(site, tmp_path, page, words):
    shown, asked = Browser(tmp_path).opened(site / page)
    assert words in shown and "md-sidebar" in shown
    assert all(address.startswith(("file:", "data:", "blob:")) for address in asked)


@pytest.mark.parametrize("target", ["demo", "quick"])
def test_what_make_runs_leaves_the_runs_of_the_users_alone(target):
    """Its runs are overwritten each time, so none has the name that a stage takes by itself."""
    said = subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    commands = [shlex.split(line)[1:] for line in said.splitlines() if re.search(r"python \w[\w-]*\.py ", line)]
    assert {"train-normal.py", "prune.py", "finetune.py", "val.py"} <= {words[0] for words in commands}
    named = {"prune.py": "--save-dir", "vis-bn-weight.py": "--save", "report.py": "-o", "export.py": "--weights"}
    for words in commands:
        option = named.get(words[0], "--name")
        place = words[words.index(option) + 1] if option in words else ""
        assert re.match(rf"(runs/)?{target}\b", place), words
