"""Losses from a declared problem type: nothing is guessed from the labels of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bertolt.config import BertConfig, ProblemType
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
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


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labels that count, in fp32; zero where none does.

    Args:
        logits: (M, C).
        labels: (M,) class ids; those equal to `IGNORE_INDEX` do not count.

    Raises:
        DataError: a label is not among the classes.
    """
    count = (labels != IGNORE_INDEX).sum().clamp(min=1)
    try:
        total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum")
    except IndexError as error:
        raise DataError(
            f"a label is not among the classes 0 to {logits.shape[-1] - 1} ({error})",
            fix=f"number the labels from 0; {IGNORE_INDEX} leaves a token out",
        ) from error
    return total / count


def span_loss(logits: Tensor, positions: Tensor, batch: PackedBatch) -> Tensor:
    """Mean cross-entropy of one end of an answer, over the tokens of its own sequence.

    Args:
        logits: (num_tokens,) packed.
        positions: (B,) places within each sequence; one that is outside of it does not count.
        batch: whose tokens these are.
    """
    table = logits.new_full((batch.num_sequences, batch.max_seqlen), -math.inf, dtype=torch.float32)
    table = table.index_put((batch.sequence, batch.column), logits.float())
    outside = (positions < 0) | (positions >= batch.lengths)
    return token_loss(table, positions.masked_fill(outside, IGNORE_INDEX))


def next_token_labels(labels: Tensor, batch: PackedBatch) -> Tensor:
    """For each packed row (T,), the label of the token behind it in the same sequence."""
    following = torch.full_like(labels, IGNORE_INDEX)
    following[:-1] = labels[1:]
    following[batch.cu_seqlens[1:].long() - 1] = IGNORE_INDEX
    return following
