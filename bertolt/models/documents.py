"""What documents in several windows have together.

Where their windows were answered one by one, the memory does not grow with the length. A head takes
the windows of a document in one batch too, and gives the same then.

Shapes: W windows, B sequences, D documents, E examples, C classes.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertolt.data.batch import PackedBatch, means_between
from bertolt.models.losses import LossTerm


class DocumentHead:
    """A head whose sequences may be windows of documents, which it gives one output each."""

    def of_windows(
        self, windows: Sequence[NDArray[Any]], tokens: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(…) the mean of the outputs (…) of all windows of a document.

        Args:
            windows: their outputs in batches that have them apart.
            tokens: (W,) of each window.
        """
        mean: NDArray[np.float64] = np.mean(windows, axis=0, dtype=np.float64)
        return mean

    def finished(self, means: Tensor) -> Tensor:
        """The outputs of documents by their means (D, …), as a batch of whole ones has them."""
        return means

    @abc.abstractmethod
    def documents_term(
        self, outputs: Tensor, labels: Tensor, counts: Sequence[int]
    ) -> LossTerm | None:
        """The loss of documents; None where the model has none.

        Args:
            outputs: (D, …) finished.
            labels: (E, …) of the examples that they make.
            counts: documents of each example.
        """


def averaged(
    head: DocumentHead, documents: Sequence[tuple[Sequence[NDArray[Any]], NDArray[np.int64]]]
) -> Tensor:
    """(D, …) the outputs of documents, in fp32.

    Args:
        head: that gave the outputs of their windows.
        documents: the outputs of the windows of each, and the tokens of these.
    """
    means = [head.of_windows(*each) for each in documents]
    return head.finished(torch.from_numpy(np.stack(means).astype(np.float32)))


def mean_of_windows(logits: Tensor, batch: PackedBatch) -> Tensor:
    """(E, C) the logits of each example, which are the mean of those (B, C) of its windows."""
    # By numbers that a graph of any size knows to be equal, and not by tensors.
    alone = batch.num_examples == batch.num_sequences
    return logits if alone else means_between(logits, batch.example_starts)
