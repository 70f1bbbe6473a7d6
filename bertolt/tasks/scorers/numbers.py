"""Scores of numbers: errors and correlations, against always answering one number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import number, plural
from bertolt.metrics import RegressionCounts, RowSums
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer
from bertolt.tasks.table import interval_words, score_words, shown


def numbers_in(answer: Answer, columns: Sequence[str]) -> list[float]:
    """The numbers of an answer, in the order of the columns."""
    if len(columns) == 1:
        return [answer["value"]]
    return [answer["values"][column] for column in columns]


class NumberScorer(Scorer):
    """Predicted and true values.

    Args:
        columns: of the numbers.
        scales: (K,) of the training rows.

    Attributes:
        counts: errors and correlations, by column.
    """

    shown = ("rmse", "mae", "pearson", "spearman")
    errors = ("rmse", "mae")

    def __init__(self, columns: Sequence[str], scales: Sequence[float]) -> None:
        self.columns, self.scales = columns, scales
        self.counts = RegressionCounts(len(columns))

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the error beside the spread of the training rows, the largest of the columns."""
        predicted, true = numbers_in(answer, self.columns), list(example["label"])
        if all(map(math.isfinite, predicted)):
            self.counts.update([predicted], [true])
        errors = zip(predicted, true, self.scales, strict=True)
        return float(max(abs(one - other) / scale for one, other, scale in errors))

    def state(self) -> dict[str, NDArray[Any]]:
        """Predicted and true values."""
        return self.counts.state()

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Put other rows behind these."""
        self.counts.merge(state)

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...]:
        """The square of the error in each column, and 1."""
        pairs = zip(numbers_in(answer, self.columns), example["label"], strict=True)
        return *((one - other) ** 2 for one, other in pairs), 1.0

    def by_rows(self) -> RowSums:
        """The same of each row."""
        predicted, true = self.pairs()
        return RowSums.of(np.column_stack([(predicted - true) ** 2, np.ones(len(true))]))

    def score(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """RMSE, the mean over the columns."""
        with np.errstate(divide="ignore", invalid="ignore"):
            means = sums[..., :-1] / sums[..., -1:]
        # Taking a row out of a sum of floats may leave less than nothing.
        score: NDArray[np.float64] = np.sqrt(np.maximum(means, 0.0)).mean(axis=-1)
        return score

    def pairs(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N, K) predicted and true values."""
        state = self.counts.state()
        return state["predicted"], state["true"]

    def baseline(self) -> dict[str, float | None]:
        """The least RMSE, and the least MAE, of one answer to all rows: their mean, their median.

        Both have no value without rows.
        """
        _, true = self.pairs()
        best: dict[str, float | None] = {"rmse": None, "mae": None}
        for name, middle in (("rmse", np.mean), ("mae", np.median)) if len(true) else ():
            counts = RegressionCounts(len(self.columns))
            counts.update(np.tile(middle(true, axis=0), (len(true), 1)), true)
            best[name] = counts.values()[name]
        return best

    def undefined(self) -> str:
        """Why R² or a correlation has no value, in words; empty where all have one."""
        predicted, true = self.pairs()
        if len(true) < 2:
            return (
                f"R² and correlations need two rows or more, and there is {len(true) or 'no row'}"
            )
        for sides, values in (("true", true), ("predicted", predicted)):
            for column, numbers in zip(self.columns, values.T, strict=True):
                if (numbers == numbers[0]).all():
                    where = f" in {shown(column)}" if len(self.columns) > 1 else ""
                    return f"all {sides} values are equal{where}, and a correlation needs others"
        return ""

    def values(self) -> dict[str, Any]:
        """Errors and correlations, of all columns and of each."""
        baseline = self.baseline()
        values: dict[str, Any] = {
            **self.counts.values(),
            **{f"{name}_interval": ends for name, ends in self.counts.intervals().items()},
            "baseline_rmse": baseline["rmse"],
            "baseline_mae": baseline["mae"],
            "rows": self.counts.total(),
        }
        if len(self.columns) > 1:
            columns = zip(self.columns, self.counts.per_column(), strict=True)
            values["per_column"] = {
                column: {name: estimate.value for name, estimate in scores.items()}
                for column, scores in columns
            }
        return values

    def lines(self, loss: float) -> Iterator[str]:
        """Each score with its interval, against always answering one number."""
        baseline = self.baseline()
        yield f"RMSE {_with_ends(self.counts, 'rmse')} on {plural(self.counts.total(), 'row')}"
        yield f"  against {score_words(baseline['rmse'])} for always answering their mean"
        median = f"{score_words(baseline['mae'])} for their median"
        yield f"  MAE {_with_ends(self.counts, 'mae')}, against {median}"
        for name, title in (("r2", "R²"), ("pearson", "Pearson"), ("spearman", "Spearman")):
            yield f"  {title} {_with_ends(self.counts, name)}"
        if reason := self.undefined():
            yield f"  n/a: {reason}"
        yield f"  loss {loss:.4f}"
        if len(self.columns) > 1:
            yield ""
            for column, scores in zip(self.columns, self.counts.per_column(), strict=True):
                words = ", ".join(f"{n} {score_words(e.value)}" for n, e in scores.items())
                yield f"{shown(column)}: {words}"

    def explain(self) -> dict[str, Any]:
        """Predicted against true values, and residuals."""
        values, ends, guess = (
            self.counts.values(),
            self.counts.intervals(),
            self.baseline(),
        )
        rmse = page.measure(values["rmse"], ends.get("rmse"))
        titles = {"mae": "MAE", "r2": "R²", "pearson": "Pearson", "spearman": "Spearman"}
        mean = {"name": "always answering their mean", "mark": "the mean"}
        worse = values["rmse"] is not None and values["rmse"] >= (guess["rmse"] or 0.0)
        words = f"Always answering the mean of these rows gives {number(guess['rmse'])}."
        cautions = [page.caution("No better than the mean", words)] if worse else []
        if reason := self.undefined():
            cautions.append(
                page.caution("Some scores have no value", f"{reason[0].upper()}{reason[1:]}.")
            )
        return page.part(
            page.headline(
                "RMSE",
                rmse,
                self.counts.total(),
                mean | page.measure(guess["rmse"]),
                format="number",
                scale=None,
                greater_is_better=False,
            ),
            tiles=[
                {"label": title, "value": values[name], "note": _range_words(ends.get(name))}
                for name, title in titles.items()
            ],
            blocks=self._blocks(),
            cautions=cautions,
        )

    def _blocks(self) -> list[dict[str, Any]]:
        """Two figures for each column, and a table of their scores where there are several."""
        blocks: list[dict[str, Any]] = []
        both = zip(self.columns, *(values.T for values in self.pairs()), strict=True)
        for position, (column, predicted, true) in enumerate(both):
            scatter = page.scatter(f"Predicted against true, {column}", predicted, true)
            title = f"Residuals, {column}"
            residuals = page.histogram(title, "predicted less true", predicted - true)
            if position == 0:
                scatter |= {"id": "predicted", "nav": "Predicted"}
                residuals |= {"id": "residuals", "nav": "Residuals"}
            blocks.append({"kind": "row", "blocks": [scatter, residuals]})
        if len(self.columns) > 1:
            names = ("rmse", "mae", "r2", "pearson", "spearman")
            rows = [
                [column, *(scores[name].value for name in names)]
                for column, scores in zip(self.columns, self.counts.per_column(), strict=True)
            ]
            kinds = dict.fromkeys(("RMSE", "MAE", "R²", "Pearson", "Spearman"), "number")
            table = page.table("Scores of each column", {"Column": "text"} | kinds, rows)
            blocks.append(table | {"id": "columns", "title": "Each column", "nav": "Columns"})
        return blocks


def _with_ends(counts: RegressionCounts, name: str) -> str:
    return interval_words(counts.values()[name], counts.intervals().get(name))


def _range_words(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"{number(ends[0])} to {number(ends[1])}"
