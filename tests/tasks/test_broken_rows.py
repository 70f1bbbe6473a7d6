"""How the files of each task are broken: the row, the column or the part, the reason and the fix.

Each case is a good file with one broken row in its middle, read as `finetune` and `check` read it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertolt.base.errors import BertoltError
from bertolt.data.arrow import pa
from bertolt.tasks.base import Reading
from bertolt.tasks.rows import Columns, read_for_task

Row = dict[str, Any]

GOOD: dict[str, tuple[Row, Row]] = {
    "text-classification": ({"text": "good", "label": "a"}, {"text": "bad", "label": "b"}),
    "pairs": (
        {"sentence1": "good", "sentence2": "bad", "label": "a"},
        {"sentence1": "fine", "sentence2": "dull", "label": "b"},
    ),
    "multi-label-classification": (
        {"text": "good", "labels": ["a"]},
        {"text": "bad", "labels": ["a", "b"]},
    ),
    "regression": ({"text": "good", "score": 2.5}, {"text": "bad", "score": 1.5}),
    "token-classification": (
        {"tokens": ["good", "film"], "tags": ["B-X", "O"]},
        {"tokens": ["a", "film"], "tags": ["O", "O"]},
    ),
    "spans": (
        {"text": "good film", "spans": [{"start": 0, "end": 4, "label": "X"}]},
        {"text": "bad film", "spans": []},
    ),
    "question-answering": (
        {
            "question": "what?",
            "context": "a good film",
            "answers": [{"text": "good", "answer_start": 2}],
        },
        {
            "question": "which?",
            "context": "a bad film",
            "answers": {"text": [], "answer_start": []},
        },
    ),
}


def span(start: Any, end: Any, **more: Any) -> Row:
    return {"text": "x film", "spans": [{"start": start, "end": end, "label": "X", **more}]}


def asked(answers: Any, **more: Any) -> Row:
    return {"question": "x", "context": "a film", "answers": answers, **more}


def answer(text: Any, start: Any = 0) -> Row:
    return asked([{"text": text, "answer_start": start}])


# What the good rows are of, the broken one, and words of its message.
CASES: list[tuple[str, Row | str, str]] = [
    ("text-classification", {"text": "", "label": "a"}, "row 7|'text' is empty"),
    ("text-classification", {"text": None, "label": "a"}, "row 7|'text' is empty"),
    ("text-classification", {"text": " \u200b", "label": "a"}, "row 7|'text' is empty"),
    ("text-classification", {"text": "x"}, "row 7|'label' is empty"),
    ("text-classification", {"text": "x", "label": {"a": 1}}, "row 7|column 'label'|(dict)"),
    ("text-classification", {"text": "x", "label": ["a"]}, "row 7|(list)|--task multi-label"),
    ("text-classification", {"text": 5, "label": "a"}, "row 7|column 'text'|(int)"),
    ("text-classification", {"text": ["x"], "label": "a"}, "row 7|(list)|--task token-class"),
    ("text-classification", "{broken", "row 7|broken JSON"),
    ("text-classification", "[1]", "line 7|an array, not a record"),
    ("text-classification", {"text": "a\ud800", "label": "a"}, "row 7|surrogate"),
    ("pairs", {"sentence1": "x", "sentence2": "", "label": "a"}, "row 7|'sentence2' is empty"),
    ("pairs", {"sentence1": "x", "label": "a"}, "row 7|'sentence2' is empty"),
    ("pairs", {"sentence1": "x", "sentence2": 3, "label": "a"}, "row 7|'sentence2'|(int)"),
    ("pairs", {"sentence1": ["x"], "sentence2": "y", "label": "a"}, "row 7|'sentence1'|(list)"),
    ("pairs", {"sentence1": "x", "sentence2": "y"}, "row 7|'label' is empty"),
    ("multi-label-classification", {"text": "x", "labels": [1.5, None]}, "'labels'"),
    ("multi-label-classification", {"text": "x", "labels": [["a"]]}, "'labels'"),
    ("multi-label-classification", {"text": "x", "labels": {"a": 1}}, "'labels'"),
    ("multi-label-classification", {"text": "", "labels": ["a"]}, "row 7|'text' is empty"),
    ("regression", {"text": "x", "score": "abc"}, "row 7|'score' holds 'abc'"),
    ("regression", {"text": "x", "score": None}, "row 7|'score'"),
    ("regression", {"text": "x", "score": "nan"}, "row 7|'score' holds 'nan'"),
    ("regression", {"text": "x", "score": "1e400"}, "row 7|'score' holds '1e400'"),
    ("regression", {"text": "x", "score": "2,5"}, "row 7|2.5"),
    ("regression", {"text": "x", "score": True}, "row 7|'score' holds True"),
    ("regression", {"text": "x", "score": [1]}, "row 7|'score' holds [1]"),
    ("regression", {"text": "x", "score": 1e300}, "'score'|beyond what can be|1e+300"),
    ("token-classification", {"tokens": ["a"], "tags": ["O", "O"]}, "row 7|1 word and 2 tags"),
    ("token-classification", {"tokens": [], "tags": []}, "row 7|no words"),
    ("token-classification", {"tokens": ["a"], "tags": None}, "row 7|'tags' is empty"),
    ("token-classification", {"tokens": ["a"], "tags": [None]}, "row 7|tag 1 of 1"),
    ("token-classification", {"tokens": ["a", None], "tags": ["O", "O"]}, "row 7|'tokens'"),
    ("token-classification", {"tokens": [["a"]], "tags": ["O"]}, "row 7|'tokens'"),
    ("token-classification", {"tokens": ["a"], "tags": ["PER"]}, "'tags'|without at row 7|B-PER"),
    ("token-classification", {"tokens": "a", "tags": ["O"]}, "--task token-classification"),
    ("spans", span(0, 99), "row 7|ends beyond the text, which has 6 characters"),
    ("spans", span(-1, 1), "row 7|from -1 to 1, which holds no character"),
    ("spans", span(3, 2), "row 7|from 3 to 2"),
    ("spans", span(1, 1), "row 7|from 1 to 1"),
    ("spans", span("0", 1), "row 7|whole numbers"),
    ("spans", span(0.5, 1), "row 7|whole numbers"),
    ("spans", span(0, 1, label=None), "row 7|has the label None"),
    (
        "spans",
        {"text": "x film", "spans": [*span(0, 4)["spans"], *span(2, 6)["spans"]]},
        "overlaps",
    ),
    ("spans", {"text": "x film", "spans": "X"}, "row 7|list of spans"),
    ("spans", {"text": "", "spans": []}, "row 7|'text' is empty"),
    ("spans", {"text": "x", "spans": [{"start": 0, "end": 1}]}, "--task token-classification"),
    ("question-answering", answer("no"), "row 7|'no' is not in its text"),
    ("question-answering", answer("film", 99), "row 7|character 99|it begins at 2"),
    ("question-answering", answer("film", -1), "row 7|character -1"),
    ("question-answering", answer("film", "2"), "row 7|whole number"),
    ("question-answering", answer(""), "row 7|in the place of a text"),
    ("question-answering", answer(5), "row 7|has 5 in the place"),
    ("question-answering", asked({"text": ["a"], "answer_start": [0, 1]}), "row 7|None in the pl"),
    ("question-answering", asked({"text": ["a", "f"], "answer_start": [0]}), "row 7|'missing'"),
    ("question-answering", asked([], context=""), "row 7|'context' is empty"),
    ("question-answering", asked([], question=None), "row 7|'question' is empty"),
    ("question-answering", asked([], context=["a"]), "row 7|'context'|(list)"),
]


@pytest.mark.parametrize(("kind", "broken", "words"), CASES)
def test_a_broken_row_is_told_with_its_place_and_a_fix(
    tmp_path: Path, kind: str, broken: Row | str, words: str
) -> None:
    lines = [json.dumps(row) for row in GOOD[kind] * 3]
    middle = broken if isinstance(broken, str) else json.dumps(broken)
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*lines, middle, *lines]) + "\n", encoding="utf-8")
    refused = refusal(path, "regression" if kind == "regression" else None)
    assert all(each in str(refused) for each in words.split("|")), str(refused)
    assert "rows.jsonl" in refused.place
    assert refused.fix
    assert refused.exit_code == 2


def learn(path: Path, task: str | None) -> None:
    table, kind = read_for_task(path, Columns(on_bad_row="error"), task=task)
    kind.infer(table, np.arange(len(table)), Reading())


def refusal(path: Path, task: str | None) -> BertoltError:
    with pytest.raises(BertoltError) as refused:
        learn(path, task)
    return refused.value


@pytest.mark.parametrize(
    ("kind", "broken", "words"),
    [
        each
        for each in CASES
        if each[0] in ("spans", "question-answering")
        and "row 7" in each[2]
        and "whole number" not in each[2]  # a column of Parquet has one type
    ],
)
def test_the_same_in_parquet(tmp_path: Path, kind: str, broken: Row, words: str) -> None:
    import pyarrow.parquet as pq

    rows = [*GOOD[kind][:1] * 6, broken, *GOOD[kind][:1]]
    try:
        table = pa.Table.from_pylist(rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        pytest.skip("a column of Parquet has one type")
    pq.write_table(table, tmp_path / "rows.parquet")
    refused = refusal(tmp_path / "rows.parquet", None)
    assert "row 7" in str(refused)
    assert refused.fix
