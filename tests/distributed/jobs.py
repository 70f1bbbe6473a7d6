"""What several processes do together in the tests; one process does the same for comparison.

Run by torchrun: `jobs.py OUT NAME…` calls the functions of these names, and each process writes
what they return into `OUT/NAME.RANK.safetensors`.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from bertolt import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForPreTraining,
    BertForSequenceClassification,
    BertModel,
    InBatchNegatives,
    PackingCollator,
    SentenceEncoder,
    Trainer,
    TrainingArguments,
)
from bertolt.base.console import Stopped, stoppable
from bertolt.base.distributed import join
from bertolt.data.batch import IGNORE_INDEX, PackedBatch
from bertolt.data.documents import SampledWindows
from bertolt.data.encode import EncodedExample, EncodedTexts, Window, encode_examples
from bertolt.data.long import LongTexts
from bertolt.data.parted import long_texts
from bertolt.models.precision import FP32
from bertolt.tasks.evaluation import TaskRows, evaluate
from bertolt.tasks.sentence_similarity import SentenceSimilarity
from bertolt.tasks.text_classification import TextClassification
from tests.callbacks import At, Killed, kill
from tests.tasks.test_evaluation import rows_of
from tests.train.small import untimed

Found = dict[str, Tensor]
BATCH = 32  # 2 × 16, and three shares of 11, 11 and 10
ROWS = 65  # two batches, and a single row that leaves the other processes without any
STEPS = 5


def config() -> BertConfig:
    return BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=0.2,
    )  # fmt: skip


def rows(count: int = ROWS, *, tokens: bool = False) -> list[dict[str, Any]]:
    """Texts of different lengths; every fifth has no label, so that shares differ in labels too."""
    draw = np.random.default_rng(1)
    made = []
    for number in range(count):
        ids = draw.integers(1, 60, size=3 + int(draw.integers(58)))
        label: Any = int(ids.sum() % 2) if number % 5 else IGNORE_INDEX
        if tokens:
            label = np.where(draw.random(len(ids)) < 0.2, ids, IGNORE_INDEX)
            label[0] = ids[0] if number % 5 else IGNORE_INDEX
        made.append({"input_ids": ids.tolist(), "labels": label})
    return made


def arguments(**changes: Any) -> TrainingArguments:
    values: dict[str, Any] = {
        "max_steps": STEPS,
        "learning_rate": 1e-2,
        # The bias of the keys has no gradient but rounding, which Adam would make a whole step of.
        "adam_epsilon": 1e-3,
        "max_grad_norm": 0.5,
        "precision": "fp32",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return TrainingArguments(**(values | changes))


def trained(trainer: Trainer, batch: int = BATCH) -> Found:
    """Weights and the log of every step, made of so many rows on all processes."""
    trainer.global_batch_size = batch
    trainer.train()
    steps = trainer.history.steps
    names = ("loss", "grad_norm", "sequences", "tokens", "rows")
    log = {name: torch.tensor([float(getattr(s, name)) for s in steps]) for name in names}
    whole = trainer.world.full_model(trainer.model)
    if not trainer.world.first:
        return {name: log[name] for name in ("loss", "grad_norm", "sequences", "tokens")}
    del log["rows"]  # filler is rounded up on each process
    return log | {f"weight.{n}": p.detach().clone() for n, p in whole.named_parameters()}


def model(kind: Callable[[BertConfig], Any]) -> Any:
    torch.manual_seed(join().rank)  # the first one's weights are everybody's
    return kind(config())


def classify(batch: int = BATCH, **changes: Any) -> Found:
    kind = BertForSequenceClassification
    return trained(Trainer(model(kind), arguments(**changes), train_dataset=rows()), batch)


def choices() -> Found:
    """Examples of two to four sequences, each in one process as a whole."""
    return trained(Trainer(model(BertForMultipleChoice), arguments(), train_dataset=questions()))


def windowed(count: int = ROWS) -> EncodedTexts:
    """Texts in one to nine windows."""
    data = rows(count)
    ids = [[1, *(data[number]["input_ids"] * (1 + number % 5)), 2] for number in range(count)]

    def encode(chunk: list[Any]) -> list[EncodedExample]:
        return list(long_texts(chunk, 12, LongTexts(how="window", stride=2)))

    labels = np.array([number % 2 for number in range(count)])
    encoded = encode_examples(encode, ids, 12)
    return replace(encoded, labels=labels, joint=True, documents=True)


def documents(**changes: Any) -> Found:
    """An epoch reads some windows of a text, in portions of which processes have as many."""
    data: Any = SampledWindows(windowed(), 3, seed=0)
    torch.manual_seed(0)
    same = BertForSequenceClassification(config())
    return trained(Trainer(same, arguments(**changes), train_dataset=data))


def documents_split() -> Found:
    return documents(fsdp=True)


def questions() -> list[dict[str, Any]]:
    """Rows with choices: two, three or four texts, of which one is right."""
    texts, made = iter([row["input_ids"] for row in rows(3 * ROWS)]), []
    for number in range(ROWS):
        count = 2 + number % 3
        made.append(
            {"input_ids": list(itertools.islice(texts, count)), "label": number // 3 % count}
        )
    return made


def competing(micro: int | None = 5, **changes: Any) -> Found:
    """Pairs of texts that compete with those of all processes, some of them in parts."""
    torch.manual_seed(0)
    encoder = SentenceEncoder(config())
    encoder.criterion, encoder.micro_batch = InBatchNegatives(), micro
    texts = [row["input_ids"] for row in rows(2 * ROWS)]
    made = [
        {"input_ids": texts[number : number + 2], "labels": [number, number + 1]}
        for number in range(0, len(texts), 2)
    ]
    return trained(Trainer(encoder, arguments(**changes), train_dataset=made))


def competing_at_once() -> Found:
    return competing(None)


def competing_documents() -> Found:
    """Pairs of texts in several windows, of which each process computes some at a time."""
    parts = windowed(2 * ROWS)
    texts = [[Window(ids) for ids in parts[number]["input_ids"]] for number in range(len(parts))]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))

    def encode(chunk: list[Any]) -> list[EncodedExample]:
        return [EncodedExample([*a, *b], 9, (0, 0), (len(a), len(b))) for a, b in chunk]

    labels = np.arange(2 * ROWS).reshape(ROWS, 2)
    encoded = replace(encode_examples(encode, pairs, 12), labels=labels, joint=True, documents=True)
    data: Any = SampledWindows(encoded, 3, seed=0, whole=True)
    torch.manual_seed(0)
    encoder = SentenceEncoder(config())
    encoder.criterion = InBatchNegatives()
    return trained(Trainer(encoder, arguments(), train_dataset=data))


def competing_split() -> Found:
    return competing(fsdp=True)


def classify_accumulated() -> Found:
    return classify(BATCH // 2, gradient_accumulation_steps=2)


def classify_split() -> Found:
    torch.manual_seed(0)
    same = BertForSequenceClassification(config())
    return trained(Trainer(same, arguments(fsdp=True), train_dataset=rows()))


def classify_split_recomputed() -> Found:
    torch.manual_seed(0)
    same = BertForSequenceClassification(config())
    args = arguments(fsdp=True, gradient_checkpointing=True, gradient_accumulation_steps=2)
    return trained(Trainer(same, args, train_dataset=rows()), BATCH // 2)


def masked_words() -> Found:
    data = rows(tokens=True)
    return trained(Trainer(model(BertForMaskedLM), arguments(), train_dataset=data))


def masked_words_split() -> Found:
    torch.manual_seed(0)
    same = BertForMaskedLM(config())
    return trained(Trainer(same, arguments(fsdp=True), train_dataset=rows(tokens=True)))


def both_objectives() -> Found:
    """Two losses, each divided by the labels of its own."""

    def collate(part: list[dict[str, Any]]) -> PackedBatch:
        return PackedBatch.from_sequences(
            [row["input_ids"] for row in part],
            token_labels=[row["labels"] for row in part],
            next_sentence_label=torch.tensor([len(row["input_ids"]) % 2 for row in part]),
        )

    data = rows(tokens=True)
    return trained(Trainer(model(BertForPreTraining), arguments(), collate, data))


def an_unused_head() -> Found:
    """Only one of the two objectives: the other's head and the pooler get no gradient."""
    return trained(
        Trainer(
            model(BertForPreTraining),
            arguments(weight_decay=0.1),
            PackingCollator(token_labels=True),
            rows(tokens=True),
        )
    )


