"""A row has one number in every kind of file: its place among the records, from 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertolt.base.errors import DataError
from bertolt.data.cells import words_cell
from bertolt.data.describe import describe_table
from bertolt.data.formats import KINDS, TAGGED
from bertolt.data.load import Table, read_table
from bertolt.data.table_file import Layout

# Five records, of which the third has no text; empty lines, comments and a cell of two lines are
# where a kind can have them.
TEXTS = ["one", "two\nlines", "", "four", "five"]
RECORDS = [{"text": text, "label": f"l{number}"} for number, text in enumerate(TEXTS, start=1)]


def delimited(path: Path, cell: str) -> None:
    rows = [f'"{record["text"]}"{cell}{record["label"]}\n' for record in RECORDS]
    path.write_text("\n" + f"text{cell}label\n\n" + rows[0] + " \n\n" + "".join(rows[1:]))


def json_lines(path: Path) -> None:
    path.write_text("\n" + "\n \n".join(json.dumps(record) for record in RECORDS))


def json_array(path: Path) -> None:
    path.write_text(json.dumps(RECORDS, indent=1).replace("{", "\n\n{"))


def parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(RECORDS), path)


def conll(path: Path) -> None:
    sentences = "-DOCSTART- O\n\n\none l1\n\n# text = two\ntwo l2\nlines l2\n\n\n"
    path.write_text(sentences + "\u200b l3\n\nfour l4\n\nfive l5\n\n")


def excel(path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["text", "label"])
    for record in RECORDS:
        book.active.append([record["text"] or None, record["label"]])
    book.save(path)


KIND_LINES: dict[str, tuple[Callable[[Path], None], list[int]]] = {
    ".csv": (lambda path: delimited(path, ","), [4, 7, 9, 10, 11]),
    ".tsv": (lambda path: delimited(path, "\t"), [4, 7, 9, 10, 11]),
    ".json": (json_array, []),
    ".jsonl": (json_lines, [2, 4, 6, 8, 10]),
    ".ndjson": (json_lines, [2, 4, 6, 8, 10]),
    ".parquet": (parquet, []),
    ".conll": (conll, [4, 7, 11, 13, 15]),
    ".xlsx": (excel, [2, 3, 4, 5, 6]),
}


def read(folder: Path, ending: str) -> Table:
    path = folder / f"a{ending}"
    KIND_LINES[ending][0](path)
    words = ending in TAGGED
    return read_table(
        path,
        text="1" if words else "text",
        cells=(lambda sample: {"text": words_cell(["1"])}) if words else None,
        need_label=False,
    )


def test_every_kind_is_here() -> None:
    assert set(KINDS) | {".conll"} <= set(KIND_LINES)


@pytest.mark.parametrize("ending", [each for each in KIND_LINES if each in KINDS | TAGGED])
def test_a_row_is_the_place_of_its_record(
    tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read(tmp_path, ending)
    assert table.rows_read == 5
    assert table.data["row"].to_pylist() == [1, 2, 4, 5]
    assert table.dropped == {"empty text": [3]}
    lines = KIND_LINES[ending][1]
    assert list(table.lines) == lines
    words = f"row 3 (line {lines[2]})" if lines else "row 3"
    assert table.place(3) == f"{table.path}, {words}"
    describe_table(table)
    words = f"row 3; line {lines[2]}" if lines else "row 3"
    assert f"dropped 1 row: empty text ({words})" in capsys.readouterr().err


def test_dropped_rows_are_told_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n,1\ngood,1\n\n,1\n")
    describe_table(read_table(path))
    assert "dropped 2 rows: empty text (rows 1, 3; lines 2, 5)" in capsys.readouterr().err
    path.with_suffix(".json").write_text('[{"text": ""}, {"text": "a"}, {"text": null}]')
    describe_table(read_table(path.with_suffix(".json"), need_label=False))
    assert "dropped 2 rows: empty text (rows 1, 3)\n" in capsys.readouterr().err


def one_column(path: Path) -> None:
    """Five texts in a column of their own, of which some are empty; empty lines end the file."""
    texts = ["text", "", "one", "", "", "two", "", ""]
    if path.suffix == ".xlsx":
        from openpyxl import Workbook

        book = Workbook()
        for row, text in enumerate(texts, start=1):
            book.active.cell(row, 1).value = text or None
        book.save(path)
    else:
        path.write_text("\n".join(texts) + "\n")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".xlsx"])
@pytest.mark.parametrize("header", [True, False])
def test_an_empty_line_of_one_column_is_an_empty_cell(
    tmp_path: Path, ending: str, header: bool
) -> None:
    path = tmp_path / f"a{ending}"
    one_column(path)
    table = read_table(path, need_label=False, layout=Layout(header=header))
    assert table.texts == ["one", "two"] if header else ["text", "one", "two"]
    assert table.data["row"].to_pylist() == ([2, 5] if header else [1, 3, 6])
    assert table.dropped == {"empty text": [1, 3, 4] if header else [2, 4, 5]}
    assert table.place(3).endswith("row 3 (line 4)" if header else "row 3")


# Above each table a title of its own length, and whether its first line has one cell.
TITLES = {
    "commas.csv": ("My report,,\ntext,label,n\n", 1),
    "alone.csv": ("Films of 2024\n\nby us\ntext,label,n\n", 3),
    "semicolons.csv": ("Films, all of them\ntext;label;n\n", 1),
    "tabs.tsv": ("Films of 2024\ntext\tlabel\tn\n", 1),
}


@pytest.mark.parametrize("name", [*TITLES, "book.xlsx"])
def test_a_title_above_the_column_names_is_told_and_can_be_skipped(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name == "book.xlsx":
        from openpyxl import Workbook

        book, above = Workbook(), 2
        for row in [["Films"], [], ["text", "label", "n"], ["good", "a", 1], ["bad", "b", 2]]:
            book.active.append(row)
        book.save(path)
    else:
        title, above = TITLES[name]
        between = next(each for each in ";\t," if each in title.splitlines()[-1])
        rows = ["good,a,1", "bad,b,2"]
        path.write_text(title + "\n".join(rows).replace(",", between))
    fix = f"if a title stands above the column names, add --skip-rows {above}; else"
    for options in ({}, {"label": "label"}, {"text": path.stem, "need_label": False}):
        with pytest.raises(DataError) as refused:
            read_table(path, on_bad_row="error", **options)
        assert fix in refused.value.fix
    table = read_table(path, layout=Layout(skip=above))
    assert table.texts == ["good", "bad"]
    assert table.labels == ["a", "b"]
    assert list(table.lines) == [above + 2, above + 3]
    with pytest.raises(DataError, match=r"--skip-rows 9, .*: there is nothing below the first 9"):
        read_table(path, layout=Layout(skip=9))


@pytest.mark.parametrize(
    "content", ["text\nOh, well\n", ",text\n1,a,b\n", "Films\nall\nof\nthem\n"]
)
def test_what_is_no_title_is_not_called_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(DataError) as refused:
        read_table(path, on_bad_row="error", label="label", need_label=False)
    assert "title" not in refused.value.fix
