"""The kinds of files that are read as rows, by the endings of their names.

A kind is one file, which has a function of the type `Open`, and a row of a table here. All kinds
take a bounded amount of memory however large the file is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bertolt.base.errors import DataError, UsageError
from bertolt.data.conll import open_conll
from bertolt.data.delimited import open_csv, open_tsv
from bertolt.data.encodings import AUTO
from bertolt.data.excel import open_excel
from bertolt.data.json_records import open_json, open_json_lines
from bertolt.data.lines import Seen, encoding_of, require_file
from bertolt.data.parquet import open_parquet
from bertolt.data.table_file import AS_FOUND, Layout, TableFile

Open = Callable[[Path, str, Seen], TableFile]
"""Looks into a file in an encoding, and tells while its rows are read how far they are."""

KINDS: dict[str, Open] = {
    ".csv": open_csv,
    ".tsv": open_tsv,
    ".json": open_json,
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
    ".parquet": open_parquet,
    ".xlsx": open_excel,
}
"""Kinds of tables."""
_CELLS: dict[str, Callable[[Path, str, Seen, Layout], TableFile]] = {
    ".csv": open_csv,
    ".tsv": open_tsv,
    ".xlsx": open_excel,
}
"""The kinds whose layout can be said."""
TAGGED: dict[str, Open] = dict.fromkeys(
    (".conll", ".conll2003", ".conllu", ".bio", ".iob", ".iob2"), open_conll
)
"""Kinds of files with one word a line."""
PACKED = (".gz", ".zst")
TEXTS = (".txt", ".text")
"""Kinds that have no columns."""
_BINARY = (".parquet", ".xlsx")  # kinds with an encoding of their own


def open_source(
    path: Path,
    encoding: str = "utf-8",
    seen: Seen = None,
    kinds: Mapping[str, Open] | None = None,
    layout: Layout = AS_FOUND,
) -> TableFile:
    """Look into a file: what kind it is, by its name, and which columns it has.

    Args:
        path: the file.
        encoding: of the text kinds; "auto" finds it, and says so in `found`.
        seen: called while JSON lines are read, with how many bytes of the file have been so far.
        kinds: more endings of names, and how such files are opened.
        layout: of a table of cells.

    Raises:
        DataError: it is missing, no file, of another kind, empty, damaged or not in `encoding`, or
            its columns cannot be told apart.
        UsageError: there is no such encoding, or files of this kind have no such layout.
    """
    require_file(path)
    suffix = ending(path)
    opener = (KINDS | TAGGED | dict(kinds or {})).get(suffix)
    if opener is None:
        raise _not_read(path, suffix)
    actual = encoding if suffix in _BINARY else encoding_of(path, encoding)
    if layout == AS_FOUND:
        source = opener(path, actual, seen)
    else:
        _require_laid_out(path, suffix, layout)
        source = _CELLS[suffix](path, actual, seen, layout)
    if encoding != AUTO or suffix in _BINARY:
        return source
    return replace(source, found={**source.found, "encoding": f"{actual}, by its bytes"})


def _not_read(path: Path, suffix: str) -> DataError:
    """The error for a file of another kind."""
    fix = (
        f"give a file that ends in {', '.join(KINDS | TAGGED)}, or one of the text kinds with .gz "
        "or .zst"
    )
    if suffix in (".xls", ".xlsb", ".xlsm", ".ods"):
        fix = "save it as .xlsx in Excel, or export the sheet as CSV"
    elif suffix in TEXTS:
        fix = f"{fix}; .txt files are read in a folder with a folder for each class"
    return DataError(
        f"files ending in {suffix!r} are not read" if suffix else "the name has no ending",
        place=str(path),
        fix=fix,
    )


def _require_laid_out(path: Path, suffix: str, layout: Layout) -> None:
    """Refuse a layout that files of this kind do not have.

    Raises:
        UsageError: of the option that is too much.
    """
    book = _CELLS.get(suffix) is open_excel
    given = {
        "--no-header": (not layout.header, suffix in _CELLS),
        "--sep": (layout.separator is not None, suffix in _CELLS and not book),
        "--sheet": (layout.sheet is not None, book),
        "--skip-rows": (layout.skip > 0, suffix in _CELLS),
    }
    for option, (is_given, fits) in given.items():
        if is_given and not fits:
            raise UsageError(
                f"{option} says nothing of files ending in {suffix!r}",
                place=str(path),
                fix=f"leave {option} out",
            )


def ending(path: Path) -> str:
    """The ending of a name that says its kind, without that of a packer, in small letters."""
    packed = path.suffix.lower() in PACKED
    return (path.with_suffix("").suffix if packed else path.suffix).lower()
