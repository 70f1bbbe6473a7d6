"""Facts for the page of a run, as plain values, that several tasks show in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import interval, number, percent, plural, shorten
from bertolt.metrics import ClassScore, ConfusionMatrix

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

Interval = tuple[float, float]
Block = dict[str, Any]


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


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names with commas between them, a few of many."""
    words = ", ".join(shorten(name, 60) for name in names[:most])
    return words if len(names) <= most else f"{words} and {len(names) - most} more"


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
    columns = [{"name": "Column", "kind": "text"}, {"name": title, "kind": "text"}]
    rows = [list(pair) for pair in values.items()]
    return {"kind": "table", "caption": f"{title} of each column", "columns": columns, "rows": rows}


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
    table = {"kind": "table", "caption": "Spans, from left to right", "noun": "span"}
    return [*blocks, {**table, "columns": columns, "rows": rows, "most": MOST_SPANS}]


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
    return {
        "kind": "table",
        "id": "classes",
        "title": f"Each {noun}",
        "nav": f"{noun.capitalize()}s",
        "lead": lead,
        "caption": f"Precision, recall and F1 of each {noun} with 95% intervals",
        "columns": [{"name": name, "kind": kind} for name, kind in kinds.items()],
        "rows": rows,
        "noun": noun,
        "most": MOST_LABELS,
        "weakest": list(kinds).index("F1"),
    }


def label_cautions(labels: Sequence[str], scores: Sequence[ClassScore]) -> list[dict[str, str]]:
    """Labels that were never given, and labels that no held-out row has."""
    cautions = []
    pairs = list(zip(labels, scores, strict=True))
    silent = [name for name, score in pairs if score.support and not score.predicted]
    if silent:
        detail = f"In the held-out rows but never given: {listed(silent)}."
        cautions.append(caution(f"{plural(len(silent), 'label')} never predicted", detail))
    unseen = [name for name, score in pairs if not score.support]
    if unseen:
        claim = f"{plural(len(unseen), 'label')} not measured"
        cautions.append(caution(claim, f"No held-out row carries {listed(unseen)}."))
    return cautions


def no_better(what: str, value: float | None, baseline: float | None, words: str) -> list[Any]:
    """A caution where a score does not reach what guessing gives."""
    if value is None or baseline is None or value > baseline:
        return []
    return [caution(f"No better than {what}", words)]


_LABELS_LEAD = (
    "Precision: of the rows given this label, how many carry it. Recall: of the rows that carry "
    "it, how many were given it. Bands are 95% intervals on a scale from 0 to 100%."
)
_MATRIX_LEAD = (
    "Each row is a true label; its cells say what the model made of it, in rows and in percent of "
    "the row."
)
_SPANS_LEAD = (
    "A span is right when both of its ends and its kind are. Precision: of the spans given this "
    "kind, how many are right. Recall: of the true spans of this kind, how many were given."
)


def classification(
    labels: Sequence[str], confusion: ConfusionMatrix, baseline: Mapping[str, Any]
) -> dict[str, Any]:
    """The page's part on one label of several.

    Args:
        labels: names of the C classes.
        confusion: counts of the held-out rows.
        baseline: the `label` that is always given for comparison, its `value` and its `ends`.
    """
    accuracy = measure(confusion.accuracy(), confusion.accuracy_interval())
    value, ends = baseline["value"], baseline["ends"]
    words = {"name": "guessing the majority label", "mark": "always the majority label"}
    guess = f"Always guessing “{shorten(baseline['label'], 60)}” gives"
    scores = confusion.per_class()
    sections = [
        _confusion_block(labels, confusion.counts),
        score_block(labels, scores, lead=_LABELS_LEAD),
    ]
    if len(labels) <= SIDE_BY_SIDE:
        sections = [{"kind": "row", "widths": [2, 3], "blocks": sections}]
    note = f"mean over {plural(len(labels), 'label')}"
    f1 = {"label": "Macro F1", "value": confusion.f1_macro(), "format": "percent", "note": note}
    line = {"name": "majority label", "value": value}
    return {
        "headline": headline("Accuracy", accuracy, confusion.total(), words | measure(value, ends)),
        "tiles": [f1],
        "curves": [curve("accuracy", "Accuracy", accuracy, line)],
        "blocks": sections,
        "cautions": [
            *no_better(
                "guessing the majority label",
                confusion.accuracy(),
                ends[1],
                f"{guess} {percent(value)} ({interval(*ends)}).",
            ),
            *label_cautions(labels, scores),
        ],
        "calm": ["every label was predicted"],
    }


