"""The rows of each task: to train on, to watch and to choose thresholds on, and to score.

The parts share no text, also without regard to punctuation, width and case, and nor does the corpus
that the Chinese encoder is pretrained on hold a text of the scored part.
"""

from __future__ import annotations

import csv
import json
import random
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertolt.base.files import write_text
from bertolt.data import sample_data

SEED = 0
LABELS = ("positive", "negative", "strong", "disputed")
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Rows of each part."""

    train: int
    watched: int
    test: int


@dataclass(frozen=True)
class Parts:
    """What `divide` gives.

    Attributes:
        train, watched, test: rows.
        rest: the rows of no part, each text once.
    """

    train: list[Row]
    watched: list[Row]
    test: list[Row]
    rest: list[Row]


def bare(text: str) -> str:
    """The letters and digits of a text, in one width and case; a text without any stays whole."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, folded)) or text


def divide(
    rows: Iterable[Row],
    text_of: Callable[[Row], str],
    sizes: Sizes,
    trainable: Callable[[Row], bool] = lambda row: True,
) -> Parts:
    """Shuffle the distinct rows and deal them out: test rows first, whatever their length.

    Args:
        rows: of a data set.
        text_of: the text of a row.
        sizes: rows of each part; fewer if there are not enough.
        trainable: whether a row may be trained on or watched.
    """
    distinct = list({bare(text_of(row)): row for row in reversed(list(rows))}.values())[::-1]
    random.Random(SEED).shuffle(distinct)
    test, others = distinct[: sizes.test], distinct[sizes.test :]
    usable = [row for row in others if trainable(row)]
    watched, train = usable[: sizes.watched], usable[sizes.watched :][: sizes.train]
    used = {id(row) for row in (*train, *watched)}
    return Parts(train, watched, test, [row for row in others if id(row) not in used])


def names(sizes: Sizes, trainable: Callable[[Row], bool] = lambda row: True) -> Parts:
    """Paragraphs of the People's Daily with BIO tags of their names."""
    return divide(_lines("people-daily-names"), paragraph, sizes, trainable)


def ratings(sizes: Sizes) -> Parts:
    """Sentences with their mean rating and the labels that follow from the single ratings."""
    rows = (
        {name: row[name] for name in ("id", "text", "rating", "labels")}
        for row in _lines("rated-texts")
    )
    return divide(rows, lambda row: str(row["text"]), sizes)


CHOICES = 4
SHORTEST = 10  # words of a sentence that is parted


def endings(sizes: Sizes) -> Parts:
    """First halves of sentences about films, each with its second half and three of other ones.

    The other halves are of sentences of the same part, so that no part knows of another.
    """
    path = sample_data.fetch("movie-sentences")
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row["text"].split() for row in csv.DictReader(file)]
    halves = [
        {"text": " ".join(words[: len(words) // 2]), "end": " ".join(words[len(words) // 2 :])}
        for words in texts
        if len(words) >= SHORTEST
    ]
    parts = divide(halves, lambda row: f"{row['text']} {row['end']}", sizes)
    return Parts(
        _with_choices(parts.train), _with_choices(parts.watched), _with_choices(parts.test), []
    )


def _with_choices(rows: Sequence[Row]) -> list[Row]:
    draw, made = random.Random(SEED), []
    for row in rows:
        others = [each["end"] for each in draw.sample(rows, CHOICES + 1) if each is not row]
        choices, place = others[: CHOICES - 1], draw.randrange(CHOICES)
        choices.insert(place, row["end"])
        made.append({"text": row["text"], "choices": choices, "label": place})
    return made


def paragraph(row: Row) -> str:
    """The text of tagged words."""
    return "".join(row["tokens"])


def _lines(name: str) -> Iterable[Row]:
    path = sample_data.fetch(name)
    return map(json.loads, path.read_text(encoding="utf-8").splitlines())


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """JSON lines, as every program here reads them."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_corpus(path: Path, parts: Parts) -> Path:
    """The paragraphs that are not scored, one a line."""
    rows = (*parts.train, *parts.watched, *parts.rest)
    write_text(path, "".join(f"{paragraph(row)}\n" for row in rows))
    return path
