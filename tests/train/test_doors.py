"""Loaders and steps of a subclass, and modules of one's own: called, and as exact as the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from bertolt import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DataCollatorWithPadding,
    PackingCollator,
    Trainer,
)
from bertolt.base.errors import CheckpointError, DataError, UsageError
from bertolt.models.families.roberta import RobertaConfig
from bertolt.train.loop import Callback
from tests.train.small import STILL, Rows, arguments, untimed

UNEVEN = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 5}


@pytest.fixture
def make(tiny_config: Any) -> Any:
    def fresh(kind: Any = BertForSequenceClassification, **changes: Any) -> Any:
        torch.manual_seed(0)
        return kind(tiny_config(num_labels=3, initializer_range=0.1, **(STILL | changes)))

    return fresh


def losses(trainer: Trainer) -> list[float]:
    trainer.train()
    return [log.loss for log in trainer.history.steps]


def padded(rows: Rows) -> dict[str, torch.Tensor]:
    return PackingCollator()(rows).padded()


# ---- loaders ----


def test_a_loader_gives_padded_batches_as_the_peers(
    make: Any, rows: Rows, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    trainer = Trainer(make(), arguments(), train_dataset=rows, eval_dataset={"a": rows[:9]})
    batches = list(trainer.get_train_dataloader())
    assert [len(batch["labels"]) for batch in batches] == [8, 8, 8, 2]
    assert sum(int(batch["attention_mask"].sum()) for batch in batches) == sum(
        len(row["input_ids"]) for row in rows
    )
    peer = transformers.Trainer(
        nn.Linear(1, 1),
        transformers.TrainingArguments(str(tmp_path), use_cpu=True, report_to="none"),
        transformers.DataCollatorWithPadding(
            transformers.BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1})
        ),
        eval_dataset=rows,
    )
    peer.args.remove_unused_columns = False
    for ours, theirs in zip(
        trainer.get_test_dataloader(rows), peer.get_eval_dataloader(), strict=True
    ):
        for name in ("input_ids", "attention_mask", "labels"):
            torch.testing.assert_close(ours[name], theirs[name])
    assert [len(batch["labels"]) for batch in trainer.get_eval_dataloader("a")] == [8, 1]
    with pytest.raises(UsageError, match="the eval_dataset has no 'b'"):
        trainer.get_eval_dataloader("b")
    with pytest.raises(UsageError, match="the test_dataset has no rows"):
        trainer.get_test_dataloader([])


class Loading(Trainer):
    """Its loaders are the base's, so that a run by them is the usual one."""

    def get_train_dataloader(self) -> Any:
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        return super().get_test_dataloader(test_dataset)


class Stepping(Trainer):
    """Its steps are the base's."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        return super().training_step(model, inputs, num_items_in_batch)

    def prediction_step(self, *given: Any, **named: Any) -> Any:
        return super().prediction_step(*given, **named)


class ByHand(Trainer):
    """As in the notes: the passes of a step written out."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        model.train()
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs)
        loss = loss / self.args.gradient_accumulation_steps
        self.accelerator.backward(loss)
        return loss.detach()


@pytest.mark.parametrize("strategy", ["random", "sequential", "group_by_length"])
@pytest.mark.parametrize("kind", [Loading, Stepping])
def test_a_run_by_loaders_and_steps_is_the_usual_run(
    make: Any, rows: Rows, kind: type[Trainer], strategy: str
) -> None:
    args = arguments(train_sampling_strategy=strategy, label_smoothing_factor=0.1, **UNEVEN)
    usual = Trainer(make(), args, train_dataset=rows, eval_dataset=rows)
    own = kind(make(), args, train_dataset=rows, eval_dataset=rows)
    assert losses(own) == pytest.approx(losses(usual), abs=1e-5)
    assert untimed(own.evaluate()) == pytest.approx(untimed(usual.evaluate()), abs=1e-5)
    ours, wanted = own.predict(rows), usual.predict(rows)
    np.testing.assert_allclose(ours.predictions, wanted.predictions, atol=1e-4)
    np.testing.assert_array_equal(ours.label_ids, wanted.label_ids)


