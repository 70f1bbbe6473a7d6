"""Several files, folders of classes and ZIP as one table; and how cells are laid out."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from bertolt.base.errors import BertoltError, DataError, UsageError
from bertolt.data.delimited import layout_of, separator_of
from bertolt.data.load import Table, read_table
from bertolt.data.table_file import Layout


def put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")
    return path


def pairs(table: Table) -> list[tuple[Any, Any]]:
    return list(zip(table.texts, table.labels, strict=True))


def test_rows_of_several_files_keep_their_places(tmp_path: Path) -> None:
    one = put(tmp_path / "a.csv", "label,text\nx,first\n,empty\ny,third\n")
    two = put(
        tmp_path / "b.jsonl", '{"text": "fourth", "label": "y"}\n\n{"text": "", "label": 1}\n'
    )
    table = read_table([one, two])
    assert pairs(table) == [("first", "x"), ("third", "y"), ("fourth", "y")]
    assert table.data["row"].to_pylist() == [1, 3, 4]
    assert [table.place(row) for row in (1, 3, 4, 5)] == [
        *(f"{one}, row 1 (line 2)", f"{one}, row 3 (line 4)"),
        *(f"{two}, row 1", f"{two}, row 2 (line 3)"),
    ]
    assert table.origin(5) == (str(two), 2)
    assert table.dropped == {"empty label": [2], "empty text": [5]}
    with pytest.raises(DataError, match=r"b\.jsonl, row 2 \(line 3\): the text"):
        read_table([two, put(tmp_path / "c.csv", "text,label\n")], on_bad_row="error")
    other = put(tmp_path / "d.csv", "words,label\na,b\n")
    with pytest.raises(DataError, match=r"d\.csv: it has no column 'text', which .*a\.csv has"):
        read_table([one, other])
    with pytest.raises(UsageError, match="named twice"):
        read_table([one, tmp_path / "." / "a.csv"])


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for name in ("pos/2.txt", "pos/10.txt", "neg/1.txt"):
        put(tmp_path / "data" / name, f"a {name}\nfilm\n")
    for name in ("neg/.hidden.txt", "neg/words.vocab", "neg/inner/1.txt", "README.txt", ".x/1.txt"):
        put(tmp_path / "data" / name, "no text")
    put(tmp_path / "data" / "neg" / "2.txt", "")
    put(tmp_path / "data" / "neg" / "other.md", "")
    table = read_table(tmp_path / "data")
    texts = ["a neg/1.txt\nfilm", "a pos/10.txt\nfilm", "a pos/2.txt\nfilm"]
    assert pairs(table) == list(zip(texts, ["neg", "pos", "pos"], strict=True))
    assert table.found["files"] == (
        "2 in 'neg', 2 in 'pos'; left out: 1 hidden file, 1 inner folder, "
        "2 files of another kind, 1 file beside the folders"
    )
    assert table.dropped == {"empty text": [2]}
    assert table.place(2).startswith(str(tmp_path / "data" / "neg" / "2.txt"))
    assert len(read_table(tmp_path / "data" / "pos", need_label=False)) == 2
    (tmp_path / "data" / "pos" / "2.txt").write_bytes("房间很干净，服务也好。".encode("gb18030"))
    assert "房间很干净，服务也好。" in read_table(tmp_path / "data", encoding="auto").texts
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"data/pos/1\.txt"):
        read_table(tmp_path / "empty")


def test_the_tables_of_a_zip_are_read_and_not_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("../../a.csv", "text,label\none,x\ntwo\n")
        package.writestr("/b/c.csv", "text,label\nthree,y\n")
        package.writestr("b/readme.md", "no table")
        package.writestr("__MACOSX/._a.csv", "no table")
    table = read_table(path)
    assert pairs(table) == [("one", "x"), ("three", "y")]
    assert table.found["files"] == f"2 tables in {path}; left out: 2 files"
    assert table.place(2) == f"{path}/../../a.csv, row 2 (line 3)"
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"]


def test_an_entry_may_have_any_name(tmp_path: Path) -> None:
    """What is unpacked has a name of our own, however long or strange that of the entry is."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as package:
        for name in (f"a.{'b' * 300}.csv", "\x1b.csv", "a:b\n.csv"):
            package.writestr(name, "text,label\none,x\n")
        package.writestr(zipfile.ZipInfo(""), "nothing")
    table = read_table(path)
    assert len(table) == 3
    assert table.found["files"].endswith("left out: 1 file")


