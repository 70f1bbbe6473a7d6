"""`BertClassifier`, `BertRegressor`, `BertTagger`: fine-tuning behind scikit-learn's door.

`fit` is a run of `finetune` over rows in memory, with the same settings by the same names, and
gives the same weights; `predict` is `Predictor`. They need scikit-learn (extra `sklearn`), which
`import bertolt` does not import.

Shapes: N rows, C classes, K numbers of a row.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bertolt.base.console import hushed
from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import staged_folder
from bertolt.base.json_files import read_json
from bertolt.commands.finetune.arrays import (
    NAME,
    is_plain,
    labels_in,
    lists_in,
    names_of,
    plain_of,
    require_as_many,
    require_texts,
    text_columns,
)
from bertolt.commands.finetune.fitting import FILES, WEIGHTS, Fitting, in_python, write_model
from bertolt.commands.finetune.options import FinetuneOptions
from bertolt.data.cells import as_label
from bertolt.data.load import table_of
from bertolt.data.long import Long
from bertolt.models.config import Precision
from bertolt.tasks.base import Reading, Task
from bertolt.tasks.multi_label_classification import MultiLabelClassification
from bertolt.tasks.predictor import Predictor
from bertolt.tasks.regression import Regression
from bertolt.tasks.text_classification import TextClassification
from bertolt.tasks.token_classification import TokenClassification
from bertolt.train.arguments import Schedule

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError as error:
    # The names are there in any case, for whoever imports all of them; nothing is built.
    _missing = str(error)
    BaseEstimator = type("BaseEstimator", (), {})
    ClassifierMixin = type("ClassifierMixin", (), {})
    RegressorMixin = type("RegressorMixin", (), {})
else:
    _missing = ""

ABOUT = "estimator.json"
"""File of a saved estimator, beside those of its model: its settings and its classes."""
_TEXTS = ("text", "text_pair")
_SEEDS = 2**31


class _BertEstimator(BaseEstimator):  # type: ignore[misc]
    """What the estimators share: settings, fitting, answers, pickling, folders."""

    _kind: ClassVar[type[Task]]

    def __init__(
        self,
        model: str | None = None,
        *,
        epochs: float = 3.0,
        batch_size: int = 32,
        lr: float = 5e-5,
        weight_decay: float = 0.01,
        accumulate: int = 1,
        find_batch_size: bool = False,
        layer_decay: float = 1.0,
        freeze: int | Literal["all"] | None = None,
        class_weights: str | Mapping[Any, float] | None = None,
        focal: float = 0.0,
        label_smoothing: float = 0.0,
        warmup: float = 0.1,
        schedule: Schedule = "linear",
        order: Literal["random", "group_by_length"] = "random",
        max_length: int | None = None,
        long: Long | None = None,
        stride: int | None = None,
        windows: int = 8,
        precision: Precision = "auto",
        test_size: float = 0.0,
        patience: int | None = None,
        metric: str | None = None,
        calibrate: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        if _missing:
            raise UsageError(
                f"a {type(self).__name__} needs scikit-learn ({_missing})",
                fix="pip install 'bertolt[sklearn]'",
            )
        self.model = model
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.accumulate = accumulate
        self.find_batch_size = find_batch_size
        self.layer_decay = layer_decay
        self.freeze = freeze
        self.class_weights = class_weights
        self.focal = focal
        self.label_smoothing = label_smoothing
        self.warmup = warmup
        self.schedule = schedule
        self.order = order
        self.max_length = max_length
        self.long = long
        self.stride = stride
        self.windows = windows
        self.precision = precision
        self.test_size = test_size
        self.patience = patience
        self.metric = metric
        self.calibrate = calibrate
        self.random_state = random_state
        self.verbose = verbose

    # ---- fitting

    def _fit(
        self,
        kind: type[Task],
        columns: Sequence[Sequence[object]],
        labels: Mapping[str, Sequence[object]],
    ) -> None:
        """Learn rows.

        Args:
            kind: the task.
            columns: of the texts.
            labels: columns of the labels by name.
        """
        with (
            tempfile.TemporaryDirectory() as name,
            in_python(Path(name)),
            hushed(not self.verbose),
        ):
            options = self._options(Path(name))
            roles = {role: [role] for role, _ in zip(_TEXTS, columns, strict=False)}
            roles["label"] = list(labels)
            rows = list(zip(*columns, *labels.values(), strict=True))
            table = table_of(
                rows, roles, NAME, lambda sample: kind.cells(sample, Reading()), kind.check_row
            )
            fitting = Fitting(table, kind, options)
            self.predictor_ = fitting.predictor()
            history, scores = fitting.trainer.history, fitting.final_scores
        if history.changed_nothing:
            warnings.warn(
                "no step had a learning rate above 0, so the weights are as they were before: "
                "give warmup=0, or make more steps",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.loss_curve_ = [step.loss for step in history.steps]
        self.n_iter_ = len(history.steps)
        self.scores_ = None if scores is None else scores.to_dict()

    def _options(self, folder: Path) -> FinetuneOptions:
        """The settings as `finetune` has them; what a run writes for itself goes to the folder.

        Raises:
            UsageError: one that cannot be.
        """
        names = {field.name for field in fields(FinetuneOptions)}
        settings = {name: value for name, value in self.get_params().items() if name in names}
        if isinstance(self.class_weights, Mapping):
            weights = {str(as_label(plain_of(k))): v for k, v in self.class_weights.items()}
            path = folder / WEIGHTS
            path.write_text(json.dumps(weights, default=float), encoding="utf-8")
            settings["class_weights"] = str(path)
        seed = self.random_state
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool):
            seed = check_random_state(seed).randint(_SEEDS)
        return FinetuneOptions(
            **{name: plain_of(value) for name, value in settings.items()},
            seed=int(seed),
            out=folder / "run",
        )

    def _take_texts(self, X: Any) -> list[list[object]]:
        """The columns of `X`, and how many and what they are, for `predict`."""
        columns, names = text_columns(X)
        self.n_features_in_ = len(columns)
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return columns

    # ---- answers

    def _asked(self, X: Any) -> list[Any]:
        """The texts or pairs of `X`.

        Raises:
            DataError: it has other columns than in `fit`.
        """
        check_is_fitted(self, "predictor_")
        columns, names = text_columns(X)
        fitted = getattr(self, "feature_names_in_", None)
        if names is not None and fitted is not None and list(fitted) != names:
            raise DataError(
                "The feature names should match those that were passed during fit: "
                f"{list(fitted)}, and X has {names}",
                place="X",
                fix="give a data frame with those columns, in that order",
            )
        if len(columns) != self.n_features_in_:
            raise DataError(
                f"X has {len(columns)} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input",
                place="X",
                fix="give as many columns of texts as in fit",
            )
        require_texts(columns)
        return list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))

    def _answers(self, asked: Sequence[Any]) -> list[dict[str, Any]]:
        with in_python():
            return [each.answer for each in self.predictor_.predict(asked)]

    # ---- pickles and folders

    def __getstate__(self) -> dict[str, Any]:
        """Settings, and of a fitted estimator the files of its model as bytes."""
        state = dict(super().__getstate__())
        predictor = state.pop("predictor_", None)
        if predictor is not None:
            with tempfile.TemporaryDirectory() as folder:
                write_model(predictor, Path(folder))
                state["_files"] = {
                    path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())
                }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is None:
            return
        with tempfile.TemporaryDirectory() as name, hushed():
            for file, content in files.items():
                (Path(name) / Path(file).name).write_bytes(content)
            self.predictor_ = Predictor.from_pretrained(name, precision=self.precision)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write a model folder, as `finetune` does, which `predict` and `evaluate` open too.

        Args:
            folder: to write, whole or not at all.
            overwrite: replace a folder that an estimator wrote.

        Raises:
            UsageError: something else is there.
            sklearn.exceptions.NotFittedError: nothing was learned yet.
        """
        check_is_fitted(self, "predictor_")
        ours = frozenset({*FILES, ABOUT})
        with staged_folder(Path(folder), overwrite=overwrite, ours=ours) as stage:
            write_model(self.predictor_, stage)
            about = {"estimator": type(self).__name__, **self._about()}
            text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
            (stage / ABOUT).write_text(text, encoding="utf-8")

    def _about(self) -> dict[str, Any]:
        """What a folder keeps beside the model; settings that JSON does not have are left out."""
        settings = {n: v for n, v in self.get_params().items() if is_plain(v)}
        names = getattr(self, "feature_names_in_", None)
        return {
            "settings": settings,
            "n_features_in": getattr(self, "n_features_in_", None),
            "feature_names_in": None if names is None else list(names),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """An estimator from a folder that `save` or `bertolt finetune` wrote, ready to predict.

        Raises:
            CheckpointError: there is no such model.
            UsageError: it is for another estimator.
        """
        path = Path(folder) / ABOUT
        about = read_json(path) if path.exists() else {}
        known = set(cls._get_param_names())
        settings = {n: v for n, v in about.get("settings", {}).items() if n in known}
        estimator = cls(**settings)
        with hushed():
            predictor = Predictor.from_pretrained(folder, precision=estimator.precision)
        if not isinstance(predictor.task, cls._tasks()):
            raise UsageError(
                f"this model is for {predictor.task.name}, which a {cls.__name__} is not",
                place=str(folder),
                fix="load it with the estimator of its task",
            )
        estimator.predictor_ = predictor
        pairs = 2 if predictor.takes_pairs else 1
        estimator.n_features_in_ = about.get("n_features_in") or pairs
        if about.get("feature_names_in"):
            estimator.feature_names_in_ = np.array(about["feature_names_in"], dtype=object)
        estimator._take_about(about)
        return estimator

    @classmethod
    def _tasks(cls) -> tuple[type[Task], ...]:
        """The tasks whose models it answers with."""
        return (cls._kind,)

    def _take_about(self, about: Mapping[str, Any]) -> None:
        """Take what a folder keeps of the labels."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        tags.non_deterministic = False
        return tags


class BertClassifier(ClassifierMixin, _BertEstimator):  # type: ignore[misc]
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
        check_classification_targets(labels)
        labels = column_or_1d(labels, warn=True) if labels.shape[1:] == (1,) else labels
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


class BertRegressor(RegressorMixin, _BertEstimator):  # type: ignore[misc]
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


class BertTagger(_BertEstimator):
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
        check_is_fitted(self, "predictor_")
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
        check_is_fitted(self, "predictor_")
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