def test_steps_written_by_hand_are_called(make: Any, rows: Rows) -> None:
    args = arguments(per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=3)
    found = losses(ByHand(make(), args, train_dataset=rows))
    assert found == pytest.approx(losses(Trainer(make(), args, train_dataset=rows)), abs=1e-5)


@pytest.mark.parametrize("head", [BertForTokenClassification, BertForQuestionAnswering])
def test_predictions_by_steps_come_row_by_row(make: Any, rows: Rows, head: Any) -> None:
    if head is BertForTokenClassification:
        rows = [{**row, "label": [i % 3 for i in row["input_ids"]]} for row in rows]
        collate: Any = PackingCollator(token_labels=True)
    else:
        ends = [len(row["input_ids"]) - 1 for row in rows]
        rows = [
            {"input_ids": row["input_ids"], "start_positions": 0, "end_positions": end}
            for row, end in zip(rows, ends, strict=True)
        ]
        collate = None
    model = make(head)
    usual = Trainer(model, arguments(), collate).predict(rows)
    own = Stepping(model, arguments(), collate).predict(rows)
    assert own.metrics["test_loss"] == pytest.approx(usual.metrics["test_loss"], abs=1e-5)
    for ours, theirs in (
        zip(own.predictions, usual.predictions, strict=True)
        if head is BertForQuestionAnswering
        else [(own.predictions, usual.predictions)]
    ):
        inside = np.asarray(theirs) > np.finfo(np.float32).min
        if head is BertForTokenClassification:
            inside = usual.label_ids != -100
        np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-4)
    np.testing.assert_array_equal(own.label_ids, usual.label_ids)


class Shuffled(Trainer):
    """As in the notes: torch's own loader and sampler, and draws of the rows."""

    def get_train_dataloader(self) -> Any:
        rows: Any = self.train_dataset
        order = RandomSampler(rows, replacement=True, num_samples=20)

        def collate(part: Rows) -> Any:
            drawn = [{**row, "input_ids": [int(torch.randint(5, 97, ())), *row["input_ids"]]}
                     for row in part]  # fmt: skip
            return padded(drawn)

        return DataLoader(rows, batch_size=4, sampler=order, collate_fn=collate)


class Killed(Exception):
    pass


class At(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, log: Any, total_steps: int) -> None:
        if log.step == self.step:
            raise Killed


@pytest.mark.parametrize("kind", [Shuffled, Stepping])
@pytest.mark.parametrize("killed_at", [3, 5, 8])
def test_a_run_by_a_loader_goes_on_to_the_same_bits(
    make: Any, rows: Rows, tmp_path: Path, kind: type[Trainer], killed_at: int
) -> None:
    """With dropout, which draws from the generators that a loader draws from elsewhere."""

    def run(folder: str, **options: Any) -> Trainer:
        args = arguments(
            output_dir=str(tmp_path / folder), save_strategy="steps", save_steps=2, max_steps=9,
            gradient_accumulation_steps=2, eval_strategy="steps", eval_steps=3,
        )  # fmt: skip
        model = make(hidden_dropout_prob=0.1)
        return kind(model, args, train_dataset=rows, eval_dataset=rows[:5], **options)

    whole = run("a")
    wanted = losses(whole)
    with pytest.raises(Killed):
        run("b", callbacks=[At(killed_at)]).train()
    again = run("b")
    again.train(resume_from_checkpoint=True)
    assert [log.loss for log in again.history.steps] == wanted
    assert again.history.evaluations == whole.history.evaluations
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, whole.model.state_dict()[name]), name


def test_the_order_of_a_loader_is_that_of_the_seed(make: Any, rows: Rows) -> None:
    def run(seed: int, **seeds: Any) -> list[float]:
        torch.manual_seed(int(seeds.pop("before", 0)))
        model = make()
        torch.manual_seed(7)
        return losses(Shuffled(model, arguments(seed=seed, max_steps=8, **seeds), None, rows))

    assert run(1) == run(1, before=3) == run(2, data_seed=1)
    assert run(1) != run(2)


