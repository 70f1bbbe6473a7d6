"""The Trainer over data of every kind: tasks, collators, data sets that are read and streams."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers
from torch.utils.data import Dataset, IterableDataset

from bertolt import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    BertModel,
    BertTokenizer,
    Trainer,
    TrainingArguments,
)
from bertolt.base.errors import CheckpointError, DataError, UsageError
from bertolt.data.batch import IGNORE_INDEX
from bertolt.data.collate import (
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PackingCollator,
    default_data_collator,
)
from bertolt.data.masking import DataCollatorForLanguageModeling
from tests.train.small import STILL, Rows, arguments, random_rows, untimed


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Rows of tokens that are not special, and enough of them for an answer."""
    return random_rows(least=5, first=5)


@pytest.fixture(scope="module")
def tagged(rows: Rows) -> Rows:
    """The same with a label for each token, the first one ignored."""
    return [
        {"input_ids": ids, "labels": [IGNORE_INDEX, *(i % 3 for i in ids[1:])]}
        for ids in (row["input_ids"] for row in rows)
    ]


@pytest.fixture
def make(tiny_config: Any) -> Any:
    """The same model whenever it is asked for, without dropout."""

    def fresh(kind: type = BertForSequenceClassification, **changes: Any) -> Any:
        torch.manual_seed(0)
        return kind(tiny_config(**{"num_labels": 3, "initializer_range": 0.1, **STILL, **changes}))

    return fresh


def losses(model: Any, data: Any, args: TrainingArguments, **options: Any) -> list[float]:
    trainer = Trainer(model, args, train_dataset=data, **options)
    trainer.train()
    return [log.loss for log in trainer.history.steps]


# ---- heads that label tokens ----


@pytest.mark.parametrize("kind", ["packed", "padded", "own"])
def test_token_labels_train_alike_by_every_collator(
    make: Any, tagged: Rows, tiny_tokenizer: BertTokenizer, kind: str
) -> None:
    padded = DataCollatorForTokenClassification(tiny_tokenizer)
    collators: dict[str, Any] = {
        "packed": PackingCollator(token_labels=True),
        "padded": padded,
        "own": lambda part: dict(padded(part)),
    }
    wanted = losses(make(BertForTokenClassification), tagged, arguments())
    found = losses(
        make(BertForTokenClassification), tagged, arguments(), data_collator=collators[kind]
    )
    assert found == pytest.approx(wanted, abs=1e-5)
    assert wanted[-1] < wanted[0]


def test_token_predictions_come_row_by_row_with_the_rest_ignored(make: Any, tagged: Rows) -> None:
    seen = []

    def metrics(prediction: Any) -> dict[str, float]:
        logits, labels = prediction
        seen.append(logits.shape)
        real = labels != IGNORE_INDEX
        return {"accuracy": float((logits.argmax(-1) == labels)[real].mean())}

    model = make(BertForTokenClassification)
    output = Trainer(
        model, arguments(per_device_eval_batch_size=1), compute_metrics=metrics
    ).predict(tagged)
    longest = max(len(row["input_ids"]) for row in tagged)
    assert output.predictions.shape == (26, longest, 3) == seen[0]
    assert output.label_ids.shape == (26, longest)
    right = total = 0
    model.eval()
    for row, logits, labels in zip(tagged, output.predictions, output.label_ids, strict=True):
        count = len(row["input_ids"])
        with torch.no_grad():
            wanted = model(torch.tensor([row["input_ids"]])).logits[0].numpy()
        np.testing.assert_allclose(logits[:count], wanted, atol=1e-5)
        assert (logits[count:] == IGNORE_INDEX).all()
        assert labels.tolist() == row["labels"] + [IGNORE_INDEX] * (longest - count)
        right += int((wanted.argmax(-1) == labels[:count])[1:].sum())
        total += count - 1
    assert output.metrics["test_accuracy"] == pytest.approx(right / total)


