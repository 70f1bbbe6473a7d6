"""Labels that no row to measure on has: what is said of them, and the macro F1 of scikit-learn."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.metrics import f1_score

from bertolt.tasks.scorers.classes import ClassScorer
from bertolt.tasks.scorers.label_sets import LabelSetScorer
from bertolt.tasks.scorers.spans import SpanScorer

LABELS = ("a", "b", "c", "d")
TRUE = ["a", "a", "a", "b", "b"]
SAID = ["a", "a", "c", "b", "a"]


def of_one_label() -> ClassScorer:
    scorer = ClassScorer(LABELS)
    for true, said in zip(TRUE, SAID, strict=True):
        shares = dict.fromkeys(LABELS, 0.1) | {said: 0.7}
        scorer.add({"label": said, "probability": 0.7, "probabilities": shares}, {"label": true})
    return scorer


def of_several_labels() -> LabelSetScorer:
    scorer = LabelSetScorer(LABELS, [0.5] * 4)
    for true, said in zip(TRUE, SAID, strict=True):
        shares = dict.fromkeys(LABELS, 0.1) | {said: 0.7}
        scorer.add({"labels": [said], "probabilities": shares}, {"label": [true]})
    return scorer


def of_spans() -> SpanScorer:
    scorer = SpanScorer("BIO", LABELS)
    for true, said in zip(TRUE, SAID, strict=True):
        answer = {
            "words": [(0, 1, f"B-{said}")],
            "spans": [{"start": 0, "end": 1, "label": said}],
        }
        scorer.add(answer, {"text": "x", "label": [{"start": 0, "end": 1, "label": true}]})
    return scorer


@pytest.mark.parametrize(
    ("scorer", "labels"),
    [(of_one_label(), None), (of_several_labels(), LABELS), (of_spans(), None)],
)
def test_the_macro_average_is_that_of_scikit_learn(scorer: Any, labels: Any) -> None:
    """Over the union of true and predicted labels; of several labels over all columns."""
    values = scorer.values()
    theirs = f1_score(TRUE, SAID, average="macro", labels=labels, zero_division=0)
    assert values["f1_macro"] == pytest.approx(theirs)
    with_rows = f1_score(TRUE, SAID, average="macro", labels=["a", "b"], zero_division=0)
    assert values["f1_macro_with_rows"] == pytest.approx(with_rows)
    assert values["f1_macro"] < with_rows
    assert values["without_rows"] == {"answered": ["c"], "not_answered": ["d"]}


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        (
            of_one_label(),
            "macro F1 counts 'c' as 0, which no row here has, and leaves out 'd', which no row "
            "here has and no answer gave; over the 2 labels with rows it is 0.6667",
        ),
        (
            of_several_labels(),
            "macro F1 counts 'c', 'd' as 0, which no row here has; over the 2 labels with rows it "
            "is 0.6667",
        ),
        (
            of_spans(),
            "macro F1 counts 'c' as 0, which no true span here has, and leaves out 'd', which no "
            "true span here has and no answer gave; over the 2 kinds with true spans it is 0.6667",
        ),
    ],
)
def test_what_they_do_to_it_is_said(scorer: Any, words: str) -> None:
    assert f"  {words}" in list(scorer.lines(0.5))
    (told,) = [each for each in scorer.explain()["cautions"] if "not measured" in each["claim"]]
    assert told["detail"] == f"M{words[1:]}."


def test_nothing_is_said_where_every_label_has_rows() -> None:
    scorer = ClassScorer(("a", "b"))
    for label in "ab":
        shares = {"a": 0.5, "b": 0.5}
        scorer.add({"label": label, "probability": 0.5, "probabilities": shares}, {"label": label})
    assert scorer.values()["without_rows"] == {"answered": [], "not_answered": []}
    assert not [line for line in scorer.lines(0.5) if "macro F1 counts" in line]
    assert not [each for each in scorer.explain()["cautions"] if "not measured" in each["claim"]]