def test_a_sampler_of_a_subclass_gives_the_order(make: Any, rows: Rows) -> None:
    class Backwards(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return list(reversed(range(len(rows))))

    args = arguments(train_sampling_strategy="sequential")
    found = losses(Backwards(make(), args, train_dataset=rows))
    assert found == pytest.approx(losses(Trainer(make(), args, train_dataset=rows[::-1])), abs=1e-5)


class Endless(IterableDataset[Any]):
    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return iter(self.rows)


def test_a_loader_of_a_stream(make: Any, rows: Rows) -> None:
    class Streaming(Trainer):
        def get_train_dataloader(self) -> Any:
            return DataLoader(Endless(rows), batch_size=8, collate_fn=padded)

    args = arguments(max_steps=6, train_sampling_strategy="sequential")
    wanted = losses(Trainer(make(), args, train_dataset=rows))
    assert losses(Streaming(make(), args)) == pytest.approx(wanted, abs=1e-5)
    base = Loading(make(), args, train_dataset=Endless(rows))
    assert losses(base) == pytest.approx(wanted, abs=1e-5)
    with pytest.raises(UsageError, match="max_steps is -1, and the train dataloader has no length"):
        Streaming(make(), arguments()).train()


@pytest.mark.parametrize(
    ("loader", "error", "words"),
    [
        (None, UsageError, "get_train_dataloader gave a NoneType"),
        ({"input_ids": 1}, UsageError, "get_train_dataloader gave a dict"),
        ([], UsageError, "the train dataloader has no batches"),
        ([1], DataError, "a batch is a int"),
        ([{"input_ids": torch.ones(2, 3).long(), "stars": 1}], UsageError, "stars"),
    ],
)
def test_what_is_no_loader_is_told(make: Any, loader: Any, error: Any, words: str) -> None:
    class Own(Trainer):
        def get_train_dataloader(self) -> Any:
            return loader

    with pytest.raises(error, match=words):
        Own(make(), arguments()).train()


def test_an_evaluation_loader_needs_no_rows(make: Any, rows: Rows) -> None:
    class Own(Trainer):
        def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
            return [padded(rows[:5]), padded(rows[5:7])]

    seen: list[Any] = []

    def metrics(found: Any) -> dict[str, float]:
        seen.append(found)
        return {"rows": len(found.label_ids)}

    args = arguments(eval_strategy="epoch")
    trainer = Own(make(), args, train_dataset=rows, compute_metrics=metrics)
    trainer.train()
    found = untimed(trainer.evaluate())
    wanted = Trainer(trainer.model, args, eval_dataset=rows[:7]).evaluate()["eval_loss"]
    assert found == {"eval_loss": pytest.approx(wanted, abs=1e-5), "eval_rows": 7}
    assert trainer.history.evaluations[-1][1] == found
    assert seen[-1].predictions.shape == (7, 3)


def test_a_loss_gets_what_a_collator_of_the_user_made(make: Any, rows: Rows) -> None:
    """Weights of the rows, for instance, which the model itself would not take."""
    seen: list[int] = []

    class Weighted(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any
        ) -> Any:  # type: ignore[override]
            weights, labels = inputs.pop("weights"), inputs.pop("labels")
            outputs = model(**inputs)
            seen.append(len(weights))
            loss = (F.cross_entropy(outputs.logits, labels, reduction="none") * weights).mean()
            return (loss, outputs) if return_outputs else loss

    def collate(part: Rows) -> Any:
        return {**padded(part), "weights": torch.full((len(part),), 2.0)}

    args = arguments(**UNEVEN)
    trainer = Weighted(make(), args, collate, train_dataset=rows, eval_dataset=rows)
    usual = Trainer(make(), args, train_dataset=rows, eval_dataset=rows)
    first = [trainer.evaluate()["eval_loss"], usual.evaluate()["eval_loss"]]
    assert first[0] == pytest.approx(2 * first[1], abs=1e-5)
    assert trainer.train().training_loss > 1.5 * usual.train().training_loss
    assert sum(seen) > 26


def test_a_new_head_learns_by_a_loss_that_it_does_not_see(
    tiny_config: Any, rows: Rows, tmp_path: Path
) -> None:
    class Own(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any
        ) -> Any:  # type: ignore[override]
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = F.cross_entropy(outputs.logits, labels)
            return (loss, outputs) if return_outputs else loss

    BertModel(tiny_config()).save_pretrained(tmp_path)
    for kind in (Own, ByHand, type("Both", (Stepping, Own), {})):
        model = BertForSequenceClassification.from_pretrained(tmp_path, num_labels=3, verbose=False)
        trainer = kind(model, arguments(max_steps=1), train_dataset=rows, eval_dataset=rows)
        with pytest.raises(CheckpointError, match="never been trained for evaluation"):
            trainer.evaluate()
        trainer.train()
        assert trainer.evaluate()["eval_loss"] > 0


def test_padded_batches_keep_the_positions_of_every_family(rows: Rows) -> None:
    """A family whose positions begin behind the padding counts them by itself."""
    config = RobertaConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=60, num_labels=3, **STILL,
    )  # fmt: skip
    from bertolt import AutoModelForSequenceClassification

    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification(config).eval()
    rows = [{**row, "input_ids": [i + 2 for i in row["input_ids"] if i < 95] + [5]} for row in rows]
    batch = PackingCollator(pad_token_id=1)(rows)
    with torch.no_grad():
        wanted = model(batch).logits
        torch.testing.assert_close(model(**batch.padded(pad_token_id=1)).logits, wanted)
    usual = Trainer(model, arguments(), eval_dataset=rows).evaluate()["eval_loss"]
    by_steps = Stepping(model, arguments(), eval_dataset=rows).evaluate()["eval_loss"]
    assert by_steps == pytest.approx(usual, abs=1e-5)
    moved = [{**row, "position_ids": [3] * len(row["input_ids"])} for row in rows]
    batch = PackingCollator(pad_token_id=1)(moved)
    inputs = batch.padded(pad_token_id=1, position_offset=2)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, model(batch).logits)


