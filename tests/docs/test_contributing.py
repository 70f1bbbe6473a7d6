"""CONTRIBUTING tells how large the project is."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.pages import ROOT


class Size(NamedTuple):
    """Files of Python, their lines, and of those the lines of code and of docstrings."""

    files: int
    lines: int
    code: int
    docstrings: int


def docstrings(tree: ast.AST) -> int:
    """Lines of all texts that stand for themselves."""
    bodies = [body for node in ast.walk(tree) if isinstance(body := getattr(node, "body", 0), list)]
    return sum(
        (statement.end_lineno or 0) - statement.lineno + 1
        for body in bodies
        for statement in body
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def size(folder: str) -> Size:
    texts = [path.read_text(encoding="utf-8") for path in Path(ROOT / folder).rglob("*.py")]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    explained = sum(docstrings(ast.parse(text)) for text in texts)
    code = sum(bool(line) and not line.startswith("#") for line in lines) - explained
    return Size(len(texts), len(lines), code, explained)


def test_the_size_that_it_tells_is_the_size_within_a_tenth() -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    told = re.search(
        r"about ([\d,]+) lines of Python in ([\d,]+) files: ([\d,]+) lines of code, ([\d,]+) of"
        r" docstrings.*?about ([\d,]+) lines in ([\d,]+) files",
        text,
    )
    assert told is not None
    lines, files, code, explained, test_lines, test_files = (
        int(number.replace(",", "")) for number in told.groups()
    )
    library, tests = size("bertolt"), size("tests")
    assert [lines, files, code, explained] == pytest.approx(
        [library.lines, library.files, library.code, library.docstrings], rel=0.1
    )
    assert [test_lines, test_files] == pytest.approx([tests.lines, tests.files], rel=0.1)
