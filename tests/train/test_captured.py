"""Batches in shapes that come again, and when steps can be replayed; replaying itself needs a GPU:
see `tests/models/test_gpu.py`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bertolt import (
    AdamW,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    PackedBatch,
    train_step,
)
from bertolt.base.distributed import ALONE
from bertolt.base.errors import UsageError
from bertolt.data.batch import IGNORE_INDEX
from bertolt.data.buckets import LARGE, pad_to_bucket
from bertolt.models import varlen
from bertolt.models.bert import BertLayer
from bertolt.models.precision import PrecisionChoice
from bertolt.train.captured import CapturedSteps, _reason, captured_steps

BF16 = PrecisionChoice("bf16", "for the test")
lengths_of_a_batch = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def packed(lengths: list[int], seed: int = 0, **more: Any) -> PackedBatch:
    draw = torch.Generator().manual_seed(seed)
    ids = [torch.randint(5, 60, (length,), generator=draw).tolist() for length in lengths]
    return PackedBatch.from_sequences(ids, **more)


def masked(lengths: list[int]) -> PackedBatch:
    labels = [[7 if place % 3 == 1 else IGNORE_INDEX for place in range(n)] for n in lengths]
    return packed(lengths, token_labels=labels)


def choices(lengths: list[int], labels: torch.Tensor, kind: type) -> PackedBatch:
    if kind is BertForMultipleChoice:
        return packed(lengths, labels=labels[::2], num_choices=2)
    if kind is BertForSequenceClassification or kind is BertForNextSentencePrediction:
        return packed(lengths, labels=labels)
    batch = masked(lengths)
    if kind is BertForTokenClassification:
        return packed(lengths, token_labels=[[place % 2 for place in range(n)] for n in lengths])
    if kind is BertForPreTraining:
        kept = {name: getattr(batch, name) for name in ("labels",)}
        return packed(lengths, **kept, next_sentence_label=labels)
    return batch


@given(lengths_of_a_batch, st.booleans(), st.booleans())
def test_a_rounded_batch_holds_the_same_sequences(
    lengths: list[int], words: bool, counts_sequences: bool
) -> None:
    labels = torch.arange(len(lengths)) % 2
    batch = masked(lengths) if words else packed(lengths, labels=labels)
    found = pad_to_bucket(batch, counts_sequences=counts_sequences)
    tokens = sum(lengths)
    assert found.num_tokens == tokens
    assert found.input_ids.shape[0] % 128 == 0
    assert found.input_ids.shape[0] > tokens
    assert torch.equal(found.input_ids[:tokens], batch.input_ids[:tokens])
    assert torch.equal(found.position_ids[:tokens], batch.position_ids[:tokens])
    assert found.num_sequences - found.empty_sequences == len(lengths)
    assert bool(found.empty_sequences) is False or not counts_sequences
    assert torch.equal(found.cu_seqlens[: len(lengths) + 1], batch.cu_seqlens)
    assert torch.equal(found.starts_on_host, found.cu_seqlens)
    if words and batch.labelled_rows is not None:
        assert found.labels is not None
        assert found.labelled_rows is not None
        chosen = found.labels[found.labelled_rows]
        counted = found.labelled_rows[chosen != IGNORE_INDEX]
        assert torch.equal(counted, batch.labelled_rows)


def test_many_batches_have_few_shapes() -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = set()
    for _ in range(200):
        lengths = torch.randint(5, 60, (32,), generator=draw).tolist()
        shapes.add(pad_to_bucket(packed(lengths, labels=torch.zeros(32).long())).input_ids.shape)
    assert len(shapes) <= 5


def test_large_batches_of_equal_sequences_lose_their_filler() -> None:
    even = masked([64] * (LARGE // 64))
    found = pad_to_bucket(even)
    assert even.input_ids.shape[0] > LARGE
    assert found.input_ids.shape[0] == found.num_tokens == LARGE
    assert found.labels is not None
    assert found.labels.shape == (LARGE,)


@pytest.mark.parametrize(
    "kind",
    [
        BertForSequenceClassification,
        BertForTokenClassification,
        BertForMultipleChoice,
        BertForNextSentencePrediction,
        BertForMaskedLM,
        BertForPreTraining,
    ],
)
def test_no_head_learns_anything_else_from_a_rounded_batch(
    kind: Any, tiny_config: Callable[..., Any]
) -> None:
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    torch.manual_seed(0)
    usual = kind(config)
    usual.train()
    other = copy.deepcopy(usual)
    lengths = [9, 30, 1, 14]
    batch = choices(lengths, torch.tensor([0, 1, 1, 0]), kind)
    assert kind.replayable
    steps = CapturedSteps(other, AdamW(other.parameters(), lr=1e-3), BF16, 1.0)
    shaped = steps.bucket_bounds(steps.pad_to_bucket(batch))
    assert shaped.input_ids.shape[0] == 128
    logs = [
        train_step(model, used, AdamW(model.parameters(), lr=1e-3))
        for model, used in ((usual, batch), (other, steps.pad_to_bucket(batch)))
    ]
    assert logs[1].loss == pytest.approx(logs[0].loss, rel=1e-5)
    with torch.no_grad():
        assert float(other(shaped).loss) == pytest.approx(float(usual(batch).loss), rel=1e-4)
    assert logs[1].sequences == logs[0].sequences == len(lengths)
    assert logs[1].tokens == logs[0].tokens == sum(lengths)
    for ours, theirs in zip(other.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sizes_of_bounded_batches_hold_for_all_of_their_shape(
    tiny_config: Callable[..., Any],
) -> None:
    model = BertForSequenceClassification(tiny_config())
    steps = CapturedSteps(model, AdamW(model.parameters()), BF16, 1.0)
    found = []
    for lengths in ([40, 20, 50], [3, 17, 41], [50, 50, 27]):
        batch = steps.pad_to_bucket(packed(lengths, labels=torch.tensor([0, 1, 0])))
        bounded = steps.bucket_bounds(batch)
        assert bounded.max_seqlen >= max(lengths)
        assert bounded.num_tokens <= sum(lengths)
        found.append((bounded.input_ids.shape, bounded.max_seqlen, bounded.num_tokens))
    assert len(set(found)) == 1


def test_a_text_that_is_too_long_is_still_told(tiny_config: Callable[..., Any]) -> None:
    model = BertForSequenceClassification(tiny_config(max_position_embeddings=32))
    steps = CapturedSteps(model, AdamW(model.parameters()), BF16, 1.0)
    batch = steps.bucket_bounds(steps.pad_to_bucket(packed([40, 3], labels=torch.tensor([0, 1]))))
    with pytest.raises(UsageError, match="a text of 40 tokens is longer"):
        model(batch)


def test_a_batch_with_much_filler_of_its_own_keeps_its_sizes(
    tiny_config: Callable[..., Any],
) -> None:
    model = BertForSequenceClassification(tiny_config())
    steps = CapturedSteps(model, AdamW(model.parameters()), BF16, 1.0)
    batch = packed([60, 40], labels=torch.tensor([0, 1]), row_multiple=1024)
    found = steps.bucket_bounds(steps.pad_to_bucket(batch))
    assert found.input_ids.shape[0] == 1024
    assert found.num_tokens <= 100


@pytest.mark.parametrize(
    ("lengths", "fits"),
    [
        ([256] * 40, True),
        ([512] * 60 + [500] * 4, False),
        ([128] * 60 + [100] + [128] * 3, False),
        ([100] + [512] * 63, False),
        ([120] * 32 + [128] * 100, False),
        ([250] * 40, True),
        ([249] * 33, False),
    ],
    ids=["even", "nearly", "one", "first", "half", "even-below-a-bound", "odd-number"],
)
def test_blocks_are_for_sequences_of_one_length_alone(
    lengths: list[int],
    fits: bool,
    monkeypatch: pytest.MonkeyPatch,
    tiny_config: Callable[..., Any],
) -> None:
    """On a CPU that is taken for a Hopper GPU: how a batch is laid out does not depend on it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    model = BertForMaskedLM(tiny_config(max_position_embeddings=512))
    steps = CapturedSteps(model, AdamW(model.parameters()), BF16, 1.0)
    ids = [[5] * length for length in lengths]
    labels = [[7, *[IGNORE_INDEX] * (length - 1)] for length in lengths]
    batch = PackedBatch.from_sequences(ids, token_labels=labels)
    for used in (steps.bucket_bounds(steps.pad_to_bucket(batch)), steps.pad_to_bucket(batch)):
        q = torch.zeros(used.input_ids.shape[0], 1, 8)
        assert varlen.takes_blocks(q, used, causal=False) is fits
    q = torch.zeros(batch.input_ids.shape[0], 1, 8)
    assert not varlen.takes_blocks(q, batch, causal=False)  # it has filler


