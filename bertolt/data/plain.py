"""Files of plain text as rows: each line is a text; empty lines are no rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bertolt.data.lines import Seen, require_plain, text_lines
from bertolt.data.table_file import Row, TableFile

COLUMN = "text"


def open_plain(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """A file of lines as a table with the one column `text`.

    Raises:
        DataError: its first line is no text.
    """
    first = next(text_lines(path, encoding), "")
    require_plain(first, path)
    return TableFile(
        columns=[COLUMN],
        rows=partial(_rows, path, encoding, seen),
        usual={"text": (COLUMN, "each line is a text")},
    )


def _rows(path: Path, encoding: str, seen: Seen, names: object) -> Iterator[Row]:
    """The lines with something in them."""
    for number, line in enumerate(text_lines(path, encoding, seen), start=1):
        if line.strip():
            yield number, (line.rstrip("\r\n"),)
