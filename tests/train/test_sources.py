"""Where batches come from: the same ones whenever they are asked for; a Trainer over any source."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertolt import (
    BertForSequenceClassification,
    PackedBatch,
    PackingCollator,
    Trainer,
    TrainingArguments,
)
from bertolt.base.distributed import ALONE
from bertolt.base.errors import UsageError
from bertolt.base.files import held_folder
from bertolt.checkpoint.store import Store
from bertolt.models.precision import PrecisionChoice
from bertolt.train.loop import Callback, History
from bertolt.train.sources import BatchSource, RowBatches, StreamBatches
from bertolt.train.step import StepLog

Rows = list[dict[str, Any]]


@pytest.fixture
def rows() -> Rows:
    return [
        {"input_ids": [5 + number] * (2 + number % 7), "label": number % 3} for number in range(26)
    ]


def row_batches(rows: Rows, **changes: Any) -> RowBatches:
    lengths = np.array([len(row["input_ids"]) for row in rows])
    args = TrainingArguments(
        **({"num_train_epochs": 2, "gradient_accumulation_steps": 2} | changes)
    )
    return RowBatches(
        data=rows,
        args=args,
        batch_rows=4,
        collate=PackingCollator(),
        world=ALONE,
        lengths=lambda data: lengths,
    )


def stream_batches(rows: Rows) -> StreamBatches:
    args = TrainingArguments(max_steps=9, gradient_accumulation_steps=2)

    class Stream:
        def __iter__(self) -> Iterator[Any]:
            return iter(rows)

    return StreamBatches(
        data=Stream(), args=args, batch_rows=4, collate=PackingCollator(), world=ALONE
    )


def first_tokens(source: BatchSource, step: int, count: int) -> list[list[list[int]]]:
    """The ids of some steps after a step."""
    steps = itertools.islice(source.after(step), count)
    return [[batch.input_ids.tolist() for batch in batches] for batches in steps]


@pytest.mark.parametrize("kind", ["random", "sequential", "group_by_length", "stream"])
def test_the_batches_after_a_step_are_those_that_would_have_come(rows: Rows, kind: str) -> None:
    source: BatchSource = (
        stream_batches(rows)
        if kind == "stream"
        else row_batches(rows, train_sampling_strategy=kind)
    )
    whole = first_tokens(source, 0, 9)
    assert len({str(step) for step in whole[:4]}) == 4
    for step in range(9):
        assert first_tokens(source, step, 9 - step) == whole[step:]


def test_how_long_a_source_is(rows: Rows) -> None:
    source = row_batches(rows)
    assert (source.steps_per_epoch, source.total_steps) == (4, 8)  # 26 rows: 7 batches, 4 steps
    assert row_batches(rows, max_steps=3).total_steps == 3
    assert row_batches(rows, num_train_epochs=0.5).total_steps == 2
    stream = stream_batches(rows)
    assert (stream.steps_per_epoch, stream.total_steps) == (9, 9)
    assert source.describe() == {"rows of the train_dataset": 26}
    assert stream.describe() == {"rows of the train_dataset": "unknown"}


def test_a_stream_refuses_what_would_need_its_length(rows: Rows) -> None:
    source = stream_batches(rows)
    with pytest.raises(UsageError, match="max_steps is -1"):
        StreamBatches(
            data=source.data,
            args=TrainingArguments(),
            batch_rows=4,
            collate=source.collate,
            world=ALONE,
        )


# ---- a Trainer over a source, with an evaluation and a store of the caller's ----


class Source:
    """Six steps of one batch each."""

    total_steps = 6
    steps_per_epoch = 3

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def after(self, step: int) -> Iterator[list[PackedBatch]]:
        for number in range(step, self.total_steps):
            yield [PackingCollator()(self.rows[4 * number : 4 * number + 4])]

    def describe(self) -> dict[str, Any]:
        return {"source": "six steps"}


class Watch(Callback):
    """Notes the history that a run begins with, and stops one after a step."""

    def __init__(self, stop: int = 0) -> None:
        self.stop, self.begun = stop, -1

    def on_begin(self, history: History) -> None:
        self.begun = history.step

    def on_step(self, log: StepLog, total_steps: int) -> None:
        if log.step == self.stop:
            signal.raise_signal(signal.SIGTERM)


def trainer_over(rows: Rows, config: Any, out: Path, watch: Watch, **changes: Any) -> Trainer:
    torch.manual_seed(0)
    args = TrainingArguments(
        str(out), learning_rate=1e-3, eval_strategy="epoch", precision="fp32", disable_tqdm=True
    )
    given: dict[str, Any] = {
        "batches": Source(rows),
        "evaluate": lambda trainer: {"eval_loss": float(trainer.model.num_parameters())},
        "settings": {"--of": "a command"},
        "store": Store(out),
    }
    model = BertForSequenceClassification(config(num_labels=3))
    return Trainer(model, args, callbacks=[watch], **(given | changes))


def test_a_trainer_over_a_source_goes_on_where_sigterm_ended_it(
    rows: Rows, tiny_config: Any, tmp_path: Path
) -> None:
    whole = trainer_over(rows, tiny_config, tmp_path / "whole", Watch())
    whole.train()
    assert [step for step, _ in whole.history.evaluations] == [3, 6]
    loss = whole.history.evaluations[0][1]["eval_loss"]
    assert loss == whole.model.num_parameters(), "it is called with the Trainer"
    out = tmp_path / "out"
    with held_folder(out, fix="wait"):  # whoever gives the store holds its folder
        with pytest.raises(SystemExit):
            trainer_over(rows, tiny_config, out, Watch(stop=4)).train()
        assert Store(out).steps() == [4]
        watch = Watch()
        again = trainer_over(rows, tiny_config, out, watch)
        again.train(resume_from_checkpoint=True)
    assert watch.begun == 4
    assert again.history.evaluations == whole.history.evaluations
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, whole.model.state_dict()[name]), name


def test_settings_of_the_caller_decide_with_the_precision(
    rows: Rows, tiny_config: Any, tmp_path: Path
) -> None:
    trainer = trainer_over(rows, tiny_config, tmp_path, Watch())
    assert trainer.deciding_settings() == {"--of": "a command", "precision": "fp32"}
    own = trainer_over(rows, tiny_config, tmp_path, Watch(), settings=None).deciding_settings()
    assert own["source"] == "six steps"
    assert own["learning_rate"] == 1e-3


def test_the_precision_of_a_run_that_goes_on_is_not_measured_again(
    rows: Rows, tiny_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertolt.train.trainer.choose_precision", None)
    choice = PrecisionChoice("fp32", "as in out")
    trainer = trainer_over(rows, tiny_config, tmp_path, Watch(), precision=choice)
    assert trainer.precision is choice
