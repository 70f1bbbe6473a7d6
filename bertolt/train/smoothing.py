"""Label smoothing: a share of each label is spread over all classes.

From Szegedy et al., 2016, "Rethinking the Inception Architecture for Computer Vision", section 7.

Shapes: B sequences, L padded length, T packed tokens, M labelled tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.models.losses import Criterion
from bertolt.models.pretrained import PreTrainedModel


@dataclass(frozen=True)
class LabelSmoother:
    """The cross-entropy with labels of which a share is spread over all classes.

    Attributes:
        epsilon: that share.
    """

    epsilon: float = 0.1

    def __call__(
        self,
        model_output: Any,
        labels: Tensor,
        shift_labels: bool = False,
        num_items_in_batch: int | Tensor | None = None,
    ) -> Tensor:
        """The loss of a padded batch.

        Args:
            model_output: with logits (B, C) or (B, L, C): under that name, or first of several.
            labels: (B,) or (B, L).
            shift_labels: each token is compared with the next one's label.
            num_items_in_batch: to divide the sum by; None: the labels of this batch.
        """
        logits = _logits_in(model_output)
        if shift_labels:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        items = num_items_in_batch
        if items is None:
            items = (labels != IGNORE_INDEX).sum()
        return self.summed(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)) / items

    def summed(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum over all labels (M,) that take part, in fp32, of logits (M, C).

        Raises:
            OutOfRangeError: a label is not among the classes.
        """
        return Criterion(smoothing=self.epsilon)(logits, labels).total


def _logits_in(output: Any) -> Tensor:
    logits: Tensor
    if isinstance(output, Mapping):
        logits = output["logits"]
    elif isinstance(output, tuple | list):
        logits = output[0]
    else:
        logits = getattr(output, "logits", output)
    return logits


def smoothed_loss(
    model: PreTrainedModel, batch: PackedBatch, output: Any, smoother: LabelSmoother | None
) -> Tensor:
    """The sum of the smoothed losses of a packed batch, a scalar.

    Args:
        model: one of Bertolt's heads, that learns `labels` alone.
        batch: with labels.
        output: the model's, of this batch.
        smoother: says by how much.
    """
    logits, labels = model.logits_of(output), model.labels_for(batch)
    assert labels is not None
    assert smoother is not None
    if model.labels_per_token:
        labels = labels[: batch.num_tokens]
        if model.labelled_only(batch):
            labels = labels[labels != IGNORE_INDEX]
    labels = labels.reshape(-1)
    if model.logits_per_choice and batch.is_ragged:
        # A share for each of the choices that there are: those with as many are summed together.
        counts = batch.groups.diff()
        sums = [
            smoother.summed(logits[counts == count, :count], labels[counts == count])
            for count in sorted(set(counts.tolist()))
        ]
        return torch.stack(sums).sum()
    return smoother.summed(logits, labels)
