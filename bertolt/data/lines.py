"""The bytes of a file, packed or not, as lines of text in an encoding.

Memory is bounded by the longest line, which has a limit, however large the file is; and what is
packed may not become far larger than any text does.
"""

from __future__ import annotations

import codecs
import functools
import gzip
import io
import itertools
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.base.paths import FILE, PIPE, kind_of, leads_nowhere
from bertolt.data.arrow import pa
from bertolt.data.encodings import AUTO, detect

CHUNK = 1 << 20  # bytes read at a time
LINE_LIMIT = 1 << 26
"""Characters in a line, or in a cell."""

# What comes out of a packed file: so many bytes of any file, and so many times its own size. Text
# packs ten to one, and logs thirty to one.
UNPACKED_FREE, UNPACKED_TIMES = 1 << 26, 100

# What a file is packed with, its first bytes tell.
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"

_ZIP = b"PK\x03\x04"
_EXPORT = "export its text as CSV or as JSON lines"
# What begins so is no text: what it is, and what to do.
_NO_TEXT: dict[bytes, tuple[str, str]] = {
    _ZIP: ("a ZIP archive", "unpack it, or let its name end in .zip"),
    b"PAR1": ("a Parquet file", "let its name end in .parquet"),
    b"\xd0\xcf\x11\xe0": ("an old Excel or Word file", f"open it there, and {_EXPORT}"),
    b"%PDF-": ("a PDF", _EXPORT),
    b"\x89PNG\r\n": ("a PNG image", "give a file of texts"),
    b"\xff\xd8\xff": ("a JPEG image", "give a file of texts"),
    b"GIF8": ("a GIF image", "give a file of texts"),
    b"ARROW1": ("an Arrow file", _EXPORT),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"Rar!": ("a RAR archive", "unpack it"),
    b"BZh": ("a bzip2 file", "unpack it, or pack it with gzip or zstd"),
    b"\xfd7zXZ": ("an xz file", "unpack it, or pack it with gzip or zstd"),
    b"SQLite format 3": ("an SQLite database", _EXPORT),
    b"\x93NUMPY": ("a NumPy array", _EXPORT),
}

Seen = Callable[[int], None] | None
"""Called now and then with how many bytes of a file, as it lies there, have been read."""


class LongLineError(DataError):
    """A line that is longer than any line of a text."""


class EncodingError(DataError):
    """A byte that is not in the encoding; `others` are encodings that its line could be in."""

    others: tuple[str, ...] = ()


def require_file(path: Path) -> None:
    """Refuse what is no file with something in it.

    Raises:
        DataError: nothing is there, or no regular file, or an empty one, or the system refuses.
    """
    with os_errors(path):
        _check_file(path)


def _check_file(path: Path) -> None:
    require_path(path, "file")
    kind = kind_of(path)
    if kind == PIPE:
        raise DataError(
            "this is a pipe, and a table is read more than once",
            place=str(path),
            fix="write it to a file whose name ends in its kind, such as rows.csv, and name that",
        )
    if kind != FILE:
        raise DataError(f"this is {kind}", place=str(path), fix="name one file")
    if path.stat().st_size == 0:
        raise empty_file(path)


