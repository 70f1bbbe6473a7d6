"""Files, folders and patterns become documents; what cannot be read is told."""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertolt.base.errors import DataError, UsageError
from bertolt.corpus.options import TextOptions
from bertolt.corpus.read import Document, NamedFiles, Reader, cut, find_sources, shard_size
from tests.corpus.texts import zstd


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(*paths: Path, piece: int = 1 << 20, **options: Any) -> tuple[list[Document], Reader]:
    reader = Reader(find_sources(paths).sources, TextOptions(**options), piece=piece)
    return list(reader), reader


def texts(*paths: Path, **options: Any) -> list[str]:
    return [document.text for document in read(*paths, **options)[0]]


# ---- finding ----


def test_a_folder_is_read_sorted_with_all_that_is_below_it(tmp_path: Path) -> None:
    for name in ("b/2.txt", "b/1.jsonl", "a.TXT", "c/d/wiki_00", "c/x.parquet.gz", "z.csv.zst"):
        write(tmp_path / name, "x")
    for name in (".hidden.txt", ".git/a.txt", "c/image.png", "c/more.png", "notes.md"):
        write(tmp_path / name, "x")
    found = find_sources([tmp_path])
    names = [str(path.relative_to(tmp_path)) for path in found.files]
    assert names == ["a.TXT", "b/1.jsonl", "b/2.txt", "c/d/wiki_00", "c/x.parquet.gz", "z.csv.zst"]
    assert found.skipped == {".png": 2, ".md": 1}
    assert found.bytes == 6
    assert [Path(source.name).name for source in found.sources] == ["a.TXT", "b", "c", "z.csv.zst"]


def test_what_is_named_is_a_source(tmp_path: Path) -> None:
    one = write(tmp_path / "wiki" / "1.txt", "x")
    two = write(tmp_path / "wiki" / "2.txt", "x")
    book = write(tmp_path / "book.weird", "x")
    assert find_sources([tmp_path / "wiki", book]).sources == (
        NamedFiles(str(tmp_path / "wiki"), (one, two)),
        NamedFiles(str(book), (book,)),
    )


def test_patterns(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, "x") for name in ("a/1.txt", "b/2.txt", "c[1].txt")]
    assert find_sources([f"{tmp_path}/*/*.txt"]).files == tuple(paths[:2])
    assert find_sources([f"{tmp_path}/**/*.txt"]).files == tuple(paths)
    assert find_sources([paths[2]]).files == (paths[2],)  # a name that looks like a pattern


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "x")
    found = find_sources([path, tmp_path])
    assert found.files == (path,)
    assert found.repeated == (path,)


def test_the_folder_that_is_written_to_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "x")
    write(tmp_path / "out" / "vocab.txt", "x")
    assert find_sources([tmp_path], without=(tmp_path / "out").resolve()).files == (path,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.txt", "no such file or folder"),
        ("*.nothing", "the pattern fits no file"),
        ("empty", "no text in this folder"),
        ("images", "no text in this folder; it holds files ending in .png"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "images" / "a.png", "x")
    with pytest.raises(DataError, match=words) as caught:
        find_sources([tmp_path / name])
    assert name in str(caught.value)
    assert caught.value.fix


def test_a_name_nearby_is_offered(tmp_path: Path) -> None:
    write(tmp_path / "corpus.txt", "x")
    with pytest.raises(DataError, match=r"did you mean '.*corpus\.txt'"):
        find_sources([tmp_path / "corpsu.txt"])


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names")
def test_names_of_text_in_a_folder_that_are_no_files_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path / "1.txt", "text")
    os.mkfifo(tmp_path / "2.txt")
    (tmp_path / "3.jsonl").symlink_to("gone")
    (tmp_path / "4").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="3 names of text without a file behind") as caught:
        find_sources([tmp_path])
    for told in ("2.txt: a pipe", "3.jsonl: a link to nothing", "4: a device"):
        assert told in str(caught.value)


def test_links_to_folders_are_told_and_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write(tmp_path / "corpus" / "1.txt", "text")
    (tmp_path / "corpus" / "round").symlink_to(tmp_path)
    assert find_sources([tmp_path / "corpus"]).files == (text,)
    assert "1 link to folders not followed" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names")
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_text_through_a_pipe(tmp_path: Path, pack: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    content = pack(b"one\n\ntwo\n\n" * 9999)
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(content))
    writer.start()
    assert texts(tmp_path / "pipe") == ["one", "two"] * 9999
    writer.join()


