"""What the page of a run shows of a text classifier, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import interval, percent, plural, shorten
from bertolt.metrics.confusion import ClassScore, ConfusionMatrix, Interval
from bertolt.report.shown import listed
from bertolt.tasks.evaluation import Scores, WrongRow

MOST_LABELS = 150
"""Labels that a table of the page shows; the facts have all of them."""
MOST_CONFUSIONS = 12
SIDE_BY_SIDE = 6
"""Labels whose matrix leaves room for their scores beside it."""
SHOWN_CHARACTERS = 2000
"""Of the text of a mistake."""

_MATRIX = (
    "Each row is a true label; its cells say what the model made of it, in rows and in percent of "
    "the row."
)
_CLASSES = (
    "Precision: of the rows given this label, how many carry it. Recall: of the rows that carry "
    "it, how many were given it. Bands are 95% intervals on a scale from 0 to 100%."
)
_MISTAKES = "Held-out rows on which the model was surest and wrong. Look for wrong labels first."


def explain(
    scores: Scores | None,
    *,
    labels: Sequence[str],
    train: NDArray[np.int64],
    held_out: NDArray[np.int64],
    row_of: Callable[[int], tuple[str, int]],
) -> dict[str, Any]:
    """The parts of the facts that are particular to text classification.

    Args:
        scores: of the final model, or None.
        labels: names of the C classes.
        train, held_out: (N,) classes of the rows of each part.
        row_of: the text of a held-out row and its number in the file.
    """
    return {
        "headline": _headline(scores),
        "tiles": _tiles(scores) if scores else [],
        "curves": [_curve(scores)],
        "blocks": _blocks(scores, row_of) if scores else [],
        "data_blocks": [_counts(labels, train, held_out)],
        "cautions": _cautions(scores) if scores else [],
        "calm": ["every label was predicted"] if scores else [],
    }


def _headline(scores: Scores | None) -> dict[str, Any]:
    name = {"name": "Accuracy", "format": "percent", "scale": [0, 1], "greater_is_better": True}
    if scores is None:
        return name | {"value": None, "low": None, "high": None, "rows": 0, "baseline": None}
    baseline, reach = scores.baseline
    words = {"name": "guessing the majority label", "mark": "always the majority label"}
    found = scores.confusion
    return (
        name
        | _measure(found.accuracy(), found.accuracy_interval())
        | {"rows": found.total(), "baseline": words | _measure(baseline, reach)}
    )


def _measure(value: float | None, reach: Interval | None = None) -> dict[str, float | None]:
    low, high = reach or (None, None)
    return {"value": value, "low": low, "high": high}


def _tiles(scores: Scores) -> list[dict[str, Any]]:
    note = f"mean over {plural(len(scores.labels), 'label')}"
    f1 = {"label": "Macro F1", "value": scores.confusion.f1_macro(), "format": "percent"}
    return [f1 | {"note": note}, {"label": "Evaluation loss", "value": scores.loss, "note": ""}]


def _curve(scores: Scores | None) -> dict[str, Any]:
    """The accuracy over the steps."""
    final = baseline = None
    if scores is not None:
        final = _measure(scores.confusion.accuracy(), scores.confusion.accuracy_interval())
        baseline = {"name": "majority label", "value": scores.baseline[0]}
    return {
        "metric": "accuracy",
        "label": "Accuracy",
        "title": "Accuracy on the held-out rows",
        "format": "percent",
        "baseline": baseline,
        "final": final,
    }


def _blocks(scores: Scores, row_of: Callable[[int], tuple[str, int]]) -> list[dict[str, Any]]:
    names, counts = scores.labels, scores.confusion.counts
    parts: list[dict[str, Any]] = [
        {"kind": "matrix", "names": list(names), "counts": counts.tolist()}
    ]
    pairs = _confusions(names, counts)
    if len(names) > 3 and pairs["rows"]:
        parts.append(pairs)
    confusion = {
        "kind": "stack",
        "id": "confusion",
        "title": "Confusion matrix",
        "nav": "Confusions",
        "lead": _MATRIX,
        "blocks": parts,
    }
    numbers = [confusion, _classes(names, scores.confusion)]
    if len(names) <= SIDE_BY_SIDE:
        numbers = [{"kind": "row", "widths": [2, 3], "blocks": numbers}]
    mistakes = {
        "kind": "mistakes",
        "id": "mistakes",
        "title": "Most confident mistakes",
        "nav": "Mistakes",
        "lead": _MISTAKES if scores.mistakes else "",
        "items": [_mistake(wrong, names, *row_of(wrong.row)) for wrong in scores.mistakes],
    }
    return [*numbers, mistakes]


def _confusions(names: Sequence[str], counts: NDArray[np.int64]) -> dict[str, Any]:
    """The pairs of labels that are confused most often, largest first."""
    rows = counts.sum(axis=1)
    wrong = counts - np.diag(counts.diagonal())
    pairs = sorted(zip(*wrong.nonzero(), strict=True), key=lambda pair: -wrong[pair])
    share = {"name": "Of the label's rows", "kind": "bar", "format": "percent", "colour": "trouble"}
    return {
        "kind": "table",
        "caption": "Largest confusions",
        "columns": [
            {"name": "True label", "kind": "text"},
            {"name": "taken for", "kind": "text"},
            {"name": "Rows", "kind": "count"},
            share,
        ],
        "rows": [
            [names[i], names[j], int(wrong[i, j]), float(wrong[i, j] / rows[i])]
            for i, j in pairs[:MOST_CONFUSIONS]
        ],
    }


def _classes(names: Sequence[str], confusion: ConfusionMatrix) -> dict[str, Any]:
    kinds = {"Label": "text", "Precision": "measure", "Recall": "measure", "F1": "measure"}
    kinds |= {"Rows": "count", "Predicted": "count"}
    return {
        "kind": "table",
        "id": "classes",
        "title": "Each label",
        "nav": "Labels",
        "lead": _CLASSES,
        "caption": "Precision, recall and F1 of each label with 95% intervals",
        "columns": [{"name": name, "kind": kind} for name, kind in kinds.items()],
        "rows": [
            _class(name, each) for name, each in zip(names, confusion.per_class(), strict=True)
        ],
        "noun": "label",
        "most": MOST_LABELS,
        "weakest": list(kinds).index("F1"),
    }


def _class(name: str, each: ClassScore) -> list[Any]:
    return [
        name,
        _measure(each.precision, each.precision_interval),
        _measure(each.recall, each.recall_interval),
        _measure(each.f1),
        each.support,
        each.predicted,
    ]


def _mistake(wrong: WrongRow, names: Sequence[str], text: str, row: int) -> dict[str, Any]:
    return {
        "text": text[:SHOWN_CHARACTERS],
        "characters": len(text) if len(text) > SHOWN_CHARACTERS else None,
        "row": row,
        "said": names[wrong.predicted],
        "truth": names[wrong.label],
        "probability": wrong.probability,
    }


def _counts(
    labels: Sequence[str], train: NDArray[np.int64], held_out: NDArray[np.int64]
) -> dict[str, Any]:
    """How many rows carry each label."""
    counts = [np.bincount(part, minlength=len(labels)).tolist() for part in (train, held_out)]
    return {
        "kind": "table",
        "caption": "Rows of each label",
        "columns": [
            {"name": "Label", "kind": "text"},
            {"name": "Training", "kind": "bar", "colour": "plain"},
            {"name": "Held out", "kind": "bar", "colour": "accent"},
        ],
        "rows": [list(row) for row in zip(labels, *counts, strict=True)],
        "noun": "label",
        "most": MOST_LABELS,
    }


def _cautions(scores: Scores) -> list[dict[str, str]]:
    """What to be wary of in the scores, gravest first."""
    found = []
    baseline, reach = scores.baseline
    if scores.confusion.accuracy() <= reach[1]:
        guess = f"Always guessing “{shorten(scores.labels[scores.baseline_label], 60)}” gives"
        detail = f"{guess} {percent(baseline)} ({interval(*reach)})."
        found.append({"claim": "No better than guessing the majority label", "detail": detail})
    classes = list(zip(scores.labels, scores.confusion.per_class(), strict=True))
    silent = [name for name, each in classes if each.support and not each.predicted]
    if silent:
        claim = f"{plural(len(silent), 'label')} never predicted"
        detail = f"In the held-out rows but never given: {listed(silent)}."
        found.append({"claim": claim, "detail": detail})
    unseen = [name for name, each in classes if not each.support]
    if unseen:
        claim = f"{plural(len(unseen), 'label')} not measured"
        found.append({"claim": claim, "detail": f"No held-out row carries {listed(unseen)}."})
    return found
