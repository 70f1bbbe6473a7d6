"""Builders of what the page of a run shows, as plain values: scores, tables, figures, cautions.

`part` puts them together; `report/` draws them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import plural
from bertolt.metrics import ClassScore
from bertolt.metrics.calibration import BINS as BINS_OF_CURVE
from bertolt.metrics.calibration import CurveBin
from bertolt.report.shown import listed

MOST_LABELS = 150
"""Labels that a table of the page shows; the facts have all of them."""
MOST_CONFUSIONS = 12
MOST_ANSWERS = 12
"""Labels of one answer that its page shows."""
MOST_SPANS = 100
"""Spans of one answer that its table lists; all are marked in the text."""
SIDE_BY_SIDE = 6
"""Labels whose matrix leaves room for their scores beside it."""
MOST_POINTS = 2000
BINS = 30

LABELS_LEAD = (
    "Precision: of the rows given this label, how many carry it. Recall: of the rows that carry "
    "it, how many were given it. Bands are 95% intervals on a scale from 0 to 100%."
)
_MATRIX_LEAD = (
    "Each row is a true label; its cells say what the model made of it, in rows and in percent of "
    "the row."
)

Interval = tuple[float, float]
Block = dict[str, Any]


def part(
    headline: Block,
    *,
    tiles: Sequence[Block] = (),
    curves: Sequence[Block] = (),
    blocks: Sequence[Block] = (),
    cautions: Sequence[dict[str, str]] = (),
    calm: Sequence[str] = (),
) -> dict[str, Any]:
    """A task's part of the page.

    Args:
        headline: the number that matters; see `headline`.
        tiles: other numbers beside it.
        curves: metrics over the steps of training.
        blocks: tables and figures.
        cautions: what to be wary of.
        calm: what may be said where there is nothing to be wary of.
    """
    lists = {"tiles": tiles, "curves": curves, "blocks": blocks, "cautions": cautions, "calm": calm}
    return {"headline": headline, **{name: list(values) for name, values in lists.items()}}


def measure(value: float | None, ends: Interval | None = None) -> dict[str, float | None]:
    """A value with the ends of its interval."""
    low, high = ends or (None, None)
    return {"value": value, "low": low, "high": high}


def headline(
    name: str, value: Mapping[str, Any], rows: int, baseline: Mapping[str, Any] | None, **more: Any
) -> dict[str, Any]:
    """The number that matters: a share on a scale from 0 to 1 if nothing else is said."""
    usual = {"format": "percent", "scale": [0, 1], "greater_is_better": True}
    return {"name": name, **usual, **value, "rows": rows, "baseline": baseline, **more}


def alike(answers: Mapping[str, int], rows: int) -> str:
    """The one answer that every row has got, as a sign that nothing was learned; else empty.

    Args:
        answers: how many rows have each.
        rows: how many there are.
    """
    known = [answer for answer, count in answers.items() if count]
    return known[0] if len(known) == 1 and answers[known[0]] == rows > 1 else ""


def share(label: str, value: float | None, note: str = "") -> Block:
    """A tile with a share in percent."""
    return {"label": label, "value": value, "format": "percent", "note": note}


def curve(metric: str, label: str, final: Mapping[str, Any], baseline: Any = None) -> Block:
    """A metric over the steps of training."""
    title = f"{label} on the held-out rows"
    return {
        "metric": metric,
        "label": label,
        "title": title,
        "format": "percent",
        "baseline": baseline,
        "final": dict(final),
    }


def caution(claim: str, detail: str) -> dict[str, str]:
    """Something to be wary of, and the numbers behind it."""
    return {"claim": claim, "detail": detail}


def table(caption: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> Block:
    """A table.

    Args:
        caption: what it holds.
        columns: the name of each to the kind of its cells: "text", "count", "number", "measure".
        rows: their cells.
    """
    return {
        "kind": "table",
        "caption": caption,
        "columns": [{"name": name, "kind": kind} for name, kind in columns.items()],
        "rows": [list(row) for row in rows],
    }


def probabilities(
    shares: Mapping[str, float], thresholds: Mapping[str, float] | None = None
) -> Block:
    """The labels of one answer, the most probable first."""
    columns: list[Block] = [
        {"name": "Label", "kind": "text"},
        {"name": "Probability", "kind": "bar", "format": "percent", "colour": "accent"},
    ]
    rows: list[list[Any]] = [[name, share] for name, share in shares.items()]
    if thresholds is not None:
        columns += [{"name": "Threshold", "kind": "share"}, {"name": "Given", "kind": "text"}]
        rows = [
            [name, share, thresholds[name], "yes" if share >= thresholds[name] else "no"]
            for name, share in rows
        ]
    return {
        "kind": "table",
        "caption": "Probability of each label",
        "columns": columns,
        "rows": sorted(rows, key=lambda row: -row[1]),
        "noun": "label",
        "most": MOST_ANSWERS,
    }


def named_values(title: str, values: Mapping[str, str]) -> Block:
    """Values of one answer by name."""
    return table(f"{title} of each column", {"Column": "text", title: "text"}, values.items())


def marked_text(text: str, spans: Sequence[Mapping[str, Any]]) -> list[Block]:
    """A text with the spans of one answer marked, and a table of them."""
    marks = [
        {"start": each["start"], "end": each["end"], "label": each["label"], "kind": "given"}
        for each in spans
    ]
    blocks: list[Block] = [{"kind": "text", "text": text, "marks": marks}]
    if not spans:
        return [*blocks, {"kind": "note", "text": "No span was found."}]
    columns = [
        {"name": "Span", "kind": "text"},
        {"name": "Kind", "kind": "text"},
        {"name": "Probability", "kind": "bar", "format": "percent", "colour": "accent"},
    ]
    rows = [[each["text"], each["label"], each["probability"]] for each in spans]
    listing = {"kind": "table", "caption": "Spans, from left to right", "noun": "span"}
    return [*blocks, {**listing, "columns": columns, "rows": rows, "most": MOST_SPANS}]


def label_rows(
    labels: Sequence[str], train: NDArray[np.int64], held_out: NDArray[np.int64]
) -> Block:
    """How often each label occurs in the training and in the held-out rows."""
    return {
        "kind": "table",
        "caption": "Rows of each label",
        "columns": [
            {"name": "Label", "kind": "text"},
            {"name": "Training", "kind": "bar", "colour": "plain"},
            {"name": "Held out", "kind": "bar", "colour": "accent"},
        ],
        "rows": [list(row) for row in zip(labels, train.tolist(), held_out.tolist(), strict=True)],
        "noun": "label",
        "most": MOST_LABELS,
    }


def score_block(
    labels: Sequence[str],
    scores: Sequence[ClassScore],
    *,
    noun: str = "label",
    lead: str,
    more: Mapping[str, Sequence[float]] | None = None,
) -> Block:
    """A table of precision, recall and F1 of each label."""
    kinds = {noun.capitalize(): "text", "Precision": "measure", "Recall": "measure"}
    kinds |= {"F1": "measure"} | dict.fromkeys(more or {}, "number")
    kinds |= {"Rows" if noun == "label" else "Spans": "count", "Predicted": "count"}
    extra = list(zip(*(more or {}).values(), strict=True)) or [()] * len(labels)
    rows = [
        [
            name,
            measure(score.precision, score.precision_interval),
            measure(score.recall, score.recall_interval),
            measure(score.f1),
            *numbers,
            score.support,
            score.predicted,
        ]
        for name, score, numbers in zip(labels, scores, extra, strict=True)
    ]
    caption = f"Precision, recall and F1 of each {noun} with 95% intervals"
    return table(caption, kinds, rows) | {
        "id": "classes",
        "title": f"Each {noun}",
        "nav": f"{noun.capitalize()}s",
        "lead": lead,
        "noun": noun,
        "most": MOST_LABELS,
        "weakest": list(kinds).index("F1"),
    }


def label_cautions(labels: Sequence[str], scores: Sequence[ClassScore]) -> list[dict[str, str]]:
    """Labels that were never given, and stand in held-out rows."""
    cautions = []
    pairs = list(zip(labels, scores, strict=True))
    silent = [name for name, score in pairs if score.support and not score.predicted]
    if silent:
        detail = f"In the held-out rows but never given: {listed(silent)}."
        cautions.append(caution(f"{plural(len(silent), 'label')} never predicted", detail))
    return cautions


def no_better(
    what: str,
    value: float | None,
    baseline: float | None,
    words: str,
    surely: float | None = None,
) -> list[Any]:
    """A caution where a score does not reach what guessing gives, or only what chance may add.

    Args:
        what: the guess.
        value: the score.
        baseline: what the guess gives.
        words: the numbers of the guess.
        surely: the upper end of the interval of `baseline`, if it has one.
    """
    # Two ways to reckon one share may differ in its last digit.
    if value is None or baseline is None or value > max(baseline, surely or baseline) + 1e-9:
        return []
    degree = "No" if value <= baseline + 1e-9 else "Not surely"
    return [caution(f"{degree} better than {what}", words)]


def confusion_block(labels: Sequence[str], counts: NDArray[np.int64]) -> Block:
    """The matrix of (C, C) counts, true by given label, and the largest confusions in it."""
    blocks: list[Block] = [{"kind": "matrix", "names": list(labels), "counts": counts.tolist()}]
    wrong = counts - np.diag(counts.diagonal())
    pairs = sorted(zip(*wrong.nonzero(), strict=True), key=lambda pair: -wrong[pair])
    if len(labels) > 3 and pairs:
        sizes = counts.sum(axis=1)
        rows = [
            [labels[i], labels[j], int(wrong[i, j]), float(wrong[i, j] / sizes[i])]
            for i, j in pairs[:MOST_CONFUSIONS]
        ]
        blocks.append(confusions("Largest confusions", "label", rows))
    return {
        "kind": "stack",
        "id": "confusion",
        "title": "Confusion matrix",
        "nav": "Confusions",
        "lead": _MATRIX_LEAD,
        "blocks": blocks,
    }


def confusions(caption: str, noun: str, rows: list[list[Any]]) -> Block:
    """A table of what is taken for what: true name, given name, count and share of the true."""
    unit = "rows" if noun == "label" else "spans"
    kinds = {f"True {noun}": "text", "taken for": "text", unit.capitalize(): "count"}
    share_of = {"kind": "bar", "format": "percent", "colour": "trouble"}
    block = table(caption, kinds, rows)
    block["columns"].append({"name": f"Of the {noun}'s {unit}", **share_of})
    return block


def scatter(title: str, predicted: NDArray[np.float64], true: NDArray[np.float64]) -> Block:
    """Predicted against true values, (N,) each; some of them where there are many."""
    some = np.linspace(0, len(true) - 1, min(len(true), MOST_POINTS)).astype(int)
    return {
        "kind": "scatter",
        "title": title,
        "x_label": "true",
        "y_label": "predicted",
        "points": np.stack([true[some], predicted[some]], axis=1).tolist(),
        "diagonal": True,
        "note": f"{len(some):,} of {len(true):,} rows" if len(some) < len(true) else "",
    }


def reliability(
    bins: Sequence[CurveBin],
    lead: str,
    share_of: str,
    unit: str,
) -> Block:
    """The reliability curve, and how many answers each of its bins has.

    Args:
        bins: of equal width from 0 to 1, without empty ones.
        lead: above it.
        share_of: what is drawn upwards.
        unit: what is counted.
    """
    ends = [min(int(each.probability * BINS_OF_CURVE), BINS_OF_CURVE - 1) for each in bins]
    counts = [0] * BINS_OF_CURVE
    for place, each in zip(ends, bins, strict=True):
        counts[place] += each.count
    drawing = {
        "kind": "scatter",
        "caption": f"{share_of}, by probability",
        "x_label": "mean probability",
        "y_label": "came true",
        "points": [[each.probability, each.right] for each in bins],
        "diagonal": True,
        "note": f"{plural(len(bins), 'bin')}, each a point.",
    }
    spread = {
        "kind": "histogram",
        "caption": f"{unit.capitalize()} by probability",
        "x_label": "probability",
        "edges": [place / BINS_OF_CURVE for place in range(BINS_OF_CURVE + 1)],
        "counts": counts,
        "note": "",
    }
    row = {"kind": "row", "blocks": [drawing, spread]}
    return row | {"id": "calibration", "title": "Calibration", "nav": "Calibration", "lead": lead}


def histogram(title: str, label: str, values: NDArray[np.float64]) -> Block:
    """How values spread."""
    counts, edges = np.histogram(values, bins=BINS)
    return {
        "kind": "histogram",
        "title": title,
        "x_label": label,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "note": "",
    }
