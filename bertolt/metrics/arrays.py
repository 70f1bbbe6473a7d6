"""What a caller may hand to a metric, brought to NumPy and checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import UsageError


def to_numpy(values: Any) -> NDArray[Any]:
    """A list, an array or a tensor of any device and precision, as a NumPy array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        # NumPy has no bfloat16; float64 holds every value of the narrower types exactly.
        return np.asarray(values.double() if values.is_floating_point() else values)
    if isinstance(values, list | tuple):
        values = [to_numpy(value) if hasattr(value, "detach") else value for value in values]
    try:
        return np.asarray(values)
    except ValueError as error:
        raise UsageError(
            f"the values do not form a rectangular array ({error})",
            fix="give one number for each example",
        ) from error


def paired_ids(
    predictions: Any, references: Any, place: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predictions and references as flat int64 class ids of equal length.

    Raises:
        UsageError: their shapes differ, or a value is not a whole number.
    """
    first, second = _paired(predictions, references, place)
    return _whole(first, "predictions", place), _whole(second, "references", place)


def paired_reals(
    predictions: Any, references: Any, place: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predictions and references as flat float64 values of equal length.

    Raises:
        UsageError: their shapes differ, or a value is not a finite number.
    """
    first, second = _paired(predictions, references, place)
    return _finite(first, "predictions", place), _finite(second, "references", place)


def paired_columns(
    predicted: Any, true: Any, columns: int | None, place: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted and true values of equal shape (N, `columns`) as float64; (N,) counts as (N, 1).

    Raises:
        UsageError: another shape, or a value is not a finite number.
    """
    first, second = to_numpy(predicted), to_numpy(true)
    width = "C" if columns is None else columns
    grids = [x[:, None] if x.ndim == 1 and columns == 1 else x for x in (first, second)]
    fits = grids[0].ndim == 2 and columns in (None, grids[0].shape[1])
    if not fits or grids[0].shape != grids[1].shape:
        raise UsageError(
            f"predicted values have shape {first.shape}, true ones {second.shape}",
            place=place,
            fix=f"give both in the shape (N, {width}): a row for each example",
        )
    return _finite(grids[0], "predicted values", place), _finite(grids[1], "true values", place)


def as_flags(values: NDArray[np.float64], what: str, place: str) -> NDArray[np.bool_]:
    """Values that are 0 or 1, as booleans of the same shape."""
    broken = values[(values != 0) & (values != 1)]
    if broken.size:
        raise UsageError(
            f"{what} hold {broken[0]}, which is neither 0 nor 1",
            place=place,
            fix="give booleans; for probabilities, probabilities >= threshold",
        )
    flags: NDArray[np.bool_] = values != 0
    return flags


def _paired(predictions: Any, references: Any, place: str) -> tuple[NDArray[Any], NDArray[Any]]:
    first, second = to_numpy(predictions), to_numpy(references)
    # (N, 1) against (N,) is the same N values: the output of a one-output regression head.
    if first.squeeze().shape != second.squeeze().shape:
        raise UsageError(
            f"predictions have shape {first.shape}, references {second.shape}",
            place=place,
            fix="give one prediction for each reference; for logits, logits.argmax(-1)",
        )
    return first.ravel(), second.ravel()


def _whole(values: NDArray[Any], what: str, place: str) -> NDArray[np.int64]:
    if values.dtype.kind in "iub" or values.size == 0:
        return values.astype(np.int64)
    numbers = _finite(values, what, place)
    broken = np.flatnonzero(numbers != np.floor(numbers))
    if broken.size:
        raise UsageError(
            f"{what}[{broken[0]}] is {numbers[broken[0]]}, not a class id",
            place=place,
            fix="give whole numbers; for logits, logits.argmax(-1)",
        )
    return numbers.astype(np.int64)


def _finite(values: NDArray[Any], what: str, place: str) -> NDArray[np.float64]:
    if values.dtype.kind not in "iubf" and values.size:
        raise UsageError(
            f"{what} hold {values.ravel()[0]!r}, which is not a number",
            place=place,
            fix="map label names to ids first",
        )
    numbers = values.astype(np.float64)
    broken = np.argwhere(~np.isfinite(numbers))
    if broken.size:
        raise UsageError(
            f"{what}{broken[0].tolist()} is {numbers[tuple(broken[0])]}",
            place=place,
            fix="find where the model or the data became infinite or undefined",
        )
    return numbers
