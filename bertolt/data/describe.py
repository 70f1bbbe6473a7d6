"""What the user is told about a file and its texts, the same words for every command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bertolt.base.console import info
from bertolt.base.format import clean, plural, shorten
from bertolt.data.columns import FLAGS
from bertolt.data.encode import EncodedTexts
from bertolt.data.load import Table

SHOWN_ROWS = 5
SHOWN_LABELS = 12
# What a file may be found to be, beside its columns, and how it is told.
_NOTES = {
    "encoding": "encoding:",
    "sheet": "sheets:",
    "delimiter": "cells parted by",
    "quotes": "quotes:",
    "sentences": "sentences:",
    "merged": "merged cells:",
    "files": "files:",
}


def shown(name: str, limit: int = 40) -> str:
    """A name from a file made fit for one line: no control characters, not too long."""
    return clean(shorten(name, limit))


def describe_table(table: Table, flags: Mapping[str, str] | None = None) -> None:
    """Say how many rows were read, from which columns, and which were left out and why.

    Args:
        table: as it was read.
        flags: the option that names a column, by role, where it is not `--text` or `--label`.
    """
    info(f"{table.path}: {plural(table.rows_read, 'row')} read")
    for role, columns in table.roles.items():
        flag = (flags or {}).get(role, FLAGS[role])
        how = table.found.get(role, f"named by {flag}")
        what = "second texts" if role == "text_pair" else f"{role}s"
        names = ", ".join(f"'{shown(column)}'" for column in columns[:SHOWN_LABELS])
        more = f" and {len(columns) - SHOWN_LABELS} more" if len(columns) > SHOWN_LABELS else ""
        info(f"  {what} from the column{'s' * (len(columns) > 1)} {names}{more} ({how})")
    for what, words in _NOTES.items():
        if what in table.found:
            info(f"  {words} {table.found[what]}")
    for reason, rows in table.dropped.items():
        what = "no answer to" if table.unanswered else "dropped"
        info(f"  {what} {plural(len(rows), 'row')}: {reason} ({_row_numbers(table, rows)})")


def _row_numbers(table: Table, rows: Sequence[int]) -> str:
    """The first of some rows, and their lines where those have other numbers."""
    first, several = rows[:SHOWN_ROWS], "s" * (len(rows) > 1)
    if table.parts:
        return "; ".join(map(table.row_words, first)) + "; …" * (len(rows) > SHOWN_ROWS)
    lines = [table.lines[row - 1] for row in first] if table.lines else first
    named = {"row": first} | ({"line": lines} if lines != first else {})
    end = ", …" * (len(rows) > SHOWN_ROWS)
    return "; ".join(f"{w}{several} {', '.join(map(str, n))}{end}" for w, n in named.items())


def describe_rows(what: str, rows: EncodedTexts, counts: str = "") -> None:
    """Say how many texts there are, with which labels, how long they are, and what is cut.

    Args:
        what: they are, as in "Training".
        rows: the encoded texts.
        counts: how often which label occurs, in words.
    """
    # Of a row of several texts the limit is of each, and the length of all of them.
    several = rows.account.several_documents
    noun, of_what = ("row", "row, all its texts together") if several else ("text", "text")
    info(f"{what}: {plural(rows.examples, noun)}{f' ({counts})' if counts else ''}")
    lengths = rows.full_lengths
    middle, most = np.percentile(lengths, [50, 95], method="nearest")
    info(f"  tokens a {of_what}: median {middle}, 95% up to {most}, longest {lengths.max()}")
    info(f"  {rows.account}")
