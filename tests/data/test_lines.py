"""Files as streams: zstd, lines of plain text, how far a file has been read, bounded batches."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertolt.base.errors import DataError, UsageError
from bertolt.data import lines, parquet
from bertolt.data.formats import open_source
from bertolt.data.lines import text_lines

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
