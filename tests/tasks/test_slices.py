"""Scores of parts of the rows."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bertolt.base.errors import UsageError
from bertolt.metrics.nearest import cosine_of
from bertolt.tasks.evaluation import Scores
from bertolt.tasks.row_answers import RowAnswers, resampled
from bertolt.tasks.sentence_similarity import SentenceSimilarity
from bertolt.tasks.slices import LENGTH, MOST, Slices, require_few_values
from bertolt.tasks.text_classification import TextClassification

TASK = TextClassification(("bad", "good"), "good")


def row(said: str, true: str, **kept: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    shares = {name: float(name == said) for name in TASK.labels}
    answer = {"label": said, "probability": 1.0, "probabilities": shares}
    return answer, {"text": "x", "label": true, "kept": json.dumps(kept)}


def test_each_value_has_the_scores_of_its_own_rows() -> None:
    slices = Slices(TASK, ["source"])
    for number, source in enumerate(["web", "web", "paper", None, ""]):
        said = "good" if source == "paper" else "bad"
        slices.add(number, *row(said, "good", source=source))
    values = slices.to_dict()["source"]
    assert list(values) == ["(empty)", "web", "paper"], "the largest first, then by name"
    assert [each["rows"] for each in values.values()] == [2, 2, 1]
    assert (values["paper"]["accuracy"], values["web"]["accuracy"]) == (1.0, 0.0)
    assert [line.split()[0] for line in slices.lines() if line] == [
        "source",
        "(empty)",
        "web",
        "paper",
    ]


def test_quarters_by_length_hold_every_row_once_and_stand_in_order() -> None:
    lengths = np.array([3, 900, 5, 7, 7, 7, 40, 1200])
    slices = Slices(TASK, [LENGTH], lengths)
    for number in range(len(lengths)):
        slices.add(number, *row("good", "good"))
    values = slices.to_dict()[LENGTH]
    assert list(values) == [
        "3 to 5 tokens",
        "6 to 7 tokens",
        "8 to 40 tokens",
        "41 to 1,200 tokens",
    ]
    assert [each["rows"] for each in values.values()] == [2, 3, 1, 2]


def test_a_column_of_keys_is_refused_before_a_row_is_answered() -> None:
    kept = [json.dumps({"id": number, "source": "web"}) for number in range(MOST + 1)]
    table: Any = SimpleNamespace(data=pa.table({"kept": kept}))
    require_few_values(table, np.arange(MOST), [LENGTH, "source", "id"])
    require_few_values(table, np.arange(MOST + 1), [LENGTH, "source"])
    with pytest.raises(UsageError, match=f"'id' has more than {MOST} values"):
        require_few_values(table, np.arange(MOST + 1), ["source", "id"])


def test_texts_of_a_slice_rank_among_those_of_all_rows() -> None:
    task, generator = SentenceSimilarity(), np.random.default_rng(0)
    whole, slices = task.scorer(), Slices(task, ["source"], group="user")
    rows = RowAnswers(task)
    for number in range(40):
        first = generator.normal(size=4)
        second = first + generator.normal(size=4)
        answer = {
            "similarity": cosine_of(first, second),
            "vectors": [first.tolist(), second.tolist()],
        }
        kept = json.dumps({"source": "ab"[number % 4 == 0], "user": number // 8})
        example = {"row": number, "text": f"q{number}", "text_pair": f"a{number}", "kept": kept}
        whole.add(answer, example)
        rows.add(number, answer, example)
        slices.add(number, answer, example)
    rows.complete(whole)
    slices.complete(whole)
    parts = slices.to_dict()["source"]
    assert [each["candidates"] for each in parts.values()] == [40, 40]
    for name in ("mrr", "recall_at_1", "recall_at_10"):
        mean = sum(each["rows"] * each[name] for each in parts.values()) / 40
        assert mean == pytest.approx(whole.values()[name])
    assert whole.values()["mrr"] < 1, "the ranks tell something"
    assert [*slices.lines()][1].split()[-3:] == ["by", "user", "rows"]
    by_rows, by_user = resampled(whole, rows), slices.to_dict()["source"]["a"]["mrr_bootstrap"]
    assert by_rows == whole.bootstrap()
    assert by_user != by_rows


def test_rows_of_one_group_are_resampled_together() -> None:
    scorer, answers = TASK.scorer(), RowAnswers(TASK, "user")
    alone, rows = TASK.scorer(), RowAnswers(TASK, "user")
    for number in range(60):
        said = "good" if number % 20 < 14 else "bad"
        answer, example = row(said, "good", user=number % 20, text=number)
        scorer.add(answer, example)
        answers.add(number, answer, example | {"row": number})
        if number < 20:
            alone.add(answer, example)
            rows.add(number, answer, example | {"row": number})
    assert resampled(scorer, answers) == pytest.approx(alone.bootstrap())
    assert resampled(alone, rows) == alone.bootstrap(), "each row has a user of its own"
    scores = Scores(task=TASK, scorer=scorer, loss=0.5, mistakes=[], answers=answers, group="user")
    assert "95% interval by resampling groups of rows by user (the one above" in str(scores)
    values = scores.to_dict()
    assert (values["resampled_by"], values["accuracy_bootstrap"]) == ("user", scores.bootstrap)


def test_many_values_are_cut_in_the_terminal_alone() -> None:
    slices = Slices(TASK, ["id"])
    for number in range(30):
        slices.add(number, *row("good", "good", id=number))
    assert len(slices.to_dict()["id"]) == 30
    assert [*slices.lines()][-1] == "… and 10 more values"


def test_rows_of_one_length_are_one_part() -> None:
    slices = Slices(TASK, [LENGTH], np.array([18, 18]))
    slices.add(0, *row("good", "good"))
    assert list(slices.to_dict()[LENGTH]) == ["18 tokens"]
