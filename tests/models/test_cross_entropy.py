"""The cross-entropy by parts, held to PyTorch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from bertolt.models.cross_entropy import summed_cross_entropy

IGNORED = -100


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 700])
def test_loss_and_gradient_are_those_of_torch(dtype: torch.dtype, rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    logits = (4 * torch.randn(rows, 3001, generator=generator)).to(dtype)
    labels = torch.randint(0, 3001, (rows,), generator=generator)
    labels[::5] = IGNORED
    own, peer = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = summed_cross_entropy(own, labels, IGNORED)
    expected = F.cross_entropy(peer.float(), labels, ignore_index=IGNORED, reduction="sum")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    (found * 0.3).backward()
    (expected * 0.3).backward()
    assert own.grad is not None
    assert peer.grad is not None
    assert own.grad.dtype == dtype
    torch.testing.assert_close(
        own.grad, peer.grad, rtol=1e-2 if dtype.itemsize == 2 else 1e-5, atol=1e-7
    )
    assert not own.grad[::5].any()


def test_wide_logits_do_not_overflow() -> None:
    logits = torch.full((3, 2000), -1e4)
    logits[:, 7] = 1e4
    assert summed_cross_entropy(logits, torch.tensor([7, 7, 7]), IGNORED) == 0
    assert summed_cross_entropy(logits, torch.tensor([7, 7, 8]), IGNORED) == pytest.approx(2e4)


def test_ignored_rows_may_be_anything() -> None:
    logits = torch.zeros(3, 2000)
    logits[0, 5], logits[1, 0] = math.nan, -math.inf
    logits.requires_grad_()
    loss = summed_cross_entropy(logits, torch.tensor([IGNORED, IGNORED, 4]), IGNORED)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2000))
    assert logits.grad is not None
    assert not logits.grad[:2].any()


@pytest.mark.parametrize("label", [-1, 2000])
def test_a_label_that_is_no_class(label: int) -> None:
    with pytest.raises(IndexError):
        summed_cross_entropy(torch.zeros(2, 2000), torch.tensor([0, label]), IGNORED)


def test_few_classes_are_left_to_torch() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, IGNORED, 1])
    expected = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    assert torch.equal(summed_cross_entropy(logits, labels, IGNORED), expected)
