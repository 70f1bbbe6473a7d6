"""The Trainer: the same numbers as a loop written by hand, and what stands around it."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers
from torch import nn

from bertolt import (
    AdamW,
    BertForSequenceClassification,
    BertTokenizer,
    DataCollatorWithPadding,
    PackingCollator,
    Trainer,
    TrainingArguments,
    get_scheduler,
    parameter_groups,
    train_step,
)
from bertolt.base.errors import TrainingError, UsageError
from bertolt.checkpoint.state import read_run_facts
from bertolt.data.sampler import BatchSampler
from bertolt.train.loop import Callback, History
from bertolt.train.step import StepLog
from tests.train.small import STILL, Rows, arguments, untimed


@pytest.fixture
def model(tiny_config: Any) -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(tiny_config(num_labels=3, initializer_range=0.1))


def accuracy(prediction: Any) -> dict[str, float]:
    logits, labels = prediction
    return {"accuracy": float((logits.argmax(-1) == labels).mean())}


def hand_written_losses(model: Any, rows: Rows, args: TrainingArguments) -> list[float]:
    """The loop of `examples/` over `train_step`, with everything spelled out."""
    sampler = BatchSampler(
        num_rows=len(rows),
        batch_size=args.per_device_train_batch_size,
        seed=args.seed,
        strategy=args.train_sampling_strategy,
        lengths=np.array([len(row["input_ids"]) for row in rows]),
    )
    together = args.gradient_accumulation_steps
    total = math.ceil(args.num_train_epochs * math.ceil(sampler.num_batches / together))
    optimizer = AdamW(
        parameter_groups(model, args.weight_decay), lr=args.learning_rate, eps=args.adam_epsilon
    )
    schedule = get_scheduler(args.lr_scheduler_type, optimizer, args.count_warmup(total), total)
    collate = PackingCollator()
    torch.manual_seed(args.seed)
    model.train()
    losses: list[float] = []
    for epoch in range(math.ceil(args.num_train_epochs)):
        batches = [collate([rows[i] for i in numbers]) for numbers in sampler.epoch(epoch)]
        for start in range(0, len(batches), together):
            if len(losses) == total:
                break
            micro = batches[start : start + together]
            log = train_step(model, micro, optimizer, schedule, max_grad_norm=args.max_grad_norm)
            losses.append(log.loss)
    return losses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train_sampling_strategy": "group_by_length", "seed": 3},
        {"train_sampling_strategy": "sequential", "max_grad_norm": 0.0},
        {"gradient_accumulation_steps": 3, "warmup_steps": 0.3},
        {"num_train_epochs": 1.5, "lr_scheduler_type": "cosine", "warmup_steps": 2},
    ],
    ids=str,
)
def test_losses_equal_a_loop_written_by_hand_step_by_step(
    tiny_config: Any, rows: Rows, changes: dict[str, Any]
) -> None:
    def fresh() -> BertForSequenceClassification:
        torch.manual_seed(5)
        return BertForSequenceClassification(tiny_config(num_labels=3))

    args = arguments(**changes)
    trainer = Trainer(fresh(), args, train_dataset=rows)
    result = trainer.train()
    losses = [log.loss for log in trainer.history.steps]
    assert losses == hand_written_losses(fresh(), rows, args)
    assert result.global_step == len(losses)
    assert result.training_loss == pytest.approx(sum(losses) / len(losses))


def test_losses_equal_the_loop_of_the_notes_with_the_peer(
    tiny_config: Any, rows: Rows, padded: Any
) -> None:
    """`loss.backward(); optimizer.step(); lr_scheduler.step()` over padded batches, no dropout."""
    config = tiny_config(num_labels=3, **STILL)
    ours = BertForSequenceClassification(config)
    peer = transformers.BertForSequenceClassification(transformers.BertConfig(**config.to_dict()))
    peer.load_state_dict(ours.state_dict())
    args = arguments(weight_decay=0.0, max_grad_norm=0.0, train_sampling_strategy="sequential")
    trainer = Trainer(ours, args, train_dataset=rows)
    trainer.train()

    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = transformers.get_scheduler("linear", optimizer, 0, 8)
    losses = []
    peer.train()
    for start in [0, 8, 16, 24] * 2:
        part = rows[start : start + 8]
        width = max(len(row["input_ids"]) for row in part)
        ids = torch.tensor(
            [row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in part]
        )
        labels = torch.tensor([row["label"] for row in part])
        loss = peer(input_ids=ids, attention_mask=(ids > 0).long(), labels=labels).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert [log.loss for log in trainer.history.steps] == pytest.approx(losses, abs=1e-5)


def test_it_learns(tiny_folder: Path, tiny_tokenizer: BertTokenizer, reviews: Any) -> None:
    rows = [{**tiny_tokenizer(text), "label": int(label == "pos")} for text, label in reviews]
    model = BertForSequenceClassification.from_pretrained(tiny_folder, verbose=False)
    args = arguments(learning_rate=3e-3, num_train_epochs=10, weight_decay=0.0)
    trainer = Trainer(model, args, train_dataset=rows, compute_metrics=accuracy)
    trainer.train()
    assert trainer.evaluate(rows)["eval_accuracy"] > 0.95


# ---- evaluation and prediction ----


def called_directly(model: Any, rows: Rows) -> np.ndarray:
    model.eval()
    with torch.no_grad():
        return torch.cat([model(torch.tensor([row["input_ids"]])).logits for row in rows]).numpy()


def test_predictions_keep_the_order_and_equal_the_model_called_directly(
    model: Any, rows: Rows
) -> None:
    args = arguments(per_device_eval_batch_size=1)
    output = Trainer(model, args, compute_metrics=accuracy).predict(rows)
    wanted = called_directly(model, rows)
    labels = np.array([row["label"] for row in rows])
    np.testing.assert_allclose(output.predictions, wanted, atol=1e-5)
    assert output.label_ids.tolist() == labels.tolist()
    loss = nn.functional.cross_entropy(torch.tensor(wanted), torch.tensor(labels))
    assert untimed(output.metrics) == {
        "test_loss": pytest.approx(float(loss), abs=1e-5),
        "test_accuracy": pytest.approx((wanted.argmax(-1) == labels).mean()),
    }


def test_evaluation_gives_the_same_numbers_with_and_without_metrics(model: Any, rows: Rows) -> None:
    with_metrics = Trainer(model, arguments(), eval_dataset=rows, compute_metrics=accuracy)
    found = with_metrics.evaluate()
    assert untimed(found).keys() == {"eval_loss", "eval_accuracy"}
    bare = Trainer(model, arguments(), eval_dataset=rows).evaluate(metric_key_prefix="held_out")
    assert untimed(bare) == {"held_out_loss": pytest.approx(found["eval_loss"], abs=1e-6)}


def evaluated_while_training(model: Any, rows: Rows, values: Any, **changes: Any) -> Trainer:
    trainer = Trainer(
        model,
        arguments(**{"max_steps": 1, "eval_strategy": "epoch", "disable_tqdm": False, **changes}),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=lambda prediction: values,
    )
    trainer.train()
    return trainer


def test_metrics_of_every_kind_end_no_run(
    model: Any, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "eval_f1": np.float32(0.5),
        "count": np.int64(3),
        "right": torch.tensor(0.25),
        "confusion": np.eye(2, dtype=np.int64),
        "by class": {"pos": np.float64(0.75), "names": ("a", "b"), 1: None},
        "flag": np.bool_(True),
        "figure": object(),
    }
    changes = {"output_dir": str(tmp_path), "save_strategy": "steps", "save_steps": 1}
    trainer = evaluated_while_training(model, rows, values, **changes)
    _, metrics = trainer.history.evaluations[0]
    loss = metrics.pop("eval_loss")
    assert metrics == {
        "eval_f1": 0.5,
        "eval_count": 3,
        "eval_right": 0.25,
        "eval_confusion": [[1, 0], [0, 1]],
        "eval_by class": {"pos": 0.75, "names": ["a", "b"], "1": None},
        "eval_flag": True,
    }
    said = capsys.readouterr().err
    assert "Caution: compute_metrics gave a object as 'figure', which is left out" in said
    assert f"loss {loss:.4f}  f1 0.5000  count 3.0000  right 0.2500  by class.pos 0.7500" in said
    assert "(no number: confusion, by class.names, by class.1)" in said
    metrics["eval_loss"] = loss
    facts = read_run_facts(trainer.store.path(1))
    assert facts.values["evaluations"] == [[1, metrics]]
    assert trainer.predict(rows).metrics["test_eval_f1"] == 0.5


@pytest.mark.parametrize(
    ("values", "what", "kept"),
    [
        (None, "None", {}),
        ([0.5, np.float64(1)], "a list", {"eval_metrics": [0.5, 1.0]}),
        (np.array([0.5, 1]), "a ndarray", {"eval_metrics": [0.5, 1.0]}),
        (np.float32(0.5), "a float32", {"eval_metrics": 0.5}),
    ],
    ids=str,
)
def test_metrics_without_names_end_no_run(
    model: Any,
    rows: Rows,
    capsys: pytest.CaptureFixture[str],
    values: Any,
    what: str,
    kept: dict[str, Any],
) -> None:
    trainer = evaluated_while_training(model, rows, values)
    _, metrics = trainer.history.evaluations[0]
    assert math.isfinite(metrics.pop("eval_loss"))
    assert metrics == kept
    said = capsys.readouterr().err
    assert f"compute_metrics gave {what}, and not a mapping from names to numbers" in said


def test_the_best_evaluation_is_chosen_by_a_number(model: Any, rows: Rows, tmp_path: Path) -> None:
    changes = {"output_dir": str(tmp_path), "save_strategy": "epoch", "metric_for_best_model": "f1"}
    with pytest.raises(UsageError, match=r"eval_f1 is \[0.5\], and no number") as caught:
        evaluated_while_training(model, rows, {"f1": [0.5]}, load_best_model_at_end=True, **changes)
    assert caught.value.fix == "name a metric that is a number"


def test_rows_without_labels_are_predicted(model: Any, rows: Rows) -> None:
    bare = [{"input_ids": row["input_ids"]} for row in rows]
    output = Trainer(model, arguments(), compute_metrics=accuracy).predict(bare)
    assert output.predictions.shape == (26, 3)
    assert output.label_ids is None
    assert untimed(output.metrics) == {}


def test_an_evaluation_without_labels_says_what_the_rows_lack(
    model: Any, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = [{"input_ids": row["input_ids"], "gold": 1} for row in rows]
    metrics = Trainer(model, arguments(), compute_metrics=accuracy).evaluate(bare)
    assert untimed(metrics) == {}
    said = capsys.readouterr().err
    assert "neither a loss nor a metric, for no row has 'labels'; the first has" in said
    assert "'input_ids', 'gold'" in said
    Trainer(model, arguments()).evaluate(rows)
    assert "neither a loss" not in capsys.readouterr().err


def test_data_sets_that_come_and_go_are_not_mistaken_for_each_other(model: Any, rows: Rows) -> None:
    trainer = Trainer(model, arguments())
    sizes = [5, 10, 3, 20, 7, 26] * 3
    assert [len(trainer.predict(list(rows[:size])).predictions) for size in sizes] == sizes


def test_an_empty_data_set_is_not_replaced_by_another(model: Any, rows: Rows) -> None:
    trainer = Trainer(model, arguments(), eval_dataset=rows)
    with pytest.raises(UsageError, match="has no rows"):
        trainer.evaluate([])


def test_predicting_nothing_is_refused_in_words(model: Any) -> None:
    with pytest.raises(UsageError, match="no rows"):
        Trainer(model, arguments()).predict([])


def test_evaluation_leaves_training_as_it_was(tiny_config: Any, rows: Rows) -> None:
    """Dropout draws go on where they were: evaluating while training changes no loss."""

    def losses(**options: Any) -> list[float]:
        torch.manual_seed(0)
        model = BertForSequenceClassification(tiny_config(num_labels=3))
        trainer = Trainer(model, arguments(**options), train_dataset=rows, eval_dataset=rows)
        trainer.train()
        return [log.loss for log in trainer.history.steps]

    assert losses(eval_strategy="steps", eval_steps=1) == losses()


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"eval_strategy": "epoch"}, [4, 8]),
        ({"eval_strategy": "steps", "eval_steps": 3}, [3, 6, 8]),
        ({"eval_strategy": "no"}, []),
        ({"eval_strategy": "epoch", "max_steps": 5}, [4, 5]),
        ({"eval_strategy": "epoch", "eval_delay": 2}, [8]),
        ({"eval_strategy": "steps", "eval_steps": 3, "eval_delay": 4}, [6, 8]),
        ({"eval_strategy": "epoch", "gradient_accumulation_steps": 4}, [1, 2]),
    ],
    ids=str,
)
def test_evaluations_come_when_they_were_asked_for(
    model: Any, rows: Rows, changes: dict[str, Any], steps: list[int]
) -> None:
    trainer = Trainer(model, arguments(**changes), train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert [step for step, _ in trainer.history.evaluations] == steps


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"logging_steps": 3}, [3, 6]),
        ({"logging_steps": 3, "logging_first_step": True}, [1, 3, 6]),
        ({"logging_strategy": "epoch"}, [4, 8]),
        ({"logging_strategy": "no"}, []),
    ],
    ids=str,
)
def test_entries_of_the_log_come_when_they_were_asked_for(
    model: Any, rows: Rows, changes: dict[str, Any], steps: list[int]
) -> None:
    trainer = Trainer(model, arguments(**changes), train_dataset=rows)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == steps


def test_the_order_of_the_rows_has_a_seed_of_its_own(tiny_config: Any, rows: Rows) -> None:
    def losses(**seeds: int) -> list[float]:
        torch.manual_seed(0)
        model = BertForSequenceClassification(tiny_config(num_labels=3, **STILL))
        trainer = Trainer(model, arguments(max_steps=3, **seeds), train_dataset=rows)
        trainer.train()
        return [log.loss for log in trainer.history.steps]

    assert losses(seed=1, data_seed=5) == losses(seed=5) == losses(seed=2, data_seed=5)
    assert losses(seed=1) != losses(seed=5)


def test_full_determinism_is_torchs_own(model: Any, rows: Rows) -> None:
    try:
        Trainer(model, arguments(max_steps=1, full_determinism=True), train_dataset=rows).train()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


# ---- data and collators ----


@pytest.mark.parametrize("kind", ["packing", "padding", "own, padded", "own, packed"])
def test_every_collator_leads_to_the_same_losses(
    tiny_config: Any, rows: Rows, tiny_tokenizer: BertTokenizer, kind: str
) -> None:
    def own_padded(part: Rows) -> dict[str, torch.Tensor]:
        made = tiny_tokenizer.pad([{"input_ids": row["input_ids"]} for row in part])
        batch = {name: torch.tensor(made[name]) for name in ("input_ids", "attention_mask")}
        return {**batch, "labels": torch.tensor([row["label"] for row in part])}

    collators: dict[str, Callable[[Rows], Any]] = {
        "packing": PackingCollator(),
        "padding": DataCollatorWithPadding(tiny_tokenizer),
        "own, padded": own_padded,
        "own, packed": lambda part: PackingCollator(row_multiple=16)(part),
    }
    config = tiny_config(num_labels=3, **STILL)

    def losses(**options: Any) -> list[float]:
        torch.manual_seed(0)
        trainer = Trainer(
            BertForSequenceClassification(config), arguments(), train_dataset=rows, **options
        )
        trainer.train()
        return [log.loss for log in trainer.history.steps]

    assert losses(data_collator=collators[kind]) == pytest.approx(losses(), abs=1e-5)


def test_rows_may_be_a_data_set_of_the_datasets_library(
    tiny_config: Any, rows: Rows, tiny_tokenizer: BertTokenizer
) -> None:
    table = datasets.Dataset.from_list(
        [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
    )

    def losses(data: Any) -> tuple[list[float], dict[str, float]]:
        torch.manual_seed(0)
        trainer = Trainer(
            BertForSequenceClassification(tiny_config(num_labels=3)),
            arguments(train_sampling_strategy="group_by_length"),
            train_dataset=data,
            processing_class=tiny_tokenizer,
        )
        trainer.train()
        return [log.loss for log in trainer.history.steps], untimed(trainer.evaluate(data))

    assert losses(table) == losses(rows)


@pytest.mark.parametrize(
    ("data", "words"), [(None, "has no train_dataset"), ([], "train_dataset has no rows")]
)
def test_training_needs_rows(model: Any, data: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        Trainer(model, arguments(), train_dataset=data).train()
    assert "Trainer(..., train_dataset=...)" in caught.value.fix


def test_evaluation_needs_rows(model: Any) -> None:
    with pytest.raises(UsageError, match="no eval_dataset"):
        Trainer(model, arguments()).evaluate()


# ---- optimizers, callbacks, ends ----


def test_an_own_optimizer_and_schedule_are_used(model: Any, rows: Rows) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    args = arguments(max_steps=3)
    trainer = Trainer(model, args, train_dataset=rows, optimizers=(optimizer, schedule))
    trainer.train()
    assert trainer.optimizer is optimizer
    assert [log.learning_rate for log in trainer.history.steps] == pytest.approx(
        [0.5, 0.25, 0.5 / 3]
    )


def test_the_settings_of_adam_are_those_of_the_arguments(model: Any, rows: Rows) -> None:
    args = arguments(max_steps=1, adam_beta1=0.8, adam_beta2=0.9, adam_epsilon=1e-3)
    trainer = Trainer(model, args, train_dataset=rows)
    trainer.train()
    decayed, spared = trainer.optimizer.param_groups
    assert decayed["betas"] == (0.8, 0.9)
    assert decayed["eps"] == 1e-3
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)


def test_training_again_starts_a_new_schedule(model: Any, rows: Rows) -> None:
    trainer = Trainer(model, arguments(max_steps=3), train_dataset=rows)
    trainer.train()
    first = [log.learning_rate for log in trainer.history.steps]
    trainer.train()
    assert [log.learning_rate for log in trainer.history.steps] == first


class Watcher(Callback):
    def __init__(self, act: Callable[[StepLog], None]) -> None:
        self.act = act
        self.ends = 0

    def on_step(self, log: StepLog, total_steps: int) -> None:
        self.act(log)

    def on_end(self, history: History) -> None:
        self.ends += 1


def test_ctrl_c_stops_after_the_step_and_leaves_a_usable_model(model: Any, rows: Rows) -> None:
    def interrupt(log: StepLog) -> None:
        if log.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    watcher = Watcher(interrupt)
    trainer = Trainer(
        model,
        arguments(eval_strategy="steps", eval_steps=1),
        train_dataset=rows,
        eval_dataset=rows,
        callbacks=[watcher],
    )
    result = trainer.train()
    assert trainer.history.interrupted
    assert result.global_step == 2
    assert watcher.ends == 1
    assert math.isfinite(trainer.evaluate()["eval_loss"])


def test_ctrl_c_in_the_last_step_is_told_too(model: Any, rows: Rows) -> None:
    watcher = Watcher(lambda log: os.kill(os.getpid(), signal.SIGINT) if log.step == 3 else None)
    trainer = Trainer(model, arguments(max_steps=3), train_dataset=rows, callbacks=[watcher])
    assert trainer.train().global_step == 3
    assert trainer.history.interrupted


def test_callbacks_are_told_of_the_end_when_one_of_them_fails(model: Any, rows: Rows) -> None:
    def fail(log: StepLog) -> None:
        raise RuntimeError("mine")

    watcher = Watcher(fail)
    with pytest.raises(RuntimeError, match="mine"):
        Trainer(model, arguments(), train_dataset=rows, callbacks=[watcher]).train()
    assert watcher.ends == 1


def test_an_attention_backend_that_was_asked_for_stays(model: Any) -> None:
    asked = copy.deepcopy(model)
    asked.set_attention_backend("reference")
    assert Trainer(asked, arguments()).model.attention_backend.name == "reference"
    assert Trainer(model, arguments()).model.attention_backend.name != "reference"


def test_evaluating_while_training_needs_rows_before_the_first_step(model: Any, rows: Rows) -> None:
    trainer = Trainer(model, arguments(eval_strategy="epoch"), train_dataset=rows)
    with pytest.raises(UsageError, match="no eval_dataset"):
        trainer.train()


@pytest.mark.parametrize("name", ["reduce_lr_on_plateau", "greedy"])
def test_a_schedule_that_needs_a_measure_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="lr_scheduler_type"):
        arguments(lr_scheduler_type=name)


def test_a_run_of_warmup_alone_is_said_to_change_nothing(
    model: Any, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the peer, warmup begins at a rate of 0."""
    before = copy.deepcopy(model.state_dict())
    for steps in (1, 2):
        args = arguments(max_steps=steps, warmup_steps=1, learning_rate=1.0)
        trainer = Trainer(model, args, train_dataset=rows)
        trainer.train()
        changed = any(
            not torch.equal(value, before[key]) for key, value in model.state_dict().items()
        )
        assert changed == (steps == 2)
        said = capsys.readouterr().err
        assert ("Caution: no step had a learning rate above 0" in said) == (steps == 1)


