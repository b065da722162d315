"""The Chinese pages say what the English ones say: the same commands, code, tables and figures, in the same order."""

import re

import pytest

from helpers.repository import REPOSITORY

PAIRS = [("README.md", "README.zh-CN.md")]
PAIRS += [(f"docs/{name}.md", f"docs/zh/{name}.md") for name in ("choosing", "sparsity-training", "troubleshooting")]
CJK = re.compile(r"[\u4e00-\u9fff]")


def of(pattern: str, text: str) -> list[str]:
    return [" ".join(found.split()) for found in re.findall(pattern, text, re.DOTALL)]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_commands_code_tables_and_figures_are_the_same(english, chinese):
    first, second = ((REPOSITORY / page).read_text() for page in (english, chinese))
    assert of(r"```.+?```", first) == of(r"```.+?```", second)
    prose = [re.sub(r"```.+?```", "", text, flags=re.DOTALL) for text in (first, second)]
    assert sorted(of(r"`([^`]+)`", prose[0])) == sorted(of(r"`([^`]+)`", prose[1]))
    headings = [len(re.findall(r"^#+ ", text, re.MULTILINE)) for text in prose]
    assert headings[0] == headings[1]
    rows = [[line.count("|") for line in text.splitlines() if line.startswith("|")] for text in prose]
    assert rows[0] == rows[1]
    cells = [[of(r"\d+(?:[,.]\d+)*", line) for line in text.splitlines() if line.startswith("|")] for text in prose]
    assert [sorted(row) for row in cells[0]] == [sorted(row) for row in cells[1]]
    figures = [sorted(of(r"(?<![\w.])\d+\.\d+(?!\w|\.\w)", text)) for text in prose]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("chinese", [pair[1] for pair in PAIRS])
def test_it_is_chinese(chinese):
    text = (REPOSITORY / chinese).read_text()
    assert len(CJK.findall(text)) > 400