# ---- language models ----


def test_masks_change_while_training_and_stay_when_evaluating(
    make: Any, rows: Rows, tiny_tokenizer: BertTokenizer
) -> None:
    trainer = Trainer(
        make(BertForMaskedLM),
        arguments(learning_rate=0.0, train_sampling_strategy="sequential"),
        data_collator=DataCollatorForLanguageModeling(tiny_tokenizer, mlm_probability=0.3),
        train_dataset=rows,
        eval_dataset=rows,
    )
    trainer.train()
    trained = [log.loss for log in trainer.history.steps]
    assert trained[:4] != trained[4:]
    first = untimed(trainer.evaluate())
    assert untimed(trainer.evaluate()) == first
    # In other batches too.
    trainer.args.per_device_eval_batch_size = 1
    assert trainer.evaluate()["eval_loss"] == pytest.approx(first["eval_loss"], abs=1e-5)
    assert trainer.evaluate(rows[:9]) != first


def test_a_seed_of_the_collator_fixes_the_masks_of_training_as_well(
    make: Any, rows: Rows, tiny_tokenizer: BertTokenizer
) -> None:
    collate = DataCollatorForLanguageModeling(tiny_tokenizer, seed=3)
    args = arguments(learning_rate=0.0, train_sampling_strategy="sequential")
    found = losses(make(BertForMaskedLM), rows, args, data_collator=collate)
    assert found[:4] == pytest.approx(found[4:], abs=1e-6)
    assert not collate.packed


def test_predictions_of_a_language_model_are_those_of_the_masked_tokens(
    make: Any, rows: Rows, tiny_tokenizer: BertTokenizer
) -> None:
    collate = DataCollatorForLanguageModeling(tiny_tokenizer, seed=3, packed=True)
    trainer = Trainer(
        make(BertForMaskedLM),
        arguments(per_device_eval_batch_size=1),
        data_collator=collate,
        compute_metrics=lambda p: {"accuracy": float((p[0].argmax(-1) == p[1]).mean())},
    )
    output = trainer.predict(rows)
    labels = collate(rows).labels
    assert output.label_ids.tolist() == labels[labels != IGNORE_INDEX].tolist()
    assert output.predictions.shape == (len(output.label_ids), 97)
    wanted = torch.nn.functional.cross_entropy(
        torch.tensor(output.predictions), torch.tensor(output.label_ids)
    )
    assert output.metrics["test_loss"] == pytest.approx(float(wanted), abs=1e-5)
    assert 0 <= output.metrics["test_accuracy"] <= 1


def test_both_labels_of_pretraining_are_learned(
    make: Any, rows: Rows, tiny_tokenizer: BertTokenizer
) -> None:
    pairs = [{"input_ids": r["input_ids"], "next_sentence_label": r["label"] % 2} for r in rows]
    collate = DataCollatorForLanguageModeling(tiny_tokenizer, seed=1)
    args = arguments(num_train_epochs=8, learning_rate=3e-3, train_sampling_strategy="sequential")
    found = losses(make(BertForPreTraining), pairs, args, data_collator=collate)
    assert sum(found[-4:]) < 0.9 * sum(found[:4])


# ---- other tasks ----