# ---- modules of one's own ----


class Own(nn.Module):
    """As in the notes: an encoder inside, a layer behind it, and a loss where there are labels."""

    def __init__(self, encoder: BertModel, kind: str = "mapping") -> None:
        super().__init__()
        self.encoder, self.kind = encoder, kind
        self.norm = nn.BatchNorm1d(encoder.config.hidden_size)
        self.answer = nn.Linear(encoder.config.hidden_size, 3)

    def forward(self, input_ids: Any, attention_mask: Any = None, labels: Any = None) -> Any:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        logits = self.answer(self.norm(hidden.last_hidden_state[:, 0]))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        if self.kind == "tuple":
            return (logits,) if loss is None else (loss, logits)
        if self.kind == "output":
            return transformers.modeling_outputs.SequenceClassifierOutput(loss=loss, logits=logits)
        return {"logits": logits} if loss is None else {"loss": loss, "logits": logits}


def own(make: Any, kind: str = "mapping", **changes: Any) -> Any:
    encoder = make(BertModel, **changes)
    torch.manual_seed(1)
    return Own(encoder, kind)


@pytest.mark.parametrize("kind", ["mapping", "tuple", "output"])
def test_a_module_of_ones_own_trains_as_by_the_peer(
    make: Any, rows: Rows, tmp_path: Path, kind: str
) -> None:
    same: dict[str, Any] = {
        "per_device_train_batch_size": 8, "per_device_eval_batch_size": 8, "learning_rate": 1e-3,
        "train_sampling_strategy": "sequential", "logging_steps": 1, "max_steps": 3,
        "disable_tqdm": True, "use_cpu": True, "save_strategy": "no",
    }  # fmt: skip
    counts: list[Any] = []

    def metrics(found: Any) -> dict[str, float]:
        counts.append(found)
        return {"right": float((found.predictions.argmax(-1) == found.label_ids).mean())}

    results = []
    for library in ("ours", "theirs"):
        args: Any = (
            arguments(weight_decay=0.0, **same)
            if library == "ours"
            else transformers.TrainingArguments(str(tmp_path), report_to="none", **same)
        )
        trainer: Any = (Trainer if library == "ours" else transformers.Trainer)(
            own(make, kind), args, lambda part: {n: v for n, v in padded(part).items()
                                                 if n != "token_type_ids"},
            train_dataset=rows, eval_dataset=rows, compute_metrics=metrics,
        )  # fmt: skip
        if library == "theirs":
            args.remove_unused_columns = False
        trainer.train()
        losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
        results.append((losses, trainer.evaluate(), trainer.predict(rows)))
    (mine, scores, found), (theirs, wanted, expected) = results
    assert mine == pytest.approx(theirs, abs=2e-4)
    for name in ("eval_loss", "eval_right"):
        assert scores[name] == pytest.approx(wanted[name], abs=2e-3)
    np.testing.assert_allclose(found.predictions, expected.predictions, atol=2e-3)
    np.testing.assert_array_equal(found.label_ids, expected.label_ids)


