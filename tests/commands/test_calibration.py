"""Rows to calibrate on and rows to measure on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertolt.base.errors import DataError
from bertolt.commands.calibration import FEEDS, ROWS, calibrating, measured
from bertolt.data.load import Table, read_table
from tests.commands.conftest import write_rows


def table(folder: Path, texts: list[str]) -> Table:
    rows = [{"text": text, "label": "a"} for text in texts]
    return read_table(write_rows(folder / "rows.jsonl", rows))


def test_no_text_is_on_both_sides(tmp_path: Path) -> None:
    texts = [f"text {number % 40}" for number in range(100)]
    rows = table(tmp_path, texts)
    one, other = calibrating(rows).tolist(), measured(rows).tolist()
    assert sorted(one + other) == list(range(100))
    assert 20 <= len(one) < 30
    assert not {texts[row] for row in one} & {texts[row] for row in other}
    again = table(tmp_path, texts[::-1])
    assert {texts[::-1][row] for row in calibrating(again)} == {texts[row] for row in one}


def test_there_are_no_more_than_there_is_use_for(tmp_path: Path) -> None:
    rows = table(tmp_path, [f"text {number}" for number in range(5000)])
    assert len(calibrating(rows)) == FEEDS * ROWS


def test_one_text_cannot_be_parted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all rows have one text"):
        measured(table(tmp_path, ["the same"] * 9))
