"""Any number of labels: how they are written, thresholds, and scores as scikit-learn has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from bertolt.base.errors import DataError, UsageError
from bertolt.models.config import BertConfig
from bertolt.tasks.base import Output, Reading
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.rows import Columns, read_for_task

FILES = {
    "list.jsonl": ('{"text": "x", "labels": ["a", "b"]}\n{"text": "y", "labels": []}\n', {}),
    "parted.csv": ("text,label\nx,a;b\ny,\n", {"reading": Reading(label_separator=";")}),
    "flags.csv": ("text,b,a\nx,1,1\ny,0,0\n", {"label": "b,a"}),
}


@pytest.mark.parametrize("name", list(FILES))
def test_three_ways_to_write_several_labels(tmp_path: Path, name: str) -> None:
    content, columns = FILES[name]
    (tmp_path / name).write_text(content)
    options = Columns(**columns)
    table, kind = read_for_task(tmp_path / name, options)
    assert kind is MultiLabelClassification
    task = kind.infer(table, np.arange(2), options.reading)
    assert sorted(task.labels) == ["a", "b"]
    assert [sorted(labels) for labels in table.labels] == [["a", "b"], []]
    assert table.dropped == {}
    assert "1 no label" in task.counts(table, np.arange(2)), "the empty set is counted"
    if name == "flags.csv":
        assert task.labels == ("b", "a"), "in the order of their columns"


def test_a_row_without_a_label_is_right_where_none_is_given() -> None:
    scorer = MultiLabelClassification(("a", "b"), (0.5, 0.5)).scorer()
    given = np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 2.0], [0.0, 2.0]])
    assert scorer.score_of_each(given).tolist() == [1, 0, 1, 0]
    assert scorer.score_of(given[:1]) == 0, "all rows without a label have no F1 to be proud of"


@pytest.mark.parametrize("cells", [("1", "0"), ("true", "false"), ("0", "1"), ("1", "")])
def test_one_column_of_flags_is_the_label_of_its_name(
    tmp_path: Path, cells: tuple[str, str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,toxic\n" + "".join(f"x,{cell}\n" for cell in cells * 2))
    options = Columns(label="toxic")
    table, kind = read_for_task(path, options, task="multi-label-classification")
    assert kind.infer(table, np.arange(len(table)), Reading()).labels == ("toxic",)
    flag = [["toxic"] if cell in ("1", "true") else [] for cell in cells * 2 if cell]
    assert table.labels == flag


def test_names_in_one_column_are_labels_though_some_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,1\ny,2\n")
    table, kind = read_for_task(tmp_path / "a.csv", Columns(), task="multi-label-classification")
    assert kind.infer(table, np.arange(2), Reading()).labels == ("1", "2")


@pytest.mark.parametrize("task", [None, "multi-label-classification"])
def test_a_separator_beside_several_columns_is_refused(tmp_path: Path, task: str | None) -> None:
    (tmp_path / "a.csv").write_text("text,a,b\nx,1,0\ny,0,1\n")
    with pytest.raises(UsageError, match="--label-separator is empty"):
        Reading(label_separator="")
    options = Columns(label="a,b", reading=Reading(label_separator=";"))
    with pytest.raises(UsageError, match="'a', 'b'") as refused:
        read_for_task(tmp_path / "a.csv", options, task=task)
    assert refused.value.place == "--label-separator"


@pytest.mark.parametrize("task", ["text-classification", "regression", "token-classification"])
def test_a_separator_is_refused_where_a_cell_is_one_label(tmp_path: Path, task: str) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,1\ny,0\n")
    options = Columns(reading=Reading(label_separator=";"))
    with pytest.raises(UsageError, match=task) as refused:
        read_for_task(tmp_path / "a.csv", options, task=task)
    assert "leave --label-separator out" in refused.value.fix


def test_several_columns_that_hold_something_else_are_not_flags(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,a,b\nx,1,0.25\ny,0,7\n")
    _, kind = read_for_task(tmp_path / "a.csv", Columns(label="a,b"))
    assert kind.name == "regression"


def test_a_row_with_something_else_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,a,b\nx,1,0\ny,0,2\nz,,1\n")
    options = Columns(label="a,b")
    table, _ = read_for_task(tmp_path / "a.csv", options, task="multi-label-classification")
    assert table.dropped == {"label neither 0 nor 1": [2, 3]}


def test_lists_beside_single_labels_are_read_with_the_task_that_the_fix_names(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mixed.jsonl"
    values: list[Any] = ["a", ["b"], ["a", "b"]]
    path.write_text("".join(json.dumps({"text": "x", "label": v}) + "\n" for v in values))
    with pytest.raises(DataError, match="row 2, column 'label': the label is no") as refused:
        read_for_task(path, Columns())
    assert "--task multi-label-classification" in refused.value.fix
    table, _ = read_for_task(path, Columns(), task="multi-label-classification")
    assert table.labels == [["a"], ["b"], ["a", "b"]]
    with pytest.raises(DataError) as refused:  # of a task that is named, none else is
        read_for_task(path, Columns(), task="text-classification")
    assert "--task" not in refused.value.fix


def test_words_beside_texts_are_told_the_task_and_then_the_row(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    rows = [{"tokens": ["a", "b"], "tags": ["O", "O"]}, {"tokens": "c", "tags": ["O"]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="row 1, column 'tokens'") as refused:
        read_for_task(path, Columns())
    assert "--task token-classification" in refused.value.fix
    with pytest.raises(DataError, match="row 2, column 'tokens'") as refused:
        read_for_task(path, Columns(), task="token-classification")
    assert "write each value as a list of words" in refused.value.fix


def test_no_label_at_all_is_nothing_to_learn(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "labels": []}\n' * 3)
    table, kind = read_for_task(tmp_path / "a.jsonl", Columns(), task="multi-label-classification")
    with pytest.raises(DataError, match="no row of 3 has a label"):
        kind.infer(table, np.arange(3), Reading())


@pytest.mark.parametrize(
    ("label", "fix"), [("per", "perhaps 'PER' is meant; mend the"), ("other", "mend the labels")]
)
def test_a_label_that_training_never_had_is_told_with_the_one_that_is_like_it(
    tmp_path: Path, label: str, fix: str
) -> None:
    path = tmp_path / "later.jsonl"
    rows = [{"text": "x", "labels": ["PER", "LOC"]}, {"text": "y", "labels": ["LOC", label]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table, _ = read_for_task(path, Columns(), task="multi-label-classification")
    with pytest.raises(DataError, match=f"training had no label '{label}'") as refused:
        MultiLabelClassification(("LOC", "PER"), (0.5, 0.5)).check(table)
    assert "row 2" in refused.value.place
    assert refused.value.fix.startswith(fix)


def test_a_split_leaves_training_one_row_of_each_label(tmp_path: Path) -> None:
    sets = [["rare", "common"] if number == 3 else ["common"] for number in range(9)]
    rows = [{"text": str(number), "labels": labels} for number, labels in enumerate(sets)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table, kind = read_for_task(tmp_path / "a.jsonl", Columns())
    strata = kind.strata(table)
    assert (strata == strata[3]).sum() == 1


TASK = MultiLabelClassification(tuple("abcd"), (0.5, 0.3, 0.7, 0.5))


def scored(seed: int = 0, rows: int = 200) -> tuple[Any, np.ndarray[Any, Any], Any]:
    choose = np.random.default_rng(seed)
    task = TASK
    true = choose.random((rows, 4)) < [0.5, 0.2, 0.4, 0.05]
    shares = np.clip(0.5 * true + choose.random((rows, 4)) * 0.6, 0, 1)
    scorer = task.scorer()
    for row, flags in zip(shares, true, strict=True):
        answer = task.decode(Output([row], []), {})
        scorer.add(answer, {"label": [n for n, f in zip("abcd", flags, strict=True) if f]})
    return scorer, true, shares


def test_scores_are_those_of_scikit_learn() -> None:
    scorer, true, shares = scored()
    said = shares >= np.array(TASK.thresholds)
    values = scorer.values()
    for average in ("micro", "macro", "samples"):
        expected = f1_score(true, said, average=average, zero_division=0)
        assert values[f"f1_{average}"] == pytest.approx(expected)
    assert values["subset_accuracy"] == pytest.approx(accuracy_score(true, said))
    each = f1_score(true, said, average=None, zero_division=0)
    assert [values["per_class"][name]["f1"] or 0 for name in "abcd"] == pytest.approx(each)


def test_no_other_threshold_of_a_label_gives_a_better_micro_f1_than_the_tuned_one() -> None:
    scorer, true, shares = scored()
    tuned = np.array(TASK.tuned(scorer).thresholds)
    best = f1_score(true, shares >= tuned, average="micro")
    assert best >= f1_score(true, shares >= 0.5, average="micro")
    for place in range(true.shape[1]):
        for other in np.linspace(0, 1, 201):
            said = shares >= np.where(np.arange(4) == place, other, tuned)
            assert f1_score(true, said, average="micro", zero_division=0) <= best + 1e-12


def test_thresholds_are_kept_and_decide() -> None:
    task = MultiLabelClassification(("a", "b"), (0.2, 0.9), ("a",), "|")
    config = BertConfig(**task.config_changes())
    again = MultiLabelClassification.restore(config, json.loads(json.dumps(task.settings())))
    assert again == task
    answer = again.decode(Output([np.array([0.25, 0.8])], []), {})
    assert answer["labels"] == ["a"]
    assert again.flat(answer) == ["a", 0.25, 0.8]
    assert again.flat_names() == ["labels", "p(a)", "p(b)"]


@pytest.mark.parametrize("thresholds", [{"a": 0.5}, {"a": 0.5, "b": 2}, {"a": "x", "b": 0.5}, [1]])
def test_thresholds_that_cannot_be(thresholds: Any) -> None:
    config = BertConfig(id2label={0: "a", 1: "b"})
    with pytest.raises((ValueError, TypeError, AttributeError)):
        MultiLabelClassification.restore(config, {"thresholds": thresholds})


def test_the_baseline_always_gives_the_usual_set() -> None:
    task = MultiLabelClassification(("a", "b"), (0.5, 0.5), ("a",))
    scorer = task.scorer()
    for label in (["a"], ["a", "b"], []):
        scorer.add({"probabilities": {"a": 0.9, "b": 0.1}}, {"label": label})
    values = scorer.values()
    assert values["baseline_subset_accuracy"] == pytest.approx(1 / 3)
    assert values["baseline_f1_micro"] == pytest.approx(4 / 6)
