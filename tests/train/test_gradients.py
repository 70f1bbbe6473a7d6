"""Norms, clipping and sparse rows: the same updates as torch's own passes over dense gradients."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch import nn

from bertolt.train.gradients import clip_and_step, gradient_norm, sparse_word_gradient
from bertolt.train.optim import AdamW


class Words(nn.Module):
    """A table and a layer behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 6, padding_idx=0)
        self.layer = nn.Linear(6, 3)

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        return self.layer(self.table(ids)).square().sum()


def train(model: Words, optimizer: torch.optim.Optimizer, max_norm: float, sparse: bool) -> None:
    torch.manual_seed(1)
    for micro in (1, 2, 1, 3):  # more than one backward pass adds rows up
        rows_alone = sparse_word_gradient(model.table, optimizer)
        with rows_alone if sparse else contextlib.nullcontext():
            for _ in range(micro):
                model.loss(torch.randint(0, 50, (9,))).backward()
        parameters = list(model.parameters())
        assert model.table.weight.grad is not None
        assert model.table.weight.grad.is_sparse == (sparse and isinstance(optimizer, AdamW))
        clip_and_step(optimizer, parameters, gradient_norm(parameters), max_norm)
        optimizer.zero_grad(set_to_none=True)


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_sparse_rows_and_clipping_in_the_update_change_nothing(
    max_norm: float, weight_decay: float
) -> None:
    ours, plain = Words(), Words()
    torchs = torch.optim.AdamW(plain.parameters(), 0.05, eps=1e-6, weight_decay=weight_decay)
    train(ours, AdamW(ours.parameters(), 0.05, weight_decay=weight_decay), max_norm, sparse=True)
    train(plain, torchs, max_norm, sparse=True)
    for found, wanted in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-5)
    assert not ours.table.sparse


def test_without_clipping_the_update_is_that_of_a_dense_gradient_to_the_last_bit() -> None:
    ours, dense = Words(), Words()
    train(ours, AdamW(ours.parameters(), 0.05), 0.0, sparse=True)
    train(dense, AdamW(dense.parameters(), 0.05), 0.0, sparse=False)
    for found, wanted in zip(ours.parameters(), dense.parameters(), strict=True):
        assert torch.equal(found, wanted)


def test_the_norm_counts_a_row_that_comes_twice_once() -> None:
    model = Words()
    optimizer = AdamW(model.parameters())
    ids = torch.tensor([3, 3, 7, 3])
    with sparse_word_gradient(model.table, optimizer):
        model.loss(ids).backward()
    found = gradient_norm(model.parameters())
    dense = copy.deepcopy(model)
    dense.zero_grad(set_to_none=True)
    dense.loss(ids).backward()
    torch.testing.assert_close(found, nn.utils.get_total_norm([p.grad for p in dense.parameters()]))


def test_a_scale_does_not_stay_behind() -> None:
    model = Words()
    optimizer = AdamW(model.parameters(), 0.05)
    model.loss(torch.tensor([1, 2])).backward()
    optimizer.step_clipped(torch.tensor(10.0), 1.0)
    assert optimizer.grad_scale is None


def test_a_table_that_the_optimizer_lacks_keeps_its_dense_gradient() -> None:
    model = Words()
    optimizer = AdamW(model.layer.parameters())
    for _ in range(3):
        with sparse_word_gradient(model.table, optimizer):
            model.loss(torch.tensor([1, 2])).backward()
    assert model.table.weight.grad is not None
    assert not model.table.weight.grad.is_sparse


def test_an_optimizer_that_was_copied_goes_on() -> None:
    model = Words()
    model, optimizer = copy.deepcopy((model, AdamW(model.parameters(), 0.05)))
    train(model, optimizer, 1.0, sparse=True)


def test_hooks_of_a_step_run_once() -> None:
    model = Words()
    torch.optim.AdamW(Words().parameters())  # from here on torch wraps its step
    optimizer = AdamW(model.parameters(), 0.05)
    calls: list[int] = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    model.loss(torch.tensor([1, 2])).backward()
    parameters = list(model.parameters())
    clip_and_step(optimizer, parameters, gradient_norm(parameters), 1.0)
    assert calls == [1]
