"""CSV, TSV, JSON, JSON lines, Parquet and CoNLL files, packed too, as numbered rows of values.

`open_source` finds the columns; `TableFile.rows` reads some of them, one row at a time. A row's
number is what its owner would count: the line on which it begins (CSV, TSV, JSON lines; the header
is line 1), or its place among the records from 1 (JSON, Parquet). A row that is broken by itself
comes back as a `BadRow` with its number; damage that makes the rows after it doubtful raises
`DataError`.
All kinds but JSON, and `text_lines`, take a bounded amount of memory however large the file is.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.base.json_files import JsonError, parse_json

CHUNK = 1 << 20  # bytes read at a time
FIELD_LIMIT = 1 << 28  # characters in one CSV cell; a longer one is a quote left open
COLUMN_SAMPLE = 1000  # JSON lines that are read to learn the columns
PARQUET_BATCH = 8192  # rows of a Parquet file in memory at a time,
PARQUET_BYTES = 1 << 25  # or fewer, if they are long: about so many bytes
LINE_LIMIT = 1 << 28  # characters in one line of JSON lines

PACKED = (".gz", ".zst")  # endings of names; what a file is packed with, its first bytes tell
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
"""Kinds of tables, by the ending of their names."""
TAGGED = dict.fromkeys((".conll", ".conll2003", ".bio", ".iob", ".iob2"), "conll")
"""Kinds of files with one word a line."""


class BadRow(NamedTuple):
    """A row that cannot be used: the reason it is counted under, and what is wrong with it."""

    reason: str
    detail: str


Row = tuple[int, tuple[object, ...] | BadRow]
Rows = Callable[[Sequence[str]], Iterator[Row]]
Seen = Callable[[int], None] | None


@dataclass(frozen=True, kw_only=True)
class TableFile:
    """A file that can be read: its columns in order, and `rows(names)` to read some of them.

    `usual` has the column that plays a role in every file of this kind, and why.
    """

    columns: list[str]
    rows: Rows
    found: dict[str, str] = field(default_factory=dict)
    usual: dict[str, tuple[str, str]] = field(default_factory=dict)


def open_source(
    path: Path,
    encoding: str = "utf-8",
    seen: Seen = None,
    kinds: Mapping[str, str] | None = None,
) -> TableFile:
    """Look into a file: what kind it is, by its name, and which columns it has.

    Args:
        path: the file.
        encoding: of the text kinds.
        seen: called while JSON lines are read, with how many bytes of the file have been so far.
        kinds: more endings of names, and the kind of file that each stands for.

    Raises:
        DataError: it is missing, no file, of another kind, empty, damaged or not in `encoding`, or
            its columns cannot be told apart.
        UsageError: there is no such encoding.
    """
    with _os_errors(path):
        _check_file(path)
    kind = _kind(path, KINDS | TAGGED | dict(kinds or {}))
    if kind == "parquet":
        return _parquet_source(path)
    _check_encoding(encoding)
    if kind == "conll":
        return _conll_source(path, encoding)
    if kind in ("csv", "tsv"):
        return _csv_source(path, encoding, "," if kind == "csv" else "\t")
    return _json_source(path, encoding, kind, seen)


def listing(names: Sequence[str], limit: int = 20) -> str:
    """Names for a message: quoted, each cut to 40 characters, `limit` of them at most."""
    shown = [repr(name if len(name) <= 40 else f"{name[:39]}…") for name in names[:limit]]
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def as_text(value: object) -> str | None:
    """A text as it stands; empty if missing; None for what is no text."""
    if isinstance(value, str):
        return value
    return "" if is_missing(value) else None


def is_missing(value: object) -> bool:
    """Whether a cell is null or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def unfit(text: str) -> str:
    """Why a text cannot be used whatever it says, in two words; empty if it can."""
    if "\0" in text:
        return "NUL byte"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON can write half a surrogate pair: "\ud800"
            return "lone surrogate"
    return ""


# Files and bytes


class _BadZstd(OSError):
    """Bytes that zstd cannot unpack."""


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, _BadZstd):  # OSErrors too, but not the system's
        raise
    except OSError as error:
        raise DataError(
            f"it cannot be read ({error.strerror or error})",
            place=str(path),
            fix="check the path and that you may read it",
        ) from error


