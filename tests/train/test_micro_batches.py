"""Batches that are cut where memory runs out make the same step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bertolt import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    Trainer,
)
from bertolt.base.distributed import World
from bertolt.base.errors import UsageError
from bertolt.data.batch import PackedBatch
from bertolt.data.parts import split
from bertolt.train.micro_batches import MicroBatches, cut_where_needed
from bertolt.train.step import train_step
from tests.train.small import arguments, random_rows

LENGTHS = (5, 1, 9, 12, 3, 7, 2, 8)
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
PER_TOKEN = ("BertForTokenClassification", "BertForMaskedLM", "BertForPreTraining")


def batch_for(head: type) -> PackedBatch:
    """Eight sequences, with some labels that do not count."""
    draw = torch.Generator().manual_seed(1)
    ids = [torch.randint(5, 97, (n,), generator=draw).tolist() for n in LENGTHS]
    targets: dict[str, Any] = {}
    token_labels = None
    if head.__name__ in PER_TOKEN:
        token_labels = [
            [(i + j) % 3 if j % 2 else -100 for j, i in enumerate(each)] for each in ids
        ]
    if head is BertForPreTraining:
        targets["next_sentence_label"] = torch.tensor([0, 1, -100, 1, 0, 0, 1, 1])
    if head is BertForSequenceClassification:
        targets["labels"] = torch.tensor([0, 1, 2, 0, -100, 2, 1, 1])
    if head is BertForMultipleChoice:
        # Three examples, of two, two and four choices.
        starts = torch.tensor([0, 2, 4, 8])
        targets |= {"labels": torch.tensor([0, 1, 3]), "num_choices": 4, "group_starts": starts}
    if head is BertForQuestionAnswering:
        targets["start_positions"] = torch.tensor([0, 0, 3, -100, 1, 2, 0, 1])
        targets["end_positions"] = torch.tensor([2, 0, 5, -100, 1, 6, 1, 7])
    types = [[int(j > n // 2) for j in range(n)] for n in LENGTHS]
    return PackedBatch.from_sequences(ids, types, token_labels=token_labels, **targets)


class Limited:
    """Lets a forward pass of more tokens than this run out of memory, as a GPU would."""

    def __init__(self, model: torch.nn.Module, most: int) -> None:
        self.seen: list[int] = []
        self._most = most
        model.register_forward_pre_hook(self._look)

    def _look(self, module: torch.nn.Module, given: tuple[Any, ...]) -> None:
        self.seen.append(given[0].num_tokens)
        if self.seen[-1] > self._most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize(
    "head",
    [
        BertForSequenceClassification, BertForTokenClassification, BertForQuestionAnswering,
        BertForMultipleChoice, BertForMaskedLM, BertForPreTraining,
    ],
)  # fmt: skip
def test_parts_have_the_gradients_of_the_whole(
    head: Any, tiny_config: Any, randomised: Any, same_gradients: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    batch = batch_for(head)
    models, logs = [], []
    for most in (1000, 22):
        config = tiny_config(
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3
        )
        model = randomised(head(config)).train()
        limited = Limited(model, most)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        kept = {}
        optimizer.register_step_pre_hook(
            lambda *_, model=model, kept=kept: kept.update(
                {name: p.grad.to_dense().clone() for name, p in model.named_parameters()
                 if p.grad is not None}
            )
        )  # fmt: skip
        fitting = MicroBatches()
        logs.append(train_step(model, batch, optimizer, fitting=fitting, max_grad_norm=0))
        for name, parameter in model.named_parameters():
            parameter.grad = kept.get(name)
        models.append(model)
    assert same_gradients(models[1], models[0]) is None
    assert logs[1].loss == pytest.approx(logs[0].loss, rel=1e-6)
    assert (logs[1].sequences, logs[1].tokens) == (logs[0].sequences, logs[0].tokens)
    assert fitting.tokens is not None
    assert limited.seen[0] == sum(LENGTHS), "first the whole batch is tried"
    assert f"parts of {fitting.tokens} tokens at most" in capsys.readouterr().err


def test_a_split_keeps_every_sequence() -> None:
    batch = batch_for(BertForMultipleChoice)
    for most in (1, 6, 13, 100):
        parts = split(batch, most)
        assert sum(part.num_tokens for part in parts) == batch.num_tokens
        ids = torch.cat([part.input_ids[: part.num_tokens] for part in parts])
        assert torch.equal(ids, batch.input_ids[: batch.num_tokens])
        assert sum(part.num_examples for part in parts) == 3
        assert all(part.num_tokens <= most or part.num_examples == 1 for part in parts)
    assert split(batch, 100) == [batch]


def test_a_text_that_does_not_fit_alone_is_the_error_of_the_memory(tiny_config: Any) -> None:
    model = BertForSequenceClassification(tiny_config(num_labels=3)).train()
    Limited(model, 11)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(torch.OutOfMemoryError):
        train_step(
            model, batch_for(BertForSequenceClassification), optimizer, fitting=MicroBatches()
        )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_step_that_is_tried_again_draws_as_one_that_began_so(
    make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for most in (60, 1000):
        model = make_model()
        Limited(model, most)
        args = arguments(max_steps=4, auto_find_batch_size=True)
        trainer = Trainer(model, args, train_dataset=random_rows(first=5))
        trainer.train()
        fitting = trainer.micro_batches
        assert fitting is not None
        runs.append((fitting.tokens, [log.loss for log in trainer.history.steps]))
        monkeypatch.setattr(
            "bertolt.train.trainer.cut_where_needed", lambda *_, fitting=fitting, **__: fitting
        )
    assert runs[0][0] is not None
    assert runs[0] == runs[1]


def test_several_processes_are_refused() -> None:
    with pytest.raises(UsageError, match="there are several") as caught:
        cut_where_needed(World(rank=0, size=2), "--find-batch-size")
    assert "--find-batch-size" in str(caught.value)


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForMultipleChoice])
@pytest.mark.parametrize("most", [1, 12, 30, 10**6])
def test_what_belongs_together_stays_so_in_parts(
    head: Any, most: int, tiny_config: Any, randomised: Any
) -> None:
    """Windows of texts, and choices of different number: a part has whole examples."""
    several = head is BertForMultipleChoice
    starts = [0, 3, 5, 8] if several else [0, 1, 5, 8]
    draw = torch.Generator().manual_seed(1)
    batch = PackedBatch.from_sequences(
        [torch.randint(5, 97, (n,), generator=draw).tolist() for n in LENGTHS],
        labels=torch.tensor([2, 0, 1]),
        num_choices=3 if several else 4,
        group_starts=torch.tensor(starts),
    )
    model = randomised(head(tiny_config(num_labels=3, **NO_DROPOUT)), std=0.3).eval()
    parts = split(batch, most)
    assert [label for part in parts for label in part.labels.tolist()] == [2, 0, 1]
    assert sum(part.num_sequences for part in parts) == len(LENGTHS)
    assert len(parts) == {1: 3, 12: 3, 30: 2, 10**6: 1}[most]
    with torch.no_grad():
        losses = [model(part).loss * part.num_examples / 3 for part in parts]
        torch.testing.assert_close(sum(losses), model(batch).loss, rtol=1e-5, atol=1e-6)
