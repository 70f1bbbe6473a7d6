"""Texts in several windows as rows to train on: one row an example, so many windows at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertolt.data.encode import EncodedTexts


class SampledWindows:
    """The rows of an epoch: examples, with at most `most` windows of each of their documents.

    Which ones of a longer document follows from the seed, the epoch and the number of its example,
    so that every process and a run that goes on see the same. All of its windows have the same
    chance, so that the mean of those that are read is, on average, that of all. Documents of one
    example that have as many windows have the same ones read, as the choices of a question.

    Args:
        rows: texts in windows, joint.
        most: windows of a document in an epoch.
        seed: of the choice.
        whole: the rows of a batch compete, and are never read in portions.

    Attributes:
        counts: (N,) windows of each example in an epoch.
    """

    def __init__(self, rows: EncodedTexts, most: int, seed: int, *, whole: bool = False) -> None:
        self.rows, self.most, self.seed, self.whole = rows, most, seed, whole
        self._epoch = 0
        self._windows = rows.apart
        counts = np.diff(rows.document_firsts)
        self.counts = np.add.reduceat(np.minimum(counts, most), rows.first_documents[:-1])
        self._documents = int(np.diff(rows.first_documents).max(initial=1))

    def set_epoch(self, epoch: int) -> None:
        """Choose the windows of an epoch, counted from 0, in the rows that are read from now on."""
        self._epoch = epoch

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) most tokens of each example in an epoch."""
        most: NDArray[np.int64] = self.counts * self.rows.max_length
        return np.minimum(self.rows.lengths, most)

    @property
    def texts_sampled(self) -> int:
        """Examples of which an epoch reads a part of the windows."""
        return int((self.rows.windows > self.counts).sum())

    def portions(self, numbers: Sequence[int], texts: int) -> Iterator[Sequence[int]]:
        """Some rows in portions, to be read one after the other.

        Args:
            numbers: of the rows.
            texts: as many windows as the documents of a batch are read at once, and those of one
                example.
        """
        room, begin, total = max(texts, self.most) * self._documents, 0, 0
        for place, number in enumerate(() if self.whole else numbers):
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
        documents = [self._drawn(windows, index) for windows in self.rows.documents_of(index)]
        parts = [self._windows[window] for windows in documents for window in windows]
        row: dict[str, Any] = {name: [part[name] for part in parts] for name in parts[0]}
        row["document_windows"] = list(map(len, documents))
        if self.rows.labels is not None:
            row[self.rows.label_names[0]] = self.rows.labels[index]
        if self.rows.teacher_logits is not None:
            row["teacher_logits"] = self.rows.teacher_logits[index]
        return row

    def _drawn(self, windows: range, example: int) -> Sequence[int]:
        """The windows of a document that this epoch reads."""
        if len(windows) <= self.most:
            return windows
        generator = np.random.default_rng((self.seed, self._epoch, example))
        places = generator.choice(len(windows), self.most, replace=False)
        return [windows[place] for place in np.sort(places)]