def test_a_loss_that_is_not_finite_is_an_error_and_no_update(model: Any, rows: Rows) -> None:
    kept: dict[str, torch.Tensor] = {}

    def spoil(log: StepLog) -> None:
        if log.step == 3:
            with torch.no_grad():
                model.classifier.bias[0] = float("inf")
            kept.update({key: value.clone() for key, value in model.state_dict().items()})

    trainer = Trainer(model, arguments(), train_dataset=rows, callbacks=[Watcher(spoil)])
    with pytest.raises(TrainingError, match="step 4"):
        trainer.train()
    assert len(trainer.history.steps) == 3
    assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())


def test_progress_is_told_in_plain_lines_where_there_is_no_terminal(
    model: Any, rows: Rows, capsys: pytest.CaptureFixture[str]
) -> None:
    args = arguments(disable_tqdm=False, eval_strategy="epoch")
    Trainer(model, args, train_dataset=rows, eval_dataset=rows).train()
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 1/8" in err
    assert "step 8/8" in err
    assert "texts/s" in err
    assert "evaluated at step 4:  loss" in err
    Trainer(model, arguments(), train_dataset=rows).train()
    assert capsys.readouterr() == ("", "")


def test_saving_writes_model_tokenizer_and_arguments(
    model: Any, rows: Rows, tiny_tokenizer: BertTokenizer, tmp_path: Path
) -> None:
    args = arguments(output_dir=str(tmp_path / "usual"), seed=7)
    trainer = Trainer(model, args, processing_class=tiny_tokenizer)
    trainer.save_model()
    trainer.save_model(tmp_path / "other")
    for folder in (tmp_path / "usual", tmp_path / "other"):
        again = BertForSequenceClassification.from_pretrained(folder, verbose=False, strict=True)
        np.testing.assert_array_equal(called_directly(again, rows), called_directly(model, rows))
        text = "a good film"
        assert BertTokenizer.from_pretrained(folder)(text) == tiny_tokenizer(text)
        assert json.loads((folder / "training_args.json").read_text())["seed"] == 7


