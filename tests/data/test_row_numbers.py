"""A row has one number in every kind of file: its place among the records, from 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertolt.data.cells import words_cell
from bertolt.data.describe import describe_table
from bertolt.data.formats import KINDS, TAGGED
from bertolt.data.load import Table, read_table

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
