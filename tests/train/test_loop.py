"""`train_step`, `fit` and `predict_batches`."""

from __future__ import annotations

import copy
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bertolt import AdamW, BertForSequenceClassification, PackedBatch, PackingCollator, train_step
from bertolt.data.batch import IGNORE_INDEX
from bertolt.errors import TrainingError
from bertolt.model.precision import PrecisionChoice, choose_precision
from bertolt.train.loop import FP32, History, RunningLoss, StepLog, fit, predict_batches

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
Model = BertForSequenceClassification


@pytest.fixture
def make_model(tiny_config: Any) -> Callable[..., Model]:
    def make(**changes: Any) -> Model:
        torch.manual_seed(0)
        return Model(tiny_config(num_labels=3, **{**STILL, **changes})).train()

    return make


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    return [
        {"input_ids": draw.integers(1, 97, draw.integers(1, 30)), "label": int(draw.integers(3))}
        for _ in range(32)
    ]


def pack(rows: list[dict[str, Any]]) -> PackedBatch:
    return PackingCollator()(rows)


def descent(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def assert_same_weights(found: nn.Module, wanted: dict[str, torch.Tensor], atol: float = 0) -> None:
    for name, value in found.named_parameters():
        torch.testing.assert_close(value, wanted[name], atol=atol, rtol=0, msg=name)


# ---- one step ----


def test_a_step_is_forward_backward_clip_and_update(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    batch = pack(rows[:8])
    for clip in (0.0, 0.05, 1e6):
        model = make_model()
        twin = copy.deepcopy(model)
        log = train_step(model, batch, descent(model), max_grad_norm=clip)

        optimizer = descent(twin)
        loss = twin(batch).loss
        loss.backward()
        norm = nn.utils.clip_grad_norm_(twin.parameters(), clip or float("inf"))
        optimizer.step()

        assert log.loss == pytest.approx(float(loss.detach()), abs=1e-7)
        assert log.grad_norm == pytest.approx(float(norm), rel=1e-5)
        assert_same_weights(model, weights(twin), atol=1e-7)
        assert all(parameter.grad is None for parameter in model.parameters())


def test_the_log_tells_what_the_step_was_made_of(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    model = make_model()
    batches = [pack(rows[:5]), pack(rows[5:8])]
    log = train_step(model, batches, descent(model, lr=0.25), step=7)
    assert log.step == 7
    assert log.learning_rate == 0.25
    assert log.sequences == 8
    assert log.tokens == sum(len(row["input_ids"]) for row in rows[:8])
    assert log.rows == sum(batch.input_ids.shape[0] for batch in batches)
    assert log.seconds > 0


def test_the_scheduler_is_stepped_after_the_update(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    model = make_model()
    optimizer = descent(model, lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    rates = [train_step(model, pack(rows[:4]), optimizer, schedule).learning_rate for _ in range(3)]
    assert rates == pytest.approx([1, 1 / 2, 1 / 3])


@pytest.mark.parametrize("sizes", [[8, 8, 8, 8], [16, 16], [1, 3, 28], [31, 1]], ids=str)
def test_accumulated_batches_act_as_one(
    make_model: Any, rows: list[dict[str, Any]], sizes: list[int]
) -> None:
    whole = make_model()
    parts = copy.deepcopy(whole)
    ends = list(itertools.accumulate(sizes, initial=0))
    micro = [pack(rows[start:stop]) for start, stop in itertools.pairwise(ends)]
    wanted = train_step(whole, pack(rows), descent(whole))
    found = train_step(parts, micro, descent(parts))
    assert found.loss == pytest.approx(wanted.loss, abs=1e-6)
    assert found.grad_norm == pytest.approx(wanted.grad_norm, abs=1e-6)
    assert_same_weights(parts, weights(whole), atol=1e-6)


def test_accumulation_counts_targets_and_not_rows(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    ignored = [{**row, "label": IGNORE_INDEX} for row in rows[:6]] + rows[6:]
    whole = make_model()
    parts = copy.deepcopy(whole)
    train_step(whole, pack(ignored), descent(whole))
    train_step(parts, [pack(ignored[:8]), pack(ignored[8:])], descent(parts))
    assert_same_weights(parts, weights(whole), atol=1e-6)


def test_a_part_without_a_target_adds_nothing(make_model: Any, rows: list[dict[str, Any]]) -> None:
    ignored = [{**row, "label": IGNORE_INDEX} for row in rows[:4]]
    alone = make_model()
    both = copy.deepcopy(alone)
    wanted = train_step(alone, pack(rows[4:8]), descent(alone))
    found = train_step(both, [pack(ignored), pack(rows[4:8])], descent(both))
    assert found.loss == pytest.approx(wanted.loss, abs=1e-6)
    assert_same_weights(both, weights(alone), atol=1e-6)


def test_frozen_parameters_stay(make_model: Any, rows: list[dict[str, Any]]) -> None:
    model = make_model()
    model.bert.embeddings.requires_grad_(False)
    before = weights(model)
    train_step(model, pack(rows[:8]), AdamW(model.parameters(), lr=0.01))
    changed = {
        name for name, value in weights(model).items() if not torch.equal(value, before[name])
    }
    assert "classifier.weight" in changed
    assert not any("embeddings" in name for name in changed)


def test_bfloat16_keeps_weights_and_log_in_fp32_and_stays_close(
    make_model: Any, rows: list[dict[str, Any]]
) -> None:
    fine = make_model()
    coarse = copy.deepcopy(fine)
    bf16 = choose_precision("bf16", torch.device("cpu"))
    wanted = train_step(fine, pack(rows), descent(fine))
    found = train_step(coarse, pack(rows), descent(coarse), precision=bf16)
    assert found.loss == pytest.approx(wanted.loss, rel=0.02)
    assert found.grad_norm == pytest.approx(wanted.grad_norm, rel=0.1)
    assert all(value.dtype == torch.float32 for value in coarse.state_dict().values())


@pytest.mark.parametrize("spoilt", ["loss", "gradient"])
@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_not_finite_stops_before_the_update(
    make_model: Any, rows: list[dict[str, Any]], spoilt: str, parts: int
) -> None:
    model = make_model()
    if spoilt == "loss":
        with torch.no_grad():
            model.classifier.bias[1] = float("inf")
    else:
        model.classifier.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = weights(model)
    optimizer = AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    batches = [pack(rows[:8]), pack(rows[8:16])][:parts]
    with pytest.raises(TrainingError, match=spoilt) as caught:
        train_step(model, batches, optimizer, schedule, step=5)
    assert "step 5" in caught.value.place
    assert "0.01" in caught.value.place
    assert "smaller learning rate" in caught.value.fix
    assert_same_weights(model, before)
    assert optimizer.state_dict()["state"] == {}
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- a run ----


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