def test_damage_of_a_zip_is_not_taken_for_a_disk_without_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("a.csv", "text,label\none,x\n")
    good = path.read_bytes()
    at = good.index(b"PK\1\2") + 42  # where the list says that the entry begins
    path.write_bytes(good[:at] + b"\xff\xff\xff\xff" + good[at + 4 :])
    with pytest.raises(DataError, match="the ZIP file is damaged"):
        read_table(path)
    path.write_bytes(good)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "no")])
    with pytest.raises(BertoltError, match="No usable temporary directory") as refused:
        read_table(path)
    assert "TMPDIR=FOLDER" in refused.value.fix


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a.png": b"x"}, "there is no table in it; there are 'a.png'"),
        ({}, "there are no files"),
        ({"a.csv": bytes(1 << 27)}, "more than 67 MB come out of its 0.1"),
        ({"a.csv": b"text,text\na,b\n"}, r"a\.zip/a\.csv: several columns"),
        (None, "the ZIP file is damaged"),
    ],
)
def test_a_zip_without_tables(tmp_path: Path, content: dict[str, bytes] | None, words: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK\3\4 and no more")
    if content is not None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
            for name, inside in content.items():
                package.writestr(name, inside)
    with pytest.raises(DataError, match=words):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "layout", "told"),
    [
        ("sep=;\ntext;label\na, b;x\n", Layout(), "';', for the first line says so"),
        ("SEP=|\r\ntext|label\r\na, b|x\r\n", Layout(), "'|', for the first line says so"),
        ("text|label\na, b|x\n", Layout(), "'|', for the header has it"),
        ("text^label\na, b^x\n", layout_of("^", False, None), "'^', for --sep says so"),
        ("text\tlabel\na, b\tx\n", layout_of("tab", False, None), "'\\t', for --sep says so"),
        ("a, b;x\n", Layout(separator=";", header=False), "';', for --sep says so"),
    ],
)
def test_what_parts_cells_is_found_or_said(
    tmp_path: Path, content: str, layout: Layout, told: str
) -> None:
    header = layout.header
    names = {} if header else {"text": "1", "label": "2"}
    table = read_table(put(tmp_path / "a.csv", content), layout=layout, **names)
    assert pairs(table) == [("a, b", "x")]
    assert table.found["delimiter"] == told
    assert table.place(1).endswith(f"(line {content.count(chr(10))})" if header else "row 1")


def test_columns_without_a_header_have_numbers(tmp_path: Path) -> None:
    path = put(tmp_path / "train.tsv", 'gj04\t1\t\tOur "friends\ngj05\t0\t*\tno\n')
    table = read_table(path, text="4", label="column2", layout=Layout(header=False))
    assert pairs(table) == [('Our "friends', "1"), ("no", "0")]
    with pytest.raises(DataError, match="add --no-header"):
        read_table(path)
    with pytest.raises(DataError, match="if that is a row already, add --no-header"):
        read_table(path, text="4", label="2")
    with pytest.raises(DataError, match="name it by its number, as --text 2 --label 1"):
        read_table(path, layout=Layout(header=False))
    with pytest.raises(DataError, match="there is no column '9'"):
        read_table(path, text="9", label="2", layout=Layout(header=False))


@pytest.mark.parametrize("name", ["", "ab", '"', "\n"])
def test_what_cannot_part_cells(name: str) -> None:
    with pytest.raises(UsageError, match="cannot part cells"):
        separator_of(name)


@pytest.mark.parametrize(
    ("layout", "option"),
    [
        (Layout(separator=";"), "--sep"),
        (Layout(header=False), "--no-header"),
        (Layout(sheet="a"), "--sheet"),
    ],
)
def test_a_layout_is_for_tables_of_cells(tmp_path: Path, layout: Layout, option: str) -> None:
    path = put(tmp_path / "a.jsonl", '{"text": "a", "label": "b"}\n')
    with pytest.raises(UsageError, match=f"{option} says nothing of files ending in '.jsonl'"):
        read_table(path, layout=layout)


def test_a_model_is_no_folder_of_texts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("good", encoding="utf-8")
    with pytest.raises(DataError, match="this is the folder of a model"):
        read_table(tmp_path, need_label=False)
