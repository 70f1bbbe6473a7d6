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


def characters(sizes: Sizes, trainable: Callable[[Row], bool] = lambda row: True) -> Parts:
    """The same rows without their words: a tag for each character."""
    parts = names(sizes, trainable)
    return Parts(
        *([*map(_unworded, rows)] for rows in (parts.train, parts.watched, parts.test)), []
    )


def _unworded(row: Row) -> Row:
    """The characters behind the first of a name are inside of it."""
    tags = [
        tag if not place or tag == "O" else f"I-{tag.partition('-')[2]}"
        for word, tag in zip(row["tokens"], row["tags"], strict=True)
        for place in range(len(word))
    ]
    return {**row, "tokens": list(paragraph(row)), "tags": tags}


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
    parts = divide(_halved(), lambda row: f"{row['text']} {row['end']}", sizes)
    return Parts(
        _with_choices(parts.train), _with_choices(parts.watched), _with_choices(parts.test), []
    )


def reviews(sizes: Sizes) -> Parts:
    """Sentences about films, positive or negative."""
    rows = [{"text": row["text"], "label": row["label"]} for row in _films()]
    return divide(rows, lambda row: row["text"], sizes)


GAP = 1.0  # between the ratings of the sentences of a pair


def better(sizes: Sizes) -> Parts:
    """Pairs of sentences about films, and which one is rated higher: the first or the second."""
    of = Sizes(train=3 * sizes.train, watched=3 * sizes.watched, test=3 * sizes.test)
    parts = divide(_films(), lambda row: str(row["text"]), of)
    return Parts(
        _compared(parts.train)[: sizes.train],
        _compared(parts.watched)[: sizes.watched],
        _compared(parts.test)[: sizes.test],
        [],
    )


def _compared(rows: Sequence[Row]) -> list[Row]:
    """Each row with the one behind it, each in one pair, where their ratings are apart."""
    return [
        {
            "text": one["text"],
            "text_pair": other["text"],
            "label": "first" if one["rating"] > other["rating"] else "second",
        }
        for one, other in zip(rows[::2], rows[1::2], strict=False)
        if abs(one["rating"] - other["rating"]) >= GAP
    ]


def halves(sizes: Sizes) -> Parts:
    """Two halves each, of one sentence (`is_next`) or of two."""
    parts = divide(_halved(), lambda row: f"{row['text']} {row['end']}", sizes)
    return Parts(_paired(parts.train), _paired(parts.watched), _paired(parts.test), [])


def _paired(rows: Sequence[Row]) -> list[Row]:
    """Every second half goes with its first one, the others with those of other rows."""
    rest = [row["end"] for row in rows[1::2]]
    ends = [row["end"] for row in rows]
    ends[1::2] = [*rest[1:], *rest[:1]]
    return [
        {"text": row["text"], "text_pair": end, "label": "not_next" if odd % 2 else "is_next"}
        for odd, (row, end) in enumerate(zip(rows, ends, strict=True))
    ]


def _films() -> list[Row]:
    path = sample_data.fetch("movie-sentences")
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {"text": row["text"], "label": row["label"], "rating": float(row["rating"])}
            for row in csv.DictReader(file)
        ]


def _halved() -> list[Row]:
    texts = [row["text"].split() for row in _films()]
    return [
        {"text": " ".join(words[: len(words) // 2]), "end": " ".join(words[len(words) // 2 :])}
        for words in texts
        if len(words) >= SHORTEST
    ]


def _with_choices(rows: Sequence[Row]) -> list[Row]:
    draw, made = random.Random(SEED), []
    for row in rows:
        others = [each["end"] for each in draw.sample(rows, CHOICES + 1) if each is not row]
        choices, place = others[: CHOICES - 1], draw.randrange(CHOICES)
        choices.insert(place, row["end"])
        made.append({"text": row["text"], "choices": choices, "label": place})
    return made


def speech(sizes: Sizes, trainable: Callable[[Row], bool] = lambda row: True) -> Parts:
    """The same paragraphs in the same order with parts of speech, so that of the parts of `names`
    the first rows are scored."""
    return divide(_lines("people-daily"), paragraph, sizes, trainable)


QUESTIONS = {
    "PER": "文中提到的人是谁？",
    "LOC": "文中提到的地方是哪里？",
    "ORG": "文中提到的是哪个机构？",
}
CONTEXT = (20, 500)  # characters
_TESTED = 1200  # paragraphs of which scored questions are made; `names` scores as many


def questions(sizes: Sizes) -> Parts:
    """Questions for the one person, place or organisation of a paragraph; a quarter has none."""
    paragraphs = names(Sizes(train=len(QUESTIONS) * 10**4, watched=_TESTED, test=_TESTED))
    return Parts(
        _asked(paragraphs.train)[: sizes.train],
        _asked(paragraphs.watched)[: sizes.watched],
        _asked(paragraphs.test)[: sizes.test],
        [],
    )


def _asked(rows: Sequence[Row]) -> list[Row]:
    """A question for each paragraph that has one name of a kind, and a third as many for kinds of
    which others have no name."""
    draw = random.Random(SEED)
    some: list[Row] = []
    none: list[Row] = []
    for row in rows:
        context, places = paragraph(row), _named(row)
        if not CONTEXT[0] <= len(context) <= CONTEXT[1]:
            continue
        one = [kind for kind in QUESTIONS if len(set(places.get(kind, {}).values())) == 1]
        empty = [kind for kind in QUESTIONS if kind not in places]
        # Organisations are rare, so that none of them is left out.
        kind = "ORG" if "ORG" in one else draw.choice(one or empty or [""])
        answers = places.get(kind, {})
        made = {
            "question": QUESTIONS.get(kind, ""),
            "context": context,
            "answers": {"text": list(answers.values()), "answer_start": list(answers)},
        }
        if kind and one:
            some.append(made)
        elif kind:
            none.append(made)
    asked = [*some, *none[: len(some) // 3]]
    draw.shuffle(asked)
    return asked


def _named(row: Row) -> dict[str, dict[int, str]]:
    """The names of each kind in a paragraph, by the character at which each begins."""
    places: dict[str, dict[int, str]] = {}
    start, begun, kind = 0, 0, ""
    for word, tag in zip(row["tokens"], row["tags"], strict=True):
        if tag.startswith("B-"):
            begun, kind = start, tag[2:]
            places.setdefault(kind, {})[begun] = word
        elif tag.startswith("I-"):
            places[kind][begun] += word
        start += len(word)
    return places


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
