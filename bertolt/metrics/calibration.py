"""Whether probabilities say how often answers are right, and the temperature that makes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError
from bertolt.metrics.arrays import as_flags, paired_reals
from bertolt.metrics.counts import Interval, State, same_shape

BINS = 15
_CELLS = 256 * BINS
_UNIT = 1 << 32  # sums of probabilities are whole numbers of this part: they add up in any order
_COLDEST, _HOTTEST = 0.001, 20.0  # a model after a few steps has logits of about 0.01
_LEAST = 1e-30  # a probability that was rounded to 0 has no logarithm
Reals = NDArray[np.float64]


@dataclass(frozen=True)
class CurveBin:
    """Answers of similar probability.

    Attributes:
        count: how many.
        probability: their mean probability.
        right: the share of them that is right.
    """

    count: int
    probability: float
    right: float


class CalibrationCounts:
    """Probabilities against what came true, in 3,840 cells from 0 to 1 whatever their number.

    All sums are whole numbers, so the scores do not depend on order, batches or merging.
    """

    def __init__(self) -> None:
        # Of each cell how many, their probabilities in parts of `_UNIT`, and how many came true.
        self._cells: NDArray[np.int64] = np.zeros((3, _CELLS), dtype=np.int64)

    def add(self, probability: float, right: bool) -> None:
        """Count one answer with a probability from 0 to 1; one that is not finite is left out."""
        if not math.isfinite(probability):
            return
        cell = min(max(math.ceil(probability * _CELLS) - 1, 0), _CELLS - 1)
        self._cells[0, cell] += 1
        self._cells[1, cell] += round(probability * _UNIT)
        self._cells[2, cell] += right

    def update(self, probabilities: Any, right: Any) -> None:
        """Count a batch: probabilities from 0 to 1, and whether each came true, (N,) each.

        Raises:
            UsageError: shapes that differ, or other values; nothing is counted then.
        """
        place = "CalibrationCounts.update"
        shares, truth = paired_reals(probabilities, right, place)
        flags = as_flags(truth, "outcomes", place)
        if shares.size and not 0 <= shares.min() <= shares.max() <= 1:
            raise UsageError(
                f"probabilities go from {shares.min()} to {shares.max()}",
                place=place,
                fix="give probabilities from 0 to 1; for logits, their softmax or sigmoid",
            )
        cells = np.clip(np.ceil(shares * _CELLS).astype(np.int64) - 1, 0, _CELLS - 1)
        np.add.at(self._cells[0], cells, 1)
        np.add.at(self._cells[1], cells, np.rint(shares * _UNIT).astype(np.int64))
        np.add.at(self._cells[2], cells, flags.astype(np.int64))

    def state(self) -> State:
        """`cells`, (3, 3840) int64: how many, their summed probabilities, how many came true."""
        return {"cells": self._cells.copy()}

    def merge(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add the counts of others."""
        self._cells += same_shape(state, "cells", self._cells.shape)

    def total(self) -> int:
        """Answers counted so far."""
        return int(self._cells[0].sum())

    def curve(self, *, equal_mass: bool = False) -> list[CurveBin]:
        """The reliability curve: at most 15 bins, from the lowest probability to the highest.

        Bins without an answer are left out. They are of equal width, (0, 1/15], (1/15, 2/15] and so
        on, as in scikit-learn's `calibration_curve`; or with `equal_mass` of as many answers each
        as can be while answers of one cell, whose probabilities differ by 1/3840 at most, stay
        together.
        """
        counts = self._cells[0]
        if equal_mass:
            middles = counts.cumsum() - counts / 2
            bins = np.minimum(BINS * middles // max(self.total(), 1), BINS - 1).astype(np.int64)
        else:
            bins = np.arange(_CELLS) // (_CELLS // BINS)
        sums = [np.zeros(BINS, np.int64) for _ in self._cells]
        for total, row in zip(sums, self._cells, strict=True):
            np.add.at(total, bins, row)
        return [
            CurveBin(count, parts / _UNIT / count, right / count)
            for count, parts, right in zip(*(each.tolist() for each in sums), strict=True)
            if count
        ]

    def error(self, *, equal_mass: bool = False) -> float | None:
        """The expected calibration error; None when nothing was counted.

        It is the mean over all answers of |share right - mean probability| of their bin, in 15 bins
        of equal width (M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining well calibrated
        probabilities using Bayesian binning", AAAI 2015; 15 bins as C. Guo, G. Pleiss, Y. Sun,
        K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017) or of equal mass
        (K. Nguyen, B. O'Connor, "Posterior calibration and exploratory analysis for natural
        language processing models", EMNLP 2015). It is above 0 by chance alone, the more so the
        fewer answers there are.
        """
        total = self.total()
        gaps = [
            each.count * abs(each.right - each.probability)
            for each in self.curve(equal_mass=equal_mass)
        ]
        return math.fsum(gaps) / total if total else None

    def values(self) -> dict[str, float | None]:
        """ece in bins of equal width, and ece_equal_mass; None when nothing was counted."""
        return {"ece": self.error(), "ece_equal_mass": self.error(equal_mass=True)}

    def intervals(self) -> dict[str, Interval | None]:
        """None: these errors have no interval of a known form."""
        return {"ece": None, "ece_equal_mass": None}


def heated(shares: Any, temperature: float) -> Any:
    """Probabilities (…, C) as they are where logits are divided by a temperature before softmax.

    At 1.0 they are the same to the bit. Their order stays.
    """
    if temperature == 1.0:
        return shares
    logs = np.log(np.maximum(np.asarray(shares, np.float64), _LEAST)) / temperature
    powers = np.exp(logs - logs.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def heated_each(shares: Any, temperature: float) -> Any:
    """Probabilities of any shape, each of a label by itself, where logits are so divided."""
    if temperature == 1.0:
        return shares
    values = np.asarray(shares, np.float64)
    return heated(np.stack([values, 1 - values], axis=-1), temperature)[..., 0]


def fit_temperature(shares: Any, classes: Any) -> float | None:
    """The temperature with the least negative log-likelihood of the true classes.

    One number divides all logits, so which class is the most probable stays as it is. The
    likelihood has one optimum in 1 / temperature, as it is concave in that. Source: C. Guo et al.
    (see `CalibrationCounts.error`).

    Args:
        shares: (N, C) probabilities at temperature 1.
        classes: (N,) the true ones.

    Returns:
        From 0.001 to 20; None where the best one lies beyond, as where every row is right.
    """
    return temperature_or_why(shares, classes)[0]


def temperature_or_why(shares: Any, classes: Any) -> tuple[float | None, str]:
    """The temperature of `fit_temperature`, or None and in words why it cannot be fitted."""
    logs = np.log(np.maximum(np.asarray(shares, np.float64), _LEAST))
    true = np.asarray(classes, np.int64)
    if not len(true):
        return None, "there is no row to fit it on"
    # One order whatever the batches were, so that sums round alike.
    order = np.lexsort((true, *logs.T))
    logs, said = logs[order], logs[order, true[order]]

    def slope(scale: float) -> float:
        """How the negative log-likelihood changes with 1 / temperature."""
        powers = np.exp(scale * (logs - logs.max(axis=1, keepdims=True)))
        expected = (powers * logs).sum(axis=1) / powers.sum(axis=1)
        return float((expected - said).sum())

    low, high = 1 / _HOTTEST, 1 / _COLDEST
    if not np.isfinite(logs).all():
        return None, "there are probabilities that are not finite"
    if not slope(low) < 0:
        return None, (
            f"the best one lies above {_HOTTEST:g}, as these probabilities do not tell the labels "
            "of the rows apart"
        )
    if not slope(high) > 0:
        if (said == logs.max(axis=1)).all():
            return None, "all is right already, so that surer probabilities always fit better"
        return None, f"the best one lies below {_COLDEST:g}, as these probabilities are so even"
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return round(2 / (low + high), 6), ""
