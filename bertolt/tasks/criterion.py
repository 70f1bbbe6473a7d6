"""How the loss of a run differs from the plain one: weights of labels, focus, smoothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bertolt.base.checks import is_real
from bertolt.base.errors import DataError, UsageError, nearest
from bertolt.base.format import shorten
from bertolt.base.json_files import read_object
from bertolt.models.losses import BinaryCriterion, Criterion
from bertolt.tasks import page

AUTO = "auto"
_HEAVIEST = 1_000_000  # weights of a greater range would let others vanish in 32 bits


@dataclass(frozen=True, kw_only=True)
class LossChoices:
    """What a user asks of the loss.

    Attributes:
        class_weights: "auto", for weights by which all classes weigh alike, or rows with and
            without a label; or a JSON file of weights by name; None: all 1.
        focal: see `Criterion` and `BinaryCriterion`.
        label_smoothing: likewise.
    """

    class_weights: str | None = None
    focal: float = 0.0
    label_smoothing: float = 0.0

    @property
    def option(self) -> str:
        """The first option that was given, or an empty text."""
        given = {
            "--class-weights": self.class_weights is not None,
            "--focal": self.focal > 0,
            "--label-smoothing": self.label_smoothing > 0,
        }
        return next((name for name, there in given.items() if there), "")


def criterion_of(
    choices: LossChoices, labels: Sequence[str], targets: NDArray[Any]
) -> Criterion | None:
    """The loss of a task of classes; None: the plain one.

    Args:
        choices: of the user.
        labels: names of the classes.
        targets: (M,) classes of the training rows or tokens, of which those below 0 do not count.

    Raises:
        DataError: the file of weights cannot be used.
    """
    if not choices.option:
        return None
    weights = None
    if choices.class_weights is not None:
        counts = np.bincount(targets[targets >= 0], minlength=len(labels))
        if choices.class_weights == AUTO:
            values = counts.sum() / (len(labels) * np.maximum(counts, 1))
        else:
            values = _read_weights(Path(choices.class_weights), labels)
        # The mean over the training labels is 1, so that the learning rate means the same.
        mean = float((values * counts).sum() / max(counts.sum(), 1))
        weights = torch.tensor(values / (mean or 1.0), dtype=torch.float32)
    return Criterion(weights, choices.focal, choices.label_smoothing)


def criterion_of_sets(
    choices: LossChoices, labels: Sequence[str], flags: NDArray[Any]
) -> BinaryCriterion | None:
    """The loss of a task of several labels a row; None: the plain one.

    Automatic weights are the rows without a label for each row with it, so that both weigh alike;
    1 for a label of no row or of all, of which there is nothing to learn.

    Args:
        choices: of the user.
        labels: their names.
        flags: (N, C) ones and zeros of the training rows.

    Raises:
        DataError: the file of weights cannot be used.
    """
    if not choices.option:
        return None
    weights = None
    if choices.class_weights == AUTO:
        having = flags.sum(axis=0, dtype=np.float64)
        lacking = len(flags) - having
        balanced = np.where(lacking > 0, lacking, 1.0) / np.maximum(having, 1)
        values = np.where((having > 0) & (lacking > 0), balanced, 1.0)
        weights = torch.tensor(values, dtype=torch.float32)
    elif choices.class_weights is not None:
        values = _read_weights(Path(choices.class_weights), labels)
        weights = torch.tensor(values, dtype=torch.float32)
    return BinaryCriterion(weights, choices.focal, choices.label_smoothing)


def criterion_of_places(choices: LossChoices, why: str) -> Criterion | None:
    """The loss of a task that takes one of an example's own parts; None: the plain one.

    Args:
        choices: of the user.
        why: nothing of it can have a weight, as the end of a sentence.

    Raises:
        UsageError: weights were asked for.
    """
    if choices.class_weights is not None:
        others = "--focal and --label-smoothing are taken"
        raise UsageError(why, place="--class-weights", fix=f"leave it out; {others}")
    if not choices.option:
        return None
    return Criterion(focal=choices.focal, smoothing=choices.label_smoothing, ragged=True)


def facts_of(criterion: object, labels: Sequence[str]) -> dict[str, Any]:
    """How a criterion of these functions differs from the plain loss, in plain values; nothing if
    it is another one, or None."""
    if not isinstance(criterion, Criterion | BinaryCriterion):
        return {}
    weights = None if criterion.weights is None else criterion.weights.tolist()
    return {
        "of": "cross-entropy" if isinstance(criterion, Criterion) else "binary cross-entropy",
        "class_weights": None if weights is None else dict(zip(labels, weights, strict=True)),
        "focal": criterion.focal,
        "label_smoothing": criterion.smoothing,
    }


def facts_words(facts: Mapping[str, Any]) -> str:
    """The same in words; empty of nothing."""
    if not facts:
        return ""
    forms = [
        "weighted" if facts["class_weights"] else "",
        f"focal {facts['focal']:g}" if facts["focal"] else "",
        f"labels smoothed by {facts['label_smoothing']:g}" if facts["label_smoothing"] else "",
    ]
    return f"{facts['of']}, {', '.join(filter(None, forms))}"


def weights_block(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The weight of each label for the page, where they have some."""
    weights = facts["class_weights"] if facts else None
    if not weights:
        return []
    columns = {"Label": "text", "Weight": "number"}
    return [page.table("Weights of labels in the loss", columns, weights.items())]


def _read_weights(path: Path, labels: Sequence[str]) -> NDArray[np.float64]:
    """The weight of each label; one that is not named weighs 1."""
    example = '{"good": 1, "bad": 2.5}'
    values = read_object(path, "weights", example, ", or --class-weights auto")
    for name, value in values.items():
        if name not in labels:
            near = nearest(name, list(labels))
            raise DataError(
                f"there is no label {name!r}",
                place=str(path),
                fix=f"{near!r}, perhaps" if near else f"name some of {', '.join(labels[:20])}",
            )
        if not is_real(value) or not 0 <= value <= _HEAVIEST:
            raise DataError(
                f"the weight of {name!r} is {shorten(repr(value), 80)}",
                place=str(path),
                fix=f"give each label a number from 0 to {_HEAVIEST:,}",
            )
    weights = np.array([float(values.get(name, 1.0)) for name in labels])
    if not weights.any():
        raise DataError(
            "all weights are 0, and nothing would be learned",
            place=str(path),
            fix="give some label a weight above 0",
        )
    return weights


def refuse(choices: LossChoices, task: str) -> None:
    """Refuse choices for a task whose loss they do not fit.

    Raises:
        UsageError: one was made.
    """
    if choices.option:
        raise UsageError(
            f"it is for labels, and {task} learns something else",
            place=choices.option,
            fix=f"leave {choices.option} out",
        )
