"""What runs and evaluations tell: of several sets, how long they took, and smoothed labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bertolt import (
    AutoModelForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    EarlyStoppingCallback,
    Trainer,
)
from bertolt.base.errors import UsageError
from bertolt.data.batch import IGNORE_INDEX
from bertolt.train.smoothing import LabelSmoother
from tests.train.small import STILL, Rows, arguments, untimed

TIMES = {"runtime", "samples_per_second", "steps_per_second"}


@pytest.fixture
def make(tiny_config: Any) -> Any:
    def fresh(kind: Any = BertForSequenceClassification, **changes: Any) -> Any:
        torch.manual_seed(0)
        return kind(tiny_config(num_labels=3, initializer_range=0.1, **STILL, **changes))

    return fresh


def tagged(rows: Rows) -> Rows:
    return [
        {
            "input_ids": row["input_ids"],
            "labels": [IGNORE_INDEX if i % 4 == 3 else i % 3 for i in row["input_ids"]],
        }
        for row in rows
    ]


# ---- several sets ----


def test_sets_are_evaluated_by_name(make: Any, rows: Rows) -> None:
    sets = {"a": rows[:10], "b": rows[10:]}
    args = arguments(eval_strategy="epoch", metric_for_best_model="eval_b_loss")
    trainer = Trainer(make(), args, train_dataset=rows, eval_dataset=sets)
    trainer.train()
    metrics = trainer.evaluate()
    wanted = {f"eval_{name}_{what}" for name in sets for what in ("loss", *TIMES)} | {"epoch"}
    assert metrics.keys() == wanted
    assert metrics["eval_a_loss"] == trainer.evaluate(rows[:10])["eval_loss"]
    assert untimed(trainer.evaluate("b")) == {"eval_loss": metrics["eval_b_loss"]}
    assert untimed(trainer.evaluate({"c": rows[10:]}, metric_key_prefix="x")) == {
        "x_c_loss": metrics["eval_b_loss"]
    }
    last = trainer.history.evaluations[-1][1]
    assert last == {name: metrics[name] for name in ("eval_a_loss", "eval_b_loss")}
    assert trainer.state.best_metric == min(
        m["eval_b_loss"] for _, m in trainer.history.evaluations
    )
    logged = [set(entry) for entry in trainer.state.log_history if "eval_a_loss" in entry]
    assert logged[0] == {f"eval_a_{name}" for name in ("loss", *TIMES)} | {"epoch", "step"}


def test_the_best_is_chosen_and_waited_for_by_the_metric_of_one_set(
    make: Any, rows: Rows, tmp_path: Any
) -> None:
    sets = {"a": rows[:10], "b": rows[10:]}
    args = arguments(
        output_dir=str(tmp_path), eval_strategy="epoch", save_strategy="epoch",
        load_best_model_at_end=True, metric_for_best_model="a_loss", num_train_epochs=3,
        learning_rate=0.05,
    )  # fmt: skip
    stopping = EarlyStoppingCallback(1)
    trainer = Trainer(make(), args, train_dataset=rows, eval_dataset=sets, callbacks=[stopping])
    trainer.train()
    found = [metrics["eval_a_loss"] for _, metrics in trainer.history.evaluations]
    assert trainer.evaluate("a")["eval_loss"] == min(found)


def test_sets_that_are_not_there_are_told(make: Any, rows: Rows) -> None:
    args = arguments(eval_strategy="epoch", max_steps=4, metric_for_best_model="loss")
    sets: dict[str, Any] = {"a": rows, "b": []}
    trainer = Trainer(make(), args, train_dataset=rows, eval_dataset=sets)
    with pytest.raises(UsageError, match=r"eval_dataset\['b'\] has no rows"):
        trainer.train()
    with pytest.raises(UsageError, match="the eval_dataset has no 'c'") as caught:
        trainer.evaluate("c")
    assert caught.value.fix == "name one of a, b"
    with pytest.raises(UsageError, match="the eval_dataset has no 'c'"):
        Trainer(make(), args, eval_dataset=rows).evaluate("c")
    del sets["b"]
    with pytest.raises(UsageError, match="the evaluation gives no eval_loss; it gives eval_a_loss"):
        trainer.train()
    sets.clear()
    with pytest.raises(UsageError, match="eval_dataset"):
        trainer.train()


# ---- how long it took ----


def test_a_run_tells_how_long_it_took(make: Any, rows: Rows) -> None:
    trainer = Trainer(make(), arguments(), train_dataset=rows)
    output = trainer.train()
    metrics = output.metrics
    assert {f"train_{name}" for name in TIMES} | {"total_flos", "epoch"} <= metrics.keys()
    assert metrics["train_loss"] == output.training_loss
    assert metrics["epoch"] == 2.0
    seconds = metrics["train_runtime"]
    assert metrics["train_samples_per_second"] == pytest.approx(52 / seconds, rel=0.05)
    assert metrics["train_steps_per_second"] == pytest.approx(8 / seconds, rel=0.05)
    # 6 operations for each token and each weight that is no embedding.
    named = trainer.model.named_parameters()
    weights = sum(value.numel() for name, value in named if "embeddings.weight" not in name)
    tokens = 2 * sum(len(row["input_ids"]) for row in rows)
    assert metrics["total_flos"] == 6 * weights * tokens
    assert trainer.state.log_history[-1].items() >= {"train_loss": output.training_loss}.items()
    assert "train_tokens" not in trainer.state.log_history[-1]


def test_a_run_that_an_error_ended_logs_no_result(make: Any, rows: Rows) -> None:
    def failing(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        raise ValueError("no")

    trainer = Trainer(make(), arguments(), train_dataset=rows, compute_loss_func=failing)
    with pytest.raises(ValueError, match="no"):
        trainer.train()
    assert trainer.state.log_history == []


# ---- smoothed labels ----


def test_a_smoothed_loss_is_the_peers() -> None:
    smoother = LabelSmoother(0.15)
    theirs = transformers.trainer_pt_utils.LabelSmoother(0.15)
    torch.manual_seed(0)
    logits = torch.randn(4, 6, 5)
    labels = torch.randint(5, (4, 6)).masked_fill(torch.rand(4, 6) < 0.3, IGNORE_INDEX)
    for shift in (False, True):
        for items in (None, 7):
            ours = smoother({"logits": logits}, labels, shift, items)
            peers = theirs({"logits": logits}, labels, shift, items)
            torch.testing.assert_close(ours, peers)
    torch.testing.assert_close(
        smoother((logits[:, 0],), labels[:, 0].abs() % 5),
        theirs((logits[:, 0],), labels[:, 0].abs() % 5),
    )


class Smoothed(Trainer):
    """The same by the padded door: a base class's loss, and the peer's way to smooth it."""

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        return super().compute_loss(model, inputs, *given, **named)


@pytest.mark.parametrize(
    "kind",
    [
        BertForSequenceClassification,
        BertForTokenClassification,
        BertForMultipleChoice,
        AutoModelForMaskedLM,
        BertLMHeadModel,
    ],
)
def test_smoothing_is_exact_packed_and_over_batches_that_differ(
    make: Any, rows: Rows, kind: Any
) -> None:
    """Packed and padded, the losses are those of one batch of all rows by the peer's rule."""
    changes: dict[str, Any] = {"is_decoder": True} if kind is BertLMHeadModel else {}
    data = rows
    if kind in (BertForTokenClassification, AutoModelForMaskedLM, BertLMHeadModel):
        data = tagged(rows)
    if kind is BertForMultipleChoice:
        data = [
            {"input_ids": [row["input_ids"], [*row["input_ids"][::-1], 7]], "label": n % 2}
            for n, row in enumerate(rows)
        ]
    uneven = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 5}
    args = arguments(label_smoothing_factor=0.2, max_steps=3, **uneven)
    packed = Trainer(make(kind, **changes), args, train_dataset=data, eval_dataset=data)
    padded = Smoothed(make(kind, **changes), args, train_dataset=data, eval_dataset=data)
    before = packed.evaluate()["eval_loss"]
    assert padded.evaluate()["eval_loss"] == pytest.approx(before, abs=1e-5)
    plain = Trainer(make(kind, **changes), arguments(), eval_dataset=data).evaluate()["eval_loss"]
    assert abs(before - plain) > 1e-3
    for trainer in (packed, padded):
        trainer.train()
    found = [[log.loss for log in trainer.history.steps] for trainer in (packed, padded)]
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    if kind is not BertLMHeadModel:  # whose labels are the next tokens'
        model = make(kind, **changes).eval()
        batch = packed._collate(data)
        inputs = batch.padded(pad_token_id=0)
        labels = inputs.pop("labels")
        with torch.no_grad():
            logits = model(**inputs).logits
        theirs = transformers.trainer_pt_utils.LabelSmoother(0.2)({"logits": logits}, labels)
        assert before == pytest.approx(float(theirs), abs=1e-5)


