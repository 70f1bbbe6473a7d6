"""Scores of cosines beside the scores of people: how well both are in one order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import plural
from bertolt.metrics import RegressionCounts
from bertolt.metrics.bootstrap import PairedTest, paired_ranks, spearman_interval
from bertolt.metrics.counts import Interval
from bertolt.metrics.regression import ranks, spearman
from bertolt.tasks import page
from bertolt.tasks.scale import Scale
from bertolt.tasks.scorer import Answer, Example, Integers, Reals, Scorer
from bertolt.tasks.table import interval_words

_TITLES = {"spearman": "Spearman", "pearson": "Pearson"}


class SimilarityScorer(Scorer):
    """Cosines and the scores that they should follow.

    Args:
        scale: of the scores.
    """

    shown = ("spearman", "pearson")

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.counts = RegressionCounts(1)

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by how far the cosine is from the one that the score stands for."""
        cosine, score = answer["similarity"], float(example["label"][0])
        if np.isfinite(cosine):
            self.counts.update([cosine], [score])
        return abs(float(cosine) - float(self.scale.cosines(np.array([score]))[0]))

    def state(self) -> dict[str, NDArray[Any]]:
        """Cosines and scores."""
        return self.counts.state()

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Put other rows behind these."""
        self.counts.merge(state)

    def bootstrap(self) -> Interval | None:
        """95% interval of Spearman's correlation by resampling rows."""
        return spearman_interval(*self._pairs())

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...] | None:
        """The cosine and the score, which all rows together give ranks; None without a cosine."""
        cosine, score = float(answer["similarity"]), float(example["label"][0])
        return (cosine, score) if np.isfinite(cosine) else None

    def score_of(self, rows: Reals) -> float:
        """Spearman's correlation of cosines and scores."""
        return spearman(*rows.T) if len(rows) else np.nan

    def ranks_of_each(self, rows: Reals) -> Reals:
        """(N, 2) those of the cosine and of the score."""
        return np.stack([len(rows) + 1 - ranks(values) for values in rows.T], axis=1)

    def score_of_each(self, rows: Reals) -> Reals:
        """(N,) 1 less what the distance of both ranks of a row takes from the correlation, so that
        the mean is Spearman's where no two values are equal."""
        cosines, scores = map(ranks, rows.T)
        each: Reals = 1.0 - 6.0 * (cosines - scores) ** 2 / max(len(rows) ** 2 - 1, 1)
        return each

    def interval_of(self, rows: Reals, groups: Integers | None = None) -> Interval | None:
        """As `bootstrap` has it."""
        return spearman_interval(rows[:, 0], rows[:, 1], groups)

    def paired(self, first: Reals, other: Reals, groups: Integers | None = None) -> PairedTest:
        """Whether two ways of answering the same rows differ: `paired_ranks`."""
        return paired_ranks(first[:, 0], other[:, 0], first[:, 1], groups)

    def loss(self) -> float:
        """Mean squared error of the cosines."""
        cosines, scores = self._pairs()
        errors = cosines - self.scale.cosines(scores)
        return float((errors**2).mean()) if len(errors) else 0.0

    def _pairs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        state = self.counts.state()
        return state["predicted"][:, 0], state["true"][:, 0]

    def values(self) -> dict[str, Any]:
        """Correlations with their intervals."""
        values, ends = self.counts.values(), self.counts.intervals()
        return {
            **{name: values[name] for name in _TITLES},
            **{f"{name}_interval": ends[name] for name in _TITLES},
            "rows": self.counts.total(),
        }

    def lines(self, loss: float) -> Iterator[str]:
        """Each with its interval."""
        values = self.values()
        rows = plural(self.counts.total(), "row")
        for name, title in _TITLES.items():
            words = interval_words(values[name], values[f"{name}_interval"])
            yield f"{title} {words} on {rows}" if name == "spearman" else f"  {title} {words}"
        if values["spearman"] is None:
            yield "  n/a: a correlation needs two rows with different scores and cosines"
        yield f"  loss {loss:.4f}"

    def explain(self) -> dict[str, Any]:
        """Cosines against scores."""
        values = self.values()
        rank = page.measure(values["spearman"], values["spearman_interval"])
        cosines, scores = self._pairs()
        scatter = page.scatter("Cosines against scores", cosines, scores)
        scatter |= {"id": "cosines", "nav": "Cosines", "y_label": "cosine", "x_label": "score"}
        cautions = []
        if values["spearman"] is None:
            detail = "It needs two rows with different scores, and with different cosines."
            cautions.append(page.caution("The correlation has no value", detail))
        return page.part(
            page.headline(
                "Spearman", rank, self.counts.total(), None, format="number", scale=[-1, 1]
            ),
            tiles=[{"label": "Pearson", "value": values["pearson"], "note": ""}],
            curves=[page.curve("spearman", "Spearman", rank) | {"format": "number"}],
            blocks=[scatter | {"diagonal": False}],
            cautions=cautions,
        )
