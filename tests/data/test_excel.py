"""Tables of Excel: cells as texts, sheets, and files that are none."""

from __future__ import annotations

import builtins
import contextlib
import datetime
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from bertolt.base.errors import DataError, UsageError
from bertolt.data import excel
from bertolt.data.formats import open_source
from bertolt.data.load import read_table
from bertolt.data.table_file import Layout

OLE = b"\xd0\xcf\x11\xe0" + bytes(5000)


def book(path: Path, rows: list[list[Any]], sheet: str = "Reviews", merged: str = "") -> Path:
    workbook = Workbook()
    workbook.active.title = sheet
    for row in rows:
        workbook.active.append(row)
    if merged:
        workbook.active.merge_cells(merged)
    workbook.create_sheet("Notes")["A1"] = "text"
    workbook.save(path)
    return path


def test_cells_are_what_excel_would_export(tmp_path: Path) -> None:
    day, time = datetime.date(2026, 1, 31), datetime.datetime(2026, 1, 31, 10, 30)
    rows = [["text", "label"], ["a", 1], ["b", 1.0], ["c", 1.5], ["d", True], [None, None]]
    rows += [["e", day], ["f", time], ["g", datetime.time(10, 30)], [7, "01"], ["h", None]]
    source = open_source(book(tmp_path / "a.xlsx", rows))
    assert list(source.rows(["text", "label"])) == [
        *((2, ("a", "1")), (3, ("b", "1")), (4, ("c", "1.5")), (5, ("d", "TRUE"))),
        *((7, ("e", "2026-01-31")), (8, ("f", "2026-01-31 10:30:00")), (9, ("g", "10:30:00"))),
        *((10, ("7", "01")), (11, ("h", ""))),
    ]


def test_the_first_sheet_is_the_first_that_is_seen(tmp_path: Path) -> None:
    workbook = Workbook()
    workbook.active.title = "Lists"
    workbook.active.sheet_state = "hidden"
    workbook.active.append(["pos", "neg"])
    reviews = workbook.create_sheet("Reviews")
    for row in (["text", "label"], ["a", "x"]):
        reviews.append(row)
    workbook.active = 1
    workbook.save(tmp_path / "a.xlsx")
    table = read_table(tmp_path / "a.xlsx")
    assert table.texts == ["a"]
    assert table.found["sheet"] == "'Reviews' is read, and not 'Lists' (--sheet names one)"


