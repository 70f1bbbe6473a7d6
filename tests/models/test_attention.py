"""The attention seam: its backends against plain attention, one sequence at a time.

Flash attention runs on a GPU alone. Here torch's operator gets a kernel in plain operations, with
what is awkward about the real one, and so everything around the kernel is tested; `test_gpu.py`
tests the kernel itself.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bertolt
from bertolt.base.errors import UsageError
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.models import groups as groups_module
from bertolt.models import varlen
from bertolt.models.attention import (
    BACKENDS,
    AttentionLayout,
    BackendChoice,
    attention,
    choose_backend,
    prepare_layout,
)
from tests.private_names import without

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
REAL_DTYPES = varlen.DTYPES

every_backend = pytest.mark.parametrize("backend", sorted(BACKENDS))
lengths_of_a_batch = st.one_of(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.tuples(st.integers(1, 30), st.integers(1, 8)).map(lambda pair: [pair[0]] * pair[1]),
    st.lists(st.integers(1, 4), max_size=20).map(lambda few: [*few, 200]),
    st.integers(1, 127).map(lambda first: [first, 128 - first]),
)


def blocks(cu_q: Tensor, cu_k: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows of the queries and of the keys of each sequence."""
    pairs = (itertools.pairwise(starts.tolist()) for starts in (cu_q, cu_k))
    return ((slice(*queries), slice(*keys)) for queries, keys in zip(*pairs, strict=True))


def weights_of(q: Tensor, k: Tensor, causal: bool) -> Tensor:
    """Attention weights (N, S, K); like the kernel's, a causal mask ends at the last key."""
    scores = q.transpose(0, 1) @ k.permute(1, 2, 0) / q.shape[-1] ** 0.5
    if causal:
        later = torch.ones(scores.shape[1:], dtype=torch.bool)
        later = later.triu(1 + scores.shape[2] - scores.shape[1])
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(-1)


def kept(weights: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """What dropout multiplies the weights of one sequence by."""
    return (torch.rand(weights.shape, generator=generator) >= p) / (1 - p)


def forward_kernel(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    max_q: int,
    max_k: int,
    p: float,
    causal: bool,
    debug: bool,
    **options: Any,
) -> tuple[Tensor, ...]:
    """The kernel in plain operations. What it leaves undefined is not a number here."""
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert int(cu_q.diff().max()) <= max_q
    assert int(cu_k.diff().max()) <= max_k
    out = torch.full_like(q, torch.nan)
    seed = torch.randint(2**31, (2,)).to(torch.uint64)
    generator = torch.Generator().manual_seed(int(seed[0]))
    for queries, keys in blocks(cu_q, cu_k):
        weights = weights_of(q[queries], k[keys], causal)
        mixed = (weights * kept(weights, p, generator)).to(v.dtype) @ v[keys].transpose(0, 1)
        out[queries] = mixed.transpose(0, 1)
    return out, torch.zeros(q.shape[1], len(q)), seed, seed[0], torch.zeros(0, dtype=q.dtype)


def backward_kernel(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    logsumexp: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    max_q: int,
    max_k: int,
    p: float,
    causal: bool,
    seed: Tensor,
    unused: Tensor,
    **options: Any,
) -> tuple[Tensor, ...]:
    """Its gradients (Dao et al., 2022, arXiv:2205.14135, appendix B.2), from what it kept."""
    found = tuple(torch.full_like(x, torch.nan) for x in (q, k, v))
    scale = q.shape[-1] ** -0.5
    generator = torch.Generator().manual_seed(int(seed[0]))
    for queries, keys in blocks(cu_q, cu_k):
        weights = weights_of(q[queries], k[keys], causal)
        mask = kept(weights, p, generator)
        above = grad[queries].transpose(0, 1)
        share = (above * out[queries].transpose(0, 1)).sum(-1, keepdim=True)
        scores = weights * (above @ v[keys].permute(1, 2, 0) * mask - share) * scale
        found[0][queries] = (scores @ k[keys].transpose(0, 1)).transpose(0, 1)
        found[1][keys] = (scores.transpose(1, 2) @ q[queries].transpose(0, 1)).transpose(0, 1)
        found[2][keys] = ((weights * mask).transpose(1, 2) @ above).transpose(0, 1)
    return found


@pytest.fixture(scope="module", autouse=True)
def kernel_in_plain_operations() -> Iterator[None]:
    """Give torch's operator, which has a kernel for CUDA alone, one for the CPU."""
    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", forward_kernel, "CPU")
    library.impl("_flash_attention_backward", backward_kernel, "CPU")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varlen, "DTYPES", (torch.float32, torch.bfloat16))
        yield
    library._destroy()