@pytest.fixture
def steps(tiny_config: Callable[..., Any]) -> CapturedSteps:
    """Those of a model that has made a step."""
    model = BertForSequenceClassification(tiny_config(num_labels=2)).train()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    train_step(model, packed([5, 9], labels=torch.tensor([0, 1])), optimizer)
    return CapturedSteps(model, optimizer, BF16, 1.0)


def replace_a_layer(steps: CapturedSteps) -> None:
    steps.model.get_submodule("bert.encoder").layer[0] = BertLayer(steps.model.config, 0)


def replace_a_weight(steps: CapturedSteps) -> None:
    head = steps.model.get_submodule("classifier")
    head.weight = nn.Parameter(head.weight.detach().clone())


def replace_the_state(steps: CapturedSteps) -> None:
    steps.optimizer.load_state_dict(copy.deepcopy(steps.optimizer.state_dict()))


@pytest.mark.parametrize(
    "change",
    [
        replace_a_layer,
        replace_a_weight,
        replace_the_state,
        lambda steps: steps.model.eval(),
        lambda steps: steps.model.get_submodule("classifier").requires_grad_(False),
        lambda steps: steps.optimizer.param_groups[0].update(weight_decay=0.5),
        lambda steps: setattr(steps.model.get_submodule("dropout"), "p", 0.7),
    ],
)
def test_what_a_graph_would_take_in_is_seen_to_change(
    steps: CapturedSteps, change: Callable[[CapturedSteps], object]
) -> None:
    before = steps._fixed()
    batch = packed([7, 3], labels=torch.tensor([1, 0]))
    train_step(steps.model, batch, steps.optimizer)
    assert steps._fixed() == before
    change(steps)
    assert steps._fixed() != before