@pytest.mark.parametrize("killed_at", [3, 5])
def test_a_module_of_ones_own_is_saved_and_goes_on(
    make: Any, rows: Rows, tmp_path: Path, killed_at: int, capsys: Any
) -> None:
    """With dropout, and buffers that training changes."""

    def run(folder: str, **options: Any) -> Trainer:
        args = arguments(
            output_dir=str(tmp_path / folder), save_strategy="steps", save_steps=2,
            eval_strategy="steps", eval_steps=2, load_best_model_at_end=True, save_total_limit=2,
            gradient_checkpointing=True,
        )  # fmt: skip
        model = own(make, hidden_dropout_prob=0.1)
        return Trainer(model, args, train_dataset=rows, eval_dataset=rows, **options)

    whole = run("a")
    wanted = losses(whole)
    with pytest.raises(Killed):
        run("b", callbacks=[At(killed_at)]).train()
    again = run("b")
    again.train(resume_from_checkpoint=True)
    assert [log.loss for log in again.history.steps] == wanted
    assert again.history.evaluations == whole.history.evaluations
    found = again.model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, found[name]), name
    again.save_model(tmp_path / "model")
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert saved.keys() == found.keys()
    assert all(torch.equal(saved[name], found[name]) for name in saved)
    other = Trainer(_Wider(make), again.args, None, rows, rows)
    with pytest.raises(CheckpointError, match=r"the tensor .* in the"):
        other.train(resume_from_checkpoint=True)


class _Wider(Own):
    def __init__(self, make: Any) -> None:
        super().__init__(make(BertModel))
        self.more = nn.Linear(2, 2)


def test_steps_of_a_module_of_ones_own_are_exact_over_batches_that_differ(
    make: Any, rows: Rows
) -> None:
    class Still(Own):
        def __init__(self) -> None:
            super().__init__(make(BertModel))
            torch.manual_seed(1)
            self.norm, self.answer = nn.Identity(), nn.Linear(32, 3)  # type: ignore[assignment]

    whole = arguments(per_device_train_batch_size=15, max_steps=4)
    found = losses(Trainer(Still(), arguments(max_steps=4, **UNEVEN), train_dataset=rows))
    assert found == pytest.approx(losses(Trainer(Still(), whole, train_dataset=rows)), abs=1e-5)


def test_an_encoder_learns_by_a_loss_of_the_trainers(make: Any, rows: Rows) -> None:
    """Pairs of the same row, as in contrastive learning: no labels, and no head."""

    class Contrastive(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any
        ) -> Any:  # type: ignore[override]
            first, second = (model(**inputs).last_hidden_state[:, 0] for _ in range(2))
            scores = F.cosine_similarity(first[:, None], second[None], dim=-1) / 0.05
            loss = F.cross_entropy(scores, torch.arange(len(scores)))
            return (loss, {"vectors": first}) if return_outputs else loss

    bare = [{"input_ids": row["input_ids"]} for row in rows]
    model = make(BertModel, hidden_dropout_prob=0.1)
    trainer = Contrastive(model, arguments(num_train_epochs=4), train_dataset=bare)
    found = losses(trainer)
    assert found[-1] < found[0]
    tokens, pooled = trainer.predict(bare).predictions
    assert (tokens.shape, pooled.shape) == ((26, 28, 32), (26, 32))


