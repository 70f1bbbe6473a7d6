"""Scores of answers that stand in a text: exact ones, and the words that they share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import percent, plural
from bertolt.data.spill import Numbers
from bertolt.metrics import RowSums, wilson_interval
from bertolt.metrics.counts import normal_interval
from bertolt.metrics.squad import answer_scores, is_chinese
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer
from bertolt.tasks.scorers.calibration import Calibration
from bertolt.tasks.table import interval_words

Interval = tuple[float, float]

_LEAD = (
    "Exact: the answer is that of the file but for case, punctuation and articles. F1: the words "
    "that both share. In Chinese texts answers are compared by characters."
)


class AnswerScorer(Scorer):
    """The best answer of every row, how far its odds are from those of no answer, and what it has.

    Args:
        may_be_none: whether a question may have no answer.
        threshold: of the odds of no answer above those of the best one, from which none is given.
    """

    shown = ("f1", "exact_match")

    def __init__(self, may_be_none: bool, threshold: float) -> None:
        self.may_be_none, self.threshold = may_be_none, threshold
        self._rows = Numbers("d")  # the margins are what a threshold is chosen by
        self.calibration = Calibration()

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by what is missing of the F1, times the probability of what was answered."""
        golds = [gold["text"] for gold in example["label"]]
        best = answer["best"][0]["text"] if answer["best"] else ""
        exact, f1 = answer_scores(best, golds, chinese=_in_chinese(example))
        self._rows.extend((answer["margin"], exact, f1, float(bool(golds))))
        if "no_answer" in answer:
            self.calibration.after.add(float(answer["no_answer"]), not golds)
        right = f1 if answer["answer"] else float(not golds)
        return float((1 - right) * answer["probability"])

    def state(self) -> dict[str, NDArray[Any]]:
        """(N, 4): margin, exact match and F1 of the best answer, and whether there is one."""
        return {"rows": self.rows(), **self.calibration.state()}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Put other rows behind these."""
        self._rows.extend(state["rows"].ravel().tolist())
        self.calibration.merge(state)

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...]:
        """The F1 of what is answered, be it nothing, and 1."""
        golds = [gold["text"] for gold in example["label"]]
        return answer_scores(answer["answer"], golds, chinese=_in_chinese(example))[1], 1.0

    def by_rows(self) -> RowSums:
        """How many rows have which F1."""
        f1 = self.scores()[:, 1]
        return RowSums.of(np.column_stack([f1, np.ones(len(f1))]))

    def rows(self) -> NDArray[np.float64]:
        """The same."""
        return self._rows.whole().reshape(-1, 4)

    def scores(self) -> NDArray[np.float64]:
        """(N, 2) exact match and F1 of what is answered, be it nothing."""
        rows = self.rows()
        silent = self._silent(rows)
        return np.where(silent[:, None], 1 - rows[:, 3:], rows[:, 1:3])

    def _silent(self, rows: NDArray[np.float64]) -> NDArray[np.bool_]:
        if not self.may_be_none:
            return np.zeros(len(rows), dtype=bool)
        return rows[:, 0] > self.threshold

    def best_threshold(self) -> float:
        """The threshold of the best F1: between two margins that stand next to each other."""
        rows = self.rows()
        if not len(rows):
            return self.threshold
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        margins, gains = rows[:, 0], np.where(rows[:, 3] > 0, rows[:, 2], -1.0)
        totals = np.r_[0.0, gains.cumsum()]
        # No threshold lies between two rows with one margin.
        totals[1:-1][margins[1:] == margins[:-1]] = -math.inf
        best = int(totals.argmax())
        below = margins[best - 1] if best else margins[0] - 2.0
        above = margins[best] if best < len(rows) else margins[-1] + 2.0
        return float((below + above) / 2)

    def intervals(self) -> dict[str, Interval | None]:
        """95% intervals of both scores; None for one row."""
        scores = self.scores()
        if len(scores) < 2:
            return {"exact_match": None, "f1": None}
        f1 = scores[:, 1]
        exact = wilson_interval(int(scores[:, 0].sum()), len(scores))
        if (f1 == scores[:, 0]).all():  # no answer is right in part
            return {"exact_match": exact, "f1": exact}
        return {"exact_match": exact, "f1": normal_interval(float(f1.mean()), f1, 0.0, 1.0)}

    def parts(self) -> dict[str, dict[str, Any]]:
        """Rows, exact match and F1 of questions with and without an answer."""
        has, scores = self.rows()[:, 3] > 0, self.scores()
        parts = {"with_answer": scores[has], "without_answer": scores[~has]}
        return {
            name: {
                "rows": len(part),
                "exact_match": float(part[:, 0].mean()) if len(part) else None,
                "f1": float(part[:, 1].mean()) if len(part) else None,
            }
            for name, part in parts.items()
        }

    def values(self) -> dict[str, Any]:
        """Exact match and F1 of all rows, and of those with and without an answer."""
        scores, ends = self.scores(), self.intervals()
        rows = len(scores)
        values: dict[str, Any] = {
            "f1": float(scores[:, 1].mean()) if rows else None,
            "exact_match": float(scores[:, 0].mean()) if rows else None,
            **{f"{name}_interval": each for name, each in ends.items() if each},
            "rows": rows,
        }
        if self.may_be_none:
            values |= {
                "baseline_f1": self._always_none(),
                "answered": rows - int(self._silent(self.rows()).sum()),
                "no_answer_threshold": self.threshold,
                **self.parts(),
                **self.calibration.values(),
            }
        return values

    def _always_none(self) -> float | None:
        rows = self.rows()
        return float(1 - rows[:, 3].mean()) if len(rows) else None

    def lines(self, loss: float) -> Iterator[str]:
        """F1 and exact match, and how questions without an answer fared."""
        values, ends = self.values(), self.intervals()
        rows = plural(values["rows"], "question")
        yield f"F1 of answers {interval_words(values['f1'], ends['f1'])} on {rows}"
        if self.may_be_none:
            base = interval_words(values["baseline_f1"], None)
            yield f"  against {base} for never giving an answer"
        exact = interval_words(values["exact_match"], ends["exact_match"])
        yield f"  exact match {exact}, loss {loss:.4f}"
        if self.may_be_none:
            there, none = values["with_answer"], values["without_answer"]
            yield f"  {_part_words(there, 'with an answer')}"
            yield f"  {_part_words(none, 'without one')}"
            yield f"  {values['answered']:,} of {rows} were given an answer"
            yield from self.calibration.lines()

    def explain(self) -> dict[str, Any]:
        """F1 and exact match, and both kinds of questions."""
        values, ends = self.values(), self.intervals()
        f1 = page.measure(values["f1"], ends["f1"])
        guess: dict[str, Any] | None = None
        blocks, tiles, cautions = [], [], []
        if self.may_be_none:
            base = values["baseline_f1"]
            guess = {"name": "never giving an answer", "mark": "never an answer"}
            guess = {**guess, **page.measure(base)}
            tiles = [
                page.share("Questions with an answer", values["with_answer"]["f1"], "F1 of these"),
                page.share("Without an answer", values["without_answer"]["f1"], "told as such"),
            ]
            blocks = [
                self._table(values),
                *self.calibration.blocks("Share of questions without an answer", "questions"),
            ]
            words = f"Never giving an answer gives {percent(base or 0.0)}."
            cautions = page.no_better("never giving an answer", values["f1"], base, words)
        return page.part(
            page.headline("F1 of answers", f1, values["rows"], guess),
            tiles=[page.share("Exact match", values["exact_match"], "of all questions"), *tiles],
            curves=[page.curve("f1", "F1 of answers", f1)],
            blocks=blocks,
            cautions=cautions,
        )

    def _table(self, values: Mapping[str, Any]) -> dict[str, Any]:
        names = {"with_answer": "with an answer", "without_answer": "without an answer"}
        rows = [
            [words, values[name]["rows"], values[name]["exact_match"], values[name]["f1"]]
            for name, words in names.items()
        ]
        kinds = {"Questions": "text", "Rows": "count", "Exact match": "share", "F1": "share"}
        block = page.table("Questions with and without an answer", kinds, rows)
        return block | {"id": "kinds", "title": "With and without an answer", "lead": _LEAD}


def _in_chinese(example: Example) -> bool:
    """Whether the text that a question is asked of is Chinese."""
    return is_chinese(str(example.get("text_pair") or ""))


def _part_words(part: Mapping[str, Any], what: str) -> str:
    return f"{part['rows']:,} {what}, F1 {interval_words(part['f1'], None)}"
