"""Subclasses of the Trainer: what they define is called as by the peer, or refused by name."""

from __future__ import annotations

import inspect
import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from bertolt import (
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    Trainer,
)
from bertolt.base.errors import KeywordError, UsageError
from bertolt.base.randomness import set_seed
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.train.overrides import CALLED, PEER_METHODS, REPLACED_METHODS
from tests.train.small import STILL, Rows, arguments, untimed

WEIGHTS = torch.tensor([0.2, 1.0, 3.0])
# Batches of 3 rows, 5 to a step: the last step of an epoch has three of 3 rows and one of 2.
UNEVEN = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 5}


@pytest.fixture
def make(tiny_config: Any) -> Any:
    """The same model whenever it is asked for, without dropout."""

    def fresh(kind: type = BertForSequenceClassification) -> Any:
        torch.manual_seed(0)
        return kind(tiny_config(num_labels=3, initializer_range=0.1, **STILL))

    return fresh


def losses(trainer: Trainer) -> list[float]:
    trainer.train()
    return [log.loss for log in trainer.history.steps]


class Mean(Trainer):
    """As in the notes: a mean over the batch, with a weight for each class."""

    weights: torch.Tensor | None = None

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False) -> Any:  # type: ignore[override]
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = F.cross_entropy(outputs.logits.view(-1, 3), labels.view(-1), weight=self.weights)
        return (loss, outputs) if return_outputs else loss


class Either(Trainer):
    """As newer notes have it: divided by the labels of the step where they are given."""

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Any:
        labels = inputs.pop("labels")
        how = "mean" if num_items_in_batch is None else "sum"
        loss = F.cross_entropy(model(**inputs).logits.view(-1, 3), labels.view(-1), reduction=how)
        return loss if num_items_in_batch is None else loss / num_items_in_batch


class Scaled(Either):
    loss_is_scaled_for_ga = True


class Super(Trainer):
    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
        return super().compute_loss(model, inputs, *given, **named)


def by_items(outputs: Any, labels: Any, num_items_in_batch: int | None = None) -> torch.Tensor:
    logits = outputs.logits.view(-1, 3)
    if num_items_in_batch is None:
        return F.cross_entropy(logits, labels.view(-1))
    return F.cross_entropy(logits, labels.view(-1), reduction="sum") / num_items_in_batch


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("kind", [Mean, Either, Scaled, Super, "function"])
def test_a_loss_of_ones_own_is_exact_over_batches_that_differ(
    make: Any, rows: Rows, kind: Any, per_token: bool
) -> None:
    """What is the model's own loss gives its losses, whichever way it is written."""
    head = BertForTokenClassification if per_token else BertForSequenceClassification
    if per_token:
        rows = [
            {"input_ids": row["input_ids"], "labels": [IGNORE_INDEX if i % 4 == 3 else i % 3
                                                       for i in row["input_ids"]]}
            for row in rows
        ]  # fmt: skip
    usual = Trainer(make(head), arguments(**UNEVEN), train_dataset=rows, eval_dataset=rows)
    own: dict[str, Any] = {"compute_loss_func": by_items} if kind == "function" else {}
    trainer = (Trainer if own else kind)(
        make(head), arguments(**UNEVEN), train_dataset=rows, eval_dataset=rows, **own
    )
    assert losses(trainer) == pytest.approx(losses(usual), abs=1e-5)
    for name, value in trainer.model.state_dict().items():
        # Where a gradient is nearly 0, rounding alone decides a part of Adam's step of up to 1e-3.
        torch.testing.assert_close(value, usual.model.state_dict()[name], atol=5e-5, rtol=0)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(usual.evaluate()["eval_loss"], abs=1e-5)


