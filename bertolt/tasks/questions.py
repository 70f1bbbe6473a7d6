"""Questions on a text: its windows, where an answer stands in them, and the best answers of them.

Each window holds the whole question and a stretch of the text; stretches overlap, so that an answer
which does not fit in one of them may fit in the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import plural
from bertolt.data.encode import EncodedExample, EncodedTexts, Window
from bertolt.data.long import LongTexts, shared, stretches
from bertolt.data.spelling import quoted
from bertolt.data.table_file import BadRow
from bertolt.tokenization.batch_encoding import EncodedWords, PairFrame

OVERLAP = 128
"""Most tokens that two neighbouring windows share."""
BEST = 5
"""Answers that are told of each question."""
WINDOWS = LongTexts(how="window")
_NOWHERE = (-1, -1)


class Gold(NamedTuple):
    """A true answer: its characters in the text, from `start` to `end`."""

    start: int
    end: int
    text: str


def golds_of(example: Mapping[str, Any]) -> list[Gold]:
    """The true answers of a row; one whose place nobody said stands where its text stands first."""
    golds = []
    for answer in example["label"]:
        text, start = answer["text"], answer["start"]
        start = example["text_pair"].index(text) if start is None else start
        golds.append(Gold(start, start + len(text), text))
    return golds


def row_fault(example: Mapping[str, Any]) -> BadRow | None:
    """An answer that does not stand where it is said to; None if all do."""
    context = example["text_pair"]
    for answer in example.get("label", ()):
        text, start = answer["text"], answer["start"]
        if start is None and text in context:
            continue
        if start is not None and start >= 0 and context[start : start + len(text)] == text:
            continue
        where = context.find(text)
        if where < 0:
            return BadRow("answer not in its text", f"the answer {quoted(text)} is not in its text")
        there = quoted(context[max(start, 0) : max(start, 0) + len(text)])
        return BadRow(
            "answer at another place",
            f"the answer {quoted(text)} is said to begin at character {start}, where the text has "
            f"{there}; it begins at {where}",
        )
    return None


def ambiguous(example: Mapping[str, Any]) -> bool:
    """Whether an answer without a place stands in the text several times."""
    context = example["text_pair"]
    return any(a["start"] is None and context.count(a["text"]) > 1 for a in example["label"])


# ---- windows


def windows_of(
    question: EncodedWords,
    context: EncodedWords,
    frame: PairFrame,
    limit: int,
    long: LongTexts = WINDOWS,
) -> EncodedExample:
    """The question with each stretch of the text, or with the first one where the text is cut; a
    question takes half of the room at most, or what the text leaves."""
    room = limit - len(frame)
    asked = question.ids[: max(1, room // 2, room - len(context.ids))]
    stretch = max(1, room - len(asked))
    overlap = shared(stretch, long.stride, min(OVERLAP, stretch // 2))
    places = [
        _NOWHERE if word is None else (offsets[0], offsets[1])
        for word, offsets in zip(context.words, context.offsets, strict=True)
    ]
    before = [_NOWHERE] * (len(frame.before) + len(asked) + len(frame.between))
    after = [_NOWHERE] * len(frame.after)
    windows, lost = [], 0
    for part in stretches(len(context.ids), stretch, overlap):
        ids, segments = frame.around(asked, context.ids[part])
        windows.append(Window(ids, segments, [*before, *places[part], *after]))
        if long.how == "truncate":
            lost = max(0, len(context.ids) - stretch)
            break
    length = len(frame) + len(question.ids) + len(context.ids)
    return EncodedExample(windows, length, (len(question.ids) - len(asked), lost))


def targets_of(
    golds: Sequence[Gold], context: str, rows: EncodedTexts, windows: range
) -> NDArray[np.int64]:
    """(W, 2) first and last token of the first answer that each window holds; 0 and 0 for none."""
    targets = np.zeros((len(windows), 2), dtype=np.int64)
    for number, window in enumerate(windows):
        places = rows.place_of(window)
        tokens = np.flatnonzero(places[:, 0] >= 0)
        if not len(tokens):
            continue
        first = 0 if number == 0 else int(places[tokens[0], 0])
        last = len(context) if number == len(windows) - 1 else int(places[tokens[-1], 1])
        for start, end, _ in golds:
            inside = tokens[(places[tokens, 1] > start) & (places[tokens, 0] < end)]
            if first <= start and end <= last and len(inside):
                targets[number] = inside[0], inside[-1]
                break
    return targets


def examples_with_windows(
    examples: Iterator[dict[str, Any]], rows: EncodedTexts
) -> Iterator[tuple[dict[str, Any], range]]:
    """Each row with its windows."""
    for example, first, last in zip(examples, rows.firsts[:-1], rows.firsts[1:], strict=True):
        yield example, range(int(first), int(last))


# ---- answers


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """What the windows of a question say.

    Attributes:
        spans: the best answers, the best one first: characters, from start to end, and probability.
        best: the log-odds of the first of them; -inf without any.
        none: the log-odds that there is no answer.
        none_probability: of that.
    """

    spans: list[tuple[int, int, float]]
    best: float
    none: float
    none_probability: float


def best_answers(
    windows: Sequence[NDArray[Any]], places: Sequence[NDArray[np.int32]], longest: int, none: bool
) -> Candidates:
    """The most probable answers over all windows.

    Log-odds of an answer are those of its first and its last token, added up; that there is none is
    what the first token of a window says, and of several windows the one that says it least.
    Probabilities are shares over every answer of up to `longest` characters in every window, and
    over none if that may be. One that stands in two windows has what both give it.

    Args:
        windows: (L, 2) log-odds of each token to be the first and the last one of the answer.
        places: (L, 2) characters of the tokens, -1 for those outside of the text.
        longest: most characters of an answer.
        none: whether there may be no answer.
    """
    nothing = min(float(ends[0].sum()) for ends in windows)
    found: dict[tuple[int, int], list[float]] = {}
    totals = [nothing] if none else []
    for ends, where in zip(windows, places, strict=True):
        tokens = where[:, 0] >= 0
        if tokens.any():
            totals.append(_of_window(ends[tokens], where[tokens], longest, found))
    whole = float(np.logaddexp.reduce(totals)) if totals else nothing
    ranked = sorted(found.items(), key=lambda item: (-max(item[1]), item[0]))[:BEST]
    spans = [(*span, float(np.exp(np.logaddexp.reduce(odds) - whole))) for span, odds in ranked]
    return Candidates(
        spans=spans,
        best=max(ranked[0][1]) if ranked else -np.inf,
        none=nothing,
        none_probability=float(np.exp(nothing - whole)) if none else 0.0,
    )


def _of_window(
    ends: NDArray[Any],
    places: NDArray[np.int32],
    longest: int,
    found: dict[tuple[int, int], list[float]],
) -> float:
    """Add the best answers of one window to `found`; the log-odds of all of them together."""
    first, last = ends.astype(np.float64).T
    starts, stops = places.T
    odds = first[:, None] + last[None, :]
    allowed = np.triu(stops[None, :] - starts[:, None] <= longest)
    # A token may be longer than any answer was.
    np.fill_diagonal(allowed, True)
    odds[~allowed] = -np.inf
    # The best ones of all stand in the rows whose own best are the best.
    rows = np.argsort(-odds.max(axis=1), kind="stable")[:BEST]
    flat = odds[rows].ravel()
    for place in np.argsort(-flat, kind="stable")[: BEST * 2]:
        row, stop = divmod(int(place), len(last))
        if np.isfinite(flat[place]):
            span = int(starts[rows[row]]), int(stops[stop])
            found.setdefault(span, []).append(float(flat[place]))
    peak = float(odds.max())
    return peak + float(np.log(np.exp(odds - peak).sum()))


def lost_words(lost: Sequence[str], count: int) -> dict[str, str]:
    """What to tell of answers that lie in no window."""
    shown = "; ".join(lost)
    return {
        "claim": f"{plural(count, 'answer lies', 'answers lie')} in no window",
        "detail": f"They are longer than what two windows share, or stand where their text is cut; "
        f"they are learned as if there were no answer, and count as missed: {shown}. A larger "
        "--max-length helps, where the model has room.",
    }
