"""The measurements of `transformers` and `sentence-transformers`, each as its own pages advise.

Nothing of Bertolt's models is imported here: its limit on prepared kernels must not reach the peer.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import transformers

from benchmarks.job import (
    HYPER,
    LABELS,
    Found,
    Job,
    StepClock,
    batches_of,
    by_length,
    time_bulk,
    time_single,
)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
_MULTIPLE = 8  # that padded lengths are rounded up to, where a contestant rounds them


class _Ticking(transformers.TrainerCallback):  # type: ignore[misc]
    """A callback for the clock."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock

    def on_step_end(self, *_: object, **__: object) -> None:
        self._clock.tick()


class _Counting:
    """A collator that counts what it pads."""

    def __init__(self, collator: Any) -> None:
        self._collator = collator
        self.counts: list[tuple[int, int, int]] = []

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        batch = self._collator(features)
        mask = batch["attention_mask"]
        self.counts.append((len(features), int(mask.sum()), mask.numel()))
        return batch


def train(job: Job, started: float, seed: int, **how: Any) -> Found:
    """Steps of fine-tuning a classifier, or of masked language modelling."""
    clock = StepClock(job, started)
    trainer, counting = _trainer(
        job, seed, **how, max_steps=job.warmup + job.steps, callbacks=[_Ticking(clock)]
    )
    trainer.train()
    # The loader may be some batches ahead.
    counts = counting.counts[: job.warmup + job.steps]
    sequences, tokens, slots = (list(column) for column in zip(*counts, strict=True))
    return clock.found(sequences, tokens, slots)


def _trainer(
    job: Job,
    seed: int,
    *,
    bf16: bool = False,
    grouped: bool = False,
    tuned: bool = False,
    callbacks: list[Any],
    **settings: Any,
) -> tuple[Any, _Counting]:
    """The peer's Trainer with dynamic padding, and its counting collator.

    Args:
        job: what is measured.
        seed: of the head, the order and dropout.
        bf16: automatic mixed precision.
        grouped: batches of texts of similar length.
        tuned: what its pages do not advise for a CPU, and is tried for its sake: attention in plain
            products, and padded lengths rounded up so that kernels meet few shapes.
        callbacks: to watch the run.
        settings: more arguments of its TrainingArguments.
    """
    from datasets import Dataset

    tokenizer = _tokenizer(job)
    texts, labels = job.rows()
    encoded = tokenizer(texts, truncation=True)
    masked = job.kind == "mlm"
    data = Dataset.from_dict({**encoded} if masked else {**encoded, "labels": labels})
    counting = _Counting(_collator(tokenizer, masked, tuned))
    trainer = transformers.Trainer(
        model=_model(job, seed, masked, "eager" if tuned else "sdpa"),
        args=_arguments(job, seed, bf16=bf16, grouped=grouped, **settings),
        train_dataset=data,
        data_collator=counting,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    return trainer, counting


def _tokenizer(job: Job) -> Any:
    return transformers.AutoTokenizer.from_pretrained(job.model, model_max_length=job.max_length)


def _model(job: Job, seed: int, masked: bool, attention: str) -> Any:
    transformers.set_seed(seed)
    kind = transformers.BertForMaskedLM if masked else transformers.BertForSequenceClassification
    return kind.from_pretrained(job.model, attn_implementation=attention, dtype=torch.float32)


def _collator(tokenizer: Any, masked: bool, tuned: bool) -> Any:
    kind = (
        transformers.DataCollatorForLanguageModeling
        if masked
        else transformers.DataCollatorWithPadding
    )
    return kind(tokenizer, pad_to_multiple_of=_MULTIPLE if tuned else None)


def _arguments(
    job: Job, seed: int, *, bf16: bool = False, grouped: bool = False, **settings: Any
) -> Any:
    return transformers.TrainingArguments(
        output_dir=str(job.path("peer")),
        per_device_train_batch_size=job.batch_size,
        per_device_eval_batch_size=job.batch_size,
        bf16=bf16,
        train_sampling_strategy="group_by_length" if grouped else "random",
        seed=seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **HYPER,
        **settings,
    )


def command(job: Job, started: float, seed: int, *, tuned: bool = False, **how: Any) -> Found:
    """A program as people write it: read, tokenise, train, evaluate each epoch, save."""
    from datasets import load_dataset

    tokenizer = _tokenizer(job)
    files = {part: str(job.path(f"{part}.csv")) for part in ("train", "eval")}
    rows = load_dataset("csv", data_files=files).map(
        lambda batch: {
            **tokenizer(batch["text"], truncation=True),
            "labels": [LABELS.index(label) for label in batch["label"]],
        },
        batched=True,
        remove_columns=["text", "label"],
    )

    def accuracy(found: Any) -> dict[str, float]:
        return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}

    trainer = transformers.Trainer(
        model=_model(job, seed, False, "eager" if tuned else "sdpa"),
        args=_arguments(job, seed, **how, num_train_epochs=job.epochs, eval_strategy="epoch"),
        train_dataset=rows["train"],
        eval_dataset=rows["eval"],
        data_collator=_collator(tokenizer, False, tuned),
        processing_class=tokenizer,
        compute_metrics=accuracy,
    )
    trainer.train()
    trainer.save_model(str(job.path(f"peer-{seed}-{time.time_ns()}")))
    scores = [
        entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry
    ]
    return {"seconds": time.time() - started, "accuracy": scores[-1]}


