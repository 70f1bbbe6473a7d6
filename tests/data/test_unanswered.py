"""Rows without an answer, which are kept on disk where they are many."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from bertolt.data import spill
from bertolt.data.load import EVERY, read_table
from bertolt.data.unanswered import Unanswered, UnansweredRows

ROWS = [
    Unanswered("empty text", {"text": None}, None),
    Unanswered("empty text", {"text": "", "text_pair": ["a", None, "坏 😀"]}, '{"id": "\\ud83d"}'),
    Unanswered("ragged row", {"text": "b", "text_pair": {"start": None, "text": ["c"]}}, "{}"),
]


@pytest.mark.parametrize("in_memory", [1 << 24, 1])
def test_rows_come_back_as_they_were_in_their_order(
    in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "IN_MEMORY", in_memory)
    rows = UnansweredRows()
    assert (len(rows), list(rows.items())) == (0, [])
    for number in range(5000):
        rows.add(number, ROWS[number % 3])
    assert len(rows) == 5000
    for _ in range(2):
        assert list(rows.items()) == [(number, ROWS[number % 3]) for number in range(5000)]


def test_rows_without_a_text_take_little_memory(tmp_path: Path) -> None:
    path, count = tmp_path / "empty.csv", 20_000
    path.write_text("text,notes\ngood,a\n" + f" ,{'b' * 300}\n" * count, encoding="utf-8")
    tracemalloc.start()
    try:
        table = read_table(path, text="text", need_label=False, on_bad_row="answer", keep=(EVERY,))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(table.unanswered) == count
    assert held < 200 * count  # as Python values, they would take 900 bytes each