def test_nothing_named() -> None:
    with pytest.raises(UsageError, match="no corpus is named"):
        find_sources([])


# ---- documents ----

BLOCKS = "\n\none\n two \n\n\n \t\nthree\r\n\r\nfour"


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_blank_lines_part_documents(tmp_path: Path, pack: Any) -> None:
    path = write(tmp_path / "a.txt", pack(BLOCKS.encode()))
    found, reader = read(path)
    assert found == [Document(0, "one\ntwo"), Document(0, "three"), Document(0, "four")]
    assert reader.summary.documents == 3
    assert reader.position == path.stat().st_size


@pytest.mark.parametrize("separator", "\v\f\x1c\x1d\x1e\x85\u2028\u2029")
def test_separators_that_end_no_line_end_no_document(tmp_path: Path, separator: str) -> None:
    text = f"one{separator}{separator}two"
    path = write(tmp_path / "a.txt", f"{text}\r\rthree")
    assert texts(path) == [text, "three"]
    assert texts(path, documents="lines") == [text, "three"]


def test_every_line_is_a_document_if_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", BLOCKS)
    assert texts(path, documents="lines") == ["one", "two", "three", "four"]


def test_records_are_documents(tmp_path: Path) -> None:
    records = [{"text": "one\n\ntwo", "n": 1}, {"text": "three", "n": 2}]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    jsonl = write(tmp_path / "a.jsonl", lines)
    packed = write(tmp_path / "b.jsonl.zst", zstd(lines.encode()))
    table = tmp_path / "c.parquet"
    pq.write_table(pa.table({"n": [1, 2], "text": ["one\n\ntwo", "three"]}), table)
    csv = write(tmp_path / "d.csv", 'text,n\n"one\n\ntwo",1\nthree,2\n')
    for number, path in enumerate([jsonl, packed, table, csv]):
        assert texts(path) == ["one\n\ntwo", "three"], path
        found, reader = read(jsonl, packed, table, csv)
        assert [document.source for document in found[2 * number :]][:2] == [number, number]
    assert reader.summary.columns[str(jsonl)] == "column 'text', by its name"
    assert reader.position == sum(path.stat().st_size for path in (jsonl, packed, table, csv))


def test_a_column_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"body": "one", "text": "two"}\n')
    assert texts(path, text="body") == ["one"]
    with pytest.raises(DataError, match=r"no column 'boddy'.*\n.*--text 'body'"):
        read(path, text="boddy")


def test_another_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "今天\n\n公园".encode("gb18030"))
    assert texts(path, encoding="gb18030") == ["今天", "公园"]
    with pytest.raises(DataError, match=r"a\.txt, line 1.*\n.*--encoding gb18030"):
        read(path)


