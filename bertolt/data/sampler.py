"""Which rows make which batch: a pure function of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Strategy = Literal["random", "sequential", "group_by_length"]
_MEGABATCH = 50


@dataclass(frozen=True, kw_only=True)
class BatchSampler:
    """Batches of a fixed number of rows; the last of an epoch may be smaller.

    Attributes:
        num_rows: rows of the data set.
        batch_size: rows of a batch.
        seed: of the order.
        strategy: "random" gives what a plain random sampler gives. "group_by_length" sorts within
            large random windows, so that a batch holds texts of similar length: fewer filler slots,
            but a batch is then no longer a random sample of the rows.
        lengths: (num_rows,) tokens of each row, needed by "group_by_length".
    """

    num_rows: int
    batch_size: int
    seed: int = 0
    strategy: Strategy = "random"
    lengths: NDArray[np.int64] | None = None

    @property
    def num_batches(self) -> int:
        """Batches of one epoch."""
        return -(-self.num_rows // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[NDArray[np.int64]]:
        """Row numbers of each batch of an epoch (from 0), beginning with batch `start`."""
        order = self._order(epoch)
        for index in range(start, self.num_batches):
            yield order[index * self.batch_size : (index + 1) * self.batch_size]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self.strategy == "sequential":
            return np.arange(self.num_rows)
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(self.num_rows)
        if self.strategy == "random":
            return order
        assert self.lengths is not None, "group_by_length needs lengths"
        return self._group(order, self.lengths, generator)

    def _group(
        self, order: NDArray[np.int64], lengths: NDArray[np.int64], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        # A window must hold several batches of a small set too, or there is no order left in it.
        batches = max(1, min(_MEGABATCH, self.num_batches // 4))
        window = batches * self.batch_size
        whole = self.num_rows // self.batch_size * self.batch_size
        grouped = []
        for start in range(0, whole, window):
            rows = order[start : min(start + window, whole)]
            grouped.append(rows[np.argsort(-lengths[rows], kind="stable")])
        blocks = np.concatenate(grouped or [order[:0]]).reshape(-1, self.batch_size)
        shuffled = generator.permutation(blocks).reshape(-1)
        # The smaller last batch stays last: it may not push the others off their bounds.
        return np.concatenate([shuffled, order[whole:]])


def batches_by_tokens(
    lengths: NDArray[np.int64], budget: int, window: int = 8192
) -> Iterator[NDArray[np.int64]]:
    """Row numbers in batches of similar length whose tokens fit a budget, every row exactly once.

    Args:
        lengths: tokens of each row.
        budget: most tokens of a batch; a single longer row makes a batch of its own.
        window: rows that are sorted at a time, which bounds how far results run out of order.
    """
    for start in range(0, len(lengths), window):
        part = lengths[start : start + window]
        rows = start + np.argsort(-part, kind="stable")
        begin, total = 0, 0
        for place, row in enumerate(rows):
            if total and total + lengths[row] > budget:
                yield rows[begin:place]
                begin, total = place, 0
            total += int(lengths[row])
        if begin < len(rows):
            yield rows[begin:]