def test_the_choices_made_are_told(model: Any) -> None:
    trainer = Trainer(model, arguments())
    assert trainer.precision.name == "fp32"
    assert trainer.model.attention_backend.reason
    assert trainer.device.type in ("cpu", "cuda")


def test_each_evaluation_sees_the_weights_of_its_step(
    model: BertForSequenceClassification, rows: Rows
) -> None:
    """Layers that were made ready for the first evaluation are of no use in the second."""
    args = arguments(eval_strategy="epoch")
    trainer = Trainer(model, args, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    fresh = Trainer(copy.deepcopy(model), args, eval_dataset=rows)
    assert len(trainer.history.evaluations) == 2
    assert trainer.history.evaluations[-1][1] == untimed(fresh.evaluate())


def test_a_metric_that_holds_itself_ends_no_run(model: Any, rows: Rows, capsys: Any) -> None:
    values: dict[str, Any] = {"f1": np.float32(0.5)}
    values["again"] = values
    trainer = Trainer(model, arguments(), compute_metrics=lambda prediction: values)
    metrics = trainer.predict(rows).metrics
    assert metrics["test_f1"] == 0.5
    assert "test_again" not in metrics
    assert "nested too deeply as 'again', which is left out" in capsys.readouterr().err


def test_a_tokenizer_that_the_collator_has_is_saved_too(
    tiny_config: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    collator = DataCollatorWithPadding(tiny_tokenizer)
    model = BertForSequenceClassification(tiny_config())
    trainer = Trainer(model, TrainingArguments(str(tmp_path)), data_collator=collator)
    trainer.save_model()
    assert BertTokenizer.from_pretrained(tmp_path).get_vocab() == tiny_tokenizer.get_vocab()