def test_all_files_of_another_encoding_are_named_at_once(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path / f"b{number:02}.txt", "今天\n".encode("gb18030"))
    write(tmp_path / "a.txt", "今天\n")
    write(tmp_path / "c.csv", b"text\ncaf\xe9\n")
    write(tmp_path / "d.txt.gz", gzip.compress("公园\n".encode("gb18030")))
    write(tmp_path / "e.txt", "")
    pq.write_table(pa.table({"text": ["今天"]}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"14 of 17 files are not utf-8 text") as caught:
        read(tmp_path)
    lines = str(caught.value).split("\n")
    named = [f"  {tmp_path}/b{number:02}.txt, line 1, byte offset 0" for number in range(10)]
    assert lines[1:11] == [f"{place}: gb18030 or latin-1?" for place in named]
    assert lines[11] == "  and 4 more"
    assert "iconv -f ENCODING -t utf-8 FILE > NEW && mv NEW FILE" in caught.value.fix


def test_one_file_of_another_encoding_among_others_gets_a_fix_that_works(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "今天")
    bad = write(tmp_path / "b.txt", b"caf\xe9")
    with pytest.raises(DataError, match=r"b\.txt, line 1, byte offset 3: the byte 0xe9") as caught:
        read(tmp_path)
    assert caught.value.fix.startswith("let each be read in its own encoding: --encoding auto; or ")
    assert texts(tmp_path, encoding="auto") == ["今天", "café"]
    assert "ENCODING is gb18030 or latin1" in caught.value.fix
    bad.write_bytes(bad.read_bytes().decode("latin-1").encode())
    assert texts(tmp_path) == ["今天", "café"]


def test_files_that_are_all_of_another_encoding_are_read_by_naming_it(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        write(tmp_path / name, "今天".encode("gb18030"))
    with pytest.raises(DataError, match="2 of 2 files are not utf-8") as caught:
        read(tmp_path)
    assert "--encoding gb18030" in caught.value.fix
    assert texts(tmp_path, encoding="gb18030") == ["今天", "今天"]


def test_rows_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    rows = ['{"text": "good"}', '{"text": ""}', "{broken", '{"text": null}', '{"text": "a\\u0000"}']
    found, reader = read(write(tmp_path / "a.jsonl", "\n".join(rows)))
    assert [document.text for document in found] == ["good"]
    assert reader.summary.dropped == {"empty text": 2, "broken JSON": 1, "NUL byte": 1}
    found, reader = read(write(tmp_path / "a.txt", b"one\n\0\0\ntwo"))
    assert [document.text for document in found] == ["one\ntwo"]
    assert reader.summary.dropped == {"NUL byte": 1}


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [("a.jsonl", '{"text": "a"}\n{"text": ""}', "row 2"), ("a.txt", "a\n\0", "line 2")],
)
def test_or_end_the_run_if_asked(tmp_path: Path, name: str, content: str, place: str) -> None:
    with pytest.raises(DataError, match=rf"{name}, {place}: "):
        read(write(tmp_path / name, content), on_bad_row="error")


def test_a_column_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row 1: the text is no text but '5' \(int\)"):
        read(write(tmp_path / "a.jsonl", '{"text": 5}\n'))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", "there is nothing in it"),
        ("a.jsonl", "", "there is nothing in it"),
        ("a.txt.gz", gzip.compress(b"x" * 10_000, mtime=0)[:-9], "the gzip file is damaged"),
        ("a.txt.zst", zstd(b"x" * 10_000)[:-3], "the zstd file is damaged"),
        ("a.parquet", "PAR1", "the Parquet file is damaged"),
        ("a.txt", b"\xff\xfe\xff", "is not utf-8 text"),
    ],
    # Named, because a compressed file holds the time, and processes must collect the same tests.
    ids=["empty", "no-lines", "gzip", "zstd", "parquet", "not-utf-8"],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, content: str | bytes, words: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=words) as caught:
        read(path)
    assert str(path) in caught.value.place


def test_plain_text_without_blank_lines_is_noticed(tmp_path: Path) -> None:
    flat = write(tmp_path / "flat.txt", "one\ntwo\n")
    write(tmp_path / "good.txt", "one\n\ntwo\n")
    write(tmp_path / "single.txt", "one\n")
    _, reader = read(tmp_path)
    assert reader.summary.blankless == [str(flat)]


# ---- long documents ----


def test_a_document_longer_than_a_piece_is_read_in_pieces(tmp_path: Path) -> None:
    lines = [f"line {number}" for number in range(100)]
    path = write(tmp_path / "a.txt", "short\n\n" + "\n".join(lines) + "\n\nlast")
    found, reader = read(path, piece=50)
    long = found[1:-1]
    assert "\n".join(document.text for document in long).split("\n") == lines
    assert all(len(document.text) <= 50 for document in long)
    assert [document.continues for document in found] == [
        False,
        False,
        *[True] * (len(long) - 1),
        False,
    ]
    assert (reader.summary.documents, reader.summary.cut) == (3, 1)


def test_a_long_line_and_a_long_record_are_cut_too(tmp_path: Path) -> None:
    words = " ".join(f"word{number}" for number in range(100))
    path = write(tmp_path / "a.txt", words)
    record = write(tmp_path / "a.jsonl", json.dumps({"text": words}))
    for found, reader in (read(path, piece=60), read(record, piece=60)):
        assert " ".join(document.text for document in found) == words
        assert (reader.summary.documents, reader.summary.cut) == (1, 1)


@given(text=st.text(alphabet="ab \n", max_size=60), size=st.integers(1, 12))
def test_cutting_loses_nothing_but_white_space(text: str, size: int) -> None:
    pieces = list(cut(text, size))
    assert all(len(piece) <= size for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    if len(text) <= size:
        assert pieces == [text]


def test_the_size_of_shards_grows_with_the_corpus() -> None:
    assert [shard_size(size << 20) for size in (0, 64, 65, 128, 129, 10_000_000)] == [
        number << 20 for number in (1, 1, 2, 2, 4, 8)
    ]
