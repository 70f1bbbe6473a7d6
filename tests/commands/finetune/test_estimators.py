"""`BertClassifier`, `BertRegressor` and `BertTagger`, as scikit-learn's users know estimators."""

from __future__ import annotations

import copy
import csv
import importlib
import inspect
import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

from bertolt import BertClassifier, BertRegressor, BertTagger, Predictor
from bertolt.base.errors import DataError, TrainingError, UsageError
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.commands.finetune.run import finetune

FAST = {"epochs": 6, "batch_size": 8, "lr": 5e-3, "precision": "fp32", "random_state": 0}
ONCE = {"epochs": 0.2, "batch_size": 64, "precision": "fp32", "random_state": 0}
"""Settings that learn by heart, and settings of a single step."""
TEXTS = ["good film", "bad film", "great book , fine", "awful plot"] * 6
LABELS = np.array(["yes", "no", "yes", "no"] * 6)
WORDS = [text.split() for text in TEXTS]
TAGS = [["B-A", "O"], ["O", "B-B"], ["O", "B-A", "I-A", "O"], ["O", "O"]] * 6


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> str:
    return str(tiny_folder)


@pytest.fixture(scope="module")
def classifier(model: str) -> BertClassifier:
    """Has learned `TEXTS` by heart. Not to be changed."""
    return BertClassifier(model, **FAST).fit(TEXTS, LABELS)


def test_a_classifier_answers_in_the_labels_it_was_given(classifier: BertClassifier) -> None:
    assert classifier.classes_.tolist() == ["no", "yes"]
    assert classifier.score(TEXTS, LABELS) == 1.0
    assert classifier.predict(TEXTS).dtype == LABELS.dtype
    shares = classifier.predict_proba(TEXTS)
    assert shares.shape == (24, 2)
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert (classifier.classes_[shares.argmax(axis=1)] == classifier.predict(TEXTS)).all()
    assert (classifier.n_features_in_, classifier.n_iter_) == (1, len(classifier.loss_curve_))
    assert "BertClassifier" in classifier._repr_html_()


def test_a_fit_is_a_run_of_finetune(model: str, tmp_path: Path) -> None:
    """With the same settings it has the same weights, to the bit."""
    path = tmp_path / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(TEXTS, LABELS, strict=True)])
    options = FinetuneOptions(
        model=model,
        out=tmp_path / "out",
        epochs=2,
        batch_size=8,
        lr=5e-3,
        precision="fp32",
        seed=3,
        test_size=0,
        class_weights="auto",
        freeze=1,
    )
    finetune(path, options)
    settings = {**FAST, "epochs": 2, "random_state": np.int64(3)}
    fitted = BertClassifier(model, **settings, class_weights="auto", freeze=1).fit(TEXTS, LABELS)
    theirs = Predictor.from_pretrained(tmp_path / "out", precision="fp32").model.state_dict()
    ours = fitted.predictor_.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


_FILES = (
    "text text_pair label label_separator eval group on_bad_row encoding sep no_header skip_rows"
)
_TABLES = "sep no_header skip_rows sheet"
_FOLDERS = "out overwrite save_every keep resume keep_checkpoints track shard"
_TASKS = "task pooling unnormalized score_scale micro_batch"
_SEEDS = "seed split_seed"
_RUNS = "seeds folds sample search trials prune keep_models"
_TEACHER = "distil temperature distil_weight student_layers"
LEFT_OUT = {*_FILES.split(), *_TABLES.split(), *_FOLDERS.split(), *_TASKS.split(), *_SEEDS.split()}
LEFT_OUT |= {*_RUNS.split(), *_TEACHER.split()}
"""Settings of `finetune` that estimators have not: of files, of folders, of other tasks; seeds,
which are `random_state` here; several runs, which scikit-learn makes; a teacher."""