def _kind(path: Path, kinds: Mapping[str, str]) -> str:
    suffix = ending(path)
    kind = kinds.get(suffix)
    if kind is None:
        raise DataError(
            f"files ending in {suffix!r} are not read" if suffix else "the name has no ending",
            place=str(path),
            fix=f"give a file that ends in {', '.join(KINDS | TAGGED)}, or one of the text kinds "
            "with .gz or .zst",
        )
    return kind


def ending(path: Path) -> str:
    """The ending of a name that says its kind, without that of a packer, in small letters."""
    packed = path.suffix.lower() in PACKED
    return (path.with_suffix("").suffix if packed else path.suffix).lower()


def _check_file(path: Path) -> None:
    if not path.exists():
        folder = path.parent
        near = nearest(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
        fix = f"did you mean {str(folder / near)!r}?" if near else "check the path"
        raise DataError("there is no such file", place=str(path), fix=fix)
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise DataError(f"this is {what}", place=str(path), fix="name one file")
    if path.stat().st_size == 0:
        raise _empty(path)


def _empty(path: Path) -> DataError:
    return DataError("there is nothing in it", place=str(path), fix="give a file with rows in it")


def _check_encoding(encoding: str) -> None:
    try:
        with suppress(UnicodeDecodeError):
            b" ".decode(encoding)
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"there is no text encoding named {encoding!r}",
            place="--encoding",
            fix="use utf-8, utf-16, gb18030, latin-1 or another that Python knows",
        ) from error


def _chunks(path: Path, seen: Seen = None) -> Iterator[bytes]:
    """The bytes of a file, unpacked if its first ones are those of gzip or zstd."""
    try:
        with _os_errors(path), path.open("rb") as raw:
            stream = _unpacked(raw)
            while chunk := stream.read(CHUNK):
                if seen is not None:
                    seen(raw.tell())
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile, _BadZstd) as error:
        kind = "zstd" if isinstance(error, _BadZstd) else "gzip"
        raise DataError(
            f"the {kind} file is damaged ({error})",
            place=str(path),
            fix="fetch or pack the file again",
        ) from error


