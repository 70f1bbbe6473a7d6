"""The notes run: each page is a program, and its blocks print what the page shows under them.

They need no files and no models but the demo's, and are compared exactly. The Chinese pages have
the same code and output, which `test_pages.py` holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, nothing_changed, perform

PAGES = [page for page in sorted((DOCS / "en/notes").glob("*.md")) if page.stem != "index"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
Check = Callable[[Path], None]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Check]:
    """Holds a page against what it prints, in an empty folder, and leaves nothing changed."""
    with nothing_changed(monkeypatch, tmp_path):
        yield lambda page: perform(page, tmp_path)


@each_page
@pytest.mark.filterwarnings("ignore:.*were longer than")  # as the page on tokenization says
def test_a_page_prints_what_it_shows(page: Path, check: Check) -> None:
    check(page)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_note_is_in_the_index(language: str) -> None:
    index = (DOCS / language / "notes/index.md").read_text(encoding="utf-8")
    listed = re.findall(r"\]\(([\w-]+\.md)\)", index)
    assert len(listed) == 11
    assert sorted(listed) == [page.name for page in PAGES]


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        "```python\nprint(1)\n```\n",
        "```python\nprint(1)\nprint(2)\n```\n\n```text\n1 …\n```\n",
        "```python\nprint(1)\n```\n\n```whatever\n1\n```\n",
        "```python\nprint(1)\nprint(2)\n```\n\n```not-checked\n1\n```\n",
    ],
)
def test_a_page_that_shows_something_else_is_found(text: str, check: Check, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError):
        check(page)
