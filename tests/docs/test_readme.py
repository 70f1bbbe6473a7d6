"""The table of tasks in the README: each row is read as the task that stands beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bertolt.tasks.registry import SHIPPED
from bertolt.tasks.rows import Columns, read_for_task
from tests.docs.pages import ROOT

_ROW = re.compile(r"\| `(\{.*?\})` \| \[([\w-]+)\]\(docs/\w\w/guides/[\w-]+\.md\) \|")
PAGES = [ROOT / name for name in ("README.md", "README.zh.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rows_of_the_readme_are_of_the_task_beside_them(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = _ROW.findall(text)
    named = {task for _, task in found} | set(re.findall(r"\[(fill-mask)\]\(docs", text))
    assert named == {task.name for task in SHIPPED}
    for shown, task in found:
        row, path = json.loads(shown), tmp_path / "rows.jsonl"
        label = row.get("label")
        for number in range(40):  # a number has many values, and labels have few
            if isinstance(label, float):
                row["label"] = label + number / 8
            with path.open("a" if number else "w", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        _, read = read_for_task([path], Columns())
        assert read.name == task
