"""Files into tables: every kind, every account, every complaint."""

import csv
import gzip
import io
import json
import math
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertolt.base.errors import BertoltError, DataError, UsageError
from bertolt.data.load import Table, read_table

GOOD = 'text,label\nfine,pos\n"poor, really",neg\n'
PAIRS = [("fine", "pos"), ("poor, really", "neg")]


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pairs(table: Table) -> list[tuple[str, str]]:
    return list(zip(table.texts, table.labels, strict=True))


def complaint(path: Path, kind: type[BertoltError] = DataError, **options: object) -> str:
    with pytest.raises(kind) as caught:
        read_table(path, **options)
    assert str(path) in str(caught.value) or kind is UsageError
    assert caught.value.fix
    return str(caught.value)


def parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


# The kinds of file

RECORDS = [{"text": text, "label": label} for text, label in PAIRS]
CONTENTS = {
    "a.csv": GOOD,
    "a.CSV": GOOD.replace("\n", "\r\n"),
    "a.tsv": "text\tlabel\nfine\tpos\npoor, really\tneg\n",
    "a.json": json.dumps(RECORDS, indent=1),
    "object.json": json.dumps({"version": "1", "rows": RECORDS}),
    "lines.json": "".join(json.dumps(record) + "\n" for record in RECORDS),
    "a.jsonl": "".join(json.dumps(record) + "\n\n" for record in RECORDS),
    "array.jsonl": json.dumps(RECORDS),
    "a.ndjson": "".join(json.dumps(record) + "\n" for record in RECORDS).rstrip(),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", CONTENTS)
def test_every_text_kind_gives_the_same_rows(tmp_path: Path, name: str, packed: bool) -> None:
    content = CONTENTS[name].encode()
    path = put(tmp_path, name + ".gz" * packed, gzip.compress(content) if packed else content)
    table = read_table(path)
    assert pairs(table) == PAIRS
    assert (table.text_column, table.label_column) == ("text", "label")
    assert table.columns == ["text", "label"]
    assert (table.rows_read, table.dropped) == (2, {})
    assert table.path == str(path)


def test_parquet_gives_the_same_rows_on_arrow(tmp_path: Path) -> None:
    table = read_table(parquet(tmp_path / "a.parquet", text=["fine", "poor"], label=["pos", "neg"]))
    assert isinstance(table.data, pa.Table)
    assert table.data.column_names == ["row", "text", "label"]
    assert [str(column.type) for column in table.data.columns] == ["int64", "string", "string"]
    assert list(table.examples([1])) == [{"row": 2, "text": "poor", "label": "neg"}]
    assert [row["row"] for row in table.examples()] == [1, 2]


def test_gzip_is_known_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    assert pairs(read_table(put(tmp_path, "a.csv", gzip.compress(GOOD.encode())))) == PAIRS
    assert pairs(read_table(put(tmp_path, "b.csv.gz", GOOD))) == PAIRS


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_csv_with_another_delimiter_is_read_and_says_so(tmp_path: Path, delimiter: str) -> None:
    content = "text,label\nfine, really,pos\npoor,neg\n"
    rows = "\n".join(delimiter.join(line.rsplit(",", 1)) for line in content.splitlines())
    table = read_table(put(tmp_path, "a.csv", rows))
    assert pairs(table) == [("fine, really", "pos"), ("poor", "neg")]
    assert repr(delimiter) in table.found["delimiter"]


def test_the_values_stand_as_they_are(tmp_path: Path) -> None:
    content = 'text,label\n  NA ,01\nnull,NA\n"say ""hi""", 1.0 \nnan,true\n'
    assert pairs(read_table(put(tmp_path, "a.csv", content))) == [
        ("  NA ", "01"),
        ("null", "NA"),
        ('say "hi"', "1.0"),
        ("nan", "true"),
    ]


def test_labels_of_json_and_parquet_become_strings(tmp_path: Path) -> None:
    values = ["pos ", 1, 1.0, 0.5, True, -2]
    lines = "".join(json.dumps({"text": "t", "label": value}) + "\n" for value in values)
    strings = ["pos", "1", "1", "0.5", "True", "-2"]
    assert read_table(put(tmp_path, "a.jsonl", lines)).labels == strings
    floats = parquet(tmp_path / "a.parquet", text=["a", "b", "c"], label=[1.0, None, math.nan])
    table = read_table(floats)
    assert (table.labels, table.dropped) == (["1"], {"empty label": [2, 3]})


def test_the_encoding_is_the_users_choice_and_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    chinese = "内容,标签\n很好,正\n很差,负\n"
    for encoding in ("utf-8", "utf-8-sig", "gb18030", "utf-16"):
        path = put(tmp_path, "a.csv", chinese.encode(encoding))
        reading = "utf-8" if encoding == "utf-8-sig" else encoding
        table = read_table(path, encoding=reading)
        assert table.columns == ["内容", "标签"]
        assert pairs(table) == [("很好", "正"), ("很差", "负")]


def test_a_cell_of_ten_megabytes(tmp_path: Path) -> None:
    long = "many words, \n" * (10 * 2**20 // 13 + 1)
    path = put(tmp_path, "a.csv", f'text,label\n"{long}",pos\nshort,neg\n')
    table = read_table(path)
    assert table.texts == [long, "short"]
    assert list(table.lines) == [2, 2 + long.count("\n") + 1]
    lines = json.dumps({"text": long, "label": "pos"})
    assert read_table(put(tmp_path, "a.jsonl", lines)).texts == [long]


def test_lines_and_characters_that_cross_the_pieces_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = 'text,label\r\n很好 fine,pos\r\n"两\r\n行",neg\r\n'.encode()
    path = put(tmp_path, "a.csv", content)
    for size in range(1, 20):
        monkeypatch.setattr("bertolt.data.lines.CHUNK", size)
        table = read_table(path)
        assert pairs(table) == [("很好 fine", "pos"), ("两\r\n行", "neg")]
        assert list(table.lines) == [2, 3]


def test_a_file_that_another_program_writes_meanwhile_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(tmp_path, "rows.csv", "text,label\n" + "good,pos\nbad,neg\n" * 2000)

    def write_on(count: int) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write("late,pos\n")

    read_table(path)
    assert "changed" not in capsys.readouterr().err
    read_table(path, watch=write_on)
    assert f"{path} changed while it was read: rows may be missing" in capsys.readouterr().err


def test_many_rows_come_back_in_order(tmp_path: Path) -> None:
    rows = [(f"text number {number}", "ab"[number % 2]) for number in range(25_001)]
    path = put(tmp_path, "a.csv", "text,label\n" + "".join(f"{t},{y}\n" for t, y in rows))
    table = read_table(path)
    assert pairs(table) == rows
    assert table.data.column("text").num_chunks > 1


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def shows(text: str) -> bool:
    """Whether there is anything to see: controls and zero-width characters are nothing."""
    return any(unicodedata.category(each) not in ("Cc", "Cf") for each in text.strip())


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t"]),
    dialect=st.sampled_from(["excel", "unix"]),  # \r\n and few quotes, \n and quotes everywhere
)
def test_what_a_csv_writer_wrote_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str]],
    delimiter: str,
    dialect: str,
) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, dialect, delimiter=delimiter)
    writer.writerows([("text", "label"), *rows, ("last", "row")])
    path = put(tmp_path_factory.getbasetemp(), "written.csv", written.getvalue())
    table = read_table(path)
    usable = [(text, label.strip()) for text, label in rows if shows(text) and shows(label)]
    assert pairs(table) == [*usable, ("last", "row")]
    assert table.rows_read == len(rows) + 1
    assert sum(map(len, table.dropped.values())) == len(rows) - len(usable)