def _confusion_block(labels: Sequence[str], counts: NDArray[np.int64]) -> Block:
    parts: list[Block] = [{"kind": "matrix", "names": list(labels), "counts": counts.tolist()}]
    wrong = counts - np.diag(counts.diagonal())
    pairs = sorted(zip(*wrong.nonzero(), strict=True), key=lambda pair: -wrong[pair])
    if len(labels) > 3 and pairs:
        sizes = counts.sum(axis=1)
        rows = [
            [labels[i], labels[j], int(wrong[i, j]), float(wrong[i, j] / sizes[i])]
            for i, j in pairs[:MOST_CONFUSIONS]
        ]
        parts.append(_confusions("Largest confusions", "label", rows))
    return {
        "kind": "stack",
        "id": "confusion",
        "title": "Confusion matrix",
        "nav": "Confusions",
        "lead": _MATRIX_LEAD,
        "blocks": parts,
    }


def _confusions(caption: str, noun: str, rows: list[list[Any]]) -> Block:
    unit = "rows" if noun == "label" else "spans"
    share = {
        "name": f"Of the {noun}'s {unit}",
        "kind": "bar",
        "format": "percent",
        "colour": "trouble",
    }
    return {
        "kind": "table",
        "caption": caption,
        "columns": [
            {"name": f"True {noun}", "kind": "text"},
            {"name": "taken for", "kind": "text"},
            {"name": unit.capitalize(), "kind": "count"},
            share,
        ],
        "rows": rows,
    }


def several_labels(
    labels: Sequence[str],
    thresholds: Sequence[float],
    counts: Any,
    baseline: Mapping[str, float | None],
    usual: str,
) -> dict[str, Any]:
    """The page's part on any number of labels: F1, and each label with its threshold."""
    values, ends = counts.values(), counts.intervals()
    f1 = measure(values["f1_micro"], ends["f1_micro"])
    guess = {"name": "always giving the most frequent set", "mark": "always the usual set"}
    scores = counts.per_label()
    tiles = [
        {"label": "Macro F1", "value": values["f1_macro"], "format": "percent", "note": ""},
        {"label": "F1 of rows", "value": values["f1_samples"], "format": "percent", "note": ""},
        {
            "label": "Exact sets",
            "value": values["subset_accuracy"],
            "format": "percent",
            "note": f"{percent(baseline['subset_accuracy'])} for the most frequent set",
        },
    ]
    lead = f"{_LABELS_LEAD} The thresholds were chosen on these rows, which flatters them a little."
    words = f"Always giving “{shorten(usual, 60)}” gives {percent(baseline['f1_micro'])}."
    return {
        "headline": headline("Micro F1", f1, counts.total(), guess | measure(baseline["f1_micro"])),
        "tiles": tiles,
        "curves": [curve("f1_micro", "Micro F1", f1)],
        "blocks": [score_block(labels, scores, lead=lead, more={"Threshold": thresholds})],
        "cautions": [
            *no_better("guessing", values["f1_micro"], baseline["f1_micro"], words),
            *label_cautions(labels, scores),
        ],
        "calm": ["every label was predicted"],
    }