def pipeline(
    job: Job, started: float, seed: int, *, bf16: bool = False, sort: bool = False
) -> Found:
    """The text-classification pipeline on many texts at once, or on one after the other."""
    classify = transformers.pipeline(
        "text-classification",
        model=str(job.model),
        tokenizer=_tokenizer(job),
        device="cpu",
        dtype=torch.bfloat16 if bf16 else torch.float32,
    )

    def answer(texts: list[str]) -> list[int]:
        order = by_length(texts) if sort else list(range(len(texts)))
        answers = classify(
            [texts[row] for row in order], batch_size=job.batch_size, truncation=True
        )
        found = {row: LABELS.index(a["label"]) for row, a in zip(order, answers, strict=True)}
        return [found[row] for row in range(len(texts))]

    if job.kind == "single":
        return time_single(
            job, started, lambda text: LABELS.index(classify(text, truncation=True)[0]["label"])
        )
    return time_bulk(
        job,
        started,
        answer,
        lambda texts, lengths: by_length(texts) if sort else list(range(len(texts))),
    )


def loop(job: Job, started: float, seed: int, *, bf16: bool = False) -> Found:
    """The model called by hand: texts sorted by their tokens, padded batches, one number format."""
    tokenizer = _tokenizer(job)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        job.model, dtype=torch.bfloat16 if bf16 else torch.float32
    ).eval()

    @torch.inference_mode()
    def answer(texts: list[str]) -> list[int]:
        ids = tokenizer(texts, truncation=True)["input_ids"]
        found = [0] * len(texts)
        for rows in batches_of(by_length(ids), job.batch_size):
            batch = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            labels = model(**batch).logits.argmax(-1).tolist()
            for row, label in zip(rows, labels, strict=True):
                found[row] = label
        return found

    return time_bulk(job, started, answer, lambda texts, lengths: _longest_first(lengths))


def _longest_first(lengths: list[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda row: -lengths[row])


def sentences(job: Job, started: float, seed: int, *, bf16: bool = False) -> Found:
    """sentence-transformers: its `encode`, the classifier's two layers as modules at its end."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(job.model)
    dtype = torch.bfloat16 if bf16 else torch.float32
    body = modules.Transformer(
        str(job.model), model_kwargs={"dtype": dtype}, max_seq_length=job.max_length
    )
    pooler, head = classifier.bert.pooler.dense, classifier.classifier
    dense = [
        modules.Dense(
            layer.in_features,
            layer.out_features,
            activation_function=activation,
            init_weight=layer.weight.data,
            init_bias=layer.bias.data,
        )
        for layer, activation in ((pooler, torch.nn.Tanh()), (head, torch.nn.Identity()))
    ]
    pooling = modules.Pooling(pooler.in_features, pooling_mode="cls")
    model = SentenceTransformer(modules=[body, pooling, *dense], device="cpu").to(dtype)

    def answer(texts: list[str]) -> list[int]:
        logits = model.encode(texts, batch_size=job.batch_size, show_progress_bar=False)
        labels: list[int] = logits.argmax(-1).tolist()
        return labels

    # It sorts by characters, the longest first.
    return time_bulk(job, started, answer, lambda texts, lengths: by_length(texts))