def test_another_loss_is_learned_from_and_measured(make: Any, rows: Rows) -> None:
    """The loss of the peer's Trainer with the same class, step by step."""

    class Weighted(Mean):
        weights = WEIGHTS

    args = arguments(
        train_sampling_strategy="sequential", weight_decay=0.0, max_grad_norm=0.0, max_steps=4
    )
    model = make()
    peer = transformers.BertForSequenceClassification(
        transformers.BertConfig(**model.config.to_dict())
    )
    peer.load_state_dict(model.state_dict())
    trainer = Weighted(model, args, train_dataset=rows, eval_dataset=rows[:8])
    found = losses(trainer)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = transformers.get_scheduler("linear", optimizer, 0, 4)
    expected = []

    def loss_of(part: Rows) -> torch.Tensor:
        width = max(len(row["input_ids"]) for row in part)
        ids = [row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in part]
        inputs = {
            "input_ids": torch.tensor(ids),
            "attention_mask": torch.tensor(ids).gt(0).long(),
            "labels": torch.tensor([row["label"] for row in part]),
        }
        loss: torch.Tensor = Mean.compute_loss(trainer, peer, inputs)
        return loss

    for start in (0, 8, 16, 24):
        loss = loss_of(rows[start : start + 8])
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert found == pytest.approx(expected, abs=1e-5)
    with torch.no_grad():
        loss = loss_of(rows[:8])
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert trainer.predict(rows[:8]).metrics["test_loss"] == metrics["eval_loss"]


@pytest.mark.parametrize("kind", [Mean, Scaled, "a forward of its own"])
def test_batches_without_a_label_add_nothing(make: Any, rows: Rows, kind: Any) -> None:
    """Whose mean is not a number."""
    rows = rows[:6]
    ignored = [{**row, "label": IGNORE_INDEX} for row in rows]
    args = arguments(
        train_sampling_strategy="sequential",
        per_device_train_batch_size=3,
        gradient_accumulation_steps=4,
        max_steps=2,
    )
    own = isinstance(kind, str)
    model = make(PlainModel) if own else make()
    both = (Trainer if own else kind)(model, args, train_dataset=rows + ignored)
    alone = Trainer(make(), args, train_dataset=rows)
    assert losses(both) == pytest.approx(losses(alone), abs=1e-5)
    loss = alone.evaluate(rows)["eval_loss"]
    # An evaluation batch for each row, since rows of very different lengths come first.
    both.args.per_device_eval_batch_size = 1
    assert both.evaluate(ignored + rows)["eval_loss"] == pytest.approx(loss, abs=1e-4)


@pytest.mark.parametrize("loss", [1.0, torch.ones(3), None])
def test_what_is_no_loss_is_refused(make: Any, rows: Rows, loss: Any) -> None:
    trainer = Trainer(
        make(), arguments(), train_dataset=rows, compute_loss_func=lambda *_, **__: loss
    )
    with pytest.raises(UsageError, match="the loss is a ") as caught:
        trainer.train()
    assert "a tensor of one number" in caught.value.fix


@pytest.mark.parametrize(
    "kind",
    [
        BertForSequenceClassification,
        BertForTokenClassification,
        BertForMultipleChoice,
        BertForQuestionAnswering,
    ],
)
def test_a_padded_batch_gives_the_loss_of_the_packed_one(make: Any, kind: type) -> None:
    draw = np.random.default_rng(0)
    ids = [draw.integers(5, 97, length).tolist() for length in (7, 2, 11, 4)]
    targets: dict[str, Any] = {"labels": torch.tensor([0, 2, 1, 0])}
    if kind is BertForTokenClassification:
        targets = {"token_labels": [[i % 3 for i in row] for row in ids]}
    if kind is BertForMultipleChoice:
        targets = {"labels": torch.tensor([0, 1]), "num_choices": 2}
    if kind is BertForQuestionAnswering:
        places = torch.tensor([1, 0, IGNORE_INDEX, 3])
        targets = {"start_positions": places, "end_positions": places}
    types = [[int(2 * place > len(row)) for place in range(len(row))] for row in ids]
    batch = PackedBatch.from_sequences(ids, types, **targets)
    model = make(kind).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch.padded()).loss, model(batch).loss)


# ---- optimizers, schedules, logs ----


@pytest.mark.parametrize("returns", [True, False])
def test_an_optimizer_and_a_schedule_of_a_subclass_are_used(
    make: Any, rows: Rows, returns: bool
) -> None:
    class Own(Trainer):
        def create_optimizer(self) -> Any:
            optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
            if returns:
                return optimizer
            self.optimizer = optimizer
            return None

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            assert (num_training_steps, optimizer) == (3, self.optimizer)
            return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    trainer = Own(make(), arguments(max_steps=3), train_dataset=rows)
    for _ in range(2):  # each `train` starts afresh
        trainer.train()
        assert type(trainer.optimizer) is torch.optim.SGD
        rates = [log.learning_rate for log in trainer.history.steps]
        assert rates == pytest.approx([0.5, 0.25, 0.5 / 3])


