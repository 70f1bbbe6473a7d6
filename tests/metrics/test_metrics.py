"""Metrics against scikit-learn and scipy, against values worked out by hand, and in pieces."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from bertolt.base.errors import UsageError
from bertolt.metrics import ConfusionMatrix, load_metric, wilson_interval
from bertolt.metrics.squad import normalize_answer
from tests.metrics.peers import by_sklearn

quick = settings(derandomize=True, deadline=None, max_examples=60)


def labelled(classes: int = 4):
    """Lists of (prediction, reference)."""
    label = st.integers(0, classes - 1)
    return st.lists(st.tuples(label, label), min_size=1, max_size=40)


finite = st.floats(-1e6, 1e6, allow_subnormal=False)
pairs_of_reals = st.lists(st.tuples(finite, finite), min_size=2, max_size=40)


def split(pairs):
    """Predictions and references."""
    return [a for a, _ in pairs], [b for _, b in pairs]


# --- ConfusionMatrix -----------------------------------------------------------------------------


def matrix_of(pairs, classes=4):
    matrix = ConfusionMatrix(classes)
    matrix.update(*split(pairs))
    return matrix


@given(labelled())
@quick
def test_confusion_matrix_equals_sklearn(pairs):
    predictions, references = split(pairs)
    matrix = matrix_of(pairs)
    expected = sk.confusion_matrix(references, predictions, labels=range(4))
    assert matrix.counts.tolist() == expected.tolist()
    assert matrix.accuracy() == sk.accuracy_score(references, predictions)
    macro = sk.f1_score(references, predictions, average="macro", zero_division=0)
    assert matrix.f1_macro() == pytest.approx(macro, abs=1e-12)
    assert matrix.majority_accuracy() == max(map(references.count, range(4))) / len(pairs)
    p, r, f, n = sk.precision_recall_fscore_support(
        references, predictions, labels=range(4), zero_division=np.nan
    )
    for i, score in enumerate(matrix.per_class()):
        assert score.support == n[i]
        assert score.predicted == predictions.count(i)
        for ours, theirs in ((score.precision, p[i]), (score.recall, r[i]), (score.f1, f[i])):
            assert (ours is None) == math.isnan(theirs)
            assert ours is None or ours == pytest.approx(theirs, abs=1e-12)


def test_confusion_matrix_by_hand():
    matrix = ConfusionMatrix(3)
    matrix.update(predictions=[0, 0, 1, 0], references=[0, 0, 0, 1])
    assert matrix.counts.tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert matrix.accuracy() == 0.5
    assert matrix.majority_accuracy() == 0.75
    first, second, third = matrix.per_class()
    assert (first.precision, first.recall, first.f1) == (2 / 3, 2 / 3, 2 / 3)
    assert (second.precision, second.recall, second.f1) == (0.0, 0.0, 0.0)
    assert (third.precision, third.recall, third.f1) == (None, None, None)
    assert third.precision_interval is None
    # Class 2 occurs nowhere, so it takes no part; class 1 counts 0.
    assert matrix.f1_macro() == pytest.approx(1 / 3)


def test_confusion_matrix_undefined_precision_is_none_in_strict_json():
    matrix = ConfusionMatrix(2)
    matrix.update([0, 0], [0, 1])
    plain = json.loads(json.dumps(matrix.to_dict(), allow_nan=False))
    assert plain["per_class"][1]["precision"] is None
    assert plain["per_class"][1]["recall"] == 0.0
    assert plain["counts"] == [[1, 0], [1, 0]]
    assert plain["total"] == 2


@pytest.mark.parametrize(
    "cast",
    [list, np.array, torch.tensor, lambda x: torch.tensor(x, dtype=torch.bfloat16), tuple],
    ids=["list", "numpy", "torch", "bfloat16", "tuple"],
)
def test_confusion_matrix_takes_any_array(cast):
    matrix = ConfusionMatrix(3)
    matrix.update(cast([0, 1, 2]), cast([0, 2, 2]))
    assert np.trace(matrix.counts) == 2


def test_confusion_matrix_takes_token_grids_and_empty_batches():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 1], [0, 1]]))
    matrix.update([], [])
    assert matrix.total() == 4


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([0, 5], [0, 1], r"predictions\[1\] is 5, outside 0\.\.2"),
        ([0, 1], [0, -100], r"references\[1\] is -100"),
        ([0, 1, 2], [0, 1], r"shape \(3,\), references \(2,\)"),
        (np.zeros((2, 3)), [0, 1], r"argmax"),
        ([0.5, 1.0], [0, 1], r"predictions\[0\] is 0\.5, not a class id"),
        ([float("nan"), 1.0], [0, 1], r"predictions\[0\] is nan"),
        (["good", "bad"], [0, 1], r"'good'.*not a number"),
        ([[0, 1], [0]], [0, 1], r"rectangular"),
    ],
)
def test_confusion_matrix_refuses_and_counts_nothing(predictions, references, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(UsageError, match=message):
        matrix.update(predictions, references)
    assert matrix.total() == 0


def test_confusion_matrix_empty():
    with pytest.raises(UsageError, match="empty"):
        ConfusionMatrix(2).accuracy()
    with pytest.raises(UsageError, match="empty"):
        ConfusionMatrix(2).to_dict()
    with pytest.raises(UsageError, match="at least one class"):
        ConfusionMatrix(0)


@given(st.integers(1, 2000), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
@quick
def test_wilson_interval_equals_scipy(trials, data, confidence):
    successes = data.draw(st.integers(0, trials))
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    low, high = wilson_interval(successes, trials, confidence)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)
    assert 0.0 <= low <= successes / trials <= high <= 1.0


def test_wilson_interval_is_exact_at_the_ends():
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0


# --- load_metric: class ids ----------------------------------------------------------------------

SCORES = {"f1": sk.f1_score, "precision": sk.precision_score, "recall": sk.recall_score}


@given(
    labelled(),
    st.sampled_from(sorted(SCORES)),
    st.sampled_from(["micro", "macro", "weighted", None]),
    st.sampled_from([None, [2, 0], [1, 9], [3]]),
    st.sampled_from([0, 1]),
)
@settings(quick, max_examples=300)
def test_averaged_scores_equal_sklearn(pairs, name, average, labels, zero_division):
    predictions, references = split(pairs)
    options = {"average": average, "labels": labels, "zero_division": zero_division}
    ours = load_metric(name).compute(predictions=predictions, references=references, **options)
    theirs = by_sklearn(SCORES[name], references, predictions, **options)
    np.testing.assert_allclose(ours[name], theirs, rtol=0, atol=1e-12)


@given(labelled(classes=2), st.sampled_from(sorted(SCORES)))
@quick
def test_binary_scores_equal_sklearn(pairs, name):
    predictions, references = split(pairs)
    ours = load_metric(name).compute(predictions=predictions, references=references)
    theirs = by_sklearn(SCORES[name], references, predictions, zero_division=0)
    assert ours == {name: pytest.approx(theirs, abs=1e-12)}


@given(labelled())
@quick
def test_matthews_equals_sklearn(pairs):
    predictions, references = split(pairs)
    ours = load_metric("matthews_correlation").compute(
        predictions=predictions, references=references
    )
    theirs = by_sklearn(sk.matthews_corrcoef, references, predictions)
    assert ours == {"matthews_correlation": pytest.approx(theirs, abs=1e-12)}


@given(labelled(), st.sampled_from([None, "true", "pred", "all"]))
@quick
def test_confusion_matrix_metric_equals_sklearn(pairs, normalize):
    predictions, references = split(pairs)
    ours = load_metric("confusion_matrix", normalize=normalize).compute(
        predictions=predictions, references=references
    )
    theirs = by_sklearn(sk.confusion_matrix, references, predictions, normalize=normalize)
    np.testing.assert_allclose(ours["confusion_matrix"], theirs, atol=1e-12)


def test_confusion_matrix_metric_selects_and_orders_labels():
    result = load_metric("confusion_matrix").compute(
        predictions=[0, 1, 2], references=[0, 2, 2], labels=[2, 0]
    )
    assert result["confusion_matrix"] == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("name", "config", "predictions", "references", "result"),
    [
        ("f1", {"average": None}, [0, 1, 1], [0, 0, 1], {"f1": [2 / 3, 2 / 3]}),
        ("confusion_matrix", {}, [0, 1], [0, 0], {"confusion_matrix": [[1, 1], [0, 0]]}),
        (
            "confusion_matrix",
            {"normalize": "all"},
            np.array([0, 1]),
            torch.tensor([0, 0]),
            {"confusion_matrix": [[0.5, 0.5], [0.0, 0.0]]},
        ),
        (
            "seqeval",
            {},
            [["B-X", "O"]],
            [np.array(["B-X", "O"])],
            {
                "X": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "number": 1},
                "overall_precision": 1.0,
                "overall_recall": 1.0,
                "overall_f1": 1.0,
                "overall_accuracy": 1.0,
            },
        ),
    ],
)
def test_results_of_several_values_are_plain(name, config, predictions, references, result):
    ours = load_metric(name, **config).compute(predictions=predictions, references=references)
    assert json.loads(json.dumps(ours, allow_nan=False)) == ours == result


def test_accuracy_as_in_a_training_loop():
    metric = load_metric("accuracy")
    metric.add_batch(predictions=torch.tensor([1, 0, 1]), references=torch.tensor([1, 1, 1]))
    metric.add(prediction=torch.tensor(0), reference=0)
    assert metric.compute() == {"accuracy": 0.75}
    assert metric.compute(predictions=[1], references=[0]) == {"accuracy": 0.0}
    assert metric.compute(predictions=[1, 1], references=[1, 1], normalize=False) == {
        "accuracy": 2.0
    }


def test_config_gives_defaults_that_compute_overrides():
    metric = load_metric("f1", average="macro")
    given = {"predictions": [0, 1, 2, 2], "references": [0, 1, 1, 2]}
    assert metric.compute(**given) == {"f1": pytest.approx((1 + 2 / 3 + 2 / 3) / 3)}
    assert metric.compute(**given, average="micro") == {"f1": pytest.approx(0.75)}


def test_binary_average_refuses_what_is_not_binary():
    with pytest.raises(UsageError, match="needs two classes, and there are 3"):
        load_metric("f1").compute(predictions=[0, 1, 2], references=[0, 1, 1])
    with pytest.raises(UsageError, match=r"pos_label=1 is none of the labels \[0, 2\]"):
        load_metric("f1").compute(predictions=[0, 2], references=[0, 2])
    assert load_metric("f1", pos_label=2).compute(predictions=[0, 2], references=[0, 2]) == {
        "f1": 1.0
    }
    with pytest.raises(UsageError, match="average is 'samples'"):
        load_metric("f1", average="samples").compute(predictions=[0], references=[0])


def test_failed_compute_keeps_what_was_added_but_not_what_it_was_given():
    metric = load_metric("f1")
    metric.add_batch(predictions=[0, 1, 2], references=[0, 1, 2])
    with pytest.raises(UsageError, match="needs two classes"):
        metric.compute()
    assert metric.compute(average="macro") == {"f1": 1.0}
    with pytest.raises(UsageError, match="needs two classes"):
        metric.compute(predictions=[0, 1, 2], references=[0, 1, 2])
    with pytest.raises(UsageError, match="no predictions were added"):
        metric.compute(average="macro")


# --- load_metric: real numbers -------------------------------------------------------------------


@given(pairs_of_reals)
@quick
def test_errors_equal_sklearn(pairs):
    predictions, references = split(pairs)
    given = {"predictions": predictions, "references": references}
    mse = sk.mean_squared_error(references, predictions)
    assert load_metric("mse").compute(**given) == {"mse": pytest.approx(mse, rel=1e-12)}
    root = {"mse": pytest.approx(math.sqrt(mse), rel=1e-12)}
    assert load_metric("mse", squared=False).compute(**given) == root
    mae = sk.mean_absolute_error(references, predictions)
    assert load_metric("mae").compute(**given) == {"mae": pytest.approx(mae, rel=1e-12)}


@pytest.mark.parametrize("offset", [0.0, 1e8])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_correlations_equal_scipy_and_sklearn(offset, size):
    rng = np.random.default_rng(0)
    references = rng.normal(size=1000) + offset
    predictions = 0.6 * references + rng.normal(size=1000)
    expected = {
        "pearsonr": stats.pearsonr(predictions, references).statistic,
        "spearmanr": stats.spearmanr(predictions, references).statistic,
        "r_squared": sk.r2_score(references, predictions),
    }
    for name, value in expected.items():
        metric = load_metric(name)
        for start in range(0, 1000, size):
            part = slice(start, start + size)
            metric.add_batch(predictions=predictions[part], references=references[part])
        # At an offset of 1e8 the inputs themselves hold only half of float64's digits.
        assert metric.compute()[name] == pytest.approx(value, rel=1e-6 if offset else 1e-12)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=40))
@quick
def test_correlations_with_ties_equal_scipy(pairs):
    predictions, references = split(pairs)
    for name, function in (("pearsonr", stats.pearsonr), ("spearmanr", stats.spearmanr)):
        ours = load_metric(name).compute(predictions=predictions, references=references)[name]
        theirs = by_sklearn(function, predictions, references).statistic
        assert ours == pytest.approx(theirs, abs=1e-9, nan_ok=True)


@given(pairs_of_reals, st.randoms(use_true_random=False), st.integers(1, 7))
@quick
def test_real_metrics_ignore_order_and_batching(pairs, random, size):
    shuffled = random.sample(pairs, len(pairs))
    for name in ("mse", "mae", "spearmanr", "r_squared"):
        whole, pieces = load_metric(name), load_metric(name)
        whole.add_batch(predictions=split(pairs)[0], references=split(pairs)[1])
        for start in range(0, len(shuffled), size):
            predictions, references = split(shuffled[start : start + size])
            pieces.add_batch(predictions=predictions, references=references)
        expected = whole.compute()[name]
        assert pieces.compute()[name] == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


def test_constant_input_has_no_correlation_however_it_is_batched():
    metric = load_metric("pearsonr")
    for size in (3, 7, 1):
        metric.add_batch(predictions=[0.1] * size, references=list(range(size)))
    assert math.isnan(metric.compute()["pearsonr"])


def test_constant_references_leave_no_variance_to_explain():
    r_squared = load_metric("r_squared")
    assert r_squared.compute(predictions=[2, 2], references=[2, 2]) == {"r_squared": 1.0}
    assert r_squared.compute(predictions=[2, 3], references=[2, 2]) == {"r_squared": 0.0}


def test_regression_head_column_against_flat_labels():
    logits, labels = torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0])
    assert load_metric("mse").compute(predictions=logits, references=labels) == {"mse": 2.0}


@given(
    st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 1)), min_size=2, max_size=40).filter(
        lambda pairs: len({b for _, b in pairs}) == 2
    )
)
@quick
def test_roc_auc_equals_sklearn(pairs):
    scores, references = split(pairs)
    ours = load_metric("roc_auc").compute(predictions=scores, references=references)
    assert ours == {"roc_auc": pytest.approx(sk.roc_auc_score(references, scores), abs=1e-12)}


def test_real_metrics_refuse():
    with pytest.raises(UsageError, match="1 class"):
        load_metric("roc_auc").compute(predictions=[0.1, 0.9], references=[1, 1])
    with pytest.raises(UsageError, match="no variance"):
        load_metric("pearsonr").compute(predictions=[0.1], references=[1])
    with pytest.raises(UsageError, match=r"predictions\[1\] is inf"):
        load_metric("mae").compute(predictions=[0.1, math.inf], references=[1, 2])


# --- load_metric: tag sequences and answers ------------------------------------------------------


def test_seqeval_by_hand():
    metric = load_metric("seqeval")
    # A MISC entity with one end wrong does not count; the PER entity does.
    metric.add(
        prediction=["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"],
        reference=["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"],
    )
    metric.add_batch(predictions=[["B-PER", "I-PER", "O"]], references=[["B-PER", "I-PER", "O"]])
    assert metric.compute() == {
        "MISC": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "number": 1},
        "PER": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "number": 1},
        "overall_precision": 0.5,
        "overall_recall": 0.5,
        "overall_f1": 0.5,
        "overall_accuracy": 0.8,
    }


def test_seqeval_type_only_predicted_and_entities_of_other_sentences():
    result = load_metric("seqeval").compute(
        predictions=[["B-LOC"], ["O"], ["B-PER"]], references=[["O"], ["B-PER"], ["B-PER"]]
    )
    assert result["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "number": 0}
    assert result["PER"] == {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "number": 2}
    assert result["overall_precision"] == 0.5
    assert result["overall_recall"] == 0.5
    assert result["overall_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([["O", "O"]], [["O"]], "sentence 0 has 2 predicted tags and 1 true ones"),
        ([["O"], ["O"]], [["O"]], "2 predictions and 1 references"),
        (["O", "O"], ["O", "O"], "sentence 0 is a single string"),
        ([["PER"]], [["O"]], "'PER' is not a tag"),
        ([["X-PER"]], [["O"]], "'X-PER' is not a tag"),
        ([[3]], [["O"]], "3 is not a tag"),
    ],
)
def test_seqeval_refuses(predictions, references, message):
    metric = load_metric("seqeval")
    metric.add(prediction=["B-PER"], reference=["B-PER"])
    with pytest.raises(UsageError, match=message):
        metric.add_batch(predictions=predictions, references=references)
    assert metric.compute()["PER"]["number"] == 1


def answer(key, text):
    return {"id": key, "prediction_text": text}


def gold(key, *texts):
    return {"id": key, "answers": {"text": list(texts), "answer_start": [0] * len(texts)}}


def test_squad_by_hand():
    metric = load_metric("squad")
    metric.add_batch(
        predictions=[answer("a", "the Norman Conquest!"), answer("b", "in 10th century")],
        references=[gold("b", "10th century", "the tenth"), gold("a", "norman  conquest", "1066")],
    )
    # "a" matches once articles, case and punctuation are gone. "b" shares 2 of its 3 words with a
    # reference of 2: F1 = 2 * 2 / (3 + 2).
    assert metric.compute() == {"exact_match": 50.0, "f1": pytest.approx(100 * (1 + 0.8) / 2)}
    metric.add(prediction=answer("c", "no"), reference=gold("c", "yes"))
    assert metric.compute() == {"exact_match": 0.0, "f1": 0.0}


def test_squad_counts_repeated_words_once_each():
    result = load_metric("squad").compute(
        predictions=[answer("a", "new new york")], references=[gold("a", "new york york")]
    )
    assert result["f1"] == pytest.approx(100 * 2 * 2 / 6)


def test_normalize_answer():
    assert normalize_answer("  The cat's  a  Theatre, an' all. ") == "cats theatre all"


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([answer("a", "x")], [gold("b", "x")], "id 'a' has no reference"),
        ([answer("a", "x")], [gold("a", "x"), gold("b", "x")], "id 'b' has no prediction"),
        ([answer("a", "x")] * 2, [gold("a", "x")], "hold the id 'a' twice"),
        ([answer("a", "x")], [gold("a")], "id 'a' has no answer"),
        (["x"], [gold("a", "x")], r"predictions\[0\] lacks 'id' or 'prediction_text'"),
    ],
)
def test_squad_refuses(predictions, references, message):
    with pytest.raises(UsageError, match=message):
        load_metric("squad").compute(predictions=predictions, references=references)


# --- load_metric itself --------------------------------------------------------------------------


def test_unknown_metric_names_the_nearest_and_the_list():
    with pytest.raises(UsageError, match=r"(?s)spearmanr, squad.*did you mean 'accuracy'"):
        load_metric("acuracy")


def test_unknown_option_is_refused_at_once():
    with pytest.raises(UsageError, match=r"(?s)no option 'averge'.*did you mean 'average'"):
        load_metric("f1", averge="macro")
    with pytest.raises(UsageError, match="it has none"):
        load_metric("mae").compute(predictions=[1], references=[1], squared=True)
    with pytest.raises(UsageError, match="did you mean 'predictions'"):
        load_metric("roc_auc").compute(prediction_scores=[1], references=[1])


@pytest.mark.parametrize("name", ["accuracy", "f1", "pearsonr", "roc_auc", "seqeval", "squad"])
def test_nothing_added(name):
    with pytest.raises(UsageError, match="no predictions were added"):
        load_metric(name).compute()


def test_predictions_without_references():
    with pytest.raises(UsageError, match="references are missing"):
        load_metric("accuracy").compute(predictions=[1, 0])
    with pytest.raises(UsageError, match="references are missing"):
        load_metric("seqeval").compute(predictions=[["O"]])


def test_import_is_light():
    heavy = "{'torch', 'scipy', 'sklearn', 'datasets'}"
    code = f"import sys, bertolt.metrics; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
