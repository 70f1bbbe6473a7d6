"""Metrics that are exact, take predictions batch by batch, and need no network.

`ConfusionMatrix` is what training and evaluation report. `load_metric(name)` gives a metric by
the name that it has in the Hugging Face libraries, with the same calls and the same result keys.
"""

from __future__ import annotations

from typing import Any

from bertolt.base.errors import UsageError, meant
from bertolt.metrics import named
from bertolt.metrics.bootstrap import RowSums, bootstrap_interval
from bertolt.metrics.calibration import CalibrationCounts, fit_temperature
from bertolt.metrics.confusion import ConfusionMatrix
from bertolt.metrics.counts import ClassScore, Counts, Tally, wilson_interval
from bertolt.metrics.metric import Metric
from bertolt.metrics.multilabel import MultiLabelCounts, best_thresholds
from bertolt.metrics.regression import Estimate, RegressionCounts
from bertolt.metrics.spans import SpanCounts
from bertolt.metrics.squad import Squad

__all__ = [
    "CalibrationCounts",
    "ClassScore",
    "ConfusionMatrix",
    "Counts",
    "Estimate",
    "Metric",
    "MultiLabelCounts",
    "RegressionCounts",
    "RowSums",
    "SpanCounts",
    "Tally",
    "best_thresholds",
    "bootstrap_interval",
    "fit_temperature",
    "load_metric",
    "wilson_interval",
]

_METRICS: dict[str, type[Metric]] = {
    "accuracy": named.Accuracy,
    "confusion_matrix": named.ConfusionMatrixMetric,
    "f1": named.AveragedScore,
    "mae": named.AbsoluteError,
    "matthews_correlation": named.MatthewsCorrelation,
    "mse": named.SquaredError,
    "pearsonr": named.Pearson,
    "precision": named.AveragedScore,
    "r_squared": named.RSquared,
    "recall": named.AveragedScore,
    "roc_auc": named.RocAuc,
    "seqeval": named.SeqEval,
    "spearmanr": named.Spearman,
    "squad": Squad,
}


def load_metric(name: str, **config: Any) -> Metric:
    """A metric by name, to `add` or `add_batch` to and then `compute`.

        metric = load_metric("f1", average="macro")
        metric.add_batch(predictions=[0, 1], references=[0, 0])
        metric.compute()  # {"f1": 0.333...}

    Counts or sums are all that it keeps, except for "roc_auc" and "spearmanr", which need every
    value: 16 bytes an example.

    Args:
        name: accuracy, f1, precision, recall, matthews_correlation, confusion_matrix, roc_auc,
            pearsonr, spearmanr, mse, mae, r_squared, seqeval or squad.
        config: defaults for the options of its `compute`, such as `average` or `pos_label`.

    Raises:
        UsageError: no metric of that name, or one without such an option.
    """
    if name not in _METRICS:
        raise UsageError(
            f"there is no metric {name!r}; there are {', '.join(_METRICS)}",
            place="load_metric",
            fix=meant(name, list(_METRICS), "choose one of these"),
        )
    return _METRICS[name](name, **config)
