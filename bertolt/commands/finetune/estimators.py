"""`BertClassifier`, `BertRegressor`, `BertTagger`: fine-tuning behind scikit-learn's door.

`fit` is a run of `finetune` over rows in memory, with the same settings by the same names, and
gives the same weights; `predict` is `Predictor`. They need scikit-learn (extra `sklearn`), which
`import bertolt` does not import.

Shapes: N rows, C classes, K numbers of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bertolt.commands.finetune import scikit
from bertolt.commands.finetune.arrays import (
    is_plain,
    labels_in,
    lists_in,
    names_of,
    require_as_many,
)
from bertolt.commands.finetune.estimator import Estimator
from bertolt.tasks.base import Task
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.regression import Regression
from bertolt.tasks.text_classification import TextClassification
from bertolt.tasks.token_classification import TokenClassification


class BertClassifier(scikit.ClassifierMixin, Estimator):  # type: ignore[misc]
    """Labels of texts, or of pairs of texts, as a scikit-learn classifier.

    `X` is a list, an array, a pandas Series or a data frame of one or two columns of texts; `y` has
    a label each, or is a matrix of 0 and 1 (N, C) where texts have any number of labels. A fit with
    `test_size=0` learns what `bertolt finetune --test-size 0` learns of the same rows, to the last
    bit. Weights of single rows (`sample_weight`) are not taken; `class_weights` are.

    Args:
        model: pretrained model to start from: a folder or an id on the hub; None: the demo's.
        epochs: passes over the rows.
        batch_size: texts of one training step.
        lr: peak learning rate.
        weight_decay: of all weights but biases and layer norms.
        accumulate: batches whose gradients make one step together.
        find_batch_size: compute a batch in parts where it does not fit into memory.
        layer_decay: rate of each layer as a share of the rate of the one above it.
        freeze: lowest layers that stay as they are; "all": the head alone learns.
        class_weights: "auto" lets all classes weigh alike, or texts with and without each of many
            labels; or {class: weight}, or a JSON file.
        focal: exponent of focal loss; 0: plain loss.
        label_smoothing: share of each label that is spread over all, or over there and not there.
        warmup: a share of all steps if below 1, else steps.
        schedule: course of the learning rate after warmup.
        order: of the training rows, "random" or "group_by_length".
        max_length: most tokens of a text; None: all that the model takes.
        long: a longer text: "error", "truncate", "head-tail", or "window", which reads all of it;
            None: as its task does, "truncate", or "window" where words are tagged.
        stride: tokens that a window repeats of the one before it; None: as its task does.
        windows: most windows of a text that an epoch learns from.
        precision: "fp32", "bf16", or "auto", which measures which is faster here.
        test_size: share of the rows that is held out, for `scores_`, thresholds and `patience`.
        patience: end after so many evaluations without a better one, and keep the best.
        metric: what `patience` goes by, such as "f1_macro"; None: the loss.
        calibrate: fit the temperature of probabilities to the rows that are held out.
        random_state: seed of the head, the order and dropout; None: drawn by NumPy.
        verbose: say on standard error what `finetune` says.

    Attributes:
        classes_: (C,) the labels, in the order of the columns of `predict_proba`.
        n_features_in_: columns of texts, 1 or 2.
        feature_names_in_: their names, where `X` was a data frame.
        predictor_: the `Predictor` that answers.
        loss_curve_: loss of each step.
        n_iter_: steps.
        scores_: of the held-out rows, as `metrics.json` has them; None without such rows.
    """

    _kind = TextClassification

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the labels of texts.

        Args:
            X: N texts or pairs.
            y: (N,) labels, or (N, C) of 0 and 1.

        Raises:
            DataError: a text, a label or their number cannot be used; a ValueError too.
            UsageError: a setting that cannot be; a ValueError too.
            TrainingError: the loss was not finite.
        """
        columns = self._take_texts(X)
        labels = labels_in(y, len(columns[0]))
        scikit.check_classification_targets(labels)
        labels = scikit.column_or_1d(labels, warn=True) if labels.shape[1:] == (1,) else labels
        if labels.ndim == 2:
            self.classes_ = np.arange(labels.shape[1])
            flags = {str(number): labels[:, number].tolist() for number in range(labels.shape[1])}
            self._names = list(flags)
            self._fit(MultiLabelClassification, columns, flags)
            return self
        self.classes_, codes = np.unique(labels, return_inverse=True)
        self._names = names_of(self.classes_)
        names = [self._names[code] for code in codes.ravel()]
        self._fit(TextClassification, columns, {"label": names})
        return self

    @property
    def _several(self) -> bool:
        return isinstance(self.predictor_.task, MultiLabelClassification)

    def predict(self, X: Any) -> NDArray[Any]:
        """(N,) the labels, of the kind that `fit` had; or (N, C) of 0 and 1.

        Raises:
            DataError: texts that cannot be used; a ValueError too.
            sklearn.exceptions.NotFittedError: nothing was learned yet.
        """
        answers = self._answers(self._asked(X))
        places = {name: place for place, name in enumerate(self._names)}
        if self._several:
            chosen = np.zeros((len(answers), len(places)), dtype=np.int64)
            for row, answer in enumerate(answers):
                chosen[row, [places[name] for name in answer["labels"]]] = 1
            return chosen
        codes = np.array([places[answer["label"]] for answer in answers], dtype=np.int64)
        labels: NDArray[Any] = self.classes_[codes]
        return labels

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """(N, C) the probability of each class, in the order of `classes_`.

        Raises:
            DataError, sklearn.exceptions.NotFittedError: as `predict`.
        """
        answers = self._answers(self._asked(X))
        shares = [[answer["probabilities"][name] for name in self._names] for answer in answers]
        return np.array(shares, dtype=np.float64).reshape(len(answers), len(self._names))

    def _about(self) -> dict[str, Any]:
        classes = self.classes_
        plain = {"kind": classes.dtype.str, "values": classes.tolist()}
        return {
            **super()._about(),
            "classes": plain if all(map(is_plain, plain["values"])) else None,
            "names": self._names,
        }

    def _take_about(self, about: Mapping[str, Any]) -> None:
        task: Any = self.predictor_.task
        self._names = about.get("names") or list(task.labels)
        classes = about.get("classes")
        values: Any = self._names if classes is None else classes["values"]
        kind = None if classes is None else classes["kind"]
        self.classes_ = np.array(values, dtype=object if kind in ("|O", "|O8") else kind)
        if classes is None and self._several:
            self.classes_ = np.arange(len(self._names))

    @classmethod
    def _tasks(cls) -> tuple[type[Task], ...]:
        return TextClassification, MultiLabelClassification

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class BertRegressor(scikit.RegressorMixin, Estimator):  # type: ignore[misc]
    """Numbers of texts, or of pairs of texts, as a scikit-learn regressor.

    `X` and the settings are those of `BertClassifier`, less `class_weights`, `focal` and
    `label_smoothing`, which are for classes; `y` has a number each, or K of them: (N, K). The
    numbers are scaled by their mean and spread for training, and answers are in the units of `y`.

    Attributes:
        n_features_in_, feature_names_in_, predictor_, loss_curve_, n_iter_, scores_: as there.
    """

    _kind = Regression

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the numbers of texts.

        Args:
            X: N texts or pairs.
            y: (N,) or (N, K) numbers.

        Raises:
            DataError, UsageError, TrainingError: as of `BertClassifier`; numbers all equal.
        """
        columns = self._take_texts(X)
        numbers = labels_in(y, len(columns[0]))
        self._flat = numbers.ndim == 1
        table = numbers.reshape(len(numbers), -1)
        names = ["label"] if table.shape[1] == 1 else [str(n) for n in range(table.shape[1])]
        self._fit(Regression, columns, {n: table[:, i].tolist() for i, n in enumerate(names)})
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """(N,) or (N, K) numbers, as `y` was.

        Raises:
            DataError, sklearn.exceptions.NotFittedError: as of `BertClassifier`.
        """
        task: Any = self.predictor_.task if hasattr(self, "predictor_") else None
        answers = self._answers(self._asked(X))
        values = np.array([task.flat(each) for each in answers], dtype=np.float64)
        values = values.reshape(len(answers), len(task.columns))
        return values[:, 0] if self._flat else values

    def _about(self) -> dict[str, Any]:
        return {**super()._about(), "flat": self._flat}

    def _take_about(self, about: Mapping[str, Any]) -> None:
        task: Any = self.predictor_.task
        self._flat = about.get("flat", len(task.columns) == 1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class BertTagger(Estimator):
    """A tag for each word of texts that come as lists of words, in the manner of scikit-learn.

    `X` has a list of words each, `y` as many tags: plain ones, or O, B- and I- of each kind. The
    settings are those of `BertClassifier`. `score` is the F1 of spans, as seqeval has it.

    Attributes:
        classes_: (C,) the tags.
        predictor_, loss_curve_, n_iter_, scores_: as there.
    """

    _kind = TokenClassification

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the tags of words.

        Args:
            X: N lists of words.
            y: N lists of tags, one for each word.

        Raises:
            DataError, UsageError, TrainingError: as of `BertClassifier`; as many tags as words are
                needed.
        """
        words, tags = lists_in(X, "X"), lists_in(y, "y")
        require_as_many(len(words), len(tags))
        self._fit(TokenClassification, [words], {"label": tags})
        self._take_about({})
        return self

    def predict(self, X: Any) -> list[list[str]]:
        """N lists of tags, one for each word.

        Raises:
            DataError, sklearn.exceptions.NotFittedError: as of `BertClassifier`.
        """
        scikit.check_is_fitted(self, "predictor_")
        examples = [{"text": words} for words in lists_in(X, "X")]
        task = self.predictor_.task
        return [
            [tag for _, tag in task.tagged(answer, example)]
            for answer, example in zip(self._answers(examples), examples, strict=True)
        ]

    def score(self, X: Any, y: Any) -> float:
        """F1 of spans: those that begin, end and are named as in `y`; NaN where there is none.

        Raises:
            DataError, sklearn.exceptions.NotFittedError: as of `BertClassifier`.
        """
        scikit.check_is_fitted(self, "predictor_")
        words, tags = lists_in(X, "X"), lists_in(y, "y")
        require_as_many(len(words), len(tags))
        examples = [{"text": text} for text in words]
        scorer = self.predictor_.task.scorer()
        for answer, example, names in zip(self._answers(examples), examples, tags, strict=True):
            scorer.add(answer, {**example, "label": list(map(str, names))})
        value = scorer.values()[self.predictor_.task.primary.name]
        return float("nan") if value is None else float(value)

    def _take_about(self, about: Mapping[str, Any]) -> None:
        task: Any = self.predictor_.task
        self.classes_ = np.array(task.labels, dtype=object)
