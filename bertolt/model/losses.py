"""Losses from a declared problem type: nothing is guessed from the labels of a batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from bertolt.config import BertConfig, ProblemType
from bertolt.data.batch import IGNORE_INDEX
from bertolt.errors import DataError


def problem_type(config: BertConfig) -> ProblemType:
    """The declared type; undeclared, regression for a single output, else one label of many."""
    if config.problem_type is not None:
        return config.problem_type
    return "regression" if config.num_labels == 1 else "single_label_classification"


def sequence_loss(logits: Tensor, labels: Tensor, kind: ProblemType) -> Tensor:
    """Mean loss of sequence classification, in fp32.

    Args:
        logits: (B, C).
        labels: (B,) class ids; (B,) or (B, C) floats for regression; (B, C) zeros and ones for
            several labels at once.
        kind: the declared problem type.

    Raises:
        DataError: the labels do not have the shape that the problem type needs, or one is not
            among the classes.
    """
    logits = logits.float()
    if kind == "single_label_classification":
        if labels.is_floating_point():
            raise DataError(
                "single_label_classification needs whole-number labels, and these are floats",
                fix='declare problem_type="regression" or "multi_label_classification"',
            )
        try:
            return F.cross_entropy(logits, labels.view(-1), ignore_index=IGNORE_INDEX)
        except IndexError as error:
            raise DataError(
                f"a label is not among the classes 0 to {logits.shape[-1] - 1} ({error})",
                fix="number the labels from 0, and give the model num_labels of them",
            ) from error
    labels = labels.view(-1, 1) if labels.dim() == 1 else labels
    if labels.shape != logits.shape:
        raise DataError(
            f"{kind} needs labels of shape {tuple(logits.shape)}, and these are "
            f"{tuple(labels.shape)}",
            fix="give each text as many values as the model has labels",
        )
    loss = F.mse_loss if kind == "regression" else F.binary_cross_entropy_with_logits
    return loss(logits, labels.float())
