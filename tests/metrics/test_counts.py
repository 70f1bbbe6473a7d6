"""Counts against scikit-learn, scipy and seqeval, by hand, and merged from parts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval.metrics import accuracy_score
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support
from sklearn import metrics as sk

from bertolt.base.errors import UsageError
from bertolt.metrics import (
    CalibrationCounts,
    ConfusionMatrix,
    MultiLabelCounts,
    RegressionCounts,
    SpanCounts,
    best_thresholds,
    wilson_interval,
)
from bertolt.metrics.tags import spans_of
from tests.metrics.peers import by_sklearn

quick = settings(derandomize=True, deadline=None, max_examples=100)
close = {"rel": 1e-9, "abs": 1e-12}


# --- Several labels ------------------------------------------------------------------------------

grid = st.tuples(st.integers(1, 12), st.integers(2, 4), st.integers(0, 2**32 - 1))


def flags_of(shape):
    rows, labels, seed = shape
    rng = np.random.default_rng(seed)
    return rng.random((2, rows, labels)) < rng.random()


@given(grid)
@quick
def test_multilabel_equals_sklearn(shape):
    predicted, true = flags_of(shape)
    counts = MultiLabelCounts(shape[1])
    counts.update(predicted, true)
    values = counts.values()
    for average in ("micro", "macro", "samples"):
        theirs = by_sklearn(sk.f1_score, true, predicted, average=average, zero_division=0)
        assert values[f"f1_{average}"] == pytest.approx(theirs, **close)
    for name, function in (("precision", sk.precision_score), ("recall", sk.recall_score)):
        theirs = by_sklearn(function, true, predicted, average="micro", zero_division=np.nan)
        ours = values[f"{name}_micro"]
        assert (ours is None and math.isnan(theirs)) or ours == pytest.approx(theirs, **close)
    assert values["subset_accuracy"] == sk.accuracy_score(true, predicted)
    table = sk.precision_recall_fscore_support(true, predicted, zero_division=np.nan)
    for label, score in enumerate(counts.per_label()):
        assert score.support == table[3][label]
        assert score.predicted == predicted[:, label].sum()
        hits = int((predicted & true)[:, label].sum())
        for ours, theirs in zip(
            (score.precision, score.recall, score.f1), (x[label] for x in table[:3]), strict=True
        ):
            assert (ours is None and math.isnan(theirs)) or ours == pytest.approx(theirs, **close)
        if score.predicted:
            assert score.precision_interval == wilson_interval(hits, score.predicted)
        if score.support:
            assert score.recall_interval == wilson_interval(hits, score.support)
        if score.f1 is not None:
            assert score.f1_interval[0] <= score.f1 <= score.f1_interval[1]


def test_multilabel_by_hand():
    counts = MultiLabelCounts(3)
    counts.update(
        torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 0]]), [[1, 0, 0], [0, 0, 0], [1, 0, 0]]
    )
    assert counts.values() == {
        "f1_micro": 2 * 2 / (3 + 2),
        "f1_macro": pytest.approx(1 / 3),
        "f1_samples": pytest.approx((1 + 0 + 2 / 3) / 3),
        "precision_micro": 2 / 3,
        "recall_micro": 1.0,
        "subset_accuracy": 2 / 3,
    }
    assert counts.total() == 3
    intervals = counts.intervals()
    assert intervals["subset_accuracy"] == wilson_interval(2, 3)
    assert intervals["precision_micro"] == wilson_interval(2, 3)
    assert intervals["recall_micro"] == wilson_interval(2, 2)
    low, high = wilson_interval(2, 3)
    assert intervals["f1_micro"] == (2 * low / (1 + low), 2 * high / (1 + high))
    assert counts.per_label()[2].f1_interval is None


def test_f1_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits, misses, false = rng.multinomial(200, [0.2, 0.06, 0.04, 0.7], size=2000).T[:3]
    truth, inside = 2 * 0.2 / (2 * 0.2 + 0.1), 0
    for h, m, f in zip(hits.tolist(), misses.tolist(), false.tolist(), strict=True):
        counts = MultiLabelCounts(1)
        counts.merge({"labels": np.array([[h], [h + f], [h + m]]), "examples": np.empty((0, 3))})
        low, high = counts.per_label()[0].f1_interval
        inside += low <= truth <= high
    assert 0.94 <= inside / 2000 <= 0.96


def test_multilabel_before_the_first_update():
    assert set(MultiLabelCounts(2).values().values()) == {None}
    assert set(MultiLabelCounts(2).intervals().values()) == {None}


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        ([[1, 0]], [[1, 0], [0, 0]], r"shape \(1, 2\), true ones \(2, 2\)"),
        ([[1, 0, 0]], [[1, 0, 0]], r"\(N, 2\)"),
        ([1, 0], [1, 0], r"\(N, 2\)"),
        ([[0.4, 0.9]], [[1, 0]], r"hold 0\.4, which is neither 0 nor 1"),
        ([[1, 0]], [[1, math.nan]], r"true values\[0, 1\] is nan"),
    ],
)
def test_multilabel_refuses_and_counts_nothing(predicted, true, message):
    counts = MultiLabelCounts(2)
    with pytest.raises(UsageError, match=message):
        counts.update(predicted, true)
    assert counts.total() == 0
    with pytest.raises(UsageError, match="at least one label"):
        MultiLabelCounts(0)


# --- Thresholds ----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=14))
@settings(quick, max_examples=40)
def test_thresholds_are_the_best_there_are(pairs):
    scores = np.array([[score / 10] for score, _ in pairs])
    true = np.array([[flag] for _, flag in pairs])
    cut = best_thresholds(scores, true)[0]

    def f1(threshold):
        return by_sklearn(sk.f1_score, true, scores >= threshold, zero_division=0)

    # Between tenths, on them, and at the ends: every set of rows that a threshold can choose.
    tried = {round(n / 20, 2): f1(n / 20) for n in range(21)}
    if not true.any():
        assert cut == 0.5
        return
    best = max(tried.values())
    assert f1(cut) == best
    nearest = min(abs(t - 0.5) for t, value in tried.items() if value == best)
    assert (cut == 0.5) == (nearest == 0)


def test_thresholds_by_hand():
    scores = np.array([[0.9, 0.2, 0.3, 0.7], [0.8, 0.1, 0.3, 0.6], [0.3, 0.05, 0.3, 0.2]])
    true = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    # Between 0.8 and 0.9; between 0.1 and 0.2; all or none; never true.
    expected = [(0.8 + 0.9) / 2, (0.1 + 0.2) / 2, 0.15, 0.5]
    assert best_thresholds(scores, true).tolist() == pytest.approx(expected)
    assert best_thresholds(np.array([[0.0], [0.0]]), np.array([[1], [0]])).tolist() == [0.0]
    narrow = np.array([[0.8], [np.nextafter(0.8, 1)]])
    assert best_thresholds(narrow, np.array([[0], [1]])).tolist() == [narrow[1, 0]]


def test_thresholds_equally_good_take_the_nearest_to_a_half():
    # 1 of 1 right of 2 is as good as 2 right of 4 chosen: 2/3 for both cuts.
    scores = np.array([[0.9], [0.45], [0.4], [0.35]])
    assert best_thresholds(scores, np.array([[1], [0], [0], [1]])).tolist() == [0.5]
    scores = np.array([[0.9], [0.8], [0.7], [0.6]])
    assert best_thresholds(scores, np.array([[1], [0], [0], [1]])).tolist() == [0.5]
    scores = np.array([[0.4], [0.3], [0.2], [0.1]])
    assert best_thresholds(scores, np.array([[1], [0], [0], [1]])).tolist() == pytest.approx([0.35])


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 4), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
@quick
def test_thresholds_of_several_labels_have_the_best_micro_f1_together(rows):
    scores = np.array([[a / 5, b / 5] for a, _, b, _ in rows])
    true = np.array([[a, b] for _, a, _, b in rows])

    def f1(cuts):
        said = scores >= np.array(cuts)
        return 2 * (said & true).sum() / max(said.sum() + true.sum(), 1)

    tried = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9]
    places = [tried if column.any() else [0.5] for column in true.T]
    best = max(f1(cuts) for cuts in itertools.product(*places))
    assert f1(best_thresholds(scores, true)) == pytest.approx(best)


def test_a_label_that_cannot_be_told_apart_is_not_given_to_all():
    scores = np.array([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1], [0.1, 0.1], [0.2, 0.1], [0.1, 0.1]])
    true = np.array([[1, 0], [1, 0], [1, 1], [0, 0], [0, 0], [0, 0]])
    assert best_thresholds(scores, true).tolist() == [0.5, 0.5]
    assert best_thresholds(scores[:, 1:], true[:, 1:]).tolist() == pytest.approx([0.05])


def test_thresholds_refuse():
    with pytest.raises(UsageError, match="sigmoid"):
        best_thresholds([[2.0]], [[1]])
    with pytest.raises(UsageError, match=r"\(N, C\)"):
        best_thresholds([[0.5]], [[1, 0]])


# --- Real numbers --------------------------------------------------------------------------------

finite = st.floats(-1e6, 1e6, allow_subnormal=False)
rows = st.lists(st.tuples(finite, finite, finite, finite), min_size=2, max_size=30)


def counted(predicted, true):
    counts = RegressionCounts(np.shape(predicted)[1])
    counts.update(predicted, true)
    return counts


def test_regression_equals_sklearn_and_scipy():
    rng = np.random.default_rng(0)
    for offset in (0.0, 1e6):
        true = rng.normal(size=(300, 2)) + offset
        predicted = 0.7 * true + rng.normal(size=(300, 2)).round(1)
        counts = counted(predicted, true)
        for column, scores in enumerate(counts.per_column()):
            x, y = predicted[:, column], true[:, column]
            expected = {
                "mae": sk.mean_absolute_error(y, x),
                "rmse": sk.root_mean_squared_error(y, x),
                "r2": sk.r2_score(y, x),
                "pearson": stats.pearsonr(x, y).statistic,
                "spearman": stats.spearmanr(x, y).statistic,
            }
            tight = 1e-6 if offset else 1e-12
            assert {k: v.value for k, v in scores.items()} == pytest.approx(expected, rel=tight)
            fisher = stats.pearsonr(x, y).confidence_interval()
            assert scores["pearson"].interval == pytest.approx(tuple(fisher), rel=1e-6)
        values = counts.values()
        assert values["rmse"] == pytest.approx(sk.root_mean_squared_error(true, predicted))
        assert values["r2"] == pytest.approx(sk.r2_score(true, predicted), rel=1e-6)
        assert values["mae"] == pytest.approx(sk.mean_absolute_error(true, predicted))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20))
@quick
def test_regression_with_ties_and_constants(pairs):
    predicted, true = ([[float(x)] for x in side] for side in zip(*pairs, strict=True))
    values = counted(predicted, true).values()
    for name, function in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        theirs = by_sklearn(function, np.ravel(predicted), np.ravel(true)).statistic
        ours = values[name]
        assert (ours is None and math.isnan(theirs)) or ours == pytest.approx(theirs, abs=1e-9)
    assert values["r2"] == pytest.approx(sk.r2_score(true, predicted), abs=1e-9)


def test_regression_intervals_agree_with_the_bootstrap():
    rng = np.random.default_rng(1)
    true = rng.gamma(2.0, size=500)
    predicted = true + 0.5 * rng.normal(size=500)
    scores = counted(predicted[:, None], true[:, None]).per_column()[0]
    functions = {
        "mae": lambda p, t: np.abs(p - t).mean(-1),
        "rmse": lambda p, t: np.sqrt(((p - t) ** 2).mean(-1)),
        "r2": lambda p, t: 1 - ((p - t) ** 2).mean(-1) / t.var(-1),
    }
    picks = rng.integers(0, 500, size=(4000, 500))
    for name, function in functions.items():
        resampled = function(predicted[picks], true[picks])
        low, high = scores[name].interval
        assert (high - low) / 2 / 1.959964 == pytest.approx(resampled.std(), rel=0.08)
        assert low < scores[name].value < high


def test_rank_interval_by_hand():
    predicted = np.array([[1.0], [2.0], [4.0], [3.0], [5.0], [7.0], [6.0]])
    scores = counted(predicted, np.arange(7.0)[:, None]).per_column()[0]
    r = 1 - 6 * 4 / (7 * 48)
    spread = 1.959964 * math.sqrt((1 + r * r / 2) / 4)
    expected = math.tanh(math.atanh(r) - spread), math.tanh(math.atanh(r) + spread)
    assert scores["spearman"].value == pytest.approx(r)
    assert scores["spearman"].interval == pytest.approx(expected, abs=1e-6)


def test_regression_where_nothing_is_defined():
    counts = RegressionCounts(2)
    assert set(counts.values().values()) == set(counts.intervals().values()) == {None}
    counts.update([[1.0, 2.0]], [[2.0, 2.0]])
    assert counts.values() == {
        "mae": 0.5,
        "rmse": 0.5,
        "r2": None,
        "pearson": None,
        "spearman": None,
    }
    assert set(counts.intervals().values()) == {None}
    # The second column is constant: its correlation is undefined, and so is their mean.
    counts.update([[3.0, 2.0]], [[3.0, 2.0]])
    assert counts.values()["pearson"] is None
    assert counts.values()["r2"] == pytest.approx((1 - 1 / 0.5 + 1) / 2)
    first, second = counts.per_column()
    assert first["pearson"].value == pytest.approx(1.0)
    assert first["pearson"].interval is None
    assert second["r2"] == (1.0, None)


def test_error_intervals_by_hand_end_at_zero():
    counts = RegressionCounts()
    counts.update([0.0, 2.0], [0.0, 0.0])
    intervals = counts.intervals()
    # The errors 0 and 2 have the standard error 1, their squares 0 and 4 the standard error 2.
    assert intervals["mae"] == (0.0, pytest.approx(1 + 1.959964))
    assert intervals["rmse"] == (0.0, pytest.approx(math.sqrt(2 + 2 * 1.959964)))
    assert intervals["r2"] is None


def test_mean_over_columns_has_the_mean_of_their_intervals():
    rng = np.random.default_rng(2)
    counts = counted(rng.normal(size=(50, 2)), rng.normal(size=(50, 2)))
    columns = counts.per_column()
    for name, interval in counts.intervals().items():
        pairs = [column[name].interval for column in columns]
        assert interval == pytest.approx(tuple(np.mean(pairs, axis=0)))


def test_perfect_predictions():
    counts = RegressionCounts()
    counts.update([1.0, 2.0, 3.0, 5.0], [1.0, 2.0, 3.0, 5.0])
    assert counts.values() == pytest.approx(
        {"mae": 0.0, "rmse": 0.0, "r2": 1.0, "pearson": 1.0, "spearman": 1.0}
    )
    assert counts.intervals()["mae"] == (0.0, 0.0)


def test_regression_baseline():
    true = np.array([[1.0], [2.0], [6.0]])
    baseline = counted(true, true).baseline([3.0])
    assert baseline["mae"] == pytest.approx(2.0)
    assert baseline["rmse"] == pytest.approx(sk.root_mean_squared_error(true, np.full((3, 1), 3.0)))
    assert baseline["r2"] == pytest.approx(0.0)
    assert baseline["pearson"] is None


def test_regression_refuses():
    counts = RegressionCounts(2)
    with pytest.raises(UsageError, match=r"\(N, 2\)"):
        counts.update([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(UsageError, match=r"predicted values\[0, 1\] is inf"):
        counts.update([[1.0, math.inf]], [[1.0, 2.0]])
    assert counts.total() == 0
    with pytest.raises(UsageError, match="at least one value"):
        RegressionCounts(0)


# --- Spans ---------------------------------------------------------------------------------------

tag = st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B", "B-C"])
tagged = st.lists(st.lists(st.tuples(tag, tag), max_size=8), min_size=1, max_size=6)


def sides(sentences):
    return [[[pair[side] for pair in row] for row in sentences] for side in (0, 1)]


def spans_counted(sentences):
    counts = SpanCounts()
    for guessed, true in zip(*sides(sentences), strict=True):
        counts.update(spans_of(guessed), spans_of(true), predicted_tags=guessed, true_tags=true)
    return counts


@given(tagged)
@quick
def test_spans_equal_seqeval(sentences):
    predicted, true = sides(sentences)
    counts = spans_counted(sentences)
    values = counts.values()
    overall, macro = (
        by_sklearn(precision_recall_fscore_support, true, predicted, average=average)
        for average in ("micro", "macro")
    )
    assert [values[k] or 0 for k in ("precision", "recall", "f1")] == pytest.approx(overall[:3])
    if values["f1_macro"] is not None:
        assert values["f1_macro"] == pytest.approx(macro[2])
    if values["token_accuracy"] is not None:
        theirs = accuracy_score(true, predicted)
        assert values["token_accuracy"] == pytest.approx(theirs)
    if counts.kinds():
        table = by_sklearn(precision_recall_fscore_support, true, predicted, average=None)
        scores = counts.per_type().values()
        assert [s.support for s in scores] == table[3].tolist()
        assert [s.f1 or 0 for s in scores] == pytest.approx(table[2].tolist())


def test_spans_by_hand():
    counts = SpanCounts()
    counts.update(
        [(0, 1, "PER"), (2, 4, "ORG"), (5, 6, "LOC"), (7, 8, "LOC")],
        [(0, 1, "PER"), (2, 4, "LOC"), (5, 7, "LOC")],
    )
    counts.update([(0, 1, "PER")], [])
    assert counts.confused() == {("LOC", "ORG"): 1}
    assert counts.missed() == {"LOC": 1, "ORG": 0, "PER": 0}
    assert counts.spurious() == {"LOC": 2, "ORG": 0, "PER": 1}
    assert counts.values() == {
        "precision": 1 / 5,
        "recall": 1 / 3,
        "f1": 2 / 8,
        "f1_macro": pytest.approx((0 + 0 + 2 / 3) / 3),
        "token_accuracy": None,
    }
    assert counts.intervals()["precision"] == wilson_interval(1, 5)
    assert counts.intervals()["recall"] == wilson_interval(1, 3)
    person = counts.per_type()["PER"]
    assert (person.precision, person.recall, person.support, person.predicted) == (0.5, 1.0, 1, 2)
    assert person.precision_interval == wilson_interval(1, 2)


def test_spans_of_nothing():
    assert set(SpanCounts().values().values()) == set(SpanCounts().intervals().values()) == {None}
    counts = SpanCounts()
    counts.update([], [(0, 1, "A")], predicted_tags=["O"], true_tags=["B-A"])
    assert counts.values() == {
        "precision": None,
        "recall": 0.0,
        "f1": 0.0,
        "f1_macro": 0.0,
        "token_accuracy": 0.0,
    }


def test_spans_refuse_tags_of_other_lengths_and_count_nothing():
    counts = SpanCounts()
    with pytest.raises(UsageError, match="2 predicted tags and 1 true ones"):
        counts.update([(0, 1, "A")], [], predicted_tags=["B-A", "O"], true_tags=["O"])
    with pytest.raises(UsageError, match="0 predicted tags and 1 true ones"):
        counts.update([(0, 1, "A")], [], true_tags=["O"])
    assert counts.kinds() == []


# --- Parts of all of them ------------------------------------------------------------------------

MAKERS = {
    "calibration": CalibrationCounts,
    "confusion": lambda: ConfusionMatrix(3),
    "multilabel": lambda: MultiLabelCounts(3),
    "regression": lambda: RegressionCounts(2),
    "spans": SpanCounts,
}


def batch(name, rng):
    """A random batch of what one of them takes."""
    size = int(rng.integers(0, 6))
    if name == "confusion":
        return rng.integers(0, 3, size=(2, size))
    if name == "multilabel":
        return rng.random((2, size, 3)) < 0.5
    if name == "calibration":
        return rng.random(size), rng.random(size) < 0.5
    if name == "regression":
        return rng.normal(size=(2, size, 2)).round(1)
    names = np.array(["X", "Yé", ""])
    spans = [(int(n), int(n) + 1, str(names[rng.integers(3)])) for n in range(size)]
    return spans, [(start, end, str(names[rng.integers(3)])) for start, end, _ in spans[1:]]


@pytest.mark.parametrize("name", sorted(MAKERS))
@given(st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
@quick
def test_parts_merged_are_the_whole_to_the_last_bit(name, seed, random):
    rng = np.random.default_rng(seed)
    batches = [batch(name, rng) for _ in range(7)]
    whole, merged = MAKERS[name](), MAKERS[name]()
    parts = [MAKERS[name]() for _ in range(3)]
    for each in batches:
        whole.update(*each)
        random.choice(parts).update(*each)
    for part in random.sample(parts, 3):
        state = part.state()
        assert {array.dtype for array in state.values()} <= {np.dtype("i8"), np.dtype("f8")}
        merged.merge(state)
    assert merged.values() == whole.values()
    assert merged.intervals() == whole.intervals()
    assert merged.state().keys() == whole.state().keys()
    for key, array in whole.state().items():
        np.testing.assert_array_equal(merged.state()[key], array)


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_state_is_a_copy(name):
    counts = MAKERS[name]()
    counts.update(*batch(name, np.random.default_rng(3)))
    before = counts.values()
    for array in counts.state().values():
        array += 1
    assert counts.values() == before
    counts.merge(MAKERS[name]().state())
    assert counts.values() == before


def test_confusion_values():
    matrix = ConfusionMatrix(3)
    assert set(matrix.values().values()) == set(matrix.intervals().values()) == {None}
    matrix.update([0, 1, 1, 2], [0, 1, 2, 2])
    matthews = sk.matthews_corrcoef([0, 1, 2, 2], [0, 1, 1, 2])
    assert matrix.values() == {
        "accuracy": 0.75,
        "f1_macro": pytest.approx((1 + 2 / 3 + 2 / 3) / 3),
        "matthews_correlation": pytest.approx(matthews),
    }
    assert matrix.intervals() == {"accuracy": wilson_interval(3, 4)}


def test_states_over_other_labels_are_refused():
    for one, other in (
        (ConfusionMatrix(3), ConfusionMatrix(1)),
        (MultiLabelCounts(3), MultiLabelCounts(1)),
    ):
        with pytest.raises(UsageError, match=r"shape .*, not \(3, 3\).*\n.*as many labels"):
            one.merge(other.state())
    wide = RegressionCounts(2)
    wide.update([[1.0, 2.0]], [[1.0, 2.0]])
    with pytest.raises(UsageError, match=r"\(N, 1\)"):
        RegressionCounts(1).merge(wide.state())
