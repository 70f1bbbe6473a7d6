"""Quotes in files of tabs: benchmarks write them as they stand, spreadsheets put cells in them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertolt.base.errors import DataError
from bertolt.data.describe import describe_table
from bertolt.data.load import Table, read_table

HEADER = "label\ttext\n"


def read(folder: Path, content: str, name: str = "a.tsv") -> Table:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return read_table(path)


@pytest.mark.parametrize(
    "rows",
    [
        ['"first', "second", 'third"'],
        ["fine", '"first', 'third"', '"so" it was'],
        ['"Good" film, really', "poor"],
        ['""Hello"" she said', "poor"],
        ["poor", '"never closed'],
        ['"', "poor"],
        ['"whole"', '"half'],
    ],
)
def test_quotes_of_a_benchmark_are_part_of_its_texts(
    tmp_path: Path, rows: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    table = read(tmp_path, HEADER + "".join(f"{'ab'[i % 2]}\t{t}\n" for i, t in enumerate(rows)))
    assert table.texts == rows
    assert (table.rows_read, table.dropped) == (len(rows), {})
    describe_table(table)
    line = 2 + next(i for i, text in enumerate(rows) if text[0] == '"' and text != '"whole"')
    words = f"  quotes: part of the text, for the cell that line {line} begins with one"
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "texts", "words"),
    [
        ('a\t"a\ttab"\nb\tfine\n', ["a\ttab", "fine"], "around cells, and taken off"),
        ('a\t"say ""hi"""\nb\tfine\n', ['say "hi"', "fine"], "around cells, and taken off"),
        ('a\t"poor, really"\nb\tfine\n', ["poor, really", "fine"], "around cells, and taken off"),
        (
            'a\t"one\ntwo"\nb\t"a\nb\nc"\nb\tfine\n',
            ["one\ntwo", "a\nb\nc", "fine"],
            "around cells, of which 2 rows run over several lines (first: line 2)",
        ),
        (
            'a\tfine\nb\t"one\r\ntwo"\r\n',
            ["fine", "one\r\ntwo"],
            "around cells, of which 1 row runs over several lines (first: line 3)",
        ),
    ],
)
def test_quotes_of_a_spreadsheet_are_taken_off_and_told(
    tmp_path: Path, content: str, texts: list[str], words: str
) -> None:
    table = read(tmp_path, HEADER + content)
    assert table.texts == texts
    assert table.found["quotes"] == words


def test_a_header_in_quotes_decides(tmp_path: Path) -> None:
    table = read(tmp_path, '"label"\t"text"\n"a"\t"one"\n"b"\t"two\nb\tthree"\n')
    assert table.texts == ["one", "two\nb\tthree"]
    assert "line 3" in table.found["quotes"]


def test_a_file_without_a_quote_at_the_beginning_of_a_cell_says_nothing(tmp_path: Path) -> None:
    table = read(tmp_path, HEADER + 'a\tthe 5" disk\nb\tso "fine"\n')
    assert table.texts == ['the 5" disk', 'so "fine"']
    assert "quotes" not in table.found


def test_the_cells_of_a_csv_are_quoted_whatever_parts_them(tmp_path: Path) -> None:
    table = read(tmp_path, HEADER + 'a\t"one"\nb\t"two"\n', "a.csv")
    assert table.texts == ["one", "two"]
    assert "quotes" not in table.found
    with pytest.raises(DataError, match="never closed"):
        read(tmp_path, HEADER + 'a\t"one\nb\ttwo\n', "b.csv")
    assert read(tmp_path, 'text,label\n"a, b",x\n"c",y\n', "c.tsv").texts == ["a, b", "c"]


def test_ragged_rows_of_a_benchmark_are_counted_as_before(tmp_path: Path) -> None:
    table = read(tmp_path, HEADER + 'a\t"one\nshort\nb\ttwo"\n')
    assert table.rows_read == 1  # one quoted cell, as its width says, over three lines
    assert "first: line 2" in table.found["quotes"]
    table = read(tmp_path, HEADER + 'a\t"one\nb\ttwo\nshort\n')
    assert (table.texts, table.dropped) == (['"one', "two"], {"ragged row": [3]})


CELLS = st.text(st.sampled_from('ab" \t\n'), max_size=6)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6))
def test_what_quotes_every_cell_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, "unix", delimiter="\t").writerows([("text", "label"), *rows, ("x", "y")])
    table = read(tmp_path_factory.getbasetemp(), written.getvalue())
    usable = [text for text, label in rows if text.strip() and label.strip()]
    assert table.texts == [*usable, "x"]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(rows=st.lists(st.text(st.sampled_from('ab" '), min_size=1, max_size=6), min_size=1))
def test_a_file_of_plain_lines_never_loses_a_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str]
) -> None:
    content = HEADER + "".join(f"{'ab'[i % 2]}\t{text}\n" for i, text in enumerate([*rows, "x"]))
    table = read(tmp_path_factory.getbasetemp(), content)
    assert table.rows_read == len(rows) + 1
    assert table.dropped.keys() <= {"empty text"}