def test_a_fit_that_changed_nothing_warns(model: str) -> None:
    with pytest.warns(ConvergenceWarning, match="give warmup=0"):
        BertClassifier(model, **ONCE).fit(TEXTS, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        BertClassifier(model, warmup=0, **ONCE).fit(TEXTS, LABELS)


def test_settings_are_those_of_finetune() -> None:
    """By the same names, with the same defaults."""
    ours = inspect.signature(BertClassifier).parameters
    theirs = {field.name: field.default for field in fields(FinetuneOptions)}
    own = {"random_state", "verbose"}
    assert set(theirs) - LEFT_OUT == set(ours) - own
    differ = {
        name
        for name, argument in ours.items()
        if name not in own and argument.default != theirs[name] and theirs[name] is not MISSING
    }
    assert differ == {"test_size"}, "who splits rows is scikit-learn"


@pytest.mark.parametrize(
    "labels",
    [np.array([3, -1] * 12), np.array([True, False] * 12), np.array([0.5, 1.0] * 12, object)],
    ids=["whole", "truth", "object"],
)
def test_labels_of_any_kind(labels: Any, model: str, tmp_path: Path) -> None:
    if labels.dtype == object:
        labels = np.array(["a ", "a"] * 12, dtype=object)  # alike but for spaces
    fitted = BertClassifier(model, **ONCE).fit(np.array(TEXTS), pd.Series(labels))
    said = fitted.predict(pd.Series(TEXTS, index=range(50, 74)))
    assert said.dtype == labels.dtype
    assert set(said.tolist()) <= set(labels.tolist())
    fitted.save(tmp_path / "out")
    again = BertClassifier.load(tmp_path / "out")
    assert again.classes_.tolist() == fitted.classes_.tolist()
    assert (again.predict(TEXTS) == said).all()


def test_pairs_and_several_labels(model: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"first": TEXTS, "second": TEXTS[::-1]})
    several = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1]] * 6)
    fitted = BertClassifier(model, **ONCE).fit(frame, several)
    assert fitted.predict(frame).shape == fitted.predict_proba(frame).shape == (24, 3)
    assert set(np.unique(fitted.predict(frame))) <= {0, 1}
    assert fitted.feature_names_in_.tolist() == ["first", "second"]
    settings = {**ONCE, "warmup": 0}
    plain = BertClassifier(model, **settings).fit(frame, several).predict_proba(frame)
    weighted = BertClassifier(model, **settings, class_weights={0: 9}).fit(frame, several)
    assert (weighted.predict_proba(frame)[:, 0] > plain[:, 0]).all()
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    for same in (pairs, np.array(pairs), frame.to_numpy()):
        assert (fitted.predict_proba(same) == fitted.predict_proba(frame)).all()
    with pytest.raises(DataError, match="feature names should match"):
        fitted.predict(frame[["second", "first"]])
    with pytest.raises(DataError, match="X has 1 features, but BertClassifier is expecting 2"):
        fitted.predict(TEXTS)
    fitted.save(tmp_path / "out")
    again = BertClassifier.load(tmp_path / "out")
    assert (again.predict(frame) == fitted.predict(frame)).all()
    assert again.feature_names_in_.tolist() == ["first", "second"]


def test_numbers_come_back_in_their_units(model: str, tmp_path: Path) -> None:
    numbers = np.where(LABELS == "yes", 250.0, 100.0)
    fitted = BertRegressor(model, **{**FAST, "epochs": 15}).fit(TEXTS, numbers)
    assert fitted.predict(TEXTS).shape == (24,)
    assert fitted.score(TEXTS, numbers) > 0.8
    fitted.save(tmp_path / "one")
    assert (BertRegressor.load(tmp_path / "one").predict(TEXTS) == fitted.predict(TEXTS)).all()
    both = BertRegressor(model, **ONCE).fit(TEXTS, np.stack([numbers, -numbers], axis=1))
    assert both.predict(TEXTS[:3]).shape == (3, 2)