def add_own_module(steps: CapturedSteps) -> None:
    class Mine(nn.Linear):
        pass

    steps.model.add_module("mine", Mine(2, 2))


@pytest.mark.parametrize(
    "change",
    [
        add_own_module,
        lambda steps: steps.model.register_forward_hook(lambda *given: None),
        lambda steps: steps.model.gradient_checkpointing_enable(),
        lambda steps: steps.optimizer.register_step_post_hook(lambda *given: None),
        lambda steps: next(steps.model.parameters()).register_hook(lambda grad: None),
        lambda steps: setattr(steps.model.config, "output_attentions", True),
    ],
)
def test_a_step_that_a_replay_would_not_repeat_is_made_as_usual(
    steps: CapturedSteps, change: Callable[[CapturedSteps], object]
) -> None:
    assert steps._plain()
    change(steps)
    steps._start_again()
    assert not steps._plain()


def fail_twice() -> None:
    try:
        raise ValueError("a sum was asked for\nby a module")
    finally:
        raise RuntimeError("the capture has failed")


def test_the_first_error_of_a_capture_is_told() -> None:
    with pytest.raises(RuntimeError) as caught:
        fail_twice()
    assert _reason(caught.value) == "a sum was asked for"
    assert _reason(caught.value, handled=caught.value.__context__) == "the capture has failed"


def test_a_cpu_replays_nothing(tiny_config: Callable[..., Any]) -> None:
    model = BertForSequenceClassification(tiny_config())
    assert captured_steps(model, AdamW(model.parameters()), BF16, 1.0, ALONE) is None