# Bad rows


def test_rows_that_cannot_be_used_are_counted_by_reason_and_number(tmp_path: Path) -> None:
    content = (
        "id,text,label\n"
        "1,fine,pos\n"
        "2,short\n"
        "3,too,long,row\n"
        "4,,pos\n"
        "5, \t\u3000,neg\n"
        "6,good,\n"
        "7,nu\0l,pos\n"
        '8,"quoted" and on,pos\n'
        "9,poor,neg\n"
    )
    table = read_table(put(tmp_path, "a.csv", content))
    assert pairs(table) == [("fine", "pos"), ("poor", "neg")]
    assert table.dropped == {
        "ragged row": [2, 3],
        "empty text": [4, 5],
        "empty label": [6],
        "NUL byte": [7],
        "broken quotes": [8],
    }
    assert table.rows_read == len(table) + sum(map(len, table.dropped.values())) == 9


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("short", "1 cell where the header has 2"),
        ("a,b,c", "3 cells where the header has 2"),
        (" ,pos", "empty text in column 'text'"),
        ("fine,", "empty label in column 'label'"),
        ("nu\0l,pos", "NUL byte in column 'text'"),
        ('"a" b,pos', "quotes do not match"),
    ],
)
def test_on_bad_row_error_stops_at_the_row(tmp_path: Path, row: str, words: str) -> None:
    path = put(tmp_path, "a.csv", f"text,label\nfine,pos\n{row}\npoor,neg\n")
    message = complaint(path, on_bad_row="error")
    words = words.replace("empty text in", "the text in").replace("empty label in", "the label in")
    assert f"{path}, row 2 (line 3): " in message
    assert words in message
    assert "--on-bad-row drop" in message


