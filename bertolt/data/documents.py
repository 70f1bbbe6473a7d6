"""Texts in several windows as rows to train on: one row a text, and so many windows at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.data.encode import EncodedTexts


class SampledWindows:
    """The rows of an epoch: texts, with at most `most` windows of each.

    Which ones of a longer text follows from the seed, the epoch and its number, so that every
    process and a run that goes on see the same. All of its windows have the same chance, so that
    the mean of those that are read is, on average, that of all.

    Args:
        rows: texts in windows, joint.
        most: windows of a text in an epoch.
        seed: of the choice.

    Attributes:
        counts: (N,) windows of each text in an epoch.
    """

    def __init__(self, rows: EncodedTexts, most: int, seed: int) -> None:
        self.rows, self.most, self.seed = rows, most, seed
        self._epoch = 0
        self._windows = replace(
            rows, joint=False, documents=False, labels=None, teacher_logits=None
        )
        self.counts = np.minimum(rows.windows, most)

    def set_epoch(self, epoch: int) -> None:
        """Choose the windows of an epoch, counted from 0, in the rows that are read from now on."""
        self._epoch = epoch

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) most tokens of each text in an epoch."""
        most: NDArray[np.int64] = self.counts * self.rows.max_length
        return np.minimum(self.rows.lengths, most)

    @property
    def texts_sampled(self) -> int:
        """Texts of which an epoch reads a part of the windows."""
        return int((self.rows.windows > self.most).sum())

    def portions(self, numbers: Sequence[int], texts: int) -> Iterator[Sequence[int]]:
        """Some rows in portions, to be read one after the other.

        Args:
            numbers: of the rows.
            texts: as many windows as texts in a batch are read at once, and those of one text.
        """
        room, begin, total = max(texts, self.most), 0, 0
        for place, number in enumerate(numbers):
            count = int(self.counts[number])
            if total and total + count > room:
                yield numbers[begin:place]
                begin, total = place, 0
            total += count
        yield numbers[begin:]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        index = range(len(self))[index]
        windows = range(self.rows.firsts[index], self.rows.firsts[index + 1])
        chosen: Sequence[int] = windows
        if len(windows) > self.most:
            generator = np.random.default_rng((self.seed, self._epoch, index))
            places = generator.choice(len(windows), self.most, replace=False)
            chosen = [windows[place] for place in np.sort(places)]
        parts = [self._windows[window] for window in chosen]
        row: dict[str, Any] = {name: [part[name] for part in parts] for name in parts[0]}
        if self.rows.labels is not None:
            row[self.rows.label_names[0]] = self.rows.labels[index]
        if self.rows.teacher_logits is not None:
            row["teacher_logits"] = self.rows.teacher_logits[index]
        return row