def require_path(path: Path, kind: str) -> None:
    """Refuse a path where nothing is, with the nearest name that there is.

    Raises:
        DataError: nothing is there, or a link to nothing; `kind` says what should be.
    """
    if leads_nowhere(path):
        raise DataError(f"this is {kind_of(path)}", place=str(path), fix="mend or remove the link")
    if not path.exists():
        folder = path.parent
        near = nearest(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
        fix = f"did you mean {str(folder / near)!r}?" if near else "check the path"
        if package := next((each for each in path.parents if each.is_file()), None):
            fix = f"give {package} itself, or unpack it: what is inside of a file has no path"
        raise DataError(f"there is no such {kind}", place=str(path), fix=fix)


def empty_file(path: Path) -> DataError:
    """The error for a file without rows."""
    return DataError("there is nothing in it", place=str(path), fix="give a file with rows in it")


def text_lines(
    path: Path, encoding: str, seen: Seen = None, limit: int = LINE_LIMIT
) -> Iterator[str]:
    r"""The lines of a text with their ends (\n, \r\n or \r), less a byte order mark.

    Args:
        path: the file, which may be packed.
        encoding: of the text; "auto" finds it.
        seen: called now and then with how many bytes of the file, as it lies there, have been read.
        limit: characters that a line may have, about.

    Raises:
        EncodingError: a byte that is not in the encoding, after all lines before it were given.
        LongLineError: a line that is longer than `limit`.
        DataError: a file that is missing or damaged, or packed
            and far too large when unpacked.
        UsageError: there is no such encoding.
    """
    held: list[str] = []  # pieces of a line whose end has not come yet
    carried = ""  # "\r" at the end of a piece, for "\n" may follow
    number = length = 0
    for piece, bad, last in _pieces(path, encoding, seen):
        text = carried + piece
        carried = "\r" if not last and not bad and text.endswith("\r") else ""
        lines = list(io.StringIO(text.removesuffix(carried), newline=""))
        rest = "" if not lines or lines[-1].endswith(("\n", "\r")) else lines.pop()
        if lines and held:
            lines[0] = "".join([*held, lines[0]])
            held, length = [], 0
        yield from lines
        number += len(lines)
        if rest:
            held.append(rest)
            length += len(rest)
        if length > limit:
            raise _too_long(path, number + 1, limit)
        if bad:
            raise _not_in(encoding_of(path, encoding), bad, path, number + 1)
    if held:
        yield "".join(held)


def text_pieces(path: Path, encoding: str) -> Iterator[str]:
    """The text of a file in pieces of any length, less a byte order mark.

    Raises:
        EncodingError, DataError, UsageError: as in `text_lines`, but for long lines.
    """
    lines = 0
    for text, bad, _ in _pieces(path, encoding):
        yield text
        lines += text.count("\n")
        if bad:
            raise _not_in(encoding_of(path, encoding), bad, path, lines + 1)


def _pieces(
    path: Path, encoding: str, seen: Seen = None
) -> Iterator[tuple[str, _BadByte | None, bool]]:
    """The text of a file in pieces; of a piece that breaks off, why; and whether it is the last."""
    encoding = encoding_of(path, encoding)
    _check_encoding(encoding)
    utf8 = codecs.lookup(encoding).name == "utf-8"
    decoder = codecs.getincrementaldecoder("utf-8-sig" if utf8 else encoding)()
    offset = 0
    for chunk in itertools.chain(_chunks(path, seen), [b""]):
        text, bad = _decode(decoder, chunk, offset)
        offset += len(chunk)
        yield text, bad, not chunk


def encoding_of(path: Path, encoding: str) -> str:
    """The encoding of a file's text: as it is named, or by the bytes if that is "auto".

    Raises:
        EncodingError: it cannot be told.
        UsageError: a pipe, which cannot be looked into and read again.
        DataError: a file that is missing or damaged.
    """
    if encoding != AUTO:
        return encoding
    with os_errors(path):
        about = path.stat()
    if kind_of(path) == PIPE:
        raise UsageError(
            "a pipe is read once, and cannot be looked into before",
            place=f"--encoding {AUTO}",
            fix="name the encoding, for instance --encoding gb18030",
        )
    return _detected(path, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=4096)
def _detected(path: Path, changed: int, size: int) -> str:
    """The encoding of a file as it was at a moment: its lines are read several times."""
    if (name := detect(lambda: _chunks(path))) is not None:
        return name
    # Which byte is not UTF-8 is the most that can be said.
    try:
        for _ in text_lines(path, "utf-8"):
            pass
        where = str(path)
    except EncodingError as error:
        where = error.place
    raise EncodingError(
        "it is not UTF-8 from here on, and its encoding cannot be told by its bytes",
        place=where,
        fix="name the encoding that the file was written in, for instance --encoding cp1251",
    )


class _BadZstd(OSError):
    """Bytes that zstd cannot unpack."""


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """What the system says about a path that is read, as an error with a fix.

    Raises:
        DataError: it may not be read, or its name is too long, ….
    """
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


def _chunks(path: Path, seen: Seen = None) -> Iterator[bytes]:
    """The bytes of a file, unpacked if its first ones are those of gzip or zstd."""
    try:
        with os_errors(path), path.open("rb") as raw:
            stream = _unpacked(raw, path)
            allowed = None if stream is raw else unpacked_limit(path.stat().st_size)
            count = 0
            while chunk := stream.read(CHUNK):
                count += len(chunk)
                if allowed is not None and count > allowed:
                    raise unpacks_too_large(path)
                if seen is not None and raw.seekable():  # a pipe has no places
                    seen(raw.tell())
                yield chunk
    except (EOFError, zlib.error, gzip.BadGzipFile, _BadZstd) as error:
        kind = "zstd" if isinstance(error, _BadZstd) else "gzip"
        raise DataError(
            f"the {kind} file is damaged ({error})",
            place=str(path),
            fix="fetch or pack the file again",
        ) from error


def is_packed(path: Path) -> bool:
    """Whether a file is packed, as its first bytes tell."""
    with path.open("rb") as raw:
        return raw.read(4).startswith((_GZIP, _ZSTD))


def unpacked_limit(size: int) -> int:
    """The bytes that may come out of a packed file of `size` bytes."""
    return max(UNPACKED_FREE, UNPACKED_TIMES * size)


def unpacks_too_large(path: Path, remedy: str = "unpack it and name what comes out") -> DataError:
    """The error for a packed file out of which more comes than `unpacked_limit`."""
    size = path.stat().st_size
    return DataError(
        f"it is packed, and more than {unpacked_limit(size) / 1e6:,.0f} MB come out of its "
        f"{size / 1e6:,.2f} MB, so it was made to fill the memory, or is broken",
        place=str(path),
        fix=f"if it is neither, {remedy}",
    )


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


def _unpacked(raw: io.BufferedReader, path: Path) -> io.BufferedReader | gzip.GzipFile | _Zstd:
    first = raw.peek(4)
    _refuse_binary(first, path)
    if first.startswith(_GZIP):
        return gzip.GzipFile(fileobj=raw)
    return _Zstd(raw) if first.startswith(_ZSTD) else raw


def _refuse_binary(first: bytes, path: Path) -> None:
    """Refuse what its first bytes call a file of another kind: no encoding would make it a text."""
    for begins, (what, fix) in _NO_TEXT.items():
        if first.startswith(begins):
            if begins == _ZIP and b"[Content_Types].xml" in first:
                what, fix = "an Office file", "if it is an Excel sheet, let its name end in .xlsx"
            raise DataError(f"its first bytes are those of {what}", place=str(path), fix=fix)


def _check_encoding(encoding: str) -> None:
    try:
        with suppress(UnicodeDecodeError):
            b" ".decode(encoding)
    except (LookupError, ValueError) as error:
        raise UsageError(
            f"there is no text encoding named {encoding!r}",
            place="--encoding",
            fix=f"use {AUTO}, by which the bytes of a file tell it, or utf-8, utf-16, gb18030, "
            "latin-1 or another that Python knows",
        ) from error


@dataclass(frozen=True)
class _BadByte:
    offset: int  # from the beginning of the (unpacked) file
    value: bytes
    sample: bytes  # from the beginning of its line, as far as it is at hand


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


def require_plain(first: str, path: Path, where: str = "its first line") -> None:
    """Refuse a text whose first line holds a NUL: that of UTF-16 read as something else does.

    Raises:
        DataError: it does; the fix names the encoding that is likely.
    """
    if "\0" in first:
        raise DataError(
            f"{where} holds a NUL byte, so this is no plain text in that encoding",
            place=str(path),
            fix=f"{_by_bytes(path)}save it as UTF-8, or name its encoding, for instance --encoding "
            f"{_unmarked(first.encode('utf-8', 'replace')) or 'utf-16-le'}",
        )


def _unmarked(start: bytes) -> str:
    """UTF-16 or UTF-32 without a mark, by the NUL bytes of its first character; else empty."""
    nulls = "".join("0" if byte == 0 else "x" for byte in start[:4])
    names = {"x000": "utf-32-le", "000x": "utf-32-be", "x0": "utf-16-le", "0x": "utf-16-be"}
    return names.get(nulls) or names.get(nulls[:2], "")


def _by_bytes(path: Path) -> str:
    """The beginning of a fix, where the bytes of a file tell its encoding; else empty."""
    told = kind_of(path) == FILE and detect(lambda: _chunks(path)) is not None
    return f"let its bytes tell its encoding: --encoding {AUTO}; or " if told else ""


def _not_in(encoding: str, bad: _BadByte, path: Path, line: int) -> EncodingError:
    names = [name for name in ("utf-8", "utf-16", "gb18030") if _could_be(name, bad.sample)]
    names += filter(None, [_western(bad.sample)])
    wide = _unmarked(bad.sample)
    if "utf-16" in names:
        names = ["utf-16"]  # its mark is no other text's
    likely = (wide,) if wide else names
    others = tuple(name for name in likely if name != encoding) or (AUTO,)
    flags = " or ".join(f"--encoding {name}" for name in others)
    error = EncodingError(
        f"the byte 0x{bad.value.hex()} is not {encoding} text",
        place=f"{path}, line {line}, byte offset {bad.offset}",
        fix=f"{_by_bytes(path)}name the encoding that the file was written in, for instance "
        f"{flags}",
    )
    error.others = others
    return error


def _western(sample: bytes) -> str:
    """Windows 1252 where bytes are only its signs, as curly quotes; else Latin-1; or neither."""
    if not any(0x80 <= byte < 0xA0 for byte in sample):
        return "latin-1"
    return "cp1252" if _could_be("cp1252", sample) else ""


def _too_long(path: Path, line: int, limit: int) -> LongLineError:
    return LongLineError(
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
