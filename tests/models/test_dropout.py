"""Dropout: its share, its scale, its seed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from bertolt import BertForSequenceClassification
from bertolt.data.batch import PackedBatch
from bertolt.models.dropout import Dropout, dropout, dropout_add

SHARES = [0.001, 0.1, 0.25, 0.5, 0.9]


@pytest.mark.parametrize("p", SHARES)
def test_drops_its_share_and_scales_the_rest(p: float) -> None:
    torch.manual_seed(0)
    x = torch.rand(1000, 301) + 1.0
    out = dropout(x, p, training=True)
    kept = out != 0
    spread = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float((~kept).float().mean()) - p) < 5 * spread + 1 / 65536
    torch.testing.assert_close(
        out[kept] / x[kept], torch.full((int(kept.sum()),), 1 / (1 - p)), rtol=1e-4, atol=0
    )
    # The scale keeps the mean.
    assert abs(float(out.mean() / x.mean()) - 1) < 0.02


def test_elements_are_dropped_independently_of_their_neighbours() -> None:
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(200_000), 0.5, training=True) == 0).float()
    for lag in range(1, 9):
        both = float((dropped[lag:] * dropped[:-lag]).mean())
        assert abs(both - 0.25) < 0.01
    halves = dropped.view(-1, 4).mean(0)
    assert (halves - 0.5).abs().max() < 0.01


def test_the_seed_decides_and_a_saved_state_restores() -> None:
    x = torch.ones(999)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5, True), dropout(x, 0.5, True)
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5, True), first)
    state = torch.get_rng_state()
    assert torch.equal(dropout(x, 0.5, True), second)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x, 0.5, True), second)
    torch.manual_seed(4)
    assert not torch.equal(dropout(x, 0.5, True), first)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_the_gradient_has_the_mask_of_the_forward_pass(p: float) -> None:
    torch.manual_seed(0)
    x = torch.rand(50, 60).add_(1.0).requires_grad_()
    out = dropout(x, p, training=True)
    out.sum().backward()
    torch.testing.assert_close(x.grad, (out / x).detach())


def test_evaluation_changes_nothing_and_draws_nothing() -> None:
    module = Dropout(0.5).eval()
    x = torch.rand(10)
    state = torch.get_rng_state()
    assert torch.equal(module(x), x)
    assert torch.equal(dropout(x, 0.0, training=True), x)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(module.train()(x), x)


def test_a_share_of_one_drops_everything() -> None:
    x = torch.rand(10, requires_grad=True)
    out = dropout(x, 1.0, training=True)
    assert not out.any()
    out.sum().backward()
    assert not x.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 0, 4)])
def test_type_and_shape_stay(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    out = dropout(torch.ones(shape, dtype=dtype), 0.1, training=True)
    assert out.dtype == dtype
    assert out.shape == shape


def test_views_are_dropped_like_any_tensor() -> None:
    x = torch.arange(1.0, 61).view(6, 10).t()
    torch.manual_seed(0)
    out = dropout(x, 0.5, training=True)
    kept = out != 0
    torch.testing.assert_close(out[kept], 2 * x[kept], rtol=1e-4, atol=0)
    assert 0 < kept.sum() < 60


def test_the_input_is_left_as_it_was() -> None:
    x = torch.ones(100)
    dropout(x, 0.5, training=True)
    assert torch.equal(x, torch.ones(100))


def test_a_module_shows_its_share_and_can_be_copied() -> None:
    module = Dropout(0.25)
    assert "p=0.25" in repr(module)
    assert copy.deepcopy(module).p == 0.25
    assert not list(module.parameters())
    assert not module.state_dict()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_and_a_sum_in_one_pass_are_the_two_after_each_other(dtype: torch.dtype) -> None:
    x = torch.randn(64, 32, dtype=dtype, requires_grad=True)
    residual = torch.randn(64, 32, dtype=dtype, requires_grad=True)
    torch.manual_seed(5)
    found = dropout_add(x, residual, 0.3, training=True)
    grads = torch.autograd.grad(found.float().square().sum(), (x, residual))
    torch.manual_seed(5)
    wanted = dropout(x, 0.3, training=True) + residual
    again = torch.autograd.grad(wanted.float().square().sum(), (x, residual))
    tolerance = {"atol": 2e-2, "rtol": 2e-2} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(found, wanted, **tolerance)
    for one, other in zip(grads, again, strict=True):
        torch.testing.assert_close(one, other, **({"atol": 0.1, "rtol": 0.02} if tolerance else {}))
    assert torch.equal(dropout_add(x, residual, 0.3, training=False), x + residual)


def test_a_dropout_that_was_replaced_is_called(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config()).train()
    model.bert.encoder.layer[0].output.dropout = torch.nn.Identity()
    batch = PackedBatch.from_sequences([[1, 2, 3]])
    assert model(batch).logits.isfinite().all()