def layout_of(
    lengths: list[int], row_multiple: int = 128, causal: bool = False, backend: str = "reference"
) -> tuple[AttentionLayout, int]:
    """The layout of sequences with these lengths, and T."""
    batch = PackedBatch.from_sequences(
        [[1] * length for length in lengths], row_multiple=row_multiple
    )
    layout = prepare_layout(batch, heads=1, causal=causal, backend=backend)
    return layout, batch.input_ids.shape[0]


def random_qkv(rows: int, heads: int, size: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rows, heads, size, generator=generator, requires_grad=True) for _ in range(3)
    ]


def plain(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], causal: bool = False) -> Tensor:
    """PyTorch's own attention over each sequence alone; zeros in the filler rows."""
    parts = []
    for start, stop in itertools.pairwise(itertools.accumulate(lengths, initial=0)):
        query, key, value = (x[start:stop].transpose(0, 1) for x in (q, k, v))
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=causal
        )
        parts.append(mixed.transpose(0, 1))
    return torch.cat([*parts, torch.zeros_like(q[sum(lengths) :])])


@every_backend
@given(
    lengths=lengths_of_a_batch,
    heads=st.integers(1, 3),
    size=st.sampled_from([1, 4, 16]),
    row_multiple=st.sampled_from([1, 16, 128]),
    causal=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_equals_plain_attention_forward_and_backward(
    backend: str,
    lengths: list[int],
    heads: int,
    size: int,
    row_multiple: int,
    causal: bool,
    seed: int,
) -> None:
    layout, rows = layout_of(lengths, row_multiple, causal, backend)
    qkv = random_qkv(rows, heads, size, seed)
    weights = torch.randn(rows, heads, size, generator=torch.Generator().manual_seed(seed + 1))
    weights[sum(lengths) :] = 0  # no loss looks at filler rows
    wanted = plain(*qkv, lengths, causal)
    found = attention(*qkv, layout, backend=backend)
    real = slice(0, sum(lengths))
    torch.testing.assert_close(found[real], wanted[real], atol=1e-5, rtol=1e-5)
    assert found.isfinite().all()
    gradients = [
        torch.autograd.grad((out * weights).sum(), qkv, retain_graph=True)
        for out in (found, wanted)
    ]
    for have, want in zip(*gradients, strict=True):
        torch.testing.assert_close(have, want, atol=2e-5, rtol=1e-4)


@every_backend
@given(
    lengths=lengths_of_a_batch,
    heads=st.integers(1, 3),
    causal=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_first_tokens_alone_are_those_of_the_whole_forward_and_backward(
    backend: str, lengths: list[int], heads: int, causal: bool, seed: int
) -> None:
    layout, rows = layout_of(lengths, causal=causal, backend=backend)
    q, k, v = random_qkv(rows, heads, 4, seed)
    first = torch.tensor(lengths).cumsum(0) - torch.tensor(lengths)
    wanted = plain(q, k, v, lengths, causal)[first]
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
def test_filler_rows_come_out_finite_and_get_no_gradient(backend: str) -> None:
    lengths = [3, 7, 1]
    layout, rows = layout_of(lengths)
    qkv = random_qkv(rows, 2, 4)
    out = attention(*qkv, layout, backend=backend)
    assert out.shape == (rows, 2, 4)
    assert rows > 11
    assert out.isfinite().all()
    if backend != "varlen":
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
@pytest.mark.parametrize("first_only", [False, True])
def test_dropout_takes_its_share_of_the_weights_and_scales_the_rest(
    backend: str, first_only: bool
) -> None:
    """With the unit matrix as values, what comes out are the weights themselves."""
    share, length, count = 0.3, 8, 1000
    layout, rows = layout_of([length] * count)
    keys = torch.zeros(rows, 1, length)  # all scores alike: each weight is 1 / length
    queries = keys[:count] if first_only else keys
    values = torch.eye(length).repeat(rows // length + 1, 1)[:rows, None]

    def mixed() -> Tensor:
        return attention(
            queries, keys, values, layout, backend=backend, dropout_p=share, first_only=first_only
        )

    torch.manual_seed(0)
    out = mixed()
    weights = out[: count if first_only else length * count]
    there = weights[weights != 0]
    assert abs(there.numel() / weights.numel() - (1 - share)) < 0.02
    expected = torch.full_like(there, 1 / length / (1 - share))
    torch.testing.assert_close(there, expected, rtol=1e-4, atol=0)
    torch.manual_seed(0)
    assert torch.equal(out, mixed())
    assert not torch.equal(out, mixed())


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


@pytest.mark.parametrize("first_only", [False, True])
def test_number_formats_that_the_kernel_does_not_take_go_in_groups(
    monkeypatch: pytest.MonkeyPatch, first_only: bool
) -> None:
    monkeypatch.setattr(varlen, "DTYPES", REAL_DTYPES)
    monkeypatch.setattr(varlen, "flash", None)
    layout, rows = layout_of([4, 30, 2], backend="varlen")
    q, k, v = random_qkv(rows, 2, 4)
    q = q[:3] if first_only else q
    found, wanted = (
        attention(q, k, v, layout, backend=backend, first_only=first_only)
        for backend in ("varlen", "grouped")
    )
    assert torch.equal(found, wanted)


def test_groups_are_made_at_once_for_their_backend_and_for_another_when_it_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    make = groups_module.lay_out

    def counted(batch: PackedBatch, causal: bool, heads: int) -> Any:
        made.append(heads)
        return make(batch, causal, heads)

    monkeypatch.setattr(groups_module, "lay_out", counted)
    batch = PackedBatch.from_sequences([[1] * 3, [1] * 4])
    prepare_layout(batch, heads=2)
    assert made == [2]
    layout = prepare_layout(batch, heads=2, backend="varlen")
    qkv = random_qkv(batch.input_ids.shape[0], 2, 4)
    attention(*qkv, layout, backend="varlen")
    attention(*qkv, layout, backend="grouped")
    attention(*qkv, layout, backend="grouped")
    assert made == [2, 2]


def test_a_layout_that_an_answer_has_made_can_be_trained_with() -> None:
    batch = PackedBatch.from_sequences([[1] * 3, [1] * 11])
    with torch.inference_mode():
        layout = prepare_layout(batch, heads=2)
    assert prepare_layout(batch, heads=2).grouped(2) is layout.grouped(2)
    q, k, v = random_qkv(batch.input_ids.shape[0], 2, 4)
    attention(q, k, v, prepare_layout(batch, heads=2)).sum().backward()
    assert q.grad is not None


@given(lengths=st.lists(st.integers(1, 512), min_size=1, max_size=80))
def test_groups_are_few_sizes_and_hold_every_sequence_once(lengths: list[int]) -> None:
    batch = PackedBatch.from_sequences([[1] * length for length in lengths])
    groups = prepare_layout(batch, heads=1).grouped(1)
    assert sum(group.size for group in groups.groups) == len(lengths)
    assert {group.size for group in groups.groups} <= set(groups_module.GROUP_SIZES)
    assert sorted(groups.sequence_order.tolist()) == list(range(len(lengths)))
    for group, first in zip(
        groups.groups,
        itertools.accumulate((group.size for group in groups.groups), initial=0),
        strict=False,
    ):
        longest = lengths[groups.sequence_order[first]]
        assert longest <= group.length <= max(longest + 7, longest * 9 / 8)


# ---- whole models ----

HEADS = {
    "BertForMaskedLM": {},
    "BertForPreTraining": {},
    "BertForSequenceClassification": {},
    "BertForTokenClassification": {},
    "BertForQuestionAnswering": {},
    "BertForMultipleChoice": {},
    "BertForNextSentencePrediction": {},
    "BertLMHeadModel": {"is_decoder": True},
}


def use_backend(model: torch.nn.Module, name: str) -> torch.nn.Module:
    """Choose a backend, also one that no CPU is offered."""
    for module in model.modules():
        if hasattr(module, "attention_backend"):
            module.attention_backend = BackendChoice(name, "for the test")
    return model


def batch_for(name: str, lengths: list[int]) -> PackedBatch:
    """Random ids, and targets that the head of this name learns from."""
    generator = torch.Generator().manual_seed(0)
    ids = [torch.randint(5, 97, (n,), generator=generator).tolist() for n in lengths]
    few = torch.randint(0, 2, (len(ids),), generator=generator)
    tokens = [
        [token % 2 if place % 3 else IGNORE_INDEX for place, token in enumerate(row)] for row in ids
    ]
    targets: dict[str, Any] = {"labels": few}
    if name in ("BertForMaskedLM", "BertForTokenClassification", "BertLMHeadModel"):
        targets = {"token_labels": tokens}
    elif name == "BertForPreTraining":
        targets = {"token_labels": tokens, "next_sentence_label": few}
    elif name == "BertForQuestionAnswering":
        targets = {"start_positions": few, "end_positions": few}
    elif name == "BertForMultipleChoice":
        targets = {"labels": few[::2], "num_choices": 2}
    return PackedBatch.from_sequences(ids, **targets)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_a_model_learns_the_same_through_flash_attention(
    name: str, checkpointing: bool, tiny_config: Any, randomised: Any, same_gradients: Any
) -> None:
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    ours = randomised(getattr(bertolt, name)(tiny_config(**HEADS[name], **dropout)))
    reference = copy.deepcopy(ours).train()
    reference.set_attention_backend("reference")
    ours = use_backend(ours, "varlen").train()
    if checkpointing:
        ours.gradient_checkpointing_enable()
    batch = batch_for(name, [9, 30, 2, 17])
    losses = [model(batch).loss for model in (ours, reference)]
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-5)
    for loss in losses:
        loss.backward()
    same_gradients(ours, reference)


@pytest.mark.slow
def test_layers_compile_whole_around_flash_attention(
    tiny_config: Any, randomised: Any, same_gradients: Any
) -> None:
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    plain = randomised(bertolt.BertForSequenceClassification(tiny_config(**dropout)))
    use_backend(plain, "varlen")
    compiled = copy.deepcopy(plain)
    torch.compiler.reset()
    for layer in compiled.bert.encoder.layer:
        layer.compile(backend="aot_eager", fullgraph=True)
    for lengths in ([9, 30, 2], [5, 5, 5, 5], [40]):
        batch = batch_for("BertForSequenceClassification", lengths)
        losses = [model(batch).loss for model in (compiled, plain)]
        torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-5)
        for loss in losses:
            loss.backward()
        same_gradients(compiled, plain)


@pytest.mark.parametrize("backend", ["varlen", "grouped"])
@pytest.mark.parametrize("name", [name for name in HEADS if name != "BertLMHeadModel"])
def test_a_forward_and_a_backward_pass_ask_nothing_of_the_device(
    name: str, backend: str, tiny_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device there are no numbers: whatever the host asks for is an error.

    The kernel has no numbers to compute there either, but its arguments are checked.
    """
    monkeypatch.setattr(varlen, "DTYPES", REAL_DTYPES)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: False)
    model = getattr(bertolt, name)(tiny_config()).bfloat16().to("meta")
    use_backend(model, backend).train()
    model.tie_weights()  # on the meta device each name got a parameter of its own
    batch = batch_for(name, [9, 30, 2, 17]).to("meta", non_blocking=True)
    model(batch).loss.backward()
    assert all(parameter.grad.is_meta for parameter in model.parameters())


# ---- the choice ----


def test_the_choice_of_a_backend_is_told_with_its_reason() -> None:
    chosen = choose_backend(CPU)
    assert chosen.name == "grouped"
    assert chosen.reason
    assert choose_backend(CPU, "reference").name == "reference"


def test_an_unknown_backend_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UsageError, match="'flash3'") as caught:
        choose_backend(CPU, "flash3")
    assert all(name in caught.value.fix for name in ["auto", *BACKENDS])


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that says of itself what one with an H100 says."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    return monkeypatch


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16], ids=str)
def test_a_gpu_that_has_flash_attention_gets_it(
    hopper: pytest.MonkeyPatch, dtype: torch.dtype | None
) -> None:
    hopper.setattr(varlen, "DTYPES", REAL_DTYPES)
    chosen = choose_backend(CUDA, head_size=64, dtype=dtype)
    assert (chosen.name, chosen.requested) == ("varlen", False)
    assert "fp32" in chosen.reason
    assert choose_backend(CUDA, "varlen", head_size=64, dtype=dtype).requested


def test_every_reason_against_flash_attention_is_told(hopper: pytest.MonkeyPatch) -> None:
    hopper.setattr(varlen, "DTYPES", REAL_DTYPES)

    def told(reason: str, **model: Any) -> None:
        chosen = choose_backend(CUDA, **model)
        assert chosen.name == "grouped"
        assert reason in chosen.reason
        with pytest.raises(UsageError, match="flash attention") as caught:
            choose_backend(CUDA, "varlen", **model)
        assert reason in str(caught.value)

    told("this is float32", dtype=torch.float32)
    told("this model's is 20", head_size=20)
    told("this model's is 256", head_size=256)
    with hopper.context() as patch:
        patch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
        told("needs compute capability 8.0, and this GPU has 7.5")
    with hopper.context() as patch:
        patch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
        told("has no variable-length flash attention built in")
    with without("torch.ops.aten._flash_attention_forward") as reason:
        told(reason)
    with hopper.context() as patch:
        patch.setattr(torch.version, "cuda", None)
        told("NVIDIA")


def test_flash_attention_cannot_be_asked_of_a_cpu() -> None:
    with pytest.raises(UsageError, match=r"runs on CUDA, and this is cpu") as caught:
        choose_backend(CPU, "varlen")
    assert "auto" in caught.value.fix


def test_another_device_means_another_choice(hopper: pytest.MonkeyPatch, tiny_config: Any) -> None:
    model = bertolt.BertForSequenceClassification(tiny_config())
    hopper.setattr(type(model), "device", CUDA)
    assert model.set_attention_backend("auto", dtype=torch.bfloat16).name == "varlen"
    hopper.undo()
    model.to("meta")
    assert model.attention_backend.name == model.bert.attention_backend.name == "grouped"
    assert "meta" in model.attention_backend.reason


def test_the_kernel_drops_weights_and_has_a_gradient() -> None:
    """Torch's own declaration of the kernel: what it takes, what it gives, how it is derived."""
    q, k, v = (
        torch.empty(64, 4, 16, dtype=torch.bfloat16, device="meta", requires_grad=True)
        for _ in range(3)
    )
    starts = torch.empty(5, dtype=torch.int32, device="meta")
    out = varlen.flash(q, k, v, starts, starts, 20, 20, 0.1, True)
    assert (out.shape, out.dtype) == (q.shape, q.dtype)
    for gradient in torch.autograd.grad(out.sum(), (q, k, v)):
        assert gradient.shape == q.shape
