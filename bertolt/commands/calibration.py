"""Rows that int8 is calibrated on, and the others, which it is measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bertolt.base.errors import DataError
from bertolt.data.load import Table

FEEDS, ROWS = 48, 16
"""Padded batches to calibrate on at most, and rows of each."""
_SHARE = 5  # of so many rows one is for calibration


def everything(table: Table) -> NDArray[np.int64]:
    """Places of all rows."""
    return np.arange(len(table))


class Counted:
    """A part of the rows of a file, which notes how many they are.

    Args:
        part: gives their places.

    Attributes:
        rows: how many there were in the last file.
    """

    def __init__(self, part: Callable[[Table], NDArray[np.int64]]) -> None:
        self.part, self.rows = part, 0

    def __call__(self, table: Table) -> NDArray[np.int64]:
        """The places."""
        index = self.part(table)
        self.rows = len(index)
        return index


def whole(table: Table) -> NDArray[np.int64]:
    """Places of the rows to calibrate on where another file is measured: all of them, or as many
    as there is use for, in whatever order the file has them."""
    return np.sort(np.argsort(_digests(table), kind="stable")[: FEEDS * ROWS])


def calibrating(table: Table) -> NDArray[np.int64]:
    """Places of the rows of a file that int8 is calibrated on; see `measured`.

    A fifth of them, as many as there is use for at most: those whose texts have the least digests,
    so that equal texts are on one side, and the order of the file has no part in it.

    Raises:
        DataError: the file has no two texts.
    """
    order, end = _parted(table)
    return np.sort(order[:end])


def measured(table: Table) -> NDArray[np.int64]:
    """Places of the rows that it is measured on: all others.

    Raises:
        DataError: the file has no two texts.
    """
    order, end = _parted(table)
    return np.sort(order[end:])


def _parted(table: Table) -> tuple[NDArray[np.int64], int]:
    """Places of the rows by their digests, and how many of them are to calibrate on."""
    digests = _digests(table)
    order = np.argsort(digests, kind="stable")
    least = min(FEEDS * ROWS, -(-len(order) // _SHARE))
    end = int(np.searchsorted(digests[order], digests[order[least - 1]], side="right"))
    if end == len(order):
        raise DataError(
            "int8 is calibrated on some texts and measured on others, and all rows have one text",
            place=table.path,
            fix="give a file with more rows",
        )
    return order, end


def _digests(table: Table) -> NDArray[np.uint64]:
    return np.fromiter(
        (_digest(example["text"]) for example in table.examples()), np.uint64, len(table)
    )


def _digest(text: object) -> int:
    written = json.dumps(text).encode()
    return int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "big")
