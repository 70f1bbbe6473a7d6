"""CoNLL files: a word a line with its tags behind it, and an empty line behind each sentence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bertolt.base.errors import DataError
from bertolt.data.lines import LINE_LIMIT, Seen, empty_file, text_lines
from bertolt.data.table_file import BadRow, Row, TableFile


def open_conll(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """Columns are called by their numbers from 1: the word is the first, the tag the last."""
    first = next((cells for _, cells in _conll_lines(path, encoding) if cells), None)
    if first is None:
        raise empty_file(path)
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
