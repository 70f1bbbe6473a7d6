"""`fit` and `predict_batches`."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bertolt import PackedBatch
from bertolt.base.errors import TrainingError
from bertolt.models.precision import FP32, PrecisionChoice
from bertolt.train.loop import History, RunningLoss, fit, predict_batches
from bertolt.train.step import StepLog
from tests.train.small import descent, pack


class Recorder:
    """A callback that writes down all it is told."""

    def __init__(self, act: Callable[[StepLog], None] = lambda log: None) -> None:
        self.told: list[Any] = []
        self.act = act

    def on_step(self, log: StepLog, total_steps: int) -> None:
        self.told.append(("step", log.step, total_steps))
        self.act(log)

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None:
        self.told.append(("evaluate", step, metrics))

    def on_end(self, history: History) -> None:
        self.told.append(("end", len(history.steps)))


def run(model: nn.Module, rows: list[dict[str, Any]], **options: Any) -> History:
    def endless() -> Iterator[list[PackedBatch]]:
        while True:
            yield [pack(rows[:4])]

    settings = {
        "total_steps": 4,
        "max_grad_norm": 1.0,
        "precision": FP32,
        **options,
    }
    return fit(model, endless(), descent(model), None, **settings)


def test_a_run_makes_its_steps_evaluates_and_tells_the_callbacks(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    recorder = Recorder()
    model = make_model().eval()
    history = run(
        model,
        rows,
        evaluate=lambda: {"accuracy": 0.5},
        evaluate_at=lambda step: step % 2 == 0,
        callbacks=[recorder],
    )
    assert [log.step for log in history.steps] == [1, 2, 3, 4]
    assert history.evaluations == [(2, {"accuracy": 0.5}), (4, {"accuracy": 0.5})]
    assert recorder.told == [
        ("step", 1, 4),
        ("step", 2, 4),
        ("evaluate", 2, {"accuracy": 0.5}),
        ("step", 3, 4),
        ("step", 4, 4),
        ("evaluate", 4, {"accuracy": 0.5}),
        ("end", 4),
    ]
    assert not history.interrupted
    assert history.failure is None
    assert history.steps[-1].loss < history.steps[0].loss


def test_the_summary_is_that_of_the_steps(make_model: Any, rows: list[dict[str, Any]]) -> None:
    history = run(make_model(), rows, total_steps=20)
    found = history.summary()
    seconds = sum(log.seconds for log in history.steps)
    tokens = sum(len(row["input_ids"]) for row in rows[:4])
    assert found["steps"] == 20
    assert found["samples"] == 80
    assert found["tokens"] == 20 * tokens
    assert found["samples_per_second"] == pytest.approx(80 / seconds)
    assert found["tokens_per_second"] == pytest.approx(20 * tokens / seconds)
    assert found["loss"] == pytest.approx(sum(log.loss for log in history.steps[-2:]) / 2)
    assert found["filler_share"] == pytest.approx(1 - tokens / history.steps[0].rows)


def test_a_run_that_made_no_step_has_a_summary_too() -> None:
    assert History().summary()["samples_per_second"] == 0


def test_a_failure_ends_the_run_and_is_told(make_model: Any, rows: list[dict[str, Any]]) -> None:
    model = make_model()

    def spoil(log: StepLog) -> None:
        if log.step == 2:
            with torch.no_grad():
                model.classifier.bias.fill_(float("nan"))

    recorder = Recorder(spoil)
    history = run(model, rows, callbacks=[recorder])
    assert isinstance(history.failure, TrainingError)
    assert "step 3" in str(history.failure)
    assert [log.step for log in history.steps] == [1, 2]
    assert recorder.told[-1] == ("end", 2)


def interrupt_at(*steps: int) -> Recorder:
    def act(log: StepLog) -> None:
        if log.step in steps:
            os.kill(os.getpid(), signal.SIGINT)

    return Recorder(act)


def test_ctrl_c_ends_the_run_after_the_step_under_way(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    recorder = interrupt_at(2)
    evaluated: list[int] = []
    history = run(
        make_model(),
        rows,
        callbacks=[recorder],
        evaluate=lambda: evaluated.append(1) or {},
        evaluate_at=lambda step: True,
    )
    assert history.interrupted
    assert [log.step for log in history.steps] == [1, 2]
    assert evaluated == [1], "no time is spent on evaluating after Ctrl-C"
    assert recorder.told[-1] == ("end", 2)
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_at_the_last_step_is_told_though_nothing_was_left_to_stop(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    history = run(make_model(), rows, callbacks=[interrupt_at(4)])
    assert history.interrupted
    assert len(history.steps) == 4


def test_a_second_ctrl_c_ends_the_run_at_once(make_model: Any, rows: list[dict[str, Any]]) -> None:
    before = signal.getsignal(signal.SIGINT)

    def twice(log: StepLog) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(make_model(), rows, callbacks=[Recorder(twice)])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_in_another_thread_leaves_signals_alone(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    results: list[History] = []
    thread = threading.Thread(target=lambda: results.append(run(make_model(), rows)))
    thread.start()
    thread.join()
    assert len(results[0].steps) == 4


# ---- evaluation ----


def lengths_of(rows: list[dict[str, Any]]) -> np.ndarray:
    return np.array([len(row["input_ids"]) for row in rows])


@pytest.mark.parametrize("budget", [1, 40, 10_000])
def test_every_row_is_evaluated_once_and_equals_the_model_alone(
    make_model: Any, rows: list[dict[str, Any]], budget: int
) -> None:
    model = make_model(hidden_dropout_prob=0.5)
    found = np.full((len(rows), 3), np.nan, dtype=np.float32)
    loss = RunningLoss()
    for batch in predict_batches(model, rows, lengths_of(rows), pack, token_budget=budget):
        assert np.isnan(found[batch.rows]).all()
        found[batch.rows] = batch.logits
        assert batch.labels.tolist() == [rows[row]["label"] for row in batch.rows]
        loss.add(batch)
    assert model.training, "the mode is as it was"
    model.eval()
    with torch.no_grad():
        wanted = torch.cat([model(pack([row])).logits for row in rows])
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    labels = torch.tensor([row["label"] for row in rows])
    assert loss.counts == {"labels": len(rows)}
    assert loss.mean() == pytest.approx(
        float(nn.functional.cross_entropy(wanted, labels)), abs=1e-5
    )


def test_rows_without_labels_have_no_loss(make_model: Any, rows: list[dict[str, Any]]) -> None:
    bare = [{"input_ids": row["input_ids"]} for row in rows]
    for batch in predict_batches(make_model(), bare, lengths_of(bare), pack, token_budget=99):
        assert batch.loss_sums == batch.counts == {}
        assert batch.labels is None


def test_the_mode_comes_back_although_the_reader_stops_early(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    model = make_model()
    batches = predict_batches(model, rows, lengths_of(rows), pack, token_budget=30)
    next(batches)
    assert not model.training
    batches.close()
    assert model.training


def test_each_part_of_a_model_keeps_its_own_mode(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    """Evaluated without dropout, however deep the part that is left training, and whatever is."""
    model = make_model(hidden_dropout_prob=0.5).eval()
    (wanted,) = predict_batches(model, rows, lengths_of(rows), pack, token_budget=9999)
    deep = model.bert.encoder.layer[1].output
    for training, part in ((False, deep), (True, deep), (True, model.bert)):
        model.train(training)
        part.train(not training)
        before = [module.training for module in model.modules()]
        (found,) = predict_batches(model, rows, lengths_of(rows), pack, token_budget=9999)
        assert torch.equal(found.logits, wanted.logits)
        assert [module.training for module in model.modules()] == before


def test_evaluation_in_bfloat16_gives_fp32_logits_near_by(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    model = make_model(initializer_range=0.1)
    results = []
    for precision in (FP32, PrecisionChoice("bf16", "for the test")):
        (batch,) = predict_batches(
            model, rows, lengths_of(rows), pack, token_budget=10_000, precision=precision
        )
        assert batch.logits.dtype == torch.float32
        results.append(batch.logits)
    fine, coarse = results
    assert not torch.equal(fine, coarse)
    assert float((fine - coarse).norm() / fine.norm()) < 0.05
