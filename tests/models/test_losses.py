"""Losses from the declared problem type."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bertolt.base.errors import DataError
from bertolt.data.batch import IGNORE_INDEX
from bertolt.models import losses
from bertolt.models.config import BertConfig
from bertolt.models.losses import problem_type, token_loss

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [1.5, 0.0, -0.5], [0.1, 0.2, 0.3], [3.0, -3.0, 0.0]])


def sequence_loss(*given: Any) -> torch.Tensor:
    """The mean that a batch by itself has."""
    return losses.mean_loss({"labels": losses.sequence_loss(*given)}, None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"num_labels": 1}, "regression"),
        ({"num_labels": 2}, "single_label_classification"),
        (
            {"num_labels": 1, "problem_type": "multi_label_classification"},
            "multi_label_classification",
        ),
        ({"num_labels": 5, "problem_type": "regression"}, "regression"),
    ],
)
def test_the_type_is_as_declared_or_follows_from_the_number_of_labels(
    fields: dict[str, Any], expected: str
) -> None:
    assert problem_type(BertConfig().changed(**fields)) == expected


def test_single_label_is_the_mean_cross_entropy() -> None:
    labels = torch.tensor([2, 0, 1, 0])
    by_hand = -LOGITS.log_softmax(-1)[range(4), labels].mean()
    torch.testing.assert_close(
        sequence_loss(LOGITS, labels, "single_label_classification"), by_hand
    )
    torch.testing.assert_close(
        sequence_loss(LOGITS, labels[:, None], "single_label_classification"), by_hand
    )


def test_class_ids_may_come_flat_or_as_a_column() -> None:
    logits, labels = torch.randn(4, 2), torch.tensor([0, 1, IGNORE_INDEX, 1])
    flat, column = token_loss(logits, labels), token_loss(logits, labels[:, None])
    assert torch.equal(flat.total, column.total)
    assert torch.equal(flat.count, column.count)


def test_ignored_labels_take_no_part() -> None:
    labels = torch.tensor([2, IGNORE_INDEX, 1, IGNORE_INDEX])
    kept = sequence_loss(LOGITS[[0, 2]], labels[[0, 2]], "single_label_classification")
    torch.testing.assert_close(sequence_loss(LOGITS, labels, "single_label_classification"), kept)


def test_several_labels_is_the_mean_over_all_of_them() -> None:
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    by_hand = F.softplus(LOGITS * (1 - 2 * labels)).mean()
    for given in (labels, labels.float()):
        torch.testing.assert_close(
            sequence_loss(LOGITS, given, "multi_label_classification"), by_hand
        )


def test_regression_is_the_mean_square() -> None:
    labels = torch.tensor([[1.0, 0.0, 2.0]]).expand(4, 3)
    torch.testing.assert_close(
        sequence_loss(LOGITS, labels, "regression"), ((LOGITS - labels) ** 2).mean()
    )


@pytest.mark.parametrize("labels", [torch.tensor([1.0, 2.0]), torch.tensor([[1], [2]])])
def test_a_single_number_may_come_flat_or_as_a_column(labels: torch.Tensor) -> None:
    logits = torch.tensor([[0.5], [1.0]])
    torch.testing.assert_close(
        sequence_loss(logits, labels, "regression"), torch.tensor((0.25 + 1.0) / 2)
    )


def test_the_loss_is_computed_in_fp32() -> None:
    loss = sequence_loss(
        LOGITS.bfloat16(), torch.tensor([2, 0, 1, 0]), "single_label_classification"
    )
    assert loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("labels", "kind", "words"),
    [
        (torch.tensor([1.0, 0.0, 1.0, 0.0]), "single_label_classification", "whole-number labels"),
        (torch.zeros(4), "regression", r"\(4, 3\).*\(4, 1\)"),
        (torch.zeros(4, 2), "multi_label_classification", r"\(4, 3\).*\(4, 2\)"),
        (torch.zeros(3, 3), "regression", r"\(4, 3\).*\(3, 3\)"),
    ],
)
def test_labels_that_do_not_fit_the_type_are_refused(
    labels: torch.Tensor, kind: Any, words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        sequence_loss(LOGITS, labels, kind)
    assert caught.value.fix
