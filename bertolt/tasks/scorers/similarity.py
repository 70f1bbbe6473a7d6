"""Scores of cosines beside the scores of people: how well both are in one order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import plural
from bertolt.metrics import RegressionCounts
from bertolt.metrics.bootstrap import spearman_interval
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer
from bertolt.tasks.scale import Scale
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

    def bootstrap(self) -> tuple[float, float] | None:
        """95% interval of Spearman's correlation by resampling rows."""
        return spearman_interval(*self._pairs())

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