def test_smoothing_trains_as_the_peers_trainer(make: Any, rows: Rows, tmp_path: Any) -> None:
    model = make()
    peer = transformers.BertForSequenceClassification(
        transformers.BertConfig(**model.config.to_dict())
    )
    peer.load_state_dict(model.state_dict())
    same: dict[str, Any] = {
        "per_device_train_batch_size": 8, "learning_rate": 1e-3, "label_smoothing_factor": 0.1,
        "train_sampling_strategy": "sequential", "logging_steps": 1, "max_steps": 4,
        "disable_tqdm": True, "use_cpu": True, "save_strategy": "no",
    }  # fmt: skip
    ours = Trainer(model, arguments(weight_decay=0.0, **same), train_dataset=rows)
    theirs = transformers.Trainer(
        peer,
        transformers.TrainingArguments(str(tmp_path), **same),
        lambda part: ours._collate(part).padded(pad_token_id=0),
        train_dataset=rows,
    )
    for trainer in (ours, theirs):
        trainer.train()
    found = [[e["loss"] for e in t.state.log_history if "loss" in e] for t in (ours, theirs)]
    assert found[0] == pytest.approx(found[1], abs=2e-4)
    np.testing.assert_allclose(
        ours.evaluate(rows)["eval_loss"], theirs.evaluate(rows)["eval_loss"], atol=2e-4
    )


def test_what_has_no_classes_to_spread_over_is_told(
    make: Any, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    args = arguments(label_smoothing_factor=0.1)
    for model in (
        make(problem_type="multi_label_classification"),
        make(problem_type="regression"),
        make(BertForPreTraining),
    ):
        with pytest.raises(UsageError, match=r"label_smoothing_factor is 0\.1, and a Bert"):
            Trainer(model, args)
    capsys.readouterr()
    assert Trainer(make(BertForQuestionAnswering), args).label_smoother is None
    assert "its loss stays as it is" in capsys.readouterr().err
    with pytest.raises(UsageError, match="label_smoothing_factor is 1"):
        arguments(label_smoothing_factor=1.0)
