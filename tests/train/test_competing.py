"""Batches whose rows compete: in parts, they have the gradients of the whole batch."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bertolt import PackingCollator, Trainer, TrainingArguments, train_step
from bertolt.base.distributed import ALONE
from bertolt.base.errors import UsageError
from bertolt.data.batch import PackedBatch
from bertolt.data.parts import split_examples
from bertolt.models.heads import SentenceEncoder
from bertolt.models.losses import InBatchNegatives
from bertolt.models.precision import FP32
from bertolt.train.competing import competing_passes
from bertolt.train.micro_batches import MicroBatches


def rows(count: int = 7, texts: int = 2) -> list[dict[str, Any]]:
    """Texts of different lengths; the first texts of two rows are one."""
    generator = torch.Generator().manual_seed(3)

    def ids() -> list[int]:
        length = int(torch.randint(3, 20, (), generator=generator))
        return torch.randint(5, 97, (length,), generator=generator).tolist()

    made = [[ids() for _ in range(texts)] for _ in range(count)]
    labels = [[number * texts + place for place in range(texts)] for number in range(count)]
    made[1][0], labels[1][0] = made[0][0], labels[0][0]
    return [{"input_ids": i, "labels": n} for i, n in zip(made, labels, strict=True)]


@pytest.fixture
def model(tiny_config: Any, randomised: Callable[..., Any]) -> Any:
    encoder = randomised(SentenceEncoder(tiny_config()))
    encoder.criterion = InBatchNegatives()
    return encoder.train()


def gradients(model: Any, learn: Callable[[], Any]) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(0)
    loss = float(learn())
    return loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    largest = max(float(value.norm()) for value in theirs.values())
    for name, value in theirs.items():
        assert float((ours[name] - value).norm()) <= 1e-5 * float(value.norm()) + 1e-7 * largest


def passes(model: Any, size: int) -> Any:
    model.micro_batch = size
    made = competing_passes(model, TrainingArguments(), FP32, ALONE)
    assert made is not None
    return made


@pytest.mark.parametrize("texts", [2, 3])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_parts_have_the_gradients_of_the_whole_batch(
    tiny_config: Any, randomised: Callable[..., Any], texts: int, size: int
) -> None:
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = randomised(SentenceEncoder(config)).train()
    model.criterion = InBatchNegatives()
    batch = PackingCollator()(rows(texts=texts))

    def whole() -> Any:
        loss = model(batch).loss
        loss.backward()
        return loss.detach()

    loss, theirs = gradients(model, whole)
    cached, ours = gradients(model, lambda: passes(model, size)(batch))
    assert cached == pytest.approx(loss, rel=1e-6)
    same(ours, theirs)


def test_dropout_is_drawn_again_as_it_was(model: Any) -> None:
    batch = PackingCollator()(rows())
    parts = split_examples(batch, 3)

    def with_one_graph() -> Any:
        vectors = torch.cat([model(replace(part, labels=None)).logits for part in parts])
        term = model.criterion(vectors, batch.labels)
        loss = term.total / term.count
        loss.backward()
        return loss.detach()

    loss, theirs = gradients(model, with_one_graph)
    after = torch.rand(3)
    cached, ours = gradients(model, lambda: passes(model, 3)(batch))
    assert torch.equal(torch.rand(3), after), "later draws are those of one pass"
    assert cached == pytest.approx(loss, rel=1e-6)
    same(ours, theirs)
    model.eval()
    without, _ = gradients(model, lambda: passes(model, 3)(batch))
    assert without != pytest.approx(loss, rel=1e-3), "there was dropout"


def test_generators_of_others_are_left_alone(model: Any) -> None:
    """Rows are read ahead meanwhile, and may draw from numpy's and Python's."""
    drawn: list[tuple[float, float]] = []
    model.register_forward_pre_hook(
        lambda *_: drawn.append((float(np.random.random()), random.random()))
    )
    passes(model, 3)(PackingCollator()(rows()))
    assert len(drawn) > 2
    assert len(set(drawn)) == len(drawn), "no draw is made twice"


def test_a_batch_that_is_not_parted_goes_to_the_device_once(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = competing_passes(model, TrainingArguments(), FP32, ALONE)
    assert passes is not None
    moved: list[int] = []
    to = PackedBatch.to
    monkeypatch.setattr(
        PackedBatch, "to", lambda own, *to_: moved.append(own.num_sequences) or to(own, *to_)
    )
    batch = PackingCollator()(rows())
    passes(replace(batch, loss_counts={"labels": batch.num_examples}))
    assert moved == [batch.num_sequences]


def test_parts_are_whole_examples() -> None:
    batch = PackingCollator()(rows(7))
    parts = split_examples(batch, 3)
    assert [part.num_sequences for part in parts] == [6, 6, 2]
    tokens = torch.cat([part.input_ids[: part.num_tokens] for part in parts])
    assert torch.equal(tokens, batch.input_ids[: batch.num_tokens])
    labels = [part.labels for part in parts if part.labels is not None]
    assert batch.labels is not None
    assert torch.equal(torch.cat(labels), batch.labels)
    assert len(split_examples(batch, 7)) == 1


def test_parts_that_fit_into_memory_make_the_same_step(
    tiny_config: Any, randomised: Callable[..., Any]
) -> None:
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = randomised(SentenceEncoder(config)).train()
    model.criterion = InBatchNegatives()
    batch, fitting = PackingCollator()(rows()), MicroBatches(whole=True)
    made = competing_passes(model, TrainingArguments(), FP32, ALONE, fitting)
    assert made is not None
    most = 60

    def refuse(module: Any, inputs: tuple[PackedBatch, ...]) -> None:
        if inputs[0].num_tokens > most:
            raise torch.OutOfMemoryError("out of memory")

    def fit() -> Any:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return fitting.add_gradients([batch], lambda parts: made(parts[0]), optimizer, model.device)

    loss, theirs = gradients(model, lambda: made(batch))
    handle = model.register_forward_pre_hook(refuse)
    cut, ours = gradients(model, fit)
    handle.remove()
    assert fitting.tokens is not None
    assert fitting.tokens <= most < batch.num_tokens
    assert cut == pytest.approx(loss, rel=1e-6)
    same(ours, theirs)


def trained(model: Any, **named: Any) -> dict[str, torch.Tensor]:
    args = TrainingArguments(
        output_dir="unused",
        per_device_train_batch_size=7,
        max_steps=2,
        use_cpu=True,
        disable_tqdm=True,
        precision="fp32",
        **named,
    )
    # AdamW would make steps of gradients that are rounding alone.
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    Trainer(model, args, train_dataset=rows(14), optimizers=(sgd, None)).train()
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_trainer_goes_by_it_and_refuses_to_accumulate(
    tiny_config: Any, randomised: Callable[..., Any]
) -> None:
    weights = []
    for size in (None, 2):
        config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        model = randomised(SentenceEncoder(config))
        model.criterion, model.micro_batch = InBatchNegatives(), size
        weights.append(trained(model))
    whole, parts = weights
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)
    with pytest.raises(UsageError, match="compete within their batch"):
        trained(model, gradient_accumulation_steps=2)


def test_a_step_by_hand_takes_the_whole_batch(model: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    log = train_step(model, PackingCollator()(rows()), optimizer)
    assert log.loss > 0
    assert log.sequences == 14
