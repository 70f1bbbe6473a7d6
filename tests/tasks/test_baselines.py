"""What a score is held against is the best that one answer to all of these rows gives."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.regression import Regression
from bertolt.tasks.text_classification import TextClassification


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_no_label_for_all_rows_is_right_more_often(truths: list[str]) -> None:
    scorer = TextClassification(("a", "b", "c"), "c").scorer()  # the majority of training is no bar
    for label in truths:
        scorer.add({"label": "a", "probability": 1.0}, {"label": label})
    assert scorer.values()["baseline_accuracy"] == max(map(truths.count, "abc")) / len(truths)


@given(st.lists(st.sets(st.sampled_from("abc")), min_size=1, max_size=8))
def test_no_set_for_all_rows_has_a_better_micro_f1(truths: list[set[str]]) -> None:
    scorer = MultiLabelClassification(tuple("abc"), (0.5,) * 3, ("c",)).scorer()
    for labels in truths:
        shares = dict.fromkeys("abc", 0.1)
        scorer.add({"labels": [], "probabilities": shares}, {"label": sorted(labels)})
    true = scorer.truths()
    sets = [np.tile(each, (len(true), 1)) for each in product((0, 1), repeat=3)]
    best = max(f1_score(true, each, average="micro", zero_division=0) for each in sets)
    exact = max((each == true).all(axis=1).mean() for each in sets)
    values = scorer.values()
    assert values["baseline_f1_micro"] == pytest.approx(best)
    assert values["baseline_subset_accuracy"] == pytest.approx(exact)
    assert "always giving 'c'" not in "\n".join(scorer.lines(0.5)) or "c" in set().union(*truths)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=8))
def test_no_number_for_all_rows_has_a_smaller_error(truths: list[tuple[int, int]]) -> None:
    scorer = Regression(("x", "y"), (50.0, 50.0), (1.0, 1.0)).scorer()
    for truth in truths:
        scorer.add({"values": {"x": 0.0, "y": 0.0}}, {"label": truth})
    values, true = scorer.values(), np.array(truths)
    for shift in (-0.5, -0.1, 0.0, 0.1, 0.5):
        errors = true - (true.mean(axis=0) + shift)
        middle = np.abs(true - (np.median(true, axis=0) + shift)).mean()
        assert values["baseline_rmse"] <= np.sqrt((errors**2).mean(axis=0)).mean() + 1e-9
        assert values["baseline_mae"] <= middle + 1e-9
