"""Bertolt's measurements.

Each takes the job, `time.time()` when the process was started, the seed, and the contestant's own
settings.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import numpy as np

from benchmarks.job import HYPER, LABELS, Found, Job, StepClock, by_length, time_bulk, time_single
from bertolt import (
    AutoTokenizer,
    BertForMaskedLM,
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    Predictor,
    Trainer,
    TrainingArguments,
)
from bertolt.data.encode import encode_texts
from bertolt.train.loop import History
from bertolt.train.step import StepLog


class _Ticking:
    """A callback for the clock."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock

    def on_step(self, log: StepLog, total_steps: int) -> None:
        self._clock.tick()

    def on_evaluate(self, step: int, metrics: dict[str, float]) -> None: ...

    def on_end(self, history: History) -> None: ...


def train(
    job: Job, started: float, seed: int, *, precision: str = "auto", order: str = "random"
) -> Found:
    """Steps of fine-tuning a classifier, or of masked language modelling."""
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    texts, labels = job.rows()
    masked = job.kind == "mlm"
    rows = encode_texts(tokenizer, texts, job.max_length, None if masked else np.array(labels))
    kind: Any = BertForMaskedLM if masked else BertForSequenceClassification
    args = TrainingArguments(
        per_device_train_batch_size=job.batch_size,
        max_steps=job.warmup + job.steps,
        seed=seed,
        precision=precision,  # type: ignore[arg-type]
        train_sampling_strategy=order,  # type: ignore[arg-type]
        disable_tqdm=True,
        use_cpu=True,
        **HYPER,
    )
    clock = StepClock(job, started)
    trainer = Trainer(
        kind.from_pretrained(job.model, seed=seed, verbose=False),
        args,
        data_collator=DataCollatorForLanguageModeling(tokenizer) if masked else None,
        train_dataset=rows,
        callbacks=[_Ticking(clock)],
    )
    trainer.train()
    logs = trainer.history.steps
    return clock.found(
        [log.sequences for log in logs], [log.tokens for log in logs], [log.rows for log in logs]
    )


def pretrain(job: Job, started: float, seed: int) -> Found:
    """Steps of `bertolt pretrain`, from scratch."""
    from bertolt.pretrain.options import PretrainOptions
    from bertolt.pretrain.run import pretrain as run

    steps = job.warmup + job.steps
    clock = StepClock(job, started)
    options = PretrainOptions(
        config=str(job.model / "config.json"),
        steps=steps,
        eval_every=steps,
        save_every=steps,
        eval_tokens=1,
        seed=seed,
        precision="bf16",
        out=job.path(f"out-{seed}-{time.time_ns()}"),
    )
    logs = run(job.path("shards"), options, callbacks=[_Ticking(clock)]).history.steps
    return clock.found(
        [log.sequences for log in logs], [log.tokens for log in logs], [log.rows for log in logs]
    )


def predict(
    job: Job, started: float, seed: int, *, precision: str = "auto", sort: bool = False
) -> Found:
    """Many texts at once."""
    predictor = Predictor.from_pretrained(job.model, precision=precision)

    def answer(texts: list[str]) -> list[int]:
        order = by_length(texts) if sort else range(len(texts))
        answers = predictor.predict(texts[row] for row in order)
        found = {row: LABELS.index(a.label) for row, a in zip(order, answers, strict=True)}
        return [found[row] for row in range(len(texts))]

    return time_bulk(job, started, answer)


def single(job: Job, started: float, seed: int, *, precision: str = "auto") -> Found:
    """One text at a time."""
    predictor = Predictor.from_pretrained(job.model, precision=precision)
    return time_single(
        job, started, lambda text: LABELS.index(next(predictor.predict([text])).label)
    )


def command(job: Job, started: float, seed: int, *, order: str = "random") -> Found:
    """`bertolt finetune`, from the start of the process to the finished report."""
    from bertolt.cli import main

    out = job.path(f"out-{seed}-{time.time_ns()}")
    words = ["finetune", str(job.path("train.csv")), "--eval", str(job.path("eval.csv"))]
    options = {
        "model": job.model,
        "epochs": job.epochs,
        "batch-size": job.batch_size,
        "lr": HYPER["learning_rate"],
        "weight-decay": HYPER["weight_decay"],
        "warmup": HYPER["warmup_steps"],
        "order": order,
        "seed": seed,
        "out": out,
    }
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    with contextlib.suppress(SystemExit):  # how it always ends
        main(words)
    seconds = time.time() - started
    assert (out / "report.html").is_file(), "bertolt finetune did not get to its end"
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return {"seconds": seconds, "accuracy": metrics["eval"]["accuracy"]}