def test_bad_json_rows(tmp_path: Path) -> None:
    lines = [
        '{"text": "fine", "label": "pos"}',
        '{"text": "cut off',
        '{"text": "half \\ud800", "label": "pos"}',
        '{"text": null, "label": "pos"}',
        '{"label": "pos"}',
        '{"text": "no label"}',
        '{"text": NaN, "label": "pos"}',
        '{"text": "whole \\ud83d\\ude00", "label": NaN}',
        '{"text": "nul \\u0000", "label": "pos"}',
        "[" * 100_000,
        '{"text": "\\ud83d\\ude00", "label": 2}',
    ]
    path = put(tmp_path, "a.jsonl", "\n".join(lines))
    table = read_table(path)
    assert pairs(table) == [("fine", "pos"), ("😀", "2")]
    assert table.dropped == {
        "broken JSON": [2, 10],
        "lone surrogate": [3],
        "empty text": [4, 5, 7],
        "empty label": [6, 8],
        "NUL byte": [9],
    }
    message = complaint(path, on_bad_row="error")
    assert "row 2: broken JSON: Unterminated string starting at at column 10" in message


@pytest.mark.parametrize("value", [7, 1.5, True, ["a"], {"a": 1}])
def test_a_text_that_is_no_text(tmp_path: Path, value: object) -> None:
    path = put(tmp_path, "a.json", json.dumps([*RECORDS, {"text": value, "label": "pos"}]))
    message = complaint(path)
    assert "row 3, column 'text'" in message
    assert type(value).__name__ in message
    assert "--text" in message