def test_empty_rows_are_gone_through_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sheet may have a million of them, with a format each."""
    workbook = Workbook()
    for row in (["text", "label"], ["a", "x"], ["b", "y"]):
        workbook.active.append(row)
    workbook.active["A2000"].number_format = "0.00"
    workbook.save(tmp_path / "a.xlsx")
    counts = []
    behind = excel._behind

    def counted(lines: Any, formulas: Any, skip: int) -> Any:
        counts.append(0)

        def count() -> Any:
            for line in lines:
                counts[-1] += 1
                yield line

        return behind(count(), formulas, skip)

    monkeypatch.setattr(excel, "_behind", counted)
    source = open_source(tmp_path / "a.xlsx")
    for _ in range(3):
        assert [number for number, _ in source.rows(["text"])] == [2, 3]
    assert counts == [1, 2000, 3, 3]


def test_what_openpyxl_leaves_out_is_no_warning(tmp_path: Path) -> None:
    """Rules of forms, say; the number that is no date is told as an error where it is read."""
    rows = [["text", "label"], ["a", datetime.date(2026, 1, 31)], ["b", "x"]]
    path = book(tmp_path / "a.xlsx", rows)
    with zipfile.ZipFile(path) as package:
        parts = {name: package.read(name) for name in package.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b"<v>46053</v>", b"<v>99999999999</v>")
    with zipfile.ZipFile(path, "w") as package:
        for name, content in parts.items():
            package.writestr(name, content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert read_table(path).dropped == {"cell with an error": [1]}
    assert not caught


def test_what_is_read_of_a_workbook_is_said(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", [["text", "label"], ["a", "x"], ["b", None]], merged="B2:B3")
    table = read_table(path)
    assert table.path == f"{path}, sheet 'Reviews'"
    assert table.found["sheet"] == "'Reviews' is read, and not 'Notes' (--sheet names one)"
    assert "1 range of merged cells in the file (first: B2:B3)" in table.found["merged"]
    assert table.dropped == {"empty label": [2]}
    with pytest.raises(DataError, match=r"sheet 'Reviews', row 2 \(line 3\): the label in column"):
        read_table(path, on_bad_row="error")
    with pytest.raises(UsageError, match="there is no sheet 'notes'; there are 'Reviews', 'Notes'"):
        read_table(path, layout=Layout(sheet="notes"))
    with pytest.raises(DataError, match="sheet 'Notes': the file names its columns and has no"):
        read_table(path, layout=Layout(sheet="Notes"), need_label=False)
    source = open_source(path, layout=Layout(header=False))
    assert source.columns == ["column1", "column2"]


def test_a_formula_without_a_value_and_an_error_are_bad_where_they_are_read(tmp_path: Path) -> None:
    rows = [["text", "label", "sum"], ["a", "x", "=1+1"], ["b", "#N/A", 2]]
    path = book(tmp_path / "a.xlsx", rows)
    assert read_table(path).dropped == {"cell with an error": [2]}
    table = read_table(path, label="sum")
    assert table.labels == ["2"]
    assert table.dropped == {"formula without a value": [1]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le") + OLE, "it is protected by a password"),
        (OLE, "a workbook of the old kind"),
        (b"text,label\na,b\n", "damaged, or is none"),
        (b"PK\3\4" + bytes(100), "damaged, or is none"),
    ],
)
def test_what_is_no_workbook(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.xlsx"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_source(path)


@pytest.mark.parametrize("part", ["xl/worksheets/sheet1.xml", "xl/sharedStrings.xml"])
def test_a_workbook_may_not_unpack_without_end(tmp_path: Path, part: str) -> None:
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(part, bytes(1 << 27))
    with pytest.raises(DataError, match=r"more than 67 MB come out of its 0\.1"):
        open_source(path)


def test_damage_inside_is_told_in_words(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", [["text", "label"], ["a", "x"]])
    names = zipfile.ZipFile(path).namelist()
    for name in names:
        broken = tmp_path / "b.xlsx"
        with zipfile.ZipFile(path) as whole, zipfile.ZipFile(broken, "w") as package:
            for each in names:
                package.writestr(each, b"<a><b/>" if each == name else whole.read(each))
        with contextlib.suppress(DataError):  # nothing else comes out
            list(open_source(broken).rows(["text"]))


def test_without_openpyxl_the_command_is_told(tmp_path: Path, monkeypatch) -> None:
    path = book(tmp_path / "a.xlsx", [["text"], ["a"]])
    usual = builtins.__import__

    def missing(name: str, *more: Any, **others: Any) -> Any:
        if name.startswith("openpyxl"):
            raise ImportError(name)
        return usual(name, *more, **others)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DataError, match=r"pip install 'bertolt\[excel\]'"):
        open_source(path)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(5, "Input/output error"), DataError, r"cannot be read \(Input/output error\)"),
        (OSError("no valid workbook part"), DataError, "damaged, or is none"),
        (KeyError("xl/workbook.xml"), DataError, "damaged, or is none"),
        (MemoryError("full"), MemoryError, "full"),
    ],
)
def test_only_damage_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: Any, words: str
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    path = book(tmp_path / "a.xlsx", [["text", "label"], ["a", "x"]])
    monkeypatch.setattr("openpyxl.load_workbook", fail)
    with pytest.raises(kind, match=words):
        open_source(path)


def test_a_cell_in_the_last_column_costs_no_text_for_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workbook = Workbook()
    workbook.active.append(["text", "label"])
    for row in range(2, 7):
        workbook.active.cell(row, 1).value = "a"
        workbook.active.cell(row, 16384).value = "x" if row < 6 else None
    workbook.save(tmp_path / "a.xlsx")
    texts: list[object] = []
    monkeypatch.setattr(excel, "_as_text", lambda value: texts.append(value) or str(value or ""))
    table = read_table(tmp_path / "a.xlsx", need_label=False)
    assert table.texts == ["a"]
    assert table.dropped == {"ragged row": [1, 2, 3, 4]}
    assert len(texts) < 100
