"""Scores of labels as lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bertolt.base.format import clean, columns, padded, plural, shorten
from bertolt.metrics import ClassScore

SHOWN_LABELS = 50
"""Most labels of the printed table; files and the report have all of them."""


def shown(name: str) -> str:
    """A label made fit for one line."""
    return clean(shorten(name, 30))


def score_table(
    title: str, labels: Sequence[str], scores: Sequence[ClassScore], unit: str = "rows"
) -> Iterator[str]:
    """Precision, recall and F1 of each label with 95% intervals."""
    names = [shown(name) for name in labels[:SHOWN_LABELS]]
    width = max(map(columns, [title, *names]))
    head = padded(title, width)
    yield f"{head}  {'precision (95%)':<24}  {'recall (95%)':<24}  {'F1':<6}  {unit}"
    for name, score in zip(names, scores, strict=False):
        yield f"{padded(name, width)}  {_score_columns(score)}"
    if len(labels) > len(names):
        yield f"… and {plural(len(labels) - len(names), f'more {title}')}"


def interval_words(value: float | None, interval: tuple[float, float] | None) -> str:
    """0.85 with its ends as "0.8500 (0.8300-0.8700)"; "to" stands between ends below 0."""
    if interval is None or value is None:
        return score_words(value)
    return f"{score_words(value)} ({ends_words(interval)})"


def ends_words(interval: tuple[float, float] | None) -> str:
    """The ends alone, as "0.8300-0.8700"; n/a without any."""
    if interval is None:
        return score_words(None)
    return (" to " if min(interval) < 0 else "-").join(map(score_words, interval))


def score_words(value: float | None) -> str:
    """Four digits behind the point; four that count for numbers in very small or large units."""
    if value is None or math.isnan(value):
        return "n/a"
    usual = not value or 1e-3 <= abs(value) < 1e6
    return f"{value:.4f}" if usual else f"{value:.4g}"


def _score_columns(score: ClassScore) -> str:
    f1 = "n/a" if score.f1 is None else f"{score.f1:.4f}"
    precision = interval_words(score.precision, score.precision_interval)
    recall = interval_words(score.recall, score.recall_interval)
    return f"{precision:<24}  {recall:<24}  {f1:<6}  {score.support:,}"
