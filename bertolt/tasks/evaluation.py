"""Measuring a classifier on labelled texts, in memory that does not grow with their number."""

from __future__ import annotations

import heapq
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bertolt.base.distributed import ALONE, World
from bertolt.base.format import clean, plural, shorten
from bertolt.data.collate import PackingCollator
from bertolt.data.encode import EncodedTexts
from bertolt.metrics import ClassScore, ConfusionMatrix, wilson_interval
from bertolt.models.frozen import FrozenModel
from bertolt.models.precision import PrecisionChoice
from bertolt.models.pretrained import PreTrainedModel
from bertolt.train.loop import EvaluatedBatch, RunningLoss, predict_batches

TOKEN_BUDGET = {"cpu": 4096, "cuda": 32_768}
"""Most tokens of one evaluation or prediction batch of texts, by the kind of device: as many as
keep it busy."""
SHOWN_LABELS = 50
"""Most labels of the printed table; `to_dict` and the report have all of them."""


def token_budget(device: torch.device) -> int:
    """Most tokens of a batch of texts that have one answer each."""
    return TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cpu"])


@dataclass(frozen=True, order=True)
class WrongRow:
    """A row that the model got wrong, ordered by how sure it was; numbers are those of the set."""

    probability: float
    row: int
    label: int
    predicted: int


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What an evaluation found.

    Attributes:
        labels: names, in the order of the model's outputs.
        confusion: counts, and all that follows from them.
        loss: mean over the rows.
        mistakes: the most confident ones, surest first.
        baseline_label: class that is always guessed for comparison.
    """

    labels: Sequence[str]
    confusion: ConfusionMatrix
    loss: float
    mistakes: list[WrongRow]
    baseline_label: int

    @property
    def baseline(self) -> tuple[float, tuple[float, float]]:
        """Accuracy of always answering `baseline_label`, and its 95% interval."""
        hits, total = int(self.confusion.counts[self.baseline_label].sum()), self.confusion.total()
        return hits / total, wilson_interval(hits, total)

    def to_dict(self) -> dict[str, Any]:
        """All of it in plain values, classes by name."""
        values = self.confusion.to_dict()
        classes = dict(zip(self.labels, values.pop("per_class"), strict=True))
        baseline, _ = self.baseline
        return {
            "accuracy": values["accuracy"],
            "accuracy_interval": values["accuracy_interval"],
            "f1_macro": values["f1_macro"],
            "loss": self.loss if math.isfinite(self.loss) else None,
            "baseline_accuracy": baseline,
            "rows": values["total"],
            "per_class": classes,
            "confusion": values["counts"],
        }

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        low, high = self.confusion.accuracy_interval()
        baseline, _ = self.baseline
        rows = plural(self.confusion.total(), "row")
        always = f"always answering '{_shown(self.labels[self.baseline_label])}'"
        accuracy = self.confusion.accuracy()
        yield f"Accuracy {accuracy:.4f} on {rows} (95% interval {low:.4f}-{high:.4f})"
        yield f"  against {baseline:.4f} for {always}"
        yield f"  macro F1 {self.confusion.f1_macro():.4f}, loss {self.loss:.4f}"
        yield ""
        names = [_shown(name) for name in self.labels[:SHOWN_LABELS]]
        width = max(5, *map(_columns, names))
        yield f"{'label':<{width}}  {'precision (95%)':<24}  {'recall (95%)':<24}  {'F1':<6}  rows"
        for name, each in zip(names, self.confusion.per_class(), strict=False):
            yield f"{name}{' ' * (width - _columns(name))}  {_score_columns(each)}"
        if len(self.labels) > len(names):
            yield f"… and {plural(len(self.labels) - len(names), 'more label')}"


def _shown(name: str) -> str:
    return clean(shorten(name, 30))


def _columns(text: str) -> int:
    """Columns that a text takes on a terminal: two for each wide character."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide


def _score_columns(score: ClassScore) -> str:
    def share(value: float | None, interval: tuple[float, float] | None) -> str:
        if value is None or interval is None:
            return f"{'n/a':<24}"
        return f"{f'{value:.4f} ({interval[0]:.4f}-{interval[1]:.4f})':<24}"

    f1 = "n/a" if score.f1 is None else f"{score.f1:.4f}"
    precision = share(score.precision, score.precision_interval)
    recall = share(score.recall, score.recall_interval)
    return f"{precision}  {recall}  {f1:<6}  {score.support:,}"


def score(
    model: PreTrainedModel,
    rows: EncodedTexts,
    *,
    precision: PrecisionChoice,
    baseline_label: int,
    frozen: FrozenModel | None = None,
    keep_mistakes: int = 12,
    progress: Callable[[int], None] | None = None,
    world: World = ALONE,
) -> Scores:
    """Evaluate a single-label classifier on encoded rows that have labels.

    Args:
        model: the classifier.
        rows: encoded texts with labels (N,).
        precision: number format.
        baseline_label: class to compare with; the most frequent of the training rows.
        frozen: the classifier as it was frozen before; None: it is frozen for this evaluation.
        keep_mistakes: how many of the surest mistakes to keep.
        progress: called with the number of rows done here.
        world: the processes that evaluate together; all get the scores of all rows.
    """
    classes = model.config.num_labels
    confusion = ConfusionMatrix(classes)
    mistakes: list[WrongRow] = []
    loss, done = RunningLoss(), 0
    collate = PackingCollator(pad_token_id=model.config.pad_token_id)
    for batch in predict_batches(
        model,
        rows,
        rows.lengths,
        collate,
        token_budget=token_budget(model.device),
        precision=precision,
        frozen=frozen,
        world=world,
    ):
        assert batch.labels is not None
        predicted = batch.logits.argmax(dim=-1)
        confusion.update(predicted, batch.labels)
        loss.add(batch)
        mistakes = heapq.nlargest(keep_mistakes, [*mistakes, *_wrong_rows(batch, predicted)])
        done += len(batch.rows)
        if progress is not None:
            progress(done)
    confusion.counts[:] = np.reshape(world.sum(confusion.counts.ravel().tolist()), (-1, classes))
    mistakes = heapq.nlargest(keep_mistakes, _everybodys(mistakes, world))
    return Scores(
        labels=[model.config.id2label[index] for index in range(classes)],
        confusion=confusion,
        loss=loss.summed(model.targets, world).mean() or 0.0,
        mistakes=mistakes,
        baseline_label=baseline_label,
    )


def _wrong_rows(batch: EvaluatedBatch, predicted: torch.Tensor) -> Iterator[WrongRow]:
    assert batch.labels is not None
    sure = batch.logits.softmax(dim=-1).max(dim=-1).values
    for place in (predicted != batch.labels).nonzero().squeeze(1).tolist():
        yield WrongRow(
            float(sure[place]),
            int(batch.rows[place]),
            int(batch.labels[place]),
            int(predicted[place]),
        )


def _everybodys(mistakes: Sequence[WrongRow], world: World) -> list[WrongRow]:
    """The mistakes of all processes."""
    own = torch.tensor([astuple(wrong) for wrong in mistakes], dtype=torch.float64)
    return [
        WrongRow(probability, int(row), int(label), int(predicted))
        for part in world.gather(own if mistakes else None)
        for probability, row, label, predicted in part.tolist()
    ]


def majority(labels: NDArray[np.int64], num_labels: int) -> int:
    """The most frequent class; the first of several."""
    return int(np.bincount(labels, minlength=num_labels).argmax())
