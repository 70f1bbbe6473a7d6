"""Scores of spans: right where both ends and the kind are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.format import plural
from bertolt.metrics import ClassScore, RowSums, SpanCounts
from bertolt.metrics.tags import Span
from bertolt.tasks import page
from bertolt.tasks.base import Answer, Example, Scorer
from bertolt.tasks.scorers.unmeasured import Unmeasured
from bertolt.tasks.spans import Mark, marks_of, unit_labels
from bertolt.tasks.table import interval_words, score_table, shown

_LEAD = (
    "A span is right when both of its ends and its kind are. Precision: of the spans given this "
    "kind, how many are right. Recall: of the true spans of this kind, how many were given."
)


class SpanScorer(Scorer):
    """Spans with the right ends and the right kind.

    Args:
        scheme: of the tags.
        known: kinds that the model may answer.

    Attributes:
        counts: by kind, and which kinds are taken for which.
        rows: that were counted.
    """

    shown = ("f1", "precision", "recall", "f1_macro")

    def __init__(self, scheme: str, known: Sequence[str] = ()) -> None:
        self.counts = SpanCounts()
        self.rows = 0
        self._sums: Counter[tuple[float, ...]] = Counter()
        self._scheme, self._known = scheme, known

    def add(self, answer: Answer, example: Example) -> float:
        """Wrong by the number of spans that are on one side alone."""
        said, true = self._spans(answer, example)
        words = [(start, end) for start, end, _ in answer["words"]]
        self.rows += 1
        marks = [Mark(*span) for span in true]
        self.counts.update(
            said,
            true,
            predicted_tags=[tag for _, _, tag in answer["words"]],
            true_tags=unit_labels(words, marks, self._scheme),
        )
        self._sums[_sums_of(set(said), set(true))] += 1
        return float(len(set(said) ^ set(true)))

    def _spans(self, answer: Answer, example: Example) -> tuple[list[Span], list[Span]]:
        """The spans that were given, and the true ones."""
        true = [(m.start, m.end, m.kind) for m in marks_of(example, self._scheme)]
        return [(s["start"], s["end"], s["label"]) for s in answer["spans"]], true

    def row_sums(self, answer: Answer, example: Example) -> tuple[float, ...]:
        """Twice the right spans, and the given and the true ones together."""
        said, true = self._spans(answer, example)
        return _sums_of(set(said), set(true))

    def by_rows(self) -> RowSums:
        """How many rows have so many right spans, and so many given and true ones."""
        pairs = np.array([*self._sums], np.float64).reshape(-1, 2)
        return RowSums.of(pairs, [*self._sums.values()])

    def state(self) -> dict[str, NDArray[Any]]:
        """The counts."""
        sums = [[*sums, count] for sums, count in sorted(self._sums.items())]
        return self.counts.state() | {
            "rows": np.array([self.rows]),
            "sums": np.array(sums, np.int64).reshape(-1, 3),
        }

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add counts."""
        self.counts.merge(state)
        self.rows += int(state["rows"][0])
        for right, size, count in state["sums"].tolist():
            self._sums[float(right), float(size)] += count

    def _unmeasured(self) -> Unmeasured:
        """Kinds without a true span, whether they were given or are only known."""
        scores = self.counts.per_type()
        nowhere = ClassScore.of(0, 0, 0)
        kinds = sorted({*scores, *self._known})
        rows = [scores.get(kind, nowhere) for kind in kinds]
        return Unmeasured.of(kinds, rows, noun="kind", unit="true span")

    def values(self) -> dict[str, Any]:
        """Precision, recall and F1 of spans, of all and of each kind."""
        values = self.counts.values()
        return {
            **values,
            "accuracy": values["token_accuracy"],
            "rows": self.rows,
            **{f"{name}_interval": ends for name, ends in self.counts.intervals().items()},
            "per_type": {kind: vars(score) for kind, score in self.counts.per_type().items()},
            "confused": [
                {"label": true, "taken_for": said, "count": count}
                for (true, said), count in sorted(self.counts.confused().items())
            ],
            **self._unmeasured().values(),
            "missed": self.counts.missed(),
            "spurious": self.counts.spurious(),
        }

    def lines(self, loss: float) -> Iterator[str]:
        """F1 of all spans, and a line for each kind."""
        values, ends = self.counts.values(), self.counts.intervals()
        score = self.counts.overall()
        yield (
            f"F1 of spans {interval_words(values['f1'], ends['f1'])}: {score.support:,} are there, "
            f"{score.predicted:,} were given"
        )
        yield f"  precision {interval_words(values['precision'], ends['precision'])}"
        yield f"  recall {interval_words(values['recall'], ends['recall'])}"
        yield (
            f"  macro F1 {interval_words(values['f1_macro'], None)}, words with the right tag "
            f"{interval_words(values['token_accuracy'], None)}, loss {loss:.4f}"
        )
        yield from self._unmeasured().lines()
        yield ""
        types = self.counts.per_type()
        yield from score_table("kind", list(types), list(types.values()), unit="spans")
        for (true, said), count in sorted(self.counts.confused().items()):
            yield f"{shown(true)} taken for {shown(said)}: {count:,}"

    def explain(self) -> dict[str, Any]:
        """F1, each kind, and which are taken for which."""
        values, ends, overall = self.counts.values(), self.counts.intervals(), self.counts.overall()
        f1, types = page.measure(values["f1"], ends["f1"]), self.counts.per_type()
        blocks = [page.score_block(list(types), list(types.values()), noun="kind", lead=_LEAD)]
        confused = sorted(self.counts.confused().items(), key=lambda pair: -pair[1])
        if confused:
            rows = [
                [true, said, count, count / max(1, types[true].support)]
                for (true, said), count in confused[: page.MOST_CONFUSIONS]
            ]
            table = page.confusions("Right ends, another kind", "kind", rows)
            blocks.append(table | {"id": "confusion", "title": "Confusions", "nav": "Confusions"})
        silent = page.caution("No span was given", "The model marks nothing.")
        return page.part(
            page.headline(
                "F1 of spans", f1, self.rows, None, alike="" if overall.predicted else "no span"
            ),
            tiles=[
                page.share(title, values[name], note)
                for name, title, note in (
                    ("precision", "Precision", f"of {overall.predicted:,} spans given"),
                    ("recall", "Recall", f"of {overall.support:,} true spans"),
                    ("f1_macro", "Macro F1", f"mean over {plural(len(types), 'kind')}"),
                    ("token_accuracy", "Words", "with the right tag"),
                )
            ],
            curves=[page.curve("f1", "F1 of spans", f1)],
            blocks=blocks,
            cautions=[*([] if overall.predicted else [silent]), *self._unmeasured().cautions()],
        )


def _sums_of(said: set[Span], true: set[Span]) -> tuple[float, float]:
    return 2.0 * len(said & true), float(len(said) + len(true))