class _Zstd:
    """A stream that zstd unpacks, several frames too."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")

    def read(self, size: int) -> bytes:
        try:
            chunk: bytes = self._stream.read(size)
        except OSError as error:
            raise _BadZstd(str(error)) from error
        return chunk


def _unpacked(raw: io.BufferedReader) -> io.BufferedReader | gzip.GzipFile | _Zstd:
    first = raw.peek(4)
    if first.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)
    return _Zstd(raw) if first.startswith(_ZSTD) else raw


# Text and lines


@dataclass(frozen=True)
class _BadByte:
    offset: int  # from the beginning of the (unpacked) file
    value: bytes
    sample: bytes  # from the beginning of its line, as far as it is at hand


def text_lines(
    path: Path, encoding: str, seen: Seen = None, limit: int | None = None
) -> Iterator[str]:
    r"""The lines of a text with their ends (\n, \r\n or \r), less a byte order mark.

    Args:
        path: the file, which may be packed.
        encoding: of the text.
        seen: called now and then with how many bytes of the file, as it lies there, have been read.
        limit: characters that a line may have, about; None for any number.

    Raises:
        DataError: a byte that is not in the encoding, after all lines before it were given; a line
            that is longer than `limit`; a file that is missing or damaged.
        UsageError: there is no such encoding.
    """
    _check_encoding(encoding)
    utf8 = codecs.lookup(encoding).name == "utf-8"
    decoder = codecs.getincrementaldecoder("utf-8-sig" if utf8 else encoding)()
    held: list[str] = []  # pieces of a line whose end has not come yet
    offset = number = length = 0
    for chunk in itertools.chain(_chunks(path, seen), [b""]):
        text, bad = _decode(decoder, chunk, offset)
        offset += len(chunk)
        held.append(text)
        length += len(text)
        if chunk and not bad and "\n" not in text and "\r" not in text:
            if limit is not None and length > limit:
                raise _too_long(path, number + 1, limit)
            continue
        lines = list(io.StringIO("".join(held), newline=""))
        # "\r" may yet be followed by "\n", so only "\n" surely ends a line.
        unfinished = bool(lines) and bool(chunk) and not lines[-1].endswith("\n")
        held = [lines.pop()] if unfinished else []
        length = sum(map(len, held))
        yield from lines
        number += len(lines)
        if bad:
            raise _not_in(encoding, bad, path, number + 1)


def _decode(
    decoder: codecs.IncrementalDecoder, chunk: bytes, offset: int
) -> tuple[str, _BadByte | None]:
    """The text of the next bytes; up to the first bad byte, and that byte, where there is one."""
    state = decoder.getstate()
    try:
        return decoder.decode(chunk, not chunk), None
    except UnicodeDecodeError as error:
        # `object` is what was left over from earlier chunks and then the chunk.
        at = error.start - (len(error.object) - len(chunk))
        begin = error.object.rfind(b"\n", 0, error.start) + 1
        sample = error.object[begin : error.start + CHUNK]
        bad = _BadByte(offset + at, error.object[error.start : error.start + 1], sample)
        decoder.setstate(state)
        return decoder.decode(chunk[: max(at, 0)]), bad
    except UnicodeError:  # UTF-16 and UTF-32 without a byte order mark
        return "", _BadByte(offset, chunk[:1], chunk)


def _not_in(encoding: str, bad: _BadByte, path: Path, line: int) -> DataError:
    others = [name for name in ("utf-8", "utf-16", "gb18030") if _could_be(name, bad.sample)]
    flags = " or ".join(f"--encoding {name}" for name in [*others, "latin-1"] if name != encoding)
    return DataError(
        f"the byte 0x{bad.value.hex()} is not {encoding} text",
        place=f"{path}, line {line}, byte offset {bad.offset}",
        fix=f"name the encoding that the file was written in, for instance {flags}",
    )


def _too_long(path: Path, line: int, limit: int) -> DataError:
    return DataError(
        f"the line has more than {limit:,} characters",
        place=f"{path}, line {line}",
        fix="break its lines; or is this no text at all?",
    )


def _could_be(encoding: str, sample: bytes) -> bool:
    if encoding == "utf-16":
        return sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def _unique(columns: list[str], path: Path) -> list[str]:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise DataError(
            f"several columns have the same name: {listing(twice)}",
            place=str(path),
            fix="give each column a name of its own",
        )
    return columns


# CSV and TSV


def _csv_source(path: Path, encoding: str, usual: str) -> TableFile:
    first = next((line for line in text_lines(path, encoding) if line.strip("\r\n")), "")
    if not first:
        raise _empty(path)
    if "\0" in first:
        raise DataError(
            "the header holds a NUL byte, so this is no plain text in that encoding",
            place=str(path),
            fix="save it as UTF-8, or name its encoding, for instance --encoding utf-16-le",
        )
    delimiter = _delimiter(first, usual)
    row, header = next(_csv_records(path, encoding, delimiter))
    if isinstance(header, BadRow):
        raise DataError(header.detail, place=f"{path}, row {row}", fix="mend the header")
    columns = _unique([name.strip() for name in header], path)
    found = {} if delimiter == usual else {"delimiter": f"{delimiter!r}, for the header has it"}
    rows = partial(_csv_rows, path, encoding, delimiter, columns)
    return TableFile(columns=columns, rows=rows, found=found)


def _delimiter(header: str, usual: str) -> str:
    """The usual one of the kind; another if only that one parts the header."""
    for delimiter in (usual, ",", ";", "\t"):
        if len(next(csv.reader([header], delimiter=delimiter))) > 1:
            return delimiter
    return usual


def _csv_records(
    path: Path, encoding: str, delimiter: str
) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Records with the line each begins on, the header first. Empty lines are no records."""
    # The limit is the whole process's: only ever raise it.
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_LIMIT))
    reader = csv.reader(text_lines(path, encoding), delimiter=delimiter, strict=True)
    while True:
        row = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield row, _broken_quotes(error, path, row, reader.line_num)
            continue
        if fields:
            yield row, fields


