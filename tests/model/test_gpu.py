"""The same numbers on a GPU; these tests skip themselves where there is none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bertolt import AdamW, BertForSequenceClassification, PackedBatch, train_step
from bertolt.model.precision import choose_precision

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture
def pair(tiny_config: Callable[..., Any]) -> tuple[Any, Any]:
    torch.manual_seed(0)
    here = BertForSequenceClassification(tiny_config()).eval()
    return here, copy.deepcopy(here).move(torch.device("cuda"))


@pytest.fixture
def batch() -> PackedBatch:
    ids = [[2, *range(5, 5 + count), 3] for count in (1, 7, 30)]
    return PackedBatch.from_sequences(ids, labels=torch.tensor([0, 1, 0]))


def test_forward_and_backward_agree(pair: tuple[Any, Any], batch: PackedBatch) -> None:
    here, there = pair
    near, far = here(batch), there(batch.to("cuda"))
    torch.testing.assert_close(far.logits.cpu(), near.logits, atol=1e-4, rtol=1e-4)
    near.loss.backward()
    far.loss.backward()
    for ours, theirs in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad.cpu(), ours.grad, atol=1e-4, rtol=1e-3)


def test_a_step_in_the_chosen_precision(pair: tuple[Any, Any], batch: PackedBatch) -> None:
    _, there = pair
    precision = choose_precision("auto", torch.device("cuda"))
    optimizer = AdamW(there.parameters(), lr=1e-3)
    losses = [train_step(there, batch, optimizer, precision=precision).loss for _ in range(5)]
    assert losses[-1] < losses[0]
