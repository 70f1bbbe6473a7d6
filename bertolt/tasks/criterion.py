"""How the loss of a run differs from plain cross-entropy: weights of classes, focus, smoothing."""

from __future__ import annotations

from collections.abc import Sequence
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
from bertolt.models.losses import Criterion

AUTO = "auto"
_HEAVIEST = 1_000_000  # weights of a greater range would let others vanish in 32 bits


@dataclass(frozen=True, kw_only=True)
class LossChoices:
    """What a user asks of the loss.

    Attributes:
        class_weights: "auto", for weights by which all classes weigh alike; or a JSON file of
            weights by name; None: all 1.
        focal: see `Criterion`.
        label_smoothing: see `Criterion`.
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
            f"it is for one class of several, and {task} learns something else",
            place=choices.option,
            fix=f"leave {choices.option} out",
        )
