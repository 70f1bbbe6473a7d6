"""Examples with more choices and fewer in one batch: each is answered as if it were alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bertolt import BertForMultipleChoice, PackedBatch, PackingCollator
from bertolt.base.errors import DataError, OutOfRangeError
from bertolt.data.batch import IGNORE_INDEX
from bertolt.train.smoothing import LabelSmoother, smoothed_loss
from bertolt.train.step import train_step

COUNTS = [2, 4, 3, 2, 5]
LABELS = [1, 3, 0, IGNORE_INDEX, 4]


@pytest.fixture
def model(tiny_config: Any, randomised: Any) -> BertForMultipleChoice:
    made: BertForMultipleChoice = randomised(BertForMultipleChoice(tiny_config()))
    return made


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    draw = torch.Generator().manual_seed(0)
    return [
        {
            "input_ids": [
                torch.randint(1, 97, (3 + (7 * each) % 11,), generator=draw)
                for each in range(count)
            ],
            "label": label,
        }
        for count, label in zip(COUNTS, LABELS, strict=True)
    ]


def test_each_example_is_answered_as_alone(model: Any, rows: list[dict[str, Any]]) -> None:
    together = model(PackingCollator()(rows))
    assert together.logits.shape == (5, 5)
    alone = [model(PackingCollator()([row])) for row in rows]
    for logits, one, count in zip(together.logits, alone, COUNTS, strict=True):
        torch.testing.assert_close(logits[:count], one.logits[0])
        assert (logits[count:] == -torch.inf).all()
    total = sum(one.loss.item() for one in alone)
    assert float(together.loss) == pytest.approx(total / 4, rel=1e-5), "one has no label"


def test_gradients_are_those_of_one_example_at_a_time(
    model: Any, rows: list[dict[str, Any]]
) -> None:
    rows = [row for row in rows if row["label"] >= 0]
    model(PackingCollator()(rows)).loss.backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row in rows:
        (model(PackingCollator()([row])).loss / len(rows)).backward()
    for name, gradient in together.items():
        alone = dict(model.named_parameters())[name].grad
        torch.testing.assert_close(gradient, alone, rtol=1e-4, atol=1e-6)


def test_the_padded_door_leaves_out_what_is_padding(model: Any, rows: list[dict[str, Any]]) -> None:
    batch = PackingCollator()(rows)
    padded = batch.padded()
    assert padded["input_ids"].shape[:2] == (5, 5)
    found, wanted = model(**padded), model(batch)
    torch.testing.assert_close(found.logits, wanted.logits)
    torch.testing.assert_close(found.loss, wanted.loss)
    holes = padded["attention_mask"].clone()
    holes[1, 0] = 0  # a first choice is there, and has no token
    with pytest.raises(DataError, match="choice 0 of example 1 has no token"):
        model(**{**padded, "attention_mask": holes})


def test_smoothing_spreads_over_the_choices_of_each_example(
    model: Any, rows: list[dict[str, Any]]
) -> None:
    def loss(some: list[dict[str, Any]]) -> float:
        batch = PackingCollator()(some)
        return float(smoothed_loss(model, batch, model(batch), LabelSmoother(0.2)))

    assert loss(rows) == pytest.approx(sum(loss([row]) for row in rows), rel=1e-5)


def test_a_step_of_micro_batches_is_a_step_of_all(
    tiny_config: Any, randomised: Any, rows: list[dict[str, Any]]
) -> None:
    def step(parts: list[PackedBatch]) -> tuple[float, float]:
        model = randomised(BertForMultipleChoice(tiny_config()))
        log = train_step(model, parts, torch.optim.SGD(model.parameters(), lr=0.1))
        assert log.sequences == sum(COUNTS)
        return log.loss, log.grad_norm

    collate = PackingCollator()
    whole = step([collate(rows)])
    assert step([collate(rows[:2]), collate(rows[2:])]) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"label": 2}, OutOfRangeError, "among the classes 0 to 1, the choices of example 0"),
        ({"input_ids": [[5, 6]]}, DataError, "example 0 of the batch has 1 choice"),
    ],
)
def test_what_no_example_can_have(
    model: Any,
    rows: list[dict[str, Any]],
    changes: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        model(PackingCollator()([rows[0] | changes, *rows[1:]]))


def test_sequences_without_groups_are_refused(model: Any, rows: list[dict[str, Any]]) -> None:
    batch = PackingCollator()(rows)
    with pytest.raises(DataError, match="16 sequences are no examples of 5 choices"):
        model(replace(batch, group_starts=None, labels=None))