@pytest.mark.parametrize("counts", [[3], [2, 3, 4]], ids=["as many", "more and fewer"])
def test_choices_are_learned_and_predicted(make: Any, counts: list[int]) -> None:
    draw = np.random.default_rng(0)
    examples: Rows = []
    for number in range(20):
        count = counts[number % len(counts)]
        choices = [draw.integers(10, 97, draw.integers(2, 9)).tolist() for _ in range(count)]
        choices[number // 3 % count][0] = 5
        examples.append({"input_ids": choices, "label": number // 3 % count})
    args = arguments(
        num_train_epochs=30,
        learning_rate=3e-3,
        per_device_eval_batch_size=1,
        train_sampling_strategy="group_by_length",
    )
    trainer = Trainer(make(BertForMultipleChoice), args, train_dataset=examples)
    trainer.train()
    output = trainer.predict(examples)
    assert output.predictions.shape == (20, max(counts))
    assert [np.isfinite(row).sum() for row in output.predictions] == [
        len(row["input_ids"]) for row in examples
    ]
    assert output.label_ids.tolist() == [row["label"] for row in examples]
    assert (output.predictions.argmax(-1) == output.label_ids).mean() > 0.9


def test_answers_are_learned(make: Any, rows: Rows) -> None:
    asked = [{"input_ids": r["input_ids"], "start_positions": 1, "end_positions": 3} for r in rows]
    found = losses(make(BertForQuestionAnswering), asked, arguments(num_train_epochs=10))
    assert found[-1] < 0.7 * found[0]


def test_answers_are_predicted_row_by_row_as_two_ends(make: Any, rows: Rows) -> None:
    asked = [
        {
            "input_ids": r["input_ids"],
            "start_positions": 1,
            "end_positions": len(r["input_ids"]) - 1,
        }
        for r in rows
    ]
    trainer = Trainer(make(BertForQuestionAnswering), arguments(per_device_eval_batch_size=1))
    output = trainer.predict(asked)
    longest = max(len(row["input_ids"]) for row in rows)
    assert [each.shape for each in output.predictions] == [(len(rows), longest)] * 2
    starts, ends = output.label_ids
    assert starts.tolist() == [1] * len(rows)
    assert ends.tolist() == [len(row["input_ids"]) - 1 for row in rows]
    losses_of_ends = []
    pairs = (np.stack(each, axis=-1) for each in (output.predictions, output.label_ids))
    for row, logits, ends in zip(asked, *pairs, strict=True):
        real = torch.tensor(logits[: len(row["input_ids"])])
        losses_of_ends.append(torch.nn.functional.cross_entropy(real.T, torch.tensor(ends)))
    wanted = float(torch.stack(losses_of_ends).mean())
    assert output.metrics["test_loss"] == pytest.approx(wanted, abs=1e-5)


def test_two_ends_are_a_pair_as_the_peers(make: Any, rows: Rows, tmp_path: Path) -> None:
    """With the same logits, and no padded position is the best where all of them are low."""
    asked = [{"input_ids": r["input_ids"], "start_positions": 0, "end_positions": 0} for r in rows]
    model = make(BertForQuestionAnswering)
    model.qa_outputs.bias.data -= 1000
    peer = transformers.BertForQuestionAnswering(
        transformers.BertConfig(**{**model.config.to_dict(), "id2label": {0: "a", 1: "b"}})
    )
    peer.load_state_dict(model.state_dict())
    seen = []

    def count(prediction: Any) -> dict[str, float]:
        (start, end), golds = prediction
        seen.append([start.shape, end.shape, len(golds)])
        return {"rows": len(start)}

    ours = Trainer(model, arguments(), compute_metrics=count).predict(asked)
    args = transformers.TrainingArguments(
        str(tmp_path), report_to="none", disable_tqdm=True, use_cpu=True
    )
    theirs = transformers.Trainer(
        peer,
        args,
        data_collator=lambda part: PackingCollator()(part).padded(),
        compute_metrics=count,
    ).predict(asked)
    assert seen[0] == seen[1]
    assert type(ours.predictions) is type(theirs.predictions) is tuple
    assert type(ours.label_ids) is type(theirs.label_ids) is tuple
    assert ours.metrics["test_rows"] == theirs.metrics["test_rows"] == len(rows)
    for own, others in zip(ours.predictions, theirs.predictions, strict=True):
        for row, mine, yours in zip(asked, own, others, strict=True):
            length = len(row["input_ids"])
            np.testing.assert_allclose(mine[:length], yours[:length], atol=1e-3)
            assert mine.argmax() < length
    for own, others in zip(ours.label_ids, theirs.label_ids, strict=True):
        np.testing.assert_array_equal(own, others)


def test_pretraining_is_evaluated_by_its_words(
    make: Any, rows: Rows, tiny_tokenizer: BertTokenizer
) -> None:
    pairs = [{"input_ids": r["input_ids"], "next_sentence_label": r["label"] % 2} for r in rows]
    trainer = Trainer(
        make(BertForPreTraining),
        arguments(),
        eval_dataset=pairs,
        data_collator=DataCollatorForLanguageModeling(tiny_tokenizer, seed=1),
        compute_metrics=lambda p: {"accuracy": float((p[0].argmax(-1) == p[1]).mean())},
    )
    found = trainer.evaluate()
    assert found["eval_loss"] > 3
    assert 0 <= found["eval_accuracy"] <= 1


def test_a_decoder_is_evaluated_by_what_comes_next(
    make: Any, rows: Rows, tiny_tokenizer: BertTokenizer
) -> None:
    trainer = Trainer(
        make(BertLMHeadModel),
        arguments(num_train_epochs=10, learning_rate=3e-3, per_device_eval_batch_size=1),
        train_dataset=rows,
        data_collator=DataCollatorForLanguageModeling(tiny_tokenizer, mlm=False),
    )
    before = trainer.predict(rows)
    assert before.label_ids.tolist() == [i for row in rows for i in row["input_ids"][1:]]
    assert before.predictions.shape == (len(before.label_ids), 97)
    trainer.train()
    assert trainer.predict(rows).metrics["test_loss"] < 0.9 * before.metrics["test_loss"]


def test_gradient_checkpointing_changes_no_loss(make: Any, rows: Rows) -> None:
    model = make()
    found = losses(model, rows, arguments(gradient_checkpointing=True))
    assert model.bert.encoder.gradient_checkpointing
    assert found == pytest.approx(losses(make(), rows, arguments()), abs=1e-6)


# ---- data sets with row numbers ----


class Listed(Dataset[Any]):
    """As in the notes: a list behind `__len__` and `__getitem__`."""

    def __init__(self, data: list[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, idx: int) -> Any:
        return self.data[idx]


@pytest.mark.parametrize("kind", ["torch", "subset", "datasets", "set_format", "tensors"])
def test_every_kind_of_data_set_gives_the_same_losses(make: Any, rows: Rows, kind: str) -> None:
    table = datasets.Dataset.from_list(rows)
    data: Any = {
        "torch": Listed(rows),
        "subset": torch.utils.data.Subset(Listed([*rows, {}]), range(26)),
        "datasets": table,
        "set_format": table.with_format("torch"),
        "tensors": [{name: torch.tensor(value) for name, value in r.items()} for r in rows],
    }[kind]
    args = arguments(train_sampling_strategy="group_by_length")
    assert losses(make(), data, args) == losses(make(), rows, args)
    trainer = Trainer(make(), args)
    assert untimed(trainer.evaluate(data)) == untimed(trainer.evaluate(rows))


def test_a_data_set_of_texts_with_a_collator_that_encodes_them(
    make: Any, reviews: Any, tiny_tokenizer: BertTokenizer
) -> None:
    """Rows that the Trainer cannot read itself: in training, evaluation and prediction."""
    batches = []

    def encode(part: list[tuple[str, str]]) -> dict[str, Any]:
        batches.append(len(part))
        batch = tiny_tokenizer([text for text, _ in part], padding=True, return_tensors="pt")
        return {**batch, "labels": torch.tensor([int(label == "pos") for _, label in part])}

    data = Listed(reviews)
    encoded = [{**tiny_tokenizer(text), "label": int(label == "pos")} for text, label in reviews]
    args = arguments(per_device_eval_batch_size=3)
    assert losses(make(), data, args, data_collator=encode) == pytest.approx(
        losses(make(), encoded, args), abs=1e-5
    )
    batches.clear()
    output = Trainer(make(), args, data_collator=encode).predict(data)
    assert max(batches) == 3
    wanted = Trainer(make(), args).predict(encoded)
    np.testing.assert_allclose(output.predictions, wanted.predictions, atol=1e-5)
    assert output.label_ids.tolist() == wanted.label_ids.tolist()
    with pytest.raises(UsageError, match="the rows have no input_ids"):
        losses(
            make(), data, arguments(train_sampling_strategy="group_by_length"), data_collator=encode
        )


def test_the_chain_of_the_notes(
    make: Any, reviews: Any, tiny_tokenizer: BertTokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = [(text, int(label == "pos")) for text, label in reviews]
        csv.writer(file).writerows([("review", "label"), *table])
    parts = (
        datasets.load_dataset("csv", data_files=str(path), cache_dir=str(tmp_path / "cache"))
        .rename_column("review", "text")
        .shuffle(42)["train"]
        .train_test_split(test_size=0.2, seed=0)
        .map(
            lambda examples: tiny_tokenizer(
                examples["text"], truncation=True, padding="max_length", max_length=32
            ),
            batched=True,
        )
    )
    assert (len(parts["train"]), len(parts["test"])) == (64, 16)
    found: list[dict[str, float]] = []
    for collate in (None, DataCollatorWithPadding(tiny_tokenizer), default_data_collator):
        trainer = Trainer(
            make(num_labels=2),
            arguments(num_train_epochs=10, learning_rate=3e-3),
            data_collator=collate,
            train_dataset=parts["train"],
            eval_dataset=parts["test"],
            compute_metrics=lambda p: {"accuracy": float((p[0].argmax(-1) == p[1]).mean())},
        )
        trainer.train()
        found.append(untimed(trainer.evaluate()))
        assert found[-1]["eval_accuracy"] > 0.8
        assert found[-1] == pytest.approx(found[0], abs=1e-5)
    with pytest.raises(UsageError, match="train_dataset is a dict of 'train', 'test'"):
        losses(make(num_labels=2), parts, arguments())


# ---- collators of one's own ----


@pytest.mark.parametrize("base", [DataCollatorWithPadding, PackingCollator])
def test_a_subclass_of_a_collator_is_called(
    make: Any, rows: Rows, tiny_tokenizer: BertTokenizer, base: Any
) -> None:
    called = []

    class Own(base):  # type: ignore[misc]
        def __call__(self, part: Any) -> Any:
            called.append(len(part))
            return super().__call__([{**row, "label": 1} for row in part])

    collate = Own() if base is PackingCollator else Own(tiny_tokenizer)
    args = arguments(max_steps=2)
    ones = [{**row, "label": 1} for row in rows]
    found = losses(make(), rows, args, data_collator=collate)
    assert called[:2] == [8, 8]
    assert found == pytest.approx(losses(make(), ones, args), abs=1e-5)


def test_a_subclass_of_the_masking_collator_gets_the_batch_it_asked_for(
    make: Any, rows: Rows, tiny_tokenizer: BertTokenizer
) -> None:
    class Own(DataCollatorForLanguageModeling):
        def __call__(self, part: Any) -> Any:
            batch = super().__call__(part)
            batch["labels"] = batch["labels"].clone()
            return batch

    collate, plain = (
        Own(tiny_tokenizer, seed=1),
        DataCollatorForLanguageModeling(tiny_tokenizer, seed=1),
    )
    args = arguments(max_steps=2)
    found = losses(make(BertForMaskedLM), rows, args, data_collator=collate)
    wanted = losses(make(BertForMaskedLM), rows, args, data_collator=plain)
    assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("collate", [None, default_data_collator])
def test_rows_that_are_objects_train_as_mappings_do(make: Any, rows: Rows, collate: Any) -> None:
    example = make_dataclass("example", ["input_ids", "label"])
    objects = [example(**row) for row in rows]
    args = arguments(max_steps=3)
    assert losses(make(), objects, args, data_collator=collate) == losses(make(), rows, args)


@pytest.mark.parametrize("collate", [None, default_data_collator])
def test_positions_of_rows_are_kept(make: Any, rows: Rows, collate: Any) -> None:
    ids = rows[0]["input_ids"]
    backwards = {"input_ids": ids, "position_ids": list(range(len(ids)))[::-1], "label": 0}
    model = make()
    found = Trainer(model, arguments(), data_collator=collate).predict([backwards]).predictions
    batch = default_data_collator([backwards])
    with torch.no_grad():
        np.testing.assert_allclose(found, model.eval()(**batch).logits, atol=1e-5)
    bare = Trainer(model, arguments()).predict([{"input_ids": ids}]).predictions
    assert np.abs(bare - found).max() > 1e-3


# ---- streams ----


class Streamed(IterableDataset[Any]):
    """Rows one after the other; counts how often it was begun, and in which epochs."""

    def __init__(self, data: list[Any]) -> None:
        self.data = data
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)


@pytest.mark.parametrize("kind", ["torch", "datasets", "datasets as torch"])
@pytest.mark.parametrize("together", [1, 3])
def test_a_stream_gives_the_losses_of_its_rows_in_order(
    make: Any, rows: Rows, kind: str, together: int
) -> None:
    table = datasets.Dataset.from_list(rows).to_iterable_dataset()
    torch_stream = Streamed(rows)
    streams: dict[str, Any] = {
        "torch": torch_stream,
        "datasets": table,
        "datasets as torch": table.with_format("torch"),
    }
    args = {"max_steps": 7, "gradient_accumulation_steps": together}
    found = losses(make(), streams[kind], arguments(**args))
    args["train_sampling_strategy"] = "sequential"
    assert found == losses(make(), rows, arguments(**args))
    if kind == "torch":
        assert torch_stream.epochs == list(range(2 if together == 1 else 4))


def test_a_stream_is_evaluated_and_predicted_in_order(
    make: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertolt.train.sources._WINDOW", 7)
    trainer = Trainer(make(), arguments(per_device_eval_batch_size=1))
    stream, whole = trainer.predict(Streamed(rows)), trainer.predict(rows)
    np.testing.assert_allclose(stream.predictions, whole.predictions, atol=1e-5)
    assert stream.label_ids.tolist() == whole.label_ids.tolist()
    table = datasets.Dataset.from_list(rows).to_iterable_dataset()
    assert trainer.evaluate(table)["eval_loss"] == pytest.approx(whole.metrics["test_loss"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "max_steps is -1"),
        ({"max_steps": 2, "eval_strategy": "epoch"}, "eval_strategy is 'epoch'"),
        (
            {"max_steps": 2, "train_sampling_strategy": "group_by_length"},
            "train_sampling_strategy is 'group_by_length'",
        ),
    ],
    ids=str,
)
def test_what_needs_the_length_of_a_stream_is_refused(
    make: Any, rows: Rows, changes: dict[str, Any], words: str
) -> None:
    trainer = Trainer(make(), arguments(**changes), train_dataset=Streamed(rows), eval_dataset=rows)
    with pytest.raises(UsageError, match=f"{words}, .* its length is not known") as caught:
        trainer.train()
    assert caught.value.fix


def test_a_stream_that_can_be_read_once_is_told_when_it_ends(make: Any, rows: Rows) -> None:
    with pytest.raises(DataError, match="no rows in epoch 2") as caught:
        losses(make(), iter(rows), arguments(max_steps=5))
    assert "more than once" in caught.value.fix


@pytest.mark.parametrize("keep", [True, False])
def test_an_empty_stream_is_refused(make: Any, keep: bool) -> None:
    trainer = Trainer(make(), arguments(max_steps=1), eval_dataset=Streamed([]))
    with pytest.raises(DataError, match="gave no rows"):
        trainer.predict(Streamed([])) if keep else trainer.evaluate()


# ---- what cannot be ----


def test_a_list_that_has_grown_is_counted_anew(make: Any, rows: Rows) -> None:
    trainer, data = Trainer(make(), arguments()), rows[:3]
    assert len(trainer.predict(data).predictions) == 3
    data += rows[3:10]
    assert len(trainer.predict(data).predictions) == 10


@pytest.mark.parametrize("kind", [BertModel, lambda config: torch.nn.Linear(2, 2)])
def test_what_has_no_head_is_refused(tiny_config: Any, kind: Any) -> None:
    with pytest.raises(UsageError, match="which has no head to learn with") as caught:
        Trainer(kind(tiny_config()), arguments())
    assert "BertForSequenceClassification" in caught.value.fix


def test_rows_that_name_nothing_are_refused(make: Any) -> None:
    with pytest.raises(DataError, match="row 0 of the batch is a tuple"):
        losses(make(), [([5, 6], 1)] * 3, arguments())


def test_a_new_head_is_evaluated_only_after_training(
    make: Any, tiny_config: Any, rows: Rows, tmp_path: Path
) -> None:
    BertModel(tiny_config()).save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path, num_labels=3, verbose=False)
    args = arguments(max_steps=2, eval_strategy="steps", eval_steps=1)
    trainer = Trainer(model, args, train_dataset=rows, eval_dataset=rows)
    with pytest.raises(CheckpointError, match="never been trained for evaluation"):
        trainer.evaluate()
    with pytest.raises(CheckpointError, match="never been trained for prediction"):
        trainer.predict(rows)
    trainer.train()
    assert len(trainer.history.evaluations) == 2
    assert trainer.evaluate()["eval_loss"] > 0
    assert len(trainer.predict(rows).predictions) == 26


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(
    make: Any, tiny_tokenizer: BertTokenizer
) -> None:
    with pytest.raises(CheckpointError, match="word embedding has 20 rows"):
        Trainer(make(vocab_size=20), arguments(), processing_class=tiny_tokenizer)


def test_a_data_set_without_a_length_is_refused(make: Any) -> None:
    class Endless(Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            return {"input_ids": [5]}

    with pytest.raises(UsageError, match="train_dataset has no length") as caught:
        losses(make(), Endless(), arguments())
    assert "__len__" in caught.value.fix


@pytest.mark.parametrize(
    ("made", "error", "words"),
    [
        ([1, 2], DataError, "data_collator gave a list"),
        ({"input_ids": [[5, 6]], "stars": [3]}, UsageError, "stars"),
        ({"input_ids": [[5, 6]], "text": ["a"]}, DataError, "data_collator gave text"),
        ({"input_ids": [[5, 6]], "labels": [1]}, None, ""),
        ({"labels": [1]}, UsageError, "input_ids"),
    ],
)
def test_what_a_collator_gives_is_checked(
    make: Any, rows: Rows, made: Any, error: Any, words: str
) -> None:
    args = arguments(max_steps=1)
    if error is None:
        assert len(losses(make(), rows, args, data_collator=lambda part: made)) == 1
        return
    with pytest.raises(error, match=words):
        losses(make(), rows, args, data_collator=lambda part: made)


class Drawing:
    """Rows with an id drawn from Python's, numpy's and torch's generators."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        drawn = random.randrange(90) + int(np.random.randint(5)) + int(torch.randint(2, ()))
        return {**self._rows[index], "input_ids": [drawn, *self._rows[index]["input_ids"]]}


def test_the_seed_reaches_what_rows_draw(make: Any, rows: Rows) -> None:
    def losses(seed: int) -> list[float]:
        trainer = Trainer(make(), arguments(seed=seed), train_dataset=Drawing(rows))
        trainer.train()
        return [log.loss for log in trainer.history.steps]

    first = losses(3)
    random.seed(99)
    np.random.seed(98)
    assert losses(3) == first
    assert losses(4) != first
