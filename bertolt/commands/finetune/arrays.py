"""What scikit-learn's users give: lists, arrays and data frames, as texts, labels, words and tags.

Shapes: N rows, K labels or numbers of a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import DataError
from bertolt.data.cells import as_label
from bertolt.data.table_file import is_missing

NAME = "X and y"
MOST_COLUMNS = 2
"""Columns of texts: pairs have two."""


def text_columns(X: Any) -> tuple[list[list[object]], list[str] | None]:
    """The columns of texts of `X`, and their names where it is a data frame with names.

    Raises:
        DataError: no texts, or three columns and more; a ValueError too.
    """
    no_rows = isinstance(X, str | bytes | Mapping | Set) or not hasattr(X, "__len__")
    if no_rows or hasattr(X, "toarray"):  # of a set there is no order, and a sparse one is numbers
        raise DataError(
            f"X is a {type(X).__name__}, and must be several texts",
            place="X",
            fix="give a list of texts, an array, or one or two columns of a data frame",
        )
    names: list[str] | None = None
    if hasattr(X, "columns"):
        named = list(X.columns)
        names = named if all(isinstance(name, str) for name in named) else None
    values = X.to_numpy(dtype=object) if hasattr(X, "to_numpy") else X
    parts: list[list[object]]
    if isinstance(values, np.ndarray):
        values = values[:, None] if values.ndim == 1 else values
        columns = values.T if values.ndim == 2 else ()
        parts = [column.tolist() for column in columns]
    elif len(values) and not isinstance(values[0], str | bytes) and hasattr(values[0], "__len__"):
        widths = {len(each) for each in values}
        parts = [list(part) for part in zip(*values, strict=True)] if len(widths) == 1 else []
    else:
        parts = [list(values)]
    if not 1 <= len(parts) <= MOST_COLUMNS:
        raise DataError(
            f"X has {len(parts)} columns, and texts are one column, or two for pairs",
            place="X",
            fix="give a list of texts, or of (text, second text)",
        )
    if not len(parts[0]):
        raise DataError("Found array with 0 sample(s): X has no text", place="X", fix="give some")
    return parts, names


def require_texts(columns: Sequence[Sequence[object]]) -> None:
    """Refuse what is no text, with its row.

    Raises:
        DataError: there is such a value; a ValueError too.
    """
    for column in columns:
        for row, value in enumerate(column):
            if not isinstance(value, str):
                raise DataError(
                    f"{value!r} is no text but a {type(value).__name__}",
                    place=f"X, row {row + 1}",
                    fix="give texts; of numbers, str(number)",
                )


def labels_in(y: Any, rows: int) -> NDArray[Any]:
    """(N,) or (N, K) labels.

    Raises:
        DataError: none, another number than texts, or of more dimensions; a ValueError too.
    """
    if y is None:
        raise DataError(
            "requires y to be passed, but the target y is None", place="y", fix="give y"
        )
    values = y.to_numpy() if hasattr(y, "to_numpy") else y
    labels = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    if labels.ndim not in (1, 2):
        raise DataError(f"y has {labels.ndim} dimensions", place="y", fix="give (N,) or (N, K)")
    require_as_many(rows, len(labels))
    if labels.dtype == object:
        for row, value in enumerate(labels):
            if is_missing(value):
                raise DataError(
                    f"Input y contains {value!r}: no label",
                    place=f"y, row {row + 1}",
                    fix="leave the row out",
                )
    return labels


def lists_in(values: Any, name: str) -> list[list[str]]:
    """Lists of words or tags.

    Raises:
        DataError: something else; a ValueError too.
    """
    rows = values.to_numpy() if hasattr(values, "to_numpy") else values
    if isinstance(rows, str) or not hasattr(rows, "__len__") or not len(rows):
        raise DataError(f"{name} is no list of lists", place=name, fix="give a list for each text")
    lists = []
    for number, row in enumerate(rows, start=1):
        row = row.tolist() if isinstance(row, np.ndarray) else row
        if not isinstance(row, list | tuple) or not all(isinstance(each, str) for each in row):
            raise DataError(
                f"this is no list of texts but {row!r:.60}",
                place=f"{name}, row {number}",
                fix="give the words of each text, and as many tags",
            )
        lists.append(list(row))
    return lists


def require_as_many(rows: int, labels: int) -> None:
    """Refuse another number of labels than of texts.

    Raises:
        DataError: they differ; a ValueError too.
    """
    if rows != labels:
        raise DataError(
            f"Found input variables with inconsistent numbers of samples: {[rows, labels]}",
            place=NAME,
            fix="give a label for each text",
        )


def names_of(classes: NDArray[Any]) -> list[str]:
    """A name for each class, as a model folder keeps them; their numbers where names are not told
    apart."""
    names = [as_label(plain_of(value)) or "" for value in classes]
    alike = len(set(names)) < len(names) or not all(names)
    return [str(number) for number in range(len(classes))] if alike else names


def plain_of(value: Any) -> Any:
    """A number of NumPy's as one of Python's; everything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def is_plain(value: Any) -> bool:
    """Whether JSON has such values."""
    return value is None or isinstance(value, bool | int | float | str)