def test_a_label_that_is_no_name(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", json.dumps([*RECORDS, {"text": "x", "label": ["pos"]}]))
    message = complaint(path)
    assert "row 3, column 'label'" in message
    assert "--label" in message
    assert "datetime" in complaint(
        parquet(tmp_path / "a.parquet", text=["x"], label=pa.array([0], pa.timestamp("s")))
    )


def test_all_rows_dropped(tmp_path: Path) -> None:
    message = complaint(put(tmp_path, "a.csv", "text,label\n,pos\n ,neg\nx\n"))
    assert "none of its 3 rows" in message
    assert "2 empty text, 1 ragged row" in message
    assert "row 1 (line 2)" in message


# Bad files


def test_a_missing_file_and_its_neighbour(tmp_path: Path) -> None:
    put(tmp_path, "reviews.csv", GOOD)
    message = complaint(tmp_path / "review.csv")
    assert "no such file" in message
    assert "reviews.csv" in message
    assert "no such file" in complaint(tmp_path / "nowhere" / "a.csv")
    assert "cannot be read" in complaint(tmp_path / ("long" * 100 + ".csv"))


def test_a_folder(tmp_path: Path) -> None:
    assert "this is a folder" in complaint(tmp_path)


@pytest.mark.parametrize("name", ["a.txt", "a.docx", "a", "a.gz"])
def test_an_unknown_kind_lists_the_known(tmp_path: Path, name: str) -> None:
    message = complaint(put(tmp_path, name, GOOD))
    assert ".csv, .tsv, .json, .jsonl, .ndjson, .parquet" in message


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    assert "nothing in it" in complaint(put(tmp_path, name, b""))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"\n\r\n\n"),
        ("a.csv.gz", gzip.compress(b"", mtime=0)),
        ("a.json", b" \n "),
        ("b.json", b"[]"),
    ],
)
def test_a_file_of_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    assert "nothing in it" in complaint(put(tmp_path, name, content))


def test_a_header_only(tmp_path: Path) -> None:
    assert "has no rows" in complaint(put(tmp_path, "a.csv", "text,label\n"))
    empty = pa.array([], pa.string())
    assert "has no rows" in complaint(parquet(tmp_path / "a.parquet", text=empty, label=empty))


def test_columns_of_the_same_name(tmp_path: Path) -> None:
    message = complaint(put(tmp_path, "a.csv", "text,label,text \na,b,c\n"))
    assert "same name: 'text'" in message
    same = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    pq.write_table(same, tmp_path / "a.parquet")
    assert "same name: 'text'" in complaint(tmp_path / "a.parquet")


