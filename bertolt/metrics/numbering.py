"""Numbers of different keys, in arrays: a million of them take 16 MB, and as a dictionary 106."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
_HELD = 1 << 16  # keys in a dictionary before they are sorted into the arrays


class Numbering:
    """A number for each different 64-bit key, from 0, in the order in which they came."""

    def __init__(self) -> None:
        self._new: dict[int, int] = {}
        self._sorted = np.zeros(0, np.int64)
        self._numbers = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._sorted) + len(self._new)

    def add(self, key: int) -> int:
        """The number of a key, which is given one the first time."""
        number = self._new.get(key)
        if number is None:
            number = self._settled(key)
        if number is None:
            number = self._new[key] = len(self)
            if len(self._new) == _HELD:
                self._settle()
        return number

    def of(self, keys: Integers) -> Integers:
        """(N,) numbers of keys (N,).

        Raises:
            KeyError: one of them was never added.
        """
        self._settle()
        places = np.minimum(np.searchsorted(self._sorted, keys), max(0, len(self) - 1))
        if len(keys) and (not len(self) or (self._sorted[places] != keys).any()):
            raise KeyError("a key that has no number")
        return self._numbers[places]

    @property
    def keys(self) -> Integers:
        """(N,) all keys, in the order of their numbers."""
        self._settle()
        keys = np.empty(len(self), np.int64)
        keys[self._numbers] = self._sorted
        return keys

    def _settled(self, key: int) -> int | None:
        place = int(self._sorted.searchsorted(key))
        found = place < len(self._sorted) and int(self._sorted[place]) == key
        return int(self._numbers[place]) if found else None

    def _settle(self) -> None:
        """Sort the new ones in."""
        if not self._new:
            return
        keys = np.concatenate([self._sorted, np.fromiter(self._new, np.int64)])
        numbers = np.concatenate([self._numbers, np.fromiter(self._new.values(), np.int64)])
        order = np.argsort(keys)
        self._sorted, self._numbers, self._new = keys[order], numbers[order], {}
