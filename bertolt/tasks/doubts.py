"""Which labels may be wrong, by the answers of models that have not seen their rows.

Confident learning (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels"): a class counts for a row where its probability reaches the mean that rows given
this class have for it, and a row whose class is not the most probable of these is in doubt. All
rows are ranked by the probability of what was given, the least first.
"""

from __future__ import annotations

import abc
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FAR = 3.5
"""Residual beyond which a number is in doubt, in standard deviations as the median absolute
deviation estimates them (Iglewicz and Hoaglin 1993)."""
_TO_SPREAD = 1.4826  # from that deviation to a standard deviation, for normal residuals

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """A row whose label may be wrong.

    Attributes:
        place: of the row, as it was added.
        given: what the row has.
        answer: what the models say.
        trust: in what was given: its probability, or minus the residual in spreads.
        flagged: whether it is in doubt, and not only ranked.
    """

    place: int
    given: str
    answer: str
    trust: float
    flagged: bool


class Doubts(abc.ABC):
    """Gathers answers to rows; `ranked` needs them all."""

    measure: str
    """What `Doubt.trust` is, for the head of a column."""
    how: str
    """By what a row is in doubt, in a sentence."""

    def __init__(self) -> None:
        self._places = array("q")
        self._values = array("d")
        self._width = 0

    def add(self, place: int, answer: Mapping[str, Any], label: Any) -> None:
        """Take in the answer to a row, by a model that has not seen it, and the label of it."""
        values = self._numbers(answer, label)
        self._places.append(place)
        self._values.extend(values)
        self._width = len(values)

    @abc.abstractmethod
    def _numbers(self, answer: Mapping[str, Any], label: Any) -> Sequence[float]:
        """What is kept of a row, as many numbers for each."""

    @abc.abstractmethod
    def _judged(self, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """(N,) trust in each row, and whether it is in doubt; `values` are (N, …)."""

    @abc.abstractmethod
    def _words(self, values: Floats) -> tuple[str, str]:
        """What was given to a row, and what the models say."""

    def ranked(self) -> list[Doubt]:
        """All rows, those in doubt first, and among them the one of least trust."""
        if not self._places:
            return []
        values = np.frombuffer(self._values).reshape(len(self._places), self._width)
        trust, flagged = self._judged(values)
        order = np.lexsort((trust, ~flagged))
        doubts = []
        for at in order.tolist():
            given, answer = self._words(values[at])
            doubts.append(
                Doubt(
                    place=self._places[at],
                    given=given,
                    answer=answer,
                    trust=float(trust[at]),
                    flagged=bool(flagged[at]),
                )
            )
        return doubts


class ClassDoubts(Doubts):
    """One label of several a row.

    Args:
        labels: their names.
    """

    measure = "Probability of the given label"
    how = (
        "A row is in doubt where another label is the most probable of those that reach the mean "
        "probability of their own rows."
    )

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self._labels = list(labels)
        self._codes = {name: code for code, name in enumerate(labels)}

    def _numbers(self, answer: Mapping[str, Any], label: Any) -> Sequence[float]:
        shares = answer["probabilities"]
        return [float(self._codes[str(label)]), *(shares.get(name, 0.0) for name in self._labels)]

    def _judged(self, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        given, shares = values[:, 0].astype(np.int64), values[:, 1:]
        return trust_and_doubt(given, shares)

    def _words(self, values: Floats) -> tuple[str, str]:
        return self._labels[int(values[0])], self._labels[int(values[1:].argmax())]


def trust_and_doubt(given: NDArray[np.int64], shares: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The probability of the class each row was given, and whether confident learning counts it
    to another one.

    Args:
        given: (N,) classes.
        shares: (N, C) probabilities, by a model that has not seen the row.
    """
    count = shares.shape[1]
    sizes = np.bincount(given, minlength=count)
    own = shares[np.arange(len(given)), given]
    means = np.bincount(given, weights=own, minlength=count) / np.maximum(sizes, 1)
    means[sizes == 0] = np.inf
    reached = np.where(shares >= means, shares, -1.0)
    best = reached.argmax(axis=1)
    flagged: NDArray[np.bool_] = (best != given) & (reached.max(axis=1) >= 0)
    return own, flagged


class SetDoubts(Doubts):
    """Any number of labels a row; each label is looked at by itself, and the least trust counts.

    Args:
        labels: their names.
    """

    measure = "Least probability of what is given"
    how = (
        "A row is in doubt where a label that it lacks, or the lack of one that it has, is more "
        "probable and reaches the mean probability of its own rows."
    )

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        self._labels = list(labels)

    def _numbers(self, answer: Mapping[str, Any], label: Any) -> Sequence[float]:
        shares, given = answer["probabilities"], set(label)
        has = [float(name in given) for name in self._labels]
        return [*has, *(shares.get(name, 0.0) for name in self._labels)]

    def _judged(self, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        given, shares = np.split(values, 2, axis=1)
        trust, flagged = np.ones(len(values)), np.zeros(len(values), bool)
        for has, share in zip(given.T, shares.T, strict=True):
            both = np.stack([1 - share, share], axis=1)
            of_label, odd = trust_and_doubt(has.astype(np.int64), both)
            trust, flagged = np.minimum(trust, of_label), flagged | odd
        return trust, flagged

    def _words(self, values: Floats) -> tuple[str, str]:
        given, shares = np.split(values, 2)
        trust = np.where(given > 0, shares, 1 - shares)
        names = [name for name, has in zip(self._labels, given, strict=True) if has]
        at = int(trust.argmin())
        sign = "without" if given[at] else "with"
        return ", ".join(names) or "no label", f"{sign} {self._labels[at]}"


class NumberDoubts(Doubts):
    """A number, or several; the largest residual counts, beside the spread of its column.

    Args:
        columns: their names.
    """

    measure = "Residual in spreads, below 0"
    how = (
        f"A row is in doubt where its residual is more than {FAR:g} spreads from the middle one; "
        "the spread is 1.4826 times the median absolute deviation."
    )

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__()
        self._columns = list(columns)

    def _numbers(self, answer: Mapping[str, Any], label: Any) -> Sequence[float]:
        values = [answer["value"]] if "value" in answer else list(answer["values"].values())
        given = label if isinstance(label, list | tuple) else [label]
        return [*map(float, given), *map(float, values)]

    def _judged(self, values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        given, answers = np.split(values, 2, axis=1)
        residuals = given - answers
        away = np.abs(residuals - np.median(residuals, axis=0))
        spread = _TO_SPREAD * np.median(away, axis=0)
        # Where half of the answers are exact, any other residual is far.
        with np.errstate(over="ignore"):
            far = (away / np.where(spread > 0, spread, np.finfo(float).tiny)).max(axis=1)
        return -np.minimum(far, 1e9), far > FAR

    def _words(self, values: Floats) -> tuple[str, str]:
        given, answers = (
            ", ".join(f"{number:.4g}" for number in part) for part in np.split(values, 2)
        )
        return given, answers
