"""Where answers go: the format that a name asks for, and the file with the writer for it."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from bertolt.base.errors import UsageError
from bertolt.base.files import opened_at
from bertolt.commands.excel_writer import Excel, require_excel
from bertolt.commands.parquet_writer import Parquet
from bertolt.commands.predict_options import Style
from bertolt.commands.vector_writer import Vectors
from bertolt.commands.writers import Format, Writer, text_writer
from bertolt.data.arrow import pa
from bertolt.data.formats import PACKED, TAGGED
from bertolt.tasks.predictor import Predictor

_FILES = ("parquet", "xlsx", "npy")
"""Formats that are no text: they are not packed again, and need a file."""
# CoNLL-U has eight columns more than a tag.
_ENDINGS: dict[str, Style] = {
    **dict.fromkeys(set(TAGGED) - {".conllu"}, "conll"),
    **{".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"},
    **{".parquet": "parquet", ".xlsx": "xlsx", ".npy": "npy"},
}
_WRITTEN = ".jsonl, .json, .csv, .tsv, .parquet, .xlsx or .conll, texts also with .gz or .zst"


def format_of(
    out: Path | None, style: Style | None = None, *, bom: bool = False, safe: bool = False
) -> Format:
    """The form of answers: as it is named, or as the name of the file ends; else JSON lines.

    Raises:
        UsageError: nothing is written under such a name, or in such a form, or the package for it
            is not installed.
    """
    device = out is not None and out.exists() and not out.is_file()
    packing = out.suffix.lower() if out is not None else ""
    packing = packing if packing in PACKED else ""
    inner = out.with_suffix("") if out is not None and packing else out
    ending = inner.suffix.lower() if inner is not None and not device else ""
    named = style or _ENDINGS.get(ending)
    if named is None and ending:
        raise UsageError(
            f"answers are not written as {ending}{packing}",
            place=f"--out {out}",
            fix=f"let the name end in {_WRITTEN}, vectors in .npy, or add --format",
        )
    named = named or "jsonl"
    if packing and named in _FILES:
        raise UsageError(
            f"a {named} file is packed in itself",
            place=f"--out {out}",
            fix=f"leave {packing} out of the name",
        )
    if named in _FILES and out is None:
        raise UsageError(
            f"{named} is no text for the terminal",
            place=f"--format {named}",
            fix=f"name a file: --out answers.{named}",
        )
    if named == "xlsx":
        require_excel()
    for flag, given in (("--bom", bom), ("--safe-csv", safe)):
        if given and named not in ("csv", "tsv"):
            raise UsageError(
                f"it is for CSV and TSV, and the answers are written as {named}",
                place=flag,
                fix=f"leave {flag} out, or add --format csv",
            )
    return Format(style=named, packing=packing, bom=bom, safe=safe)


@contextmanager
def file_writer(
    path: Path, predictor: Predictor, form: Format, *, gathered: Path | None = None, size: int = 0
) -> Iterator[Writer]:
    """A writer to a file, which is whole once the writer has ended and the block too.

    Args:
        path: the file.
        predictor: whose answers they are.
        form: how they are written.
        gathered: where a Parquet file grows until it is written; None: a file without a name.
        size: bytes that were written before, behind which it goes on; no Excel file can.
    """
    if form.style == "parquet":
        with Parquet.to(path, predictor, form, gathered, size) as writer:
            yield writer
    elif form.style == "npy":
        with Vectors.to(path, predictor, form, size) as writer:
            yield writer
    elif form.style == "xlsx":
        with Excel.to(path, predictor, form) as writer:
            yield writer
    else:
        with _text_file(path, form.packing, size) as target:
            yield text_writer(target, predictor, form)


@contextmanager
def _text_file(path: Path, packing: str, size: int) -> Iterator[TextIO]:
    """A file for text in UTF-8, packed or not; half a surrogate pair is written as its escape."""
    with opened_at(path, size) as raw:
        binary: Any = _Members(raw, packing, size) if packing else raw
        with io.TextIOWrapper(binary, "utf-8", errors="backslashreplace", newline="") as target:
            yield target


class _Members(io.BufferedIOBase):
    """Packs what is written, and ends a member of the file at each flush.

    Each member is unpacked by itself, and several behind each other are unpacked as one file, so
    what is packed can grow on behind the last of them.
    """

    def __init__(self, raw: BinaryIO, packing: str, size: int) -> None:
        self._raw, self._packing = raw, packing
        self._member: Any = None if size else self._begun()  # a file without text has one

    def _begun(self) -> Any:
        if self._packing == ".gz":
            return gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", mtime=0)
        return pa.CompressedOutputStream(pa.PythonFile(_Unclosed(self._raw), mode="w"), "zstd")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._member = self._begun() if self._member is None else self._member
        self._member.write(data)
        return len(data)

    def flush(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            member.close()
        self._raw.flush()


class _Unclosed:
    """A file that stays open when who writes to it closes it, as Arrow does."""

    closed = False

    def __init__(self, raw: BinaryIO) -> None:
        self.write, self.flush = raw.write, raw.flush

    def close(self) -> None:
        self.closed = True