def test_a_subclass_that_makes_no_optimizer_is_told(make: Any, rows: Rows) -> None:
    class Empty(Trainer):
        def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
            pass

    with pytest.raises(UsageError, match="create_optimizer made no optimizer"):
        Empty(make(), arguments(), train_dataset=rows).train()


def test_a_log_of_a_subclass_gets_the_numbers(make: Any, rows: Rows) -> None:
    logs: list[dict[str, float]] = []

    class Logging(Trainer):
        def log(self, values: dict[str, float], start_time: float | None = None) -> None:
            logs.append(values)

    args = arguments(logging_steps=3, eval_strategy="epoch")
    trainer = Logging(make(), args, train_dataset=rows, eval_dataset=rows)
    made = losses(trainer)
    evaluations = [metrics for _, metrics in trainer.history.evaluations]
    assert [entry["epoch"] for entry in logs] == [0.75, 1.0, 1.5, 2.0, 2.0]
    assert logs[-1]["train_loss"] == pytest.approx(sum(made) / 8)
    assert logs[0]["loss"] == pytest.approx(sum(made[:3]) / 3)
    assert logs[2]["loss"] == pytest.approx(sum(made[3:6]) / 3)
    assert logs[2]["learning_rate"] == trainer.history.steps[5].learning_rate
    assert [logs[1]["eval_loss"], logs[3]["eval_loss"]] == [m["eval_loss"] for m in evaluations]


# ---- what is refused ----


def test_what_no_run_would_call_is_refused_when_the_object_is_made(make: Any) -> None:
    for name in sorted(PEER_METHODS | REPLACED_METHODS.keys()):
        if hasattr(Trainer, name):
            continue
        kind = type("Own", (Trainer,), {name: lambda self, *given: None})
        with pytest.raises(UsageError, match=f"{name} is defined") as caught:
            kind(make(), arguments())
        assert caught.value.place == "Own"
        assert REPLACED_METHODS.get(name, "leave it out") in caught.value.fix


def test_every_method_of_the_peer_is_known_by_name() -> None:
    """One that the peer gains is called here, or refused."""
    names = {name for name in dir(transformers.Trainer) if not name.startswith("__")}
    assert names == PEER_METHODS
    assert REPLACED_METHODS.keys() - names == {"prediction_loop"}  # of older versions


def test_what_may_be_defined_is_the_peers(make: Any) -> None:
    for name in CALLED:
        assert hasattr(Trainer, name)
        assert hasattr(transformers.Trainer, name)


# ---- arguments of the peer ----


def test_every_argument_of_the_peer_is_one_here_in_the_same_place() -> None:
    ours = list(inspect.signature(Trainer).parameters)
    theirs = list(inspect.signature(transformers.Trainer).parameters)
    assert ours[: len(theirs)] == theirs


def test_names_that_the_trainer_does_not_take_are_told_at_once(make: Any) -> None:
    class Own(Trainer):
        def __init__(self, *given: Any, mine: int = 0, **named: Any) -> None:
            super().__init__(*given, **named)

    with pytest.raises(TypeError) as caught:
        Trainer(modl=make())  # type: ignore[call-arg]
    assert isinstance(caught.value, UsageError)
    assert str(caught.value) == "Trainer has no argument 'modl'\n  fix: use model"
    with pytest.raises(KeywordError) as caught:
        Own(make(), mine=1, evaldataset=[], train_data=[])
    assert caught.value.problem == "Own cannot take 2 of its arguments: evaldataset, train_data"
    assert caught.value.fix.split()[1:3] == ["use", "eval_dataset"]


@pytest.mark.parametrize("takes_trial", [False, True])
def test_a_model_is_made_anew_for_each_run(make: Any, rows: Rows, takes_trial: bool) -> None:
    config = make().config
    trials: list[None] = []

    def with_trial(trial: None) -> Any:
        trials.append(trial)
        return BertForSequenceClassification(config)

    usual = losses(Trainer(_seeded(config), arguments(), train_dataset=rows))
    init = with_trial if takes_trial else lambda: BertForSequenceClassification(config)
    trainer = Trainer(None, arguments(), train_dataset=rows, model_init=init)
    before = trainer.model
    for _ in range(2):
        assert losses(trainer) == usual
    assert trainer.model is not before
    assert trials == ([None] * 3 if takes_trial else [])
    assert trainer.evaluate(rows)["eval_loss"] < usual[0]


