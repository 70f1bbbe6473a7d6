"""The attention seam: its backends against plain attention, one sequence at a time."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bertolt.data.batch import PackedBatch
from bertolt.errors import UsageError
from bertolt.model.attention import (
    BACKENDS,
    AttentionLayout,
    attention,
    choose_backend,
    prepare_layout,
)

every_backend = pytest.mark.parametrize("backend", sorted(BACKENDS))
lengths_of_a_batch = st.one_of(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.tuples(st.integers(1, 30), st.integers(1, 8)).map(lambda pair: [pair[0]] * pair[1]),
    st.lists(st.integers(1, 4), max_size=20).map(lambda few: [*few, 200]),
    st.integers(1, 127).map(lambda first: [first, 128 - first]),
)


def layout_of(lengths: list[int], row_multiple: int = 128) -> tuple[AttentionLayout, int]:
    """The layout of sequences with these lengths, and T."""
    batch = PackedBatch.from_sequences(
        [[1] * length for length in lengths], row_multiple=row_multiple
    )
    rows = batch.input_ids.shape[0]
    return prepare_layout(batch.cu_seqlens, batch.max_seqlen, rows), rows


def random_qkv(rows: int, heads: int, size: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rows, heads, size, generator=generator, requires_grad=True) for _ in range(3)
    ]


def plain(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    """PyTorch's own attention over each sequence alone; zeros in the filler rows."""
    parts = []
    for start, stop in itertools.pairwise(itertools.accumulate(lengths, initial=0)):
        query, key, value = (x[start:stop].transpose(0, 1) for x in (q, k, v))
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        parts.append(mixed.transpose(0, 1))
    return torch.cat([*parts, torch.zeros_like(q[sum(lengths) :])])


@every_backend
@given(
    lengths=lengths_of_a_batch,
    heads=st.integers(1, 3),
    size=st.sampled_from([1, 4, 16]),
    row_multiple=st.sampled_from([1, 16, 128]),
    seed=st.integers(0, 2**16),
)
def test_equals_plain_attention_forward_and_backward(
    backend: str, lengths: list[int], heads: int, size: int, row_multiple: int, seed: int
) -> None:
    layout, rows = layout_of(lengths, row_multiple)
    qkv = random_qkv(rows, heads, size, seed)
    weights = torch.randn(rows, heads, size, generator=torch.Generator().manual_seed(seed + 1))
    weights[sum(lengths) :] = 0  # no loss looks at filler rows
    wanted = plain(*qkv, lengths)
    found = attention(*qkv, layout, backend=backend)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    gradients = [
        torch.autograd.grad((out * weights).sum(), qkv, retain_graph=True)
        for out in (found, wanted)
    ]
    for have, want in zip(*gradients, strict=True):
        torch.testing.assert_close(have, want, atol=2e-5, rtol=1e-4)


@every_backend
@given(lengths=lengths_of_a_batch, heads=st.integers(1, 3), seed=st.integers(0, 2**16))
def test_first_tokens_alone_are_those_of_the_whole_forward_and_backward(
    backend: str, lengths: list[int], heads: int, seed: int
) -> None:
    layout, rows = layout_of(lengths)
    q, k, v = random_qkv(rows, heads, 4, seed)
    first = torch.tensor(lengths).cumsum(0) - torch.tensor(lengths)
    wanted = plain(q, k, v, lengths)[first]
    found = attention(q[first], k, v, layout, backend=backend, first_only=True)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(seed + 1))
    gradients = [
        torch.autograd.grad((out * weights).sum(), (q, k, v), retain_graph=True)
        for out in (found, wanted)
    ]
    for have, want in zip(*gradients, strict=True):
        torch.testing.assert_close(have, want, atol=2e-5, rtol=1e-4)


@every_backend
def test_filler_rows_come_out_as_zeros_and_get_no_gradient(backend: str) -> None:
    lengths = [3, 7, 1]
    layout, rows = layout_of(lengths)
    qkv = random_qkv(rows, 2, 4)
    out = attention(*qkv, layout, backend=backend)
    assert out.shape == (rows, 2, 4)
    assert rows > 11
    assert not out[11:].any()
    for gradient in torch.autograd.grad(out[:11].square().sum(), qkv):
        assert gradient[:11].any()
        assert not gradient[11:].any()


@every_backend
@pytest.mark.parametrize("lengths", [[6], [6, 6, 6], [1, 9, 2, 30], [8] * 16], ids=str)
def test_large_scores_stay_finite(backend: str, lengths: list[int]) -> None:
    layout, rows = layout_of(lengths)
    q, k, v = random_qkv(rows, 1, 4)
    out = attention(q * 1e4, k * 1e4, v, layout, backend=backend)
    assert out.isfinite().all()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out.sum(), (q, k, v)))


@every_backend
def test_dropout_takes_its_share_of_the_weights_and_scales_the_rest(backend: str) -> None:
    """With the unit matrix as values, what comes out are the weights themselves."""
    share, length, count = 0.3, 8, 200
    layout, rows = layout_of([length] * count)
    zeros = torch.zeros(rows, 1, length)  # all scores alike: each weight is 1 / length
    values = torch.eye(length).repeat(rows // length + 1, 1)[:rows, None]
    torch.manual_seed(0)
    out = attention(zeros, zeros, values, layout, backend=backend, dropout_p=share)
    weights = out[: length * count]
    kept = weights != 0
    assert abs(float(kept.float().mean()) - (1 - share)) < 0.02
    expected = 1 / length / (1 - share)
    torch.testing.assert_close(
        weights[kept], torch.full_like(weights[kept], expected), rtol=1e-4, atol=0
    )
    torch.manual_seed(0)
    again = attention(zeros, zeros, values, layout, backend=backend, dropout_p=share)
    assert torch.equal(out, again)
    assert not torch.equal(
        out, attention(zeros, zeros, values, layout, backend=backend, dropout_p=share)
    )


@every_backend
def test_the_gradient_sees_the_same_dropped_weights(backend: str) -> None:
    """The output is linear in the values, so the gradient must give it back: v · dL/dv = L."""
    layout, rows = layout_of([5, 9, 2])
    q, k, v = random_qkv(rows, 2, 4)
    torch.manual_seed(0)
    total = attention(q, k, v, layout, backend=backend, dropout_p=0.5)[:16].sum()
    (gradient,) = torch.autograd.grad(total, [v])
    torch.testing.assert_close((v * gradient).sum(), total, atol=1e-4, rtol=1e-4)


@every_backend
def test_bfloat16_stays_bfloat16_and_comes_close(backend: str) -> None:
    layout, rows = layout_of([5, 9, 2, 20])
    qkv = random_qkv(rows, 2, 16)
    wanted = attention(*qkv, layout, backend=backend)
    found = attention(*(x.bfloat16() for x in qkv), layout, backend=backend)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, atol=0.05, rtol=0.05)


def test_the_choice_of_a_backend_is_told_with_its_reason() -> None:
    chosen = choose_backend(torch.device("cpu"))
    assert chosen.name in BACKENDS
    assert chosen.reason
    assert choose_backend(torch.device("cpu"), "reference").name == "reference"


def test_an_unknown_backend_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match="'flash3'") as caught:
        choose_backend(torch.device("cpu"), "flash3")
    assert all(name in caught.value.fix for name in ["auto", *BACKENDS])