def _broken_quotes(error: csv.Error, path: Path, row: int, line: int) -> BadRow:
    """A bad row if one line holds all of it; else nobody knows where the next row begins."""
    left_open = "unexpected end" in str(error) or "field larger" in str(error)
    if not left_open and line == row:
        return BadRow("broken quotes", f"the quotes do not match: {error}")
    until = "never closed" if left_open else f"closed in the middle of line {line}"
    raise DataError(
        f"a quote that opens in this row is {until}",
        place=f"{path}, row {row}",
        fix='close it; inside a quoted cell, write a quote twice ("")',
    )


def _csv_rows(
    path: Path, encoding: str, delimiter: str, columns: list[str], names: Sequence[str]
) -> Iterator[Row]:
    picked = [columns.index(name) for name in names]
    width = len(columns)
    for row, fields in itertools.islice(_csv_records(path, encoding, delimiter), 1, None):
        if isinstance(fields, BadRow):
            yield row, fields
        elif len(fields) != width:
            detail = f"{len(fields)} cell{'s' * (len(fields) != 1)} where the header has {width}"
            yield row, BadRow("ragged row", detail)
        else:
            yield row, tuple([fields[index] for index in picked])


# JSON and JSON lines


def _json_source(path: Path, encoding: str, kind: str, seen: Seen) -> TableFile:
    """Lines if the name says so or the first line is a whole object and others follow."""
    filled = (line for line in text_lines(path, encoding) if line.strip())
    first, second = next(filled, ""), next(filled, "")
    if not first:
        raise _empty(path)
    is_array = first.lstrip().startswith("[")
    if not is_array and (kind == "jsonl" or (second and _is_object(first))):
        columns = _line_columns(path, encoding)
        return TableFile(columns=columns, rows=partial(_json_line_rows, path, encoding, seen))
    records = _json_records(path, encoding)
    return TableFile(columns=_all_names(records), rows=partial(_json_rows, records))


def _is_object(line: str) -> bool:
    return isinstance(_parse_json(line), dict)


def _parse_json(text: str) -> Any:
    """The value, or a `BadRow` that says where the text stops being JSON."""
    try:
        return parse_json(text)
    except JsonError as error:
        return BadRow("broken JSON", f"broken JSON: {error}")


def _json_line_rows(path: Path, encoding: str, seen: Seen, names: Sequence[str]) -> Iterator[Row]:
    for row, record in _json_lines(path, encoding, seen):
        if isinstance(record, BadRow):
            yield row, record
        else:
            yield row, tuple([record.get(name) for name in names])


def _json_lines(
    path: Path, encoding: str, seen: Seen = None
) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    for row, line in enumerate(text_lines(path, encoding, seen, LINE_LIMIT), start=1):
        if not line.strip():
            continue
        record = _parse_json(line.rstrip())
        if not isinstance(record, (dict, BadRow)):
            raise _no_record(record, f"{path}, row {row}")
        yield row, record


def _line_columns(path: Path, encoding: str) -> list[str]:
    sample = itertools.islice(_json_lines(path, encoding), COLUMN_SAMPLE)
    records = [record for _, record in sample if isinstance(record, dict)]
    if not records:
        row, bad = next(_json_lines(path, encoding))
        raise DataError(
            bad.detail if isinstance(bad, BadRow) else "no JSON lines",
            place=f"{path}, row {row}",
            fix='write one object a line, like {"text": "…", "label": "…"}',
        )
    return _all_names(records)


def _all_names(records: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record))


def _json_records(path: Path, encoding: str) -> list[dict[str, Any]]:
    """The records of a whole JSON file: an array, or the one list that its object holds."""
    value = _parse_json("".join(text_lines(path, encoding)))
    if isinstance(value, BadRow):
        raise DataError(value.detail, place=str(path), fix="mend the file")
    if isinstance(value, dict):
        value = _inner_list(value, path)
    if not isinstance(value, list):
        raise _no_record(value, str(path))
    if not value:
        raise _empty(path)
    for number, record in enumerate(value, start=1):
        if not isinstance(record, dict):
            raise _no_record(record, f"{path}, record {number}")
    return value