def test_rows_without_tokens_and_labels_of_other_names(make: Any) -> None:
    class Numbers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, values: Any, wanted: Any = None) -> Any:
            found = self.layer(values).squeeze(-1)
            return {"loss": None if wanted is None else F.mse_loss(found, wanted), "found": found}

    torch.manual_seed(0)
    rows = [{"values": [n / 9, 1.0], "wanted": n / 9, "note": "a text"} for n in range(9)]
    args = arguments(label_names=["wanted"], learning_rate=0.1, num_train_epochs=30)
    trainer = Trainer(Numbers(), args, train_dataset=rows, eval_dataset=rows)
    found = losses(trainer)
    assert found[-1] < 0.1 * found[0]
    output = trainer.predict(rows)
    assert (output.predictions.shape, output.label_ids.shape) == ((9,), (9,))
    assert output.metrics["test_loss"] == pytest.approx(
        float(((output.predictions - output.label_ids) ** 2).mean()), abs=1e-6
    )


def test_what_a_module_of_ones_own_cannot_do_is_told(make: Any, rows: Rows) -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Embedding(97, 3)

        def forward(self, input_ids: Any) -> Any:
            return {"logits": self.layer(input_ids).mean(1)}

    with pytest.raises(UsageError, match="forward gave a dict without a loss"):
        Trainer(Bare(), arguments(), train_dataset=rows).train()
    with pytest.raises(UsageError, match="gradient_checkpointing, and a Bare cannot do it"):
        Trainer(Bare(), arguments(gradient_checkpointing=True), train_dataset=rows).train()
    with pytest.raises(UsageError, match="fsdp splits models of Bertolt's, and a Bare is your own"):
        Trainer(Bare(), arguments(fsdp=True))
    wrong = type("Wrong", (Bare,), {"forward": lambda self, input_ids: torch.zeros(2)})
    bare = [{"input_ids": row["input_ids"]} for row in rows]
    with pytest.raises(UsageError, match=r"outputs of the shape \(2,\) for 8 rows"):
        Trainer(wrong(), arguments()).predict(bare)


def test_batches_are_padded_for_a_module_as_the_tokenizer_pads(
    make: Any, rows: Rows, tiny_tokenizer: Any
) -> None:
    tagged = [{**row, "label": [1] * len(row["input_ids"]), "idx": 7} for row in rows[:3]]

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Embedding(97, 3)

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
            logits = self.layer(input_ids)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
            return loss, logits

    trainer = Trainer(Tagger(), arguments(), train_dataset=tagged)
    (batch,) = trainer.get_test_dataloader(tagged)
    assert batch.keys() == {"input_ids", "attention_mask", "labels"}
    assert ((batch["labels"] == -100) == (batch["attention_mask"] == 0)).all()
    trainer.train()
    output = trainer.predict(tagged)
    assert output.predictions.shape[:2] == output.label_ids.shape
    noted = [{**row, "note": "a text"} for row in rows]
    by_tokenizer = Trainer(
        own(make), arguments(), DataCollatorWithPadding(tiny_tokenizer), train_dataset=noted
    )
    assert losses(by_tokenizer) == losses(Trainer(own(make), arguments(), train_dataset=noted))
    by_tokenizer.args.remove_unused_columns = False
    with pytest.raises(DataError, match="note"):
        by_tokenizer.train()


def test_the_collator_that_is_left_out_is_there_for_a_loader(make: Any, rows: Rows) -> None:
    class Sequential(Trainer):
        def get_train_dataloader(self) -> Any:
            return DataLoader(self.train_dataset, 8, collate_fn=self.data_collator)  # type: ignore[arg-type]

    args = arguments(train_sampling_strategy="sequential")
    found = losses(Sequential(make(), args, train_dataset=rows))
    assert found == pytest.approx(losses(Trainer(make(), args, train_dataset=rows)), abs=1e-5)