def test_words_are_tagged(model: str, tmp_path: Path) -> None:
    fitted = BertTagger(model, **{**FAST, "epochs": 12}).fit(WORDS, TAGS)
    said = fitted.predict(WORDS)
    assert [len(tags) for tags in said] == [len(words) for words in WORDS]
    assert said == TAGS
    assert fitted.score(WORDS, TAGS) == 1.0
    assert set(fitted.classes_) == {"O", "B-A", "I-A", "B-B", "I-B"}
    fitted.save(tmp_path / "out")
    assert BertTagger.load(tmp_path / "out").predict(WORDS) == said
    assert pickle.loads(pickle.dumps(fitted)).predict(WORDS[:2]) == said[:2]  # noqa: S301
    with pytest.raises(UsageError, match="token-classification, which a BertClassifier is not"):
        BertClassifier.load(tmp_path / "out")


def test_fits_of_two_threads_are_those_of_one(model: str) -> None:
    """All dropout of a process draws from one generator."""

    def fit(seed: int) -> Any:
        own = {**FAST, "epochs": 2, "random_state": seed}
        return BertClassifier(model, **own).fit(TEXTS, LABELS).predict_proba(TEXTS)

    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(fit, [0, 1, 0]))
    assert (together[0] == together[2]).all()
    assert (together[1] == fit(1)).all()


def test_pickles_hold_files_and_no_tensor(classifier: BertClassifier) -> None:
    """A copy answers alike, and its weights went as the bytes of a safetensors file."""
    state = classifier.__getstate__()
    assert {"config.json", "model.safetensors", "bertolt.json"} <= state["_files"].keys()
    assert all(isinstance(content, bytes) for content in state["_files"].values())
    assert b"torch" not in pickle.dumps(classifier)
    for again in (pickle.loads(pickle.dumps(classifier)), copy.deepcopy(classifier)):  # noqa: S301
        assert (again.predict_proba(TEXTS) == classifier.predict_proba(TEXTS)).all()
    unfitted = pickle.loads(pickle.dumps(clone(classifier)))  # noqa: S301
    assert unfitted.get_params() == classifier.get_params()


def test_folders_are_those_of_the_commands(
    bertolt: Any, classifier: BertClassifier, tmp_path: Path
) -> None:
    classifier.save(tmp_path / "out")
    said = bertolt("predict", tmp_path / "out", "--text", "good film", "--format", "csv")
    assert said.code == 0
    assert ",yes," in said.out
    with pytest.raises(UsageError):
        classifier.save(tmp_path / "out")
    classifier.save(tmp_path / "out", overwrite=True)
    again = BertClassifier.load(tmp_path / "out")
    assert again.get_params() == classifier.get_params()
    (tmp_path / "out" / "estimator.json").unlink()
    assert BertClassifier.load(tmp_path / "out").predict(TEXTS).tolist() == LABELS.tolist()


def test_searches_pipelines_and_cross_validation(model: str) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    steps = make_pipeline(lower, BertClassifier(model, **ONCE))
    settings = {"batch_size": 8, "lr": 5e-3}
    steps.set_params(**{f"bertclassifier__{name}": value for name, value in settings.items()})
    search = GridSearchCV(steps, {"bertclassifier__epochs": [0.2, 8]}, cv=2)
    search.fit(TEXTS, LABELS)
    assert search.best_params_ == {"bertclassifier__epochs": 8}
    assert search.score(TEXTS, LABELS) == 1.0
    scores = cross_val_score(BertTagger(model, **ONCE), WORDS, TAGS, cv=2)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()