def _inner_list(value: dict[str, Any], path: Path) -> list[Any]:
    lists = [name for name, inner in value.items() if isinstance(inner, list)]
    if len(lists) == 1:
        inner: list[Any] = value[lists[0]]
        return inner
    if not lists and not any(isinstance(inner, dict) for inner in value.values()):
        return [value]  # JSON lines of one line
    held = f"holds several lists ({listing(lists)})" if lists else "holds no list"
    raise DataError(
        f"the JSON object {held}, so its records cannot be told",
        place=str(path),
        fix='write an array of objects, like [{"text": "…", "label": "…"}]',
    )


def _no_record(value: object, place: str) -> DataError:
    kinds = {list: "an array", str: "a string", bool: "a truth value", type(None): "null"}
    return DataError(
        f"this is {kinds.get(type(value), 'a number')}, not a record",
        place=place,
        fix='each record is an object, like {"text": "…", "label": "…"}',
    )


def _json_rows(records: list[dict[str, Any]], names: Sequence[str]) -> Iterator[Row]:
    for number, record in enumerate(records, start=1):
        yield number, tuple([record.get(name) for name in names])


# Parquet


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the Parquet file is damaged, or is none ({error})",
            place=str(path),
            fix="write or fetch the file again",
        ) from error


def _parquet_source(path: Path) -> TableFile:
    with _parquet(path) as file:
        columns = _unique(list(file.schema_arrow.names), path)
    return TableFile(columns=columns, rows=partial(_parquet_rows, path))


def _parquet_rows(path: Path, names: Sequence[str]) -> Iterator[Row]:
    number = 0
    with _parquet(path) as file:
        for batch in file.iter_batches(_batch_rows(file), columns=list(names)):
            for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                number += 1
                yield number, values


def _batch_rows(file: pq.ParquetFile) -> int:
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    size: int = max(1, sum(group.total_byte_size for group in groups))
    return max(1, min(PARQUET_BATCH, PARQUET_BYTES * int(file.metadata.num_rows) // size))


# CoNLL: a word a line with its tags behind it, and an empty line behind each sentence


def _conll_source(path: Path, encoding: str) -> TableFile:
    """Columns are called by their numbers from 1: the word is the first, the tag the last."""
    first = next((cells for _, cells in _conll_lines(path, encoding) if cells), None)
    if first is None:
        raise _empty(path)
    columns = [str(number) for number in range(1, len(first) + 1)]
    if len(columns) < 2:
        raise DataError(
            "its first line holds a word and no tag",
            place=str(path),
            fix="part the word and its tags by white space or tabs",
        )
    usual = {
        "text": (columns[0], "the first column of a CoNLL file"),
        "label": (columns[-1], "the last column of a CoNLL file"),
    }
    rows = partial(_conll_rows, path, encoding, len(columns))
    return TableFile(columns=columns, rows=rows, usual=usual)


def _conll_lines(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """Lines with their numbers, parted; an empty list for the end of a sentence."""
    by_tabs: bool | None = None
    for number, line in enumerate(text_lines(path, encoding, limit=LINE_LIMIT), start=1):
        bare = line.rstrip("\r\n")
        # "-DOCSTART-" begins a document; "# text = …" is a comment of CoNLL-U.
        if not bare.strip() or bare.startswith("-DOCSTART-"):
            yield number, []
            continue
        if bare.startswith("# ") and " = " in bare:
            continue
        by_tabs = "\t" in bare if by_tabs is None else by_tabs
        yield number, bare.split("\t") if by_tabs else bare.split()


def _conll_rows(path: Path, encoding: str, width: int, names: Sequence[str]) -> Iterator[Row]:
    """Sentences, numbered by the line on which they begin, as a list for each column."""
    picked = [int(name) - 1 for name in names]
    start, words = 0, list[list[str]]()
    bad: BadRow | None = None
    for number, cells in itertools.chain(_conll_lines(path, encoding), [(0, list[str]())]):
        if cells:
            start = start or number
            if len(cells) != width and bad is None:
                detail = f"line {number} has {len(cells)} columns, and the first line has {width}"
                bad = BadRow("ragged sentence", detail)
            words.append(cells)
        elif words:
            columns = bad or tuple([[cells[index] for cells in words] for index in picked])
            yield start, columns
            start, words, bad = 0, [], None
