"""Files as streams: zstd, lines of plain text, how far a file has been read, bounded batches."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertolt.base.errors import DataError, UsageError
from bertolt.data import json_stream, lines, parquet
from bertolt.data.formats import open_source
from bertolt.data.lines import text_lines
from bertolt.data.load import read_table

LINES = [f"line {number}\n" for number in range(40_000)]


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_lines_are_the_same_however_the_file_is_packed(tmp_path: Path, pack) -> None:
    content = "".join(LINES).encode()
    path = write(tmp_path / "a.txt", pack(content))
    seen: list[int] = []
    assert list(text_lines(path, "utf-8", seen.append)) == LINES
    assert seen == sorted(seen)
    assert seen[-1] == path.stat().st_size


def test_zstd_of_several_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.zst", zstd(b"one\n") + zstd(b"two\n"))
    assert list(text_lines(path, "utf-8")) == ["one\n", "two\n"]


def test_a_packed_file_keeps_its_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.zst", zstd(b'{"text": "a"}\n{"text": "b"}\n'))
    assert [values for _, values in open_source(path).rows(["text"])] == [("a",), ("b",)]


@pytest.mark.parametrize("damage", ["cut", "tail"])
def test_damaged_zstd(tmp_path: Path, damage: str) -> None:
    packed = zstd("".join(LINES).encode())
    packed = packed[:-100] if damage == "cut" else packed + b"more"
    path = write(tmp_path / "a.txt.zst", packed)
    with pytest.raises(DataError, match=r"a\.txt\.zst: the zstd file is damaged"):
        list(text_lines(path, "utf-8"))


def test_a_line_without_end_is_refused_where_there_is_a_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"short\n" + b"x" * (lines.CHUNK * 3))
    with pytest.raises(DataError, match=r"a\.txt, line 2: the line has more than 1,000 characters"):
        list(text_lines(path, "utf-8", limit=1000))
    assert len(list(text_lines(path, "utf-8"))) == 2


def test_json_lines_tell_how_far_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "a"}\n' * 200_000)
    seen: list[int] = []
    rows = open_source(path, seen=seen.append).rows(["text"])
    next(rows)
    assert seen == [lines.CHUNK]
    assert sum(1 for _ in rows) == 199_999
    assert seen[-1] == path.stat().st_size


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no text encoding named 'nonsense'"):
        list(text_lines(write(tmp_path / "a.txt", b"a"), "nonsense"))


def test_long_rows_of_parquet_come_in_small_batches(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.parquet"
    text = [f"{number} " + "x" * 1000 for number in range(100)]
    pq.write_table(pa.table({"text": text}), path, use_dictionary=False)
    monkeypatch.setattr(parquet, "PARQUET_BYTES", 10_000)
    with pq.ParquetFile(path) as file:
        assert 5 <= parquet._batch_rows(file) <= 10
    assert [values[0] for _, values in open_source(path).rows(["text"])] == text


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.conll"])
def test_a_packed_file_may_not_unpack_without_end(tmp_path: Path, monkeypatch, pack, name) -> None:
    monkeypatch.setattr(lines, "UNPACKED_FREE", 1 << 20)
    path = write(tmp_path / f"{name}.packed", pack(b"a" * (3 << 20)))
    path = path.rename(tmp_path / f"{name}.{'zst' if pack is zstd else 'gz'}")
    with pytest.raises(DataError, match=r"(1 MB come out of its 0.0\d MB|more than 1,0)"):
        list(open_source(path).rows(["1"]))
    content = b"".join(b"%d\n" % (number * 7919) for number in range(200_000))
    assert len(content) > lines.UNPACKED_FREE
    assert len(list(text_lines(write(path, pack(content)), "utf-8"))) == 200_000


def test_a_header_without_end_is_refused_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(DataError, match=r"line 1: the line has more than 4,194,304 characters"):
        open_source(path)


def test_a_record_of_json_is_bounded_before_it_is_whole(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lines, "CHUNK", 64)
    monkeypatch.setattr(json_stream, "LINE_LIMIT", 100)
    rows = b'{"text": "a"},\n' * 20
    path = write(tmp_path / "a.json", b"[\n" + rows + b'{"text": "b"}]')
    assert len(list(open_source(path).rows(["text"]))) == 21
    path = write(tmp_path / "a.json", b"[\n" + rows + b'{"text": "' + b"b" * 300 + b'"}]')
    with pytest.raises(DataError, match="a record has more than 100 characters"):
        open_source(path)


@pytest.mark.parametrize(
    "content",
    [
        b'[{"text": "a", "more": [' + b"{}, " * 200 + b"{}]}]",
        b'{"text": "a", "labels": [' + b"[], " * 200 + b"[]]}",
        b'{"text": "a", "more": [' + b"{}, " * 200 + b'{}]}\n{"text": "b"}\n',
    ],
)
def test_a_record_of_json_has_a_bounded_number_of_objects(
    tmp_path: Path, monkeypatch, content: bytes
) -> None:
    for name, most in (("CONTAINERS", 100), ("_SMALL", 100), ("_GROWTH", 64)):
        monkeypatch.setattr(json_stream, name, most)
    monkeypatch.setattr(lines, "CHUNK", 64)
    name = "a.jsonl" if content.endswith(b"\n") else "a.json"
    with pytest.raises(DataError, match="a record has more than 100 objects and lists in it"):
        read_table(write(tmp_path / name, content), need_label=False, on_bad_row="error")


def test_an_array_of_json_takes_no_memory_for_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", b"[" + b"{}," * 100_000 + b'{"text": "a"}]')
    tracemalloc.start()
    try:
        assert sum(1 for _ in open_source(path).rows(["text"])) == 100_001
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_json_is_the_same_wherever_a_chunk_ends(tmp_path: Path, monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(lines, "CHUNK", chunk)
    record = {"text": 'ä "{[,]}" \\ \n', "n": -1.5e3, "deep": {"a": [1, {"b": None}]}, "t": True}
    records = [record, {}, {"text": "b"}]
    for value in (records, {"v": 1, "data": records, "note": 12}):
        path = write(tmp_path / "a.json", json.dumps(value, indent=1).encode("utf-8-sig"))
        rows = [values for _, values in open_source(path).rows(["text", "n", "deep", "t"])]
        assert rows == [tuple(map(each.get, ["text", "n", "deep", "t"])) for each in records]
    for broken in (
        *('[{"a": 1},\n{"a": tru}]', '[{"a": 1},\n 12', '{"a": [{}],\n "b" 3}', "[{}]\n]"),
        *('[{"a": 1}\n{"a": 1}]', '{"a": [{}],\nb: 1}', '{"a": 1,\n "b": [}', '[{"a": "b'),
    ):
        with pytest.raises(json.JSONDecodeError) as expected:
            json.loads(broken)
        with pytest.raises(DataError) as refused:
            open_source(write(tmp_path / "a.json", broken.encode()))
        line = f"line {expected.value.lineno}, " if expected.value.lineno > 1 else ""
        where = f"{line}column {expected.value.colno}"
        assert refused.value.problem == f"broken JSON: {expected.value.msg} at {where}"


def test_a_key_that_stands_twice_is_named(tmp_path: Path) -> None:
    twice = b'{"text": "a", "more": {"b": 1, "b": 2}}'
    for name, content in (
        ("a.json", b'[{"text": "x"}, %s, {"text": "y"}]' % twice),
        ("a.jsonl", b'{"text": "x"}\n%s\n{"text": "y"}\n' % twice),
    ):
        path = write(tmp_path / name, content)
        table = read_table(path, need_label=False)
        assert table.texts == ["x", "y"]
        assert table.dropped == {"duplicate key 'b'": [2]}
        with pytest.raises(DataError, match=r"row 2: the key 'b' stands twice") as refused:
            read_table(path, need_label=False, on_bad_row="error")
        assert "leave one of the two out" in refused.value.fix
    many = b"".join(b'{"text": "a", "k%d": 1, "k%d": 2}\n' % (n, n) for n in range(60))
    dropped = read_table(write(path, many + b'{"text": "x"}'), need_label=False).dropped
    assert len(dropped) == 31
    assert len(dropped["other reasons"]) == 30


@pytest.mark.parametrize("dictionary", [True, False])
def test_a_page_of_parquet_may_not_unpack_without_end(
    tmp_path: Path, monkeypatch, dictionary: bool
) -> None:
    monkeypatch.setattr(lines, "UNPACKED_FREE", 1 << 20)
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["a" * (1 << 18)] * 50})
    pq.write_table(table, path, compression="zstd", use_dictionary=dictionary)
    with pytest.raises(DataError, match=r"MB come out of its 0\.0"):
        list(open_source(path).rows(["text"]))


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_ends_of_lines_are_the_same_wherever_a_chunk_ends(
    tmp_path: Path, monkeypatch, chunk
) -> None:
    monkeypatch.setattr(lines, "CHUNK", chunk)
    content = b"a\r\nb\rc\n\r\n\r\rd\r\n\ne\r"
    path = write(tmp_path / "a.txt", content)
    parts = ["a\r\n", "b\r", "c\n", "\r\n", "\r", "\r", "d\r\n", "\n", "e\r"]
    assert list(text_lines(path, "utf-8")) == parts


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"text": "good"}\n{"text": "bad"}\n'),
        ("a.json", '[{"text": "good"}, {"text": "bad"}]'),
        ("a.csv", "text,id\ngood,1\nbad,2\n"),
        ("a.tsv", "text\tid\ngood\t1\nbad\t2\n"),
        ("a.conll", "good O\n\nbad O\n"),
    ],
)
def test_a_wide_encoding_without_a_mark_is_named_in_the_fix(
    tmp_path: Path, name: str, text: str, encoding: str
) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    for said in ("utf-8", encoding[:6]):
        with pytest.raises(DataError) as refused:
            open_source(path, said)
        assert refused.value.fix.endswith(f"--encoding {encoding}")
    assert open_source(path, encoding).columns


def test_what_is_inside_of_a_file_has_no_path(tmp_path: Path) -> None:
    package = tmp_path / "a.zip"
    package.write_bytes(b"PK")
    with pytest.raises(DataError, match="there is no such file") as refused:
        read_table(package / "inner" / "b.csv")
    assert refused.value.fix.startswith(f"give {package} itself, or unpack it")
