"""The notes run: each page is a program, and its blocks print what the page shows under them.

The `python` blocks of a page share their names and run from top to bottom in an empty folder. A
`text` block is what the block above it prints to standard output, compared exactly; `…` in it
stands for any part of a line, and `text not-checked` shows what differs from machine to machine. A
block without a `text` block prints nothing. The Chinese pages have the same code, comments aside,
and the same output, so one run serves both.
"""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NOTES = Path(__file__).parents[2] / "docs" / "notes"
PAGES = sorted((NOTES / "en").glob("*.md"))
INDEXES = (NOTES / "README.md", NOTES / "README.zh.md")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
Check = Callable[[Path], None]


@dataclass
class Block:
    """A fenced block: its first line, without the fence, its text, and where that starts."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in re.finditer(r"(?ms)^```([^\n]*)\n(.*?)^```$", text)
    ]


def run(page: Path) -> Iterator[tuple[Block, Block | None, str]]:
    """Runs a page: each block of code, the block of its output if there is one, what it printed."""
    names: dict[str, Any] = {"__name__": "notes"}
    for block, following in itertools.pairwise([*blocks(page), None]):
        assert block is not None
        if block.kind == "python":
            # Empty lines before it, so that a traceback names the line of the page.
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(code, names)
            shown = following if following and following.kind.startswith("text") else None
            yield block, shown, printed.getvalue()


def fits(shown: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, printed) is not None


def require_shown(page: Path) -> None:
    for block, shown, printed in run(page):
        where = f"{page.name}, the block at line {block.line}"
        if shown is None:
            assert printed == "", f"{where} prints, and the page does not show it:\n{printed}"
        elif shown.kind == "text":
            assert fits(shown.text, printed), f"{where} prints:\n{printed}"
        else:
            assert shown.kind == "text not-checked", where
            assert len(printed.splitlines()) == len(shown.text.splitlines()), where


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Check]:
    """Holds a page against what it prints, in an empty folder, and leaves nothing changed."""
    import datasets
    import torch

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    with torch.random.fork_rng(devices=[]):
        yield require_shown


@each_page
@pytest.mark.filterwarnings("ignore:.*were longer than")  # as the page on tokenization says
def test_a_page_prints_what_it_shows(page: Path, check: Check) -> None:
    check(page)


@each_page
def test_both_languages_have_the_same_code_and_output(page: Path) -> None:
    def parts(page: Path) -> list[tuple[str, str]]:
        return [
            (block.kind, ast.dump(ast.parse(block.text)) if block.kind == "python" else block.text)
            for block in blocks(page)
        ]

    assert parts(NOTES / "zh" / page.name) == parts(page)


def test_every_page_is_in_both_languages_and_in_the_index() -> None:
    names = [page.name for page in PAGES]
    assert len(names) == 11
    assert sorted(page.name for page in (NOTES / "zh").glob("*.md")) == names
    for index, language in zip(INDEXES, ("en", "zh"), strict=True):
        listed = re.findall(rf"\]\({language}/([\w-]+\.md)\)", index.read_text(encoding="utf-8"))
        assert sorted(listed) == names


def test_links_lead_somewhere() -> None:
    for page in (*INDEXES, *NOTES.glob("*/*.md")):
        links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
        assert links
        assert [link for link in links if not (page.parent / link).exists()] == [], page


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        "```python\nprint(1)\n```\n",
        "```python\nprint(1)\nprint(2)\n```\n\n```text\n1 …\n```\n",
        "```python\nprint(1)\n```\n\n```text whatever\n1\n```\n",
        "```python\nprint(1)\nprint(2)\n```\n\n```text not-checked\n1\n```\n",
    ],
)
def test_a_page_that_shows_something_else_is_found(text: str, check: Check, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError):
        check(page)