def _seeded(config: Any) -> Any:
    set_seed(arguments().seed)
    return BertForSequenceClassification(config)


def test_a_run_with_a_model_that_is_made_goes_on(make: Any, rows: Rows, tmp_path: Any) -> None:
    """From its checkpoint, and not from the new weights."""
    config = make().config
    args = arguments(output_dir=str(tmp_path), save_strategy="steps", save_steps=3, max_steps=6)

    def trainer() -> Trainer:
        init = lambda: BertForSequenceClassification(config)  # noqa: E731
        return Trainer(None, args, train_dataset=rows, model_init=init)

    whole = losses(trainer())
    shutil.rmtree(tmp_path / "checkpoint-6")
    again = trainer()
    again.train(resume_from_checkpoint=True)
    assert [log.loss for log in again.history.steps] == whole


def test_a_class_of_optimizers_is_used(make: Any, rows: Rows) -> None:
    chosen = (torch.optim.SGD, {"lr": 0.5, "momentum": 0.9})
    args = arguments(max_steps=3, lr_scheduler_type="constant")
    trainer = Trainer(make(), args, train_dataset=rows, optimizer_cls_and_kwargs=chosen)
    trainer.train()
    assert type(trainer.optimizer) is torch.optim.SGD
    assert [log.learning_rate for log in trainer.history.steps] == [0.5] * 3
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.0, 0.01}


def test_arguments_that_exclude_each_other_are_refused(make: Any) -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for given, words in (
        ({}, "no model"),
        ({"model": model, "model_init": make}, "both model and model_init"),
        ({"model_init": make, "optimizers": (optimizer, None)}, "optimizers and model_init"),
        (
            {
                "model": model,
                "optimizers": (optimizer, None),
                "optimizer_cls_and_kwargs": (torch.optim.SGD, {}),
            },
            "both optimizers and optimizer_cls_and_kwargs",
        ),
        ({"model_init": lambda one, two: model}, "takes 2 arguments"),
        ({"model_init": lambda: None}, "Trainer got a NoneType"),
    ):
        with pytest.raises(UsageError, match=words):
            Trainer(**given)


@pytest.mark.parametrize("per_token", [False, True])
def test_logits_are_made_less_before_they_are_kept(make: Any, rows: Rows, per_token: bool) -> None:
    """Batch by batch: what `compute_metrics` gets is what it could have made of all logits."""
    head = BertForTokenClassification if per_token else BertForSequenceClassification
    if per_token:
        rows = [
            {"input_ids": row["input_ids"], "labels": [i % 3 for i in row["input_ids"]]}
            for row in rows
        ]
    rows = rows * 3
    batches: list[int] = []
    seen: list[Any] = []

    def best(logits: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        assert labels is not None
        assert labels.shape == logits.shape[: labels.dim()]
        batches.append(len(logits))
        return logits.argmax(dim=-1)

    def metrics(prediction: Any) -> dict[str, float]:
        seen.append(prediction)
        return {"right": float((prediction.predictions == prediction.label_ids).mean())}

    model = make(head)
    whole = Trainer(model, arguments()).predict(rows)
    args = arguments(per_device_eval_batch_size=1)
    trainer = Trainer(
        model, args, eval_dataset=rows, compute_metrics=metrics, preprocess_logits_for_metrics=best
    )
    scores = trainer.evaluate()
    inside = whole.label_ids != IGNORE_INDEX
    found, wanted = seen[0].predictions, whole.predictions.argmax(axis=-1)
    np.testing.assert_array_equal(seen[0].label_ids, whole.label_ids)
    np.testing.assert_array_equal(found[inside], wanted[inside])
    assert (found[~inside] == IGNORE_INDEX).all()
    assert sum(batches) == len(rows)
    assert len(batches) > 1
    assert set(untimed(scores)) == {"eval_loss", "eval_right"}
    np.testing.assert_array_equal(trainer.predict(rows).predictions, found)


@pytest.mark.parametrize("result", [None, torch.ones(1, 3), torch.ones(()), (torch.ones(26, 3),)])
def test_logits_that_lost_their_rows_are_refused(make: Any, rows: Rows, result: Any) -> None:
    trainer = Trainer(make(), arguments(), preprocess_logits_for_metrics=lambda *_: result)
    with pytest.raises(UsageError, match="preprocess_logits_for_metrics gave") as caught:
        trainer.predict(rows)
    assert "return one tensor that begins with" in caught.value.fix
    ends = Trainer(
        make(BertForQuestionAnswering), arguments(), preprocess_logits_for_metrics=lambda *_: result
    )
    with pytest.raises(UsageError, match="logits of two ends"):
        ends.predict(rows)


# ---- a model with a forward of its own ----


class WeightedModel(BertForSequenceClassification):
    """As in the notes: a loss with a weight for each class, in the model itself."""

    kind: str = "output"

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None,
                **others: Any) -> Any:  # fmt: skip
        outputs = super().forward(input_ids, attention_mask=attention_mask, **others)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(outputs.logits.view(-1, 3), labels.view(-1), weight=WEIGHTS)
        if self.kind == "mapping":
            return {"loss": loss, "logits": outputs.logits}
        if self.kind == "tuple":
            return outputs.logits if loss is None else (loss, outputs.logits)
        return SimpleNamespace(loss=loss, logits=outputs.logits)