def test_columns_without_a_name_may_be_several(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", ",text,label,\n0,fine,pos,\n1,poor,neg,\n")
    assert pairs(read_table(path)) == [("fine", "pos"), ("poor", "neg")]


FAR = ("text,label\n" + "fine,pos\n" * 200_000 + "\xe9,neg\n").encode("latin-1")


@pytest.mark.parametrize(
    ("content", "line", "offset", "flag"),
    [
        ("text,label\nfine,pos\ncafé is nice,neg\n".encode("latin-1"), 3, 23, "latin-1"),
        ("text,label\nfine,pos\n很好的书,pos\n".encode("gb18030"), 3, 20, "gb18030"),
        ("text,label\nfine,pos\n".encode("utf-16"), 1, 0, "utf-16"),
        (FAR, 200_002, len(FAR) - 6, "latin-1"),
        ("text,label\nfine,pos\n很".encode()[:-1], 3, 20, "latin-1"),
    ],
    ids=["latin-1", "gb18030", "utf-16", "far", "cut off"],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_byte_that_is_not_in_the_encoding(
    tmp_path: Path, content: bytes, line: int, offset: int, flag: str, packed: bool
) -> None:
    path = put(tmp_path, "a.csv", gzip.compress(content) if packed else content)
    message = complaint(path)
    assert f"line {line}, byte offset {offset}: the byte 0x{content[offset]:02x}" in message
    assert f"--encoding {flag}" in message
    assert ("--encoding latin-1" in message) == (flag == "latin-1" or flag == "gb18030")


def test_utf_16_without_its_mark_and_the_way_back_to_utf_8(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", GOOD)
    assert "--encoding utf-8" in complaint(path, encoding="utf-16")
    bare = put(tmp_path, "b.csv", GOOD.encode("utf-16-le"))
    message = complaint(bare)
    assert "NUL" in message
    assert "--encoding utf-16-le" in message
    assert "fix: let its bytes tell its encoding: --encoding auto; or save" in message
    assert pairs(read_table(bare, encoding="auto")) == PAIRS
    assert pairs(read_table(bare, encoding="utf-16-le")) == PAIRS


@pytest.mark.parametrize("encoding", ["utf-88", "rot13", "hex", "", "nul\0"])
def test_an_unknown_encoding(tmp_path: Path, encoding: str) -> None:
    message = complaint(put(tmp_path, "a.csv", GOOD), UsageError, encoding=encoding)
    assert f"--encoding: there is no text encoding named {encoding!r}" in message


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'text,label\nfine,pos\n"open,neg\nmore,pos\n')
    message = complaint(path)
    assert "line 3: a quote that opens in this line is never closed" in message


def test_a_quote_that_swallows_rows_is_not_dropped_silently(tmp_path: Path) -> None:
    path = put(tmp_path, "a.csv", 'text,label\n"open,neg\n"more",pos\nfine,pos\n')
    words = "line 2: a quote that opens in this line is closed in the middle of line 3"
    assert words in complaint(path)


@pytest.mark.parametrize("damage", ["cut", "bits", "tail"])
def test_a_damaged_gzip(tmp_path: Path, damage: str) -> None:
    packed = bytearray(gzip.compress(("text,label\n" + GOOD[11:] * 5000).encode(), mtime=0))
    if damage == "cut":
        packed = packed[: len(packed) // 2]
    elif damage == "bits":
        packed[12:20] = b"\xff" * 8
    else:
        packed[-6] ^= 1  # the checksum
    assert "gzip file is damaged" in complaint(put(tmp_path, "a.csv.gz", bytes(packed)))


def test_a_json_file_that_breaks_off(tmp_path: Path) -> None:
    path = put(tmp_path, "a.json", '[{"text": "fine",\n "label": "pos"},\n {"text": }]')
    assert "broken JSON: Expecting value at line 3, column 11" in complaint(path)


def test_json_lines_that_are_none(tmp_path: Path) -> None:
    message = complaint(put(tmp_path, "a.jsonl", "text,label\nfine,pos\n"))
    assert "line 1: broken JSON: Expecting value at column 1" in message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", '["fine", "poor"]', "record 1: this is a string, not a record"),
        ("a.json", '"fine"', "this is a string, not a record"),
        ("a.json", "3", "this is a number, not a record"),
        ("a.json", '{"text": {"0": "fine"}, "label": {"0": 1}}', "holds no list"),
        ("a.json", '{"text": ["fine"], "label": [1]}', "several lists ('text', 'label')"),
        ("a.jsonl", '{"text": "a", "label": 1}\n["b", 2]\n', "line 2: this is an array"),
        ("a.jsonl", '{"text": "a", "label": 1}\nnull\n', "line 2: this is null"),
    ],
)
def test_json_that_is_not_records(tmp_path: Path, name: str, content: str, words: str) -> None:
    assert words in complaint(put(tmp_path, name, content))


def test_a_single_json_object_is_a_single_row(tmp_path: Path) -> None:
    assert read_table(put(tmp_path, "a.json", '{"text": "a",\n "label": 1}')).labels == ["1"]


@pytest.mark.parametrize("damage", ["none of it", "cut", "body"])
def test_a_damaged_parquet(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.parquet"
    parquet(path, text=[f"text {number}" for number in range(5000)], label=["a", "b"] * 2500)
    content = path.read_bytes()
    if damage == "body":
        content = content[:4] + b"\xff" * 400 + content[404:]
    path.write_bytes({"none of it": GOOD.encode(), "cut": content[:-20]}.get(damage, content))
    assert "Parquet file is damaged" in complaint(path)


def test_a_kept_value_that_is_nested_too_deeply_costs_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    deep = "[" * 900 + "]" * 900
    path.write_text(f'{{"text": "a", "x": 1}}\n{{"text": "b", "x": {deep}}}\n', encoding="utf-8")
    table = read_table(path, need_label=False, keep=["x"])
    assert table.data["text"].to_pylist() == ["a"]
    assert table.dropped == {"nested cell": [2]}
