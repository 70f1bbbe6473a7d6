"""Logits and labels of an evaluation in the order of the rows, and metrics by their names."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from bertolt.base.console import info
from bertolt.base.distributed import World
from bertolt.base.errors import UsageError
from bertolt.data.batch import IGNORE_INDEX
from bertolt.models.pretrained import PreTrainedModel
from bertolt.train.loop import EvaluatedBatch

Preprocess = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Makes of a padded batch's logits and labels what is kept of the logits."""
Values = NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]
"""Of every row; of answers with two ends a pair, the starts and the ends."""


class EvalPrediction(NamedTuple):
    """What `compute_metrics` is called with; unpacks into logits and labels."""

    predictions: Values
    label_ids: Values | None


class PredictionOutput(NamedTuple):
    """What `Trainer.predict` returns."""

    predictions: Values
    label_ids: Values | None
    metrics: dict[str, Any]


class TrainOutput(NamedTuple):
    """What `Trainer.train` returns.

    Attributes:
        global_step: steps made.
        training_loss: mean loss over all of them.
        metrics: rates and totals.
    """

    global_step: int
    training_loss: float
    metrics: dict[str, Any]


class Results:
    """Logits and labels of an evaluation, batch by batch, put into the order of the rows."""

    def __init__(self, model: PreTrainedModel, preprocess: Preprocess | None = None) -> None:
        if preprocess is not None and model.answers_with_ends:
            raise UsageError(
                f"preprocess_logits_for_metrics, and a {type(model).__name__} has logits of two "
                "ends",
                fix="leave it out, and work on the logits of both ends in compute_metrics",
            )
        self._model, self._preprocess = model, preprocess
        self._labelled_only = False
        self._rows: list[int] = []
        self._logits: list[NDArray[Any]] = []
        self._labels: list[NDArray[Any]] = []

    def add(self, first_row: int, evaluated: EvaluatedBatch) -> None:
        """Add the results of a batch, whose rows are counted from `first_row`."""
        batch = evaluated.batch
        self._labelled_only = self._model.labelled_only(batch)
        self._rows += (first_row + evaluated.rows).tolist()
        golds: list[NDArray[Any]] = []
        counts = batch.lengths.numpy()
        if evaluated.labels is not None and self._model.labels_per_token:
            labels = evaluated.labels[: batch.num_tokens].numpy()
            if self._labelled_only:
                counts = np.add.reduceat(labels != IGNORE_INDEX, batch.first_rows, dtype=int)
                labels = labels[labels != IGNORE_INDEX]
            golds = np.split(labels, np.cumsum(counts)[:-1])
        elif evaluated.labels is not None:
            golds = list(evaluated.labels.numpy())
        values = evaluated.logits.numpy()
        per_token = self._model.logits_per_token
        logits = np.split(values, np.cumsum(counts)[:-1]) if per_token else list(values)
        if self._preprocess is not None and logits:
            logits = self._preprocessed(self._preprocess, logits, golds)
        self._logits += logits
        self._labels += golds

    def _preprocessed(
        self, preprocess: Preprocess, rows: list[NDArray[Any]], golds: list[NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Rows of logits as the user's function makes them of one padded batch."""
        per_token = self._model.logits_per_token

        def tensor(values: list[NDArray[Any]], per_token: bool) -> torch.Tensor:
            padded = _pad_rows(values, IGNORE_INDEX) if per_token else _side_by_side(values)
            return torch.from_numpy(padded)

        logits = tensor(rows, per_token)
        kept = 2 if per_token else 1  # dimensions that tell which row a value is of
        labels = tensor(golds, self._model.labels_per_token) if golds else None
        values = preprocess(logits, labels)
        if not isinstance(values, torch.Tensor) or values.shape[:kept] != logits.shape[:kept]:
            shape = tuple(values.shape) if isinstance(values, torch.Tensor) else None
            what = f"a {type(values).__name__}" if shape is None else f"the shape {shape}"
            raise UsageError(
                f"preprocess_logits_for_metrics gave {what} for logits {tuple(logits.shape)}",
                fix=f"return one tensor that begins with {tuple(logits.shape[:kept])}",
            )
        arrays = list(values.detach().cpu().numpy())
        return [a[: len(row)] for a, row in zip(arrays, rows, strict=True)] if per_token else arrays

    def gather(self, world: World) -> None:
        """Put the results of all processes together, on each of them."""
        self._labelled_only = world.any_true(self._labelled_only)
        self._rows = [int(row) for row in _gather(world, [np.array(row) for row in self._rows])]
        self._logits = _gather(world, self._logits)
        self._labels = _gather(world, self._labels)

    def in_order(self) -> tuple[Values, Values | None]:
        """All logits, and all labels if there were any; answers with two ends as pairs."""
        order = np.argsort(self._rows)
        model, ends = self._model, self._model.answers_with_ends
        # A logit beyond a row's end that may win makes an answer of nothing.
        filler = float(np.finfo(np.float32).min) if ends else IGNORE_INDEX
        logits = [self._logits[row] for row in order]
        predictions = self._joined(logits, model.logits_per_token, filler)
        if not self._labels:
            return _pair(predictions) if ends else predictions, None
        golds = [self._labels[row] for row in order]
        labels = self._joined(golds, model.labels_per_token, IGNORE_INDEX)
        return (_pair(predictions), _pair(labels)) if ends else (predictions, labels)

    def _joined(self, rows: Sequence[NDArray[Any]], per_token: bool, filler: float) -> NDArray[Any]:
        if not per_token:
            return _side_by_side(rows)
        return np.concatenate(rows) if self._labelled_only else _pad_rows(rows, filler)


def _side_by_side(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Rows as one array; of choices there may be more and fewer, and none is -inf."""
    shapes = {row.shape for row in rows}
    return np.stack(rows) if len(shapes) < 2 else _pad_rows(rows, -math.inf)


def tell_unlabelled(rows: object, targets: Collection[str]) -> None:
    """Say why an evaluation gives nothing: what the rows would have to have, and what they have."""
    names = " and ".join(map(repr, sorted(targets))) or "labels"
    keys = ""
    if isinstance(rows, Sequence) and rows and isinstance(rows[0], Mapping):
        keys = f"; the first has {', '.join(map(repr, rows[0]))}"
    info(f"Caution: there is neither a loss nor a metric, for no row has {names}{keys}")


def metrics_by_name(values: Any) -> dict[str, Any]:
    """The result of a `compute_metrics` of the user as plain values, which JSON can keep.

    Scalars and arrays of numpy and torch become numbers and lists. What has no name is called
    "metrics"; what cannot be kept is left out, and the user is told.
    """
    if not isinstance(values, Mapping):
        what = "None" if values is None else f"a {type(values).__name__}"
        info(f"Caution: compute_metrics gave {what}, and not a mapping from names to numbers")
        values = {} if values is None else {"metrics": values}
    metrics = {}
    for name, value in values.items():
        try:
            metrics[str(name)] = plain(value)
        except TypeError as error:
            info(f"Caution: compute_metrics gave {error} as {name!r}, which is left out")
    return metrics


def prefixed(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The metrics under names that begin with the prefix and "_", as some may already."""
    start = f"{prefix}_"
    return {start + name.removeprefix(start): value for name, value in metrics.items()}


_DEEPEST = 64  # a value that holds itself has no end, and no file could keep it


def plain(value: Any, depth: int = 0) -> Any:
    """A value that JSON can hold; scalars and arrays of numpy and torch become numbers and lists.

    Raises:
        TypeError: it cannot be one, with what it is.
    """
    if depth > _DEEPEST:
        raise TypeError("values that are nested too deeply")
    if isinstance(value, Mapping):
        return {str(name): plain(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, depth + 1) for each in value]
    if isinstance(value, torch.Tensor | np.ndarray):
        return plain(value.tolist(), depth + 1)
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a {type(value).__name__}")


def _gather(world: World, rows: Sequence[Any]) -> list[NDArray[Any]]:
    """Arrays of all processes, which differ in their first dimension at most."""
    if world.alone:
        return list(rows)
    arrays = [np.asarray(row) for row in rows]
    flat = torch.from_numpy(np.concatenate([np.atleast_1d(a) for a in arrays])) if arrays else None
    whole = arrays[0].ndim == 0 if arrays else False
    lengths = torch.tensor([1 if a.ndim == 0 else len(a) for a in arrays])
    arrays_of_all: list[NDArray[Any]] = []
    for values, counts in zip(
        world.gather(flat), world.gather(lengths if arrays else None), strict=True
    ):
        parts = np.split(values.numpy(), np.cumsum(counts.numpy())[:-1])
        arrays_of_all += parts
    return [part[0] for part in arrays_of_all] if world.any_true(whole) else arrays_of_all


def _pair(ends: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Starts and ends (…, 2) as two arrays (…)."""
    return ends[..., 0], ends[..., 1]


def _pad_rows(rows: Sequence[NDArray[Any]], filler: float) -> NDArray[Any]:
    """Rows of different lengths (L, …) as one array (rows, L, …), the filler beyond their ends."""
    length = max(map(len, rows))
    padded = np.full((len(rows), length, *rows[0].shape[1:]), filler, rows[0].dtype)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