def a_stream() -> Found:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(rows())

    return trained(
        Trainer(model(BertForSequenceClassification), arguments(), train_dataset=Stream())
    )


def weighted(outputs: Any, labels: Tensor) -> Tensor:
    """Another loss than the head's: a mean over the labels of the batch, as the notes write it."""
    return functional.cross_entropy(outputs.logits, labels, label_smoothing=0.1)


class OwnLoss(Trainer):
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = weighted(outputs, labels)
        return (loss, outputs) if return_outputs else loss


class OwnForward(BertForSequenceClassification):
    def forward(self, input_ids: Any = None, labels: Any = None, **others: Any) -> Any:
        outputs = super().forward(input_ids, **others)
        loss = None if labels is None else weighted(outputs, labels)
        return {"loss": loss, "logits": outputs.logits}


def an_own_loss() -> Found:
    same, args = model(BertForSequenceClassification), arguments(gradient_accumulation_steps=2)
    return trained(OwnLoss(same, args, train_dataset=rows()), BATCH // 2)


def an_own_forward() -> Found:
    args = arguments(gradient_accumulation_steps=2)
    return trained(Trainer(model(OwnForward), args, train_dataset=rows()), BATCH // 2)


def split_arguments() -> TrainingArguments:
    return arguments(fsdp=True, gradient_accumulation_steps=2)


def an_own_loss_split() -> Found:
    torch.manual_seed(0)
    same = BertForSequenceClassification(config())
    return trained(OwnLoss(same, split_arguments(), train_dataset=rows()), BATCH // 2)


def an_own_forward_split() -> Found:
    torch.manual_seed(0)
    same = OwnForward(config())
    return trained(Trainer(same, split_arguments(), train_dataset=rows()), BATCH // 2)


class OwnModule(nn.Module):
    """A module that is no model of Bertolt's, with one inside."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.encoder, self.answer = BertModel(config), nn.Linear(config.hidden_size, 2)

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        logits = self.answer(hidden.last_hidden_state[:, 0])
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


class OwnLoader(Trainer):
    """Batches of a loader of its own, from which each process takes its share."""

    def get_train_dataloader(self) -> Any:
        size, some = self.args.per_device_train_batch_size, rows()
        return DataLoader(
            some, size, shuffle=True, collate_fn=lambda p: PackingCollator()(p).padded()
        )


def shared_arguments(**changes: Any) -> TrainingArguments:
    """Batches of 12 rows over all processes, and two of them in a step."""
    each = 12 // join().size
    return arguments(per_device_train_batch_size=each, gradient_accumulation_steps=2, **changes)


def an_own_module() -> Found:
    return trained(Trainer(model(OwnModule), shared_arguments(), train_dataset=rows()))


def an_own_loader() -> Found:
    same = model(BertForSequenceClassification)
    return trained(OwnLoader(same, shared_arguments(), train_dataset=rows()))


def evaluation_of_an_own_module(count: int = ROWS) -> Found:
    torch.manual_seed(0)
    args = arguments(per_device_eval_batch_size=12 // join().size)
    answers = Trainer(OwnModule(config()), args).predict(rows(count))
    assert answers.label_ids is not None
    return {
        "logits": torch.from_numpy(answers.predictions),
        "labels": torch.from_numpy(answers.label_ids),
        "loss": torch.tensor(answers.metrics["test_loss"]),
    }


def evaluation_of_an_own_module_of_few() -> Found:
    return evaluation_of_an_own_module(2)


def a_made_model() -> Found:
    """The same on every process, though their random states differ while they train."""
    kind = BertForSequenceClassification
    return trained(
        Trainer(None, arguments(), train_dataset=rows(), model_init=lambda: kind(config()))
    )


def evaluation(count: int = ROWS, *, fsdp: bool = False) -> Found:
    """Loss, logits in the order of the rows, and scores, on every process."""
    torch.manual_seed(0)
    args = arguments(per_device_eval_batch_size=1, fsdp=fsdp)
    data = rows(count)

    def compute(found: Any) -> dict[str, float]:
        kept = found.label_ids != IGNORE_INDEX
        guessed = found.predictions.argmax(-1)
        return {"accuracy": float((guessed == found.label_ids)[kept].mean()), "rows": len(kept)}

    trainer = Trainer(
        BertForSequenceClassification(config()), args, eval_dataset=data, compute_metrics=compute
    )
    metrics = untimed(trainer.evaluate())
    answers = trainer.predict(data)
    encoded = encode(data)
    assert encoded.labels is not None
    scores = evaluate(
        trainer.model,
        TextClassification(("LABEL_0", "LABEL_1"), "LABEL_0"),
        rows_of(encoded, [f"LABEL_{label}" for label in encoded.labels]),
        precision=trainer.precision,
        world=trainer.world,
    )
    return {
        "metrics": torch.tensor([metrics[name] for name in sorted(metrics)]),
        "logits": torch.from_numpy(answers.predictions),
        "labels": torch.from_numpy(answers.label_ids),
        "confusion": torch.from_numpy(scores.scorer.confusion.counts),
        "loss": torch.tensor(scores.loss),
        "mistakes": torch.tensor([wrong.row for wrong in scores.mistakes]),
    }


def encode(data: list[dict[str, Any]]) -> EncodedTexts:
    ids = [np.array(row["input_ids"], dtype=np.int32) for row in data]
    lengths = np.array([len(each) for each in ids])
    return EncodedTexts(
        ids=np.concatenate(ids),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        full_lengths=lengths,
        labels=np.array([abs(row["labels"]) % 2 for row in data]),
        max_length=64,
    )


def evaluation_of_documents() -> Found:
    """Windows of one text go to several processes."""
    torch.manual_seed(0)
    encoded = windowed()
    assert encoded.labels is not None
    scores = evaluate(
        BertForSequenceClassification(config()),
        TextClassification(("0", "1"), "0"),
        rows_of(encoded, [str(label) for label in encoded.labels]),
        precision=FP32,
        world=join(),
    )
    return {
        "confusion": torch.from_numpy(scores.scorer.confusion.counts),
        "loss": torch.tensor(scores.loss),
        "mistakes": torch.tensor([wrong.row for wrong in scores.mistakes]),
    }


def evaluation_of_pairs() -> Found:
    """Ranks among the texts of all processes, and what is kept of each first text."""
    torch.manual_seed(0)
    texts = [row["input_ids"] for row in rows(2 * ROWS)]
    # Every third first text stands beside two second ones.
    first = [number - number % 3 // 2 for number in range(ROWS)]
    pairs = [(texts[one], texts[ROWS + number]) for number, one in enumerate(first)]

    def encode(chunk: list[Any]) -> list[EncodedExample]:
        return [EncodedExample([Window(np.array(ids)) for ids in pair], 9) for pair in chunk]

    encoded = encode_examples(encode, pairs, 64)
    labels = np.array([[one, ROWS + number] for number, one in enumerate(first)])
    encoder = SentenceEncoder(config())
    encoder.criterion = InBatchNegatives()
    table = rows_of(encoded, [""] * ROWS).table
    second = [f"answer {number}" for number in range(ROWS)]
    data = table.data.drop_columns(["label"]).set_column(1, "text", [[f"asked {n}" for n in first]])
    roles = {"text": ["text"], "text_pair": ["text_pair"]}
    table = replace(table, data=data.append_column("text_pair", [second]), roles=roles)
    scores = evaluate(
        encoder,
        SentenceSimilarity(),
        TaskRows(
            table=table, index=np.arange(ROWS), encoded=replace(encoded, labels=labels, joint=True)
        ),
        precision=FP32,
        world=join(),
        keep_answers=True,
    )
    assert scores.answers is not None
    kept = scores.answers.rows
    return {
        "digests": torch.tensor([int(digit, 16) for row in kept for digit in row.digest]),
        "rows": torch.tensor([row.row for row in kept]),
        "sums": torch.tensor([row.sums for row in kept]),
        "mrr": torch.tensor(scores.scorer.values()["mrr"]),
        "ranks": torch.tensor([int(row.said.removeprefix("rank ")) for row in kept]),
    }


def evaluation_of_few() -> Found:
    return evaluation(2)


def evaluation_split() -> Found:
    return evaluation(fsdp=True)


def evaluation_of_choices() -> Found:
    torch.manual_seed(0)
    answers = Trainer(BertForMultipleChoice(config()), arguments()).predict(questions())
    return {
        "logits": torch.from_numpy(answers.predictions),
        "loss": torch.tensor(answers.metrics["test_loss"]),
    }


def evaluation_of_tokens() -> Found:
    """Logits of labelled tokens alone, which differ in number from row to row."""
    torch.manual_seed(0)
    trainer = Trainer(BertForMaskedLM(config()), arguments(per_device_eval_batch_size=1))
    answers = trainer.predict(rows(tokens=True))
    assert answers.label_ids is not None
    return {
        "logits": torch.from_numpy(answers.predictions),
        "labels": torch.from_numpy(answers.label_ids),
        "loss": torch.tensor(answers.metrics["test_loss"]),
    }


def evaluation_of_best_tokens() -> Found:
    """Labels that a function makes of the logits on each process, before they are gathered."""
    torch.manual_seed(0)
    data = rows(tokens=True)
    args = arguments(per_device_eval_batch_size=1)

    def best(logits: Tensor, labels: Tensor | None) -> Tensor:
        return logits.argmax(dim=-1)

    same = BertForMaskedLM(config())
    answers = Trainer(same, args, preprocess_logits_for_metrics=best).predict(data)
    assert isinstance(answers.predictions, np.ndarray)
    return {
        "best": torch.from_numpy(answers.predictions),
        "labels": torch.from_numpy(answers.label_ids),
    }


def exchange() -> Found:
    """What processes tell each other."""
    world = join()
    rank, size = world.rank, world.size
    assert world.sum([rank, 1.0]) == [sum(range(size)), size]
    assert world.any_true(rank == size - 1)
    assert not world.any_true(False)
    assert world.from_first(rank == 0)
    assert not world.from_first(rank != 0)
    assert world.pending_signal(None) is None
    assert world.pending_signal(signal.SIGTERM if rank == size - 1 else None) == signal.SIGTERM
    assert world.broadcast_text(f"of {rank}: 中文") == "of 0: 中文"
    assert world.broadcast_text("") == ""
    mine = torch.full((rank + 1, 2), rank) if rank else None
    found = world.gather(mine)
    assert [each.tolist() for each in found] == [
        [[other, other]] * (other + 1) for other in range(1, size)
    ]
    assert list(world.own_share(range(7))) == list(range(rank, 7, size))
    dealt = [item for item, own in world.deal_out(range(7)) if own]
    assert dealt == list(range(rank, 7, size))
    seen: list[int] = []
    last = rank == size - 1
    with stoppable(lambda: signal.SIGTERM if last and seen else None):
        with contextlib.suppress(Stopped):
            for item, _ in world.deal_out(range(2 * size + 1), may_stop=True):
                seen.append(item)
        assert seen == [rank], "all stop before the same round"
        assert [item for item, _ in world.deal_out(range(size))] == [rank]
    seeds = world.gather(torch.tensor([world.seed(3)]))
    assert len({int(seed) for seed in seeds}) == size
    assert int(seeds[0]) == 3
    world.wait()
    return {"size": torch.tensor(size)}


def saved(folder: Path, *, fsdp: bool) -> Found:
    """Three steps of five, with a checkpoint after the second."""
    stop_after(saving_trainer(folder, fsdp), 3)
    return {}


def resumed(folder: Path, *, fsdp: bool) -> Found:
    """The steps from the checkpoint on, by a new trainer; the weights that they end with."""
    trainer = saving_trainer(folder, fsdp)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-2"))
    whole = trainer.world.full_model(trainer.model)
    if not trainer.world.first:
        return {}
    return {f"weight.{name}": p.detach().clone() for name, p in whole.named_parameters()}


def saving_trainer(folder: Path, fsdp: bool) -> Trainer:
    torch.manual_seed(0)
    model = BertForSequenceClassification(config())
    args = arguments(output_dir=str(folder), fsdp=fsdp, save_strategy="steps", save_steps=2)
    trainer = Trainer(model, args, train_dataset=rows())
    trainer.global_batch_size = BATCH
    return trainer


def stop_after(trainer: Trainer, step: int) -> None:
    """Train, and end after a step, as a kill would."""

    stop: Any = At(step, kill)
    stop.every_process = True
    trainer.callbacks = [stop]
    with contextlib.suppress(Killed):
        trainer.train()


def save_whole() -> Found:
    return saved(out() / "whole", fsdp=False)


def save_split() -> Found:
    return saved(out() / "split", fsdp=True)


def resume_whole() -> Found:
    return resumed(out() / "whole", fsdp=False)


def resume_split() -> Found:
    return resumed(out() / "split", fsdp=True)


def resume_whole_as_split() -> Found:
    return resumed(out() / "whole", fsdp=True)


def resume_split_as_whole() -> Found:
    return resumed(out() / "split", fsdp=False)


def out() -> Path:
    return Path(sys.argv[1])


def main() -> None:
    for name in sys.argv[2:]:
        found = globals()[name]()
        tensors = {key: value.contiguous() for key, value in found.items()}
        save_file(tensors, out() / f"{name}.{join().rank}.safetensors")


if __name__ == "__main__":
    main()