def numbers(
    columns: Sequence[str],
    predicted: NDArray[np.float64],
    true: NDArray[np.float64],
    counts: Any,
    baseline: Any,
) -> dict[str, Any]:
    """The page's part on numbers: predicted against true values, and residuals."""
    values, ends, guess = counts.values(), counts.intervals(), baseline.values()
    rmse = measure(values["rmse"], ends.get("rmse"))
    titles = {"mae": "MAE", "r2": "R²", "pearson": "Pearson", "spearman": "Spearman"}
    tiles = [
        {"label": title, "value": values[name], "note": _ends_words(ends.get(name))}
        for name, title in titles.items()
    ]
    blocks: list[Block] = []
    for place, column in enumerate(columns):
        pair = predicted[:, place], true[:, place]
        blocks.append({"kind": "row", "blocks": _column_blocks(column, *pair, first=not place)})
    if len(columns) > 1:
        blocks.append(_columns_table(columns, counts))
    words = f"Always answering the training mean gives {number(guess['rmse'])}."
    worse = values["rmse"] is not None and values["rmse"] >= (guess["rmse"] or 0.0)
    return {
        "headline": headline(
            "RMSE",
            rmse,
            counts.total(),
            {"name": "always answering the training mean", "mark": "the mean"}
            | measure(guess["rmse"]),
            format="number",
            scale=None,
            greater_is_better=False,
        ),
        "tiles": tiles,
        "curves": [],
        "blocks": blocks,
        "cautions": [caution("No better than the mean", words)] if worse else [],
        "calm": [],
    }


def _ends_words(ends: Interval | None) -> str:
    return "" if ends is None else f"{number(ends[0])} to {number(ends[1])}"


def _column_blocks(
    column: str, predicted: NDArray[np.float64], true: NDArray[np.float64], *, first: bool
) -> list[Block]:
    some = np.linspace(0, len(true) - 1, min(len(true), MOST_POINTS)).astype(int)
    note = f"{len(some):,} of {len(true):,} rows" if len(some) < len(true) else ""
    scatter: Block = {
        "kind": "scatter",
        "title": f"Predicted against true, {column}",
        "x_label": "true",
        "y_label": "predicted",
        "points": np.stack([true[some], predicted[some]], axis=1).tolist(),
        "diagonal": True,
        "note": note,
    }
    residuals = histogram(f"Residuals, {column}", "predicted less true", predicted - true)
    if first:
        scatter |= {"id": "predicted", "nav": "Predicted"}
        residuals |= {"id": "residuals", "nav": "Residuals"}
    return [scatter, residuals]


def _columns_table(columns: Sequence[str], counts: Any) -> Block:
    names = ("rmse", "mae", "r2", "pearson", "spearman")
    rows = [
        [column, *(scores[name].value for name in names)]
        for column, scores in zip(columns, counts.per_column(), strict=True)
    ]
    kinds = {"Column": "text", "RMSE": "number", "MAE": "number", "R²": "number"}
    kinds |= {"Pearson": "number", "Spearman": "number"}
    return {
        "kind": "table",
        "id": "columns",
        "title": "Each column",
        "nav": "Columns",
        "caption": "Scores of each column",
        "columns": [{"name": name, "kind": kind} for name, kind in kinds.items()],
        "rows": rows,
    }


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


def spans(counts: Any, rows_scored: int) -> dict[str, Any]:
    """The page's part on marked spans: F1, each kind, and which are taken for which."""
    values, ends, overall = counts.values(), counts.intervals(), counts.overall()
    f1 = measure(values["f1"], ends["f1"])
    types = counts.per_type()
    tiles = [
        {"label": title, "value": values[name], "format": "percent", "note": note}
        for name, title, note in (
            ("precision", "Precision", f"of {overall.predicted:,} spans given"),
            ("recall", "Recall", f"of {overall.support:,} true spans"),
            ("f1_macro", "Macro F1", f"mean over {plural(len(types), 'kind')}"),
            ("token_accuracy", "Words", "with the right tag"),
        )
    ]
    blocks = [score_block(list(types), list(types.values()), noun="kind", lead=_SPANS_LEAD)]
    confused = sorted(counts.confused().items(), key=lambda pair: -pair[1])
    if confused:
        rows = [
            [true, said, count, count / max(1, types[true].support)]
            for (true, said), count in confused[:MOST_CONFUSIONS]
        ]
        table = _confusions("Right ends, another kind", "kind", rows)
        blocks.append(table | {"id": "confusion", "title": "Confusions", "nav": "Confusions"})
    none = not overall.predicted
    return {
        "headline": headline("F1 of spans", f1, rows_scored, None),
        "tiles": tiles,
        "curves": [curve("f1", "F1 of spans", f1)],
        "blocks": blocks,
        "cautions": [caution("No span was given", "The model marks nothing.")] if none else [],
        "calm": [],
    }
