"""CoNLL files: a word a line with its tags behind it, and an empty line behind each sentence.

Columns are called by their numbers from 1. The word is the first and the tag the last, unless the
first numbers the words of each sentence: the word is then the second, and in the ten columns of
CoNLL-U and CoNLL-X the tag is the fourth, the part of speech.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bertolt.base.errors import DataError
from bertolt.base.format import plural
from bertolt.data.lines import Seen, empty_file, require_plain, text_lines
from bertolt.data.table_file import BadRow, Row, TableFile

LONG_SENTENCE = 1000  # words; a longer one is told, for its end may have been left out

_TREEBANK_WIDTH = 10
# Several words written as one ("1-2"), or a word that is not written ("1.1").
_NO_WORD = re.compile(r"[0-9]+[-.][0-9]+")


class _Layout(NamedTuple):
    """How lines are read: parted by tabs or by white space, into how many columns."""

    by_tabs: bool
    width: int
    numbered: bool = False


def open_conll(path: Path, encoding: str, seen: Seen = None) -> TableFile:
    """The columns of the first line of words, and which of them hold the words and the tags."""
    first = _first_line(path, encoding)
    by_tabs = "\t" in first
    layout = _Layout(by_tabs, len(first.split("\t") if by_tabs else first.split()))
    if layout.width < 2:
        raise DataError(
            "its first line holds a word and no tag",
            place=str(path),
            fix="part the word and its tags by white space or tabs",
        )
    sentence, ended = _first_sentence(path, encoding, layout)
    layout = layout._replace(numbered=_is_numbered(sentence, layout))
    rows = partial(_conll_rows, path, encoding, layout)
    columns = [str(number) for number in range(1, layout.width + 1)]
    notes = {} if ended else {"sentences": _without_end(len(sentence))}
    return TableFile(columns=columns, rows=rows, found=notes, usual=_usual_columns(layout))


def _first_line(path: Path, encoding: str) -> str:
    """The first line of words; one that begins with # only where no other line does not."""
    first = ""
    for line in text_lines(path, encoding):
        if "\0" in line[:2]:
            require_plain(line[:4], path)
        bare = line.rstrip("\r\n")
        if _is_end(bare):
            continue
        if not bare.startswith("#"):
            return bare
        first = first or bare
    if not first:
        raise empty_file(path)
    return first


def _first_sentence(path: Path, encoding: str, layout: _Layout) -> tuple[list[list[str]], bool]:
    """The lines of the first sentence as far as a long one goes, and whether an end comes."""
    sentence: list[list[str]] = []
    for _, cells in _conll_lines(path, encoding, layout):
        if cells:
            sentence.append(cells)
        elif sentence:
            return sentence, True
        if len(sentence) > LONG_SENTENCE:
            break
    return sentence, False


def _is_numbered(sentence: Sequence[Sequence[str]], layout: _Layout) -> bool:
    """Whether the first column counts the words of a sentence."""
    numbers = [cells[0] for cells in sentence if not _NO_WORD.fullmatch(cells[0])]
    counts = numbers == [str(number) for number in range(1, len(numbers) + 1)]
    treebank = layout.by_tabs and layout.width == _TREEBANK_WIDTH
    return counts and layout.width > 2 and (len(numbers) > 1 or treebank)


def _usual_columns(layout: _Layout) -> dict[str, tuple[str, str]]:
    """The columns of the words and of the tags, with the reason."""
    last = str(layout.width)
    if not layout.numbered:
        return {
            "text": ("1", "the first column of a CoNLL file"),
            "label": (last, "the last column of a CoNLL file"),
        }
    label = (last, "the last column of a CoNLL file")
    if layout.width == _TREEBANK_WIDTH:
        label = ("4", "the parts of speech of CoNLL-U")
    return {"text": ("2", "the first column numbers the words"), "label": label}


def _without_end(words: int) -> str:
    """What is told of a file in which no sentence ends."""
    if words > LONG_SENTENCE:
        return f"the first has more than {LONG_SENTENCE:,} words; an empty line has to end each"
    return f"all {plural(words, 'word')} are one; an empty line has to end each"


def _is_end(bare: str) -> bool:
    """Whether a line ends a sentence: an empty one, or the beginning of a document."""
    return not bare.strip() or bare.startswith("-DOCSTART-")


def _conll_lines(path: Path, encoding: str, layout: _Layout) -> Iterator[tuple[int, list[str]]]:
    """Lines with their numbers, parted; an empty list for the end of a sentence."""
    begun = False
    for number, line in enumerate(text_lines(path, encoding), start=1):
        bare = line.rstrip("\r\n")
        if _is_end(bare):
            begun = False
            yield number, []
            continue
        cells = bare.split("\t") if layout.by_tabs else bare.split()
        if bare.startswith("#") and _is_comment(bare, cells, layout, begun):
            continue
        if layout.numbered and _NO_WORD.fullmatch(cells[0]):
            continue
        begun = True
        yield number, cells


def _is_comment(bare: str, cells: Sequence[str], layout: _Layout, begun: bool) -> bool:
    """Whether a line that begins with # is no word: `# text = …`, `# newpar`.

    A word that is # alone looks like it; it has all columns, or stands inside a sentence.
    """
    if layout.numbered:
        return True
    return bare.startswith("# ") and (" = " in bare or (not begun and len(cells) != layout.width))


def _conll_rows(path: Path, encoding: str, layout: _Layout, names: Sequence[str]) -> Iterator[Row]:
    """Sentences with the line on which each begins, as a list for each column."""
    picked = [int(name) - 1 for name in names]
    start, sentence = 0, list[list[str]]()
    bad: BadRow | None = None
    lines = _conll_lines(path, encoding, layout)
    for number, cells in itertools.chain(lines, [(0, list[str]())]):
        if cells:
            start = start or number
            if len(cells) != layout.width and bad is None:
                bad = _ragged(number, len(cells), layout)
            sentence.append(cells)
        elif sentence:
            yield start, bad or tuple([[cells[index] for cells in sentence] for index in picked])
            start, sentence, bad = 0, [], None


def _ragged(line: int, columns: int, layout: _Layout) -> BadRow:
    parted = "tabs" if layout.by_tabs else "white space"
    return BadRow(
        "ragged sentence",
        f"line {line} has {plural(columns, 'column')}, and the first line has {layout.width}, "
        f"parted by {parted}",
    )
