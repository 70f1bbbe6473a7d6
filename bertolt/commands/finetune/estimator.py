"""What the estimators share: settings, fitting, answers, pickles and folders."""

from __future__ import annotations

import json
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from bertolt.base.console import hushed
from bertolt.base.errors import DataError, UsageError
from bertolt.base.files import staged_folder
from bertolt.base.json_files import read_json
from bertolt.commands.finetune import scikit
from bertolt.commands.finetune.arrays import (
    NAME,
    is_plain,
    plain_of,
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
from bertolt.tasks.predictor import Predictor
from bertolt.train.arguments import Schedule

ABOUT = "estimator.json"
"""File of a saved estimator, beside those of its model: its settings and its classes."""
_TEXTS = ("text", "text_pair")
_SEEDS = 2**31
_ONE_FIT = threading.Lock()
"""Dropout draws from the one generator of the process: fits of other threads wait for it."""


class Estimator(scikit.BaseEstimator):  # type: ignore[misc]
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
        if scikit.missing:
            raise UsageError(
                f"a {type(self).__name__} needs scikit-learn ({scikit.missing})",
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
            _ONE_FIT,
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
                scikit.ConvergenceWarning,
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
            seed = scikit.check_random_state(seed).randint(_SEEDS)
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
        scikit.check_is_fitted(self, "predictor_")
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
        scikit.check_is_fitted(self, "predictor_")
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
