"""The texts: a corpus without labels, 1,000 labelled reviews, and 5,000 that nobody has seen.

Test texts are drawn first. None of them is a line of the corpus, which is all that tokenizer and
encoders see, nor a review that is fine-tuned on: not even with other punctuation, spaces or case,
and not as a passage of a longer text. Nor does a line of the corpus repeat: the same line in
training and in the held-out part would make the held-out loss too good.
"""

from __future__ import annotations

import csv
import json
import random
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, TypeVar

from bertolt.base.console import info
from bertolt.base.errors import UsageError
from bertolt.base.files import write_text
from bertolt.data import sample_data

TEST, TRAIN, WATCHED = 5000, 1000, 300
SEED = 42
LEAST_PASSAGE = 12
"""Letters from which a test text counts as a passage: shorter ones ("很好") stand in many texts."""

T = TypeVar("T")


class Review(NamedTuple):
    """A text, and what its writer thought: "positive" or "negative"."""

    text: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the sample datasets."""

    news: int
    reviews: int
    distinct: int
    contradicted: int
    corpus_news: int
    corpus_reviews: int
    left_out: int
    test: int
    train: int
    watched: int


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The parts.

    Attributes:
        news, reviews: the corpus, a text a line.
        test: to measure on, once for each classifier.
        train: to fine-tune on.
        watched: what the curves of fine-tuning are drawn from; decides nothing.
    """

    news: list[str]
    reviews: list[str]
    test: list[Review]
    train: list[Review]
    watched: list[Review]
    counts: Counts


def write_texts(folder: Path, most: int | None) -> Counts:
    """Fetch the datasets, divide them, and write the parts; what is there is not done again.

    Args:
        folder: for the files.
        most: rows of each dataset to take; None: all.
    """
    record = folder / "counts.json"
    if record.exists():
        info(f"Done before: {folder}")
        return Counts(**json.loads(record.read_text(encoding="utf-8")))
    news = _news(sample_data.fetch("people-daily", progress=info))
    reviews = _reviews(sample_data.fetch("zh-reviews", progress=info))
    texts = divide(_some(news, most), _some(reviews, most))
    for name, lines in (("news", texts.news), ("reviews", texts.reviews)):
        write_text(folder / f"{name}.txt", "".join(f"{line}\n" for line in lines))
    for name, rows in (("test", texts.test), ("train", texts.train), ("watched", texts.watched)):
        _write_csv(folder / f"{name}.csv", rows)
    write_text(record, json.dumps(asdict(texts.counts), indent=2) + "\n")
    return texts.counts


def tell(counts: Counts) -> None:
    """Say which text is used for what."""
    info(
        f"{counts.reviews:,} reviews, {counts.distinct:,} distinct, {counts.contradicted} of them "
        "under both labels"
    )
    info(f"  {counts.test:,} to test on, {counts.train:,} to fine-tune on")
    info(
        f"  corpus: {counts.corpus_news:,} paragraphs of news and {counts.corpus_reviews:,} "
        f"reviews without labels; {counts.left_out:,} lines left out: test texts and repetitions"
    )
    info(
        "  no test text is in the corpus or among the reviews to fine-tune on, also without regard "
        "to punctuation and case: neither tokenizer nor encoder has seen one"
    )


def divide(news: Sequence[str], reviews: Sequence[Review]) -> Texts:
    """The parts, the same ones each time.

    Raises:
        UsageError: too few reviews for all parts to have some of both labels.
    """
    labels: dict[str, set[str]] = {}
    for review in reviews:
        labels.setdefault(review.text, set()).add(review.label)
    clear = _clear(labels)
    random.Random(SEED).shuffle(clear)
    # A third and a sixth at most, so that a small run has the same parts.
    size = min(TEST, len(clear) // 3)
    test, others = clear[:size], clear[size:]
    seen = _Forms([review.text for review in test])
    others = [
        review for review, shows in zip(others, seen.show_in(others), strict=True) if not shows
    ]
    size = min(TRAIN, len(clear) // 6)
    train, watched = others[:size], others[size : size + min(WATCHED, size)]
    if any(len({review.label for review in part}) < 2 for part in (test, train, watched)):
        raise UsageError("--rows leaves a part of the reviews with one label", fix="give more rows")
    lines = [*news, *labels]
    fresh = _fresh(lines, seen)
    corpus_news = [line for line, good in zip(news, fresh, strict=False) if good]
    corpus_reviews = [line for line, good in zip(labels, fresh[len(news) :], strict=True) if good]
    return Texts(
        news=corpus_news,
        reviews=corpus_reviews,
        test=test,
        train=train,
        watched=watched,
        counts=Counts(
            news=len(news),
            reviews=len(reviews),
            distinct=len(labels),
            contradicted=sum(len(found) > 1 for found in labels.values()),
            corpus_news=len(corpus_news),
            corpus_reviews=len(corpus_reviews),
            left_out=len(lines) - sum(fresh),
            test=len(test),
            train=len(train),
            watched=len(watched),
        ),
    )


def bare(text: str) -> str:
    """The letters and digits of a text, in one width and case; texts that have none stay whole."""
    kept = unicodedata.normalize("NFKC", text).casefold()
    return "".join(filter(str.isalnum, kept)) or text


def _clear(labels: dict[str, set[str]]) -> list[Review]:
    """One review of each bare form, where all that have this form have one label."""
    forms: dict[str, tuple[str, set[str]]] = {}
    for text, found in labels.items():
        forms.setdefault(bare(text), (text, set()))[1].update(found)
    return [Review(text, *found) for text, found in forms.values() if len(found) == 1]


def _fresh(lines: Sequence[str], seen: _Forms) -> list[bool]:
    """Which lines neither show a test text nor repeat one before them."""
    before: set[str] = set()
    fresh = []
    for line, shows in zip(lines, seen.show_in_texts(lines), strict=True):
        form = bare(line)
        fresh.append(not shows and form not in before)
        before.add(form)
    return fresh


class _Forms:
    """The bare forms of some texts, to be looked for in others."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.forms = {bare(text) for text in texts}

    def show_in(self, reviews: Sequence[Review]) -> list[bool]:
        return self.show_in_texts([review.text for review in reviews])

    def show_in_texts(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is one of these, or has one as a passage."""
        others = [bare(text) for text in texts]
        shows = [form in self.forms for form in others]
        starts = [0, *accumulate(len(form) + 1 for form in others)]
        joined = "\n".join(others)
        for form in self.forms:
            if len(form) >= LEAST_PASSAGE:
                for place in _places(joined, form):
                    shows[bisect_right(starts, place) - 1] = True
        return shows


def _places(text: str, part: str) -> Iterator[int]:
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + 1)


def _news(path: Path) -> list[str]:
    return path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()


def _reviews(path: Path) -> list[Review]:
    with path.open(encoding="utf-8", newline="") as file:
        return [Review(row["text"], row["label"]) for row in csv.DictReader(file)]


def _some(rows: list[T], most: int | None) -> list[T]:
    """At most so many rows, evenly from the whole: the labels come one after the other."""
    step = max(1, len(rows) // most) if most else 1
    return rows[::step][:most]


def _write_csv(path: Path, rows: Sequence[Review]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([Review._fields, *rows])
