"""Where answers go: the format that a name asks for, and the file with the writer for it."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from bertolt.base.errors import UsageError
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
def file_writer(path: Path, predictor: Predictor, form: Format) -> Iterator[Writer]:
    """A writer to a file, which is whole once the writer has ended and the block too."""
    if form.style == "parquet":
        with Parquet.to(path, predictor, form) as writer:
            yield writer
    elif form.style == "npy":
        with Vectors.to(path, predictor, form) as writer:
            yield writer
    elif form.style == "xlsx":
        with Excel.to(path, predictor, form) as writer:
            yield writer
    else:
        with _text_file(path, form.packing) as target:
            yield text_writer(target, predictor, form)


@contextmanager
def _text_file(path: Path, packing: str) -> Iterator[TextIO]:
    """A file for text in UTF-8, packed or not; half a surrogate pair is written as its escape."""
    with path.open("wb") as raw:
        binary: Any = raw
        if packing == ".gz":
            binary = gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)
        elif packing == ".zst":
            binary = pa.CompressedOutputStream(pa.PythonFile(raw, mode="w"), "zstd")
        with io.TextIOWrapper(binary, "utf-8", errors="backslashreplace", newline="") as target:
            yield target