def test_held_out_rows_and_patience(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**FAST, "epochs": 8, "test_size": 0.25, "patience": 1, "metric": "accuracy"}
    fitted = BertClassifier(model, **settings, verbose=True, calibrate=True).fit(TEXTS, LABELS)
    assert fitted.scores_["primary"] == "accuracy"
    assert fitted.n_iter_ < 8 * 3
    assert "evaluated at step" in capsys.readouterr().err
    weights = {"yes": 2.0, "no": 1.0}
    BertClassifier(model, **ONCE, class_weights=weights).fit(TEXTS, LABELS)
    assert capsys.readouterr().err == ""


def test_what_is_told_of_a_fit_names_its_arguments(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    BertClassifier(model, **ONCE, verbose=True).fit(TEXTS, LABELS)
    told = capsys.readouterr().err
    assert "Not measured: test_size 0: all rows train" in told
    assert "--" not in told


def test_a_fit_that_diverges_names_no_folder(model: str) -> None:
    with pytest.raises(TrainingError, match=r"(loss|norm) is") as failed:
        BertClassifier(model, **{**FAST, "lr": 1e30, "warmup": 0}).fit(TEXTS, LABELS)
    assert "saved" not in str(failed.value)


@pytest.mark.parametrize(
    ("settings", "X", "y", "words"),
    [
        ({}, "good film", LABELS, "X is a str, and must be several texts"),
        ({}, [], [], "0 sample"),
        ({}, np.array([], dtype=object), [], "0 sample"),
        ({}, {"good", "bad"}, [0, 1], "X is a set, and must be several texts"),
        ({}, scipy.sparse.eye(2).tocsr(), [0, 1], "X is a csr_matrix, and must be several texts"),
        ({}, [b"ab", b"cd"], [0, 1], "row 1.*the text is no text but b'ab'"),
        ({}, [1, 2], [0, 1], "row 1.*no text but 1 .int.*write each value as a text"),
        ({}, ["good", ""], [0, 1], "row 2.*is empty"),
        ({}, TEXTS, LABELS[:3], r"inconsistent numbers of samples: \[24, 3\]"),
        ({}, TEXTS, None, "the target y is None"),
        ({}, TEXTS, ["a"] * 24, "only one class"),
        ({}, TEXTS, [None, "a"] * 12, "y, row 1: Input y contains None"),
        ({}, TEXTS, np.linspace(0, 1, 24), "Unknown label type"),
        ({}, [("a", "b", "c")] * 24, LABELS, "X has 3 columns"),
        ({"lr": -1}, TEXTS, LABELS, "^lr is -1"),
        ({"patience": 2}, TEXTS, LABELS, "test_size 0 holds no rows out"),
        ({"class_weights": {"z": 2}}, TEXTS, LABELS, "class_weights: there is no label 'z'"),
    ],
)
def test_what_cannot_be_learned_is_a_value_error(
    settings: Any, X: Any, y: Any, words: str, model: str
) -> None:
    with pytest.raises(ValueError, match=f"(?s){words}") as refused:
        BertClassifier(model, **{**ONCE, **settings}).fit(X, y)
    assert "--" not in str(refused.value)


def test_other_refusals(model: str) -> None:
    with pytest.raises(NotFittedError):
        BertTagger(model).predict(WORDS)
    with pytest.raises(DataError, match="row 1: 2 words and 1 tag do not pair"):
        BertTagger(model).fit(WORDS, [tags[:1] for tags in TAGS])
    with pytest.raises(DataError, match=r"X, row 1: this is no list of texts but 'good film'"):
        BertTagger(model).fit(TEXTS, TAGS)
    with pytest.raises(UsageError, match="focal: it is for labels, and regression"):
        BertRegressor(model, focal=2.0).fit(TEXTS, np.arange(24.0))
    with pytest.raises(UsageError, match="metric: it says what") as refused:
        BertClassifier(model, metric="f1_macro").fit(TEXTS, LABELS)
    assert refused.value.fix == "give patience=3"
    with pytest.warns(DataConversionWarning):
        BertClassifier(model, **ONCE).fit(TEXTS, LABELS[:, None])


def test_without_scikit_learn_the_names_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever imports all names gets them; building one says what to install."""
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    package = importlib.import_module("bertolt.commands.finetune")
    for name in ("scikit", "estimator", "estimators"):
        monkeypatch.delitem(sys.modules, f"{package.__name__}.{name}")
        monkeypatch.delattr(package, name)
    module = importlib.import_module(f"{package.__name__}.estimators")
    with pytest.raises(UsageError, match="a BertTagger needs scikit-learn") as refused:
        module.BertTagger()
    assert refused.value.fix == "pip install 'bertolt[sklearn]'"


class _OnNumbers:
    """scikit-learn's checks fit matrices of numbers: each number becomes a letter of a text."""

    def fit(self, X: Any, y: Any) -> Any:
        X = validate_data(self, X)
        count = self.n_features_in_
        super().fit(_as_words(X), y)  # type: ignore[misc]
        self.n_features_in_ = count
        return self

    def _asked(self, X: Any) -> list[Any]:
        check_is_fitted(self)
        return _as_words(validate_data(self, X, reset=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        tags.input_tags.string = False
        for own in (tags.classifier_tags, tags.regressor_tags):
            if own is not None:
                own.poor_score = True  # letters that stand for numbers say little
        return tags


def _as_words(X: Any) -> list[str]:
    return [" ".join(chr(97 + int(abs(value) * 3) % 26) for value in row) for row in X]


class Classifier(_OnNumbers, BertClassifier):
    pass


class Regressor(_OnNumbers, BertRegressor):
    pass


_NUMBERS = "of what a matrix of numbers may hold; texts that cannot be are refused above"
_SHORTER = "takes seconds, and asks what tests above ask of texts"
_ABSENT = "of something that there is not: an array library, sparse matrices, a decision function"
NOT_RUN = {
    "check_array_api_input": _ABSENT,
    "check_classifier_data_not_an_array": _NUMBERS,
    "check_classifiers_classes": _SHORTER,
    "check_classifiers_multilabel_output_format_decision_function": _ABSENT,
    "check_classifiers_multilabel_representation_invariance": _SHORTER,
    "check_classifiers_one_label_sample_weights": "of weights of rows, which are not taken",
    "check_complex_data": _NUMBERS,
    "check_decision_proba_consistency": _ABSENT,
    "check_dtype_object": _NUMBERS,
    "check_estimator_sparse_array": _ABSENT,
    "check_estimator_sparse_matrix": _ABSENT,
    "check_estimator_sparse_tag": _ABSENT,
    "check_estimators_dtypes": _NUMBERS,
    "check_estimators_empty_data_messages": _NUMBERS,
    "check_estimators_nan_inf": _NUMBERS,
    "check_estimators_partial_fit_n_features": _ABSENT,
    "check_f_contiguous_array_estimator": _NUMBERS,
    "check_fit1d": _NUMBERS,
    "check_fit2d_predict1d": _NUMBERS,
    "check_n_features_in": _NUMBERS,
    "check_n_features_in_after_fitting": _NUMBERS,
    "check_positive_only_tag_during_fit": _NUMBERS,
    "check_readonly_memmap_input": _NUMBERS,
    "check_regressor_data_not_an_array": _NUMBERS,
}
"""scikit-learn's checks that say nothing of an estimator of texts, and why."""
_OF_REGRESSORS = ("regressor", "supervised_y", "requires_y", "1sample", "default_constructible")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_scikit_learn_checks(kind: type, model: str) -> None:
    """All that apply; of the regressor those that the classifier, with its base, has not passed."""
    seen = set()
    for estimator, check in estimator_checks_generator(kind(model, **ONCE)):
        name = getattr(check, "func", check).__name__
        if name in NOT_RUN or name in seen:
            continue
        seen.add(name)
        if kind is Classifier or any(part in name for part in _OF_REGRESSORS):
            check(estimator)
    assert len(seen) > 30
