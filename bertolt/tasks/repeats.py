"""Rows that repeat each other, word for word or nearly: within a file and over the parts of a run.

All files are looked at together, so that a row to measure on that nearly stands among the training
rows is seen whichever file it is from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertolt.base.format import percent, plural
from bertolt.data.near import ALIKE, Near
from bertolt.data.spelling import quoted
from bertolt.tasks import page
from bertolt.tasks.row_view import NAMED, InBoth, Repeats, RowView, first_of, rows_named

Told = dict[str, str]

MANY_REPEATED = 0.1
"""Share of the rows of a file above which those that repeat others are more than odd ones."""
_LEAST_REPEATED = 5  # rows
_ALIKE_WORDS = f"{percent(ALIKE, 0)} of their runs of characters, or more, in common"
_SHOWN_PAIRS = 20
_SHOWN_TEXT = 300


def texts_repeated(view: RowView) -> Iterator[Told]:
    """So many rows that repeat others, word for word or nearly, that they weigh more than once."""
    repeats = view.repeats
    rows = repeats.of(view)
    first, groups = repeats.first[rows], repeats.groups[rows]
    same = len(first) - len(np.unique(first))
    near = len(np.unique(first)) - len(np.unique(groups))
    if same + near < max(_LEAST_REPEATED, MANY_REPEATED * len(first)):
        return
    seen = np.zeros(len(first), bool)
    seen[np.unique(groups, return_index=True)[1]] = True
    numbers = view.row_numbers(np.flatnonzero(~seen)).tolist()
    yield page.caution(
        f"{same + near:,} of {plural(len(first), 'row')} repeat another row",
        f"{same:,} are alike but for case and spaces, and {near:,} nearly, with {_ALIKE_WORDS} "
        f"({rows_named(numbers)}). Such rows weigh more than others; keep one of each.",
    )


def texts_nearly_alike_with_several_labels(view: RowView) -> Iterator[Told]:
    """Texts that nearly repeat each other, and have different labels."""
    repeats = view.repeats
    rows = repeats.of(view)
    inside = ((repeats.near.pairs >= rows.start) & (repeats.near.pairs < rows.stop)).all(axis=1)
    pairs = repeats.near.pairs[inside]
    odd = pairs[repeats.label_differs(pairs)]
    if not len(odd):
        return

    def words(pair: Sequence[int]) -> str:
        one, other = (repeats.example(row) for row in pair)
        truths = (quoted(view.task.truth(each)) for each in (one, other))
        text = quoted(view.task.shown_text(one), 60)
        first, second = truths
        return f"{text} is {first} in row {one['row']} and nearly so {second} in row {other['row']}"

    yield page.caution(
        f"{plural(len(odd), 'pair')} of texts nearly alike with different labels",
        f"With {_ALIKE_WORDS}: {first_of(map(words, odd[:NAMED].tolist()), len(odd))} Look which "
        "of the labels is wrong; where a word decides, both may be right.",
    )


def texts_in_both_parts(view: RowView) -> Iterator[Told]:
    """Rows to measure on that nearly repeat training rows."""
    if "Evaluation" in view.parts and (near := view.repeats.in_both).rows:
        yield near_in_both(near) if "Training" in view.parts else _near_in_files(near)


def near_in_both(near: InBoth) -> Told:
    """The caution of held-out rows that nearly repeat training rows of the same file."""
    return page.caution(
        f"{plural(near.rows, 'evaluation row')} nearly among the training rows",
        f"With {_ALIKE_WORDS}, or through rows between them: {_pairs_words(near)} That "
        f"flatters the result; keep one of each, or {_together(near)}.",
    )


def near_in_folds(near: InBoth) -> Told:
    """The caution of rows that nearly repeat a row of another fold, as each was held out once."""
    return page.caution(
        f"{plural(near.rows, 'row')} nearly in other folds too",
        f"With {_ALIKE_WORDS}, or through rows between them: {_pairs_words(near)} The model that "
        "answered such a row had learned the other, which flatters the result; keep one of each, "
        f"or {_together(near)}.",
    )


def _near_in_files(near: InBoth) -> Told:
    """The caution of rows of another file that nearly repeat training rows."""
    return page.caution(
        f"{plural(near.rows, 'evaluation row')} nearly among the training rows",
        f"With {_ALIKE_WORDS}, or through rows between them: "
        f"{_pairs_words(near, ' of the training file')} That flatters the result; take them out "
        "of one of the two files.",
    )


def _pairs_words(near: InBoth, of: str = "") -> str:
    words = (f"row {row} as row {partner}{of}" for row, partner in near.first)
    return first_of(words, near.rows)


def _together(near: InBoth) -> str:
    """How rows that nearly repeat each other come into one part."""
    if near.group is not None:
        return f"give them one value of {quoted(near.group)}, the column of --group"
    return "keep them together with --group"


def near_table(repeats: Repeats) -> list[dict[str, Any]]:
    """How many rows repeat others, and pairs that nearly do: those first that differ in labels."""
    near = repeats.near
    rows = len(repeats.first)
    same = rows - len(np.unique(repeats.first))
    groups = len(np.unique(repeats.first)) - len(np.unique(repeats.groups))
    counts: list[dict[str, Any]] = [
        {"name": "Rows alike but for case and spaces", "value": same, "note": f"of {rows:,}"},
        {"name": "Rows nearly alike", "value": groups, "note": f"with {_ALIKE_WORDS}"},
    ]
    blocks: list[dict[str, Any]] = [{"kind": "facts", "items": counts}]
    if not len(near.pairs):
        return blocks
    odd = repeats.label_differs(near.pairs)
    order = np.lexsort((-near.similarity, ~odd))[:_SHOWN_PAIRS]
    kinds = {"Row": "count", "As row": "count", "Alike": "share", "Text": "text"}
    kinds |= {"The other text": "text", "Labels": "text"}
    shown = [_pair_row(repeats, near, int(at), bool(odd[at])) for at in order]
    return [*blocks, page.table("Texts nearly alike", kinds, shown)]


def _pair_row(repeats: Repeats, near: Near, at: int, odd: bool) -> list[Any]:
    pair = near.pairs[at].tolist()
    view, _ = repeats.place(pair[0])
    one, other = (repeats.example(row) for row in pair)
    labels = ""
    if "label" in one and view.classed:
        truths = [view.task.truth(each) for each in (one, other)]
        labels = " · ".join(truths) if odd else truths[0]
    texts = [view.task.shown_text(each)[:_SHOWN_TEXT] for each in (one, other)]
    return [one["row"], other["row"], float(near.similarity[at]), *texts, labels]