class PlainModel(BertForSequenceClassification):
    """Takes tensors alone, and has the loss that the head has."""

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any,
                labels: Any = None) -> Any:  # fmt: skip
        return super().forward(input_ids, attention_mask, token_type_ids, labels=labels)


@pytest.mark.parametrize("kind", ["output", "mapping", "tuple"])
def test_a_forward_of_ones_own_is_called(make: Any, rows: Rows, kind: str) -> None:
    class Weighted(Mean):
        weights = WEIGHTS

    class Own(WeightedModel):
        pass

    Own.kind = kind

    def run(model: Any, trainer: type[Trainer], **options: Any) -> tuple[Any, ...]:
        made = trainer(model, arguments(**options), train_dataset=rows, eval_dataset=rows)
        return losses(made), made.evaluate()["eval_loss"], made.predict(rows).predictions

    for options in ({}, UNEVEN):
        ours = run(make(Own), Trainer, **options)
        wanted = run(make(), Weighted, **options)
        assert ours[0] == pytest.approx(wanted[0], abs=1e-5)
        assert ours[1] == pytest.approx(wanted[1], abs=1e-5)
        np.testing.assert_allclose(ours[2], wanted[2], atol=1e-4)


def test_a_forward_of_ones_own_for_tokens(make: Any, rows: Rows) -> None:
    class Own(BertForTokenClassification):
        def forward(self, *inputs: Any, **named: Any) -> Any:
            return super().forward(*inputs, **named)

    tagged = [
        {"input_ids": row["input_ids"], "labels": [i % 3 for i in row["input_ids"]]} for row in rows
    ]

    def run(model: Any) -> tuple[Any, ...]:
        made = Trainer(model, arguments(**UNEVEN), train_dataset=tagged, eval_dataset=tagged)
        return losses(made), made.evaluate()["eval_loss"], made.predict(tagged)

    ours, wanted = run(make(Own)), run(make(BertForTokenClassification))
    assert ours[0] == pytest.approx(wanted[0], abs=1e-5)
    assert ours[1] == pytest.approx(wanted[1], abs=1e-5)
    np.testing.assert_allclose(ours[2].predictions, wanted[2].predictions, atol=1e-4)
    np.testing.assert_array_equal(ours[2].label_ids, wanted[2].label_ids)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [({"logits": 1}, "without a loss"), ((), "without a loss"), ({"loss": None}, "without a loss")],
)
def test_a_forward_without_a_loss_is_refused(
    make: Any, rows: Rows, outputs: Any, words: str
) -> None:
    class Own(BertForSequenceClassification):
        def forward(self, input_ids: Any, **named: Any) -> Any:
            return outputs

    with pytest.raises(UsageError, match=words):
        Trainer(make(Own), arguments(), train_dataset=rows).train()


@pytest.mark.parametrize("name", ["_train", "_run", "_parts", "_tell_evaluated"])
def test_what_the_trainer_works_by_is_not_replaced(make: Any, name: str) -> None:
    own = type("Own", (Trainer,), {name: lambda self: None})
    with pytest.raises(UsageError, match=f"Own: {name} is defined, and it is what Trainer"):
        own(make())
